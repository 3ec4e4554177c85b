//! Stages whose work several processes share: the same bytes for any number of them, also after kills.

#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use e2e::{Artifacts, Ended, root, table, xtask, zip_of};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Enough rows for several row groups of a table.
const MANY: &str = "ingest.source=sample:120000";

/// The bytes of every file of every result. The manifests are among them.
fn bytes(artifacts: &Artifacts) -> BTreeMap<String, Vec<u8>> {
    let all = artifacts.bytes().into_iter();
    // It lists the digest of timings.jsonl.
    all.filter(|(path, _)| !path.starts_with("train.") || !path.ends_with("manifest.json"))
        .collect()
}

fn same(one: &Artifacts, other: &Artifacts) {
    let (one, other) = (bytes(one), bytes(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(bytes == &other[path], "{path} differs");
    }
}

fn shared(artifacts: &Artifacts, processes: &str, more: &[&str]) -> Ended {
    let arguments = ["pipeline", "--executor", "local", "--jobs-max", processes];
    artifacts.run(&[&arguments, more].concat())
}

#[test]
fn processes_that_share_the_data_give_the_bytes_of_one() {
    for (options, chunk) in [
        (vec![MANY], "17000"),
        (vec![MANY, "split.group_by=story", "tensors.empty=drop"], "1000000"),
        (vec!["ingest.source=sample", "split.cv.folds=3", "embed.lowercase=always"], "300"),
        (
            vec!["ingest.source=sample", "split.train_share=0.3", "embed.tokenizer=whitespace"],
            "7777",
        ),
    ] {
        let chunk = format!("executor.chunk_rows={chunk}");
        let with: Vec<&str> = options.iter().copied().chain([&chunk[..]]).collect();
        let one = Artifacts::with(&options);
        one.run(&["pipeline", "--to", "tensors"]).ok();
        for processes in ["1", "3"] {
            let several = Artifacts::with(&with);
            shared(&several, processes, &["--to", "tensors"]).ok();
            same(&one, &several);
        }
    }
}

/// The archive as it comes: packed, plain, with bad rows, and with all publishers.
#[test]
fn processes_that_share_the_archive_give_the_bytes_of_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = table(3000).replace("\tReuters\tm\t", "\tDaily Mail\tm\t");
    text += "9\tonly three\tfields\n\n17\tmarkets again\thttp://a\tReuters\tb\ts1\ta\t1\r\n";
    let plain = dir.path().join("news.tsv");
    std::fs::write(&plain, &text).expect("writes");
    let packed = dir.path().join("news.zip");
    std::fs::write(&packed, zip_of(&[("newsCorpora.csv", text.as_bytes())])).expect("writes");
    let gzip = dir.path().join("news.tsv.gz");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("packs");
    std::fs::write(&gzip, encoder.finish().expect("packs")).expect("writes");
    let labelled = dir.path().join("rows.csv");
    std::fs::write(&labelled, "label,text\nb,one two\nt,three\n").expect("writes");
    for (source, more) in [
        (&plain, "ingest.publishers=[\"Reuters\"]"),
        (&packed, "ingest.publishers=[\"*\"]"),
        (&gzip, "ingest.publishers=[\"Daily Mail\", \"Reuters\"]"),
        (&labelled, "ingest.labels=[\"b\", \"t\"]"),
    ] {
        let source = format!("ingest.source={}", source.display());
        let options = [&source[..], more, "ingest.max_bad_rows=2", "executor.chunk_rows=97"];
        let (one, several) = (Artifacts::with(&options), Artifacts::with(&options));
        let left_out = one.run(&["pipeline", "--to", "ingest"]).ok();
        let shared_left_out = shared(&several, "3", &["--to", "ingest"]).ok();
        same(&one, &several);
        let warnings = |ended: &Ended| {
            ended.err.lines().filter(|line| line.contains("warning")).map(str::to_owned).collect()
        };
        let (left_out, shared_left_out): (Vec<String>, Vec<String>) =
            (warnings(&left_out), warnings(&shared_left_out));
        assert_eq!(left_out, shared_left_out);
    }
    // One bad row too many is the same error.
    let source = format!("ingest.source={}", packed.display());
    let options = [&source[..], "ingest.max_bad_rows=1", "executor.chunk_rows=97"];
    let one = Artifacts::with(&options).run(&["pipeline", "--to", "ingest"]);
    let several = shared(&Artifacts::with(&options), "3", &["--to", "ingest"]);
    assert_eq!((one.code, several.code), (Some(3), Some(3)), "{}", several.err);
    assert!(one.out.contains("row 3003 repeats the id 17"), "{}", one.out);
    assert_eq!(one.out, several.out);
}

