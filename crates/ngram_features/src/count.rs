//! Counts in how many texts each n-gram is.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::analyzer::Analyzer;
use crate::features::{Entry, Features};
use crate::fingerprint::bucket;
use crate::options::{Block, NgramOptions};

/// A hasher for fingerprints, which are hashes already.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash << 8 | u64::from(byte));
    }
    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}

struct Seen {
    texts: u32,
    /// The last text that had it.
    last: u32,
    gram: Box<str>,
}

enum Counts {
    Listed(HashMap<u64, Seen, BuildHasherDefault<AsItIs>>),
    /// Texts, and the last text, by column.
    Hashed(Vec<(u32, u32)>),
}

/// Counts texts. Several counters, each with a share of the texts, can be merged.
pub struct Counter {
    options: NgramOptions,
    analyzer: Analyzer,
    blocks: Vec<(Block, [usize; 2], Counts)>,
    /// How many texts there were.
    texts: u32,
}

impl Counter {
    /// A counter that has seen no text.
    pub fn new(options: &NgramOptions) -> Self {
        let counts = || match options.hash_bits {
            None => Counts::Listed(HashMap::default()),
            Some(bits) => Counts::Hashed(vec![(0, 0); 1 << bits]),
        };
        let blocks = options.blocks().map(|(block, range)| (block, range, counts())).collect();
        Self { options: options.clone(), analyzer: Analyzer::default(), blocks, texts: 0 }
    }

    /// Counts a text.
    pub fn add(&mut self, text: &str) {
        let Self { options, analyzer, blocks, texts } = self;
        *texts += 1;
        analyzer.read(text, options);
        for (block, range, counts) in blocks {
            match counts {
                Counts::Listed(all) => analyzer.each(*block, *range, |gram| {
                    let seen = all.entry(gram.print).or_insert_with(|| Seen {
                        texts: 0,
                        last: 0,
                        gram: analyzer.text(*block, gram).into(),
                    });
                    if seen.last != *texts {
                        seen.last = *texts;
                        seen.texts += 1;
                    }
                }),
                Counts::Hashed(all) => {
                    let bits = options.hash_bits.unwrap_or_default();
                    analyzer.each(*block, *range, |gram| {
                        if let Some((count, last)) = all.get_mut(bucket(gram.print, bits) as usize)
                            && *last != *texts
                        {
                            *last = *texts;
                            *count += 1;
                        }
                    });
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.texts += other.texts;
        for ((.., mine), (.., theirs)) in self.blocks.iter_mut().zip(other.blocks) {
            match (mine, theirs) {
                (Counts::Listed(mine), Counts::Listed(theirs)) => {
                    for (print, seen) in theirs {
                        let of = mine.entry(print).or_insert_with(|| Seen {
                            texts: 0,
                            last: 0,
                            gram: seen.gram.clone(),
                        });
                        of.texts += seen.texts;
                        // Of two n-grams with one fingerprint, the name must not depend on the
                        // threads.
                        if seen.gram < of.gram {
                            of.gram = seen.gram;
                        }
                    }
                }
                (Counts::Hashed(mine), Counts::Hashed(theirs)) => {
                    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| mine.0 += theirs.0);
                }
                _ => {}
            }
        }
    }

    /// The features that the counted texts give.
    pub fn finish(mut self, others: impl IntoIterator<Item = Self>) -> Features {
        others.into_iter().for_each(|other| self.merge(other));
        let least = self.options.min_count;
        let texts = u64::from(self.texts);
        let blocks = self.blocks.into_iter().map(|(block, _, counts)| {
            let entries = match counts {
                Counts::Listed(all) => {
                    let kept = all.into_iter().filter(|(_, seen)| seen.texts >= least);
                    let mut kept: Vec<Entry> = kept
                        .map(|(print, seen)| Entry { gram: seen.gram, print, texts: seen.texts })
                        .collect();
                    kept.sort_unstable_by(|a, b| a.gram.cmp(&b.gram));
                    kept
                }
                // A rare one gets no weight, so that columns stay where they are.
                Counts::Hashed(all) => all
                    .into_iter()
                    .map(|(count, _)| Entry {
                        gram: Box::default(),
                        print: 0,
                        texts: if count >= least { count } else { 0 },
                    })
                    .collect(),
            };
            (block, entries)
        });
        let blocks = blocks.collect();
        Features::new(self.options, texts, blocks)
    }
}
