//! `status`, `graph`, `cache key`: what they print, and that they need no stage to be built.

#![allow(clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

use e2e::{Artifacts, Ended, root, xtask};

/// A copy of the workspace's files, to be changed.
fn checkout() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let mut todo = vec![String::new()];
    while let Some(relative) = todo.pop() {
        for entry in std::fs::read_dir(root().join(&relative)).expect("a folder").flatten() {
            let name = entry.file_name().into_string().expect("UTF-8");
            let path =
                if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            if ["target", "artifacts", ".git"].contains(&path.as_str()) {
                continue;
            }
            if entry.file_type().expect("a type").is_dir() {
                std::fs::create_dir_all(dir.path().join(&path)).expect("a folder");
                todo.push(path);
            } else {
                std::fs::copy(root().join(&path), dir.path().join(&path)).expect("copies");
            }
        }
    }
    dir
}

/// The xtask that the other tests run, in another checkout: it reads the sources and never builds.
fn xtask_in(checkout: &Path, args: &[&str]) -> Command {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root()).args(["build", "--package", "xtask", "--message-format=json"]);
    let messages = Ended::of(build).ok().json();
    let binary = messages
        .iter()
        .filter_map(|m| m["executable"].as_str())
        .next_back()
        .expect("a binary")
        .to_owned();
    let mut command = Command::new(binary);
    command.current_dir(checkout).env("CARGO_MANIFEST_DIR", checkout.join("xtask")).args(args);
    command
}

#[test]
fn status_explains_why_results_are_stale() {
    let artifacts = Artifacts::new();
    let before = artifacts.run(&["status"]).ok();
    assert_eq!(before.nodes("state", "missing").len(), e2e::NODES.len());
    assert!(!artifacts.path().join(".knockline").exists(), "`status` writes nothing");

    artifacts.run(&["pipeline"]).ok();
    assert_eq!(artifacts.run(&["status"]).ok().nodes("state", "fresh").len(), e2e::NODES.len());
    let changed = artifacts.run(&["status", "--set", "train.mlp.lr=0.01"]).ok();
    assert_eq!(changed.nodes("state", "stale"), ["train.mlp", "report"]);
    assert!(changed.out.contains("`train.mlp.lr` 0.001 → 0.01"), "{}", changed.out);
    assert!(changed.out.contains("`train.mlp` is not fresh"), "{}", changed.out);
    let one = artifacts.run(&["status", "train.mlp", "--set", "train.mlp.lr=0.01"]).ok();
    assert_eq!((one.json().len(), &one.json()[0]["nearest"]), (1, &serde_json::Value::Null));

    // `status` compares with the nearest earlier result if it is nearer than the current one.
    artifacts
        .run(&[
            "pipeline",
            "--to",
            "train.mlp",
            "--set",
            "train.mlp.lr=0.01",
            "--set",
            "train.mlp.hidden=50",
        ])
        .ok();
    let near = artifacts.run(&["status", "train.mlp", "--set", "train.mlp.lr=0.02"]).ok();
    assert_eq!(
        near.json()[0]["nearest"]["changes"],
        serde_json::json!(["`train.mlp.lr` 0.001 → 0.02"])
    );
    let same = artifacts.run(&["status", "train.mlp"]).ok();
    assert_eq!(same.json()[0]["nearest"]["changes"], serde_json::json!([]));
}

#[test]
fn a_changed_line_in_a_stage_makes_only_that_stage_run() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline"]).ok();
    let copy = checkout();
    let arguments = |command: &str| {
        let mut all: Vec<String> = vec![
            command.into(),
            "--json".into(),
            "--artifacts".into(),
            artifacts.path().display().to_string(),
        ];
        if command == "pipeline" {
            all.push("--dry-run".into());
        }
        all.extend(["--set".into(), "train.mlp.epochs=2".into()]);
        all
    };
    let run = |command: &str| {
        let all = arguments(command);
        Ended::of(xtask_in(copy.path(), &all.iter().map(String::as_str).collect::<Vec<_>>())).ok()
    };
    // Results do not depend on the checkout's path, documents, progress bars, tests, or on how runs
    // are compared.
    for file in [
        "README.md",
        "crates/bars/src/lib.rs",
        "crates/train/src/single/kernel/tests.rs",
        "tests/tests/cache.rs",
        "xtask/src/compare.rs",
    ] {
        let path = copy.path().join(file);
        let text = std::fs::read_to_string(&path).expect(file);
        std::fs::write(path, text + "\n// changed\n").expect("writes");
    }
    assert_eq!(run("status").nodes("state", "fresh").len(), e2e::NODES.len());

    let file = copy.path().join("crates/tensors/src/lib.rs");
    let text = std::fs::read_to_string(&file).expect("reads");
    std::fs::write(&file, text.replacen("//! The fourth", "//! Fourth", 1)).expect("writes");
    let status = run("status");
    assert_eq!(status.nodes("state", "fresh"), ["ingest", "split", "embed", "ngrams", "train.knn"]);
    assert!(status.out.contains("`crates/tensors/src/lib.rs` changed"), "{}", status.out);
    let plan = run("pipeline");
    assert_eq!(plan.nodes("would", "run"), ["tensors"]);
    // Whether these run depends on the bytes that `tensors` will write.
    assert_eq!(
        plan.nodes("would", "may run"),
        [
            "train.slp",
            "train.curve",
            "train.mlp",
            "train.linear",
            "train.best",
            "train.sweep",
            "report"
        ]
    );
}

#[test]
fn the_graph_has_three_forms() {
    let show = |format: &str| Ended::of(xtask(&["graph", "--format", format])).ok().out;
    assert!(show("text").contains("tensors      tensors ← split, embed"));
    assert!(show("mermaid").contains("  tensors --> train.slp"));
    assert!(show("dot").contains("\"tensors\" -> \"train.slp\";"));
}

#[test]
fn a_recipe_key_is_one_line_and_changes_with_its_ingredients() {
    let key = |sets: &[&str]| {
        let mut args = vec!["cache", "key", "train.mlp"];
        args.extend(sets.iter().flat_map(|s| ["--set", s]));
        Ended::of(xtask(&args)).ok().out
    };
    let plain = key(&[]);
    assert_eq!((plain.lines().count(), plain.trim().len()), (1, 64));
    assert_eq!(plain, key(&["train.slp.lr=0.5"]));
    assert_ne!(plain, key(&["train.mlp.lr=0.5"]));
    assert_ne!(plain, key(&["split.seed=7"]));
}

#[test]
fn key_is_the_same_when_user_threads_language_and_folder_differ() {
    let key = |variables: &[(&str, &str)], folder: &str| {
        let mut command = xtask(&["cache", "key", "report", "--artifacts", folder]);
        command.envs(variables.iter().copied());
        Ended::of(command).ok().out
    };
    let dir = tempfile::tempdir().expect("a folder");
    let here = key(&[], "artifacts");
    let others = [
        ("USER", "somebody"),
        ("LOGNAME", "somebody"),
        ("RAYON_NUM_THREADS", "7"),
        ("LANG", "ja_JP.UTF-8"),
        ("TZ", "Asia/Tokyo"),
    ];
    assert_eq!(here, key(&others, &dir.path().display().to_string()));
}
