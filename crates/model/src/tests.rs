//! Tests of whole models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use failure::Failure;
use proptest::prelude::*;
use schema::{Calibration, Labels};

use crate::description::{BagDescription, MemberDescription};
use crate::{
    BagTokens, BagWeights, Description, FORMAT, Method, Model, ModelWriter, NetDescription,
    Precision, WordsBuilder,
};

const WORDS: [&str; 3] = ["fed", "rates", "film"];
/// What each word gives to the two classes.
const ROWS: [f32; 6] = [2.0, 0.0, 1.0, 0.5, -1.0, 3.0];

/// A description of a sum of words.
fn description(precision: Precision) -> Description {
    let bag = BagDescription { tokens: BagTokens::Words, weights: BagWeights::Mean };
    Description {
        format: FORMAT,
        knockline: "0".into(),
        run: "train.x".into(),
        net: "slp".into(),
        labels: Labels::new(vec!["b".into(), "e".into()]).expect("labels"),
        tokenizer: "exercise".into(),
        lowercase: "fallback".into(),
        words: crate::WordsDescription { count: 0, seed: 0 },
        ngrams: None,
        layers: NetDescription::Sum {
            bags: vec![bag],
            layers: 0,
            order: Vec::new(),
            relu_out: false,
        },
        calibration: Calibration { scale: 1.0, of_regression: None },
        precision,
        options: BTreeMap::new(),
        scores: BTreeMap::new(),
        rows: BTreeMap::new(),
        sources: BTreeMap::new(),
        keys: BTreeMap::new(),
        licence: None,
    }
}

