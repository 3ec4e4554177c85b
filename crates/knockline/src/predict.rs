//! `knockline predict`

mod writing;

use std::io::IsTerminal;
use std::path::PathBuf;

use failure::{Failure, Result};
use model::{Engine, Model};

use crate::ModelArgument;
use crate::explain::{Style, write_explained};
use crate::input::{Batch, Format, Input, InputArguments, LabelColumn};
use crate::output::Saying;

use writing::{Destination, Output};
#[cfg(feature = "parquet")]
pub use writing::{complete, partial};

/// What to classify, and how.
#[derive(clap::Args)]
pub struct PredictArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// The texts, one per argument; without any, or with `-` alone, they are read from stdin
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Read the texts from this file
    #[arg(long, value_name = "PATH", conflicts_with = "texts")]
    file: Option<PathBuf>,
    #[command(flatten)]
    input: InputArguments,
    /// Write the answers to this file: a table, rows or JSON lines if its name ends in .parquet, .csv,
    /// .tsv or .jsonl, else what would go to stdout
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// How many classes to show, the likeliest first
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Give no answer if the likeliest class is less likely than this
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    min_probability: f32,
    /// Show what each word gives to the answer
    #[arg(long)]
    pub explain: bool,
    /// Write one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// A probability on the command line.
pub fn probability(text: &str) -> std::result::Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "a probability lies between 0 and 1".to_owned())
}

/// Runs the command.
pub fn run(arguments: &PredictArguments) -> Result<()> {
    stage::machine::threads()?;
    let model = Model::open(&arguments.model.model)?;
    let mut input = open(arguments)?;
    if arguments.explain {
        return explain(arguments, &model, &mut input);
    }
    let engine = Engine::new(&model);
    let mut output = Output::open(arguments, &input)?;
    let mut batch = Batch::default();
    loop {
        let more = input.next(&mut batch, engine.batch());
        // A bad row does not take the answers from the good ones before it.
        if !output.answer(&engine, &batch)? {
            return Ok(());
        }
        if !matches!(more, Ok(true)) {
            output.finish(more.is_ok())?;
            return more.map(drop);
        }
    }
}

fn open(arguments: &PredictArguments) -> Result<Input> {
    if let (Some(file), Some(output)) = (&arguments.file, &arguments.output) {
        let format = arguments.input.format.unwrap_or_else(|| Format::of(file));
        let is_same = std::fs::canonicalize(file)
            .is_ok_and(|file| std::fs::canonicalize(output).is_ok_and(|output| output == file));
        if is_same && !arguments.echoes(format) {
            return Err(Failure::usage(
                "the output is the input, whose texts it would not have",
                "--output",
                "give another name",
            ));
        }
    }
    let open = |path: Option<&PathBuf>| {
        let is_echoed = |format| arguments.echoes(format);
        Input::open(path, &arguments.input, LabelColumn::Unwanted, is_echoed)
    };
    if arguments.file.is_some() {
        return open(arguments.file.as_ref());
    }
    match &arguments.texts[..] {
        [] if std::io::stdin().is_terminal() => Err(Failure::usage(
            "there is no text to classify",
            "command line",
            "give texts as arguments, --file PATH, or - and one text per line on stdin",
        )),
        [] => open(None),
        [one] if one == "-" => open(None),
        texts if texts.iter().any(|text| text == "-") => Err(Failure::usage(
            "`-` cannot be combined with other texts",
            "command line",
            "give - alone to read stdin; a text may contain a - beside other words",
        )),
        texts => Ok(Input::given(texts.to_vec())),
    }
}

fn explain(arguments: &PredictArguments, model: &Model, input: &mut Input) -> Result<()> {
    let style = Style::new(arguments.is_json(), arguments.output.is_some());
    let mut desk = model.desk();
    let mut out = Destination::open(arguments.output.as_ref())?;
    let mut batch = Batch::default();
    loop {
        let more = input.next(&mut batch, 64);
        for text in &batch.texts {
            let explanation = desk.explain(text)?;
            let mut said = Vec::new();
            let how = arguments.saying();
            write_explained(&mut said, model.labels(), text, &explanation, style, how)?;
            if !out.write(&said)? {
                return Ok(());
            }
        }
        if !matches!(more, Ok(true)) {
            out.finish(more.is_ok())?;
            return more.map(drop);
        }
    }
}

impl PredictArguments {
    const fn saying(&self) -> Saying {
        Saying { top_k: self.top_k as usize, least: self.min_probability }
    }

    /// The ending of the output's name.
    fn extension(&self) -> Option<&str> {
        self.output.as_ref()?.extension()?.to_str()
    }

    fn is_json(&self) -> bool {
        self.json || matches!(self.extension(), Some("jsonl" | "ndjson" | "json"))
    }

    /// The delimiter of the answers, if they are rows.
    fn delimiter(&self, input: &Input) -> Result<Option<u8>> {
        if self.is_json() {
            return Ok(None);
        }
        match self.extension() {
            Some("csv") => Ok(Some(b',')),
            Some("tsv") if input.delimiter() != Some(b'\t') => Err(Failure::usage(
                "TSV has no quotes, so that not every text fits into it",
                "--output",
                "give a name that ends in .csv",
            )),
            _ => Ok(input.delimiter()),
        }
    }

    /// Whether rows of this format are written with their answers.
    fn echoes(&self, format: Format) -> bool {
        let is_table = self.extension() == Some("parquet");
        !self.explain
            && match format {
                Format::Lines | Format::Fasttext => false,
                Format::Csv | Format::Tsv => !self.is_json() && !is_table,
                Format::Jsonl => {
                    self.is_json() || !matches!(self.extension(), Some("csv" | "parquet"))
                }
                Format::Parquet => is_table,
            }
    }
}
