//! The workspace's structure: which crate may depend on which, and that nothing heavy is compiled
//! twice.

#![allow(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use e2e::{Ended, root};

fn cargo(args: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    Ended::of(command).ok().out
}

const STAGES: [&str; 9] =
    ["ingest", "split", "embed", "tensors", "tokens", "ngrams", "train", "fit", "report"];

/// The dependencies of each workspace crate, without those of tests and build scripts.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"]))
            .expect("JSON");
    let text = |v: &serde_json::Value| v.as_str().expect("a text").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let normal = |d: &&serde_json::Value| d["kind"].is_null();
    packages
        .iter()
        .map(|p| {
            (
                text(&p["name"]),
                p["dependencies"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .filter(normal)
                    .map(|d| text(&d["name"]))
                    .collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_only_on_the_crates_that_they_may_use() {
    let edges = edges();
    let users = |package: &str| {
        edges
            .iter()
            .filter(|(_, d)| d.contains(package))
            .map(|(n, _)| n.as_str())
            .collect::<Vec<_>>()
    };
    for stage in STAGES {
        assert!(
            users(stage).is_empty(),
            "{stage} is used by {:?}: stages meet as files",
            users(stage)
        );
        assert!(edges[stage].contains("stage"));
        assert!(
            !edges[stage].contains("cache"),
            "{stage} depends on `cache`: a change to the cache would rerun the stage"
        );
    }
    // Progress bars and comparisons of runs are not part of any training result.
    assert_eq!(users("indicatif"), ["bars"]);
    assert_eq!(users("bars"), ["xtask"]);
    assert_eq!(users("comparison"), ["knockline", "model", "report", "xtask"]);
    assert_eq!(users("candle-core"), ["nets", "train"]);
    assert_eq!(users("candle-nn"), ["nets", "train"]);
    assert_eq!(users("nets"), ["export", "predict", "train"]);
    assert_eq!(users("classifiers"), ["export", "fit", "model", "predict"]);
    assert_eq!(
        users("ngram_features"),
        ["export", "fit", "knockline", "model", "ngrams", "predict", "report"]
    );
    assert_eq!(users("model"), ["export", "knockline"]);
    assert!(users("export").is_empty() && users("knockline").is_empty());
    assert_eq!(users("predictions"), ["export", "fit", "train"]);
    assert_eq!(users("headline_features"), ["fit", "predict", "report", "tensors", "tokens"]);
    assert_eq!(users("encoders"), ["export", "model", "nets", "predict", "train"]);
    assert_eq!(users("plotters"), ["curves", "report"]);
    assert_eq!(users("reqwest"), ["fetch", "remote"]);
    assert_eq!(users("object_store"), ["remote"]);
    assert_eq!(users("fetch"), ["embed", "ingest"]);
    assert_eq!(
        users("polars"),
        [
            "embed",
            "export",
            "formats",
            "ingest",
            "knockline",
            "ngram_features",
            "predictions",
            "report",
            "split",
            "tokens"
        ]
    );
    assert_eq!(users("cache"), ["bundle", "remote", "xtask"]);
    assert!(
        users("bundle").is_empty() && users("remote").is_empty(),
        "xtask runs them and does not link them"
    );
    for light in ["failure", "stage", "schema", "comparison", "cache", "text", "bars", "xtask"] {
        for heavy in ["polars", "candle-core", "reqwest", "formats"] {
            assert!(!edges[light].contains(heavy), "{light} depends on {heavy}");
        }
    }
}

/// The library that opens a model is part of other people's programs.
#[test]
fn a_model_needs_neither_polars_nor_candle() {
    for args in [
        &["--package", "model"][..],
        &["--package", "knockline", "--no-default-features", "--features", "serve"],
    ] {
        let tree =
            cargo(&[&["tree", "--edges", "normal,build", "--prefix", "none"], args].concat());
        let packages: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
        for heavy in ["polars", "candle-core", "reqwest", "object_store"] {
            assert!(!packages.contains(heavy), "{args:?} builds {heavy}");
        }
    }
}

#[test]
fn xtask_is_light() {
    let tree =
        cargo(&["tree", "--package", "xtask", "--edges", "normal,build", "--prefix", "none"]);
    let packages: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    for heavy in ["polars", "candle-core", "reqwest", "tokio", "zstd"] {
        assert!(!packages.contains(heavy), "xtask builds {heavy}");
    }
    assert!(packages.len() < 70, "xtask builds {} packages", packages.len());
}

/// Every source file of the workspace by its path.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root().join("crates"), root().join("xtask"), root().join("tests")];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("reads");
                found.insert(path.strip_prefix(root()).expect("below").display().to_string(), text);
            }
        }
    }
    found
}

