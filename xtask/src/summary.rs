//! `cargo xtask summary`: the results in Markdown, for the summary of a CI job, and how they differ from
//! those of another checkout.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cache::{ContentKey, Digest, Manifest, NodeName};
use failure::{Failure, Result};
use schema::Metrics;
use serde::{Deserialize, Serialize};

use crate::commit;
use crate::context::Context;

/// What to compare with.
#[derive(clap::Args)]
pub struct SummaryArguments {
    /// What `cargo xtask summary --json` printed for the results to compare with
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

/// The results of a folder of artifacts.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The checkout's commit, if it is known.
    commit: Option<String>,
    /// In the order of the graph.
    nodes: Vec<NodeSummary>,
}

/// The result of a node.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NodeSummary {
    node: NodeName,
    key: ContentKey,
    /// The digest of its files, but for those with times.
    files: Digest,
    summary: String,
    /// A training run's loss and accuracy, by part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metrics: BTreeMap<String, f64>,
}

/// Prints the summary.
pub fn run(context: Context<'_>, arguments: &SummaryArguments) -> Result<()> {
    let summary = Summary::of(context)?;
    if summary.nodes.is_empty() {
        return Err(Failure::usage(
            "there are no results here",
            context.artifacts().display(),
            "make them: cargo xtask pipeline",
        ));
    }
    let before = arguments.against.as_deref().map(Summary::read).transpose()?;
    let text = if context.json {
        serde_json::to_string(&summary)
            .map_err(|e| Failure::failed(e, "summary", "this is a bug; please report it"))?
    } else {
        summary.markdown(before.as_ref())
    };
    // Whoever closed stdout does not want it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(())
}

impl Summary {
    fn of(context: Context<'_>) -> Result<Self> {
        let Context { root, config, store, .. } = context;
        let mut nodes = Vec::new();
        for node in config.graph.iter() {
            let folder = store.current(&node.name);
            let Some(manifest) = Manifest::read(&folder)? else { continue };
            let manifest = store.trusted(manifest, "make it again: cargo xtask pipeline")?;
            let metrics = if node.is_run { metrics(&folder)? } else { BTreeMap::new() };
            nodes.push(NodeSummary {
                files: files(&manifest),
                node: manifest.node,
                key: manifest.key,
                summary: manifest.summary,
                metrics,
            });
        }
        Ok(Self { commit: commit::describe(root), nodes })
    }

    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Failure::usage(
                format_args!("this is not a summary: {e}"),
                path.display(),
                "make it with `cargo xtask summary --json`",
            )
        })
    }

    fn find(&self, node: &NodeName) -> Option<&NodeSummary> {
        self.nodes.iter().find(|of| of.node == *node)
    }

    fn markdown(&self, before: Option<&Self>) -> String {
        let named =
            |of: &Self| of.commit.as_ref().map_or(String::new(), |c| format!(" of commit {c}"));
        let mut text = format!("## Results{}\n\n", named(self));
        let runs: Vec<&NodeSummary> =
            self.nodes.iter().filter(|node| !node.metrics.is_empty()).collect();
        if !runs.is_empty() {
            text += "| run | accuracy on valid | accuracy on test | loss on test |\n";
            text += "| --- | ---: | ---: | ---: |\n";
        }
        for run in runs {
            let earlier = before.and_then(|before| before.find(&run.node));
            let figure = |name: &str| {
                let Some(now) = run.metrics.get(name) else { return "–".to_owned() };
                let change = earlier.and_then(|run| Some(now - run.metrics.get(name)?));
                let change = change.filter(|change| change.abs() >= 0.00005);
                format!("{now:.4}{}", change.map_or(String::new(), |c| format!(" ({c:+.4})")))
            };
            let figures = ["accuracy_valid", "accuracy_test", "loss_test"].map(figure);
            let _ = writeln!(text, "| {} | {} |", run.node, figures.join(" | "));
        }
        let Some(before) = before else {
            text += "\n| node | result |\n| --- | --- |\n";
            for node in &self.nodes {
                let _ = writeln!(text, "| {} | {} |", node.node, cell(&node.summary));
            }
            return text;
        };
        let _ = writeln!(text, "\nCompared with the results{}:\n", named(before));
        text += "| node | result | difference |\n| --- | --- | --- |\n";
        for node in &self.nodes {
            let difference = difference(node, before.find(&node.node));
            let _ = writeln!(text, "| {} | {} | {difference} |", node.node, cell(&node.summary));
        }
        for gone in before.nodes.iter().filter(|node| self.find(&node.node).is_none()) {
            let _ = writeln!(text, "| {} | – | there is no result any more |", gone.node);
        }
        text
    }
}