#[test]
fn workers_give_the_same_bytes_in_one_process_and_in_several() {
    let options = [
        "executor.chunk_rows=1700",
        "train.slp.workers=3",
        "train.mlp.workers=5",
        "train.mlp.epochs=30",
        "train.mlp.optimizer=adamw",
        "train.mlp.dropout=0.2",
        "train.mlp.lr=0.05",
        "train.mlp.patience=2",
        "train.mlp.keep=best",
    ];
    let (one, several) = (Artifacts::with(&options), Artifacts::with(&options));
    for run in ["train.slp", "train.mlp"] {
        one.run(&["pipeline", "--to", run]).ok();
        shared(&several, "2", &["--to", run]).ok();
    }
    same(&one, &several);
    let metrics = one.json("train.mlp/metrics.json");
    assert_eq!(metrics["stopped_early"], true, "early stopping is not tested: {metrics}");
}

/// Enough rows in valid and test for several row groups of predictions.
const MANY_TO_PREDICT: [&str; 2] = ["ingest.source=sample:120000", "split.test_size=0.9"];

/// Processes share the scores after each epoch and the predictions. The sums are those of one process.
#[test]
fn shared_scores_and_predictions_have_the_bytes_of_one_process() {
    let options = [
        MANY_TO_PREDICT[0],
        MANY_TO_PREDICT[1],
        "train.slp.epochs=2",
        "train.mlp.workers=3",
        "train.mlp.epochs=30",
        "train.mlp.hidden=8",
        "train.mlp.lr=0.5",
        "train.mlp.patience=1",
        "train.mlp.keep=best",
        "train.mlp.seeds=[123, 7]",
        "executor.chunk_rows=9001",
    ];
    let (one, several) = (Artifacts::with(&options), Artifacts::with(&options));
    for run in ["train.slp", "train.mlp"] {
        one.run(&["pipeline", "--to", run]).ok();
        shared(&several, "3", &["--to", run]).ok();
    }
    same(&one, &several);
    let stage = ["--node", "train.slp", "--set", "net=slp", "--list-steps"];
    let out = several.path().join("listed");
    let listed = Ended::of(stage_in_chunks("9001", "train", several.path(), &out, &stage)).ok();
    assert_eq!(listed.out, "fit 1\npredict 2\n");
    let metrics = one.json("train.mlp/metrics.json");
    assert_eq!(metrics["stopped_early"], true, "early stopping is not tested: {metrics}");
    assert_ne!(metrics["epoch_kept"], metrics["epochs"], "the best epoch is the last: {metrics}");
}

/// Whether a step of a run has a piece.
fn has_piece(run: &Path, step: &str) -> bool {
    let pieces = std::fs::read_dir(run).into_iter().flatten().flatten().flat_map(|key| {
        let folders = std::fs::read_dir(key.path().join("checkpoints")).into_iter().flatten();
        folders.flatten().filter_map(|folder| std::fs::read_dir(folder.path().join(step)).ok())
    });
    // Unfinished pieces have another name.
    let mut names = pieces.flatten().flatten().map(|piece| piece.file_name());
    names.any(|name| name.to_string_lossy().bytes().all(|c| c.is_ascii_digit()))
}

