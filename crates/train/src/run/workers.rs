//! Workers: in each epoch, each worker trains the same weights on rows of its own, and the next epoch
//! starts with the mean of their weights. This is local SGD (Stich, "Local SGD Converges Fast and
//! Communicates Little", ICLR 2019) with one epoch between two means.
//!
//! How many workers there are is an option of the run, so that one process, which does their work in
//! turn, and processes on many machines give the same bytes. What an optimizer remembers is averaged
//! like the weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::Arrays;
use nets::{Net, file};
use schema::Score;
use stage::shards::share;

use crate::data::Data;
use crate::epoch::{EpochData, EpochError};
use crate::optimizer::Optimizer;
use crate::random::Random;
use crate::run::checkpoint;
use crate::run::fit::Plan;
use crate::run::order;

/// The workers of a run.
#[derive(Clone, Copy)]
pub struct Workers<'w> {
    pub count: usize,
    /// The seed of their orders.
    pub seed: u64,
    /// What other processes have done; without, the workers train here.
    pub left: Option<Left<'w>>,
}

/// What other processes have done of an epoch.
#[derive(Clone, Copy)]
pub struct Left<'w> {
    /// The file with the mean of its workers.
    pub mean: &'w dyn Fn(u32) -> Result<PathBuf>,
    /// The scores of that mean on train and valid.
    pub scores: &'w dyn Fn(u32) -> Result<(Score, Score)>,
}

/// An epoch by all workers.
pub fn train_epoch(
    net: &mut Net,
    optimizer: &mut Optimizer,
    data: &Data,
    plan: &Plan<'_>,
    (epoch, rows): (u32, &[u32]),
) -> Result<(), WorkerError> {
    let steps = optimizer.steps;
    let count = plan.workers.count;
    if let Some(left) = plan.workers.left {
        set_mean(net, optimizer, &[(left.mean)(epoch)?])?;
    } else {
        let start = values(net, optimizer)?;
        let mut mean = Mean::default();
        for worker in 0..count {
            set(net, optimizer, start.clone())?;
            optimizer.steps = steps;
            let block = rows.get(share(rows.len(), count, worker)).unwrap_or_default().to_vec();
            train_worker(net, optimizer, data, plan, (epoch, worker), block)?;
            mean.add(values(net, optimizer)?);
        }
        set(net, optimizer, mean.values())?;
    }
    // The most that a worker has taken.
    let most = plan.rows(data).div_ceil(count).div_ceil(plan.settings.batch_size);
    optimizer.steps = steps + most as u64;
    Ok(())
}

/// Fills net and optimizer with the mean of what workers have left in files.
pub fn set_mean(
    net: &mut Net,
    optimizer: &mut Optimizer,
    of: &[PathBuf],
) -> Result<(), WorkerError> {
    let mut mean = Mean::default();
    for path in of {
        mean.add(read(path, net, optimizer)?);
    }
    Ok(set(net, optimizer, mean.values())?)
}

/// An epoch by one worker, on its block of the rows. A worker reads no other rows.
pub fn train_worker(
    net: &mut Net,
    optimizer: &mut Optimizer,
    data: &Data,
    plan: &Plan<'_>,
    (epoch, worker): (u32, usize),
    mut order: Vec<u32>,
) -> Result<(), WorkerError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut random = Random::of_worker(plan.workers.seed, epoch, worker);
    if plan.shuffle {
        random.shuffle(&mut order);
        if plan.by_length {
            let length = |row| data.train.length(row);
            order::by_length(&mut order, plan.settings.batch_size, length, &mut random);
        }
    }
    let lr = plan.schedule.rate(epoch);
    let rows = EpochData { part: &data.train, order: &order, lr };
    let engine = plan.engine;
    engine.train_epoch(plan.settings, net, optimizer, &mut random, rows).map_err(WorkerError::Epoch)
}

/// Why an epoch by workers failed.
pub enum WorkerError {
    /// As without workers.
    Epoch(EpochError),
    /// What a worker left cannot be read.
    Left(Failure),
}

impl WorkerError {
    /// Explains the error to the user.
    pub fn explain(self, node: &str, epoch: u32) -> Failure {
        match self {
            Self::Epoch(error) => error.explain(node, &format!("{node}, epoch {epoch}")),
            Self::Left(failure) => failure,
        }
    }
}

impl From<EpochError> for WorkerError {
    fn from(error: EpochError) -> Self {
        Self::Epoch(error)
    }
}

impl From<candle_core::Error> for WorkerError {
    fn from(error: candle_core::Error) -> Self {
        Self::Epoch(error.into())
    }
}

impl From<Failure> for WorkerError {
    fn from(failure: Failure) -> Self {
        Self::Left(failure)
    }
}

type Named = BTreeMap<String, Vec<f32>>;

/// The mean of the workers' values, added up in their order.
#[derive(Default)]
struct Mean {
    sums: BTreeMap<String, Vec<f64>>,
    count: u32,
}

impl Mean {
    fn add(&mut self, values: Named) {
        self.count += 1;
        for (name, values) in values {
            let sums = self.sums.entry(name).or_insert_with(|| vec![0.0; values.len()]);
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value));
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    fn values(self) -> Named {
        let count = f64::from(self.count);
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / count) as f32).collect();
        self.sums.into_iter().map(|(name, sums)| (name, mean(sums))).collect()
    }
}

/// The weights, and what the optimizer remembers.
fn values(net: &Net, optimizer: &Optimizer) -> candle_core::Result<Named> {
    checkpoint::tensors(net, optimizer)
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?)))
        .collect()
}

fn set(net: &mut Net, optimizer: &mut Optimizer, values: Named) -> candle_core::Result<()> {
    for (name, values) in values {
        match name.strip_prefix(checkpoint::OPTIMIZER) {
            Some(name) => optimizer.set(name, values)?,
            None => net.set(&name, values)?,
        }
    }
    Ok(())
}

/// Writes what a worker has trained.
pub fn write(path: &Path, net: &Net, optimizer: &Optimizer) -> Result<()> {
    file::write(path, &checkpoint::tensors(net, optimizer), None)
}

fn read(path: &Path, net: &Net, optimizer: &Optimizer) -> Result<Named> {
    let shapes = file::shapes(&checkpoint::tensors(net, optimizer));
    file::read(&Arrays::read(path)?, path, &shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_exact_sums() {
        let mut mean = Mean::default();
        for value in [1e8_f32, 1.0, -1e8, 3.0] {
            mean.add(BTreeMap::from([("w".to_owned(), vec![value, 2.0])]));
        }
        assert_eq!(mean.values(), BTreeMap::from([("w".to_owned(), vec![1.0, 2.0])]));
    }
}
