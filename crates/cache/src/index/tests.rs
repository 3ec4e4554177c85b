use super::*;

/// How long the tests wait in place of a minute: longer than a tick of any file system that they
/// run on.
const SOON: Duration = Duration::from_millis(50);

fn quick(index: Index) -> Index {
    index.settled_after(SOON)
}

#[test]
fn a_change_is_seen_even_if_the_time_stamp_is_restored() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x");
    fs::write(&file, "one").expect("writes");
    std::thread::sleep(2 * SOON);
    let index = quick(Index::open(&dir.path().join("index.json")));
    let first = index.digest(&file).expect("reads");
    let stamp = fs::metadata(&file).and_then(|m| m.modified()).expect("a time stamp");
    fs::write(&file, "two").expect("writes");
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|f| f.set_modified(stamp))
        .expect("sets the time");
    assert_ne!(index.digest(&file).expect("reads"), first);
}

#[test]
fn an_index_is_kept_and_survives_renames_and_garbage() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, kept) = (dir.path().join("x"), dir.path().join("index.json"));
    fs::write(&file, "one").expect("writes");
    std::thread::sleep(2 * SOON);
    let index = quick(Index::open(&kept));
    index.digest(&file).expect("reads");
    index.save();
    assert_eq!(Index::open(&kept).lock().entries.len(), 1);
    fs::write(&kept, "garbage").expect("writes");
    assert_eq!(Index::open(&kept).digest(&file).expect("reads"), Digest::of(b"one"));
}

/// An index that has the digest of another content for the file's state, as after a write through a
/// memory map that updates no time stamp.
fn deceived(file: &Path) -> Index {
    let index = Index::default();
    index.lock().entries.insert(Index::state(file).expect("a state"), Digest::of(b"what it was"));
    index
}

#[test]
fn a_file_that_changed_within_the_last_minute_is_read_even_if_the_index_knows_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x");
    fs::write(&file, "one").expect("writes");
    let index = deceived(&file);
    assert_eq!(index.digest(&file).expect("reads"), Digest::of(b"one"));
    assert!(index.lock().entries.is_empty(), "and the index is corrected");
    std::thread::sleep(2 * SOON);
    let trusted = deceived(&file).settled_after(SOON).digest(&file).expect("looks");
    assert_eq!(trusted, Digest::of(b"what it was"), "otherwise this test could not fail");
}

#[test]
fn reading_again_corrects_what_the_index_knows() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x");
    fs::write(&file, "one").expect("writes");
    std::thread::sleep(2 * SOON);
    let index = deceived(&file).settled_after(SOON);
    assert_eq!(index.again().digest(&file).expect("reads"), Digest::of(b"one"));
    assert_eq!(index.digest(&file).expect("looks"), Digest::of(b"one"));
    let paranoid = deceived(&file).settled_after(SOON).paranoid(true);
    assert_eq!(paranoid.digest(&file).expect("reads"), Digest::of(b"one"));
}

#[test]
fn a_path_that_was_redirected_and_restored_has_a_new_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let (link, file) = (dir.path().join("cur"), dir.path().join("cur/x"));
    for folder in ["a", "b"] {
        fs::create_dir(dir.path().join(folder)).expect("a folder");
        fs::write(dir.path().join(folder).join("x"), folder).expect("writes");
    }
    let lead = |to: &str| {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).expect("links");
    };
    lead("a");
    let before = Index::state_of_the_way(&file);
    assert_eq!(before, Index::state_of_the_way(&file));
    lead("b");
    std::thread::sleep(SOON);
    lead("a");
    assert_ne!(before, Index::state_of_the_way(&file));
}

#[test]
fn a_sha256_belongs_to_a_content_and_not_to_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x");
    fs::write(&file, "abc").expect("writes");
    let index = Index::default();
    // FIPS 180-2, appendix B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(index.sha256(&file).expect("reads"), abc);
    fs::write(&file, "abd").expect("writes");
    assert_ne!(index.sha256(&file).expect("reads"), abc);
    fs::write(&file, "abc").expect("writes");
    assert_eq!(index.sha256(&file).expect("reads"), abc);
    assert_eq!(index.lock().sha256.len(), 2);
}
