//! What the stages' crates declare in their `node.toml`.

use std::path::Path;

use failure::{Failure, Result};
use stage::declaration::{self, Declaration};

/// The declarations of all stage crates.
pub struct Declared(Vec<(String, Vec<Declaration>)>);

impl Declared {
    /// Reads each `crates/PACKAGE/node.toml` of the workspace.
    pub fn read(root: &Path) -> Result<Self> {
        let crates = root.join("crates");
        let entries =
            std::fs::read_dir(&crates).map_err(|e| Failure::io("read folder", &crates, &e))?;
        let mut packages: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        packages.sort_unstable();
        let mut all = Vec::new();
        for package in packages {
            let path = crates.join(&package).join(declaration::FILE);
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(e) => return Err(Failure::io("read", &path, &e)),
            };
            let refuse = |e: String| Failure::usage(e, path.display(), "correct the declaration");
            let nodes = declaration::parse(&text).map_err(refuse)?;
            let others = || all.iter().flat_map(|(_, nodes): &(String, Vec<Declaration>)| nodes);
            let alike = |a: &Declaration, b: &Declaration| {
                a.name == b.name && (a.net == b.net || a.net.is_none() || b.net.is_none())
            };
            if let Some(twice) = nodes.iter().find(|n| others().any(|other| alike(other, n))) {
                return Err(refuse(format!("another crate declares `{}`, too", twice.name)));
            }
            all.push((package, nodes));
        }
        Ok(Self(all))
    }

    /// Every declaration with its package.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Declaration)> {
        self.0
            .iter()
            .flat_map(|(package, nodes)| nodes.iter().map(move |node| (package.as_str(), node)))
    }

    /// The nodes with fixed names.
    pub fn fixed(&self) -> impl Iterator<Item = (&str, &Declaration)> {
        self.iter().filter(|(_, declared)| declared.name.prefix().is_none())
    }

    /// The package and the declaration of the node `name` with this `net`.
    pub fn find(&self, name: &str, net: Option<&str>) -> Option<(&str, &Declaration)> {
        self.0.iter().find_map(|(package, nodes)| {
            Some((package.as_str(), declaration::find(nodes, name, net)?))
        })
    }

    /// The nets that a run of this name can have.
    pub fn nets(&self, name: &str) -> Vec<&str> {
        self.iter()
            .filter(|(_, d)| d.name.matches(name))
            .filter_map(|(_, d)| d.net.as_deref())
            .collect()
    }

    /// The names of all packages that run nodes.
    pub fn packages(&self) -> Vec<String> {
        self.0.iter().map(|(package, _)| package.clone()).collect()
    }
}
