use std::fs;
use std::path::{Path, PathBuf};

use cache::{Ingredients, NodeName, Store};
use tempfile::TempDir;

use super::*;

/// A folder with results of two nodes.
fn made() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    for (node, text) in [("split", "a"), ("train.slp", "bb")] {
        let mut all = Ingredients::new();
        all.add("node", node);
        let node = NodeName::try_from(node).expect("a name");
        let work = store.work(&node, &all.content_key(), false).expect("a folder");
        fs::create_dir(work.join("sub")).expect("a folder");
        fs::write(work.join("file"), text.repeat(100)).expect("writes");
        fs::write(work.join("sub/file"), text).expect("writes");
        store.publish(&node, all.recipe_key(), all, "made".to_owned()).expect("publishes");
    }
    (dir, store)
}

fn nodes() -> Vec<NodeName> {
    ["split", "train.slp"].map(|name| NodeName::try_from(name).expect("a name")).to_vec()
}

fn bundle_of(store: &Store, dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    export(store, &nodes(), &path).expect("exports");
    path
}

/// Every file below a folder, with its content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                todo.push(entry.path());
            } else {
                found.push((entry.path(), fs::read(entry.path()).expect("reads")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_export_can_be_imported_and_the_same_results_have_the_same_bytes() {
    let (one, store) = made();
    let (two, other) = made();
    let bundle = bundle_of(&store, one.path(), "a.bundle");
    assert_eq!(
        fs::read(&bundle).expect("reads"),
        fs::read(bundle_of(&other, two.path(), "b.bundle")).expect("reads")
    );

    let to = tempfile::tempdir().expect("a folder");
    let items = import(&Store::open(to.path()), &bundle).expect("imports");
    assert_eq!(
        items.iter().map(|i| (i.node.as_str(), i.had)).collect::<Vec<_>>(),
        [("split", false), ("train.slp", false)]
    );
    for node in nodes() {
        let relative = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
            files(&folder.join(&node))
                .into_iter()
                .map(|(p, b)| (p.strip_prefix(folder).expect("below").to_owned(), b))
                .collect()
        };
        assert_eq!(relative(one.path()), relative(to.path()));
    }
    assert!(import(&Store::open(to.path()), &bundle).expect("imports").iter().all(|i| i.had));
}

#[test]
fn every_flipped_byte_and_every_cut_is_found_and_nothing_wrong_is_imported() {
    let (dir, store) = made();
    let bundle = bundle_of(&store, dir.path(), "a.bundle");
    let good = fs::read(&bundle).expect("reads");
    let sound = |to: &Path| {
        nodes().iter().all(|node| files(&to.join(node)).is_empty() || same(dir.path(), to, node))
    };
    let (mut flips, mut cuts) = (0, 0);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        fs::write(&bundle, &bytes).expect("writes");
        let to = tempfile::tempdir().expect("a folder");
        let refused = import(&Store::open(to.path()), &bundle).is_err();
        flips += usize::from(refused);
        assert!(sound(to.path()), "byte {at}");
        assert!(!to.path().join(".knockline/incoming").exists(), "byte {at} leaves half a result");
        assert!(
            refused || nodes().iter().all(|node| same(dir.path(), to.path(), node)),
            "byte {at} is read as something else"
        );

        fs::write(&bundle, &good[..at]).expect("writes");
        let to = tempfile::tempdir().expect("a folder");
        cuts += usize::from(import(&Store::open(to.path()), &bundle).is_err());
        assert!(sound(to.path()), "cut at {at}");
    }
    assert_eq!((flips, cuts), (good.len(), good.len()), "every flip and every cut is an error");
}

fn same(one: &Path, two: &Path, node: &str) -> bool {
    let contents = |folder: &Path| {
        files(&folder.join(node)).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    contents(one) == contents(two)
}

#[test]
fn a_damaged_result_is_not_exported_and_an_earlier_bundle_stays() {
    let (dir, store) = made();
    let bundle = bundle_of(&store, dir.path(), "a.bundle");
    let before = fs::read(&bundle).expect("reads");
    fs::write(dir.path().join("split/sub/file"), "x").expect("writes");
    let failure = export(&store, &nodes(), &bundle).expect_err("refused");
    assert!(failure.what.contains("sub/file has changed since it was made"), "{failure}");
    assert_eq!(fs::read(&bundle).expect("reads"), before);
    let beside =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().contains("partial");
    assert!(
        !bundle
            .parent()
            .expect("a folder")
            .read_dir()
            .expect("a folder")
            .flatten()
            .any(|entry| beside(&entry))
    );
    let failure = export(&store, &[NodeName::try_from("embed").expect("a name")], &bundle)
        .expect_err("refused");
    assert!(failure.what.contains("no result of `embed`"), "{failure}");
}

/// A bundle of these entries.
fn forged(dir: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = dir.join("forged.bundle");
    let mut archive = tar::Builder::new(
        zstd::Encoder::new(fs::File::create(&path).expect("a file"), 1).expect("an encoder"),
    );
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        // This bypasses the checks of the library, which refuses to write such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).expect("appends");
    }
    archive.into_inner().and_then(zstd::Encoder::finish).expect("finishes");
    path
}

#[test]
fn a_forged_bundle_writes_nothing_outside_its_node() {
    let dir = tempfile::tempdir().expect("a folder");
    let to = dir.path().join("artifacts");
    let store = Store::open(&to);
    let refusal = |entries: &[(&str, &[u8])]| {
        import(&store, &forged(dir.path(), entries)).expect_err("refused").what
    };
    let head = |nodes: &str| format!(r#"{{"format":1,"nodes":[{nodes}]}}"#).into_bytes();
    assert!(refusal(&[(HEAD, &head("\"../evil\""))]).contains("`../evil` cannot be a node's name"));
    assert!(refusal(&[(HEAD, &head("\".knockline\""))]).contains("cannot be a node's name"));
    assert!(refusal(&[(HEAD, br#"{"format":2,"nodes":[]}"#)]).contains("format 2"));
    assert!(refusal(&[("x", b"")]).contains("has `x` where"));
    assert!(
        refusal(&[(HEAD, &head("\"split\"")), ("split/manifest.json", b"{}")])
            .contains("the manifest is damaged")
    );
    assert!(refusal(&[(HEAD, &head("")), ("more", b"")]).contains("after its last node"));
    assert!(!dir.path().join("evil").exists() && files(&to).is_empty());
}

#[test]
fn a_file_that_is_not_a_bundle_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("artifacts"));
    let text = dir.path().join("text");
    fs::write(&text, "hello").expect("writes");
    assert_eq!(import(&store, &text).expect_err("refused").what, "this is not a bundle");
    assert_eq!(
        import(&store, dir.path()).expect_err("refused").what,
        "this is a folder, not a bundle"
    );
    fs::write(&text, "").expect("writes");
    assert_eq!(import(&store, &text).expect_err("refused").what, "this is not a bundle");
}

#[test]
fn a_user_s_file_beside_the_bundle_is_left_alone() {
    let (dir, store) = made();
    let mine = dir.path().join("a.partial");
    fs::write(&mine, "precious").expect("writes");
    bundle_of(&store, dir.path(), "a.bundle");
    assert_eq!(fs::read_to_string(&mine).expect("reads"), "precious");
}
