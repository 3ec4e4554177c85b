//! The second answer to problem 79: n-grams, a linear classifier, nearest neighbours, and their
//! stack.

#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use e2e::{Artifacts, Ended};
use serde_json::Value;

/// The files that `--to train.best` makes, without clock readings and manifests that list them.
fn made(artifacts: &Artifacts) -> BTreeMap<String, Vec<u8>> {
    let mut all = artifacts.bytes();
    all.retain(|file, _| !file.ends_with("manifest.json") && !file.ends_with("timings.jsonl"));
    all
}

#[test]
fn the_stack_has_the_same_bytes_by_any_number_of_threads_and_after_a_kill() {
    let [one, two, killed] = [(); 3].map(|()| Artifacts::new());
    for (artifacts, threads) in [(&one, "1"), (&two, "3")] {
        let mut command = artifacts.command(&["pipeline", "--to", "train.best"]);
        Ended::of({
            command.env("KNOCKLINE_THREADS", threads);
            command
        })
        .ok();
    }
    // Kills at different times, each a little later, until a run ends.
    let mut wait = 20;
    loop {
        let mut child = killed.start(&["pipeline", "--to", "train.best"]);
        std::thread::sleep(std::time::Duration::from_millis(wait));
        if child.try_wait().expect("a state").is_some_and(|status| status.success()) {
            break;
        }
        child.kill().and_then(|()| child.wait()).expect("kills");
        wait += wait / 4 + 20;
    }
    let [one, two, killed] = [one, two, killed].map(|artifacts| made(&artifacts));
    for (file, bytes) in &one {
        assert!(two[file] == *bytes, "{file} differs by the number of threads");
        assert!(killed.get(file) == Some(bytes), "{file} differs after kills");
    }
    for file in [
        "ngrams/train.safetensors",
        "ngrams/vocabulary.parquet",
        "train.linear/model.safetensors",
        "train.linear/margins.safetensors",
        "train.knn/margins.safetensors",
        "train.best/model.safetensors",
        "train.best/predictions.parquet",
    ] {
        assert!(one.contains_key(file), "{file} is missing");
    }
}

#[test]
fn nets_with_epochs_have_the_same_bytes_by_any_number_of_threads_and_after_a_kill() {
    let options = [
        "train.bow.net=bow",
        "train.bow.folds=2",
        "train.bow.epochs=100",
        "train.bow.checkpoint_seconds=0",
        "train.dan.net=dan",
        "train.dan.epochs=100",
        "train.dan.checkpoint_seconds=0",
        "train.slp.folds=3",
        "train.slp.epochs=40",
    ];
    let [one, two, killed] = [(); 3].map(|()| Artifacts::with(&options));
    for (artifacts, threads) in [(&one, "1"), (&two, "3")] {
        for node in ["train.bow", "train.dan", "train.slp"] {
            let mut command = artifacts.command(&["pipeline", "--to", node]);
            command.env("KNOCKLINE_THREADS", threads);
            Ended::of(command).ok();
        }
    }
    // Killed while a net is trained: the first checkpoint is there.
    let mut resumed = 0;
    for (node, begins) in [
        ("bow", "checkpoints/newest.safetensors"),
        ("dan", "checkpoints/newest.safetensors"),
        ("slp", "folds/1/checkpoints/epoch-0001.safetensors"),
    ] {
        let args = ["pipeline", "--to", &format!("train.{node}")];
        let mut child = killed.start(&args);
        let unfinished = killed.path().join(".knockline/unfinished").join(format!("train.{node}"));
        let begun = || {
            let folders = std::fs::read_dir(&unfinished).into_iter().flatten().flatten();
            folders.into_iter().any(|of| of.path().join(begins).exists())
        };
        while !begun() && child.try_wait().expect("a state").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().and_then(|()| child.wait()).expect("kills");
        resumed += usize::from(killed.run(&args).ok().err.contains("resuming after epoch"));
    }
    assert!(resumed > 0, "no net was resumed");
    let [one, two, killed] = [one, two, killed].map(|artifacts| made(&artifacts));
    assert!(one.contains_key("train.slp/margins.safetensors"));
    assert!(!one.keys().any(|file| file.contains("folds/")), "no fold is left");
    for node in ["bow", "dan"] {
        for file in ["model.safetensors", "history.jsonl", "predictions.parquet"] {
            let file = format!("train.{node}/{file}");
            assert!(one.contains_key(&file), "{file} is missing");
        }
        let rest = format!("train.{node}/checkpoints");
        assert!(!one.keys().any(|file| file.starts_with(&rest)), "nothing is left to resume");
    }
    for (file, bytes) in &one {
        assert!(two[file] == *bytes, "{file} differs by the number of threads");
        assert!(killed.get(file) == Some(bytes), "{file} differs after a kill");
    }
}