#[test]
fn a_run_that_is_killed_while_it_scores_or_predicts_goes_on_where_it_was() {
    let options = [
        MANY_TO_PREDICT[0],
        MANY_TO_PREDICT[1],
        "train.slp.epochs=20",
        "train.slp.workers=2",
        "train.slp.lr=50",
        "executor.chunk_rows=4000",
    ];
    let patient = ["--set", "train.slp.keep=best", "--to", "train.slp"];
    let (whole, killed) = (Artifacts::with(&options), Artifacts::with(&options));
    whole.run(&[&["pipeline"], &patient[..]].concat()).ok();
    shared(&killed, "2", &["--to", "tensors"]).ok();
    let folder = killed.path().join(".knockline/unfinished/train.slp");
    let arguments = ["pipeline", "--executor", "local", "--jobs-max", "1"];
    for step in ["score-1", "average-2", "score-3", "predict"] {
        let mut run = killed.start(&[&arguments, &patient[..]].concat());
        while !has_piece(&folder, step) && run.try_wait().expect("a process").is_none() {
            sleep(Duration::from_millis(1));
        }
        run.kill().expect("killed");
        run.wait().expect("ended");
        assert!(has_piece(&folder, step), "nothing was killed in `{step}`");
    }
    shared(&killed, "3", &patient).ok();
    same(&whole, &killed);
}

/// All steps that are listed, one after the other, for a run that stops early. Those behind its end do
/// nothing, and none goes on before the one before it is done.
#[test]
fn steps_behind_the_end_of_a_run_do_nothing_and_none_comes_too_early() {
    let options = [
        "train.mlp.workers=2",
        "train.mlp.epochs=20",
        "train.mlp.hidden=8",
        "train.mlp.lr=0.5",
        "train.mlp.patience=1",
    ];
    let (one, data) = (Artifacts::with(&options), Artifacts::with(&options));
    one.run(&["pipeline", "--to", "train.mlp"]).ok();
    data.run(&["pipeline", "--to", "tensors"]).ok();
    let metrics = one.json("train.mlp/metrics.json");
    let epochs = metrics["epochs"].as_u64().expect("a number");
    assert!(epochs < 19, "the run does not stop early: {metrics}");
    let one = one.bytes();
    for rows in ["1000", "3000"] {
        let scores = if rows == "1000" { 5 } else { 3 };
        let steps = format!("epoch 2, average 1, score {scores}, record 1");
        let out = data.path().join(format!("train-{rows}"));
        let at = |more: &[&str]| {
            let mut given = vec!["--node", "train.mlp", "--set", "net=mlp"];
            for option in options {
                given.extend(["--set", option.trim_start_matches("train.mlp.")]);
            }
            Ended::of(stage_in_chunks(rows, "train", data.path(), &out, &[&given, more].concat()))
        };
        let step =
            |step: &str, chunks: &str| at(&["--step", step, "--chunks", &format!("0..{chunks}")]);
        at(&["--list-steps"]).ok();
        for epoch in 1..=20 {
            if epoch == 2 {
                let early = step("epoch-4", "2");
                assert_eq!(early.code, Some(2), "{}", early.err);
                assert!(early.err.contains("epoch 3 is not done"), "{}", early.err);
                for early in [step("predict", "1"), at(&[])] {
                    assert_eq!(early.code, Some(2), "{}", early.err);
                    assert!(early.err.contains("not trained to its end"), "{}", early.err);
                }
            }
            for of_epoch in steps.split(", ") {
                let (name, chunks) = of_epoch.split_once(' ').expect("a step and its chunks");
                step(&format!("{name}-{epoch}"), chunks).ok();
            }
        }
        step("predict", "1").ok();
        at(&[]).ok();
        for file in ["history.jsonl", "model.safetensors", "metrics.json", "predictions.parquet"] {
            let made = std::fs::read(out.join(file)).expect("a file");
            assert!(one[&format!("train.mlp/{file}")] == made, "{file}, chunks of {rows}");
        }
    }
}

