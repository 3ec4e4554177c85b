//! Sparse features of texts: n-grams of words and characters, weighted by tf-idf, as scikit-learn's
//! `TfidfVectorizer` makes them with `norm="l2"` and `smooth_idf=True`.
//!
//! `ngrams` makes the training data with it, and `predict` the features of new texts.

#![cfg_attr(not(feature = "tables"), allow(dead_code, reason = "what makes tables is not built"))]

mod analyzer;
#[cfg(feature = "tables")]
mod count;
mod features;
pub mod fingerprint;
mod options;
mod print_table;
mod spans;
mod vectorizer;

#[cfg(feature = "tables")]
pub use count::Counter;
pub use features::{ColumnTable, Features};
#[cfg(feature = "tables")]
pub use features::{DESCRIPTION, VOCABULARY};
pub use options::{Block, NgramOptions};
pub use print_table::PrintTable;
pub use spans::Spans;
pub use vectorizer::Vectorizer;

#[cfg(test)]
#[cfg(feature = "tables")]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = ["Fed raises rates", "the fed, the Fed!", "Rates fall", "日本 rates"];

    fn features(options: &NgramOptions, threads: usize) -> Features {
        let mut counters: Vec<Counter> = (0..threads).map(|_| Counter::new(options)).collect();
        for (text, at) in TEXTS.iter().zip((0..threads).cycle()) {
            counters[at].add(text);
        }
        let first = counters.remove(0);
        first.finish(counters)
    }

    fn row(features: &Features, text: &str) -> Vec<(u32, f32)> {
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        let n = Vectorizer::new(features).push(text, &mut columns, &mut values);
        assert_eq!((n, n), (columns.len(), values.len()));
        columns.into_iter().zip(values).collect()
    }

    #[test]
    fn rows_are_scikit_learn_s() {
        // scikit-learn 1.9: TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2),
        //     sublinear_tf=True).fit(TEXTS).transform(["the fed raises THE rates"])
        let options = NgramOptions { char_wb: None, ..NgramOptions::default() };
        let features = features(&options, 1);
        let names: Vec<&str> = features.names().map(|name| name.1).collect();
        assert_eq!(
            names,
            [
                "fall",
                "fed",
                "fed raises",
                "fed the",
                "raises",
                "raises rates",
                "rates",
                "rates fall",
                "the",
                "the fed",
                "日本",
                "日本 rates"
            ]
        );
        let want = [
            (1, 0.300_235_6),
            (2, 0.380_810),
            (4, 0.380_810),
            (6, 0.243_066_6),
            (8, 0.644_768_7),
            (9, 0.380_810),
        ];
        let got = row(&features, "the fed raises THE rates");
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!(got.0 == want.0 && (got.1 - want.1).abs() < 1e-6, "{got:?} {want:?}");
        }
        assert!(row(&features, "?").is_empty());
    }

    #[test]
    fn features_come_back_from_their_files_whatever_the_threads() {
        let dir = tempfile::tempdir().expect("a folder");
        for hash_bits in [None, Some(5)] {
            let options = NgramOptions { hash_bits, min_count: 2, ..NgramOptions::default() };
            let folders = ["1", "3"].map(|n| dir.path().join(n));
            for (folder, threads) in folders.iter().zip([1, 3]) {
                std::fs::create_dir_all(folder).expect("a folder");
                features(&options, threads).write(folder).expect("writes");
            }
            for file in [VOCABULARY, DESCRIPTION] {
                let [one, three] =
                    folders.each_ref().map(|f| std::fs::read(f.join(file)).expect("reads"));
                assert_eq!(one, three, "{file}");
            }
            let folder = &folders[0];
            let back = Features::read(&folder.join(VOCABULARY), &folder.join(DESCRIPTION));
            let (back, made) = (back.expect("reads"), features(&options, 2));
            assert_eq!(back.columns(), made.columns());
            let text = "Rates: the FED raises 日本";
            let row_back = row(&back, text);
            assert_eq!(row_back, row(&made, text));
            // Each kind of n-gram has length 1.
            let length: f32 = row_back.iter().map(|(_, value)| value * value).sum();
            assert!((length - 2.0).abs() < 1e-5, "{length}");
            assert!(row_back.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn a_description_of_other_features_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |file: &str| dir.path().join(file);
        features(&NgramOptions::default(), 1).write(dir.path()).expect("writes");
        let text = std::fs::read_to_string(path(DESCRIPTION)).expect("reads");
        let refusal = |text: String| {
            std::fs::write(path(DESCRIPTION), text).expect("writes");
            Features::read(&path(VOCABULARY), &path(DESCRIPTION))
                .err()
                .map_or_else(String::new, |f| f.what)
        };
        assert_eq!(refusal(text.clone()), "");
        assert!(
            refusal(text.replace("\"columns\": ", "\"columns\": 1")).contains("columns, not the 1")
        );
        assert_eq!(
            refusal(text.replace("\"char_wb\": [\n      3,\n      5\n    ]", "\"char_wb\": null")),
            "unknown block `char_wb`"
        );
        assert!(refusal("{}".into()).contains("not a description"));
    }
}
