//! The facts of the report, read from the stages' artifacts; `metrics.json` is their JSON form.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::table;
use schema::{Coverage, IngestSummary, Labels, OptionValues, Start};
use serde::{Deserialize, Serialize};
use stage::Stage;
use stage::files::expand;

use crate::classifier::{Classifier, Summary};
use crate::evaluated::{self, Evaluated};
use crate::parts::{self, AllParts, PartFacts, json};
use crate::published::{Article, PUBLISHED, Published, SOURCE};
use crate::runs::{Comparison, RunFacts, Sweep};
use crate::sequences::Sequences;
use crate::tuned::{self, Tuned};

/// All facts.
#[derive(Serialize)]
pub struct Facts {
    /// The edition of the exercise.
    edition: String,
    made: Made,
    /// The data source, and the rows read from it.
    pub ingest: IngestSummary,
    categories: Vec<Named>,
    /// How many categories tables show that have a column for each.
    columns: usize,
    /// The categories with the most rows of train, if there are too many to show all.
    largest: Vec<usize>,
    parts: Vec<PartFacts>,
    /// Whether there are matrices of features.
    matrices: bool,
    /// The part that results are shown for: test or, without one, valid.
    pub part: &'static str,
    coverage: Coverage,
    /// The accuracy on that part of always predicting the most frequent category of train.
    pub majority: f64,
    start: Option<Start>,
    /// The single-layer net of problems 71 to 74: `train.slp`.
    pub slp: Option<RunFacts>,
    /// The longer run of the single-layer net, for problem 75: `train.curve`.
    pub curve: Option<RunFacts>,
    /// The multi-layer net of problem 79: `train.mlp`.
    pub mlp: Option<RunFacts>,
    /// The second answer to problem 79: `train.best`.
    pub best: Option<RunFacts>,
    /// The first linear member of it.
    pub linear: Option<RunFacts>,
    /// Runs over several splits.
    pub evaluated: Option<Evaluated>,
    /// The tunings.
    pub tuned: Vec<Tuned>,
    /// The first runs of the nets `bow` and `dan`, whose curves are shown.
    pub bags: Vec<RunFacts>,
    /// Nets on sequences of tokens.
    pub sequences: Option<Sequences>,
    /// All runs: the exercise's and the user's.
    pub runs: Comparison,
    /// What the page's classifier has.
    classifier: Option<Summary>,
    /// The page's classifier.
    #[serde(skip)]
    pub nets: Option<Classifier>,
    /// Times by batch size and device.
    pub sweep: Option<Sweep>,
    /// The figures of a public Python answer, if the data and the word vectors are of the kind that
    /// it used.
    pub published: Option<Published>,
    /// Where those figures come from.
    published_source: Article,
}

/// The version and the options that made the report.
#[derive(Serialize)]
struct Made {
    version: &'static str,
    commit: Option<String>,
    /// Whether the checkout differed from the commit.
    dirty: bool,
    /// The options of the nodes before training, by name.
    options: BTreeMap<String, serde_json::Value>,
}

/// A category.
#[derive(Serialize)]
struct Named {
    /// Its name in the data; a letter in the news archive.
    letter: String,
    /// The letter's meaning in the news archive; `None` for other data, where it may differ.
    name: Option<&'static str>,
    japanese: Option<&'static str>,
}

/// With more categories than the first number, tables with a column for each show only the second
/// number of them.
const COLUMNS: [usize; 2] = [12, 6];
/// The most nets `bow` and `dan` whose curves are shown.
const BAGS: usize = 6;
/// With more categories than the first number, lists of them show only the second number of them.
const LISTED: [usize; 2] = [40, 20];

/// The newer edition of the exercise.
const NEWER: &str = "2025";

/// Number of rows of the news archive.
const ARCHIVE_ROWS: u64 = 422_937;

/// Whether the rows are those of the news archive or of a sample.
fn is_news(ingest: &IngestSummary) -> bool {
    ingest.format.is_none()
        && (ingest.source == "embedded sample"
            || ingest.source.starts_with("sample:")
            || ingest.rows == ARCHIVE_ROWS)
}

/// The options of the report.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportOptions {
    tuned: Option<Files>,
    evaluated: Option<Files>,
    edition: String,
    classifier: usize,
}

/// A file, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Files {
    One(String),
    Many(Vec<String>),
}

/// The files that an option names.
fn paths(files: Option<Files>) -> Result<Vec<PathBuf>> {
    let sources = match files {
        None => Vec::new(),
        Some(Files::One(one)) => vec![one],
        Some(Files::Many(many)) => many,
    };
    let mut paths = Vec::new();
    for source in sources {
        let files = expand(&source).map_err(|e| Failure::io("read", Path::new(&source), &e))?;
        paths.extend(files.into_iter().map(|file| file.path));
    }
    Ok(paths)
}

