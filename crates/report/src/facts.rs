//! The facts of the report, read from the stages' artifacts; `metrics.json` is their JSON form.

use std::collections::BTreeMap;

use failure::Result;
use schema::{Coverage, IngestSummary, OptionValues, Start};
use serde::Serialize;
use stage::Stage;
use text::Category;

use crate::parts::{self, PartFacts, json};
use crate::published::{Article, PUBLISHED, Published, SOURCE};
use crate::runs::{Comparison, RunFacts, Sweep};

/// All facts.
#[derive(Serialize)]
pub struct Facts {
    made: Made,
    /// The data source, and the rows read from it.
    pub ingest: IngestSummary,
    categories: Vec<Named>,
    parts: Vec<PartFacts>,
    coverage: Coverage,
    /// The accuracy on test of always predicting the most frequent category of train.
    pub majority: f64,
    start: Option<Start>,
    /// The single-layer net of problems 71 to 74: `train.slp`.
    pub slp: Option<RunFacts>,
    /// The longer run of the single-layer net, for problem 75: `train.curve`.
    pub curve: Option<RunFacts>,
    /// The multi-layer net of problem 79: `train.mlp`.
    pub mlp: Option<RunFacts>,
    /// All runs: the exercise's and the user's.
    pub runs: Comparison,
    /// Times by batch size and device.
    pub sweep: Sweep,
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
    letter: &'static str,
    /// The letter's meaning in the news archive; `None` for other data, where it may differ.
    name: Option<&'static str>,
    japanese: Option<&'static str>,
}

/// Number of rows of the news archive.
const ARCHIVE_ROWS: u64 = 422_937;

/// Whether the rows are those of the news archive or of a sample.
fn is_news(ingest: &IngestSummary) -> bool {
    ingest.source == "embedded sample"
        || ingest.source.starts_with("sample:")
        || ingest.rows == ARCHIVE_ROWS
}

impl Facts {
    /// Reads the facts of all stages.
    pub fn read(stage: &Stage) -> Result<Self> {
        let ingest: IngestSummary = json(&stage.input("ingest", "summary.json")?)?;
        let coverage: Coverage = json(&stage.input("embed", "coverage.json")?)?;
        let parts = parts::read(stage, &coverage)?;
        let is_published_data = PUBLISHED.is_of(&parts);
        let has_news_categories = is_published_data || is_news(&ingest);
        let named = |c: &Category| Named {
            letter: c.letter(),
            name: has_news_categories.then(|| c.name()),
            japanese: has_news_categories.then(|| japanese(*c)),
        };
        let (commit, dirty) = match stage.commit.as_deref() {
            Some(commit) => {
                (Some(commit.trim_end_matches("-dirty").to_owned()), commit.ends_with("-dirty"))
            }
            None => (None, false),
        };
        let mut options = BTreeMap::new();
        for node in ["ingest", "split", "embed", "tensors"] {
            let of: OptionValues = json(&stage.input(node, stage::OPTIONS)?)?;
            options.extend(of.into_iter().map(|(name, value)| (format!("{node}.{name}"), value)));
        }
        let mut runs = Vec::new();
        for node in stage.nodes("train.*") {
            runs.push(RunFacts::read(stage, node, &parts)?);
        }
        let comparison = Comparison::of(&runs);
        let mut take = |node: &str, net: &str| {
            let at = runs.iter().position(|run| run.node == node && run.net() == Some(net))?;
            Some(runs.swap_remove(at))
        };
        let (slp, curve, mlp) =
            (take("train.slp", "slp"), take("train.curve", "slp"), take("train.mlp", "mlp"));
        Ok(Self {
            made: Made { version: env!("CARGO_PKG_VERSION"), commit, dirty, options },
            categories: Category::ALL.iter().map(named).collect(),
            // The answer's vectors came from a file and had 300 components.
            published: (is_published_data
                && coverage.dimension == 300
                && coverage.entries.is_some())
            .then_some(PUBLISHED),
            published_source: SOURCE,
            ingest,
            coverage,
            majority: parts::majority(&parts),
            start: slp
                .as_ref()
                .map(|run| json(&stage.input(&run.node, "start.json")?))
                .transpose()?,
            slp,
            curve,
            mlp,
            runs: comparison,
            sweep: Sweep::read(stage)?,
            parts,
        })
    }

    /// The result in one line.
    pub fn headline(&self) -> String {
        self.headline_in(false)
    }

    /// The same in Japanese.
    pub fn japanese_headline(&self) -> String {
        self.headline_in(true)
    }

    fn headline_in(&self, ja: bool) -> String {
        let named =
            [(&self.slp, "single-layer net", "単層"), (&self.mlp, "multi-layer net", "多層")];
        let nets = named.into_iter().filter_map(|(run, en, jp)| {
            Some(format!("{} {}", if ja { jp } else { en }, accuracy(run.as_ref()?, ja)))
        });
        let mut all: Vec<String> = nets.collect();
        if let Some(best) = self.runs.rows.first().filter(|_| all.is_empty()) {
            all.push(format!(
                "{} {:.1} %",
                best.node,
                best.scores.get("test").map_or(0.0, |score| score.accuracy) * 100.0
            ));
        }
        match (all.is_empty(), ja) {
            (true, false) => "no training run".to_owned(),
            (true, true) => "学習の実行なし".to_owned(),
            (false, false) => format!("test accuracy: {}", all.join(", ")),
            (false, true) => format!("評価データの正解率：{}", all.join("、")),
        }
    }
}

/// A run's accuracy on test; for several seeds, also its mean and standard deviation.
fn accuracy(run: &RunFacts, ja: bool) -> String {
    let one = format!("{:.1} %", run.test() * 100.0);
    let Some((spread, n)) = run.over_seeds() else { return one };
    let (mean, deviation) = (spread.mean * 100.0, spread.deviation * 100.0);
    if ja {
        format!("{one}（{n}シード：{mean:.1} ± {deviation:.1} %）")
    } else {
        format!("{one} ({n} seeds: {mean:.1} ± {deviation:.1} %)")
    }
}

/// The category's name in the exercise.
fn japanese(category: Category) -> &'static str {
    match category {
        Category::Business => "ビジネス",
        Category::Technology => "科学技術",
        Category::Entertainment => "エンターテインメント",
        Category::Medicine => "健康",
    }
}
