//! Trains a classifier with another crate, and prints the seconds of training and the accuracy as
//! JSON.
//!
//! `peers fasttext TRAIN SCORED THREADS`: the crate `fasttext`, on files in fastText's format.
//! `peers liblinear TRAIN SCORED C`: the crate `liblinear`, on the sparse rows of the stage `ngrams`.

use std::error::Error;
use std::fs;
use std::time::Instant;

use fasttext::args::Args;
use fasttext::FastText;
use liblinear::util::{PredictionInput, TrainingInput};
use liblinear::{Builder, LibLinearModel, SolverType};
use safetensors::SafeTensors;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, train, scored, number] = &arguments[..] else {
        return Err("usage: peers fasttext|liblinear TRAIN SCORED NUMBER".into());
    };
    let (seconds, right, all) = match what.as_str() {
        "fasttext" => by_fasttext(train, scored, number.parse()?)?,
        "liblinear" => by_liblinear(train, scored, number.parse()?)?,
        _ => return Err(format!("there is no peer `{what}`").into()),
    };
    println!("{{\"seconds\": {seconds}, \"accuracy\": {}}}", right as f64 / all as f64);
    Ok(())
}

/// The options are those that the benchmark gives fastText itself.
fn by_fasttext(train: &str, scored: &str, threads: i32) -> Result<(f64, usize, usize)> {
    let mut args = Args::new();
    args.word_ngrams = 2;
    args.apply_supervised_defaults();
    (args.lr, args.epoch, args.dim, args.seed, args.thread) = (0.5, 25, 100, 1, threads);
    (args.input, args.output, args.verbose) = (train.into(), "/dev/null".into(), 0);
    let start = Instant::now();
    let model = FastText::train(args)?;
    let seconds = start.elapsed().as_secs_f64();
    let text = fs::read_to_string(scored)?;
    let (mut right, mut all) = (0, 0);
    for line in text.lines() {
        let (label, text) = line.split_once(' ').unwrap_or((line, ""));
        let found = model.predict(text, 1, 0.0);
        right += usize::from(found.first().is_some_and(|first| first.label == label));
        all += 1;
    }
    Ok((seconds, right, all))
}

/// Rows of columns, counted from 1, and values; and their labels.
type Rows = (Vec<Vec<(u32, f64)>>, Vec<f64>);

fn rows(path: &str) -> Result<Rows> {
    let bytes = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let whole = |name: &str| -> Result<Vec<i64>> {
        let data = tensors.tensor(name)?;
        Ok(data.data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect())
    };
    let (ends, labels) = (whole("indptr")?, whole("y")?);
    let (columns, values) = (tensors.tensor("indices")?, tensors.tensor("values")?);
    let columns = columns.data().as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b) + 1);
    let values = values.data().as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b)));
    let mut entries = columns.zip(values);
    let rows = ends.windows(2).map(|ends| {
        entries.by_ref().take(usize::try_from(ends[1] - ends[0]).unwrap_or(0)).collect()
    });
    Ok((rows.collect(), labels.into_iter().map(|y| y as f64).collect()))
}

/// liblinear's solver 1, as scikit-learn's `LinearSVC` uses it.
fn by_liblinear(train: &str, scored: &str, c: f64) -> Result<(f64, usize, usize)> {
    liblinear::toggle_liblinear_stdout_output(false);
    let (x, y) = rows(train)?;
    let last = x.iter().flatten().map(|entry| entry.0).max().unwrap_or(0);
    let start = Instant::now();
    let mut builder = Builder::new();
    let input = TrainingInput::from_sparse_features(y, x).map_err(|e| format!("{e:?}"))?;
    builder.problem().input_data(input).bias(1.0);
    builder
        .parameters()
        .solver_type(SolverType::L2R_L2LOSS_SVC_DUAL)
        .stopping_criterion(0.1)
        .constraints_violation_cost(c);
    let model = builder.build_model().map_err(|e| format!("{e:?}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let (x, y) = rows(scored)?;
    let (mut right, mut all) = (0, 0);
    for (mut x, y) in x.into_iter().zip(y) {
        // The crate takes only rows that reach to the last column of train.
        if x.last().is_none_or(|entry| entry.0 < last) {
            x.push((last, 0.0));
        }
        let input = PredictionInput::from_sparse_features(x).map_err(|e| format!("{e:?}"))?;
        right += usize::from(model.predict(input).map_err(|e| format!("{e:?}"))? == y);
        all += 1;
    }
    Ok((seconds, right, all))
}
