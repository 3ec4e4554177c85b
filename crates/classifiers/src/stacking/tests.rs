#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;

/// Inputs of two classifiers with three classes, 30 rows.
fn inputs() -> (Vec<f32>, Vec<u32>) {
    let margin = |i: usize, k: usize| ((i * 5 + k * 3 + i * k) % 7) as f32 / 3.0 - 1.0;
    let mut all = Vec::new();
    for i in 0..30 {
        let mut one: Vec<f32> = (0..3).map(|k| margin(i, k)).collect();
        let mut two: Vec<f32> = one.iter().rev().copied().collect();
        input(&mut one, 2.0);
        input(&mut two, 1.5);
        all.extend(one);
        all.extend(two);
    }
    (all, (0..30).map(|i| (i * i + i / 4) % 3).collect())
}

#[test]
fn the_regression_is_scikit_learn_s() {
    // scikit-learn 1.9: LogisticRegression(C=0.4, tol=1e-12).fit(inputs, y).predict_proba(inputs[:2])
    let want = [[0.331_551, 0.240_322, 0.428_127], [0.509_523, 0.215_04, 0.275_437]];
    let (inputs, labels) = inputs();
    let stacking = Stacking::fit(&inputs, &labels, 3, 2, 0.4);
    for (row, want) in inputs.chunks_exact(6).zip(want) {
        let mut p = [0.0; 3];
        stacking.margins(row, &mut p);
        kernels::odds::softmax(&mut p);
        assert!(p.iter().zip(want).all(|(p, want)| (p - want).abs() < 1e-4), "{p:?} {want:?}");
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    for classes in [3, FULL + 1] {
        let members = 2;
        let n = 40;
        let inputs: Vec<f32> =
            (0..n * members * classes).map(|i| ((i * 37) % 19) as f32 / 9.0 - 1.0).collect();
        let labels: Vec<u32> = (0..n).map(|i| (i * 7 % classes) as u32).collect();
        let weights =
            if Stacking::is_full(classes) { members * classes * classes } else { members };
        let at: Vec<f64> = (0..weights + classes).map(|i| (i % 5) as f64 / 10.0).collect();
        let mut gradient = vec![0.0; at.len()];
        objective(&inputs, &labels, [classes, members], 0.7, &at, &mut gradient);
        for i in [0, 1, weights, at.len() - 1] {
            let value = |by: f64| {
                let mut moved = at.clone();
                moved[i] += by;
                objective(
                    &inputs,
                    &labels,
                    [classes, members],
                    0.7,
                    &moved,
                    &mut vec![0.0; at.len()],
                )
            };
            let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
            assert!((slope - gradient[i]).abs() < 1e-5, "{classes}, {i}: {slope} {}", gradient[i]);
        }
    }
}

#[test]
fn a_regression_comes_back_from_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.safetensors");
    let (inputs, labels) = inputs();
    let stacking = Stacking::fit(&inputs, &labels, 3, 2, 0.4);
    stacking.write(&path).expect("writes");
    assert_eq!(Stacking::read(&path, 3, 2).expect("reads"), stacking);
    assert!(Stacking::read(&path, 2, 3).is_err());
}
