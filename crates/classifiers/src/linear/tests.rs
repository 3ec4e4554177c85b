//! Expected weights: scikit-learn 1.9, whose `LinearSVC(dual=True)` and
//! `LogisticRegression(solver="liblinear")` are liblinear. A row of weights ends with the bias.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use formats::arrays::Csr;

use super::*;

const ROWS: usize = 30;

/// X[i, j] is 0 where i + j is a multiple of 3, and else (7i + 13j + 5ij) mod 11 / 10.
fn data(labels: impl Fn(usize) -> usize) -> Csr {
    let value = |i: usize, j: usize| ((i * 7 + j * 13 + i * j * 5) % 11) as f32 / 10.0;
    let row = |i: usize| {
        let all = (0..6).filter(|j| !(i + j).is_multiple_of(3)).map(|j| (j as u32, value(i, j)));
        all.filter(|entry| entry.1 != 0.0).collect()
    };
    let rows: Vec<Vec<(u32, f32)>> = (0..ROWS).map(row).collect();
    Csr::of(6, &rows, (0..ROWS).map(|i| labels(i) as u32).collect())
}

fn label(i: usize) -> usize {
    (i * i + i / 4) % 3
}

fn options() -> LinearOptions {
    LinearOptions {
        solver: Solver::Dual,
        gradient_tolerance: 1e-9,
        loss: Loss::SquaredHinge,
        c: 0.7,
        balanced: false,
        naive_bayes: 0.0,
        smoothing: 0.05,
        tolerance: 1e-6,
        epochs: 100_000,
        seed: 1,
    }
}

/// The weights of each class, then its bias.
fn weights(data: &Csr, classes: usize, options: &LinearOptions) -> Vec<Vec<f32>> {
    let trained = train(Rows::sparse(data), classes, None, options);
    let model = trained.weights.model(1.0, &[]);
    let mut bias = vec![0.0; classes];
    model.margins(&[], &[], &[], &mut bias);
    let of = |class: usize| (0..6).map(move |column| (column, class));
    (0..classes)
        .map(|class| {
            let columns = of(class).map(|(column, class)| model.weights(column)[class]);
            columns.chain([bias[class]]).collect()
        })
        .collect()
}

fn assert_close(got: &[Vec<f32>], want: &[[f32; 7]], by: f32) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() < by, "{got} is not {want}");
    }
}

#[test]
fn the_squared_hinge_s_weights_are_liblinear_s() {
    // LinearSVC(C=0.7, dual=True, tol=1e-10).fit(X, y)
    let want = [
        [-0.751_516, -0.378_821, 0.047_746, -0.186_806, -0.132_614, 0.743_469, -0.000_574],
        [0.649_356, 0.108_283, -0.214_514, -0.201_5, 0.015_346, 0.128_318, -0.604_547],
        [0.019_975, 0.156_189, 0.082_346, 0.239_567, 0.010_908, -0.975_703, -0.163_87],
    ];
    assert_close(&weights(&data(label), 3, &options()), &want, 2e-5);
    // … class_weight="balanced"
    let want = [
        [-0.718_398, -0.338_439, 0.038_629, -0.196_505, -0.126_121, 0.738_652, -0.081_959],
        [0.721_7, 0.151_899, -0.208_231, -0.193_569, 0.043_632, 0.159_644, -0.585_497],
        [0.019_975, 0.156_189, 0.082_346, 0.239_567, 0.010_908, -0.975_703, -0.163_87],
    ];
    let balanced = LinearOptions { balanced: true, ..options() };
    assert_close(&weights(&data(label), 3, &balanced), &want, 2e-5);
}

#[test]
fn the_logistic_loss_s_weights_are_liblinear_s() {
    // OneVsRestClassifier(LogisticRegression(solver="liblinear", dual=True, C=2.0, tol=1e-12))
    let want = [
        [-1.275_505, -0.692_247, 0.299_229, -0.504_89, -0.276_772, 1.274_746, -0.095_663],
        [0.895_627, 0.063_953, -0.472_157, -0.262_84, -0.128_613, 0.009_807, -0.978_543],
        [0.123_348, 0.242_87, -0.143_781, 0.325_385, 0.041_227, -1.720_083, -0.353_862],
    ];
    let logistic = LinearOptions { loss: Loss::Logistic, c: 2.0, tolerance: 1e-5, ..options() };
    assert_close(&weights(&data(label), 3, &logistic), &want, 5e-5);
}

