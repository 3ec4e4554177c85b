//! Opens the store that a path or a URL names.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cache::{ContentKey, Digest, MANIFEST_FORMAT, NodeName};
use failure::{Failure, Result};
use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, RetryConfig,
};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::Url;

use crate::RemoteError;

/// The slowest rate at which a transfer is not given up, in bytes per second.
const SLOWEST: u64 = 100_000;

/// A store, and the place of results in it.
pub struct RemoteStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The same store, with the client for uploads.
    pub(crate) to_put: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The folder, if the store is one.
    folder: Option<PathBuf>,
    /// Whether pushes are refused.
    pub read_only: bool,
    /// Blobs that are known to be damaged, which the next push replaces.
    damaged: Mutex<BTreeSet<Digest>>,
    timeout: Duration,
}

impl RemoteStore {
    /// The store that `remote` names: a folder's path or a URL. Credentials come from the
    /// environment, under the names that each store's own tools use. No request is sent to the
    /// store yet.
    pub fn open(remote: &str, read_only: bool, timeout: Duration) -> Result<Self> {
        let fail = |what: &dyn std::fmt::Display| {
            let what = what.to_string().replace(remote, &shown(remote));
            Failure::usage(what, shown(remote), "correct the option `cache.remote`")
        };
        let _installed = rustls::crypto::ring::default_provider().install_default();
        if !stage::is_url(remote) {
            return Self::folder(std::path::Path::new(remote), read_only, timeout);
        }
        let url = Url::parse(remote).map_err(|e| fail(&format_args!("not a URL: {e}")))?;
        let unknown =
            |_| fail(&"not a remote: it must be a folder, s3://, gs://, az:// or https://");
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(unknown)?;
        if scheme == ObjectStoreScheme::Local {
            let folder = url
                .to_file_path()
                .map_err(|()| fail(&"the URL does not name a folder of this machine"))?;
            return Self::folder(&folder, read_only, timeout);
        }
        let wait = ClientOptions::new().with_connect_timeout(timeout).with_timeout_disabled();
        let open = |client: ClientOptions| client_for(&scheme, &url, timeout, client);
        // A client's time limit for a response includes sending the request, so the client for
        // uploads must not have one: the limit on the whole transfer has to suffice.
        let store =
            open(wait.clone().with_read_timeout(timeout)).and_then(|s| Ok((s, open(wait)?)));
        let (store, to_put) = store.map_err(|e| fail(&e))?;
        let read_only = read_only || scheme == ObjectStoreScheme::Http;
        Ok(Self {
            store,
            to_put,
            prefix,
            folder: None,
            read_only,
            damaged: Mutex::default(),
            timeout,
        })
    }

    fn folder(folder: &std::path::Path, read_only: bool, timeout: Duration) -> Result<Self> {
        if !read_only {
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::io("create folder", folder, &e))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| {
            Failure::usage(
                e,
                folder.display(),
                "create the folder, or correct the option `cache.remote`",
            )
        })?;
        // A manifest must not survive a power cut that its files do not survive.
        let store = Arc::new(store.with_fsync(true));
        Ok(Self {
            folder: Some(folder.to_owned()),
            ..Self::new(store, Path::default(), read_only, timeout)
        })
    }

    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        read_only: bool,
        timeout: Duration,
    ) -> Self {
        let to_put = Arc::clone(&store);
        Self { store, to_put, prefix, folder: None, read_only, damaged: Mutex::default(), timeout }
    }

    /// Fetches the object that the store was opened with into the file `to`, which appears when it is
    /// complete. Calls `arrived` with the bytes so far.
    pub async fn fetch_file(
        &self,
        to: &std::path::Path,
        arrived: impl Fn(u64),
    ) -> std::result::Result<(), RemoteError> {
        let mut partial = to.as_os_str().to_owned();
        partial.push(".part");
        let partial = PathBuf::from(partial);
        let local = |what: &'static str| {
            let partial = partial.clone();
            move |e: std::io::Error| RemoteError::local(what, &partial, &e)
        };
        let mut pieces = self.store.get(&self.prefix).await?.into_stream();
        let mut file = std::fs::File::create(&partial).map_err(local("write"))?;
        let mut done = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            file.write_all(&piece).map_err(local("write"))?;
            done += piece.len() as u64;
            arrived(done);
        }
        file.sync_all().map_err(local("sync"))?;
        std::fs::rename(&partial, to).map_err(local("rename"))
    }

    /// Removes the temporary files of this object from pushes that were killed an hour ago or more:
    /// in a folder, an object is first written beside its place, as `NAME#1`.
    pub(crate) fn sweep(&self, object: &Path) {
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(object.as_ref())) else {
            return;
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            return;
        };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_left = entry
                .file_name()
                .to_str()
                .and_then(|n| n.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with('#'));
            let age =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if is_left && age.is_some_and(|age| age > Duration::from_hours(1)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    pub(crate) fn manifest(&self, node: &NodeName, key: &ContentKey) -> Path {
        // The format is in the path, so that an older knockline neither reads nor replaces what a
        // newer one has uploaded.
        self.path(&format!("knockline/manifests-{MANIFEST_FORMAT}/{node}/{key}"))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Path {
        let digest = digest.as_str();
        self.path(&format!("knockline/blobs/{}/{digest}.zst", digest.get(..2).unwrap_or_default()))
    }

    fn path(&self, below: &str) -> Path {
        self.prefix.parts().chain(Path::from(below).parts()).collect()
    }

    /// The time limit for transferring `bytes` bytes.
    pub(crate) fn limit(&self, bytes: u64) -> Duration {
        self.timeout * 3 + Duration::from_secs(bytes / SLOWEST)
    }

    pub(crate) fn mark_damaged(&self, digest: &Digest) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
    }

    pub(crate) fn is_damaged(&self, digest: &Digest) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    pub(crate) fn clear_damaged(&self, digest: &Digest) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }
}

