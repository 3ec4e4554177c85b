//! What a node's key is made of.
//!
//! 1. the format of keys;
//! 2. the sources of the stage's crate and of the workspace crates that it uses, by content;
//! 3. the closure of its dependencies in `Cargo.lock`, how the workspace asks for them, the build
//!    profile and the compiler;
//! 4. the node's options in canonical form, and the device if it is not the CPU;
//! 5. its inputs: the digests of the artifacts that it reads, and of a source file (the pinned
//!    checksum, if there is one).
//!
//! The *content key* is made of all five. The *recipe key* has the recipe key of the node that
//! makes an artifact in place of the artifact's digest, so it is known before anything has run.
//!
//! A key never contains time stamps, paths of folders, names of users or numbers of threads, except
//! what cargo's own configuration names, such as a linker, and the machine of a node that measures
//! time.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Changes when the meaning of keys does.
const FORMAT: &str = "1";

macro_rules! key {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// All 64 hex digits.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The first 12 hex digits, for people.
            pub fn short(&self) -> &str {
                self.0.short()
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

key! {
    /// The key of a result: what it was made from, by content.
    ContentKey
}
key! {
    /// The key of a node that is known before anything has run: the options and sources of the node
    /// and of all nodes before it.
    RecipeKey
}

/// The ingredients of a key by name, each with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ingredients(BTreeMap<String, String>);

impl Ingredients {
    /// Ingredients that contain only the format of keys.
    pub fn new() -> Self {
        Self(BTreeMap::from([("format".to_owned(), FORMAT.to_owned())]))
    }

    /// Adds an ingredient.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The value of an ingredient.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names of all ingredients.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The ingredients whose names are `wanted`.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| wanted(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// These ingredients and those of `more`, which replace ingredients of the same name.
    pub fn with(&self, more: &[(String, String)]) -> Self {
        let mut all = self.clone();
        all.0.extend(more.iter().cloned());
        all
    }

    /// The content key that is made of these ingredients.
    pub fn content_key(&self) -> ContentKey {
        ContentKey(self.digest())
    }

    /// The recipe key that is made of these ingredients.
    pub fn recipe_key(&self) -> RecipeKey {
        RecipeKey(self.digest())
    }

    /// A digest of names and values, each with its length, so that no two lists of ingredients give
    /// the same bytes.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Digest::of(&bytes)
    }

    /// Describes in words what is different in `new`.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> =
            self.0.keys().chain(new.0.keys()).collect();
        let change = |name: &&String| match (self.0.get(*name), new.0.get(*name)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(_), None) if let Some(node) = new.lacks(name) => {
                Some(format!("`{node}` is no longer an input"))
            }
            (None, Some(_)) if let Some(node) = self.lacks(name) => {
                Some(format!("`{node}` is a new input"))
            }
            (old, new) => Some(describe(name, old, new)),
        };
        let mut changes: Vec<String> = names.iter().filter_map(change).collect();
        // Each of a node's files gives the same line.
        changes.dedup();
        changes
    }

    /// The node of an artifact, if none of its artifacts is among these ingredients.
    fn lacks<'n>(&self, input: &'n str) -> Option<&'n str> {
        let (node, _) = input.strip_prefix("input ")?.split_once('/')?;
        let prefix = format!("input {node}/");
        (!self.0.keys().any(|name| name.starts_with(&prefix))).then_some(node)
    }
}

fn describe(name: &str, old: Option<&String>, new: Option<&String>) -> String {
    let (kind, what) = name.split_once(' ').unwrap_or((name, ""));
    let value = |v: Option<&String>| {
        v.filter(|v| *v != "null" && !v.is_empty()).map_or("none", |v| v.as_str()).to_owned()
    };
    match kind {
        "source" => match (old, new) {
            (None, _) => format!("`{what}` is new"),
            (_, None) => format!("`{what}` is gone"),
            _ => format!("`{what}` changed"),
        },
        "option" => format!("`{what}` {} → {}", value(old), value(new)),
        // A source is shown by its name, which is the first word; its digest would tell a reader
        // nothing.
        "input" => match (name_of(old), name_of(new)) {
            (old, new) if old == new || what.contains('/') => format!("`{what}` differs"),
            (old, new) => format!("`{what}` {old} → {new}"),
        },
        "dependency" => format!("dependency `{what}` {} → {}", version(old), version(new)),
        _ => format!("{name} {} → {}", value(old), value(new)),
    }
}

fn name_of(value: Option<&String>) -> &str {
    value.and_then(|v| v.split(' ').next()).unwrap_or("none")
}

/// A dependency's versions without its checksums.
fn version(value: Option<&String>) -> String {
    let Some(value) = value else { return "none".to_owned() };
    value.split(", ").filter_map(|v| v.split(' ').next()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Ingredients {
        let mut all = Ingredients::new();
        for (name, value) in pairs {
            all.add(*name, *value);
        }
        all
    }

    #[test]
    fn different_lists_have_different_digests() {
        assert_ne!(of(&[("a", "bc")]).digest(), of(&[("ab", "c")]).digest());
        assert_ne!(of(&[("a", "b")]).digest(), of(&[("a", "b"), ("", "")]).digest());
        assert_eq!(of(&[("a", "1"), ("b", "2")]).digest(), of(&[("b", "2"), ("a", "1")]).digest());
    }

    #[test]
    fn key_differs_when_the_format_of_keys_does() {
        assert_ne!(of(&[]).digest(), of(&[("format", "0")]).digest());
        assert_eq!(of(&[]).digest(), of(&[("format", FORMAT)]).digest());
    }

    #[test]
    fn a_node_that_is_no_longer_read_is_named_once() {
        let old = of(&[("input a/x", "1"), ("input a/y", "1"), ("input b/x", "1")]);
        let new = of(&[("input b/x", "2"), ("input b/y", "1")]);
        assert_eq!(
            old.changes(&new),
            ["`a` is no longer an input", "`b/x` differs", "`b/y` differs"]
        );
        assert_eq!(new.changes(&old)[0], "`a` is a new input");
    }

    #[test]
    fn changes_are_described_in_words() {
        let old = of(&[
            ("option train.mlp.lr", "0.001"),
            ("source a/b.rs", "1"),
            ("dependency polars", "0.55.1 abc"),
            ("input split/train.parquet", "1"),
            ("input ingest.source", "sample"),
            ("source x", "1"),
        ]);
        let new = of(&[
            ("option train.mlp.lr", "0.01"),
            ("source a/b.rs", "2"),
            ("dependency polars", "0.55.2 def"),
            ("input split/train.parquet", "2"),
            ("input ingest.source", "uci.zip blake3 ab"),
        ]);
        assert_eq!(
            old.changes(&new),
            [
                "dependency `polars` 0.55.1 → 0.55.2",
                "`ingest.source` sample → uci.zip",
                "`split/train.parquet` differs",
                "`train.mlp.lr` 0.001 → 0.01",
                "`a/b.rs` changed",
                "`x` is gone"
            ]
        );
        assert!(new.changes(&new).is_empty());
    }
}
