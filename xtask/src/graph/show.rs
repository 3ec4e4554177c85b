//! The graph as text: for reading, for Mermaid, for Graphviz, and for programs.

use std::fmt::Write as _;

use cache::NodeName;
use serde_json::json;

use super::{Graph, Node};

impl Graph {
    /// The graph as text; `workflow` makes that for Snakemake.
    pub fn show(&self, format: GraphFormat, workflow: impl FnOnce() -> String) -> String {
        let edges = || {
            self.iter()
                .flat_map(|node| node.reads.iter().map(move |input| (&input.node, &node.name)))
        };
        let width = self.width();
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = match format {
            GraphFormat::Text => self.iter().try_for_each(|node| {
                let from: Vec<&str> = node.reads.iter().map(|input| input.node.as_str()).collect();
                let arrow = if from.is_empty() {
                    String::new()
                } else {
                    format!(" ← {}", from.join(", "))
                };
                writeln!(out, "{:<width$} {}{arrow}", node.name, node.package)
            }),
            GraphFormat::Mermaid => {
                let _ = writeln!(out, "graph LR");
                // A name with special characters needs quotes, which an identifier cannot have.
                let shown = |name: &NodeName| {
                    let id: String =
                        name.chars()
                            .map(|c| {
                                if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }
                            })
                            .collect();
                    if id == **name { id } else { format!("{id}[\"{name}\"]") }
                };
                edges()
                    .try_for_each(|(from, to)| writeln!(out, "  {} --> {}", shown(from), shown(to)))
            }
            GraphFormat::Dot => {
                let _ = writeln!(out, "digraph knockline {{\n  rankdir=LR;");
                let _ =
                    edges().try_for_each(|(from, to)| writeln!(out, "  \"{from}\" -> \"{to}\";"));
                writeln!(out, "}}")
            }
            GraphFormat::Snakemake => return workflow(),
            GraphFormat::Json => self.iter().try_for_each(|node| {
                let reads: serde_json::Map<String, _> = node
                    .reads
                    .iter()
                    .map(|input| (input.node.to_string(), json!(input.files)))
                    .collect();
                let Node { name, package, is_run, .. } = node;
                writeln!(
                    out,
                    "{}",
                    json!({ "node": name, "package": package, "run": is_run, "reads": reads })
                )
            }),
        };
        out
    }
}

/// The format in which the graph is shown.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum GraphFormat {
    /// One line per node.
    Text,
    /// A Mermaid diagram, for Markdown.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
    /// One JSON object per node, with the files that it reads.
    Json,
    /// A workflow for Snakemake, whose rules run the stage programs.
    Snakemake,
}
