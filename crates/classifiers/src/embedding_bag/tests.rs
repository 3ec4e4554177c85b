use super::*;

/// Texts of two or three different tokens out of twelve, in three classes.
fn texts(rows: usize) -> Csr {
    let row = |row: usize| -> Vec<(u32, f32)> {
        let token = |of: usize| u32::try_from(of % 12).expect("small");
        let mut all = vec![(token(row * 5), 1.0), (token(row * 5 + 1 + row % 3), 0.5)];
        if row.is_multiple_of(2) {
            all.push((token(row * 5 + 7), 2.0));
        }
        all
    };
    let rows: Vec<Vec<(u32, f32)>> = (0..rows).map(row).collect();
    let labels = (0..rows.len()).map(|row| u32::try_from(row * row % 3).expect("small")).collect();
    Csr::of(12, &rows, labels)
}

fn options(hidden: Option<usize>) -> BagOptions {
    BagOptions { hidden, batch_size: 1, epochs: 3, lr: 0.1, dropout: 0.0, weighted: true, seed: 7 }
}

fn vectors(dimension: usize) -> Vec<f32> {
    (0..12 * dimension).map(|i| ((i * 37 % 101) as f32 - 50.0) / 100.0).collect()
}

fn train(
    texts: &Csr,
    options: &BagOptions,
    net: &mut BagNet,
    epochs: std::ops::Range<u32>,
    threads: usize,
) -> Vec<EpochScore> {
    let rows: Vec<usize> = (0..texts.rows()).collect();
    epochs
        .map(|number| {
            let epoch = Epoch { texts, rows: &rows, options, training: 0, number };
            net.epoch(epoch, threads).expect("finite")
        })
        .collect()
}

/// A net whose weights are given by a formula, so that another program can start from them.
fn net(options: &BagOptions) -> BagNet {
    let vectors = vectors(6);
    let mut net = BagNet::new(12, 3, Start::Given(&vectors, 6), options);
    let outputs = options.hidden.unwrap_or(3);
    let mut at = 0_u32;
    let mut weight = || {
        at += 1;
        ((at * 29 % 83) as f32 - 41.0) / 80.0
    };
    net.slices[0].fill_matrix(outputs, &mut weight);
    if let Some(units) = options.hidden {
        let padded = net.head.hidden().expect("units").2.len();
        for (name, values) in net.head.state_mut() {
            if name == "hidden" {
                for row in values.chunks_exact_mut(padded).take(units) {
                    row.iter_mut().take(3).for_each(|to| *to = weight());
                }
            }
        }
    }
    net
}

