//! A zip archive of headlines, down to its rows: an error with its place, or as many rows as were
//! counted.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/ingest/src/archive.rs"]
mod archive;
#[path = "../../crates/ingest/src/counts.rs"]
mod counts;
#[path = "../../crates/ingest/src/ids.rs"]
mod ids;
#[path = "../../crates/ingest/src/rows.rs"]
mod rows;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let publishers = ["*".to_owned()];
    let mut kept = 0;
    let mut consume = |reader: &mut dyn std::io::Read, _: u64, place: &str| {
        let labels = schema::Labels::news();
        let wanted = rows::RowFilter { publishers: &publishers, labels: &labels, most_bad: 3 };
        let write = |table: rows::Table| {
            kept += table.texts(0).count() as u64;
            Ok(())
        };
        rows::read(reader, place, wanted, write, |_| ())
    };
    match archive::stream_bytes(data.to_vec(), "a.zip", &mut consume) {
        Ok(counts) => assert_eq!(counts.kept, kept),
        Err(failure) => assert!(!failure.what.is_empty() && failure.place.starts_with("a.zip") && !failure.remedy.is_empty()),
    }
});