#[test]
fn two_classes_are_mirror_images() {
    // LinearSVC(C=0.7, dual=True, tol=1e-10).fit(X, y == 2)
    let want = [0.019_975, 0.156_189, 0.082_346, 0.239_567, 0.010_908, -0.975_703, -0.163_87];
    let data = data(|i| usize::from(label(i) == 2));
    assert_close(&weights(&data, 2, &options()), &[want.map(|w| -w), want], 2e-5);
}

#[test]
fn n_grams_can_be_weighted_by_how_they_differ() {
    // numpy: p = (X > 0)[y == c].sum(0) + 0.05, q = (X > 0)[y != c].sum(0) + 0.05,
    // r = |ln(p / p.sum()) - ln(q / q.sum())|, s = 0.6 r + 0.4 r.mean();
    // m = LinearSVC(C=0.7, dual=True, tol=1e-10).fit(X * s, y == c); m.coef_ * s
    let want = [
        [-0.585_842, -0.092_673, 0.145_46, -0.103_641, -0.029_869, 0.535_877, -0.160_8],
        [0.123_981, 0.004_434, -0.055_922, 0.007_186, -0.000_754, -0.000_763, -0.482_185],
        [0.063_757, 0.023_402, -0.039_621, 0.071_788, 0.007_738, -0.641_383, -0.146_51],
    ];
    let weighted = LinearOptions { naive_bayes: 0.6, ..options() };
    assert_close(&weights(&data(label), 3, &weighted), &want, 2e-5);
}

#[test]
fn dense_features_are_like_sparse_ones() {
    let sparse = data(label);
    let empty = Csr::of(1, &vec![Vec::new(); ROWS], sparse.labels.clone());
    let mut values = vec![0.0; ROWS * 6];
    for row in 0..ROWS {
        let (columns, of) = sparse.row(row);
        columns.iter().zip(of).for_each(|(&j, &x)| values[row * 6 + j as usize] = x);
    }
    // Training sees them doubled and moved; the classifier takes them as they are.
    let center = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
    let moved: Vec<f32> =
        values.iter().zip(center.iter().cycle()).map(|(x, c)| 2.0 * (x - c)).collect();
    let dense = crate::Dense { values: &moved, dimension: 6 };
    let trained = train(Rows { sparse: &empty, dense }, 3, None, &options());
    let model = trained.weights.model(2.0, &center);
    let twin = train(Rows { sparse: &empty, dense }, 3, None, &options()).weights.model(1.0, &[]);
    let (mut margins, mut of_sparse) = ([0.0; 3], [0.0; 3]);
    let unmoved = crate::Dense { values: &values, dimension: 6 };
    let same = train(Rows { sparse: &empty, dense: unmoved }, 3, None, &options());
    let (same, by_sparse) =
        (same.weights.model(1.0, &[]), train(Rows::sparse(&sparse), 3, None, &options()));
    let by_sparse = by_sparse.weights.model(1.0, &[]);
    for row in 0..ROWS {
        same.margins(&[], &[], &values[row * 6..][..6], &mut margins);
        let (columns, of) = sparse.row(row);
        by_sparse.margins(columns, of, &[], &mut of_sparse);
        let close = margins.iter().zip(&of_sparse).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close, "{margins:?} {of_sparse:?}");
        model.margins(&[], &[], &values[row * 6..][..6], &mut margins);
        let moved = &moved[row * 6..][..6];
        // The sum over the moved features is the same.
        let mut want = [0.0; 3];
        twin.margins(&[], &[], moved, &mut want);
        assert!(
            margins.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5),
            "{margins:?} {want:?}"
        );
    }
}

#[test]
fn a_fold_s_machines_are_those_of_the_other_rows_alone() {
    let all = data(label);
    let folds: Vec<u32> = (0..ROWS).map(|i| (i % 4) as u32).collect();
    let options = LinearOptions { naive_bayes: 0.6, balanced: true, ..options() };
    let trained = train(Rows::sparse(&all), 3, Some(&folds), &options);
    for fold in 0..4 {
        let kept: Vec<usize> = (0..ROWS).filter(|i| folds[*i] != fold).collect();
        let row = |&i: &usize| {
            let (columns, values) = all.row(i);
            columns.iter().copied().zip(values.iter().copied()).collect()
        };
        let rows: Vec<Vec<(u32, f32)>> = kept.iter().map(row).collect();
        let others = Csr::of(6, &rows, kept.iter().map(|&i| all.labels[i]).collect());
        let model = train(Rows::sparse(&others), 3, None, &options).weights.model(1.0, &[]);
        for i in (0..ROWS).filter(|i| folds[*i] == fold) {
            let mut want = [0.0; 3];
            let (columns, values) = all.row(i);
            model.margins(columns, values, &[], &mut want);
            let got = &trained.held_out[i * 3..][..3];
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-5), "{got:?} {want:?}");
        }
    }
}

