//! The files of the features.

use std::path::Path;

use failure::{Failure, Result};
use formats::table;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use serde::{Deserialize, Serialize};

use super::{Entry, Features};
use crate::analyzer::print_of;
use crate::options::{Block, NgramOptions};

/// The file that lists the features.
pub const VOCABULARY: &str = "vocabulary.parquet";
/// The file that describes them.
pub const DESCRIPTION: &str = "ngrams.json";

/// `ngrams.json`.
#[derive(Serialize, Deserialize)]
struct Description {
    options: NgramOptions,
    /// The number of train's texts, n in idf.
    texts: u64,
    columns: usize,
}

impl Features {
    /// Writes the vocabulary, or the counts of the columns, and the description into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(VOCABULARY);
        let is_listed = self.options.hash_bits.is_none();
        // An empty column of hashed n-grams need not be listed.
        let shown = || {
            self.blocks.iter().flat_map(move |of| {
                let numbered = (of.base..).zip(&of.entries).map(move |(i, e)| (of.block, i, e));
                numbered.filter(move |(.., entry)| is_listed || entry.texts > 0)
            })
        };
        let column = |name: &str, series: Series| Column::from(series.with_name(name.into()));
        let texts = |of: Vec<&str>| Series::new("".into(), of);
        let numbers = |of: Vec<u32>| Series::new("".into(), of);
        let mut columns =
            vec![column("block", texts(shown().map(|(block, ..)| block.name()).collect()))];
        if is_listed {
            let grams = shown().map(|(.., entry)| entry.gram.as_ref()).collect();
            columns.push(column("ngram", texts(grams)));
        }
        columns.push(column("index", numbers(shown().map(|(_, index, _)| index).collect())));
        columns.push(column("count", numbers(shown().map(|(.., e)| e.texts).collect())));
        let bug = |e: &dyn std::fmt::Display| {
            Failure::failed(e, path.display(), "this is a bug; please report it")
        };
        let height = shown().count();
        let mut frame = DataFrame::new(height, columns).map_err(|e| bug(&e))?;
        table::write(&path, &mut frame)?;
        let Self { options, texts, columns, .. } = self;
        let description =
            Description { options: options.clone(), texts: *texts, columns: *columns };
        let json = serde_json::to_string_pretty(&description).map_err(|e| bug(&e))?;
        let path = folder.join(DESCRIPTION);
        std::fs::write(&path, json + "\n").map_err(|e| Failure::io("write", &path, &e))
    }

    /// Reads what [`Features::write`] wrote.
    pub fn read(vocabulary: &Path, description: &Path) -> Result<Self> {
        let bytes = std::fs::read(description).map_err(|e| Failure::io("read", description, &e))?;
        let Description { options, texts, columns } = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::artifact(format_args!("not a description: {e}"), description))?;
        let wrong = |what: String| Failure::artifact(what, vocabulary);
        // Checked before anything is allocated for them.
        let kinds = options.blocks().count();
        let hashed = options.hash_bits.is_none_or(|bits| bits <= 22 && columns == kinds << bits);
        if !options.is_sound() || !hashed {
            return Err(Failure::artifact(
                "the options are not those of such features",
                description,
            ));
        }
        let mut blocks: Vec<(Block, Vec<Entry>)> = options
            .blocks()
            .map(|(block, _)| {
                let empty = || Entry { gram: Box::default(), print: 0, texts: 0 };
                let size = options.hash_bits.map_or(0, |bits| 1 << bits);
                (block, std::iter::repeat_with(empty).take(size).collect())
            })
            .collect();
        let is_listed = options.hash_bits.is_none();
        let names = ["block", "index", "count", "ngram"];
        let frame =
            table::read(vocabulary, names.get(..3 + usize::from(is_listed)).unwrap_or(&names))?;
        let number = |name: &str| {
            let column = frame.column(name).and_then(|column| column.u32().cloned());
            column.map_err(|e| wrong(format!("column `{name}`: {e}")))
        };
        let (indices, texts_of) = (number("index")?, number("count")?);
        let kinds = table::texts(&frame, "block", vocabulary)?;
        let grams = is_listed.then(|| table::texts(&frame, "ngram", vocabulary)).transpose()?;
        let mut grams = grams.map(polars::prelude::ChunkedArray::no_null_iter);
        let rows = kinds.no_null_iter().zip(indices.no_null_iter()).zip(texts_of.no_null_iter());
        let mut next = 0;
        for ((name, index), count) in rows {
            let place = blocks.iter().position(|(block, _)| block.name() == name);
            let gram = grams.as_mut().and_then(Iterator::next);
            let Some((place, (block, entries))) =
                place.and_then(|place| Some((place, blocks.get_mut(place)?)))
            else {
                return Err(wrong(format!("unknown block `{name}`")));
            };
            match (gram, options.hash_bits) {
                (Some(gram), _) => {
                    if index != next {
                        return Err(wrong(format!(
                            "n-gram `{gram}` has column {index}, not {next}"
                        )));
                    }
                    next += 1;
                    let print = print_of(*block, gram);
                    entries.push(Entry { gram: gram.into(), print, texts: count });
                }
                (None, bits) => {
                    let base = place << bits.unwrap_or_default();
                    let entry = (index as usize).checked_sub(base).and_then(|i| entries.get_mut(i));
                    let Some(entry) = entry else {
                        return Err(wrong(format!("block `{name}` has no column {index}")));
                    };
                    entry.texts = count;
                }
            }
        }
        let features = Self::new(options, texts, blocks);
        if features.columns == columns {
            Ok(features)
        } else {
            Err(wrong(format!(
                "{} columns, not the {columns} of the description",
                features.columns
            )))
        }
    }
}
