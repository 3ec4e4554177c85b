//! A net of a model, and its margins.

mod sequence;

use classifiers::calibration::Calibrator;
use classifiers::neighbours::{Index, IndexArrays, Search, Vote};
use classifiers::stacking::Stacking;
use encoders::{Batch, Pass};
use failure::Result;
use kernels::layers::{Dense, Layers};
use kernels::relu;
use schema::Calibration;

use crate::container::Container;
use crate::description::{BagTokens, BagWeights, NetDescription};
use crate::rows::{Precision, Rows};
use crate::seal::Damaged;

use sequence::Sequence;

/// A net, and how its margins become logits.
pub struct Calibrated {
    pub net: Net,
    pub calibrator: Calibrator,
}

/// A net.
pub enum Net {
    Sum(Sum),
    Neighbours(Vote, Box<Index>),
    Sequence(Box<Sequence>),
    Stack(Vec<Calibrated>, Stacking),
}

/// Weighted sums of rows and a bias, then layers.
pub struct Sum {
    pub bags: Vec<Bag>,
    pub bias: Vec<f32>,
    layers: Option<Layers>,
    relu_out: bool,
}

/// A weighted sum.
pub struct Bag {
    pub tokens: BagTokens,
    pub weights: BagWeights,
    pub rows: Rows,
}

/// The tokens of some texts.
#[derive(Default)]
pub struct Tokens {
    /// The columns of n-grams and their tf-idf, text after text.
    pub columns: Vec<u32>,
    pub values: Vec<f32>,
    /// Where the n-grams of each text end.
    pub ends: Vec<usize>,
    /// The places of known words, and where those of each text end.
    pub places: Vec<usize>,
    pub place_ends: Vec<usize>,
}

impl Tokens {
    pub fn clear(&mut self) {
        self.columns.clear();
        self.values.clear();
        self.ends.clear();
        self.places.clear();
        self.place_ends.clear();
    }

    /// How many texts there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The n-grams of a text.
    pub fn ngrams(&self, text: usize) -> (&[u32], &[f32]) {
        (part(&self.columns, &self.ends, text), part(&self.values, &self.ends, text))
    }

    /// The places of a text's known words.
    pub fn places(&self, text: usize) -> &[usize] {
        part(&self.places, &self.place_ends, text)
    }
}

/// The values of a text, for the ends of all texts.
fn part<'d, T>(values: &'d [T], ends: &[usize], text: usize) -> &'d [T] {
    let end = |text: usize| ends.get(text).copied();
    let start = text.checked_sub(1).map_or(Some(0), end);
    let range = start.zip(end(text)).map(|(start, end)| start..end).unwrap_or_default();
    values.get(range).unwrap_or_default()
}

/// The sizes that tensors must have.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub classes: usize,
    pub words: usize,
    pub ngrams: usize,
    pub precision: Precision,
}

impl Bag {
    /// The factor of all rows together, and whether each has its own value besides.
    fn scale(&self, values: &[f32]) -> (f32, bool) {
        let sum = |values: &[f32]| values.iter().sum::<f32>();
        match self.weights {
            BagWeights::Mean => (1.0 / values.len().max(1) as f32, false),
            BagWeights::Share => {
                (Some(sum(values)).filter(|s| *s > 0.0).map_or(0.0, f32::recip), true)
            }
            BagWeights::Tfidf => (1.0, true),
        }
    }

    /// Calls `take` with the number of each token's row and its weight. A bag of words has a row for
    /// each place, a bag of n-grams one for each column.
    pub fn each<E>(
        &self,
        tokens: &Tokens,
        text: usize,
        mut take: impl FnMut(usize, f32) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.tokens {
            BagTokens::Words => {
                let places = tokens.places(text);
                let weight = 1.0 / places.len().max(1) as f32;
                places.iter().try_for_each(|&place| take(place, weight))
            }
            BagTokens::Ngrams => {
                let (columns, values) = tokens.ngrams(text);
                let (scale, has_values) = self.scale(values);
                columns.iter().zip(values).try_for_each(|(&column, value)| {
                    take(column as usize, if has_values { scale * value } else { scale })
                })
            }
        }
    }
}

impl Sum {
    /// Puts the sums of a text, before any layer, into `to`.
    fn add(&self, tokens: &Tokens, text: usize, to: &mut [f32]) -> Result<(), Damaged> {
        to.copy_from_slice(&self.bias);
        for bag in &self.bags {
            let rows = bag.rows.view();
            if bag.tokens == BagTokens::Ngrams {
                tokens.ngrams(text).0.iter().for_each(|&column| rows.prefetch(column as usize));
            }
            bag.each(tokens, text, |row, weight| rows.add(row, weight, to))?;
        }
        Ok(())
    }

