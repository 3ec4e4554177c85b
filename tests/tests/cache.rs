//! The care of what is kept: `cache verify` and `cache gc`.

#![allow(clippy::indexing_slicing)]

use e2e::Artifacts;

#[test]
fn damage_that_the_index_does_not_see_is_found_by_rereading() {
    let artifacts = Artifacts::new();
    let nothing = artifacts.run(&["cache", "verify"]);
    assert!(nothing.code == Some(2) && nothing.err.contains("there are no results here"), "{}", nothing.err);
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
fn what_no_current_result_needs_is_dropped_and_the_rest_is_still_a_hit() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    artifacts.run(&["pipeline", "--to", "tensors", "--set", "split.seed=7"]).ok();
    let could = artifacts.run(&["cache", "gc", "--dry-run"]).ok().json();
    let bytes = could[0]["bytes"].as_u64().expect("bytes");
    assert!(bytes > 5_000_000 && could[0]["dropped"] == false, "{could:?}");
    assert_eq!(artifacts.run(&["cache", "gc"]).ok().json()[0]["bytes"], bytes);
    assert_eq!(artifacts.run(&["cache", "gc"]).ok().json()[0]["bytes"], 0);
    let after = artifacts.run(&["pipeline", "--to", "tensors", "--set", "split.seed=7"]).ok();
    assert_eq!(after.nodes("status", "hit").len(), 4);
}
