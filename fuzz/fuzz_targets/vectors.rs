//! A word2vec file, binary or text, packed if the first byte is odd: finite vectors, or an error
//! with its place.
#![no_main]
#![allow(dead_code)]

// The modules are included, because their crate depends on polars.
#[path = "../../crates/embed/src/blocks.rs"]
mod blocks;
#[path = "../../crates/embed/src/reader.rs"]
mod reader;
#[path = "../../crates/embed/src/vocabulary.rs"]
mod vocabulary;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let tokenizer = tokenizer::Tokenizer::Exercise;
    let mut counter = vocabulary::Counter::new(text::Lowercase::Never, &tokenizer);
    counter.add("the Fed of a in rates w1 w2", 0);
    let words = counter.finish();
    let read =
        if how & 1 == 0 { reader::read(bytes, "f", &words, &mut ()) } else { reader::read(flate2::read::MultiGzDecoder::new(bytes), "f", &words, &mut ()) };
    match read {
        Ok(outcome) => {
            let dimension = outcome.found.dimension();
            let (words, matrix) = outcome.found.into_matrix();
            assert!(!words.is_empty() && words.is_sorted_by(|a, b| a.1 >= b.1) && matrix.len() == words.len() * dimension);
            assert!(matrix.iter().all(|v| v.is_finite()));
        }
        Err(failure) => assert!(!failure.what.is_empty() && failure.place.starts_with('f') && !failure.remedy.is_empty()),
    }
});