#[test]
fn a_machine_does_not_depend_on_those_beside_it() {
    // 3 machines are solved together, 21 in groups of 4, and 78 in groups of 16.
    let all = data(label);
    let alone = train(Rows::sparse(&all), 3, None, &options()).weights.model(1.0, &[]);
    for folds in [6_u32, 25] {
        let folds: Vec<u32> = (0..folds).cycle().take(ROWS).collect();
        let together = train(Rows::sparse(&all), 3, Some(&folds), &options());
        let together = together.weights.model(1.0, &[]);
        assert!((0..6).all(|column| alone.weights(column) == together.weights(column)));
        let [a, b] = [&alone, &together].map(|model| {
            let mut bias = [0.0; 3];
            model.margins(&[], &[], &[], &mut bias);
            bias
        });
        assert_eq!(a, b);
    }
}

#[test]
fn what_has_not_converged_says_so() {
    let few = LinearOptions { epochs: 2, ..options() };
    let trained = train(Rows::sparse(&data(label)), 3, None, &few);
    assert!(!trained.converged && trained.passes.len() == 2);
    let enough = train(Rows::sparse(&data(label)), 3, None, &options());
    assert!(enough.converged && enough.passes.iter().all(|pass| pass.running <= 3));
}

#[test]
fn a_model_comes_back_from_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.safetensors");
    let model = train(Rows::sparse(&data(label)), 3, None, &options()).weights.model(1.0, &[]);
    model.write(&path).expect("writes");
    let back = LinearModel::read(&path, 3).expect("reads");
    assert!((0..6).all(|column| back.weights(column) == model.weights(column)));
    assert_eq!((back.columns(), back.dimension(), back.parameters()), (6, 0, 21));
    assert!(LinearModel::read(&path, 4).is_err());
}

#[test]
fn newton_s_method_ends_at_the_weights_of_the_descent() {
    let mut all = Vec::new();
    for loss in [Loss::SquaredHinge, Loss::Logistic] {
        for balanced in [false, true] {
            let tolerance = if loss == Loss::Logistic { 1e-5 } else { 1e-6 };
            all.push(LinearOptions { loss, balanced, tolerance, naive_bayes: 0.6, ..options() });
        }
    }
    let folds: Vec<u32> = (0..ROWS).map(|i| (i % 3) as u32).collect();
    let sparse = data(label);
    let values: Vec<f32> = (0..ROWS * 2).map(|i| ((i * 7) % 5) as f32 / 5.0).collect();
    let rows = Rows { sparse: &sparse, dense: crate::Dense { values: &values, dimension: 2 } };
    for dual in all {
        let newton = LinearOptions { solver: Solver::Newton, ..dual };
        let [by_dual, by_newton] =
            [dual, newton].map(|options| train(rows, 3, Some(&folds), &options));
        assert!(by_newton.converged, "{newton:?}");
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close(&by_dual.held_out, &by_newton.held_out), "{newton:?}");
        let [of_dual, of_newton] =
            [by_dual, by_newton].map(|trained| trained.weights.model(1.0, &[]));
        for column in 0..6 {
            let (a, b) = (of_dual.weights(column), of_newton.weights(column));
            assert!(close(a, b), "{newton:?}: {a:?} {b:?}");
        }
        assert!(close(of_dual.dense().0, of_newton.dense().0), "{newton:?}");
    }
}

#[test]
fn newton_s_weights_are_liblinear_s() {
    // As in the tests of the descent.
    let want = [
        [-0.718_398, -0.338_439, 0.038_629, -0.196_505, -0.126_121, 0.738_652, -0.081_959],
        [0.721_7, 0.151_899, -0.208_231, -0.193_569, 0.043_632, 0.159_644, -0.585_497],
        [0.019_975, 0.156_189, 0.082_346, 0.239_567, 0.010_908, -0.975_703, -0.163_87],
    ];
    let newton = LinearOptions { solver: Solver::Newton, balanced: true, ..options() };
    assert_close(&weights(&data(label), 3, &newton), &want, 2e-5);
    let want = [
        [-1.275_505, -0.692_247, 0.299_229, -0.504_89, -0.276_772, 1.274_746, -0.095_663],
        [0.895_627, 0.063_953, -0.472_157, -0.262_84, -0.128_613, 0.009_807, -0.978_543],
        [0.123_348, 0.242_87, -0.143_781, 0.325_385, 0.041_227, -1.720_083, -0.353_862],
    ];
    let newton =
        LinearOptions { solver: Solver::Newton, loss: Loss::Logistic, c: 2.0, ..options() };
    assert_close(&weights(&data(label), 3, &newton), &want, 5e-5);
}
