//! The graph: which node runs what and reads what.

use std::fmt::Write as _;

use artifact::options::suggest;
use artifact::{Failure, Result};

/// A node of the graph.
#[derive(Debug)]
pub struct Node {
    /// Its name, and its folder's.
    pub name: &'static str,
    /// The stage crate that runs it.
    pub package: &'static str,
    /// The descriptions of its options, below `crates/`, later ones over earlier ones.
    pub options: &'static [&'static str],
    /// Whether it measures time, and so has the machine for itself.
    pub alone: bool,
    /// The artifacts that it reads, by node. What is not named here does not reach it, and does
    /// not make it stale.
    pub reads: &'static [(&'static str, &'static [&'static str])],
}

impl Node {
    /// Whether a run that was killed leaves checkpoints that the next one goes on from.
    pub fn resumes(&self) -> bool {
        self.package == "train" && !self.alone
    }
}

const PARTS: &[&str] = &["train.parquet", "valid.parquet", "test.parquet"];
const MATRICES: &[&str] = &["train.safetensors", "valid.safetensors", "test.safetensors"];
const RUN: &[&str] = &["config.json", "history.jsonl", "metrics.json", "predictions.parquet"];

/// Every node after those that it reads.
pub const GRAPH: &[Node] = &[
    Node { name: "ingest", package: "ingest", options: &["ingest/options.toml"], alone: false, reads: &[] },
    Node { name: "split", package: "split", options: &["split/options.toml"], alone: false, reads: &[("ingest", &["headlines.parquet"])] },
    Node { name: "embed", package: "embed", options: &["embed/options.toml"], alone: false, reads: &[("split", PARTS)] },
    Node {
        name: "tensors",
        package: "tensors",
        options: &["tensors/options.toml"],
        alone: false,
        reads: &[("split", PARTS), ("embed", &["vocabulary.parquet", "vectors.safetensors"])],
    },
    Node {
        name: "train.slp",
        package: "train",
        options: &["train/options/common.toml", "train/options/slp.toml"],
        alone: false,
        reads: &[("tensors", MATRICES)],
    },
    Node {
        name: "train.curve",
        package: "train",
        options: &["train/options/common.toml", "train/options/slp.toml", "train/options/curve.toml"],
        alone: false,
        reads: &[("tensors", MATRICES)],
    },
    Node {
        name: "train.mlp",
        package: "train",
        options: &["train/options/common.toml", "train/options/mlp.toml"],
        alone: false,
        reads: &[("tensors", MATRICES)],
    },
    Node { name: "train.sweep", package: "train", options: &["train/options/sweep.toml"], alone: true, reads: &[("tensors", MATRICES)] },
    Node {
        name: "report",
        package: "report",
        options: &["report/options.toml"],
        alone: false,
        reads: &[
            ("ingest", &["summary.json", "options.json"]),
            ("split", &["summary.json", "options.json"]),
            ("embed", &["coverage.json", "options.json"]),
            ("tensors", &["summary.json", "options.json"]),
            ("train.slp", &["config.json", "history.jsonl", "metrics.json", "predictions.parquet", "start.json"]),
            ("train.curve", RUN),
            ("train.mlp", RUN),
            ("train.sweep", &["config.json", "machine.json", "sweep.jsonl"]),
        ],
    },
];

/// The node of that name.
pub fn find(name: &str) -> Result<&'static Node> {
    GRAPH.iter().find(|n| n.name == name).ok_or_else(|| {
        let what = format!("there is no node `{name}`{}", suggest(name, GRAPH.iter().map(|n| n.name)));
        Failure::usage(what, "command line", "`cargo xtask graph` shows the nodes")
    })
}

/// Whether `node` needs what `other` makes, directly or not.
pub fn depends(node: &Node, other: &str) -> bool {
    node.reads.iter().any(|(name, _)| *name == other || find(name).is_ok_and(|n| depends(n, other)))
}

/// How the graph is shown.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// A line a node.
    Text,
    /// For Markdown that draws Mermaid.
    Mermaid,
    /// For Graphviz.
    Dot,
}

/// The graph as text.
pub fn show(format: Format) -> String {
    let edges = || GRAPH.iter().flat_map(|node| node.reads.iter().map(move |(from, _)| (*from, node.name)));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = match format {
        Format::Text => GRAPH.iter().try_for_each(|node| {
            let from: Vec<&str> = node.reads.iter().map(|(n, _)| *n).collect();
            let arrow = if from.is_empty() { String::new() } else { format!(" ← {}", from.join(", ")) };
            writeln!(out, "{:<11} {}{arrow}", node.name, node.package)
        }),
        Format::Mermaid => {
            let _ = writeln!(out, "graph LR");
            edges().try_for_each(|(from, to)| writeln!(out, "  {from} --> {to}"))
        }
        Format::Dot => {
            let _ = writeln!(out, "digraph knockline {{\n  rankdir=LR;");
            let _ = edges().try_for_each(|(from, to)| writeln!(out, "  \"{from}\" -> \"{to}\";"));
            writeln!(out, "}}")
        }
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_comes_after_those_that_it_reads() {
        for (i, node) in GRAPH.iter().enumerate() {
            for (name, files) in node.reads {
                assert!(GRAPH[..i].iter().any(|n| n.name == *name), "{} reads {name}", node.name);
                assert!(!files.is_empty());
            }
        }
    }

    #[test]
    fn a_wrong_name_gets_the_nearest() {
        assert!(find("tensor").unwrap_err().what.contains("did you mean `tensors`?"));
        let report = find("report").expect("a node");
        assert!(depends(report, "ingest") && !depends(find("split").expect("a node"), "embed"));
    }
}
