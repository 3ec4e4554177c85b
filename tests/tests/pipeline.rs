//! The whole pipeline, as a user runs it, on the embedded sample.

use e2e::{Artifacts, NODES};

/// Files that the nodes have to write.
const FILES: [&str; 42] = [
    "ingest/headlines.parquet",
    "ingest/manifest.json",
    "split/train.parquet",
    "split/valid.parquet",
    "split/test.parquet",
    "split/manifest.json",
    "embed/vocabulary.parquet",
    "embed/vectors.safetensors",
    "embed/coverage.json",
    "embed/manifest.json",
    "tensors/train.safetensors",
    "tensors/valid.safetensors",
    "tensors/test.safetensors",
    "tensors/manifest.json",
    "train.slp/model.safetensors",
    "train.slp/config.json",
    "train.slp/history.jsonl",
    "train.slp/metrics.json",
    "train.slp/predictions.parquet",
    "train.slp/checkpoints/epoch-0001.safetensors",
    "train.slp/checkpoints/epoch-0010.safetensors",
    "train.slp/start.json",
    "train.slp/start.safetensors",
    "train.slp/curves.svg",
    "train.slp/tensorboard/train/events.out.tfevents.0.knockline",
    "train.slp/tensorboard/valid/events.out.tfevents.0.knockline",
    "train.slp/manifest.json",
    "train.curve/model.safetensors",
    "train.curve/checkpoints/epoch-0030.safetensors",
    "train.sweep/sweep.jsonl",
    "train.sweep/config.json",
    "train.mlp/model.safetensors",
    "train.mlp/checkpoints/epoch-0002.safetensors",
    "train.mlp/metrics.json",
    "report/index.html",
    "report/report.md",
    "report/metrics.json",
    "report/result.svg",
    "report/sweep.svg",
    "report/train.slp-loss.svg",
    "report/train.mlp-accuracy.svg",
    "report/manifest.json",
];

#[test]
fn the_sample_runs_end_to_end_and_all_nodes_are_hits_the_second_time() {
    let artifacts = Artifacts::new();
    let first = artifacts.run(&["pipeline"]).ok();
    assert_eq!(first.nodes("status", "run"), NODES);
    let made = artifacts.bytes();
    for file in FILES {
        assert!(made.contains_key(file), "{file} is missing");
    }
    let second = artifacts.run(&["pipeline"]).ok();
    assert_eq!(second.nodes("status", "hit"), NODES);
    assert_eq!(artifacts.bytes(), made);

    // The sample is designed to be neither trivial nor hopeless.
    let metrics = artifacts.json("train.slp/metrics.json");
    let accuracy = metrics["test"]["accuracy"].as_f64().expect("an accuracy");
    assert!((0.80..=0.97).contains(&accuracy), "{accuracy}");
    let page = String::from_utf8(made["report/index.html"].clone()).expect("UTF-8");
    assert!(page.contains("This is the embedded sample"));
    artifacts.run(&["pipeline", "--only", "report", "--force", "report"]).ok();
    assert_eq!(
        artifacts.bytes()["report/index.html"],
        made["report/index.html"],
        "the same inputs give the same page"
    );
}

#[test]
fn two_folders_and_any_number_of_threads_give_the_same_bytes() {
    let (one, two) = (Artifacts::new(), Artifacts::new());
    one.run(&["pipeline"]).ok();
    let mut command = two.command(&["pipeline"]);
    command
        .env("KNOCKLINE_THREADS", "3")
        .env("RAYON_NUM_THREADS", "2")
        .env("POLARS_MAX_THREADS", "1");
    e2e::Ended::of(command).ok();
    let (one, two) = (one.bytes(), two.bytes());
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    // A run's manifest lists the digest of its timings, which are clock readings; the sweep has
    // clock readings and names the machine and its threads, and the report shows the sweep.
    let has_clock_readings = |file: &str| {
        file.starts_with("train.") && file.ends_with("manifest.json")
            || [
                "train.sweep/machine.json",
                "train.sweep/sweep.jsonl",
                "report/index.html",
                "report/report.md",
                "report/metrics.json",
                "report/sweep.svg",
            ]
            .contains(&file)
            || file == "report/manifest.json"
    };
    for (file, bytes) in &one {
        assert!(bytes == &two[file] || has_clock_readings(file), "{file} differs");
    }
}

#[test]
fn a_changed_option_reruns_the_nodes_that_use_it_and_changing_it_back_is_all_hits() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline"]).ok();
    let made = artifacts.bytes();
    let changed = artifacts.run(&["pipeline", "--set", "train.mlp.lr=0.01"]).ok();
    assert_eq!(changed.nodes("status", "run"), ["train.mlp", "report"]);
    let back = artifacts.run(&["pipeline"]).ok();
    assert_eq!(back.nodes("status", "hit"), NODES);
    assert_eq!(artifacts.bytes(), made);
}

