//! The embedded sample: made-up headlines in the archive's layout, always the same ones.
//!
//! A seeded grammar writes stories, and one to four headlines about each. Every slot of a headline
//! is filled from its category's words or from words that all categories share; the proportion is
//! chosen so that the nets have something to learn and something to get wrong.
//!
//! No two titles of the sample are equal. Titles of a larger one, `sample:ROWS`, may repeat:
//! remembering all of them would take memory that grows with the rows.

pub mod reviews;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{Cursor, Read, Write as _};

use failure::{Failure, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use zip::result::ZipError;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::archive::MEMBER;
use crate::grammar::{COMMON, Category, Lexicon, OTHERS, SHAPES, UPDATES, lexicon};

/// Rows of the sample; about three in four are from the five publishers.
const ROWS: u64 = 5600;
const SEED: u64 = 100;
/// Percentage of slots that are filled from the category's own words.
const OWN_WORDS: u32 = 50;
/// The archive's first time stamp, in milliseconds since 1970.
const EPOCH: i64 = 1_394_470_370_698;
const FIVE: [&str; 5] =
    ["Reuters", "Huffington Post", "Businessweek", "Contactmusic.com", "Daily Mail"];

/// The sample as a zip archive.
pub fn zip() -> Result<Vec<u8>> {
    write_zip()
        .map_err(|e| Failure::failed(e, "embedded sample", "this is a bug; please report it"))
}

fn write_zip() -> std::result::Result<Vec<u8>, ZipError> {
    // The default time stamp is fixed, so the sample has the same bytes every day.
    let stored = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .compression_level(Some(1));
    let members: [(&str, String); 4] = [
        (
            "2pageSessions.csv",
            "dSAMPLE000M\twww.example.com\tb\thttp://a.example/1 http://b.example/1\n".to_owned(),
        ),
        (MEMBER, rows()),
        ("__MACOSX/._newsCorpora.csv", "\0\u{5}\u{16}\u{7}\0\u{2}\0\0Mac OS X        ".to_owned()),
        (
            "readme.txt",
            "Made-up headlines in the layout of the UCI News Aggregator data set.\n".to_owned(),
        ),
    ];
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in members {
        writer.start_file(name, stored)?;
        writer.write_all(text.as_bytes())?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The table's text.
fn rows() -> String {
    let mut stream = Stream { seen: Some(HashSet::new()), ..Stream::new(ROWS) };
    let mut text = String::new();
    while stream.story() {
        text.push_str(&stream.text);
        stream.text.clear();
    }
    text
}

/// The text of a table, generated while it is read.
pub struct Stream {
    draw: Draw,
    rows: u64,
    count: u64,
    seen: Option<HashSet<String>>,
    text: String,
    /// Bytes of the text that have been read.
    read: usize,
}

impl Stream {
    /// A table of `rows` rows.
    pub fn new(rows: u64) -> Self {
        Self {
            draw: Draw(ChaCha8Rng::seed_from_u64(SEED)),
            rows,
            count: 0,
            seen: None,
            text: String::new(),
            read: 0,
        }
    }

    /// The approximate size of the text, in bytes.
    pub fn size(&self) -> u64 {
        self.rows * 150
    }

    /// Adds the headlines of one more story; `false` once the table is complete.
    fn story(&mut self) -> bool {
        if self.count == self.rows {
            return false;
        }
        let Self { draw, rows, count, seen, text, .. } = self;
        let category = draw.category();
        let words = lexicon(category);
        let story = draw.story();
        let (subject, object) = (draw.word(words, |l| l.subjects), draw.word(words, |l| l.objects));
        for version in 0..=draw.below(3) {
            let mut title = draw.headline(words, subject, object);
            if version > 0 && draw.percent(30) {
                title = format!("{}{title}", draw.pick(UPDATES));
            }
            if *count == *rows || seen.as_mut().is_some_and(|seen| !seen.insert(title.clone())) {
                continue;
            }
            *count += 1;
            let publisher = if draw.percent(74) { draw.five(category) } else { draw.pick(OTHERS) };
            let host: String =
                publisher.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
            let at = EPOCH + 31_000 * i64::try_from(*count).unwrap_or(0);
            let letter = category.letter();
            let _ = writeln!(
                text,
                "{count}\t{title}\thttp://www.{host}.com/{count}\t{publisher}\t{letter}\t{story}\twww.{host}.com\t{at}"
            );
        }
        true
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.text.len() {
            self.text.clear();
            self.read = 0;
            while self.text.len() < 1 << 16 && self.story() {}
        }
        let rest = self.text.as_bytes().get(self.read..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.read += n;
        Ok(n)
    }
}

/// Draws from the seeded generator.
struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, n: u32) -> u32 {
        u32::try_from((u64::from(self.0.next_u32()) * u64::from(n)) >> 32).unwrap_or(0)
    }

    fn percent(&mut self, share: u32) -> bool {
        self.below(100) < share
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let n = u32::try_from(from.len()).unwrap_or(u32::MAX);
        from.get(self.below(n) as usize).copied().unwrap_or_default()
    }

    /// Draws a category, approximately in the archive's proportions.
    fn category(&mut self) -> Category {
        match self.below(100) {
            0..42 => Category::Business,
            42..54 => Category::Technology,
            54..91 => Category::Entertainment,
            _ => Category::Medicine,
        }
    }

    fn five(&mut self, category: Category) -> &'static str {
        match category {
            Category::Entertainment => self.pick(&FIVE[1..]),
            _ => self.pick(&FIVE[..3]),
        }
    }

    fn story(&mut self) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
        let letters =
            (0..27).map(|_| LETTERS.get(self.below(64) as usize).copied().map_or('x', char::from));
        format!("d{}M", letters.collect::<String>())
    }

    fn word(
        &mut self,
        own: &'static Lexicon,
        slot: fn(&Lexicon) -> &'static [&'static str],
    ) -> &'static str {
        let from = if self.percent(OWN_WORDS) { own } else { &COMMON };
        self.pick(slot(from))
    }

    fn headline(&mut self, own: &'static Lexicon, subject: &str, object: &str) -> String {
        let shape = self.pick(SHAPES);
        let mut title = String::new();
        for (at, part) in shape.split_inclusive(|c: char| !c.is_ascii_alphabetic()).enumerate() {
            let (name, end) =
                part.split_at(part.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(part.len()));
            match name {
                // Later mentions of a story's subject and object are left to chance.
                "s" if at < 2 || self.percent(50) => title.push_str(subject),
                "s" => title.push_str(self.word(own, |l| l.subjects)),
                "o" if at < 4 || self.percent(50) => title.push_str(object),
                "o" => title.push_str(self.word(own, |l| l.objects)),
                "v" => title.push_str(self.word(own, |l| l.verbs)),
                "t" if at > 0 => title.push_str(self.word(own, |l| l.tails)),
                other => title.push_str(other),
            }
            title.push_str(end);
        }
        title
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(text: &str, at: usize) -> Vec<&str> {
        text.lines().filter_map(|line| line.split('\t').nth(at)).collect()
    }

    #[test]
    fn the_sample_is_always_the_same_and_sufficiently_varied() {
        let text = rows();
        assert_eq!(text, rows());
        assert_eq!(text.lines().count() as u64, ROWS);
        assert!(text.lines().all(|line| line.split('\t').count() == 8));

        let kept: Vec<&str> = text
            .lines()
            .filter(|l| l.split('\t').nth(3).is_some_and(|p| FIVE.contains(&p)))
            .collect();
        let titles: HashSet<&str> = kept.iter().filter_map(|l| l.split('\t').nth(1)).collect();
        assert!(
            titles.len() >= 2000 && titles.len() == kept.len(),
            "{} distinct of {}",
            titles.len(),
            kept.len()
        );
        assert!(titles.iter().any(|t| t.contains('"')) && titles.iter().any(|t| !t.is_ascii()));

        let stories: HashSet<&str> = column(&text, 5).into_iter().collect();
        assert!(
            (stories.len() as u64) < ROWS * 2 / 3,
            "stories have several headlines: {}",
            stories.len()
        );
        let publishers: HashSet<&str> = column(&text, 3).into_iter().collect();
        assert_eq!(publishers.len(), FIVE.len() + OTHERS.len());
        assert_eq!(column(&text, 4).into_iter().collect::<HashSet<_>>().len(), 4);
    }

    #[test]
    fn a_larger_sample_starts_with_the_smaller_one_and_has_the_requested_number_of_rows() {
        let text = |rows: u64| {
            let mut text = String::new();
            Stream::new(rows).read_to_string(&mut text).expect("reads");
            text
        };
        let (small, large) = (text(10), text(3000));
        assert!(large.starts_with(&small) && rows().starts_with(&small));
        assert_eq!((small.lines().count(), large.lines().count()), (10, 3000));
    }

    #[test]
    fn the_archive_has_the_same_bytes_every_time() {
        assert_eq!(zip().expect("writes"), zip().expect("writes"));
    }
}
