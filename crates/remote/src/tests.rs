//! Tests with a folder as the remote, damaged in every way, and with misbehaving servers on
//! loopback.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{Ingredients, Manifest, Store};
use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, RetryConfig};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;

/// A result in a store, and a folder for the remote.
struct Fixture {
    dir: TempDir,
    manifest: Manifest,
    runtime: Runtime,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("artifacts"));
        let mut all = Ingredients::new();
        all.add("option lr", "0.1");
        let work = store.work(&node(), &all.content_key(), false).expect("a folder");
        fs::create_dir(work.join("sub")).expect("a folder");
        fs::write(work.join("model"), "weights, weights").expect("writes");
        fs::write(work.join("sub/same"), "weights, weights").expect("writes");
        fs::write(work.join("nothing"), "").expect("writes");
        let manifest =
            store.publish(&node(), all.recipe_key(), all, "done".to_owned()).expect("publishes");
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { dir, manifest, runtime }
    }

    fn result(&self) -> PathBuf {
        self.dir.path().join("artifacts/train.slp")
    }

    fn place(&self) -> RemoteStore {
        let folder = self.dir.path().join("remote");
        RemoteStore::open(&folder.display().to_string(), false, Duration::from_secs(5))
            .expect("opens")
    }

    fn push(&self, place: &RemoteStore) -> Result<u64, RemoteError> {
        self.runtime.block_on(place.push(&self.manifest, false, &self.result()))
    }

    fn find(&self, place: &RemoteStore) -> Result<Option<Manifest>, RemoteError> {
        self.runtime.block_on(place.find(&node(), &self.manifest.key))
    }

    fn fetch(&self, place: &RemoteStore, only: &[String]) -> Result<Vec<String>, RemoteError> {
        let into = tempfile::tempdir().expect("a folder");
        self.runtime.block_on(place.fetch(&self.manifest, only, into.path(), |_| ()))?;
        let names = self.manifest.outputs.iter().map(|o| o.path.clone());
        let came: Vec<String> = names.filter(|name| into.path().join(name).exists()).collect();
        for name in &came {
            assert_eq!(
                fs::read(into.path().join(name)).expect("reads"),
                fs::read(self.result().join(name)).expect("reads")
            );
        }
        Ok(came)
    }

    /// The objects in the folder.
    fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.dir.path().join("remote")];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    todo.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

fn is_blob(object: &Path) -> bool {
    object.extension().is_some_and(|e| e == "zst")
}

fn node() -> cache::NodeName {
    cache::NodeName::try_from("train.slp").expect("a name")
}

#[test]
fn a_pushed_result_can_be_fetched_whole_or_in_part_and_is_sent_once() {
    let fixture = Fixture::new();
    let place = fixture.place();
    assert_eq!(fixture.find(&place).expect("looks"), None);
    let sent = fixture.push(&place).expect("pushes");
    assert_eq!(fixture.objects().len(), 3, "two blobs and a manifest");
    assert!(sent > fixture.manifest.to_bytes().expect("bytes").len() as u64);
    assert_eq!(fixture.push(&place).expect("pushes"), 0, "everything is in the remote already");
    let again = fixture.runtime.block_on(place.push(&fixture.manifest, true, &fixture.result()));
    assert_eq!(again.expect("pushes"), sent, "everything is sent again");
    assert_eq!(fixture.find(&place).expect("looks"), Some(fixture.manifest.clone()));
    assert_eq!(fixture.fetch(&place, &[]).expect("fetches"), ["model", "nothing", "sub/same"]);
    assert_eq!(fixture.fetch(&place, &["sub/same".to_owned()]).expect("fetches"), ["sub/same"]);
}

/// Damages every object in every way, and checks that this is found and that a push repairs it.
/// Returns how often damage was found, and how often it was harmless.
fn every_damage(damage: impl Fn(&[u8]) -> Vec<Option<Vec<u8>>>) -> (u32, u32) {
    let fixture = Fixture::new();
    fixture.push(&fixture.place()).expect("pushes");
    let (mut found, mut harmless) = (0, 0);
    for object in fixture.objects() {
        let sound = fs::read(&object).expect("reads");
        for damaged in damage(&sound) {
            match &damaged {
                Some(bytes) => fs::write(&object, bytes).expect("writes"),
                None => fs::remove_file(&object).expect("removes"),
            }
            let place = fixture.place();
            let error = if is_blob(&object) {
                match fixture.fetch(&place, &[]) {
                    // A larger window in zstd's header unpacks to the same bytes: `fetch` has
                    // compared them.
                    Ok(_) => {
                        harmless += 1;
                        fs::write(&object, &sound).expect("writes");
                        continue;
                    }
                    Err(error) => error,
                }
            } else {
                match fixture.find(&place) {
                    Ok(None) => RemoteError::Missing(String::new()),
                    Ok(Some(_)) => panic!("the manifest is taken"),
                    Err(error) => error,
                }
            };
            match damaged {
                Some(bytes) => assert!(
                    matches!(error, RemoteError::Damaged(_)),
                    "{error:?} for {bytes:?} at {}",
                    object.display()
                ),
                None => assert!(matches!(error, RemoteError::Missing(_)), "{error:?}"),
            }
            assert!(!error.is_over(), "the remote can still be used");
            fixture.push(&place).expect("pushes");
            assert_eq!(fs::read(&object).expect("reads"), sound, "it is repaired");
            found += 1;
        }
    }
    (found, harmless)
}