#[test]
fn later_nodes_are_hits_after_a_rerun_that_gives_the_same_bytes() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline"]).ok();
    let forced = artifacts.run(&["pipeline", "--force", "ingest", "--force", "train.slp"]).ok();
    assert_eq!(forced.nodes("status", "run"), ["ingest", "train.slp"]);
}

#[test]
fn a_touched_file_reruns_nothing() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "split"]).ok();
    let file = artifacts.path().join("ingest/headlines.parquet");
    std::fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|f| f.set_modified(std::time::SystemTime::now()))
        .expect("touches");
    let again = artifacts.run(&["pipeline", "--to", "split"]).ok();
    assert_eq!(again.nodes("status", "hit"), ["ingest", "split"]);
}

#[test]
fn damaged_results_are_reported_set_aside_and_made_again() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "embed"]).ok();
    let made = artifacts.bytes();
    let file = artifacts.path().join("split/valid.parquet");
    let mut bytes = std::fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("writes");
    let again = artifacts.run(&["pipeline", "--to", "embed"]).ok();
    assert!(
        again.err.contains("valid.parquet has changed since it was made; set aside in"),
        "{}",
        again.err
    );
    assert_eq!(again.nodes("status", "run"), ["split"]);
    assert_eq!(artifacts.bytes(), made);
    assert!(artifacts.path().join(".knockline/aside/split-1/valid.parquet").exists());
}

#[test]
fn a_part_of_the_graph_takes_the_rest_as_it_is_and_warns_if_it_is_stale() {
    let artifacts = Artifacts::new();
    let missing = artifacts.run(&["pipeline", "--only", "split"]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.err.contains("there is no result of `ingest` to use")
            && missing.err.contains("--to ingest"),
        "{}",
        missing.err
    );

    artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    artifacts.run(&["pipeline", "--to", "train.knn"]).ok();
    let only = artifacts.run(&["pipeline", "--only", "train.slp", "--set", "split.seed=7"]).ok();
    assert_eq!(only.nodes("status", "run"), ["train.slp"]);
    assert!(only.err.contains("`tensors` is stale, and is taken as it is"), "{}", only.err);
    let from = artifacts.run(&["pipeline", "--from", "tensors"]).ok();
    assert_eq!(from.nodes("status", "hit"), ["tensors", "train.slp"]);
    assert_eq!(
        from.nodes("status", "run"),
        ["train.curve", "train.mlp", "train.linear", "train.best", "train.sweep", "report"]
    );
    assert!(!from.err.contains("stale"), "{}", from.err);
}

#[test]
fn a_training_run_that_is_killed_repeatedly_gives_the_same_bytes() {
    // These options use everything that has a state: the optimizer, dropout's random numbers, early
    // stopping, annealing.
    let options = [
        "train.mlp.epochs=60",
        "train.mlp.patience=60",
        "train.mlp.optimizer=adamw",
        "train.mlp.dropout=0.2",
        "train.mlp.keep=best",
        "train.mlp.checkpoints.keep=2",
    ];
    let (whole, killed) = (Artifacts::with(&options), Artifacts::with(&options));
    whole.run(&["pipeline", "--to", "train.mlp"]).ok();
    killed.run(&["pipeline", "--to", "tensors"]).ok();
    let work = killed.path().join(".knockline/unfinished/train.mlp");
    let epochs = || {
        let key = std::fs::read_dir(&work).ok()?.flatten().next()?.path();
        Some(std::fs::read_to_string(key.join("history.jsonl")).ok()?.lines().count())
    };
    for kill_after in [3, 4, 20, 35, 50] {
        let mut child = killed.start(&["pipeline", "--to", "train.mlp"]);
        while epochs().is_none_or(|n| n < kill_after) {
            assert!(child.try_wait().expect("a state").is_none(), "it ended before it was killed");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // On Unix, `cargo` becomes xtask, so this kills xtask, and its stage ends with it.
        child.kill().and_then(|()| child.wait()).expect("kills");
    }
    let resumed = killed.run(&["pipeline", "--to", "train.mlp"]).ok();
    assert_eq!(resumed.nodes("status", "run"), ["train.mlp"]);
    assert!(resumed.err.contains("resuming after epoch "), "it started over: {}", resumed.err);
    let (whole, killed) = (whole.bytes(), killed.bytes());
    assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    for (file, bytes) in whole.iter().filter(|(file, _)| !file.ends_with("manifest.json")) {
        assert!(killed[file] == *bytes, "{file} differs");
    }
}

#[test]
fn a_second_run_waits_for_the_first_and_finds_everything_made() {
    let artifacts = Artifacts::new();
    let both = std::thread::scope(|scope| {
        [(); 2]
            .map(|()| scope.spawn(|| artifacts.run(&["pipeline"]).ok()))
            .map(|run| run.join().expect("a run"))
    });
    let mut made = both.map(|run| run.nodes("status", "run").len());
    made.sort_unstable();
    assert_eq!(made, [0, NODES.len()], "each node is made once");
}
