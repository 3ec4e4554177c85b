//! Writes answers: lines, JSON, rows of cells, tables.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use answers::{Answer, Form};
use failure::{Failure, Result};
use model::{Answered, Engine, Known, Model};
use serde::Serialize;

use super::PredictArguments;
use crate::input::{Batch, Input, PREDICTED, PREDICTION, Rows};
use crate::output::{self, Prediction};

/// An answer as a JSON line.
#[derive(Serialize)]
struct Line<'t> {
    text: &'t str,
    #[serde(flatten)]
    prediction: Prediction<'t>,
}

/// Where lines go: stdout, or a file that takes its name when it is complete, so that it may have the
/// name of the input.
pub struct Destination {
    out: Box<dyn Write>,
    path: Option<PathBuf>,
}

/// The name of a file that is not complete.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

impl Destination {
    pub fn open(path: Option<&PathBuf>) -> Result<Self> {
        let out: Box<dyn Write> = match path {
            None => Box::new(std::io::stdout().lock()),
            Some(path) => {
                let file =
                    File::create(partial(path)).map_err(|e| Failure::io("write", path, &e))?;
                Box::new(BufWriter::new(file))
            }
        };
        Ok(Self { out, path: path.cloned() })
    }

    /// `false` if nobody reads any more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        let Self { out, path } = self;
        output::write(out, bytes, || match path {
            None => "stdout".to_owned(),
            Some(path) => partial(path).display().to_string(),
        })
    }

    /// Ends the file, which takes its name if it is whole: it may have that of the input.
    pub fn finish(mut self, is_whole: bool) -> Result<()> {
        self.write(&[])?;
        drop(self.out);
        self.path.filter(|_| is_whole).map_or(Ok(()), |path| complete(&path))
    }
}

/// Gives a complete file its name.
pub fn complete(path: &Path) -> Result<()> {
    std::fs::rename(partial(path), path).map_err(|e| Failure::io("rename", path, &e))
}

/// Where answers go.
pub struct Output<'a> {
    arguments: &'a PredictArguments,
    out: Destination,
    /// Whether the answers are rows of CSV, and with which delimiter.
    cells: Option<u8>,
    #[cfg(feature = "parquet")]
    table: Option<crate::parquet::TableWriter>,
}

impl<'a> Output<'a> {
    pub fn open(arguments: &'a PredictArguments, input: &Input) -> Result<Self> {
        #[cfg(feature = "parquet")]
        {
            let is_parquet = |path: &PathBuf| path.extension().is_some_and(|e| e == "parquet");
            if let Some(path) = arguments.output.as_ref().filter(|path| is_parquet(path)) {
                let out = Destination { out: Box::new(std::io::sink()), path: None };
                let table = Some(crate::parquet::TableWriter::new(path));
                return Ok(Self { arguments, out, cells: None, table });
            }
        }
        let mut this = Self {
            arguments,
            out: Destination::open(arguments.output.as_ref())?,
            cells: arguments.delimiter(input)?,
            #[cfg(feature = "parquet")]
            table: None,
        };
        let alone = csv::StringRecord::from(vec!["text"]);
        let header = match input.delimiter() {
            Some(_) => input.header(),
            None => Some(&alone),
        };
        if let (Some(delimiter), Some(header)) = (this.cells, header) {
            let mut writer = writer(delimiter);
            let names = header.iter().chain(PREDICTED);
            writer.write_record(names).map_err(|e| cannot_write(&e))?;
            let bytes = writer.into_inner().map_err(|e| cannot_write(&e))?;
            this.out.write(&bytes)?;
        }
        Ok(this)
    }