impl Facts {
    /// Reads the facts of all stages.
    pub fn read(stage: &Stage) -> Result<Self> {
        let ingest: IngestSummary = json(&stage.input("ingest", "summary.json")?)?;
        let coverage: Coverage = json(&stage.input("embed", "coverage.json")?)?;
        let labels = Labels::read(&stage.input("ingest", Labels::FILE)?)?;
        let ReportOptions { tuned, evaluated, edition, classifier } = stage.options()?;
        let all_parts = AllParts::read(stage, &coverage, &labels, edition == NEWER)?;
        let is_published_data = PUBLISHED.is_of(&all_parts.shown);
        let has_news_categories = is_published_data || is_news(&ingest);
        let named = |(label, name): (usize, &String)| {
            let meaning = labels.meaning(label).filter(|_| has_news_categories);
            Named {
                letter: name.clone(),
                name: meaning.map(|(english, _)| english),
                japanese: meaning.map(|(_, japanese)| japanese),
            }
        };
        let parts = &all_parts.shown;
        let part = if parts.iter().any(|part| part.name == "test") { "test" } else { "valid" };
        let (commit, dirty) = match stage.commit.as_deref() {
            Some(commit) => {
                (Some(commit.trim_end_matches("-dirty").to_owned()), commit.ends_with("-dirty"))
            }
            None => (None, false),
        };
        let mut options = BTreeMap::new();
        let nodes = ["ingest", "split", "embed", "tensors", "tokens"];
        for node in nodes.into_iter().filter(|node| stage.has(node)) {
            let of: OptionValues = json(&stage.input(node, stage::OPTIONS)?)?;
            let applies = |name: &str| ingest.format.is_none() || name != "publishers";
            options.extend(
                of.into_iter()
                    .filter(|(name, _)| applies(name))
                    .map(|(name, value)| (format!("{node}.{name}"), value)),
            );
        }
        let (tuned, evaluated) = (paths(tuned)?, paths(evaluated)?);
        let mut runs = Vec::new();
        for node in stage.nodes("train.*") {
            runs.push(RunFacts::read(stage, node, &labels, &all_parts)?);
        }
        add_titles(&mut runs, stage)?;
        let comparison = Comparison::of(&runs);
        let (nets, classifier) =
            Classifier::read(stage, &runs, &labels, classifier * 1_000_000)?.unzip();
        let mut take = |node: &str, net: &str| {
            let at = runs.iter().position(|run| run.node == node && run.net() == Some(net))?;
            Some(runs.swap_remove(at))
        };
        let (slp, curve, mlp) =
            (take("train.slp", "slp"), take("train.curve", "slp"), take("train.mlp", "mlp"));
        let best = take("train.best", "stack");
        // The first linear member shows what the stack goes by.
        let members = best.as_ref().and_then(|best| best.options.get("members")?.as_array());
        let linear = members.into_iter().flatten().find_map(|member| {
            runs.iter().position(|run| *member == *run.node && run.net() == Some("linear"))
        });
        let linear = linear.map(|at| runs.swap_remove(at));
        let sequences = Sequences::read(stage, &mut runs)?;
        let is_bag = |run: &RunFacts| matches!(run.net(), Some("bow" | "dan"));
        runs.retain(is_bag);
        runs.sort_by(|a, b| a.node.cmp(&b.node));
        runs.truncate(BAGS);
        Ok(Self {
            made: Made { version: env!("CARGO_PKG_VERSION"), commit, dirty, options },
            categories: labels.names().iter().enumerate().map(named).collect(),
            columns: if labels.len() > COLUMNS[0] { COLUMNS[1] } else { labels.len() },
            largest: largest(parts, labels.len()),
            part,
            // The answer's vectors came from a file and had 300 components.
            published: (is_published_data
                && coverage.dimension == 300
                && coverage.entries.is_some())
            .then_some(PUBLISHED),
            published_source: SOURCE,
            ingest,
            coverage,
            majority: parts::majority(parts, part),
            start: slp
                .as_ref()
                .map(|run| json(&stage.input(&run.node, "start.json")?))
                .transpose()?,
            slp,
            curve,
            mlp,
            best,
            linear,
            bags: runs,
            sequences,
            matrices: all_parts.has_features,
            edition,
            runs: comparison,
            nets,
            classifier,
            tuned: tuned::read(&tuned)?,
            evaluated: evaluated::read(&evaluated)?,
            parts: all_parts.shown,
            sweep: stage.has("train.sweep").then(|| Sweep::read(stage)).transpose()?,
        })
    }

