//! `manifest.json`: what makes a node's folder a result.
//!
//! The file begins with its seal, the digest of all bytes below it, so that every change to the
//! file is noticed. This holds for every format.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use serde::{Deserialize, Serialize};

use crate::digest::on_all_processors;
use crate::signature::Signature;
use crate::{ContentKey, Digest, Digests, Ingredients, NodeName, RecipeKey};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not what was written.
    #[error("the manifest is damaged: {what}")]
    Damaged {
        /// What is wrong with the manifest.
        what: String,
        /// Where it was found.
        place: String,
    },
    /// A newer version of knockline wrote the manifest.
    #[error("the manifest has format {format}, but this knockline reads at most format {FORMAT}")]
    Newer {
        /// The manifest's format.
        format: u32,
        /// Where it was found.
        place: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let what = error.to_string();
        match error {
            ManifestError::Damaged { place, .. } => Self::input(
                what,
                place,
                "run the pipeline, which sets the folder aside and makes the result again",
            ),
            ManifestError::Newer { place, .. } => Self::usage(
                what,
                place,
                "use the newer knockline that made it, or another folder with --artifacts",
            ),
            ManifestError::Io { path, error } => Self::io("read", &path, &error),
        }
    }
}

/// The format that this version writes and reads.
pub const FORMAT: u32 = 2;
/// The file's name in a node's folder.
pub const NAME: &str = "manifest.json";

/// The text before and after the seal.
const SEAL: (&str, &str) = ("{\n  \"seal\": \"", "\",\n");

/// The file's name until it is complete.
pub const PARTIAL_NAME: &str = "manifest.partial";

/// One file of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its path in the node's folder, with `/` on every system.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
}

/// A file that was downloaded for a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Its address, without user, password and query.
    pub url: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// What a stage reported about its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageReport {
    /// The result in one line.
    pub summary: String,
    /// The downloaded files that it used.
    pub downloads: Vec<Download>,
}

impl From<String> for StageReport {
    fn from(summary: String) -> Self {
        Self { summary, downloads: Vec::new() }
    }
}

/// Describes a result, what it was made from, and its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The manifest's format.
    pub format: u32,
    /// The node.
    pub node: NodeName,
    /// The content key.
    pub key: ContentKey,
    /// The recipe key of the newest run that found this result.
    pub recipe: RecipeKey,
    /// The stage's summary of the result, in one line.
    pub summary: String,
    /// The downloaded files that the stage used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// What the content key is made of, by name.
    pub ingredients: Ingredients,
    /// The files, sorted by path.
    pub outputs: Vec<Output>,
    /// The signature of whoever made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

impl Manifest {
    /// A manifest in this version's format.
    pub fn new(
        node: &NodeName,
        recipe: RecipeKey,
        ingredients: Ingredients,
        report: impl Into<StageReport>,
        outputs: Vec<Output>,
    ) -> Self {
        let StageReport { summary, downloads } = report.into();
        Self {
            format: FORMAT,
            node: node.clone(),
            key: ingredients.content_key(),
            recipe,
            summary,
            downloads,
            ingredients,
            outputs,
            signature: None,
        }
    }

