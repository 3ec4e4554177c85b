//! The words that a model knows, and their vectors.

use std::path::Path;

use failure::{Failure, Result};
use formats::arrays::Values;
use formats::{Arrays, table};
use model::{ModelWriter, WordsBuilder, WordsDescription};
use tokenizer::Tokenizer;

/// The words: those of the data, then others of the vector file.
pub struct Words {
    /// Each with the number of its vector; the data's come first.
    all: Vec<(String, usize)>,
    /// How many are the data's.
    pub of_data: usize,
    /// The vectors of the data's words, and of the others.
    vectors: [Values; 2],
    /// Components of a vector.
    pub dimension: usize,
    /// The value of `embed.lowercase`.
    pub lowercase: &'static str,
    /// The tokenizer's file.
    tokenizer: Vec<u8>,
    kind: &'static str,
}

impl Words {
    /// Reads the artifacts of `embed`, and keeps `most` words.
    pub fn read(embed: &Path, most: Option<usize>) -> Result<Self> {
        let path = embed.join("vectors.safetensors");
        let lowercase = lowercase(&path)?;
        let (mut all, vectors, dimension) = read(embed, "vocabulary.parquet", &path, true)?;
        let path = embed.join("more-vectors.safetensors");
        let (others, other_vectors, of_others) =
            read(embed, "more-vocabulary.parquet", &path, false)?;
        if dimension != of_others {
            let what = format_args!("vectors of {of_others} components, not {dimension}");
            return Err(Failure::artifact(what, &path));
        }
        if let Some(most) = most {
            // The most frequent ones, in the order in which they were.
            let mut by_count: Vec<usize> = (0..all.len()).collect();
            by_count.sort_by_key(|&at| std::cmp::Reverse(all.get(at).map_or(0, |word| word.2)));
            by_count.truncate(most);
            by_count.sort_unstable();
            all = by_count.into_iter().filter_map(|at| all.get(at).cloned()).collect();
        }
        let of_data = all.len();
        let room = most.map_or(usize::MAX, |most| most - of_data.min(most));
        all.extend(others.into_iter().take(room));
        let path = embed.join(Tokenizer::FILE);
        let kind = match Tokenizer::read(&path)? {
            Tokenizer::Exercise => "exercise",
            Tokenizer::Whitespace => "whitespace",
            Tokenizer::Source(_) => "source",
        };
        let tokenizer = std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?;
        let all = all.into_iter().map(|(word, row, _)| (word, row)).collect();
        let vectors = [vectors, other_vectors];
        Ok(Self { all, of_data, vectors, dimension, lowercase, tokenizer, kind })
    }

    /// How many words the data has, whether they are kept or not.
    pub fn rows_of_data(&self) -> usize {
        self.vectors.first().map_or(0, |all| all.len() / self.dimension)
    }

    /// Calls `take` with the row of each word's vector if it is the data's, and the vector.
    pub fn each(&self, mut take: impl FnMut(Option<usize>, &[f32])) {
        for (at, &(_, row)) in self.all.iter().enumerate() {
            let is_other = at >= self.of_data;
            let vectors = self.vectors.get(usize::from(is_other));
            let place = row * self.dimension..(row + 1) * self.dimension;
            let vector = vectors.and_then(|all| all.get(place)).unwrap_or_default();
            take((!is_other).then_some(row), vector);
        }
    }

    /// The words, each followed by a line feed.
    pub fn text(&self) -> String {
        self.all.iter().flat_map(|(word, _)| [word.as_str(), "\n"]).collect()
    }

    /// Adds the words to a model.
    pub fn write(&self, to: &mut ModelWriter<'_>) -> WordsDescription {
        let mut words = WordsBuilder::default();
        self.all.iter().for_each(|(word, _)| words.push(word));
        words.finish(to)
    }

    /// Adds the tokenizer to a model, if it needs more than its name, which is returned.
    pub fn write_tokenizer(&self, to: &mut ModelWriter<'_>) -> &'static str {
        if self.kind == "source" {
            to.u8("tokenizer", self.tokenizer.clone());
        }
        self.kind
    }
}

/// The letter case in which words were looked up.
fn lowercase(vectors: &Path) -> Result<&'static str> {
    let Some(note) = Arrays::map(vectors)?.note()? else { return Ok("never") };
    let note: serde_json::Value = serde_json::from_str(&note).unwrap_or_default();
    let name = note.get("lowercase").and_then(serde_json::Value::as_str);
    let known = ["never", "fallback", "always"].into_iter().find(|known| Some(*known) == name);
    known
        .ok_or_else(|| Failure::artifact("the metadata has no known value of `lowercase`", vectors))
}

/// A word, the number of its vector, and how often the data has it.
type Word = (String, usize, u32);

/// Reads a table of words and their vectors, and checks that they fit together.
fn read(
    embed: &Path,
    vocabulary: &str,
    vectors: &Path,
    has_counts: bool,
) -> Result<(Vec<Word>, Values, usize)> {
    let (shape, values) = Arrays::map(vectors)?.into_f32("vectors", &[None, None])?;
    let [count, dimension] = shape[..] else {
        return Err(Failure::artifact("array `vectors` is not a matrix", vectors));
    };
    let path = embed.join(vocabulary);
    let columns = ["word", "row", "count"];
    let columns = columns.get(..2 + usize::from(has_counts)).unwrap_or(&columns);
    let frame = table::read(&path, columns)?;
    let numbers = |name: &str| {
        let column = frame.column(name).and_then(|column| column.u32().cloned());
        column.map_err(|e| Failure::artifact(format_args!("column `{name}`: {e}"), &path))
    };
    let rows = numbers("row")?;
    let counts = if has_counts { Some(numbers("count")?) } else { None };
    let mut counts = counts.iter().flat_map(polars::prelude::ChunkedArray::no_null_iter);
    let words = table::texts(&frame, "word", &path)?;
    let mut all = Vec::with_capacity(count);
    for (word, row) in words.no_null_iter().zip(rows.no_null_iter()) {
        let row = row as usize;
        if row >= count || dimension == 0 {
            let what = format_args!("word `{word}` has row {row}, but there are {count} rows");
            return Err(Failure::artifact(what, &path));
        }
        all.push((word.to_owned(), row, counts.next().unwrap_or_default()));
    }
    Ok((all, values, dimension))
}
