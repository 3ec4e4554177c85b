//! Which store a URL means.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use artifact::{Failure, Result};
use cache::{Digest, Key, MANIFEST_FORMAT};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

/// Slower than this, in bytes a second, is as good as not at all.
const SLOWEST: u64 = 100_000;

/// A store and the place in it.
pub struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Whether nothing can be put there.
    pub read_only: bool,
    /// What is known to be damaged there, and is to be replaced.
    damaged: Mutex<BTreeSet<Digest>>,
    timeout: Duration,
}

impl Place {
    /// The place that `remote` names: a folder's path or a URL. Credentials come from the environment, under the
    /// names that each store's own tools use. Nothing is asked of the store yet.
    pub fn open(remote: &str, read_only: bool, timeout: Duration) -> Result<Self> {
        let fail = |what: &dyn std::fmt::Display| Failure::usage(what, shown(remote), "mend the option `cache.remote`");
        let _installed = rustls::crypto::ring::default_provider().install_default();
        if !artifact::stage::is_url(remote) {
            return Self::folder(std::path::Path::new(remote), read_only, timeout);
        }
        let url = Url::parse(remote).map_err(|e| fail(&format_args!("this is no URL: {e}")))?;
        let unknown = |_| fail(&"this is no place for a remote; a folder, s3://, gs://, az:// or https:// is");
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(unknown)?;
        let retry = RetryConfig {
            max_retries: 3,
            retry_timeout: timeout,
            backoff: BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: timeout, base: 2.0 },
        };
        // A whole transfer has its own limit, which grows with its size.
        let client = ClientOptions::new().with_connect_timeout(timeout).with_read_timeout(timeout).with_timeout_disabled();
        let store: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
            ObjectStoreScheme::Local => {
                let folder = url.to_file_path().map_err(|()| fail(&"this is no folder"))?;
                return Self::folder(&folder, read_only, timeout);
            }
            ObjectStoreScheme::AmazonS3 => {
                // Who names an endpoint without encryption means it: a server of one's own.
                let plain = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
                let plain = plain.iter().any(|name| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://")));
                let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
                let client = if plain { client.with_allow_http(true) } else { client };
                builder.with_client_options(client).build().map(|s| Arc::new(s) as _)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry);
                builder.with_client_options(client).build().map(|s| Arc::new(s) as _)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry);
                builder.with_client_options(client).build().map(|s| Arc::new(s) as _)
            }
            ObjectStoreScheme::Http => {
                let mut base = url.clone();
                base.set_path("/");
                let builder = HttpBuilder::new().with_url(base).with_retry(retry);
                let client = client.with_allow_http(url.scheme() == "http");
                builder.with_client_options(client).build().map(|s| Arc::new(s) as _)
            }
            _ => return Err(fail(&"this is no place for a remote; a folder, s3://, gs://, az:// or https:// is")),
        };
        let store = store.map_err(|e| fail(&e))?;
        Ok(Self::new(store, prefix, read_only || scheme == ObjectStoreScheme::Http, timeout))
    }

    fn folder(folder: &std::path::Path, read_only: bool, timeout: Duration) -> Result<Self> {
        if !read_only {
            std::fs::create_dir_all(folder).map_err(|e| Failure::io("create folder", folder, &e))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|e| Failure::usage(e, folder.display(), "make the folder, or mend the option `cache.remote`"))?;
        Ok(Self::new(Arc::new(store), Path::default(), read_only, timeout))
    }

    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: Path, read_only: bool, timeout: Duration) -> Self {
        Self { store, prefix, read_only, damaged: Mutex::default(), timeout }
    }

    pub(crate) fn manifest(&self, node: &str, key: &Key) -> Path {
        // The format is in the path: an older knockline neither reads nor replaces what a newer one has put.
        self.path(&format!("knockline/manifests-{MANIFEST_FORMAT}/{node}/{key}"))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Path {
        let digest = digest.as_str();
        self.path(&format!("knockline/blobs/{}/{digest}.zst", digest.get(..2).unwrap_or_default()))
    }

    fn path(&self, below: &str) -> Path {
        self.prefix.parts().chain(Path::from(below).parts()).collect()
    }

    /// How long so many bytes may take.
    pub(crate) fn limit(&self, bytes: u64) -> Duration {
        self.timeout * 3 + Duration::from_secs(bytes / SLOWEST)
    }

    pub(crate) fn mark_damaged(&self, digest: &Digest) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
    }

    pub(crate) fn is_damaged(&self, digest: &Digest) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    pub(crate) fn is_mended(&self, digest: &Digest) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }
}

/// A remote's name for messages: without user, password and query.
pub fn shown(remote: &str) -> String {
    let Ok(mut url) = Url::parse(remote) else { return remote.to_owned() };
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(remote: &str) -> Result<Place> {
        Place::open(remote, true, Duration::from_secs(1))
    }

    #[test]
    fn what_is_no_remote_is_refused_without_its_password() {
        let failure = open("ftp://me:secret@a.example/x?token=secret").err().expect("refused");
        assert!(failure.what.contains("no place for a remote") && failure.place == "ftp://a.example/x", "{failure}");
        assert!(open("/nothing/here").is_err(), "nothing is made to read from");
        assert!(open("s3:///x").is_err());
    }

    #[test]
    fn a_prefix_is_kept_and_a_web_server_is_read_only() {
        let place = Place::open("https://a.example/cache/of mine", false, Duration::from_secs(1)).expect("opens");
        let blob = place.blob(&Digest::of(b"")).to_string();
        assert!(blob.starts_with("cache/of mine/knockline/blobs/af/af1349b9f5f9a1a6"), "{blob}");
        assert!(place.read_only);
        let place = Place::open("gs://bucket/a/b", false, Duration::from_secs(1)).expect("opens");
        assert_eq!(place.manifest("train.mlp", &Digest::of(b"")).parts().count(), 6);
        assert!(!place.read_only);
    }
}