/// The client for a store.
fn client_for(
    scheme: &ObjectStoreScheme,
    url: &Url,
    timeout: Duration,
    client: ClientOptions,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig {
        // The time decides.
        max_retries: 100,
        retry_timeout: timeout,
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: timeout,
            base: 2.0,
        },
    };
    Ok(match scheme {
        ObjectStoreScheme::AmazonS3 => {
            // A user who names an endpoint without encryption does so deliberately, for their own
            // server.
            let plain = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
            let plain = plain.iter().any(|name| {
                std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://"))
            });
            let client = if plain { client.with_allow_http(true) } else { client };
            Arc::new(
                AmazonS3Builder::from_env()
                    .with_url(url.as_str())
                    .with_retry(retry)
                    .with_client_options(client)
                    .build()?,
            )
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            // Google's own addresses are encrypted; that of an emulator, which the key file can
            // name, is not.
            let client = client.with_allow_http(true);
            Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_url(url.as_str())
                    .with_retry(retry)
                    .with_client_options(client)
                    .build()?,
            )
        }
        ObjectStoreScheme::MicrosoftAzure => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retry)
                .with_client_options(client)
                .build()?,
        ),
        _ => {
            let mut base = url.clone();
            base.set_path("/");
            let mut client = client.with_allow_http(url.scheme() == "http");
            if let Some(header) = basic(&mut base) {
                client =
                    client.with_default_headers(HeaderMap::from_iter([(AUTHORIZATION, header)]));
            }
            Arc::new(
                HttpBuilder::new()
                    .with_url(base)
                    .with_retry(retry)
                    .with_client_options(client)
                    .build()?,
            )
        }
    })
}

/// Removes the user and the password from a URL, and returns the header that contains them (RFC
/// 7617).
fn basic(url: &mut Url) -> Option<HeaderValue> {
    let password = url.password().unwrap_or_default().to_owned();
    let user = url.username().to_owned();
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let _ = url.set_password(None);
    let _ = url.set_username("");
    let plain = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let pair = [plain(&user), plain(&password)].join(&b':');
    let mut header =
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A remote's name for messages: without user, password and query.
pub fn shown(remote: &str) -> String {
    let plain = failure::without_credentials(remote);
    if !stage::is_url(&plain) {
        return plain;
    }
    plain.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(remote: &str) -> Result<RemoteStore> {
        RemoteStore::open(remote, true, Duration::from_secs(1))
    }

    #[test]
    fn an_invalid_remote_is_refused_without_showing_its_password() {
        let failure = open("ftp://me:secret@a.example/x?token=secret").err().expect("refused");
        assert!(
            failure.what.contains("not a remote") && failure.place == "ftp://a.example/x",
            "{failure}"
        );
        assert!(open("/nothing/here").is_err(), "a read-only remote is not created");
        assert!(open("s3:///x").is_err());
    }

    #[test]
    fn no_password_is_shown_even_if_the_url_is_invalid() {
        let urls = [
            "https://me:sec#secret@host/x",
            "https://me:secret@host:99999/x",
            "az://me:secret@c.host/x",
            "s3://secret@b /x",
            "x://secret@",
        ];
        for url in urls {
            let message = open(url).err().map_or_else(String::new, |failure| failure.to_string());
            assert!(
                !message.contains("secret") && !shown(url).contains("secret"),
                "{message} {}",
                shown(url)
            );
        }
    }

    #[test]
    fn a_user_and_a_password_become_a_header() {
        // RFC 7617, section 2: the example there.
        let mut url = Url::parse("https://Aladdin:open%20sesame@host/x").expect("a URL");
        let header = basic(&mut url).expect("a header");
        assert_eq!(
            (header.to_str().expect("text"), url.as_str()),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "https://host/x")
        );
        assert_eq!(basic(&mut url), None);
    }

    #[test]
    fn temporary_files_of_a_killed_push_are_removed_after_an_hour() {
        let dir = tempfile::tempdir().expect("a folder");
        let place =
            RemoteStore::open(&dir.path().display().to_string(), false, Duration::from_secs(1))
                .expect("opens");
        let blob = place.blob(&Digest::of(b""));
        let path = dir.path().join(blob.as_ref());
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        let left = |n: u32| PathBuf::from(format!("{}#{n}", path.display()));
        for n in [1, 2] {
            std::fs::write(left(n), "half").expect("writes");
        }
        let old = std::time::SystemTime::now() - Duration::from_hours(2);
        std::fs::File::options()
            .write(true)
            .open(left(1))
            .and_then(|f| f.set_modified(old))
            .expect("a time");
        place.sweep(&blob);
        assert!(!left(1).exists() && left(2).exists());
    }

    #[test]
    fn a_prefix_is_kept_and_a_web_server_is_read_only() {
        let place =
            RemoteStore::open("https://a.example/cache/of mine", false, Duration::from_secs(1))
                .expect("opens");
        let blob = place.blob(&Digest::of(b"")).to_string();
        assert!(blob.starts_with("cache/of mine/knockline/blobs/af/af1349b9f5f9a1a6"), "{blob}");
        assert!(place.read_only);
        let place =
            RemoteStore::open("gs://bucket/a/b", false, Duration::from_secs(1)).expect("opens");
        assert_eq!(
            place
                .manifest(
                    &NodeName::try_from("train.mlp").expect("a name"),
                    &Digest::of(b"").into()
                )
                .parts()
                .count(),
            6
        );
        assert!(!place.read_only);
    }
}