#[test]
fn every_flipped_byte_cut_and_loss_is_found_and_repaired_by_the_next_push() {
    let (flips, harmless) = every_damage(|sound| {
        let flip = |at: usize| {
            let mut bytes = sound.to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            Some(bytes)
        };
        (0..sound.len()).map(flip).collect()
    });
    assert!(flips > 800 && harmless <= 1, "{flips} {harmless}");
    let cuts = every_damage(|sound| {
        (0..sound.len()).map(|n| sound.get(..n).map(<[u8]>::to_vec)).collect()
    });
    assert_eq!(cuts, (flips + harmless, 0));
    assert_eq!(every_damage(|_| vec![None]), (3, 0));
}

#[test]
fn an_object_that_unpacks_to_more_than_it_should_is_damaged_and_not_written() {
    let fixture = Fixture::new();
    let place = fixture.place();
    fixture.push(&place).expect("pushes");
    let bomb = zstd::encode_all(&vec![0_u8; 50_000_000][..], 3).expect("compresses");
    for object in fixture.objects().iter().filter(|o| is_blob(o)) {
        fs::write(object, &bomb).expect("writes");
    }
    let error = fixture.fetch(&place, &[]).expect_err("found");
    assert!(error.to_string().contains("longer than it should be"), "{error}");
}

#[test]
fn a_result_that_changed_on_the_disk_is_not_pushed() {
    let fixture = Fixture::new();
    let place = fixture.place();
    fs::write(fixture.result().join("model"), "weights. weights").expect("writes");
    fs::write(fixture.result().join("sub/same"), "weights. weights").expect("writes");
    let error = fixture.push(&place).expect_err("refused");
    assert!(error.to_string().contains("has changed since it was made"), "{error}");
    assert_eq!(fixture.find(&place).expect("looks"), None);
    assert!(
        fixture.objects().iter().all(|o| fs::metadata(o).is_ok_and(|m| m.len() < 30)),
        "the empty file at most"
    );
}

/// A server that gives every request the same answer, or never answers.
fn server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let lines =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let _ = lines.take_while(|line| !line.is_empty()).count();
            match answer {
                Some(answer) => {
                    drop(write!(stream, "HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n"));
                }
                None => silent.push(stream),
            }
        }
    });
    url
}

/// An S3-compatible store at `url`.
fn s3(url: &str, timeout: Duration) -> RemoteStore {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { max_retries: 1, retry_timeout: timeout, ..RetryConfig::default() };
    let store = AmazonS3Builder::new()
        .with_endpoint(url)
        .with_bucket_name("results")
        .with_access_key_id("me")
        .with_secret_access_key("secret")
        .with_region("us-east-1")
        .with_retry(retry)
        .with_client_options(
            ClientOptions::new()
                .with_allow_http(true)
                .with_read_timeout(timeout)
                .with_proxy_excludes("127.0.0.1"),
        )
        .build()
        .expect("builds");
    RemoteStore::new(Arc::new(store), object_store::path::Path::default(), false, timeout)
}

#[test]
fn a_server_that_refuses_is_full_or_is_unreachable_is_not_used_again() {
    let fixture = Fixture::new();
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let cases = [
        (server(Some("403 Forbidden\r\nContent-Length: 0")), "access is denied"),
        (server(Some("507 Insufficient Storage\r\nContent-Length: 0")), "507 Insufficient Storage"),
        (server(Some("500 Oops\r\nContent-Length: 0")), "500 Internal Server Error"),
        (
            server(Some(
                "200 OK\r\nContent-Length: 99\r\nLast-Modified: Mon, 02 Jan 2023 00:00:00 GMT",
            )),
            "",
        ),
        (format!("http://{gone}"), "onnect"),
    ];
    for (url, want) in cases {
        let place = s3(&url, Duration::from_secs(1));
        let error = fixture.find(&place).expect_err(want);
        assert!(error.is_over() && error.to_string().contains(want), "{url}: {error}");
        let error = fixture.fetch(&place, &[]).expect_err(want);
        assert!(error.is_over(), "{url}: {error}");
        let error = fixture.push(&place).err();
        // To a HEAD request, even the answer that is cut off is complete.
        assert!(error.as_ref().is_none_or(RemoteError::is_over), "{url}: {error:?}");
    }
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let fixture = Fixture::new();
    let place = s3(&server(None), Duration::from_millis(200));
    let start = Instant::now();
    assert!(fixture.find(&place).expect_err("late").is_over());
    assert!(fixture.push(&place).expect_err("late").is_over());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_web_server_is_read_and_its_password_is_not_shown() {
    let url =
        server(Some("404 Not Found\r\nContent-Length: 0")).replace("http://", "http://me:secret@");
    let place =
        RemoteStore::open(&format!("{url}/cache"), false, Duration::from_secs(2)).expect("opens");
    let fixture = Fixture::new();
    // If this machine has a proxy, the proxy answers.
    match fixture.find(&place) {
        Ok(found) => assert_eq!(found, None),
        Err(error) => assert!(!error.to_string().contains("secret"), "{error}"),
    }
    assert!(place.read_only);
    assert!(fixture.push(&place).expect_err("read only").to_string().contains("read-only"));
    assert!(!shown(&url).contains("secret"));
}
