//! Training runs that the user defines: a single one, a matrix, and the comparison of all of them.

#![allow(clippy::indexing_slicing)]

use std::collections::BTreeSet;

use e2e::{Artifacts, Ended};
use serde_json::Value;

/// The exercise's runs are trained for an epoch or two.
const SHORT: [&str; 2] = ["train.mlp.epochs=2", "train.curve.epochs=2"];

fn with(options: &[&str]) -> Artifacts {
    Artifacts::with(&[&SHORT, options].concat())
}

fn page(artifacts: &Artifacts) -> String {
    std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page")
}

fn compare(artifacts: &Artifacts, args: &[&str]) -> Vec<Value> {
    artifacts.run(&[&["compare"], args].concat()).ok().json()
}

#[test]
fn a_run_that_the_user_adds_is_trained_reported_compared_and_used() {
    let artifacts =
        with(&["train.wide.net=\"mlp\"", "train.wide.hidden=400", "train.wide.epochs=3"]);
    let made = artifacts.run(&["pipeline"]).ok();
    assert!(made.nodes("status", "run").contains(&"train.wide".to_owned()), "{}", made.out);
    assert_eq!(artifacts.json("train.wide/config.json")["options"]["hidden"], 400);
    assert_eq!(artifacts.json("train.wide/config.json")["node"], "train.wide");
    assert_eq!(artifacts.run(&["pipeline"]).ok().nodes("status", "hit").len(), 14);

    let page = page(&artifacts);
    assert!(
        page.contains("<th scope=\"row\">train.wide</th>")
            && page.contains("<code>hidden</code></th>")
    );
    let reported = artifacts.json("report/metrics.json");
    assert_eq!(reported["runs"]["rows"].as_array().map(Vec::len), Some(7));

    let all = compare(&artifacts, &[]);
    assert_eq!(all.len(), 7);
    let figures: Vec<f64> =
        all.iter().filter_map(|run| run["metrics"]["accuracy_valid"].as_f64()).collect();
    assert!(figures.is_sorted_by(|a, b| a >= b), "the best on valid first: {figures:?}");
    let wide = all.iter().find(|run| run["run"] == "train.wide").expect("the run");
    assert_eq!(wide["options"]["hidden"], 400);
    assert_eq!(
        wide["metrics"]["accuracy_test"],
        artifacts.json("train.wide/metrics.json")["test"]["accuracy"]
    );
    assert_eq!(wide["key"], artifacts.json("train.wide/manifest.json")["key"]);
    let interval = wide["intervals"]["accuracy_valid"].as_array().expect("an interval");
    let (low, high) =
        (interval[0].as_f64().expect("a bound"), interval[1].as_f64().expect("a bound"));
    let accuracy = wide["metrics"]["accuracy_valid"].as_f64().expect("an accuracy");
    assert!(
        low < accuracy
            && accuracy < high
            && wide["metrics"]["seconds"].as_f64().is_some_and(|s| s > 0.0)
    );

    // The result can be used by a command line whose configuration does not define the run.
    let mut predict = e2e::xtask(&[
        "predict",
        "--run",
        "train.wide",
        "--json",
        "Bank raises forecast",
        "--artifacts",
    ]);
    predict.arg(artifacts.path());
    assert_eq!(Ended::of(predict).ok().json()[0]["top"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_matrix_makes_a_node_for_each_combination_and_all_are_hits_the_second_time() {
    let artifacts =
        with(&["train.wide.net=mlp", "train.wide.epochs=2", "matrix.train.wide.lr=[0.01, 1e-3]"]);
    let sizes = ["--set", "matrix.train.wide.hidden=[10, 20, 30]"];
    let run = |args: &[&str]| artifacts.run(&[args, &sizes].concat());
    let made = run(&["pipeline"]).ok().nodes("status", "run");
    let of_matrix: Vec<&String> =
        made.iter().filter(|node| node.starts_with("train.wide@")).collect();
    let names = [
        "hidden=10+lr=0.01",
        "hidden=10+lr=0.001",
        "hidden=20+lr=0.01",
        "hidden=20+lr=0.001",
        "hidden=30+lr=0.01",
        "hidden=30+lr=0.001",
    ];
    assert_eq!(
        of_matrix,
        names.map(|name| format!("train.wide@{name}")).iter().collect::<Vec<_>>()
    );
    assert_eq!(run(&["pipeline"]).ok().nodes("status", "run"), [""; 0]);

    // One name stands for all of them.
    assert_eq!(run(&["status", "train.wide"]).ok().nodes("state", "fresh").len(), 6);
    assert_eq!(run(&["compare", "train.wide"]).ok().json().len(), 6);
    let bundle = artifacts.path().join("x.bundle").display().to_string();
    run(&["cache", "export", &bundle, "train.wide"]).ok();
    let other = with(&[]);
    assert_eq!(other.run(&["cache", "import", &bundle]).ok().json().len(), 6);
    assert_eq!(
        Ended::of(e2e::xtask(&[
            "cache",
            "verify",
            "--json",
            "--artifacts",
            &other.path().display().to_string()
        ]))
        .ok()
        .json()
        .len(),
        6
    );

    // One more value adds a run for each combination of the other options.
    let more = artifacts
        .run(&["pipeline", "--set", "matrix.train.wide.hidden=[10, 20, 30, 40]"])
        .ok()
        .nodes("status", "run");
    assert_eq!(more.len(), 3, "{more:?}");
    assert_eq!(
        run(&["compare", "train.wide"]).ok().json().len(),
        8,
        "results that the configuration no longer defines are listed, too"
    );
}

#[test]
fn earlier_results_are_compared_and_unknown_names_are_refused() {
    let artifacts = with(&[]);
    let none = artifacts.run(&["compare"]);
    assert!(
        none.code == Some(2) && none.err.contains("there is no result of a training run here"),
        "{}",
        none.err
    );
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    artifacts.run(&["pipeline", "--to", "train.slp", "--set", "train.slp.lr=0.5"]).ok();
    let both = compare(&artifacts, &["train.slp", "--sort", "loss_valid"]);
    let rates: BTreeSet<String> = both.iter().map(|run| run["options"]["lr"].to_string()).collect();
    assert_eq!(rates, ["0.1", "0.5"].map(str::to_owned).into());
    assert_eq!(both.iter().filter(|run| run["current"] == true).count(), 1);
    let losses: Vec<f64> =
        both.iter().filter_map(|run| run["metrics"]["loss_valid"].as_f64()).collect();
    assert!(losses.is_sorted(), "{losses:?}");
    for (args, want) in [
        (&["compare", "train.slpp"][..], "did you mean `train.slp`?"),
        (&["compare", "--sort", "accuracy_vaild"], "did you mean `accuracy_valid`?"),
    ] {
        let refused = artifacts.run(args);
        assert!(refused.code == Some(2) && refused.err.contains(want), "{}", refused.err);
    }
    // The values of a file that was changed are not shown.
    std::fs::write(artifacts.path().join("train.slp/metrics.json"), "{}").expect("writes");
    let damaged = artifacts.run(&["compare"]).ok();
    assert!(
        damaged.json().len() == 1
            && damaged.err.contains("is left out: metrics.json has changed since"),
        "{}",
        damaged.err
    );
    // Nor is a result whose manifest was changed left out without a word.
    for folder in ["train.slp", ".knockline/store/train.slp"].map(|f| artifacts.path().join(f)) {
        let folders = std::fs::read_dir(&folder).expect("a folder").flatten().map(|e| e.path());
        for folder in folders.chain([folder]).filter(|f| f.join("manifest.json").exists()) {
            std::fs::write(folder.join("manifest.json"), "{}").expect("writes");
        }
    }
    let all = artifacts.run(&["compare"]);
    assert_eq!(all.code, Some(3), "{}", all.err);
    assert_eq!(all.err.matches("is left out: ").count(), 2, "{}", all.err);
}

#[test]
fn a_result_that_the_configuration_no_longer_defines_is_named() {
    let artifacts = with(&[]);
    let wide = ["--set", "train.wide.net=slp", "--set", "train.wide.epochs=1"];
    artifacts.run(&[&["pipeline", "--to", "train.wide"], &wide[..]].concat()).ok();
    let compared = compare(&artifacts, &[]);
    assert!(compared.len() == 1 && compared[0]["configured"] == false, "{compared:?}");
    let collected = artifacts.run(&["cache", "gc", "--dry-run"]).ok().json();
    assert_eq!(collected[0]["unconfigured"], serde_json::json!(["train.wide"]));
    let configured = [&["cache", "gc", "--dry-run"], &wide[..]].concat();
    assert_eq!(artifacts.run(&configured).ok().json()[0]["unconfigured"], serde_json::json!([]));
    // A folder that has the name of a run and is not a result is reported.
    std::fs::remove_file(artifacts.path().join("train.wide/manifest.json")).expect("removes");
    let foreign = artifacts.run(&["cache", "verify"]);
    assert!(foreign.code == Some(3) && foreign.out.contains("train.wide"), "{}", foreign.out);
}

#[test]
fn the_exercise_s_runs_can_be_redefined_like_any_other() {
    let artifacts = with(&["train.slp.net=mlp", "train.slp.epochs=2", "train.slp.batch_size=64"]);
    let made = artifacts.run(&["pipeline"]).ok();
    assert!(!artifacts.path().join("train.slp/start.json").exists());
    let page = page(&artifacts);
    assert_eq!(
        page.matches("This answer needs a run that does not exist").count(),
        4,
        "{}",
        made.out
    );
    assert!(
        page.contains("<section id=\"p79\">") && page.contains("<th scope=\"row\">train.slp</th>")
    );
    let summary =
        made.json().last().expect("a line")["summary"].as_str().expect("a text").to_owned();
    assert!(summary.starts_with("test accuracy: multi-layer net"), "{summary}");
}
