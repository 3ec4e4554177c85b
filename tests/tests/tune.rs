//! Tuning: trials of a run's options, scored by cross-validation.

#![allow(clippy::indexing_slicing)]

use std::path::Path;
use std::time::Duration;

use e2e::{Artifacts, Ended};
use serde_json::Value;

/// Texts in three files. The labels of test are turned by `turned`.
fn write_texts(folder: &Path, turned: usize) {
    let row = |i: usize, by: usize| {
        // One in five texts has another label than its topic's.
        let label = if i.is_multiple_of(5) { i / 5 % 3 } else { i * 7 % 3 };
        format!("topic{} word{} word{}\tl{}\n", i * 7 % 3, i % 13, i % 31, (label + by) % 3)
    };
    for (name, rows, by) in
        [("train", 0..300, 0), ("valid", 300..400, 0), ("test", 400..500, turned)]
    {
        let rows = rows.map(|i| row(i, by));
        let text: String = std::iter::once("text\tlabel\n".to_owned()).chain(rows).collect();
        std::fs::write(folder.join(format!("{name}.tsv")), text).expect("writes");
    }
}

/// Artifacts for these texts, with a tuning of `train.linear`.
fn artifacts(folder: &Path) -> Artifacts {
    Artifacts::with(&[
        &format!("ingest.files={}", folder.join("*.tsv").display()),
        "split.given.train=train.tsv",
        "split.given.valid=valid.tsv",
        "split.given.test=test.tsv",
        "train.mlp.epochs=2",
        r#"tune.linear.ranges.c={min=0.001, max=1.0, scale="log"}"#,
        r#"tune.linear.ranges.loss=["squared_hinge", "logistic"]"#,
        "tune.linear.trials=6",
        "tune.linear.folds=3",
        "tune.linear.seeds=[1, 2]",
        "tune.linear.eta=2",
    ])
}

fn record(of: &Artifacts) -> Value {
    of.json("tuned/linear.json")
}

