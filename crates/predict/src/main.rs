//! Classifies headlines with a trained run.
//!
//! In: `embed/{vocabulary,more-vocabulary}.parquet`, `embed/{vectors,more-vectors}.safetensors`,
//! `embed/tokenizer.json`; a run's `config.json`, `labels.json` and `model.safetensors`; for runs on
//! n-grams also the run's `calibration.json`, `calibration.safetensors` and
//! `ngrams/{vocabulary.parquet,ngrams.json}`, for nearest neighbours `ngrams/train.safetensors`, for a stack its members' files; headlines as
//! arguments, from files or from stdin. Out: one line per headline, in the order of the input.
//!
//! Always holds: a headline's features are made by the code that made the training data; memory
//! does not grow with the number of headlines; a line is written as soon as no more input is
//! waiting.

mod model;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use answers::{Answer, Form, Titles};
use clap::Parser;
use failure::{Exit, Failure, Result};
use kernels::team;
use model::{Model, ModelDesk};

/// Classify headlines with a trained run
#[derive(Parser)]
#[command(name = "predict", max_term_width = 100)]
struct PredictCli {
    /// The headlines, one per argument; without any, or with `-` alone, they are read from stdin,
    /// one per line
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Read the headlines from this file, one per line
    #[arg(long, value_name = "PATH", conflicts_with = "texts")]
    file: Vec<PathBuf>,
    /// The folder with the artifacts
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    artifacts: PathBuf,
    /// The training run to use [default: train.best where it is there, else train.mlp]
    #[arg(long, value_name = "NODE")]
    run: Option<String>,
    /// How many categories to show, the likeliest first
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Write one JSON object per line
    #[arg(long)]
    json: bool,
}

/// The most headlines per thread in a batch.
const BATCH: usize = 8192;
/// The most categories that a thread's answers of a batch show.
const SHOWN: usize = 1 << 17;
/// Bytes after which a batch ends, for all threads together: a headline may be very long.
const LARGEST: usize = 1 << 23;
/// Headlines whose features are computed at once, and stay in a cache until they are used.
const ROWS: usize = 192;

/// The run that is used if none is named and it is there.
const BEST: &str = "train.best";

fn main() -> ExitCode {
    let cli = PredictCli::parse();
    match run(&cli) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(cli.json),
    }
}

fn run(cli: &PredictCli) -> Result<()> {
    stage::machine::threads()?;
    let mut titles = inputs(cli)?;
    let has_best = cli.artifacts.join(BEST).join("config.json").exists();
    let run = cli.run.as_deref().unwrap_or(if has_best { BEST } else { "train.mlp" });
    let model = Model::read(&cli.artifacts, run)?;
    let form = if cli.json { Form::Json } else { Form::Text };
    let mut out = std::io::stdout().lock();
    let threads = team::available();
    let desks: Vec<Mutex<Desk>> = (0..threads).map(|_| Mutex::new(Desk::new(&model))).collect();
    let desks_of = |member: usize| {
        desks.get(member).map(|desk| desk.lock().unwrap_or_else(PoisonError::into_inner))
    };
    // With many categories in each answer, fewer headlines are answered at once.
    let shown = (cli.top_k as usize).min(model.labels().len());
    let per_thread = (SHOWN / shown).clamp(1, BATCH);
    let mut batch = vec![String::new(); per_thread * threads];
    loop {
        let (mut count, mut bytes) = (0, 0);
        let mut end = None;
        while let Some(title) = batch.get_mut(count) {
            match titles.next(title) {
                Ok(true) => {
                    count += 1;
                    bytes += title.len();
                    if bytes > LARGEST || !titles.has_buffered_line() {
                        break;
                    }
                }
                // A bad line does not take the answers from the good ones before it.
                other => {
                    end = Some(other.map(drop));
                    break;
                }
            }
        }
        // A few headlines are answered sooner than a thread starts.
        let threads = if count > ROWS { threads } else { 1 };
        let answered = team::run(threads, |member| {
            let titles =
                batch.get(..count).and_then(|all| all.get(member.share(count))).unwrap_or_default();
            desks_of(member.index)
                .map_or(Ok(()), |mut desk| desk.answer(titles, form, cli.top_k as usize))
        });
        let written = answered.into_iter().enumerate().try_for_each(|(member, answered)| {
            answered?;
            desks_of(member).map_or(Ok(()), |desk| out.write_all(&desk.said))
        });
        match written.and_then(|()| out.flush()) {
            Ok(()) => {}
            // The reader has closed the pipe and wants no more.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => {
                return Err(Failure::failed(
                    format_args!("cannot write: {e}"),
                    "stdout",
                    "check where the output goes",
                ));
            }
        }
        if let Some(end) = end {
            return end;
        }
        batch
            .iter_mut()
            .filter(|title| title.capacity() > LARGEST / BATCH)
            .for_each(|title| *title = String::new());
    }
}

/// What a thread answers headlines with.
struct Desk<'m> {
    model: &'m Model,
    desk: ModelDesk<'m>,
    said: Vec<u8>,
}

impl<'m> Desk<'m> {
    fn new(model: &'m Model) -> Self {
        Self { model, desk: model.desk(ROWS), said: Vec::new() }
    }

    fn answer(&mut self, titles: &[String], form: Form, top_k: usize) -> std::io::Result<()> {
        let labels = self.model.labels();
        self.said.clear();
        for titles in titles.chunks(ROWS) {
            let (all, known) = self.desk.probabilities(titles);
            let all = all.chunks_exact(labels.len());
            for ((title, known), probabilities) in titles.iter().zip(known).zip(all) {
                let answer = Answer { title, known: *known, labels, probabilities };
                answer.write(&mut self.said, form, top_k)?;
            }
        }
        Ok(())
    }
}

/// Where the headlines come from.
fn inputs(cli: &PredictCli) -> Result<Titles> {
    if !cli.file.is_empty() {
        return Titles::files(&cli.file);
    }
    match &cli.texts[..] {
        [] if std::io::stdin().is_terminal() => Err(Failure::usage(
            "there is no headline to classify",
            "command line",
            "give headlines as arguments, --file PATH, or - and one headline per line on stdin",
        )),
        [] => Ok(Titles::stdin()),
        [one] if one == "-" => Ok(Titles::stdin()),
        texts if texts.iter().any(|text| text == "-") => Err(Failure::usage(
            "`-` cannot be combined with other headlines",
            "command line",
            "give - alone to read stdin; a headline may contain a - beside other words",
        )),
        texts => Ok(Titles::given(texts.to_vec())),
    }
}