#[test]
fn a_changed_member_reruns_its_stack_and_nothing_else() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "train.best"]).ok();
    let to_best = |set: &str| {
        let ended = artifacts.run(&["pipeline", "--to", "train.best", "--set", set]).ok();
        ended.nodes("status", "run")
    };
    assert_eq!(to_best("train.knn.k=4"), ["train.knn", "train.best"]);
    assert_eq!(to_best("train.linear.c=1"), ["train.linear", "train.best"]);
    assert_eq!(to_best("train.best.c=1"), ["train.best"]);
    assert_eq!(
        to_best("ngrams.hash_bits=12"),
        ["ngrams", "train.linear", "train.knn", "train.best"]
    );
    let linear = artifacts.json("train.linear/config.json");
    assert_eq!(linear["features"], 2 * 4096 + 300);
}

/// The answers to these headlines.
fn answers(artifacts: &Artifacts, args: &[&str], titles: &str) -> Vec<Value> {
    let mut command = artifacts.command(&[&["predict", "--top-k", "4"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("stdin").write_all(titles.as_bytes()).expect("writes");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn predict_scores_as_the_run_did() {
    let dir = tempfile::tempdir().expect("a folder");
    // One in five texts has another label than its topic's.
    let rows = |from: usize, to: usize| -> Vec<(String, usize)> {
        let row = |i: usize| {
            let label = if i.is_multiple_of(5) { i / 5 % 3 } else { i * 7 % 3 };
            (format!("topic{} word{} Ünï{} word{}", i * 7 % 3, i % 13, i % 4, i % 31), label)
        };
        (from..to).map(row).collect()
    };
    let parts = [("train", rows(0, 900)), ("valid", rows(900, 1100)), ("test", rows(1100, 1400))];
    for (name, rows) in &parts {
        let lines = rows.iter().map(|(text, label)| format!("{text}\tl{label}\n"));
        let text = std::iter::once("text\tlabel\n".to_owned()).chain(lines).collect::<String>();
        std::fs::write(dir.path().join(format!("{name}.tsv")), text).expect("writes");
    }
    let artifacts = Artifacts::with(&[
        &format!("ingest.files={}", dir.path().join("*.tsv").display()),
        "split.given.train=train.tsv",
        "split.given.valid=valid.tsv",
        "split.given.test=test.tsv",
        "train.bow.net=bow",
        "train.bow.folds=3",
        "train.bow.epochs=30",
        "train.dan.net=dan",
        "train.dan.lr=0.1",
        "train.dan.epochs=30",
        "train.slp.folds=2",
        r#"train.best.members=["train.linear", "train.knn", "train.bow", "train.slp"]"#,
    ]);
    artifacts.run(&["pipeline", "--to", "train.best"]).ok();
    artifacts.run(&["pipeline", "--to", "train.dan"]).ok();
    let (_, test) = &parts[2];
    let lines = test.iter().map(|(title, _)| format!("{title}\n")).collect::<String>();
    for run in ["train.linear", "train.knn", "train.bow", "train.dan", "train.best"] {
        let all = answers(&artifacts, &["--run", run, "-"], &lines);
        assert_eq!(all.len(), test.len());
        let (mut right, mut loss) = (0_u32, 0.0);
        for (answer, (_, label)) in all.iter().zip(test) {
            let label = format!("l{label}");
            right += u32::from(answer["category"] == label.as_str());
            let top = answer["top"].as_array().expect("a list");
            let own = top.iter().find(|of| of["category"] == label.as_str()).expect("the class");
            loss -= own["probability"].as_f64().expect("a number").ln();
        }
        let n = test.len() as f64;
        let metrics = &artifacts.json(&format!("{run}/metrics.json"))["test"];
        assert_eq!(metrics["accuracy"].as_f64(), Some(f64::from(right) / n), "{run}");
        let want = metrics["loss"].as_f64().expect("a loss");
        assert!((loss / n - want).abs() < 1e-4, "{run}: {} is not {want}", loss / n);
        assert!(f64::from(right) > 0.75 * n, "{run}: {right}");
    }
    // Without --run, the best one answers.
    let [best, named] =
        [&["-"][..], &["--run", "train.best", "-"]].map(|args| answers(&artifacts, args, &lines));
    assert_eq!(best, named);
}

#[test]
fn runs_that_no_longer_fit_together_are_refused_by_predict() {
    let artifacts = Artifacts::with(&["train.dan.net=dan", "train.dan.epochs=1"]);
    artifacts.run(&["pipeline", "--to", "train.best"]).ok();
    artifacts.run(&["pipeline", "--to", "train.dan"]).ok();
    let refusal = |run: &str| {
        let ended = artifacts.run(&["predict", "--run", run, "markets"]);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        ended.err
    };
    artifacts.run(&["pipeline", "--to", "train.knn", "--set", "train.knn.k=4"]).ok();
    let err = refusal("train.best");
    assert!(err.contains("`train.best` was trained on other results of `train.knn`"), "{err}");
    artifacts.run(&["pipeline", "--to", "ngrams", "--set", "ngrams.min_count=3"]).ok();
    let err = refusal("train.linear");
    assert!(err.contains("`train.linear` was trained on other features than `ngrams`"), "{err}");
    artifacts.run(&["pipeline", "--to", "embed", "--set", "embed.lowercase=fallback"]).ok();
    let err = refusal("train.dan");
    assert!(err.contains("`train.dan` was trained on other word vectors than `embed`"), "{err}");
}

#[test]
fn any_number_of_labels_and_of_members_is_fitted_and_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("texts.tsv");
    let row = |row: usize| {
        let label = row * 7 % 40;
        format!("topic{label} word{} word{}\tl{label}\n", row % 13, row % 31)
    };
    let rows = (0..2000).map(row);
    let text: String = std::iter::once("text\tlabel\n".to_owned()).chain(rows).collect();
    std::fs::write(&file, text).expect("writes");
    let source = format!("ingest.source={}", file.display());
    let options = [
        source.as_str(),
        "train.mlp.epochs=2",
        "train.curve.epochs=2",
        "train.plain.net=linear",
        "train.plain.folds=3",
        "train.plain.solver=newton",
        "train.plain.loss=logistic",
        "train.plain.naive_bayes=0",
        "train.plain.vectors=0",
        "train.plain.class_weight=balanced",
        r#"train.best.members=["train.linear", "train.plain", "train.knn"]"#,
    ];
    let artifacts = Artifacts::with(&options);
    artifacts.run(&["pipeline"]).ok();
    // With so many classes, several groups of machines are trained side by side.
    let alone = Artifacts::with(&options);
    let mut command = alone.command(&["pipeline", "--to", "train.best"]);
    command.env("KNOCKLINE_THREADS", "1");
    Ended::of(command).ok();
    let together = made(&artifacts);
    for (file, bytes) in made(&alone) {
        assert!(together[&file] == bytes, "{file} differs by the number of threads");
    }
    let accuracy = artifacts.json("train.best/metrics.json")["test"]["accuracy"].as_f64();
    assert!(accuracy > Some(0.95), "{accuracy:?}");
    let page = std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page");
    assert!(page.contains("id=\"best\"") && page.contains("most for l0"));
    let answer = &answers(&artifacts, &["-"], "topic7 word1\n")[0];
    assert_eq!(answer["category"], "l7");
}

#[test]
fn two_classes_without_a_test_part_are_fitted_scored_and_predicted() {
    let dir = tempfile::tempdir().expect("a folder");
    let row = |i: usize| {
        let words = if i.is_multiple_of(2) { "fine good" } else { "bad poor" };
        // A text without a word or a character is a row without features.
        let text = if i == 7 { "" } else { words };
        format!("{text} word{}\t{}\n", i % 17, i % 2)
    };
    for (name, rows) in [("train.tsv", 0..300), ("dev.tsv", 300..400)] {
        let rows = rows.map(row);
        let text: String = std::iter::once("text\tlabel\n".to_owned()).chain(rows).collect();
        std::fs::write(dir.path().join(name), text).expect("writes");
    }
    let artifacts = Artifacts::with(&[
        &format!("ingest.files={}", dir.path().join("*.tsv").display()),
        "split.given.train=train.tsv",
        "split.given.valid=dev.tsv",
        r#"split.parts=["train", "valid"]"#,
    ]);
    artifacts.run(&["pipeline", "--to", "train.best"]).ok();
    let metrics = artifacts.json("train.best/metrics.json");
    assert_eq!((&metrics["valid"]["accuracy"], &metrics["test"]), (&1.0.into(), &Value::Null));
    let all = answers(&artifacts, &["-"], "a good one\na poor one\n");
    assert_eq!((&all[0]["category"], &all[1]["category"]), (&"0".into(), &"1".into()));
}

#[test]
fn evaluate_trains_on_each_split_and_leaves_the_configured_results() {
    let artifacts = Artifacts::new();
    let knn = ["train.knn", "train.linear"];
    let metric = |run: &str| {
        let json = artifacts.json(&format!("{run}/metrics.json"));
        json["test"]["accuracy"].as_f64().expect("an accuracy")
    };
    let mut want = [Vec::new(), Vec::new()];
    for seed in ["split.seed=4", "split.seed=5"] {
        for (run, of) in knn.iter().zip(&mut want) {
            artifacts.run(&["pipeline", "--to", run, "--set", seed]).ok();
            of.push(metric(run));
        }
    }
    artifacts.run(&["pipeline", "--to", "train.best"]).ok();
    let before = made(&artifacts);
    let ended = artifacts.run(&["evaluate", "train.knn", "train.linear", "--seeds", "4-5"]).ok();
    assert!(!ended.err.contains("\nrun "), "every result was there: {}", ended.err);
    for (line, want) in ended.json().iter().zip(&want) {
        let got: Vec<f64> = line["accuracy"]["test"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        assert_eq!(got, *want, "{line}");
        let mean = line["mean"]["test"].as_f64().expect("a mean");
        assert!((mean - f64::midpoint(want[0], want[1])).abs() < 1e-12);
    }
    let difference = &ended.json()[1]["difference"];
    let mean = f64::midpoint(want[1][0] - want[0][0], want[1][1] - want[0][1]);
    assert_eq!(difference["to"], "train.knn");
    assert!((difference["mean"].as_f64().expect("a mean") - mean).abs() < 1e-12);
    let mut after = made(&artifacts);
    for run in ["knn", "linear"] {
        assert!(after.remove(&format!("evaluated/{run}.json")).is_some());
    }
    assert!(after == before, "the configured results are the current ones again");
    // With less of train: rows are left out of train alone.
    let args = ["evaluate", "train.knn", "--seeds", "4-5", "--shares", "0.5"];
    let lines = artifacts.run(&args).ok().json();
    let share = |line: &Value| line["share"].as_f64();
    assert_eq!([share(&lines[0]), share(&lines[1])], [Some(0.5), Some(1.0)]);
    let record = artifacts.json("evaluated/knn.json");
    let all = record["evaluations"].as_array().expect("a list");
    let rows = |of: &Value| of["train_rows"].as_f64().expect("a number");
    let of = |share: f64| all.iter().find(|of| of["share"] == share && of["run"] == "train.knn");
    let [half, whole] = [0.5, 1.0].map(|share| of(share).expect("recorded"));
    assert!((rows(half) / rows(whole) - 0.5).abs() < 0.01);
    assert_eq!(whole["test"], serde_json::json!(want[0]));
    assert_eq!(all.len(), 2);
    artifacts.run(&["pipeline"]).ok();
    let shown = &artifacts.json("report/metrics.json")["evaluated"];
    assert_eq!(shown["curves"][0]["points"].as_array().map(Vec::len), Some(2));
    let page = std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page");
    assert!(page.contains("id=\"evaluated\""));
    assert_eq!(shown["rows"].as_array().map(Vec::len), Some(2));
    // A record of other data or options is not shown.
    artifacts.run(&["pipeline", "--set", "train.knn.k=3"]).ok();
    let shown = &artifacts.json("report/metrics.json")["evaluated"];
    assert_eq!(
        (&shown["rows"][0]["run"], &shown["rows"][1]),
        (&"train.linear".into(), &Value::Null)
    );
    artifacts.run(&["pipeline", "--set", "ingest.publishers=[\"Reuters\", \"Daily Mail\"]"]).ok();
    assert_eq!(artifacts.json("report/metrics.json")["evaluated"], Value::Null);
    artifacts.run(&["pipeline"]).ok();
    for (args, want) in [
        (&["evaluate", "--shares", "2"][..], "2 is not a share of train"),
        (&["evaluate", "--seeds", "5-4"][..], "`5-4` is not a list of seeds"),
        (&["evaluate", "tensors"], "`tensors` is not a training run"),
    ] {
        let refused = artifacts.run(args);
        assert!(refused.code == Some(2) && refused.err.contains(want), "{}", refused.err);
    }
}