/// One worker is a run without workers, and does not show in any file.
#[test]
fn one_worker_is_no_worker() {
    let (without, one) = (Artifacts::new(), Artifacts::new());
    without.run(&["pipeline", "--to", "train.mlp"]).ok();
    one.run(&["pipeline", "--to", "train.mlp", "--set", "train.mlp.workers=1"]).ok();
    same(&without, &one);
    let config = without.json("train.mlp/config.json");
    assert!(config["options"].get("workers").is_none(), "{config}");
    shared(&one, "2", &["--to", "train.mlp", "--force", "train.mlp"]).ok();
    same(&without, &one);
}

fn pieces(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { pieces(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let options = [MANY, "executor.chunk_rows=2000"];
    let (whole, killed) = (Artifacts::with(&options), Artifacts::with(&options));
    whole.run(&["pipeline", "--to", "tensors"]).ok();
    let mut kept = Vec::new();
    for node in ["split", "embed", "tensors"] {
        let mut run = killed.start(&[
            "pipeline",
            "--executor",
            "local",
            "--jobs-max",
            "2",
            "--to",
            "tensors",
        ]);
        let folder = killed.path().join(".knockline/unfinished").join(node);
        while pieces(&folder) < 4 && run.try_wait().expect("a process").is_none() {
            sleep(Duration::from_millis(2));
        }
        run.kill().expect("killed");
        run.wait().expect("ended");
        kept.push(pieces(&folder));
    }
    let ended = shared(&killed, "3", &["--to", "tensors"]).ok();
    assert!(kept.iter().all(|&pieces| pieces >= 4), "{kept:?} pieces: nothing was killed in time");
    assert_eq!(ended.nodes("status", "hit"), ["ingest", "split", "embed"]);
    same(&whole, &killed);
    assert!(!killed.path().join(".knockline/unfinished").exists(), "pieces stay after the result");
}

#[test]
fn one_process_takes_over_what_several_have_begun_and_the_other_way_round() {
    let options = [
        "executor.chunk_rows=3000",
        "train.slp.workers=3",
        "train.slp.epochs=200",
        "train.slp.checkpoints.keep=2",
    ];
    let (whole, taken) = (Artifacts::with(&options), Artifacts::with(&options));
    whole.run(&["pipeline", "--to", "train.slp"]).ok();
    taken.run(&["pipeline", "--to", "tensors"]).ok();
    let several = ["pipeline", "--to", "train.slp", "--executor", "local", "--jobs-max", "3"];
    for arguments in [&several[..], &several[..3], &several] {
        let mut run = taken.start(arguments);
        let folder = taken.path().join(".knockline/unfinished/train.slp");
        let before = pieces(&folder);
        while pieces(&folder) < before + 3 && run.try_wait().expect("a process").is_none() {
            sleep(Duration::from_millis(2));
        }
        run.kill().expect("killed");
        run.wait().expect("ended");
    }
    let ended = taken.run(&several[..3]).ok();
    assert_eq!(ended.nodes("status", "run"), ["train.slp"]);
    same(&whole, &taken);
}

/// A stage's program, as another engine would start it.
fn stage(package: &str, artifacts: &Path, out: &Path, more: &[&str]) -> Command {
    stage_in_chunks("100", package, artifacts, out, more)
}

fn stage_in_chunks(
    rows: &str,
    package: &str,
    artifacts: &Path,
    out: &Path,
    more: &[&str],
) -> Command {
    let mut command = Command::new(program(package));
    command.arg("--artifacts").arg(artifacts).arg("--out").arg(out).args(more);
    command.args(["--chunk-rows", rows]).stdin(Stdio::null());
    command
}

fn program(package: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("debug").join(package)
}

#[test]
fn a_chunk_that_two_processes_do_at_once_has_the_same_piece() {
    let (one, several) = (Artifacts::new(), Artifacts::new());
    one.run(&["pipeline", "--to", "tensors"]).ok();
    several.run(&["pipeline", "--to", "embed"]).ok();
    let out = several.path().join("tensors");
    let listed = Ended::of(stage("tensors", several.path(), &out, &["--list-steps"])).ok();
    assert_eq!(listed.out, "rows 44\nlayout 1\nfeatures 44\n");
    for (step, chunks) in [("rows", 44), ("layout", 1), ("features", 44)] {
        let chunks = format!("0..{chunks}");
        let arguments = ["--step", step, "--chunks", &chunks];
        let start = || stage("tensors", several.path(), &out, &arguments).spawn().expect("starts");
        let twice: Vec<_> = (0..3).map(|_| start()).collect();
        for mut process in twice {
            assert!(process.wait().expect("ends").success(), "{step}");
        }
    }
    Ended::of(stage("tensors", several.path(), &out, &[])).ok();
    for part in ["train", "valid", "test"] {
        let file = format!("tensors/{part}.safetensors");
        assert!(one.bytes()[&file] == several.bytes()[&file], "{file} differs");
    }
    assert!(!out.join("checkpoints").exists());
}

#[test]
fn a_step_of_a_training_run_that_processes_do_at_once_is_done_once() {
    let options = ["train.slp.workers=2", "train.slp.epochs=3"];
    let (one, data) = (Artifacts::with(&options), Artifacts::with(&options));
    one.run(&["pipeline", "--to", "train.slp"]).ok();
    data.run(&["pipeline", "--to", "tensors"]).ok();
    let one = one.bytes();
    for (rows, steps) in [
        ("3000", "epoch 2, average 1, score 3, record 1"),
        ("1000", "epoch 2, average 1, score 5, record 1"),
    ] {
        let out = data.path().join(format!("train-{rows}"));
        let at = |more: &[&str]| {
            let given = ["--node", "train.slp", "--set", "net=slp", "--set", "workers=2"];
            let given = [&given[..], &["--set", "epochs=3"], more].concat();
            stage_in_chunks(rows, "train", data.path(), &out, &given)
        };
        let thrice = |step: &str, chunks: &str| {
            let chunks = format!("0..{chunks}");
            let start = || at(&["--step", step, "--chunks", &chunks]).spawn().expect("starts");
            let thrice: Vec<_> = (0..3).map(|_| start()).collect();
            for mut process in thrice {
                assert!(process.wait().expect("ends").success(), "{step} with chunks of {rows}");
            }
        };
        for epoch in 1..=3 {
            for step in steps.split(", ") {
                let (step, chunks) = step.split_once(' ').expect("a step and its chunks");
                thrice(&format!("{step}-{epoch}"), chunks);
            }
        }
        thrice("predict", "1");
        Ended::of(at(&[])).ok();
        for file in ["history.jsonl", "model.safetensors", "metrics.json", "predictions.parquet"] {
            let made = std::fs::read(out.join(file)).expect("a file");
            assert!(one[&format!("train.slp/{file}")] == made, "{file}, chunks of {rows}");
        }
    }
}

/// A disk may lose what was written. Pieces and checkpoints that are damaged are made again.
#[test]
fn damaged_pieces_and_checkpoints_are_made_again() {
    let options = ["train.slp.workers=2", "train.slp.epochs=3", "train.slp.checkpoints.keep=2"];
    let (one, data) = (Artifacts::with(&options), Artifacts::with(&options));
    one.run(&["pipeline", "--to", "train.slp"]).ok();
    data.run(&["pipeline", "--to", "tensors"]).ok();
    let one = one.bytes();
    let out = data.path().join("train");
    let at = |more: &[&str]| {
        let mut given = vec!["--node", "train.slp", "--set", "net=slp"];
        for option in options {
            given.extend(["--set", option.trim_start_matches("train.slp.")]);
        }
        Ended::of(stage_in_chunks("1000", "train", data.path(), &out, &[&given, more].concat()))
    };
    let do_listed = |most: usize| {
        let listed = at(&["--list-steps"]).ok().out;
        for line in listed.lines().take(most) {
            let (step, chunks) = line.split_once(' ').expect("a step and its chunks");
            at(&["--step", step, "--chunks", &format!("0..{chunks}")]).ok();
        }
    };
    let first = || {
        let listed = at(&["--list-steps"]).ok().out;
        listed.lines().next().unwrap_or_default().to_owned()
    };
    let piece = |step: &str, chunk: &str| {
        let mut folders = std::fs::read_dir(out.join("checkpoints")).expect("a folder").flatten();
        let pieces = folders.find(|folder| folder.path().is_dir()).expect("pieces").path();
        pieces.join(step).join(chunk)
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("reads");
        *bytes.last_mut().expect("a byte") ^= 1;
        std::fs::write(path, bytes).expect("writes");
    };
    // The workers, the mean and the scores of the first epoch.
    do_listed(3);
    assert_eq!(first(), "record-1 1");
    flip(&piece("score-1", "3"));
    assert_eq!(first(), "score-1 5");
    do_listed(1);
    std::fs::write(piece("average-1", "0"), "").expect("writes");
    assert_eq!(first(), "average-1 1");
    // The rest of the first epoch, and the second.
    do_listed(6);
    assert_eq!(first(), "epoch-3 2");
    for cut in [1, 2] {
        let newest = out.join(format!("checkpoints/epoch-000{cut}.safetensors"));
        let bytes = std::fs::read(&newest).expect("reads");
        std::fs::write(&newest, &bytes[..bytes.len() - 1]).expect("writes");
    }
    assert_eq!(first(), "epoch-1 2");
    do_listed(usize::MAX);
    flip(&piece("predict", "1"));
    assert_eq!(first(), "predict 1");
    do_listed(usize::MAX);
    at(&[]).ok();
    for file in ["history.jsonl", "model.safetensors", "metrics.json", "predictions.parquet"] {
        let made = std::fs::read(out.join(file)).expect("a file");
        assert!(one[&format!("train.slp/{file}")] == made, "{file} differs");
    }
}

#[test]
fn wrong_chunks_and_options_are_refused() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "embed"]).ok();
    let out = artifacts.path().join("tensors");
    for (arguments, says) in [
        (
            &["--step", "rows", "--chunks", "0..45"][..],
            "there are no chunks 0..45 of a step `rows`",
        ),
        (&["--step", "sums", "--chunks", "0..1"], "of a step `sums`"),
        (&["--step", "rows", "--chunks", "3..3"], "write A..B"),
    ] {
        let ended = Ended::of(stage("tensors", artifacts.path(), &out, arguments));
        assert!(ended.code == Some(2) && ended.err.contains(says), "{arguments:?}: {}", ended.err);
    }
    let early = Ended::of(stage("tensors", artifacts.path(), &out, &[]));
    assert!(
        early.code == Some(2) && early.err.contains("step `layout` is not done"),
        "{}",
        early.err
    );
    // Another run's pieces are not taken for this one's.
    Ended::of(stage("tensors", artifacts.path(), &out, &["--step", "rows", "--chunks", "0..2"]))
        .ok();
    let other = ["--step", "rows", "--chunks", "2..4", "--set", "empty=drop"];
    let other = Ended::of(stage("tensors", artifacts.path(), &out, &other));
    assert!(
        other.code == Some(2) && other.err.contains("a run with other options"),
        "{}",
        other.err
    );
    for (arguments, says) in [
        (&["--jobs-max", "2"][..], "needs --executor local or --executor slurm"),
        (&["--detach"], "needs --executor slurm"),
        (&["--executor", "local", "--detach"], "needs --executor slurm"),
        (&["--set", "executor.kind=cloud"], "expected one of local, slurm"),
    ] {
        let ended = artifacts.run(&[&["pipeline"], arguments].concat());
        let said = format!("{}{}", ended.out, ended.err);
        assert!(ended.code == Some(2) && said.contains(says), "{arguments:?}: {said}");
    }
}

