//! The workspace's shape: who may depend on whom, and that nothing heavy is compiled twice.

#![allow(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use e2e::{Ended, root};

fn cargo(args: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    Ended::of(command).ok().out
}

const STAGES: [&str; 6] = ["ingest", "split", "embed", "tensors", "train", "report"];

/// The dependencies of each workspace crate, tests aside.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])).expect("JSON");
    let text = |v: &serde_json::Value| v.as_str().expect("a text").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let normal = |d: &&serde_json::Value| d["kind"].is_null();
    packages
        .iter()
        .map(|p| {
            (text(&p["name"]), p["dependencies"].as_array().expect("a list").iter().filter(normal).map(|d| text(&d["name"])).collect())
        })
        .collect()
}

#[test]
fn arrows_run_one_way() {
    let edges = edges();
    let users = |package: &str| edges.iter().filter(|(_, d)| d.contains(package)).map(|(n, _)| n.as_str()).collect::<Vec<_>>();
    for stage in STAGES {
        assert!(users(stage).is_empty(), "{stage} is used by {:?}: stages meet as files", users(stage));
        assert!(edges[stage].contains("artifact"));
        assert!(!edges[stage].contains("cache"), "{stage} knows the cache: a change to it would rerun the stage");
    }
    assert_eq!(users("candle-core"), ["nets", "train"]);
    assert_eq!(users("candle-nn"), ["train"]);
    assert_eq!(users("nets"), ["predict", "train"]);
    assert_eq!(users("kernels"), ["nets", "predict", "tensors", "train", "vectors"]);
    assert_eq!(users("vectors"), ["predict", "tensors"]);
    assert_eq!(users("plotters"), ["curves", "report"]);
    assert_eq!(users("reqwest"), ["fetch", "remote"]);
    assert_eq!(users("object_store"), ["remote"]);
    assert_eq!(users("fetch"), ["embed", "ingest"]);
    assert_eq!(users("polars"), ["embed", "formats", "ingest", "split", "train"]);
    assert_eq!(users("cache"), ["bundle", "remote", "xtask"]);
    assert!(users("bundle").is_empty() && users("remote").is_empty(), "xtask runs them and does not link them");
    for light in ["artifact", "cache", "features", "xtask"] {
        for heavy in ["polars", "candle-core", "reqwest", "formats"] {
            assert!(!edges[light].contains(heavy), "{light} depends on {heavy}");
        }
    }
}

#[test]
fn xtask_is_light() {
    let tree = cargo(&["tree", "--package", "xtask", "--edges", "normal,build", "--prefix", "none"]);
    let packages: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    for heavy in ["polars", "candle-core", "reqwest", "tokio", "zstd"] {
        assert!(!packages.contains(heavy), "xtask builds {heavy}");
    }
    assert!(packages.len() < 70, "xtask builds {} packages", packages.len());
}

/// The features of each package that a build of `selection` compiles.
fn features(selection: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let args = [&["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{f}"], selection].concat();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in cargo(&args).lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
        let name = package.split(" (").next().unwrap_or(package).to_owned();
        found.entry(name).or_default().extend(features.split(',').filter(|f| !f.is_empty()).map(str::to_owned));
    }
    found
}

/// A stage that is built alone must not choose other features than the workspace for anything
/// that polars or candle are built on: it would compile them a second time. The line to add to
/// crates/unify/Cargo.toml is in the message.
#[test]
fn a_stage_built_alone_has_the_workspace_s_features() {
    let whole = features(&["--workspace"]);
    for stage in ["ingest", "split", "embed", "tensors", "train", "predict", "remote"] {
        for (package, alone) in features(&["--package", stage]) {
            let missing: Vec<&String> = whole[&package].difference(&alone).collect();
            assert!(missing.is_empty(), "built for {stage} alone, {package} lacks the features {missing:?}");
        }
    }
}