/// How a result differs from an earlier one of its node, in words.
fn difference(now: &NodeSummary, before: Option<&NodeSummary>) -> String {
    match before {
        None => "new".to_owned(),
        Some(before) if before.key == now.key && before.files == now.files => {
            "none: the same result".to_owned()
        }
        Some(before) if before.files == now.files => "made again, with the same bytes".to_owned(),
        Some(before) if before.summary == now.summary => "other bytes".to_owned(),
        Some(before) => format!("before: {}", cell(&before.summary)),
    }
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The digest of a result's files, but for those with times.
fn files(manifest: &Manifest) -> Digest {
    let mut text = String::new();
    let timed = |path: &str| path.ends_with("timings.jsonl") || path.ends_with("sweep.jsonl");
    for output in manifest.outputs.iter().filter(|output| !timed(&output.path)) {
        let _ = writeln!(text, "{} {}", output.digest, output.path);
    }
    Digest::of(text.as_bytes())
}

/// A training run's figures; none for what only measures time.
fn metrics(folder: &Path) -> Result<BTreeMap<String, f64>> {
    let path = folder.join("metrics.json");
    let Ok(bytes) = std::fs::read(&path) else { return Ok(BTreeMap::new()) };
    let metrics: Metrics = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::artifact(format_args!("not the metrics of a run: {e}"), &path))?;
    Ok(comparison::metrics(&metrics).into_iter().filter(|(_, figure)| figure.is_finite()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, files: &str, summary: &str, accuracy: Option<f64>) -> NodeSummary {
        let mut of = cache::Ingredients::new();
        of.add("option x", files);
        let metrics = accuracy.map(|accuracy| ("accuracy_test".to_owned(), accuracy));
        NodeSummary {
            node: NodeName::try_from(name).expect("a name"),
            key: of.content_key(),
            files: Digest::of(files.as_bytes()),
            summary: summary.to_owned(),
            metrics: metrics.into_iter().collect(),
        }
    }

    #[test]
    fn what_differs_is_told() {
        let commit = Some("abc".to_owned());
        let now = Summary {
            commit: commit.clone(),
            nodes: vec![
                node("ingest", "1", "5 rows", None),
                node("split", "3", "4 | 1", None),
                node("train.slp", "4", "trained", Some(0.8125)),
                node("train.mlp", "5", "trained", Some(0.5)),
            ],
        };
        let before = Summary {
            commit: None,
            nodes: vec![
                node("ingest", "1", "5 rows", None),
                node("split", "2", "3 | 2", None),
                node("train.slp", "1", "trained", Some(0.75)),
                node("train.knn", "6", "trained", Some(0.5)),
            ],
        };
        assert_eq!(
            now.markdown(Some(&before)),
            "## Results of commit abc\n\n\
             | run | accuracy on valid | accuracy on test | loss on test |\n\
             | --- | ---: | ---: | ---: |\n\
             | train.slp | – | 0.8125 (+0.0625) | – |\n\
             | train.mlp | – | 0.5000 | – |\n\
             \n\
             Compared with the results:\n\n\
             | node | result | difference |\n\
             | --- | --- | --- |\n\
             | ingest | 5 rows | none: the same result |\n\
             | split | 4 \\| 1 | before: 3 \\| 2 |\n\
             | train.slp | trained | other bytes |\n\
             | train.mlp | trained | new |\n\
             | train.knn | – | there is no result any more |\n"
        );
        let json = serde_json::to_string(&now).expect("JSON");
        assert_eq!(serde_json::from_str::<Summary>(&json).expect("a summary"), now);
    }
}