    /// A category's name in the data.
    pub fn letter(&self, label: usize) -> &str {
        self.categories.get(label).map_or("", |category| &category.letter)
    }

    /// The number of rows of each category in train, in label order.
    pub fn rows_of_train(&self) -> &[usize] {
        let train = self.parts.iter().find(|part| part.name == "train");
        train.map_or(&[], |train| &train.classes)
    }

    /// The result in one line.
    pub fn headline(&self) -> String {
        self.headline_in(false)
    }

    /// The same in Japanese.
    pub fn japanese_headline(&self) -> String {
        self.headline_in(true)
    }

    /// Whether the report answers the newer edition's problems.
    pub fn is_newer(&self) -> bool {
        self.edition == NEWER
    }

    fn headline_in(&self, ja: bool) -> String {
        let (english, japanese);
        let mut named = vec![
            (self.slp.as_ref(), "single-layer net", "単層"),
            (self.mlp.as_ref(), "multi-layer net", "多層"),
            (self.best.as_ref(), "train.best", "train.best"),
        ];
        if let Some(sequences) = self.sequences.as_ref().filter(|_| self.is_newer()) {
            let best = sequences.best_architecture();
            let name = best.map_or("", |run| &run.node);
            english = format!("best on valid ({name})");
            japanese = format!("検証データで最良（{name}）");
            named = vec![
                (sequences.run("train.mean"), "mean of embeddings", "埋め込みの平均"),
                (sequences.run("train.finetuned"), "fine-tuned", "ファインチューニング"),
                (best, english.as_str(), japanese.as_str()),
            ];
        }
        let nets = named.into_iter().filter_map(|(run, en, jp)| {
            let accuracy = accuracy(run?, self.part, ja);
            Some(format!("{} {accuracy}", if ja { jp } else { en }))
        });
        let mut all: Vec<String> = nets.collect();
        if let Some(best) = self.runs.rows.first().filter(|_| all.is_empty()) {
            all.push(format!(
                "{} {:.1} %",
                best.node,
                best.scores.get(self.part).map_or(0.0, |score| score.accuracy) * 100.0
            ));
        }
        match (all.is_empty(), ja) {
            (true, false) => "no training run".to_owned(),
            (true, true) => "学習の実行なし".to_owned(),
            (false, false) => format!("{} accuracy: {}", self.part, all.join(", ")),
            (false, true) => {
                let part = if self.part == "test" { "評価" } else { "検証" };
                format!("{part}データの正解率：{}", all.join("、"))
            }
        }
    }
}

/// A run's accuracy on a part; for several seeds, also its mean and standard deviation.
fn accuracy(run: &RunFacts, part: &str, ja: bool) -> String {
    let one = format!("{:.1} %", run.accuracy(part) * 100.0);
    let Some((spread, n)) = run.over_seeds(part) else { return one };
    let (mean, deviation) = (spread.mean * 100.0, spread.deviation * 100.0);
    if ja {
        format!("{one}（{n}シード：{mean:.1} ± {deviation:.1} %）")
    } else {
        format!("{one} ({n} seeds: {mean:.1} ± {deviation:.1} %)")
    }
}

/// The categories with the most rows of train; none if all can be listed.
fn largest(parts: &[PartFacts], categories: usize) -> Vec<usize> {
    if categories <= LISTED[0] {
        return Vec::new();
    }
    let rows = |label: &usize| {
        let train = parts.iter().find(|part| part.name == "train");
        train.and_then(|train| train.classes.get(*label)).copied().unwrap_or(0)
    };
    let mut all: Vec<usize> = (0..categories).collect();
    all.sort_by_key(|label| std::cmp::Reverse(rows(label)));
    all.truncate(LISTED[1]);
    all
}

/// Adds the headlines to the mistakes of the runs.
fn add_titles(runs: &mut [RunFacts], stage: &Stage) -> Result<()> {
    for part in ["valid", "test"] {
        let mut mistakes: HashMap<i64, Vec<&mut String>> = HashMap::new();
        let of = runs.iter_mut().flat_map(|run| &mut run.quality).filter(|q| q.part == part);
        for mistake in of.flat_map(|quality| &mut quality.mistakes) {
            mistakes.entry(mistake.id).or_default().push(&mut mistake.title);
        }
        if mistakes.is_empty() {
            continue;
        }
        let path = stage.input("split", &format!("{part}.parquet"))?;
        table::groups(&path, &["id", "title"], |frame| {
            let ids = table::integers(frame, "id", &path)?.no_null_iter();
            for (id, title) in ids.zip(table::texts(frame, "title", &path)?.no_null_iter()) {
                for to in mistakes.get_mut(&id).into_iter().flatten() {
                    title.clone_into(to);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
