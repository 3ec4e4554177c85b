//! The archive's table, compared with a slow reader of lines.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/ingest/src/counts.rs"]
mod counts;
#[path = "../../crates/ingest/src/ids.rs"]
mod ids;
#[path = "../../crates/ingest/src/rows.rs"]
mod rows;

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;

/// The titles of the good rows, and how many bad ones there are.
fn slowly(data: &[u8]) -> (Vec<String>, u64) {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let (mut titles, mut bad, mut ids) = (Vec::new(), 0, HashSet::new());
    for line in data.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let title = std::str::from_utf8(line).ok().and_then(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [id, title, _, _, category, _, _, time] = fields[..] else { return None };
            let (id, _) = (id.parse::<i64>().ok()?, time.parse::<i64>().ok()?);
            (["b", "t", "e", "m"].contains(&category) && title.len() <= 1 << 16 && !line.contains('\0') && ids.insert(id))
                .then(|| title.to_owned())
        });
        match title {
            Some(title) => titles.push(title),
            None => bad += 1,
        }
    }
    (titles, bad)
}

fuzz_target!(|data: &[u8]| {
    let publishers = ["*".to_owned()];
    let labels = schema::Labels::news();
    let wanted = rows::RowFilter { publishers: &publishers, labels: &labels, most_bad: 5 };
    let mut titles = Vec::new();
    let write = |table: rows::Table| {
        titles.extend(table.texts(0).map(str::to_owned));
        Ok(())
    };
    let counts = rows::read(&mut &data[..], "t.csv", wanted, write, |_| ());
    let (want, bad) = slowly(data);
    match counts {
        Ok(counts) => assert!(titles == want && counts.bad == bad && bad <= 5),
        Err(failure) => {
            // With `cfg(fuzzing)`, a row of more than four kilobytes is refused unchecked.
            let endless = data.split(|b| *b == b'\n').any(|line| line.len() > 1 << 12);
            assert!((bad > 5 || want.is_empty() || endless) && failure.place.starts_with("t.csv"), "{failure}");
        }
    }
});
