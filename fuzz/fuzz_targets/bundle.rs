//! A bundle, packed or not: an import writes nothing outside of the store, and imported results are
//! complete.
#![no_main]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use cache::{Manifest, Store};
use libfuzzer_sys::fuzz_target;

/// Everything below `folder` except the store.
fn outside(folder: &Path, store: &Path, found: &mut BTreeSet<PathBuf>) {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path != store {
            found.insert(path.clone());
            outside(&path, store, found);
        }
    }
}

/// The archive with a valid seal and key in each of its manifests, so that the code behind these
/// checks is reached.
fn sealed(tar: &[u8]) -> Option<Vec<u8>> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(tar).entries().ok()?.take(64) {
        let mut entry = entry.ok()?;
        let mut header = entry.header().clone();
        let mut bytes = Vec::new();
        (&mut entry).take(1 << 20).read_to_end(&mut bytes).ok()?;
        if let Some(mut manifest) = serde_json::from_slice::<serde_json::Value>(&bytes).ok().filter(serde_json::Value::is_object) {
            manifest.as_object_mut()?.remove("seal");
            if let Ok(mut manifest) = serde_json::from_value::<Manifest>(manifest) {
                manifest.key = manifest.ingredients.content_key();
                bytes = manifest.to_bytes().ok()?;
            }
        }
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        out.append(&header, &bytes[..]).ok()?;
    }
    out.into_inner().ok()
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let bytes = if how & 2 == 0 { Some(bytes.to_vec()) } else { sealed(bytes) };
    let Some(bytes) = bytes else { return };
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(parent).expect("a folder");
    let file = dir.path().join("b.knockline");
    let packed = if how & 1 == 0 { bytes } else { zstd::encode_all(&bytes[..], 1).expect("packs") };
    std::fs::write(&file, packed).expect("writes");
    let artifacts = dir.path().join("a/b/c/artifacts");
    std::fs::create_dir_all(&artifacts).expect("creates");
    let store = Store::open(&artifacts);
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    outside(dir.path(), &artifacts, &mut before);
    let lock = store.lock(|| ()).expect("a lock");
    let done = bundle::import(&store, &file);
    outside(dir.path(), &artifacts, &mut after);
    assert_eq!(before, after);
    match done {
        Ok(items) => {
            for item in items {
                let folder = store.current(&item.node);
                let manifest = Manifest::read(&folder).expect("reads").expect("a manifest");
                assert_eq!(manifest.check(&folder, &store.index), None, "{}", item.node);
            }
        }
        Err(failure) => assert!(!failure.what.is_empty() && !failure.remedy.is_empty()),
    }
    drop(lock);
});