    /// Whether the logits are the sums themselves, so that each token's share of them is exact.
    pub const fn is_linear(&self) -> bool {
        self.layers.is_none() && !self.relu_out
    }
}

impl Net {
    /// The net whose tensors begin with `prefix`.
    pub fn read(
        file: &Container,
        prefix: &str,
        of: &NetDescription,
        sizes: Sizes,
        is_member: bool,
    ) -> Result<Self> {
        let name = |rest: &str| format!("{prefix}.{rest}");
        match of {
            NetDescription::Sum { bags, layers, order, relu_out } => {
                let bias = file.f32(&name("bias"), &[None])?.to_vec();
                let mut all = Vec::new();
                for (number, bag) in bags.iter().enumerate() {
                    let count = match bag.tokens {
                        BagTokens::Words => sizes.words,
                        BagTokens::Ngrams => sizes.ngrams,
                    };
                    let rows =
                        file.rows(&name(&format!("rows.{number}")), sizes.precision, count)?;
                    if rows.width() != bias.len() {
                        return Err(file.wrong("a table has other columns than the bias"));
                    }
                    all.push(Bag { tokens: bag.tokens, weights: bag.weights, rows });
                }
                let layers = read_layers(file, prefix, *layers, order, *relu_out)?;
                let outputs = layers.as_ref().map_or(bias.len(), Layers::outputs);
                let inputs = layers.as_ref().map_or(bias.len(), Layers::inputs);
                if outputs != sizes.classes || inputs != bias.len() {
                    return Err(file.wrong("the layers do not fit together"));
                }
                Ok(Self::Sum(Sum { bags: all, bias, layers, relu_out: *relu_out }))
            }
            NetDescription::Neighbours { k, power, smoothing } => {
                let vote = Vote { k: *k, power: *power, smoothing: *smoothing };
                let is_sound = *k > 0 && power.is_finite() && *smoothing > 0.0;
                let arrays = IndexArrays {
                    labels: file.u32(&name("labels"))?,
                    starts: file.u64(&name("starts"))?,
                    postings: file.columns(&name("postings"))?,
                    frequent: file.u32(&name("frequent"))?,
                    row_starts: file.u64(&name("row_starts"))?,
                    entries: file.columns(&name("entries"))?,
                    lengths: file.f32(&name("lengths"), &[None])?,
                };
                let fits = arrays.frequent.len() == sizes.ngrams
                    && arrays.labels.iter().all(|&label| (label as usize) < sizes.classes);
                match Index::from_arrays(arrays).filter(|_| fits && is_sound) {
                    Some(index) => Ok(Self::Neighbours(vote, Box::new(index))),
                    None => Err(file.wrong("the index of neighbours contradicts itself")),
                }
            }
            NetDescription::Sequence { dimension, encoder, hidden } => {
                let shape = (*dimension, encoder, *hidden);
                Ok(Self::Sequence(Box::new(Sequence::read(file, prefix, shape, sizes)?)))
            }
            NetDescription::Stack { members } if !is_member => {
                if members.is_empty() {
                    return Err(file.wrong("a stack has no members"));
                }
                let mut all = Vec::new();
                for (number, member) in members.iter().enumerate() {
                    let prefix = name(&number.to_string());
                    let net = Self::read(file, &prefix, &member.layers, sizes, true)?;
                    let calibrator = calibrator(file, &prefix, member.calibration, sizes.classes)?;
                    all.push(Calibrated { net, calibrator });
                }
                let stacking = read_stacking(file, prefix, sizes.classes, members.len())?;
                Ok(Self::Stack(all, stacking))
            }
            // So that reading ends.
            NetDescription::Stack { .. } => Err(file.wrong("a stack is a member of a stack")),
        }
    }

    /// Whether it or a member of it is of a kind.
    pub fn any(&self, is: &impl Fn(&Self) -> bool) -> bool {
        let in_members = match self {
            Self::Stack(members, _) => members.iter().any(|member| member.net.any(is)),
            _ => false,
        };
        is(self) || in_members
    }

    /// Whether it uses tokens of this sort.
    pub fn uses(&self, tokens: BagTokens) -> bool {
        self.any(&|net| match net {
            Self::Sum(sum) => sum.bags.iter().any(|bag| bag.tokens == tokens),
            Self::Neighbours(..) => tokens == BagTokens::Ngrams,
            Self::Sequence(_) => tokens == BagTokens::Words,
            Self::Stack(..) => false,
        })
    }