/// Trains for three epochs, and compares the mean losses of each and the logits of a text.
fn check(options: &BagOptions, losses: [f64; 3], logits: [f32; 3]) {
    let (texts, mut net) = (texts(20), net(options));
    for (score, want) in train(&texts, options, &mut net, 0..3, 1).iter().zip(losses) {
        assert!((score.loss - want).abs() < 1e-6, "{score:?} {want}");
    }
    let (model, mut to) = (net.model(true), [0.0; 3]);
    model.margins(&mut BagDesk::default(), &[1, 2], &[1.0, 3.0], |_| &[], &mut to);
    assert!(to.iter().zip(logits).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{to:?}");
}

#[test]
fn training_is_pytorch_s() {
    // PyTorch 2.15: EmbeddingBag(mode="sum") with the weights, which add up to 1, as
    // per_sample_weights, then Linear, ReLU and Linear or Linear alone; Adagrad(eps=1e-8) with the
    // same rates; the rows in the same order.
    let losses = [0.916_373_8, 0.696_975_3, 0.641_738_6];
    check(&options(None), losses, [-0.001_234_4, 0.544_713_7, -1.312_407_7]);
    let losses = [0.984_117_3, 0.812_906_9, 0.766_226_0];
    check(&options(Some(5)), losses, [-0.055_044_6, 0.364_152_2, -0.811_211_5]);
}

#[test]
fn batches_are_those_of_a_loop_over_numbers() {
    // numpy, in float64 and without the order of sums that vector registers take: batches of 8, 8
    // and 4 texts, whose tokens are updated text after text and the other weights once.
    let of = |hidden| BagOptions { batch_size: 8, ..options(hidden) };
    let losses = [0.949_701_0, 0.761_207_0, 0.685_734_3];
    check(&of(None), losses, [0.150_947_5, 0.672_490_3, -1.069_457_8]);
    let losses = [1.075_106_5, 0.980_120_8, 0.923_834_0];
    check(&of(Some(5)), losses, [0.016_024_9, 0.225_783_2, -0.292_063_7]);
}

/// The bits of everything that training goes on from.
fn bits(net: &BagNet) -> Vec<u8> {
    let (names, arrays): (Vec<String>, Vec<Array<'_>>) = net.arrays().into_iter().unzip();
    formats::arrays::to_bytes(names.iter().map(String::as_str).zip(arrays), None, "a test".as_ref())
        .expect("bytes")
}

#[test]
fn any_number_of_threads_gives_the_same_bits_and_so_does_going_on_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state");
    for (hidden, dimension) in [(None, 20), (None, 70), (Some(20), 70)] {
        let texts = texts(50);
        let options = BagOptions { batch_size: 8, dropout: 0.4, ..options(hidden) };
        let vectors = vectors(dimension);
        let start = || BagNet::new(12, 3, Start::Given(&vectors, dimension), &options);
        let mut one = start();
        let scores = train(&texts, &options, &mut one, 0..3, 1);
        for threads in [2, 3, 9] {
            let mut many = start();
            assert_eq!(train(&texts, &options, &mut many, 0..3, threads), scores);
            assert!(bits(&many) == bits(&one), "{threads} threads");
        }
        let mut first = start();
        train(&texts, &options, &mut first, 0..2, 1);
        std::fs::write(&path, bits(&first)).expect("writes");
        let mut second = start();
        second.restore(&Arrays::read(&path).expect("reads")).expect("restores");
        train(&texts, &options, &mut second, 2..3, 1);
        assert!(bits(&second) == bits(&one), "after a stop");
        let mut other = BagNet::new(13, 3, Start::Random(dimension), &options);
        assert!(other.restore(&Arrays::read(&path).expect("reads")).is_err(), "another net");
    }
}

#[test]
fn a_net_comes_back_from_its_file_and_a_projection_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.safetensors");
    for hidden in [None, Some(20)] {
        let (texts, options) = (texts(30), options(hidden));
        let vectors = vectors(20);
        let mut net = BagNet::new(12, 3, Start::Given(&vectors, 20), &options);
        train(&texts, &options, &mut net, 0..2, 1);
        let mut model = net.model(true).scaled(2.0);
        model.write(&path).expect("writes");
        let back = BagModel::read(&path, 3, true).expect("reads");
        model.project();
        let other = [0.5; 20];
        let margins = |model: &BagModel, tokens: &[u32]| {
            let mut to = [0.0; 3];
            let values = [0.2, 0.3, 1.0];
            model.margins(
                &mut BagDesk::default(),
                tokens,
                &values[..tokens.len()],
                |_| &other,
                &mut to,
            );
            to
        };
        for tokens in [&[3, 4, 11][..], &[5], &[]] {
            let [a, b] = [&model, &back].map(|model| margins(model, tokens));
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
        }
        if hidden.is_some() {
            // Token 12 is beyond the table.
            assert_ne!(margins(&back, &[12]), margins(&back, &[]));
        }
        let refusal = BagModel::read(&path, 4, true).err().expect("four classes");
        assert!(refusal.what.contains("not F32 ["), "{}", refusal.what);
    }
    let zeros = [0.0, f32::NAN];
    let arrays = [
        ("table", Array::f32(&[1, 2], &zeros)),
        ("matrix", Array::f32(&[2, 1], &[0.0; 2])),
        ("bias", Array::f32(&[1], &[0.0])),
        ("scale", Array::f32(&[1], &[1.0])),
    ];
    formats::arrays::write(&path, arrays, None).expect("writes");
    let refusal = BagModel::read(&path, 1, true).err().expect("not finite");
    assert!(refusal.what.contains("not finite"), "{}", refusal.what);
}

#[test]
fn too_high_a_rate_is_noticed() {
    let (texts, options) = (texts(20), BagOptions { lr: 1e38, ..options(Some(5)) });
    let mut net = net(&options);
    let rows: Vec<usize> = (0..20).collect();
    let epoch = Epoch { texts: &texts, rows: &rows, options: &options, training: 0, number: 0 };
    assert_eq!(net.epoch(epoch, 2), None);
}
