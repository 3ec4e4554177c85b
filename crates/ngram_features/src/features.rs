//! The features: which column an n-gram has, and its weight.

#[cfg(feature = "tables")]
mod files;

use formats::arrays::Values;
use kernels::simd::prefetch;

use crate::fingerprint::bucket;
use crate::options::{Block, NgramOptions};
use crate::print_table::{PrintTable, PrintView};

#[cfg(feature = "tables")]
pub use files::{DESCRIPTION, VOCABULARY};

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
    /// How many columns there are.
    count: usize,
    /// The n-grams; none if the features come from a [`ColumnTable`].
    entries: Vec<Entry>,
    /// The weight of each column; none if a table has the weights.
    idf: Values<f32>,
    table: Table,
}

/// What one kind of n-gram is looked up in, as it lies in a file.
pub enum ColumnTable {
    /// A column's number and the bits of its weight by fingerprint.
    Listed(PrintTable),
    /// The weight of each column of hashed n-grams.
    Hashed(Values<f32>),
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
                    Table::None
                } else {
                    let prints = entries.iter().map(|entry| entry.print);
                    Table::InMemory(SlotTable::new(prints.zip(idf.iter().copied())))
                };
                let count = entries.len();
                FeatureBlock { block, range, base, count, entries, idf: idf.into(), table }
            })
            .collect();
        Self { options, texts, blocks, columns }
    }

    /// Features with the tables of others, and how many columns each table has. `None` if there is
    /// not one table for each kind of n-gram that the options name, or if it is of another sort.
    pub fn from_tables(options: NgramOptions, tables: Vec<(usize, ColumnTable)>) -> Option<Self> {
        let of_options: Vec<(Block, [usize; 2])> = options.blocks().collect();
        if of_options.len() != tables.len() || !options.is_sound() {
            return None;
        }
        // Finite, and not negative.
        let is_weight = |bits: u32| (0.0..=f32::MAX).contains(&f32::from_bits(bits));
        let mut columns = 0;
        let mut blocks = Vec::new();
        for ((block, range), (count, table)) in of_options.into_iter().zip(tables) {
            let (idf, table) = match (table, options.hash_bits) {
                (ColumnTable::Listed(table), None)
                    if table.is_below(count) && table.entries.iter().all(|e| is_weight(e[2])) =>
                {
                    (Vec::new().into(), Table::InFile(table))
                }
                (ColumnTable::Hashed(idf), Some(bits))
                    if idf.len() == count
                        && count == 1 << bits
                        && idf.iter().all(|idf| is_weight(idf.to_bits())) =>
                {
                    (idf, Table::None)
                }
                _ => return None,
            };
            let base = u32::try_from(columns).ok()?;
            columns = usize::checked_add(columns, count)?;
            blocks.push(FeatureBlock {
                block,
                range,
                base,
                count,
                entries: Vec::new(),
                idf,
                table,
            });
        }
        Some(Self { options, texts: 0, blocks, columns })
    }

    /// What each kind of n-gram is looked up in, for a file, with its number of columns.
    pub fn tables(&self) -> impl Iterator<Item = (Block, usize, ColumnTable)> + '_ {
        self.blocks.iter().map(|of| {
            let table = if self.options.hash_bits.is_some() {
                ColumnTable::Hashed(of.idf.to_vec().into())
            } else {
                let numbered = (0..).zip(&of.entries).zip(&*of.idf);
                let all = numbered.map(|((place, e), idf)| (e.print, [0, place, idf.to_bits()]));
                ColumnTable::Listed(PrintTable::build(all))
            };
            (of.block, of.count, table)
        })
    }

    /// Each n-gram's kind, column, fingerprint and idf; of hashed n-grams, each column's number in its
    /// kind in place of a fingerprint. None if the features come from a [`ColumnTable`].
    pub fn entries(&self) -> impl Iterator<Item = (Block, u32, u64, f32)> + '_ {
        let is_hashed = self.options.hash_bits.is_some();
        self.blocks.iter().flat_map(move |of| {
            let all = (of.base..).zip(&of.entries).zip(&*of.idf);
            all.map(move |((column, entry), &idf)| {
                let key = if is_hashed { u64::from(column - of.base) } else { entry.print };
                (of.block, column, key, idf)
            })
        })
    }

    /// How many columns there are.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Each kind of n-gram and its number of columns.
    pub fn sizes(&self) -> impl Iterator<Item = (Block, usize)> + '_ {
        self.blocks.iter().map(|of| (of.block, of.count))
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
        self.blocks.iter().map(|of| {
            let table = match (&of.table, self.options.hash_bits) {
                (_, Some(bits)) => TableView::Hashed(bits),
                (Table::InMemory(table), None) => TableView::InMemory(table),
                (Table::InFile(table), None) => TableView::InFile(table.view()),
                (Table::None, None) => TableView::None,
            };
            (of.block, of.range, BlockLookup { table, idf: &of.idf, base: of.base })
        })
    }
}

/// Finds the columns of one kind of n-gram.
#[derive(Clone, Copy)]
pub(crate) struct BlockLookup<'f> {
    table: TableView<'f>,
    idf: &'f [f32],
    base: u32,
}

#[derive(Clone, Copy)]
enum TableView<'f> {
    InMemory(&'f SlotTable),
    InFile(PrintView<'f>),
    Hashed(u32),
    None,
}

impl BlockLookup<'_> {
    /// What an n-gram is looked up by, from its fingerprint. What is looked at first is prefetched.
    #[inline]
    pub fn begin(&self, print: u64) -> u64 {
        match &self.table {
            TableView::Hashed(bits) => prefetch(one(self.idf, bucket(print, *bits) as usize)),
            TableView::InMemory(table) => prefetch(one(&table.slots, table.start(print))),
            TableView::InFile(table) => {
                let hash = table.hash(print);
                table.prefetch(hash);
                return hash;
            }
            TableView::None => {}
        }
        print
    }

    /// Prefetches what is looked at then.
    #[inline]
    pub fn continue_with(&self, begun: &[u64]) {
        if let TableView::InFile(table) = &self.table {
            for &hash in begun {
                table.prefetch_entries(hash);
            }
        }
    }

    /// The column of an n-gram, counted from the block's first, and its weight.
    #[inline]
    pub fn end(&self, begun: u64) -> Option<(u32, f32)> {
        match &self.table {
            TableView::Hashed(bits) => {
                let place = bucket(begun, *bits);
                Some((place, self.idf(place)))
            }
            TableView::InMemory(table) => table.find(begun),
            TableView::InFile(table) => {
                table.find_hash(begun).map(|&[_, place, idf]| (place, f32::from_bits(idf)))
            }
            TableView::None => None,
        }
    }

    /// The same for one n-gram, from its fingerprint.
    pub fn find(&self, print: u64) -> Option<(u32, f32)> {
        self.end(self.begin(print))
    }

    /// The weight of a column.
    #[inline]
    pub fn idf(&self, place: u32) -> f32 {
        self.idf.get(place as usize).copied().unwrap_or_default()
    }

    /// The column among all.
    #[inline]
    pub const fn column(&self, place: u32) -> u32 {
        self.base + place
    }
}

fn one<T>(values: &[T], at: usize) -> &[T] {
    values.get(at..=at).unwrap_or_default()
}

enum Table {
    InMemory(SlotTable),
    InFile(PrintTable),
    /// Hashed n-grams need none.
    None,
}

/// A hash table from fingerprints to places and weights, at most half full.
struct SlotTable {
    slots: Vec<Slot>,
    shift: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    print: u64,
    place: u32,
    idf: f32,
}

impl SlotTable {
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