    /// Writes the answers to a batch. `false` if nobody reads any more.
    pub fn answer(&mut self, engine: &Engine<'_>, batch: &Batch) -> Result<bool> {
        #[cfg(feature = "parquet")]
        if self.table.is_some() {
            return self.rows(engine, batch);
        }
        let (arguments, cells) = (self.arguments, self.cells);
        let said = engine.answer(&batch.texts, |answered, said: &mut Vec<u8>| {
            say(arguments, cells, engine.model(), batch, &answered, said)
        })?;
        for said in said {
            if !self.out.write(&said)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[cfg(feature = "parquet")]
    fn rows(&mut self, engine: &Engine<'_>, batch: &Batch) -> Result<bool> {
        let labels = engine.model().labels();
        let how = self.arguments.saying();
        let answers = engine.answer(&batch.texts, |answered, all: &mut Vec<_>| {
            each(&answered, labels.len(), |_, p, known| {
                let Prediction { label, probability, .. } = Prediction::of(labels, p, known, how);
                all.push((label, probability));
                Ok(())
            })
        })?;
        let (predicted, probabilities): (Vec<_>, Vec<_>) = answers.into_iter().flatten().unzip();
        let made;
        let table = match &batch.rows {
            Rows::Table(table) => table,
            _ => {
                made = crate::parquet::texts(&batch.texts)?;
                &made
            }
        };
        if let Some(writer) = &mut self.table {
            writer.push(table, &predicted, &probabilities)?;
        }
        Ok(true)
    }

    pub fn finish(self, is_whole: bool) -> Result<()> {
        #[cfg(feature = "parquet")]
        if let Some(table) = self.table {
            return table.finish(is_whole);
        }
        self.out.finish(is_whole)
    }
}

fn cannot_write(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(
        format_args!("cannot write: {error}"),
        "the output",
        "this is a bug; please report it",
    )
}

fn writer(delimiter: u8) -> csv::Writer<Vec<u8>> {
    let style = if delimiter == b',' { csv::QuoteStyle::Necessary } else { csv::QuoteStyle::Never };
    csv::WriterBuilder::new()
        .delimiter(delimiter)
        .quote_style(style)
        .flexible(true)
        .from_writer(Vec::new())
}

/// Calls `take` with the number, the probabilities and what is known of each text.
fn each(
    answered: &Answered<'_>,
    classes: usize,
    mut take: impl FnMut(usize, &[f32], Known) -> Result<()>,
) -> Result<()> {
    let rows = answered.probabilities.chunks_exact(classes).zip(answered.known);
    (answered.first..).zip(rows).try_for_each(|(number, (p, known))| take(number, p, *known))
}

/// Writes answers as lines.
fn say(
    arguments: &PredictArguments,
    cells: Option<u8>,
    model: &Model,
    batch: &Batch,
    answered: &Answered<'_>,
    said: &mut Vec<u8>,
) -> Result<()> {
    let labels = model.labels();
    let how = arguments.saying();
    let mut rows = cells.map(writer);
    each(answered, labels.len(), |number, p, known| {
        let text = batch.texts.get(number).map_or("", String::as_str);
        let prediction = || Prediction::of(labels, p, known, how);
        match (&mut rows, &batch.rows) {
            (Some(rows), of) => {
                let Prediction { label, probability, .. } = prediction();
                let p = probability.map_or_else(String::new, |p| format!("{p:.6}"));
                let answer = [label.unwrap_or_default(), &p];
                let written = match of {
                    Rows::Cells(all) => {
                        let row = all.get(number).into_iter().flat_map(csv::StringRecord::iter);
                        rows.write_record(row.chain(answer))
                    }
                    _ => rows.write_record([text].into_iter().chain(answer)),
                };
                written.map_err(|e| cannot_write(&e))?;
            }
            (_, Rows::Json(all)) if let Some(row) = all.get(number) => {
                extended(said, row, &prediction())?;
            }
            _ if arguments.is_json() => json(said, &Line { text, prediction: prediction() })?,
            _ => {
                let best = p.iter().copied().fold(0.0, f32::max);
                if known.anything && best < how.least {
                    said.extend_from_slice(b"-         unsure, ");
                }
                let Known { words, known, anything } = known;
                let known = answers::Known { all: words, known, anything };
                let answer = Answer { title: text, known, labels, probabilities: p };
                answer.write(said, Form::Text, how.top_k).map_err(|e| cannot_write(&e))?;
            }
        }
        Ok(())
    })?;
    if let Some(rows) = rows {
        said.append(&mut rows.into_inner().map_err(|e| cannot_write(&e))?);
    }
    Ok(())
}

/// Writes a JSON object with an answer as its last member. The others stay as they were written.
fn extended(said: &mut Vec<u8>, row: &str, prediction: &Prediction<'_>) -> Result<()> {
    let members = row.strip_suffix('}').unwrap_or(row).trim_end();
    said.extend_from_slice(members.as_bytes());
    // The object has a text, so it is not empty.
    said.extend_from_slice(format!(",\"{PREDICTION}\":").as_bytes());
    serde_json::to_writer(&mut *said, prediction).map_err(|e| cannot_write(&e))?;
    said.extend_from_slice(b"}\n");
    Ok(())
}

fn json(said: &mut Vec<u8>, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *said, line).map_err(|e| cannot_write(&e))?;
    said.push(b'\n');
    Ok(())
}
