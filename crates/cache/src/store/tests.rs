use super::*;
use crate::fault;
use crate::manifest::{NAME, PARTIAL_NAME, sealed};
use crate::name::named;
use std::fs;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt as _;

/// Changes a manifest's text and seals it again, as a forger would.
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
    let work =
        store.work(&named("train.slp"), &ingredients(lr).content_key(), false).expect("a folder");
    fs::create_dir(work.join("sub")).expect("a folder");
    fs::write(work.join("model"), lr).expect("writes");
    fs::write(work.join("sub/history"), lr).expect("writes");
    let all = ingredients(lr);
    store.publish(&named("train.slp"), all.recipe_key(), all, String::new()).expect("publishes")
}

fn find(store: &Store, lr: &str) -> CheckedOut {
    store.check_out(&named("train.slp"), &ingredients(lr).content_key()).expect("looks")
}

fn model(dir: &Path) -> String {
    fs::read_to_string(dir.join("train.slp/model")).expect("reads")
}

#[test]
fn going_back_to_an_earlier_option_is_a_hit() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let lock = store.lock(|| ()).expect("locks");
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
        ("has changed since it was made", |d| fs::write(d.join("model"), "0,1").expect("writes")),
        ("bytes, not", |d| fs::write(d.join("model"), "0").expect("writes")),
        ("cannot be read", |d| fs::remove_file(d.join("sub/history")).expect("removes")),
        ("the manifest is damaged", |d| fs::write(d.join(NAME), "{").expect("writes")),
        ("its key does not match its ingredients", |d| forge(&d.join(NAME), "\"0.1\"", "\"0.2\"")),
    ];
    for (want, damage) in damages {
        for stored in [false, true] {
            let dir = tempfile::tempdir().expect("a folder");
            let store = Store::open(dir.path());
            let key = publish(&store, "0.1").key;
            if stored {
                publish(&store, "0.2");
            }
            let place = if stored {
                store.stored(&named("train.slp"), &key)
            } else {
                store.current(&named("train.slp"))
            };
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
    let failure = store
        .check_out(&named("train.slp"), &ingredients("0.1").content_key())
        .err()
        .expect("refused");
    assert!(failure.what.contains("format 9") && path.exists(), "{failure}");
}

#[test]
fn a_manifest_cannot_point_outside_its_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    publish(&store, "0.1");
    let path = dir.path().join("train.slp").join(NAME);
    forge(&path, "\"sub/history\"", "\"../history\"");
    assert!(find(&store, "0.1").damaged[0].contains("is not a valid path of an output"));
}

#[test]
fn a_node_s_folder_without_a_manifest_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    fs::create_dir_all(dir.path().join("train.slp")).expect("a folder");
    fs::write(dir.path().join("train.slp/mine"), "precious").expect("writes");
    let all = ingredients("0.1");
    fs::write(
        store.work(&named("train.slp"), &all.content_key(), false).expect("a folder").join("model"),
        "0.1",
    )
    .expect("writes");
    let failure = store
        .publish(&named("train.slp"), all.recipe_key(), all, String::new())
        .expect_err("refused");
    assert!(failure.what.contains("not a result of knockline"), "{failure}");
    assert_eq!(fs::read_to_string(dir.path().join("train.slp/mine")).expect("reads"), "precious");
    // The new result is kept in the store nevertheless.
    fs::remove_dir_all(dir.path().join("train.slp")).expect("removes");
    assert!(find(&store, "0.1").manifest.is_some());
}

#[test]
fn a_folder_that_is_not_empty_is_used_only_if_knockline_made_it() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("README.md"), "harmless").expect("writes");
    drop(Store::open(dir.path()).lock(|| ()).expect("locks"));
    fs::write(dir.path().join("thesis.txt"), "mine").expect("writes");
    drop(Store::open(dir.path()).lock(|| ()).expect("it is knockline's folder now"));

    let bare = tempfile::tempdir().expect("a folder");
    publish(&Store::open(bare.path()), "0.1");
    fs::remove_dir_all(bare.path().join(".knockline")).expect("removes");
    drop(Store::open(bare.path()).lock(|| ()).expect("its results are still recognised"));

    let other = tempfile::tempdir().expect("a folder");
    fs::create_dir(other.path().join("report")).expect("a folder");
    let failure = Store::open(other.path()).lock(|| ()).err().expect("refused");
    assert!(
        failure.what.contains("it contains `report`") && failure.exit == failure::Exit::Usage,
        "{failure}"
    );
    assert!(!other.path().join(".knockline").exists(), "and nothing is created there");
}

#[test]
fn files_that_a_user_put_into_a_result_s_folder_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    publish(&store, "0.1");
    fs::write(store.current(&named("train.slp")).join("sub/notes.txt"), "mine").expect("writes");
    // A result that is made again under the same key replaces the folder, which is not kept.
    publish(&store, "0.1");
    assert_eq!(
        fs::read_to_string(dir.path().join(".knockline/aside/train.slp-1/sub/notes.txt"))
            .expect("reads"),
        "mine"
    );
    assert!(store.notices()[0].contains("sub/notes.txt"));
    // Edits of the result's own files are kept, too, and so are files with unusual names.
    fs::write(store.current(&named("train.slp")).join("model"), "edited").expect("writes");
    #[cfg(unix)]
    fs::write(store.current(&named("train.slp")).join(std::ffi::OsStr::from_bytes(b"\xff")), "odd")
        .expect("writes");
    publish(&store, "0.1");
    assert_eq!(
        fs::read_to_string(dir.path().join(".knockline/aside/train.slp-2/model")).expect("reads"),
        "edited"
    );
    assert_eq!(model(dir.path()), "0.1");
}

