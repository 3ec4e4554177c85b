use super::*;
use crate::fault;
use crate::manifest::{NAME, PARTIAL_NAME, sealed};
use std::fs;

/// Changes a manifest's text and seals it again, as somebody who knows how.
fn forge(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("reads");
    let (_, json) = text.split_once(",\n").expect("a seal");
    assert!(json.contains(from), "{from} is not in {json}");
    fs::write(path, sealed(&format!("{{\n{}", json.trim_end().replace(from, to)))).expect("writes");
}

fn ingredients(lr: &str) -> Ingredients {
    let mut all = Ingredients::new();
    all.add("option lr", lr);
    all
}

fn publish(store: &Store, lr: &str) -> Manifest {
    let work = store.work("train.slp", &ingredients(lr).key()).expect("a folder");
    fs::create_dir(work.join("sub")).expect("a folder");
    fs::write(work.join("model"), lr).expect("writes");
    fs::write(work.join("sub/history"), lr).expect("writes");
    let all = ingredients(lr);
    store.publish("train.slp", all.key(), all, String::new()).expect("publishes")
}

fn find(store: &Store, lr: &str) -> Finding {
    store.find("train.slp", &ingredients(lr).key()).expect("looks")
}

fn model(dir: &Path) -> String {
    fs::read_to_string(dir.join("train.slp/model")).expect("reads")
}

#[test]
fn going_back_to_an_earlier_option_is_a_hit() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let lock = store.lock(false, || ()).expect("locks");
    let first = publish(&store, "0.1");
    publish(&store, "0.2");
    assert_eq!(model(dir.path()), "0.2");
    assert_eq!(find(&store, "0.1").manifest, Some(first));
    assert_eq!(model(dir.path()), "0.1");
    assert!(find(&store, "0.2").manifest.is_some());
    assert!(find(&store, "0.3").manifest.is_none());
    drop(lock);
}

#[test]
fn a_forced_rerun_replaces_the_same_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    assert_eq!(publish(&store, "0.1"), publish(&store, "0.1"));
    assert_eq!(model(dir.path()), "0.1");
}

#[test]
fn damage_is_found_named_and_set_aside() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("another content", |d| fs::write(d.join("model"), "0,1").expect("writes")),
        ("bytes, not", |d| fs::write(d.join("model"), "0").expect("writes")),
        ("cannot be read", |d| fs::remove_file(d.join("sub/history")).expect("removes")),
        ("the manifest is damaged", |d| fs::write(d.join(NAME), "{").expect("writes")),
        ("its key is not that of its ingredients", |d| forge(&d.join(NAME), "\"0.1\"", "\"0.2\"")),
    ];
    for (want, damage) in damages {
        for stored in [false, true] {
            let dir = tempfile::tempdir().expect("a folder");
            let store = Store::open(dir.path());
            let key = publish(&store, "0.1").key;
            if stored {
                publish(&store, "0.2");
            }
            let place = if stored { store.stored("train.slp", &key) } else { store.current("train.slp") };
            damage(&place);
            let finding = find(&store, "0.1");
            assert!(finding.manifest.is_none() && finding.damaged.len() == 1, "{want}");
            assert!(finding.damaged[0].contains(want), "{:?}", finding.damaged);
            assert!(dir.path().join(".knockline/aside/train.slp-1").exists());
            publish(&store, "0.1");
            assert!(find(&store, "0.1").manifest.is_some());
        }
    }
}

#[test]
fn a_manifest_of_a_newer_format_is_refused_and_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    publish(&store, "0.1");
    let path = dir.path().join("train.slp").join(NAME);
    forge(&path, "\"format\": 2,", "\"format\": 9,");
    let failure = store.find("train.slp", &ingredients("0.1").key()).err().expect("refused");
    assert!(failure.what.contains("format 9") && path.exists(), "{failure}");
}

#[test]
fn a_manifest_cannot_point_outside_its_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    publish(&store, "0.1");
    let path = dir.path().join("train.slp").join(NAME);
    forge(&path, "\"sub/history\"", "\"../history\"");
    assert!(find(&store, "0.1").damaged[0].contains("no path of an output"));
}

#[test]
fn a_folder_without_a_manifest_is_nobody_s_result_and_not_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    fs::create_dir_all(dir.path().join("train.slp")).expect("a folder");
    fs::write(dir.path().join("train.slp/mine"), "precious").expect("writes");
    publish(&store, "0.1");
    assert_eq!(fs::read_to_string(dir.path().join(".knockline/aside/train.slp-1/mine")).expect("reads"), "precious");
}

