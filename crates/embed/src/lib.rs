//! The third stage: the headlines' words and their vectors.
//!
//! In: `split/{train,valid,test}.parquet` and a word-vector source. Out: `vocabulary.parquet`
//! (`word`, `row`, `count`), `vectors.safetensors` (`vectors`, f32 \[V, d\], a row for each of
//! those words), `coverage.json`, `tokenizer.json`; and, for predictions only,
//! `more-vocabulary.parquet` and `more-vectors.safetensors` with further words of the source.
//!
//! Always holds: memory is bounded by the headlines' words, however large the vector file; a
//! word's vector is the file's, bit for bit; if the file has a word twice, the first entry counts.

mod blocks;
mod folder;
mod hashed;
mod kept;
mod reader;
mod shared;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use fetch::Sources;
use flate2::read::MultiGzDecoder;
use formats::arrays::{self, Array};
use formats::table;
use kept::{Keep, KeptWords};
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use schema::{Coverage, WordCount};
use serde::Deserialize;
use stage::{Embedded, Progress, Stage, Unit};
use text::{Lowercase, PARTS};
use tokenizer::Tokenizer;
use vocabulary::{Counter, FoundVectors, Vocabulary};

pub use shared::SHARED;

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

/// Number of words without a vector that are listed, the most frequent ones.
const LISTED: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbedOptions {
    source: Sources,
    sha256: Option<String>,
    seed: u64,
    lowercase: String,
    tokenizer: String,
    keep: serde_json::Value,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: EmbedOptions = stage.options()?;
    let tokenizer = tokenizer(&options)?;
    let mut counter = Counter::new(lowercase(&options)?, &tokenizer);
    if stage.chunk_rows().is_some() {
        shared::add_all(stage, &mut counter)?;
    } else {
        for part in 0..PARTS.len() {
            count(stage, part, 0..usize::MAX, &mut counter)?;
        }
    }
    let vocabulary = counter.finish();
    let keep = match (&tokenizer, &options.keep) {
        // A text is cut into the tokenizer's words, so each of them may occur.
        (Tokenizer::Source(_), _) => Keep::All,
        (_, keep) => keep
            .as_u64()
            .map_or_else(|| if keep == "all" { Keep::All } else { Keep::Data }, Keep::First),
    };
    let mut kept = KeptWords::new(keep, &tokenizer, stage)?;
    let (found, source, entries) = vectors(&options, &vocabulary, &mut kept, stage)?;
    warn_of_case(&vocabulary, &found, stage);

    let mut parts: BTreeMap<String, WordCount> = BTreeMap::new();
    for (part, name) in PARTS.iter().enumerate() {
        let of = parts.entry((*name).to_owned()).or_default();
        for (place, counts) in vocabulary.by_part.iter().enumerate() {
            let count = counts.get(part).map_or(0, |&count| count as usize);
            of.words += count;
            of.known += if found.has(place) { count } else { 0 };
        }
    }
    let unknown = vocabulary
        .words
        .iter()
        .enumerate()
        .filter(|(place, _)| !found.has(*place))
        .map(|(_, w)| w.clone());
    let coverage = Coverage {
        source,
        dimension: found.dimension(),
        entries,
        distinct_words: vocabulary.words.len(),
        distinct_words_known: found.count(),
        parts,
        most_frequent_unknown: unknown.take(LISTED).collect(),
    };
    stage.write_json("coverage.json", &coverage)?;
    write(stage, &vocabulary, found)?;
    tokenizer.write(&stage.output(Tokenizer::FILE))?;
    let more = match kept.finish(coverage.dimension)? {
        0 => String::new(),
        more => format!("; {more} more words for predictions"),
    };
    Ok(format!(
        "{} of {} words have a vector of {} components{more}",
        coverage.distinct_words_known, coverage.distinct_words, coverage.dimension
    ))
}

/// Counts the words of some rows of a part.
fn count(stage: &Stage, part: usize, rows: Range<usize>, counter: &mut Counter<'_>) -> Result<()> {
    let path = table_of(stage, part)?;
    table::groups_in(&path, &["title"], rows, |frame| {
        table::texts(frame, "title", &path)?
            .no_null_iter()
            .for_each(|title| counter.add(title, part));
        Ok(())
    })
}

fn table_of(stage: &Stage, part: usize) -> Result<PathBuf> {
    let name = PARTS.get(part).copied().unwrap_or_default();
    stage.input("split", &format!("{name}.parquet"))
}

fn lowercase(options: &EmbedOptions) -> Result<Lowercase> {
    let unknown = || {
        Failure::usage(
            format_args!("there is no choice `{}`", options.lowercase),
            "option `embed.lowercase`",
            "see --help",
        )
    };
    Lowercase::from_name(&options.lowercase).ok_or_else(unknown)
}

/// The tokenizer that the options choose.
fn tokenizer(options: &EmbedOptions) -> Result<Tokenizer> {
    if let Some(named) = Tokenizer::from_name(&options.tokenizer) {
        return Ok(named);
    }
    match &*options.source {
        [one]
            if folder::is_model(Path::new(one))
                && Path::new(one).join(Tokenizer::FILE).exists() =>
        {
            Tokenizer::read(&Path::new(one).join(Tokenizer::FILE))
        }
        _ => Err(Failure::usage(
            format_args!("the word vectors have no {}", Tokenizer::FILE),
            "option `embed.tokenizer`",
            "give the folder of a model in `embed.source`, or leave the option out",
        )),
    }
}

