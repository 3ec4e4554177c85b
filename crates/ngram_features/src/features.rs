//! The features: which column an n-gram has, and its weight.

use std::path::Path;

use failure::{Failure, Result};
use formats::table;
use kernels::simd::prefetch;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use serde::{Deserialize, Serialize};

use crate::analyzer::print_of;
use crate::count::bucket;
use crate::options::{Block, NgramOptions};

/// The file that lists the features.
pub const VOCABULARY: &str = "vocabulary.parquet";
/// The file that describes them.
pub const DESCRIPTION: &str = "ngrams.json";

/// An n-gram of the vocabulary, or a column of hashed n-grams.
pub struct Entry {
    pub gram: Box<str>,
    pub print: u64,
    /// In how many texts of train it is.
    pub texts: u32,
}

/// What is known of each feature, from the texts of train.
pub struct Features {
    /// What they are.
    pub options: NgramOptions,
    /// How many texts were counted.
    texts: u64,
    blocks: Vec<FeatureBlock>,
    columns: usize,
}

struct FeatureBlock {
    block: Block,
    range: [usize; 2],
    /// The first column.
    base: u32,
    entries: Vec<Entry>,
    /// The weight of each column.
    idf: Vec<f32>,
    table: Table,
}

/// `ngrams.json`.
#[derive(Serialize, Deserialize)]
struct Description {
    options: NgramOptions,
    /// The number of train's texts, n in idf.
    texts: u64,
    columns: usize,
}

impl Features {
    /// The features with these entries; the columns follow their order.
    pub(crate) fn new(options: NgramOptions, texts: u64, blocks: Vec<(Block, Vec<Entry>)>) -> Self {
        let mut columns = 0;
        let ranges: Vec<(Block, [usize; 2])> = options.blocks().collect();
        let blocks = blocks
            .into_iter()
            .map(|(block, entries)| {
                let base = small(columns);
                columns += entries.len();
                let weight = |entry: &Entry| {
                    let of = (1.0 + texts as f64) / (1.0 + f64::from(entry.texts));
                    let idf = if options.idf { of.ln() + 1.0 } else { 1.0 };
                    // Hashing leaves the columns of rare and unknown n-grams in place.
                    let left_out =
                        options.hash_bits.is_some() && entry.texts < options.min_count.max(1);
                    if left_out { 0.0 } else { narrow(idf) }
                };
                let idf: Vec<f32> = entries.iter().map(weight).collect();
                let range = ranges.iter().find(|(of, _)| *of == block).map_or([1, 1], |of| of.1);
                let table = if options.hash_bits.is_some() {
                    Table::default()
                } else {
                    Table::new(entries.iter().map(|entry| entry.print).zip(idf.iter().copied()))
                };
                FeatureBlock { block, range, base, entries, idf, table }
            })
            .collect();
        Self { options, texts, blocks, columns }
    }

    /// How many columns there are.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Each kind of n-gram and its number of columns.
    pub fn sizes(&self) -> impl Iterator<Item = (Block, usize)> + '_ {
        self.blocks.iter().map(|of| (of.block, of.entries.len()))
    }

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
        let is_small = |of: (Block, [usize; 2])| {
            (1..=64).contains(&of.1[0]) && of.1[0] <= of.1[1] && of.1[1] <= 64
        };
        let kinds = options.blocks().count();
        let hashed = options
            .hash_bits
            .is_none_or(|bits| (1..=22).contains(&bits) && columns == kinds << bits);
        if !hashed || !options.blocks().all(is_small) {
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

    /// The n-grams in the order of their columns; none if they are hashed.
    pub fn names(&self) -> impl Iterator<Item = (Block, &str)> {
        self.blocks
            .iter()
            .filter(|_| self.options.hash_bits.is_none())
            .flat_map(|of| of.entries.iter().map(|entry| (of.block, entry.gram.as_ref())))
    }

    /// The kinds of n-grams with their ranges, and how each is looked up.
    pub(crate) fn lookups(&self) -> impl Iterator<Item = (Block, [usize; 2], BlockLookup<'_>)> {
        self.blocks
            .iter()
            .map(|of| (of.block, of.range, BlockLookup { of, bits: self.options.hash_bits }))
    }
}

/// Finds the columns of one kind of n-gram.
#[derive(Clone, Copy)]
pub(crate) struct BlockLookup<'f> {
    of: &'f FeatureBlock,
    bits: Option<u32>,
}

impl BlockLookup<'_> {
    /// The column of an n-gram, counted from the block's first, and its weight.
    #[inline]
    pub fn find(&self, print: u64) -> Option<(u32, f32)> {
        match self.bits {
            Some(bits) => {
                let place = bucket(print, bits);
                Some((place, self.idf(place)))
            }
            None => self.of.table.find(print),
        }
    }

    /// Prefetches what `find` will look at.
    #[inline]
    pub fn prefetch(&self, print: u64) {
        match self.bits {
            Some(bits) => prefetch(one(&self.of.idf, bucket(print, bits) as usize)),
            None => prefetch(one(&self.of.table.slots, self.of.table.start(print))),
        }
    }

    /// The weight of a column.
    #[inline]
    pub fn idf(&self, place: u32) -> f32 {
        self.of.idf.get(place as usize).copied().unwrap_or_default()
    }

    /// The column among all.
    #[inline]
    pub const fn column(&self, place: u32) -> u32 {
        self.of.base + place
    }
}

fn one<T>(values: &[T], at: usize) -> &[T] {
    values.get(at..=at).unwrap_or_default()
}

/// A hash table from fingerprints to places and weights, at most half full.
#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    shift: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    print: u64,
    place: u32,
    idf: f32,
}

impl Table {
    fn new(entries: impl ExactSizeIterator<Item = (u64, f32)>) -> Self {
        let size = (2 * entries.len().max(1)).next_power_of_two();
        let mut table =
            Self { slots: vec![Slot::default(); size], shift: u64::BITS - size.trailing_zeros() };
        for ((print, idf), place) in entries.zip(0..) {
            let mut at = table.start(print);
            // Of two n-grams with one fingerprint, the first counts.
            while table.slots.get(at).is_some_and(|slot| slot.print != 0 && slot.print != print) {
                at = (at + 1) & (size - 1);
            }
            if let Some(slot) = table.slots.get_mut(at).filter(|slot| slot.print == 0) {
                *slot = Slot { print, place, idf };
            }
        }
        table
    }

    #[inline]
    fn start(&self, print: u64) -> usize {
        usize::try_from(print >> self.shift).unwrap_or_default()
    }

    #[inline]
    fn find(&self, wanted: u64) -> Option<(u32, f32)> {
        let mut at = self.start(wanted);
        loop {
            let &Slot { print, place, idf } = self.slots.get(at)?;
            if print == wanted {
                return Some((place, idf));
            }
            if print == 0 {
                return None;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// A column's number.
fn small(column: usize) -> u32 {
    u32::try_from(column).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "features are f32")]
pub(crate) const fn narrow(value: f64) -> f32 {
    value as f32
}
