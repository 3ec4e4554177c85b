//! A manifest: reading, writing and reading again gives the same manifest.
#![no_main]

use cache::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The data as it is, and with a valid seal, so that the code behind the seal is reached.
    let sealed = serde_json::from_slice::<Manifest>(data).ok().and_then(|manifest| manifest.to_bytes().ok());
    for bytes in [Some(data.to_vec()), sealed].into_iter().flatten() {
        if let Ok(manifest) = Manifest::parse(&bytes, "m") {
            let again = manifest.to_bytes().expect("a manifest can be written");
            assert_eq!(Manifest::parse(&again, "m").expect("what was written can be read"), manifest);
        }
    }
});