/// Writes a model of a sum of words, changed by `change`, and returns its folder and its path.
fn written(
    precision: Precision,
    change: impl FnOnce(&mut Description, &mut ModelWriter<'_>),
) -> (tempfile::TempDir, PathBuf) {
    let mut to = ModelWriter::new(precision);
    let mut words = WordsBuilder::default();
    for word in WORDS {
        words.push(word);
    }
    let mut of = description(precision);
    of.words = words.finish(&mut to);
    to.rows("net.rows.0", 2, ROWS.to_vec());
    to.f32("net.bias", &[2], vec![0.5, -0.5]);
    change(&mut of, &mut to);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.knock");
    to.finish(&path, &of).expect("writes");
    (dir, path)
}

fn refusal(path: &Path) -> Failure {
    Model::open(path).err().expect("refused")
}

#[test]
fn an_answer_is_the_softmax_of_the_sum() {
    for precision in Precision::ALL {
        let (_dir, path) = written(precision, |_, _| {});
        let model = Model::open(&path).expect("opens");
        let mut desk = model.desk();
        let (p, known) = desk.probabilities(&["FED film unknown", "?"]).expect("answers");
        // Margins 0.5 + (2 − 1)/2 and −0.5 + (0 + 3)/2 are equal; without words, 0.5 and −0.5:
        // 1/(1 + e⁻¹) = 0.7311
        assert!((p[0] - 0.5).abs() < 1e-2 && (p[2] - 0.731_06).abs() < 1e-4, "{precision:?} {p:?}");
        assert_eq!((known[0].words, known[0].known, known[0].anything), (3, 2, true));
        assert!(!known[1].anything);
        let explanation = desk.explain("film, fed").expect("explains");
        assert_eq!(explanation.method, Method::Exact);
        let places: Vec<_> = explanation.words.iter().map(|word| word.place.clone()).collect();
        assert_eq!(places, [0..4, 6..9]);
        // Half of (−1, 3) and of (2, 0), less their means.
        let margins: Vec<f32> = explanation.words.iter().flat_map(|w| w.margins.clone()).collect();
        for (margin, want) in margins.iter().zip([-1.0, 1.0, 0.5, -0.5]) {
            assert!((margin - want).abs() < 2e-2, "{margins:?}");
        }
    }
}

#[test]
fn every_changed_byte_and_every_missing_part_is_refused() {
    let (_dir, path) = written(Precision::Int8, |_, _| {});
    let whole = std::fs::read(&path).expect("reads");
    let open = |bytes: Vec<u8>| Model::from_bytes(bytes, &path);
    assert!(open(whole.clone()).is_ok());
    for at in 0..whole.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            let failure = open(bytes).err().unwrap_or_else(|| panic!("byte {at} is not checked"));
            assert!(!failure.what.is_empty() && !failure.remedy.is_empty());
        }
    }
    for length in 0..whole.len() {
        assert!(open(whole[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert!(open([&whole[..], &[0]].concat()).is_err());
}

#[test]
fn a_file_that_is_no_model_and_one_of_another_version_are_named() {
    let (_dir, path) = written(Precision::F32, |of, _| of.format = FORMAT + 1);
    let failure = refusal(&path);
    assert_eq!(failure.what, "the model has version 2 of the format, not 1");
    assert!(failure.remedy.contains("export the model again"));
    std::fs::write(&path, "x".repeat(100)).expect("writes");
    assert!(refusal(&path).what.starts_with("not a model of knockline"));
    std::fs::write(&path, "").expect("writes");
    assert!(refusal(&path).what.starts_with("not a model of knockline"));
    let missing = path.with_extension("none");
    assert!(refusal(&missing).what.starts_with("cannot read the model"));
}

#[test]
fn a_model_that_contradicts_itself_is_refused() {
    type Change = fn(&mut Description, &mut ModelWriter<'_>);
    let cases: [(Change, &str); 7] = [
        (|of, _| of.words.count = 4, "not F32 [Some(4), None]"),
        (|of, _| of.tokenizer = "other".into(), "no tensor `tokenizer`"),
        (|of, _| of.lowercase = "other".into(), "the letter case is not known"),
        (|of, _| of.precision = Precision::F16, "is F32 [3, 2], not F16"),
        (|of, _| of.calibration.scale = f32::MIN_POSITIVE - 1.0, "is not a positive number"),
        (
            |of, _| {
                of.labels =
                    Labels::new(["a", "b", "c"].map(String::from).to_vec()).expect("labels");
            },
            "the layers do not fit together",
        ),
        (
            |of, _| {
                let calibration = Calibration { scale: 1.0, of_regression: None };
                let stack = |layers| NetDescription::Stack {
                    members: vec![MemberDescription { run: "x".into(), layers, calibration }],
                };
                of.layers = stack(stack(of.layers.clone()));
            },
            "a stack is a member of a stack",
        ),
    ];
    for (change, want) in cases {
        let (_dir, path) = written(Precision::F32, change);
        let failure = refusal(&path);
        assert!(failure.what.contains(want), "{} {want}", failure.what);
    }
    let (_dir, path) = written(Precision::F32, |of, to| {
        of.layers =
            NetDescription::Sum { bags: Vec::new(), layers: 1, order: vec![0], relu_out: false };
        to.f32("net.layers.0.weight", &[2, 2], vec![1.0, f32::NAN, 0.0, 0.0]);
        to.f32("net.layers.0.bias", &[2], vec![0.0, 0.0]);
    });
    assert!(refusal(&path).what.contains("not finite"));
}

#[test]
fn a_large_file_is_checked_where_it_is_used() {
    let many: Vec<f32> = (0..5_000_000).map(|i| (i % 7) as f32).collect();
    let (_dir, path) = written(Precision::F32, |of, to| {
        let mut words = WordsBuilder::default();
        (0..2_500_000).for_each(|i| words.push(&format!("w{i}")));
        // In place of the small table.
        *to = ModelWriter::new(Precision::F32);
        of.words = words.finish(to);
        to.rows("net.rows.0", 2, many);
        to.f32("net.bias", &[2], vec![0.0, 0.0]);
    });
    let mut bytes = std::fs::read(&path).expect("reads");
    let model = Model::open(&path).expect("opens");
    assert!(model.check().is_ok());
    model.desk().probabilities(&["w1 w2499999"]).expect("answers");
    // A byte of the row in the middle.
    let tensors = model.tensors();
    let rows = tensors.iter().position(|tensor| tensor.0 == "net.rows.0").expect("rows");
    let after: usize = tensors[rows..].iter().map(|tensor| tensor.3).sum();
    let at = bytes.len() - after + 1_250_000 * 8 + 3;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).expect("writes");
    let model = Model::open(&path).expect("the damaged part is not needed to open it");
    let mut desk = model.desk();
    assert!(desk.probabilities(&["w1 w2"]).is_ok());
    let failure = desk.probabilities(&["w1250000"]).expect_err("refused");
    assert!(failure.what.contains("damaged") && failure.place.contains("from byte"), "{failure}");
    assert!(model.check().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Bytes in the place of a model never make it panic.
    #[test]
    fn any_bytes_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..100) {
        prop_assert!(Model::from_bytes(bytes.clone(), Path::new("x")).is_err());
        let (_dir, path) = written(Precision::F32, |_, _| {});
        let mut whole = std::fs::read(&path).expect("reads");
        let end = (at + bytes.len()).min(whole.len());
        bytes.truncate(end - at);
        let before = whole.clone();
        whole[at..end].copy_from_slice(&bytes);
        prop_assert_eq!(Model::from_bytes(whole.clone(), Path::new("x")).is_ok(), before == whole);
    }

    /// The words' shares and the rest add up to the margins.
    #[test]
    fn exact_contributions_add_up(words in proptest::collection::vec(0_usize..4, 0..9)) {
        let (_dir, path) = written(Precision::F32, |_, _| {});
        let model = Model::open(&path).expect("opens");
        let text: Vec<&str> = words.iter().map(|&w| WORDS.get(w).copied().unwrap_or("other")).collect();
        let text = text.join(", ");
        let mut desk = model.desk();
        let explanation = desk.explain(&text).expect("explains");
        let margins = desk.margins(&[&text]).expect("margins").to_vec();
        let mean = f32::midpoint(margins[0], margins[1]);
        for (class, margin) in margins.iter().enumerate() {
            let sum: f32 = explanation.words.iter().map(|word| word.margins[class]).sum();
            prop_assert!((sum + explanation.rest[class] - (margin - mean)).abs() < 1e-5);
        }
    }
}