    /// What a thread needs to compute margins.
    pub fn desk(&self) -> NetDesk<'_> {
        let members = match self {
            Self::Stack(members, _) => members.iter().map(|member| member.net.desk()).collect(),
            _ => Vec::new(),
        };
        let search = match self {
            Self::Neighbours(_, index) => Some(Search::new(index)),
            _ => None,
        };
        let (batch, pass, sums) = (Batch::default(), Pass::default(), Vec::new());
        NetDesk { members, search, batch, pass, sums }
    }

    /// Puts the margins of all texts into `to`, in label order, text after text.
    pub fn margins(
        &self,
        classes: usize,
        tokens: &Tokens,
        desk: &mut NetDesk<'_>,
        to: &mut Vec<f32>,
    ) -> Result<(), Damaged> {
        to.clear();
        match self {
            Self::Sum(sum) => {
                let width = sum.bias.len();
                let sums = &mut desk.sums;
                sums.clear();
                sums.resize(tokens.count() * width, 0.0);
                for (text, row) in sums.chunks_exact_mut(width).enumerate() {
                    sum.add(tokens, text, row)?;
                }
                if sum.layers.is_some() || sum.relu_out {
                    for z in sums.iter_mut() {
                        *z = relu(*z);
                    }
                }
                match &sum.layers {
                    Some(layers) => layers.forward(sums, to),
                    None => std::mem::swap(sums, to),
                }
            }
            Self::Neighbours(vote, _) => {
                to.resize(tokens.count() * classes, 0.0);
                if let Some(search) = &mut desk.search {
                    for (text, to) in to.chunks_exact_mut(classes).enumerate() {
                        vote.margins(search, tokens.ngrams(text), None, to);
                    }
                }
            }
            Self::Sequence(of) => of.logits(tokens, desk, to)?,
            Self::Stack(members, regression) => {
                let width = members.len() * classes;
                let mut inputs = vec![0.0; tokens.count() * width];
                let mut margins = Vec::new();
                let desks = desk.members.iter_mut();
                for (number, (member, desk)) in members.iter().zip(desks).enumerate() {
                    member.net.margins(classes, tokens, desk, &mut margins)?;
                    let rows = inputs.chunks_exact_mut(width);
                    for (from, to) in margins.chunks_exact_mut(classes).zip(rows) {
                        member.calibrator.input(from);
                        if let Some(to) = to.get_mut(number * classes..(number + 1) * classes) {
                            to.copy_from_slice(from);
                        }
                    }
                }
                to.resize(tokens.count() * classes, 0.0);
                for (inputs, to) in inputs.chunks_exact(width).zip(to.chunks_exact_mut(classes)) {
                    regression.margins(inputs, to);
                }
            }
        }
        Ok(())
    }
}

/// What a thread computes margins with. It keeps its memory.
pub struct NetDesk<'n> {
    members: Vec<NetDesk<'n>>,
    search: Option<Search<'n>>,
    batch: Batch,
    pass: Pass,
    sums: Vec<f32>,
}

fn read_layers(
    file: &Container,
    prefix: &str,
    count: usize,
    order: &[usize],
    relu_out: bool,
) -> Result<Option<Layers>> {
    if order.is_empty() {
        return Ok(None);
    }
    let last = order.last().copied();
    let mut all = Vec::new();
    for number in 0..count.min(64) {
        let tensor = format!("{prefix}.layers.{number}");
        let bias = file.f32(&format!("{tensor}.bias"), &[None])?;
        let weight = file.f32(&format!("{tensor}.weight"), &[Some(bias.len()), None])?;
        let bias: Vec<f64> = bias.iter().copied().map(f64::from).collect();
        all.push(Dense::new(&weight, &bias, None, Some(number) != last || relu_out));
    }
    let layers = Layers::new(all, order.to_vec());
    layers.map(Some).ok_or_else(|| file.wrong("the layers do not fit together"))
}

fn read_stacking(
    file: &Container,
    prefix: &str,
    classes: usize,
    members: usize,
) -> Result<Stacking> {
    let shape = Stacking::shape(classes, members).map(Some);
    let weights = file.f32(&format!("{prefix}.weight"), &shape)?.to_vec();
    let bias = file.f32(&format!("{prefix}.bias"), &[Some(classes)])?.to_vec();
    let stacking = Stacking::new(weights, bias, members);
    stacking.ok_or_else(|| file.wrong("a regression does not fit the classes"))
}

/// The calibrator whose regression, if there is one, has tensors that begin with `prefix`.
pub fn calibrator(
    file: &Container,
    prefix: &str,
    calibration: Calibration,
    classes: usize,
) -> Result<Calibrator> {
    let regression = match calibration.of_regression {
        None => None,
        Some(_) => Some(read_stacking(file, &format!("{prefix}.calibration"), classes, 1)?),
    };
    Calibrator::new(calibration, regression)
        .map_err(|factor| file.wrong(format_args!("the factor {factor} is not a positive number")))
}
