//! Malice and bad luck: attempts to get wrong results, and to lose files.

#![allow(clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Artifacts, Ended, root, table, xtask};

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("writes");
}

#[test]
fn a_report_on_results_from_different_data_is_refused() {
    let artifacts = Artifacts::with(&["train.mlp.epochs=2", "train.curve.epochs=2"]);
    artifacts.run(&["pipeline"]).ok();
    let page = artifacts.bytes()["report/index.html"].clone();
    artifacts.run(&["pipeline", "--to", "train.slp", "--set", "split.seed=7"]).ok();
    let mixed = artifacts.run(&["pipeline", "--only", "report"]);
    assert_eq!(mixed.code, Some(2), "{}", mixed.err);
    assert!(
        mixed.err.contains("`ngrams` was not made from the current result of `split`"),
        "{}",
        mixed.err
    );
    assert!(artifacts.bytes()["report/index.html"] == page, "the earlier page stays");

    // The stage alone, which does not read manifests, detects it by the headlines.
    let mut alone = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let out = artifacts.path().join("alone");
    alone
        .current_dir(root())
        .args(["run", "--quiet", "--package", "report", "--", "--artifacts"])
        .arg(artifacts.path());
    alone.arg("--out").arg(&out).stdin(Stdio::null());
    let ended = Ended::of(alone);
    assert!(
        ended.code == Some(3)
            && ended.err.contains("are for other headlines than those of `tensors`"),
        "{}",
        ended.err
    );
}

#[test]
fn a_pinned_file_is_checked_against_its_checksum_even_for_a_hit() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("news.csv");
    put(&file, &table(400));
    let sum = Ended::of(sha256sum(&file)).ok().out;
    let pin = format!("ingest.sha256={}", sum.split_whitespace().next().expect("a sum"));
    let artifacts = Artifacts::with(&[&format!("ingest.source={}", file.display()), &pin]);
    assert_eq!(
        artifacts.run(&["pipeline", "--to", "ingest"]).ok().nodes("status", "run"),
        ["ingest"]
    );
    put(&file, &table(100));
    let cut = artifacts.run(&["pipeline", "--to", "ingest"]);
    assert!(
        cut.code == Some(3) && cut.err.contains("SHA-256 is") && cut.err.contains("news.csv"),
        "{}",
        cut.err
    );
    let status = artifacts.run(&["status", "ingest"]).ok();
    assert!(status.out.contains("SHA-256 is"), "{}", status.out);
    // A missing file does not invalidate the result that was made of it: later CI jobs lack the
    // file.
    std::fs::remove_file(&file).expect("removes");
    assert_eq!(
        artifacts.run(&["pipeline", "--to", "ingest"]).ok().nodes("status", "hit"),
        ["ingest"]
    );
}

fn sha256sum(file: &Path) -> Command {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    command
}

