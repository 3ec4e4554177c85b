//! Moving and maintaining results: `cache export`, `import`, `verify`, `gc`.

#![allow(clippy::indexing_slicing)]

use e2e::Artifacts;
use serde_json::json;

#[test]
fn damage_that_the_index_does_not_see_is_found_by_rereading() {
    let artifacts = Artifacts::new();
    let nothing = artifacts.run(&["cache", "verify"]);
    assert!(
        nothing.code == Some(2) && nothing.err.contains("there are no results here"),
        "{}",
        nothing.err
    );
    artifacts.run(&["pipeline", "--to", "embed"]).ok();
    artifacts.run(&["pipeline", "--to", "embed", "--set", "embed.seed=7"]).ok();
    let sound = artifacts.run(&["cache", "verify"]).ok().json();
    assert_eq!(sound.len(), 4, "three current results and a stored one");
    assert!(sound.iter().all(|line| line["damaged"].is_null()));

    let file = artifacts.path().join("embed/vectors.safetensors");
    let mut bytes = std::fs::read(&file).expect("reads");
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).expect("writes");
    let found = artifacts.run(&["cache", "verify"]);
    assert_eq!(found.code, Some(3));
    assert!(found.err.contains("1 result was damaged"), "{}", found.err);
    let again = artifacts.run(&["pipeline", "--to", "embed", "--set", "embed.seed=7"]).ok();
    assert_eq!(again.nodes("status", "run"), ["embed"]);
    artifacts.run(&["cache", "verify"]).ok();
}

#[test]
fn gc_drops_results_that_no_current_result_needs_and_the_rest_are_still_hits() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    artifacts.run(&["pipeline", "--to", "tensors", "--set", "split.seed=7"]).ok();
    let kept = artifacts.run(&["cache", "gc", "--keep", "1", "--older", "0s"]).ok().json();
    assert_eq!((&kept[0]["bytes"], &kept[0]["kept"]), (&json!(0), &json!(3)), "{kept:?}");
    let wrong = artifacts.run(&["cache", "gc", "--max-size", "2"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("such as 2GB"), "{}", wrong.err);
    let could = artifacts.run(&["cache", "gc", "--dry-run"]).ok().json();
    let bytes = could[0]["bytes"].as_u64().expect("bytes");
    assert!(bytes > 5_000_000 && could[0]["dropped"] == false, "{could:?}");
    assert_eq!(artifacts.run(&["cache", "gc"]).ok().json()[0]["bytes"], bytes);
    assert_eq!(artifacts.run(&["cache", "gc"]).ok().json()[0]["bytes"], 0);
    let after = artifacts.run(&["pipeline", "--to", "tensors", "--set", "split.seed=7"]).ok();
    assert_eq!(after.nodes("status", "hit").len(), 4);
}

#[test]
fn the_next_job_runs_only_nodes_that_the_bundle_lacks() {
    let (first, second, whole) = (Artifacts::new(), Artifacts::new(), Artifacts::new());
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = dir.path().join("data.bundle").display().to_string();
    let nothing = first.run(&["cache", "export", &bundle]);
    assert!(
        nothing.code == Some(2) && nothing.err.contains("there are no results here"),
        "{}",
        nothing.err
    );

    first.run(&["pipeline", "--to", "tensors"]).ok();
    let exported = first.run(&["cache", "export", &bundle]).ok();
    let nodes = |ended: &e2e::Ended| {
        ended
            .json()
            .iter()
            .map(|l| l["node"].as_str().expect("a node").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(nodes(&exported), ["ingest", "split", "embed", "tensors"]);
    let again = dir.path().join("again.bundle").display().to_string();
    first.run(&["cache", "export", &again, "tensors", "embed", "split", "ingest"]).ok();
    assert!(
        std::fs::read(&bundle).expect("reads") == std::fs::read(&again).expect("reads"),
        "the same results have the same bytes"
    );

    let imported = second.run(&["cache", "import", &bundle]).ok();
    assert!(imported.json().iter().all(|line| line["had"] == false));
    let rest = second.run(&["pipeline"]).ok();
    assert_eq!(rest.nodes("status", "hit"), ["ingest", "split", "embed", "tensors"]);
    whole.run(&["pipeline"]).ok();
    let (second, whole) = (second.bytes(), whole.bytes());
    assert_eq!(second.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    for file in [
        "report/train.mlp-loss.svg",
        "report/result.svg",
        "train.mlp/model.safetensors",
        "tensors/train.safetensors",
    ] {
        assert!(second[file] == whole[file], "{file} differs");
    }

    let mut bytes = std::fs::read(&bundle).expect("reads");
    // More than one bit is flipped: a single bit of a zstd frame may have no effect on the unpacked
    // bytes.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&bundle, bytes).expect("writes");
    let third = Artifacts::new();
    let damaged = third.run(&["cache", "import", &bundle]);
    assert!(
        damaged.code == Some(3)
            && damaged.err.contains("data.bundle")
            && damaged.err.contains("hint:"),
        "{}",
        damaged.err
    );
    third.run(&["cache", "verify"]).ok();
    let missing = third.run(&["cache", "import", "no.bundle"]);
    assert!(missing.code == Some(3) && missing.err.contains("no.bundle"), "{}", missing.err);
}
