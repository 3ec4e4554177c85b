//! Pipelines that are killed at random moments, that run at the same time, and that cannot write.

#![allow(clippy::indexing_slicing)]

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::{Artifacts, NODES};

/// Number of runs that are killed before they end, at moments spread over a whole run.
const KILLS: u32 = 100;
/// Number of attempts at most: a run may have ended before it is killed.
const TRIES: u32 = 500;

fn source(dir: &Path) -> String {
    let path = dir.join("newsCorpora.csv");
    std::fs::write(&path, e2e::table(400)).expect("writes");
    format!("ingest.source={}", path.display())
}

/// Files and folders that a run has left and that are not results.
fn litter(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().expect("UTF-8");
            let is_litter = name.ends_with(".partial")
                || name.starts_with(".tmp")
                || ["unfinished", "trash", "incoming", "aside"].contains(&name.as_str());
            if is_litter {
                found.push(entry.path().display().to_string());
            } else if entry.path().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Whether a file contains clock readings, or the digest of a file that does.
fn has_clock_readings(file: &str) -> bool {
    file.ends_with("sweep.jsonl")
        || file.ends_with("machine.json")
        || file.starts_with("report/")
        || file.starts_with("train.") && file.ends_with("manifest.json")
}

#[test]
fn a_pipeline_killed_a_hundred_times_gives_the_same_bytes_and_leaves_no_litter() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = source(dir.path());
    let options = [source.as_str(), "train.mlp.epochs=3", "train.curve.epochs=3"];
    let (whole, killed) = (Artifacts::with(&options), Artifacts::with(&options));
    whole.run(&["pipeline"]).ok();
    let start = Instant::now();
    whole.run(&["pipeline", "--set", "split.seed=99"]).ok();
    let length = start.elapsed();

    // The moments are a fixed sequence (a linear congruential generator), so that a failure can be
    // reproduced.
    let mut state = 7_u32;
    let mut killed_going = 0;
    for kill in 0..TRIES {
        if killed_going == KILLS {
            break;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let moment = length.mul_f64(f64::from(state >> 8) / f64::from(1 << 24));
        // The seed changes every four kills, so that there is always something left to do.
        let seed = format!("split.seed={}", kill / 4);
        let resume = ["pipeline", "--set", &seed, "--resume"];
        let mut child = killed.start(if kill % 2 == 0 { &resume[..3] } else { &resume });
        std::thread::sleep(moment);
        killed_going += u32::from(child.try_wait().expect("a state").is_none());
        // On Unix, `cargo` has become xtask, and its stage ends when xtask does. Killing a process
        // that has ended is not an error.
        child.kill().and_then(|()| child.wait()).expect("kills");
    }
    assert_eq!(killed_going, KILLS, "after {TRIES} tries");

    killed.run(&["pipeline"]).ok();
    killed.run(&["cache", "verify"]).ok();
    // `gc` removes the unfinished training runs of the other seeds.
    killed.run(&["cache", "gc"]).ok();
    assert_eq!(litter(killed.path()), [""; 0]);
    whole.run(&["pipeline"]).ok();
    let (whole, killed) = (whole.bytes(), killed.bytes());
    assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    for (file, bytes) in whole.iter().filter(|(file, _)| !has_clock_readings(file)) {
        assert!(killed[file] == *bytes, "{file} differs");
    }
}

#[test]
fn eight_pipelines_at_once_make_each_result_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = source(dir.path());
    let artifacts =
        Artifacts::with(&[source.as_str(), "train.mlp.epochs=2", "train.curve.epochs=2"]);
    let runs = std::thread::scope(|scope| {
        [(); 8]
            .map(|()| scope.spawn(|| artifacts.run(&["pipeline"]).ok()))
            .map(|run| run.join().expect("a run"))
    });
    let mut made: Vec<String> = runs.iter().flat_map(|run| run.nodes("status", "run")).collect();
    made.sort_unstable();
    let mut nodes = NODES;
    nodes.sort_unstable();
    assert_eq!(made, nodes, "each node is made once");
    assert!(runs.iter().filter(|run| run.err.contains("waiting for another run")).count() >= 1);
    let start = Instant::now();
    artifacts.run(&["pipeline"]).ok();
    assert!(start.elapsed() < Duration::from_mins(1), "nothing waits for a run that has ended");
}

/// `cargo xtask pipeline` in a shell that runs the command `limit` first.
fn limited(artifacts: &Artifacts, limit: &str) -> e2e::Ended {
    let plain = artifacts.command(&["pipeline"]);
    let mut command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{limit}; exec \"$0\" \"$@\""))
        .arg(plain.get_program())
        .args(plain.get_args());
    command.current_dir(e2e::root()).stdin(std::process::Stdio::null());
    e2e::Ended::of(command)
}

#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_that_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = source(dir.path());
    let options = [source.as_str(), "train.mlp.epochs=2", "train.curve.epochs=2"];
    let (whole, short) = (Artifacts::with(&options), Artifacts::with(&options));
    whole.run(&["pipeline"]).ok();
    // No file may be longer than `blocks` blocks of 512 bytes. With the signal for it (SIGXFSZ)
    // ignored, writing fails as on a full disk.
    let mut stopped_at = Vec::new();
    for blocks in [16, 64, 160, 400, 1600] {
        let ended = limited(&short, &format!("trap '' XFSZ; ulimit -f {blocks}"));
        let made = ended.json().iter().filter(|line| line["node"].is_string()).count();
        stopped_at.push(made);
        if made < 9 {
            assert_eq!(ended.code, Some(1), "{blocks} blocks: {}", ended.err);
            assert!(ended.err.contains("where:") && ended.err.contains("hint:"), "{}", ended.err);
            assert!(ended.err.contains("too large"), "{blocks} blocks: {}", ended.err);
        }
    }
    assert!(stopped_at.is_sorted() && stopped_at[0] == 0 && stopped_at[3] > 0, "{stopped_at:?}");
    short.run(&["cache", "verify"]).ok();
    short.run(&["pipeline"]).ok();
    assert_eq!(litter(short.path()), [""; 0]);
    let (whole, short) = (whole.bytes(), short.bytes());
    for (file, bytes) in whole.iter().filter(|(file, _)| !has_clock_readings(file)) {
        assert!(short[file] == *bytes, "{file} differs");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_error_for_an_unwritable_folder_names_it_and_nothing_is_lost() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let source = source(dir.path());
    let artifacts = Artifacts::with(&[source.as_str()]);
    artifacts.run(&["pipeline", "--to", "split"]).ok();
    let may = |mode: u32| {
        for folder in [artifacts.path().to_owned(), artifacts.path().join(".knockline")] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))
                .expect("a mode");
        }
    };
    may(0o555);
    // root may write everywhere but below /sys.
    let is_administrator = std::fs::write(artifacts.path().join("probe"), "").is_ok();
    let ended = if is_administrator {
        e2e::Ended::of(e2e::xtask(&[
            "pipeline",
            "--to",
            "embed",
            "--artifacts",
            "/sys/kernel/knockline",
        ]))
    } else {
        artifacts.run(&["pipeline", "--to", "embed"])
    };
    may(0o755);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(
        ended.err.contains("cannot")
            && ended.err.contains("where:")
            && ended.err.contains("--artifacts"),
        "{}",
        ended.err
    );
    let after = artifacts.run(&["pipeline", "--to", "split"]).ok();
    assert_eq!(after.nodes("status", "hit"), ["ingest", "split"]);
}
