//! Which format a file has.

use std::path::Path;

use super::fasttext;

/// A format of labelled texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The UCI news archive's table.
    News,
    Csv,
    Tsv,
    JsonLines,
    Parquet,
    FastText,
    /// A folder for each class, with a file for each text.
    Folders,
}

/// The bytes that parquet files begin with.
const PARQUET: &[u8] = b"PAR1";
/// Rows that are looked at to recognise the news archive's table.
const LOOKED_AT: usize = 4;
/// Columns of the news archive's table.
const NEWS_COLUMNS: usize = 8;

impl Format {
    const ALL: [Self; 7] = [
        Self::News,
        Self::Csv,
        Self::Tsv,
        Self::JsonLines,
        Self::Parquet,
        Self::FastText,
        Self::Folders,
    ];

    /// The format with this name in the option `ingest.format`; `None` for `auto`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Its name in the option.
    pub const fn name(self) -> &'static str {
        match self {
            Self::News => "news",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::JsonLines => "jsonl",
            Self::Parquet => "parquet",
            Self::FastText => "fasttext",
            Self::Folders => "folders",
        }
    }

    /// Guesses the format of a file from its first bytes and its name, without the ending of a
    /// compressed file.
    pub fn guess(name: &str, head: &[u8]) -> Self {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let first = head.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
        let first = first.unwrap_or_default();
        let base = name.rsplit('/').next().unwrap_or(name);
        if head.starts_with(PARQUET) {
            return Self::Parquet;
        }
        if Self::is_news(name, head) {
            return Self::News;
        }
        if first.trim_ascii_start().starts_with(fasttext::PREFIX.as_bytes()) {
            return Self::FastText;
        }
        let ending = Path::new(base).extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("csv") => Self::Csv,
            Some("tsv" | "tab") => Self::Tsv,
            Some("jsonl" | "ndjson" | "json") => Self::JsonLines,
            Some("parquet" | "pq") => Self::Parquet,
            _ if first.trim_ascii_start().starts_with(b"{") => Self::JsonLines,
            _ if first.contains(&b'\t') => Self::Tsv,
            _ => Self::Csv,
        }
    }

    /// Whether a file with this name and these first bytes is the news archive's table. One of its
    /// first rows may be damaged.
    pub fn is_news(name: &str, head: &[u8]) -> bool {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        name.rsplit('/').next() == Some(crate::archive::MEMBER)
            || head.split(|byte| *byte == b'\n').take(LOOKED_AT).any(is_news_row)
    }

    /// Whether files with these names are texts in folders of their classes.
    pub fn are_folders(names: &[&str]) -> bool {
        names.iter().any(|name| name.contains('/'))
            && !names.iter().any(|name| Self::is_named(name))
    }

    /// Whether files with this name hold rows, so that they are not texts of a folder for a class.
    pub fn is_named(name: &str) -> bool {
        const ENDINGS: [&str; 8] =
            ["csv", "tsv", "tab", "jsonl", "ndjson", "json", "parquet", "pq"];
        let base = without_packing(name);
        let ending = Path::new(base).extension().map(|e| e.to_string_lossy().to_lowercase());
        ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
    }
}

/// A row of the news archive has eight columns, the first of which is a number.
fn is_news_row(line: &[u8]) -> bool {
    let mut fields = line.split(|byte| *byte == b'\t');
    let id = fields.next().unwrap_or_default();
    let is_number = !id.is_empty() && id.iter().all(u8::is_ascii_digit);
    is_number && fields.count() + 1 == NEWS_COLUMNS
}

/// A name without the ending of a compressed file.
pub fn without_packing(name: &str) -> &str {
    [".gz", ".zst", ".zip"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_and_name_give_the_format() {
        let news = b"1\ttitle\turl\tp\tb\ts\th\t2\n";
        for (name, head, format) in [
            ("x.csv", &b"text,label\n"[..], Format::Csv),
            ("x.csv", b"PAR1\x15", Format::Parquet),
            ("x.txt", b"__label__a b\n", Format::FastText),
            ("train", b"\xef\xbb\xbf{\"text\": 1}\n", Format::JsonLines),
            ("train.JSON", b"[", Format::JsonLines),
            ("x.tsv", b"a b\n", Format::Tsv),
            ("x.txt", b"\na\tb\n", Format::Tsv),
            ("x.csv", news, Format::News),
            ("dir/newsCorpora.csv", b"1\tx\n", Format::News),
        ] {
            assert_eq!(Format::guess(name, head), format, "{name}");
        }
        assert!(Format::is_named("a/train.csv.gz") && !Format::is_named("pos/1_2.txt"));
        assert!(Format::are_folders(&["README", "pos/1.txt"]));
        assert!(!Format::are_folders(&["a/1.jsonl", "a/README"]));
        assert!(!Format::are_folders(&["1.txt", "2.txt"]));
    }
}