/// Warns if many more words would have a vector in lower case, as with vectors that were trained on
/// lower-case text.
fn warn_of_case(vocabulary: &Vocabulary, found: &FoundVectors<'_>, stage: &Stage) {
    let (known, could_be, all) =
        (found.count(), found.count_with_lower_case(), vocabulary.words.len());
    // Half as many again. With lower-case vectors, two thirds of the real headlines' words are
    // found in one case or the other.
    if could_be > known && 2 * could_be >= 3 * known {
        stage.progress.warn(format!(
            "{known} of {all} words have a vector; in lower case, {could_be} would: set embed.lowercase to \"fallback\" or \"always\""
        ));
    }
}

fn write(stage: &Stage, vocabulary: &Vocabulary, found: FoundVectors<'_>) -> Result<()> {
    let dimension = found.dimension();
    let (words, matrix) = found.into_matrix();
    let rows: Vec<u32> = (0..).take(words.len()).collect();
    let column = |name: &str, series: Series| Column::from(series.with_name(name.into()));
    let columns = vec![
        column(
            "word",
            Series::new("".into(), words.iter().map(|w| w.0.as_str()).collect::<Vec<_>>()),
        ),
        column("row", Series::new("".into(), rows)),
        column("count", Series::new("".into(), words.iter().map(|w| w.1).collect::<Vec<_>>())),
    ];
    let path = stage.output("vocabulary.parquet");
    let bug = |e| Failure::failed(e, path.display(), "this is a bug; please report it");
    table::write(&path, &mut DataFrame::new(words.len(), columns).map_err(bug)?)?;
    let array = Array::f32(&[words.len(), dimension], &matrix);
    // Readers have to look words up in the same case. With `never` there is no note, so the
    // exercise's file is unchanged.
    let note = (vocabulary.lowercase != Lowercase::Never)
        .then(|| format!("{{\"lowercase\":\"{}\"}}", vocabulary.lowercase.name()));
    arrays::write(&stage.output("vectors.safetensors"), [("vectors", array)], note.as_deref())
}

/// The vectors, the source's name, and the number of entries if the source is a file.
fn vectors<'v>(
    options: &EmbedOptions,
    vocabulary: &'v Vocabulary,
    kept: &mut KeptWords<'_>,
    stage: &Stage,
) -> Result<(FoundVectors<'v>, String, Option<u64>)> {
    if let [one] = &*options.source
        && let Some(dimension) = one.strip_prefix("hash:")
    {
        let dimension =
            dimension.parse().ok().filter(|d| (1..=65_536).contains(d)).ok_or_else(|| {
                Failure::usage(
                    format_args!("`{one}` does not give a number of components"),
                    "option `embed.source`",
                    "write hash:300, with 1 to 65536 components",
                )
            })?;
        let mut found = FoundVectors::new(vocabulary, dimension);
        hashed::fill(&vocabulary.words, &mut found, options.seed);
        return Ok((found, one.clone(), None));
    }
    if let [one] = &*options.source
        && folder::is_model(Path::new(one))
    {
        if options.sha256.is_some() {
            return Err(Failure::usage(
                "a folder has no checksum",
                one,
                "remove the option `embed.sha256`, or name one file",
            ));
        }
        let outcome = folder::read(Path::new(one), vocabulary, kept)?;
        if options.tokenizer != "wordpiece" && Path::new(one).join(Tokenizer::FILE).exists() {
            stage.progress.warn("the model has a tokenizer of its own, which makes more words known: set embed.tokenizer to \"wordpiece\"");
        }
        reader::refuse_none(&outcome.found, outcome.entries, one)?;
        return Ok((outcome.found, options.source.name(), Some(outcome.entries)));
    }
    if let [one] = &*options.source
        && Path::new(one).is_dir()
    {
        return Err(Failure::input(
            "the folder has no model",
            one,
            "give a folder with model.safetensors, and tokenizer.json or vocab.txt beside it",
        ));
    }
    let file = options.source.file(options.sha256.as_deref(), stage)?;
    let outcome = read_file(&file.path, &file.origin, vocabulary, kept, &stage.progress)
        .map_err(|e| file.explain(e))?;
    for warning in outcome.warnings {
        stage.progress.warn(warning);
    }
    Ok((outcome.found, options.source.name(), Some(outcome.entries)))
}

fn read_file<'v>(
    path: &Path,
    origin: &str,
    vocabulary: &'v Vocabulary,
    kept: &mut KeptWords<'_>,
    progress: &Progress,
) -> Result<reader::ReadOutcome<'v>> {
    let fail = |e: io::Error| Failure::io("read", path, &e);
    let mut file = File::open(path).map_err(fail)?;
    progress.begin("reading", Some(file.metadata().map_err(fail)?.len()), Unit::Bytes);
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(fail)?;
    file.rewind().map_err(fail)?;
    if magic.starts_with(b"PK\x03\x04") {
        return Err(Failure::input(
            "this is a zip archive",
            origin,
            "unpack it and give the vector file in it",
        ));
    }
    if magic.starts_with(b"\x1f\x8b") {
        let counted = Counted { inner: file, done: 0, progress };
        let unpacked = MultiGzDecoder::new(io::BufReader::with_capacity(1 << 17, counted));
        return reader::read(unpacked, origin, vocabulary, kept);
    }
    reader::read_file(&file, |done| progress.at(done, String::new), origin, vocabulary, kept)
}

/// Reports how much of the file has been read.
struct Counted<'p> {
    inner: File,
    done: u64,
    progress: &'p Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.done += n as u64;
        self.progress.at(self.done, String::new);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