    /// The manifest in `folder`; `None` if there is none.
    pub fn read(folder: &Path) -> Result<Option<Self>, ManifestError> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(ManifestError::Io { path, error }),
        };
        Self::parse(&bytes, path.display()).map(Some)
    }

    /// Parses the `bytes` of a manifest that was found at `place`.
    pub fn parse(bytes: &[u8], place: impl Display) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct ManifestFormat {
            format: u32,
        }
        let damaged = |what: String| ManifestError::Damaged { what, place: place.to_string() };
        let json = unsealed(bytes).map_err(&damaged)?;
        match serde_json::from_slice::<ManifestFormat>(&json) {
            Ok(ManifestFormat { format: FORMAT }) => {}
            Ok(ManifestFormat { format }) if format > FORMAT => {
                return Err(ManifestError::Newer { format, place: place.to_string() });
            }
            Ok(ManifestFormat { format }) => {
                return Err(damaged(format!("format {format} is unknown")));
            }
            Err(e) => return Err(damaged(e.to_string())),
        }
        let manifest: Self = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        if manifest.key != manifest.ingredients.content_key() {
            return Err(damaged("its key does not match its ingredients".into()));
        }
        let outside = |o: &&Output| {
            o.path
                .split('/')
                .any(|part| matches!(part, "" | "." | "..") || part.contains(['\\', ':']))
        };
        if let Some(output) = manifest.outputs.iter().find(outside) {
            return Err(damaged(format!("`{}` is not a valid path of an output", output.path)));
        }
        Ok(manifest)
    }

    /// Writes the manifest into `folder`, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        crate::disk::write_atomically(&folder.join(NAME), &self.to_bytes()?)
    }

    /// The content of the manifest's file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::failed(e, NAME, "this is a bug; please report it"))?;
        Ok(sealed(&json))
    }

    /// The digest of the output `path`.
    pub fn digest(&self, path: &str) -> Option<&Digest> {
        self.outputs.iter().find(|o| o.path == path).map(|o| &o.digest)
    }

    /// A file of `other`, a result of another node, that is not the one that this result was made
    /// from.
    pub fn made_of_another(&self, other: &Self) -> Option<String> {
        let is = |file: &str| {
            self.ingredients.get(&format!("input {}/{file}", other.node)).map(str::to_owned)
        };
        let differs = |output: &&Output| {
            is(&output.path).is_some_and(|digest| digest != output.digest.as_str())
        };
        other.outputs.iter().find(differs).map(|output| output.path.clone())
    }

    /// The size of all outputs in bytes.
    pub fn bytes(&self) -> u64 {
        self.outputs.iter().map(|o| o.size).sum()
    }

    /// What is wrong with the files in `folder`, if anything.
    pub fn check(&self, folder: &Path, digests: &dyn Digests) -> Option<String> {
        // Sizes come first: they cost nothing, and truncation is the most common damage.
        let size = |output: &Output| match std::fs::metadata(folder.join(&output.path)) {
            Ok(metadata) if metadata.len() == output.size => None,
            Ok(metadata) => {
                Some(format!("{} has {} bytes, not {}", output.path, metadata.len(), output.size))
            }
            Err(e) => Some(format!("{} cannot be read: {e}", output.path)),
        };
        let content = |output: &Output| match digests.digest(&folder.join(&output.path)) {
            Ok(digest) if digest == output.digest => None,
            Ok(_) => Some(format!("{} has changed since it was made", output.path)),
            Err(e) => Some(format!("{} cannot be read: {e}", output.path)),
        };
        self.outputs
            .iter()
            .find_map(size)
            .or_else(|| on_all_processors(&self.outputs, content).into_iter().flatten().next())
    }
}

/// A manifest's file: its JSON with the seal as the first field.
pub fn sealed(json: &str) -> Vec<u8> {
    let rest = json.strip_prefix("{\n").unwrap_or(json).to_owned() + "\n";
    format!("{}{}{}{rest}", SEAL.0, Digest::of(rest.as_bytes()), SEAL.1).into_bytes()
}

/// The JSON of a manifest's file without its seal, which must match.
fn unsealed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let after = bytes.strip_prefix(SEAL.0.as_bytes()).and_then(|rest| rest.split_at_checked(64));
    let parts = after.and_then(|(seal, rest)| Some((seal, rest.strip_prefix(SEAL.1.as_bytes())?)));
    let (seal, rest) = parts.ok_or("it has no seal")?;
    if Digest::of(rest).as_str().as_bytes() != seal {
        return Err("its seal does not match its content".to_owned());
    }
    Ok([b"{\n", rest].concat())
}
