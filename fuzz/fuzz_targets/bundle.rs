//! A bundle, packed or still to be packed: an import that fails leaves nothing, and nothing is ever written outside of the store.
#![no_main]

use std::path::Path;

use cache::Store;
use libfuzzer_sys::fuzz_target;

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(parent).expect("a folder");
    let file = dir.path().join("b.knockline");
    let packed = if how & 1 == 0 { bytes.to_vec() } else { zstd::encode_all(bytes, 1).expect("packs") };
    std::fs::write(&file, packed).expect("writes");
    let store = Store::open(&dir.path().join("artifacts"));
    let _lock = store.lock(false, || ()).expect("a lock");
    let done = bundle::import(&store, &file);
    assert_eq!(files(dir.path()), ["artifacts", "b.knockline"]);
    if let Err(failure) = done {
        assert!(!failure.what.is_empty() && !failure.remedy.is_empty());
        assert!(!files(&dir.path().join("artifacts")).iter().any(|name| name.contains("..")));
    }
});