/// RFC 8410's example, and the same with another seed.
const MAIN: (&str, &str) = (
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC",
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
);
const OTHER: &str = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhD";

#[test]
fn only_results_with_a_trusted_signature_count() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rows.csv");
    std::fs::write(&file, table(200)).expect("writes");
    let pem =
        |key: &str| format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    let key = dir.path().join("main.pem");
    std::fs::write(&key, pem(MAIN.0)).expect("writes");
    let source = format!("ingest.source={}", file.display());
    let remote = format!("cache.remote={}", dir.path().join("remote").display());
    let trust = format!("cache.trust=[\"{}\"]", MAIN.1);
    let sign = format!("cache.sign={}", key.display());
    // Nobody has the private key of this one.
    let trust_nobody =
        "cache.trust=[\"MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"]";
    let arguments = ["pipeline", "--to", "split"];
    let by = |options: &[&str], key: Option<&str>| {
        let artifacts = Artifacts::with(&[&[&source[..], &remote], options].concat());
        let mut command = artifacts.command(&arguments);
        if let Some(key) = key {
            command.env("KNOCKLINE_SIGNING_KEY", pem(key));
        }
        (Ended::of(command), artifacts)
    };
    // A pull request puts results into the remote, signed with a key of its own.
    let (theirs, folder) = by(&[&trust], Some(OTHER));
    assert_eq!(theirs.ok().nodes("status", "run"), ["ingest", "split"]);
    // The main branch makes them itself, in its own folder and in one with the pull request's.
    let (own, main) = by(&[&trust, &sign], None);
    let own = own.ok();
    assert_eq!(own.nodes("status", "run"), ["ingest", "split"]);
    assert!(own.err.contains("the remote's result of `ingest` does not count"), "{}", own.err);
    let mut copied = folder.command(&arguments);
    copied.args(["--set", "cache.remote=none", "--set", &sign]);
    let copied = Ended::of(copied).ok();
    assert_eq!(copied.nodes("status", "run"), ["ingest", "split"]);
    // Its results have replaced those in the remote, and count for everybody.
    let (reader, _) = by(&[&trust], None);
    assert_eq!(reader.ok().nodes("status", "hit"), ["ingest", "split"]);
    // Whoever has no key can use results, but make none.
    let refused = main.run(&["pipeline", "--to", "embed", "--set", "split.seed=7"]).ok();
    assert_eq!(refused.nodes("status", "run"), ["split", "embed"]);
    let (unsigned, _) = by(&[&trust, "split.seed=8"], None);
    assert_eq!(unsigned.code, Some(2), "{}", unsigned.err);
    let said = format!("{}{}", unsigned.out, unsigned.err);
    assert!(said.contains("without a signature its result would not count"), "{said}");
    // Neither a forged result nor what an interrupted run has left is taken, and predictions,
    // exports and comparisons take none, either.
    main.run(&["pipeline", "--to", "train.slp"]).ok();
    for arguments in [
        &["pipeline", "--only", "tensors"][..],
        &["cache", "push", "split"],
        &["predict", "--run", "train.slp", "x"],
        &["model", "export", "train.slp", "model.knock"],
    ] {
        let mut taken = xtask(arguments);
        taken.arg("--artifacts").arg(main.path());
        taken.args(["--set", &source, "--set", &remote, "--set", trust_nobody]);
        let taken = Ended::of(taken);
        assert!(
            taken.code == Some(3) && taken.err.contains("does not count"),
            "{arguments:?}: {}",
            taken.err
        );
    }
    let wrong = Artifacts::with(&["cache.trust=[\"nobody\"]"]);
    let status = wrong.run(&["status", "split"]);
    let said = format!("{}{}", status.out, status.err);
    assert!(
        status.code == Some(2) && said.contains("`nobody` is not an Ed25519 public key"),
        "{said}"
    );
}
