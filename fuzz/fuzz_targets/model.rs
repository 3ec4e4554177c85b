//! A model file, with its own seal and with a valid one: an error that explains itself, or answers.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use model::{Model, resealed};

const TEXTS: [&str; 3] = ["Fed raises rates: 'too low'", "", "日本 İ x"];

fuzz_target!(|data: &[u8]| {
    for bytes in [data.to_vec(), resealed(data.to_vec())] {
        match Model::from_bytes(bytes, Path::new("x")) {
            Err(failure) => assert!(!failure.what.is_empty() && !failure.remedy.is_empty()),
            Ok(model) => {
                let mut desk = model.desk();
                let classes = model.labels().len();
                if let Ok((p, known)) = desk.probabilities(&TEXTS) {
                    assert_eq!((p.len(), known.len()), (TEXTS.len() * classes, TEXTS.len()));
                }
                for text in TEXTS {
                    let _ = desk.explain(text);
                }
                let _ = model.words();
            }
        }
    }
});
