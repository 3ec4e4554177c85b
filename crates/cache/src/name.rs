//! Names of nodes.

use std::borrow::Borrow;
use std::fmt::{self, Display};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes. With a key and an extension it still fits into a file's name.
const LONGEST: usize = 160;

/// The name of a node and of its folder, such as `split`, `train.mlp` or `train.wide@hidden=400`.
///
/// A name is safe as a folder's name on every system and in every remote: it consists of ASCII
/// letters, digits and `. _ - @ = +`, begins with a letter or a digit, and does not end with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a user means this node by `name`: it is the node's name, or that of the run whose
    /// matrix it belongs to.
    pub fn is_called(&self, name: &str) -> bool {
        *self == *name || self.strip_prefix(name).is_some_and(|rest| rest.starts_with('@'))
    }
}

impl TryFrom<&str> for NodeName {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || "._-@=+".contains(c);
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !text.chars().all(is_known)
            || text.ends_with('.')
        {
            return Err(format!(
                "`{text}` cannot be a node's name; use letters, digits and . _ - @ = +"
            ));
        }
        if text.len() > LONGEST {
            return Err(format!(
                "`{text}` is too long for a node's name; use at most {LONGEST} characters"
            ));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for NodeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::try_from(text.as_str())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.as_str().to_owned()
    }
}

impl Deref for NodeName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for NodeName {
    fn as_ref(&self) -> &Path {
        Path::new(self.as_str())
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With the padding that `f` asks for.
        Display::fmt(&*self.0, f)
    }
}

impl PartialEq<str> for NodeName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for NodeName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// A name for a test.
#[cfg(test)]
pub fn named(name: &str) -> NodeName {
    NodeName::try_from(name).expect("a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_folder_s_name() {
        for name in ["split", "train.mlp", "train.wide@hidden=400+lr=1e-3", "x"] {
            assert_eq!(named(name).to_string(), name);
        }
        for wrong in [
            "",
            ".knockline",
            "..",
            "a/b",
            "a\\b",
            "C:x",
            "a b",
            "train.",
            "a\u{e9}",
            "a,b",
            &"x".repeat(161),
        ] {
            assert!(NodeName::try_from(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<NodeName>("\"../../etc\"").is_err());
    }
}