#[test]
#[cfg(unix)]
fn a_node_s_folder_that_is_a_link_is_refused_and_an_empty_one_is_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    fs::create_dir(dir.path().join("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink("elsewhere", dir.path().join("train.slp")).expect("links");
    assert!(
        store
            .refuse_foreign_node(&named("train.slp"))
            .expect_err("refused")
            .what
            .contains("is a link")
    );
    fs::remove_file(dir.path().join("train.slp")).expect("removes");
    fs::create_dir(dir.path().join("train.slp")).expect("a folder");
    store.refuse_foreign_node(&named("train.slp")).expect("an empty folder");
    publish(&store, "0.1");
    assert_eq!(model(dir.path()), "0.1");
}

#[test]
fn a_result_that_was_finished_when_the_run_was_killed_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let all = ingredients("0.1");
    let work = store.work(&named("train.slp"), &all.content_key(), false).expect("a folder");
    fs::write(work.join("model"), "0.1").expect("writes");
    let outputs = outputs_in(&work).expect("digests");
    Manifest::new(&named("train.slp"), all.recipe_key(), all, String::new(), outputs)
        .write(&work)
        .expect("writes");
    drop(store.lock(|| ()).expect("locks"));
    assert!(find(&store, "0.1").manifest.is_some());
}

#[test]
fn a_partial_manifest_is_not_an_output() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let work = store
        .work(&named("train.slp"), &ingredients("0.1").content_key(), false)
        .expect("a folder");
    fs::write(work.join(PARTIAL_NAME), "{").expect("writes");
    fs::write(work.join("model"), "0.1").expect("writes");
    let all = ingredients("0.1");
    let manifest = store
        .publish(&named("train.slp"), all.recipe_key(), all, String::new())
        .expect("publishes");
    assert_eq!(manifest.outputs.len(), 1);
    assert!(find(&store, "0.1").manifest.is_some());
}

#[test]
fn a_killed_run_leaves_only_a_training_run_without_its_result() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let half =
        store.work(&named("embed"), &ingredients("1").content_key(), false).expect("a folder");
    fs::write(half.join("half"), "x").expect("writes");
    let run = store
        .work(&named("train.slp"), &ingredients("0.1").content_key(), false)
        .expect("a folder");
    fs::create_dir(run.join("checkpoints")).expect("a folder");
    fs::write(run.join("checkpoints/epoch-0001"), "hours of work").expect("writes");
    for _ in 0..2 {
        drop(store.lock(|| ()).expect("locks"));
        assert!(!half.exists() && run.join("checkpoints/epoch-0001").exists());
    }
    assert_eq!(
        store.work(&named("train.slp"), &ingredients("0.1").content_key(), true).expect("a folder"),
        run
    );
    assert!(run.join("checkpoints/epoch-0001").exists());
    store.work(&named("train.slp"), &ingredients("0.1").content_key(), false).expect("a folder");
    assert!(!run.join("checkpoints").exists(), "a run that is not resumed starts with nothing");
    // A forced run that was killed and is newer than the existing result is kept; one that is older
    // than the result is not.
    publish(&store, "0.1");
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::create_dir_all(run.join("checkpoints")).expect("a folder");
    drop(store.lock(|| ()).expect("locks"));
    assert!(run.join("checkpoints").exists());
    let earlier = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
    fs::File::open(run.join("checkpoints"))
        .and_then(|folder| folder.set_modified(earlier))
        .expect("sets the time");
    drop(store.lock(|| ()).expect("locks"));
    assert!(!dir.path().join(".knockline/unfinished").exists());
}

/// Calls `work` again and again, each time killed one file operation later, until it completes.
/// After each kill, `check` looks at what the next run finds. Returns the number of kills.
fn killed_everywhere(work: impl Fn(&Store), check: impl Fn(&Store, &Path)) -> u32 {
    let mut kills = 0;
    loop {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        drop(store.lock(|| ()).expect("locks"));
        publish(&store, "0.1");
        fault::die_after(Some(kills));
        let killed =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&store))).is_err();
        fault::die_after(None);
        let next = Store::open(dir.path());
        drop(next.lock(|| ()).expect("locks"));
        check(&next, dir.path());
        for litter in ["unfinished", "trash", "incoming"] {
            assert!(
                !dir.path().join(".knockline").join(litter).exists(),
                "{litter} is left after {kills} operations"
            );
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
        drop(store.lock(|| ()).expect("locks"));
    };
    let kills = killed_everywhere(|store| drop(publish(store, "0.2")), check);
    assert!(kills >= 8, "{kills} steps");
}

#[test]
fn killed_at_any_step_of_making_the_same_result_again_one_of_the_two_is_there() {
    let check = |store: &Store, dir: &Path| {
        assert!(find(store, "0.1").manifest.is_some());
        assert_eq!(model(dir), "0.1");
        drop(store.lock(|| ()).expect("locks"));
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
        drop(store.lock(|| ()).expect("locks"));
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
            assert!(
                finding.manifest.is_none() && finding.damaged.len() == 1,
                "byte {at}: {:?}",
                finding.damaged
            );
            assert!(
                finding.damaged[0].contains("the manifest is damaged"),
                "{:?}",
                finding.damaged
            );
            publish(&store, "0.1");
        }
    }
    assert_eq!(fs::read(&path).expect("reads"), good);
}