#[test]
fn a_folder_that_knockline_did_not_make_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let mine = dir.path().join("mine");
    put(&mine.join("report/thesis.txt"), "years of work");
    let folder = mine.display().to_string();
    let bundle = dir.path().join("x.bundle").display().to_string();
    for args in [
        &["pipeline", "--to", "ingest"][..],
        &["cache", "gc"],
        &["cache", "import", &bundle],
        &["cache", "verify"],
    ] {
        let ended = Ended::of(xtask(&[args, &["--artifacts", &folder]].concat()));
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.err);
        assert!(!mine.join(".knockline").exists(), "{args:?} left something");
    }
    assert_eq!(
        std::fs::read_to_string(mine.join("report/thesis.txt")).expect("reads"),
        "years of work"
    );

    // A stage alone and `cargo xtask programs` are as careful.
    let alone = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(root())
            .args(["run", "--quiet", "--package", "ingest", "--", "--out"])
            .stdin(Stdio::null());
        command
    };
    let mut stage = alone();
    stage.arg(mine.join("report"));
    for command in [stage, xtask(&["programs", &mine.join("report").display().to_string()])] {
        let ended = Ended::of(command);
        assert!(
            ended.code == Some(2) && ended.err.contains("the folder is not empty"),
            "{}",
            ended.err
        );
    }
    for _ in 0..2 {
        let mut stage = alone();
        stage.arg(dir.path().join("out"));
        Ended::of(stage).ok();
    }
    assert_eq!(std::fs::read_dir(mine.join("report")).expect("a folder").count(), 1);

    // A folder of knockline that contains a foreign folder.
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "ingest"]).ok();
    let notes = artifacts.path().join("split/notes.txt");
    put(&notes, "mine");
    let refused = artifacts.run(&["pipeline", "--to", "split"]);
    assert!(
        refused.code == Some(2) && refused.err.contains("`split` is not a result of knockline"),
        "{}",
        refused.err
    );
    assert!(notes.exists());
    std::fs::remove_dir_all(artifacts.path().join("split")).expect("removes");

    // A foreign file in a result's folder is kept when the result is replaced, and `gc` lists it.
    artifacts.run(&["pipeline", "--to", "split"]).ok();
    put(&notes, "mine");
    let replaced = artifacts.run(&["pipeline", "--to", "split", "--set", "split.seed=7"]).ok();
    assert!(
        replaced.err.contains("had files that are not part of the result: notes.txt"),
        "{}",
        replaced.err
    );
    let collected = artifacts.run(&["cache", "gc"]).ok().json();
    let aside = collected[0]["aside"][0]["path"].as_str().expect("a path");
    assert_eq!(std::fs::read_to_string(Path::new(aside).join("notes.txt")).expect("reads"), "mine");
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_explains_how_to_resume_and_the_same_command_resumes_it() {
    let artifacts = Artifacts::with(&[]);
    artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    let long = [
        "pipeline",
        "--to",
        "train.mlp",
        "--set",
        "train.mlp.epochs=3000",
        "--set",
        "train.mlp.patience=3000",
    ];
    let mut command = artifacts.command(&long);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let work = artifacts.path().join(".knockline/unfinished/train.mlp");
    let epochs = || {
        let run = std::fs::read_dir(&work).ok()?.flatten().next()?.path();
        Some(std::fs::read_dir(run.join("checkpoints")).ok()?.count())
    };
    let limit = std::time::Instant::now() + Duration::from_mins(2);
    while epochs().is_none_or(|n| n < 5) {
        assert!(std::time::Instant::now() < limit, "no checkpoints come");
        std::thread::sleep(Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("interrupts");
    let ended = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(130) && said.contains("to resume from the last checkpoint"),
        "{said}"
    );

    // Other commands leave the unfinished run alone.
    artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    assert!(epochs().is_some_and(|n| n >= 5));
    let status = artifacts.run(&[&["status", "train.mlp"], &long[3..]].concat()).ok();
    assert!(status.out.contains("an unfinished run"), "{}", status.out);
    let other =
        artifacts.run(&["pipeline", "--to", "train.mlp", "--set", "train.mlp.epochs=2"]).ok();
    assert!(
        other.err.contains("an unfinished run with other options or sources is kept"),
        "{}",
        other.err
    );
    let mut child = artifacts.start(&long);
    let before = epochs().expect("checkpoints");
    while epochs().is_none_or(|n| n <= before + 5) {
        assert!(child.try_wait().expect("a state").is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().and_then(|()| child.wait()).expect("kills");
    let mut child = artifacts.start(&[&long[..], &["--fresh"]].concat());
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while epochs().is_none_or(|n| n > before) {
        assert!(std::time::Instant::now() < deadline, "--fresh did not start from scratch");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().and_then(|()| child.wait()).expect("kills");
}

/// A command run by a user who may read the folder but not write to it: `nobody` if the tests run
/// as root, who may write everywhere.
#[cfg(unix)]
fn as_reader(folder: &Path, program: &Path, args: &[&str]) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.args(args).arg("--artifacts").arg(folder).stdin(Stdio::null());
    let probe = folder.join("probe");
    if std::fs::write(&probe, "").is_ok() {
        std::fs::remove_file(probe).expect("removes");
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
#[cfg(unix)]
fn results_are_read_from_a_folder_that_cannot_be_written_to() {
    use std::os::unix::fs::PermissionsExt;
    let artifacts = Artifacts::with(&[]);
    artifacts.run(&["pipeline", "--to", "split"]).ok();
    let dir = tempfile::tempdir().expect("a folder");
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("sets");
    };
    mode(dir.path(), 0o755);
    // Programs and a checkout that the user `nobody` may read, whoever runs the tests.
    let programs = dir.path().join("programs");
    Ended::of(xtask(&["programs", &programs.display().to_string()])).ok();
    let checkout = dir.path().join("checkout");
    let copied = Command::new("git")
        .args([
            "-C",
            &root().display().to_string(),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output();
    for file in String::from_utf8(copied.expect("git").stdout)
        .expect("UTF-8")
        .split('\0')
        // git also lists what was deleted and not committed.
        .filter(|file| root().join(file).is_file())
    {
        let to = checkout.join(file);
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        std::fs::copy(root().join(file), &to).expect("copies");
    }
    let mut todo = vec![artifacts.path().to_owned()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(
                std::fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()),
            );
        }
        let executable = if path.is_dir() { 0o555 } else { 0o444 };
        mode(&path, executable);
    }
    let run = |args: &[&str]| {
        let mut command = as_reader(artifacts.path(), &programs.join("xtask"), args);
        command.current_dir(&checkout).env_remove("CARGO_MANIFEST_DIR").env("HOME", dir.path());
        Ended::of(command)
    };
    let hits = run(&["pipeline", "--json", "--to", "split"]).ok();
    assert_eq!(hits.nodes("status", "hit"), ["ingest", "split"]);
    let out = dir.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    mode(&out, 0o777);
    run(&["cache", "export", &out.join("x.bundle").display().to_string()]).ok();
    assert!(out.join("x.bundle").exists());
    let refused = run(&["pipeline", "--to", "embed"]);
    assert!(
        refused.code == Some(1)
            && refused.err.contains("`embed` has to run, and the folder is read-only"),
        "{}",
        refused.err
    );
    let mut todo = vec![artifacts.path().to_owned()];
    while let Some(path) = todo.pop() {
        mode(&path, 0o755);
        if path.is_dir() {
            todo.extend(
                std::fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()),
            );
        }
    }
}

#[test]
fn status_and_export_report_stale_results() {
    let artifacts = Artifacts::new();
    let missing = artifacts.run(&["status", "--check"]);
    assert_eq!(missing.code, Some(1));
    artifacts.run(&["pipeline", "--to", "split"]).ok();
    artifacts.run(&["status", "split", "--check"]).ok();
    artifacts.run(&["pipeline", "--to", "split", "--set", "split.seed=7"]).ok();
    let back = artifacts.run(&["status", "split", "--check"]);
    assert_eq!(back.code, Some(1));
    assert!(
        back.out.contains("the wanted result is in the store") && back.json()[0]["would"] == "hit",
        "{}",
        back.out
    );

    let bundle = artifacts.path().join("x.bundle").display().to_string();
    let exported = artifacts.run(&["cache", "export", &bundle, "split"]).ok();
    assert!(
        exported.err.contains("`split` is stale, and is exported as it is"),
        "{}",
        exported.err
    );
    let sound = artifacts.run(&["cache", "export", &bundle, "split", "--set", "split.seed=7"]).ok();
    assert!(!sound.err.contains("stale"), "{}", sound.err);

    let key = Ended::of(xtask(&["cache", "key", "split", "--json"])).ok().json();
    let plain = Ended::of(xtask(&["cache", "key", "split"])).ok().out;
    assert_eq!(
        (key[0]["node"].as_str(), key[0]["key"].as_str()),
        (Some("split"), Some(plain.trim()))
    );
}

#[test]
fn timings_are_measured_again_on_another_machine() {
    let artifacts = Artifacts::with(&["train.sweep.batch_sizes=[64]", "train.sweep.repeats=1"]);
    let with = |threads: &str| {
        let mut command = artifacts.command(&["pipeline", "--to", "train.sweep"]);
        command.env("KNOCKLINE_THREADS", threads);
        Ended::of(command)
    };
    assert!(with("1").ok().nodes("status", "run").contains(&"train.sweep".to_owned()));
    assert!(with("1").ok().nodes("status", "hit").contains(&"train.sweep".to_owned()));
    assert_eq!(with("3").ok().nodes("status", "run"), ["train.sweep"]);
    assert_eq!(artifacts.json("train.sweep/machine.json")["threads"], 3);
    let banana = with("banana");
    assert!(
        banana.code == Some(2) && banana.err.contains("`banana` is not a number of threads"),
        "{}",
        banana.err
    );
}

#[test]
fn words_are_looked_up_in_lower_case_if_the_option_asks_for_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let vectors = dir.path().join("lower.txt");
    put(&vectors, "4 2\nmarkets 1 0\nsoftware 0 1\nfilm 1 1\nvirus -1 0\n");
    let news = dir.path().join("news.csv");
    // Half of the words with a vector begin with a capital.
    let titled = table(400)
        .replace("\tmarkets", "\tMarkets")
        .replace("\tfilm", "\tFilm")
        .replace("\tvirus", "\tVirus");
    put(&news, &titled);
    let options = [
        format!("ingest.source={}", news.display()),
        format!("embed.source={}", vectors.display()),
        "train.mlp.epochs=2".to_owned(),
    ];
    let artifacts = Artifacts::with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let never = artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    assert!(
        never.err.contains("in lower case, 4 would") && never.err.contains("embed.lowercase"),
        "{}",
        never.err
    );
    let zeros = |artifacts: &Artifacts| {
        artifacts.json("tensors/summary.json")["train"]["without_known_word"]
            .as_u64()
            .expect("a count")
    };
    assert!(zeros(&artifacts) > 200);
    for choice in ["fallback", "always"] {
        let set = format!("embed.lowercase={choice}");
        let ended = artifacts.run(&["pipeline", "--to", "train.mlp", "--set", &set]).ok();
        assert!(!ended.err.contains("in lower case"), "{}", ended.err);
        assert_eq!(zeros(&artifacts), 0);
        let answers = artifacts.run(&["predict", "VIRUS", "???", "--top-k", "1"]).ok().json();
        assert_eq!(
            (&answers[0]["words_known"], &answers[1]["category"]),
            (&1.into(), &serde_json::Value::Null),
            "{choice}"
        );
    }
    let wrong = artifacts.run(&["status", "--set", "embed.lowercase=falback"]);
    assert!(
        wrong.code == Some(2) && wrong.err.contains("did you mean `fallback`?"),
        "{}",
        wrong.err
    );
}

#[test]
fn a_report_on_other_data_shows_no_published_figures() {
    let dir = tempfile::tempdir().expect("a folder");
    let news = dir.path().join("news.csv");
    put(&news, &table(400));
    let artifacts = Artifacts::with(&[
        &format!("ingest.source={}", news.display()),
        "train.mlp.epochs=2",
        "train.curve.epochs=2",
    ]);
    artifacts.run(&["pipeline"]).ok();
    let bytes = artifacts.bytes();
    for file in ["report/index.html", "report/report.md", "report/result.svg", "report/sweep.svg"] {
        let text = String::from_utf8(bytes[file].clone()).expect("UTF-8").to_lowercase();
        for word in [
            "published",
            "公開解答",
            "92.1",
            "science and technology",
            "科学技術",
            "言語処理100本ノック 2020】",
        ] {
            assert!(!text.contains(word), "{file} has `{word}`");
        }
    }
}
