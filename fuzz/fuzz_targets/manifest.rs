//! A manifest: what is read is what is written again.
#![no_main]

use cache::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As it is, and with the seal that it would have, so that what is behind the seal is reached,
    // too.
    let sealed = serde_json::from_slice::<Manifest>(data).ok().and_then(|manifest| manifest.to_bytes().ok());
    for bytes in [Some(data.to_vec()), sealed].into_iter().flatten() {
        if let Ok(manifest) = Manifest::parse(&bytes, "m") {
            let again = manifest.to_bytes().expect("a manifest can be written");
            assert_eq!(Manifest::parse(&again, "m").expect("what was written can be read"), manifest);
        }
    }
});