/// The features of each package that a build of `selection` compiles.
fn features(selection: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let args = [
        &["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{f}"],
        selection,
    ]
    .concat();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in cargo(&args).lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let name = package.split(" (").next().unwrap_or(package).to_owned();
        found
            .entry(name)
            .or_default()
            .extend(features.split(',').filter(|f| !f.is_empty()).map(str::to_owned));
    }
    found
}

/// A stage that is built alone must not select other features than the workspace for a dependency
/// of polars or candle, or they would be compiled a second time. The message names the package and
/// the features to add to crates/workspace-hack/Cargo.toml.
#[test]
fn a_stage_built_alone_has_the_workspace_s_features() {
    let whole = features(&["--workspace"]);
    for stage in [
        "ingest",
        "split",
        "embed",
        "tensors",
        "ngrams",
        "train",
        "fit",
        "report",
        "predict",
        "remote",
        "export",
        "knockline",
    ] {
        for (package, alone) in features(&["--package", stage]) {
            let missing: Vec<&String> = whole[&package].difference(&alone).collect();
            assert!(
                missing.is_empty(),
                "built for {stage} alone, {package} lacks the features {missing:?}"
            );
        }
    }
}

/// Every dependency comes from the registry and has a licence that deny.toml allows. `cargo deny
/// check`, where it is installed, checks this and more; this test needs neither network nor tools.
#[test]
fn dependencies_are_licensed_and_come_from_the_registry() {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--locked"]))
            .expect("JSON");
    let policy = std::fs::read_to_string(root().join("deny.toml")).expect("reads");
    let list =
        policy.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list");
    let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(allowed.len() > 5, "{allowed:?}");
    let mut seen = 0;
    for package in metadata["packages"].as_array().expect("packages") {
        let (name, Some(source)) =
            (package["name"].as_str().expect("a name"), package["source"].as_str())
        else {
            continue;
        };
        assert!(source.starts_with("registry+"), "{name} comes from {source}");
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        assert!(
            is_allowed(&licence, &allowed),
            "{name} has the licence `{licence}`, which deny.toml does not allow"
        );
        seen += 1;
    }
    assert!(seen > 200, "{seen} packages");
}

/// Whether the `allowed` licences satisfy a licence expression (SPDX), in which `AND` binds closer
/// than `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let mut depth = 0;
    // The position of the first `word` outside of all parentheses.
    let mut cut = |word: &str| {
        expression.char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            (depth == 0 && expression[at..].starts_with(word)).then_some(at)
        })
    };
    if let Some(at) = cut(" OR ") {
        return is_allowed(&expression[..at], allowed)
            || is_allowed(&expression[at + 4..], allowed);
    }
    if let Some(at) = cut(" AND ") {
        return is_allowed(&expression[..at], allowed)
            && is_allowed(&expression[at + 5..], allowed);
    }
    match expression.trim().strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.contains(&expression.trim()),
    }
}

#[test]
fn licence_expressions_are_evaluated_correctly() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
    for (expression, want) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
        ("GPL-3.0-only AND MIT OR Apache-2.0", true),
        ("((GPL-3.0-only))", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), want, "{expression}");
    }
}

/// `unsafe` code is used for vector instructions, products on raw pointers, memory maps (one in a
/// test), and GPUs. clippy demands a reason at each place.
#[test]
fn unsafe_code_is_only_in_the_known_files() {
    let has_unsafe = |text: &str| {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let mut words =
            code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        words.any(|word| word == "unsafe")
    };
    let found: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(file, text)| !file.starts_with("tests/tests/") && has_unsafe(text))
        .map(|(file, _)| file)
        .collect();
    let known = [
        "crates/formats/src/arrays.rs",
        "crates/kernels/src/gemm.rs",
        "crates/kernels/src/simd/x86.rs",
        "crates/train/src/device.rs",
        "crates/train/src/gpu/cuda.rs",
        "crates/train/src/gpu/emulator.rs",
        "crates/train/src/gpu/mod.rs",
        "crates/train/src/gpu/multi.rs",
        "crates/train/src/multi.rs",
        "crates/train/src/single.rs",
        "xtask/src/model/world.rs",
    ];
    assert!(found.iter().map(String::as_str).eq(known), "{found:?}");
}
