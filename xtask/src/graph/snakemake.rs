//! The graph as a Snakemake workflow, whose rules run the same stage programs.
//!
//! The workflow has no cache of its own results' keys: Snakemake compares times. It is for engines that
//! Snakemake can hand jobs to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::Node;
use crate::config::Config;

/// The workflow for artifacts in this folder; the folder of the workspace is `root`.
pub fn workflow(config: &Config, root: &Path, artifacts: &Path) -> String {
    let folder = artifacts.strip_prefix(root).unwrap_or(artifacts).display().to_string();
    let mut out = format!(
        "# Made by `cargo xtask graph --format snakemake`. Run it in the folder of the workspace, after `cargo build --workspace`.\n\
         import os\n\n\
         ARTIFACTS = {}\n\
         BINARIES = os.environ.get(\"KNOCKLINE_BINARIES\", \"target/debug\")\n\n",
        text(&folder)
    );
    let of = |name: &str| format!("ARTIFACTS + {}", text(&format!("/{name}")));
    let read: BTreeSet<&str> = config
        .graph
        .iter()
        .flat_map(|node| node.reads.iter().map(|input| input.node.as_str()))
        .collect();
    let last =
        config.graph.iter().map(|node| node.name.as_str()).filter(|name| !read.contains(name));
    let last: Vec<String> = last.map(of).collect();
    // Writing to a string does not fail.
    let _ = writeln!(out, "rule all:\n    input: {}", last.join(", "));
    let mut names = BTreeSet::new();
    for node in config.graph.iter() {
        let Node { name, package, measures_time, reads, .. } = node;
        let options = config.options(node).into_iter().collect::<serde_json::Map<_, _>>();
        let inputs: Vec<String> = reads.iter().map(|input| of(input.node.as_str())).collect();
        let given: Vec<String> = reads
            .iter()
            .map(|input| {
                let folder = format!("{{ARTIFACTS}}/{}", input.node);
                format!("--input {} {folder} {}", input.node, input.files.join(" "))
            })
            .collect();
        let _ = writeln!(out, "\nrule {}:", rule(name.as_str(), &mut names));
        if !inputs.is_empty() {
            let _ = writeln!(out, "    input: {}", inputs.join(", "));
        }
        let _ = writeln!(out, "    output: directory({})", of(name.as_str()));
        if *measures_time {
            // Nothing runs beside it.
            let _ = writeln!(out, "    threads: workflow.cores");
        }
        let options = json!(options).to_string();
        // A function, because Snakemake replaces braces in texts.
        let _ = writeln!(out, "    params: options=lambda wildcards: {}", text(&options));
        let command = format!(
            "mkdir -p {{output}} && KNOCKLINE_OPTIONS={{params.options:q}} {{BINARIES}}/{package} --node {name} --artifacts {{ARTIFACTS}} --out {{output}} {}",
            given.join(" ")
        );
        let _ = writeln!(out, "    shell: {}", text(command.trim_end()));
    }
    out
}

/// A text as Python writes it; JSON's escapes are some of Python's.
fn text(of: &str) -> String {
    json!(of).to_string()
}

/// The name of a node's rule.
fn rule(node: &str, names: &mut BTreeSet<String>) -> String {
    let plain: String =
        node.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut name = plain.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{plain}_{number}");
        number += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_similar_names_have_rules_of_their_own() {
        let mut names = BTreeSet::new();
        let rules = ["train.slp", "train.m@lr=0.1", "train.m@lr=0_1"].map(|n| rule(n, &mut names));
        assert_eq!(rules, ["train_slp", "train_m_lr_0_1", "train_m_lr_0_1_2"]);
    }
}