/// The nodes named in the lines of a run, after this word.
fn nodes(ended: &Ended, word: &str) -> Vec<String> {
    let lines = ended.err.lines().filter_map(|line| line.strip_prefix(word));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn trials_are_scored_on_folds_of_train_and_valid_and_hit_when_they_are_there() {
    let dir = tempfile::tempdir().expect("a folder");
    write_texts(dir.path(), 0);
    let of = artifacts(dir.path());
    of.run(&["pipeline", "--to", "train.linear"]).ok();
    let before = std::fs::read(of.path().join("train.linear/model.safetensors")).expect("a model");
    let first = of.run(&["tune", "linear"]).ok();
    let made = record(&of);
    let trials = made["trials"].as_array().expect("a list");
    assert_eq!((trials.len(), first.json().len()), (6, 6));
    // The configured options come first and stay to the last of 2 × 3 folds.
    let folds = |trial: &Value| trial["accuracies"].as_array().map_or(0, Vec::len);
    assert_eq!((&trials[0]["options"]["c"], folds(&trials[0])), (&Value::from(0.3), 6));
    let mut counts: Vec<usize> = trials.iter().map(folds).collect();
    // Of 6 trials on one fold, 3 go on to 2, 2 of them to 4 and 1 to 6; and so does the first where
    // it is not among them.
    let first_is_best = made["best"] == 0;
    counts.sort_unstable();
    let dropped = counts.iter().filter(|&&n| n == 1).count();
    assert!(dropped == 3 || dropped == 2 && counts[0] == 1, "{counts:?}");
    let finalists = counts.iter().filter(|&&n| n == 6).count();
    assert_eq!(finalists, if first_is_best { 1 } else { 2 }, "{counts:?}");
    assert!(counts.iter().all(|n| [1, 2, 4, 6].contains(n)), "{counts:?}");
    let best = usize::try_from(made["best"].as_u64().expect("a number")).expect("small");
    assert_eq!(folds(&trials[best]), 6);
    // The configured results are the current ones again, and no trial lies beside them.
    let after = std::fs::read(of.path().join("train.linear/model.safetensors")).expect("a model");
    assert!(before == after, "train.linear is that of the configured split");
    let left = std::fs::read_dir(of.path()).expect("a folder").flatten();
    assert!(!left.into_iter().any(|of| of.file_name().to_string_lossy().contains('@')));

    // A trial is a run with its options on the split of a fold.
    let trial = &trials[best];
    let text = |name: &str| trial["options"][name].to_string();
    let metrics = || of.json("train.linear/metrics.json");
    let run = |seed: &str, fold: &str| {
        let sets = [
            "split.cv.folds=3".to_owned(),
            format!("split.cv.seed={seed}"),
            format!("split.cv.fold={fold}"),
            format!("train.linear.c={}", text("c")),
            format!("train.linear.loss={}", text("loss").trim_matches('"')),
        ];
        let args = ["pipeline", "--to", "train.linear"];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        of.run(&args.into_iter().chain(sets).collect::<Vec<_>>()).ok();
        metrics()["valid"]["accuracy"].clone()
    };
    assert_eq!(run("1", "1"), trial["accuracies"][0]);
    assert_eq!(run("2", "3"), trial["accuracies"][5]);
    assert_eq!(metrics()["test"], Value::Null, "a fold has no test part");
    of.run(&["pipeline", "--to", "train.linear"]).ok();

    // Again: every trial is a hit, even if the test part is another one, since none has read it.
    for turned in [0, 1] {
        write_texts(dir.path(), turned);
        let again = of.run(&["tune"]).ok();
        assert_eq!(record(&of)["trials"], made["trials"]);
        assert_eq!(record(&of)["key"] == made["key"], turned == 0);
        let run = nodes(&again, "run ");
        let trained: Vec<&String> =
            run.iter().filter(|node| node.starts_with("train.linear@")).collect();
        assert!(trained.is_empty(), "{trained:?}");
        assert!(turned == 1 || run.is_empty(), "{run:?}");
    }

    // The report shows it, but not for other data.
    write_texts(dir.path(), 0);
    of.run(&["pipeline"]).ok();
    assert_eq!(of.json("report/metrics.json")["tuned"], serde_json::json!([]));
    of.run(&["tune"]).ok();
    assert_eq!(record(&of), made);
    // Nor does a change of the run's own options hide it: they are what a tuning is made for.
    of.run(&["pipeline", "--set", "train.linear.c=0.7"]).ok();
    assert_eq!(of.json("report/metrics.json")["tuned"][0]["run"], "train.linear");
    of.run(&["pipeline"]).ok();
    let page = std::fs::read_to_string(of.path().join("report/index.html")).expect("a page");
    assert!(page.contains("id=\"tuned\"") && page.contains("accuracy of the trials by loss"));
    let facts = of.json("report/metrics.json");
    assert_eq!(facts["tuned"][0]["rows"].as_array().map(Vec::len), Some(6));
    let hits = of.run(&["pipeline"]).ok();
    assert_eq!(hits.nodes("status", "run"), [""; 0]);
}

#[test]
fn a_tuning_that_was_killed_goes_on_and_ends_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    write_texts(dir.path(), 0);
    let (whole, killed) = (artifacts(dir.path()), artifacts(dir.path()));
    whole.run(&["tune"]).ok();
    let (mut wait, mut kills) = (100, 0);
    loop {
        let mut child = killed.start(&["tune"]);
        std::thread::sleep(Duration::from_millis(wait));
        if child.try_wait().expect("a state").is_some_and(|status| status.success()) {
            break;
        }
        child.kill().and_then(|()| child.wait()).expect("kills");
        kills += 1;
        wait += wait / 3 + 20;
    }
    assert!(kills > 0, "it was never killed");
    let [a, b] = [&whole, &killed]
        .map(|of| std::fs::read(of.path().join("tuned/linear.json")).expect("a record"));
    assert!(a == b, "the records differ");
}

#[test]
fn a_trial_that_fails_is_out_and_the_configured_results_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    write_texts(dir.path(), 0);
    let of = Artifacts::with(&[
        &format!("ingest.files={}", dir.path().join("*.tsv").display()),
        "split.given.train=train.tsv",
        "split.given.valid=valid.tsv",
        "split.given.test=test.tsv",
        "train.mlp.epochs=2",
        "train.slp.epochs=2",
        "tune.slp.ranges.lr=[0.02, 1e38]",
        "tune.slp.folds=2",
    ]);
    of.run(&["pipeline", "--to", "train.slp"]).ok();
    let before = std::fs::read(of.path().join("train.slp/model.safetensors")).expect("a model");
    let ended = of.run(&["tune"]).ok();
    let lines = ended.json();
    let failed: Vec<bool> = lines.iter().map(|line| line["failed"] == true).collect();
    assert_eq!(failed.iter().filter(|of| **of).count(), 1, "{lines:?}");
    assert!(ended.err.contains("is out: "), "{}", ended.err);
    let after = std::fs::read(of.path().join("train.slp/model.safetensors")).expect("a model");
    assert!(before == after, "train.slp is that of the configured split");
    of.run(&["pipeline"]).ok();
    let rows = &of.json("report/metrics.json")["tuned"][0]["rows"];
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
}