#[test]
fn a_result_that_was_finished_when_the_run_was_killed_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let all = ingredients("0.1");
    let work = store.work("train.slp", &all.key()).expect("a folder");
    fs::write(work.join("model"), "0.1").expect("writes");
    let outputs = digest_all(&work).expect("digests");
    Manifest::new("train.slp", all.key(), all, String::new(), outputs).write(&work).expect("writes");
    drop(store.lock(false, || ()).expect("locks"));
    assert!(find(&store, "0.1").manifest.is_some());
}

#[test]
fn half_a_manifest_is_no_output() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let work = store.work("train.slp", &ingredients("0.1").key()).expect("a folder");
    fs::write(work.join(PARTIAL_NAME), "{").expect("writes");
    fs::write(work.join("model"), "0.1").expect("writes");
    let all = ingredients("0.1");
    let manifest = store.publish("train.slp", all.key(), all, String::new()).expect("publishes");
    assert_eq!(manifest.outputs.len(), 1);
    assert!(find(&store, "0.1").manifest.is_some());
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let work = store.work("embed", &ingredients("1").key()).expect("a folder");
    fs::write(work.join("half"), "x").expect("writes");
    drop(store.lock(true, || ()).expect("locks"));
    assert!(work.join("half").exists());
    drop(store.lock(false, || ()).expect("locks"));
    assert!(!dir.path().join(".knockline/unfinished").exists());
}

/// Calls `work` again and again, each time killed one file operation later, until it comes through;
/// after each kill `check` looks at what the next run finds. Returns how many kills that were.
fn killed_everywhere(work: impl Fn(&Store), check: impl Fn(&Store, &Path)) -> u32 {
    let mut kills = 0;
    loop {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        publish(&store, "0.1");
        fault::die_after(Some(kills));
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&store))).is_err();
        fault::die_after(None);
        let next = Store::open(dir.path());
        drop(next.lock(false, || ()).expect("locks"));
        check(&next, dir.path());
        for litter in ["unfinished", "trash", "incoming"] {
            assert!(!dir.path().join(".knockline").join(litter).exists(), "{litter} is left after {kills} operations");
        }
        if !killed {
            return kills;
        }
        kills += 1;
    }
}

#[test]
fn killed_at_any_step_of_publishing_nothing_is_lost() {
    let check = |store: &Store, dir: &Path| {
        assert!(find(store, "0.1").manifest.is_some(), "the earlier result is lost");
        assert_eq!(model(dir), "0.1");
        let there = find(store, "0.2").manifest.is_some();
        assert!(!there || model(dir) == "0.2");
        publish(store, "0.2");
        assert_eq!(model(dir), "0.2");
        drop(store.lock(false, || ()).expect("locks"));
    };
    let kills = killed_everywhere(|store| drop(publish(store, "0.2")), check);
    assert!(kills >= 8, "{kills} steps");
}

#[test]
fn killed_at_any_step_of_making_the_same_result_again_one_of_the_two_is_there() {
    let check = |store: &Store, dir: &Path| {
        assert!(find(store, "0.1").manifest.is_some());
        assert_eq!(model(dir), "0.1");
        drop(store.lock(false, || ()).expect("locks"));
    };
    let kills = killed_everywhere(|store| drop(publish(store, "0.1")), check);
    assert!(kills >= 8, "{kills} steps");
}

#[test]
fn killed_at_any_step_of_going_back_both_results_are_there() {
    let work = |store: &Store| {
        publish(store, "0.2");
        find(store, "0.1");
    };
    let check = |store: &Store, dir: &Path| {
        assert!(find(store, "0.1").manifest.is_some());
        assert_eq!(model(dir), "0.1");
        drop(store.lock(false, || ()).expect("locks"));
    };
    let kills = killed_everywhere(work, check);
    assert!(kills >= 10, "{kills} steps");
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_manifest_is_found_and_the_result_made_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    publish(&store, "0.1");
    let path = dir.path().join("train.slp").join(NAME);
    let good = fs::read(&path).expect("reads");
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        for bad in [flipped, good[..at].to_vec()] {
            fs::write(&path, &bad).expect("writes");
            let finding = find(&store, "0.1");
            assert!(finding.manifest.is_none() && finding.damaged.len() == 1, "byte {at}: {:?}", finding.damaged);
            assert!(finding.damaged[0].contains("the manifest is damaged"), "{:?}", finding.damaged);
            publish(&store, "0.1");
        }
    }
    assert_eq!(fs::read(&path).expect("reads"), good);
}
