//! `Cargo.lock`: which versions of which packages a crate is built from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use failure::{Failure, Result};
use serde::Deserialize;

/// The packages of `Cargo.lock`.
pub struct Lockfile {
    packages: Vec<Package>,
    /// Indices into `packages` by name.
    by_name: BTreeMap<String, Vec<usize>>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lockfile {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
        Self::parse(&text)
            .map_err(|e| Failure::usage(e, path.display(), "run `cargo generate-lockfile`"))
    }

    /// Parses the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct LockFile {
            #[serde(default)]
            package: Vec<Package>,
        }
        let file: LockFile = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, package) in file.package.iter().enumerate() {
            by_name.entry(package.name.clone()).or_default().push(i);
        }
        Ok(Self { packages: file.package, by_name })
    }

    /// The packages from outside the workspace that the direct dependencies `roots` (names as in a
    /// `Cargo.toml`) bring in: the versions and checksums of each by its name.
    pub fn closure<'a>(
        &self,
        roots: impl IntoIterator<Item = &'a str>,
    ) -> BTreeMap<String, String> {
        let mut todo: Vec<usize> = roots.into_iter().flat_map(|name| self.find(name)).collect();
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        while let Some(i) = todo.pop() {
            let Some(package) = self.packages.get(i).filter(|_| seen.insert(i)) else { continue };
            todo.extend(package.dependencies.iter().flat_map(|d| self.find(d)));
        }
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in
            seen.iter().filter_map(|&i| self.packages.get(i)).filter(|p| p.source.is_some())
        {
            let id =
                package.checksum.as_ref().or(package.source.as_ref()).map_or("", |c| c.as_str());
            found
                .entry(package.name.clone())
                .or_default()
                .push(format!("{} {id}", package.version));
        }
        found.into_iter().map(|(name, versions)| (name, versions.join(", "))).collect()
    }

    /// The packages that `spec` names by `name`, or by `name version` if the name is ambiguous, as
    /// indices into `packages`.
    fn find(&self, spec: &str) -> Vec<usize> {
        let mut words = spec.split(' ');
        let name = words.next().unwrap_or_default();
        let version = words.next();
        let places = self.by_name.get(name).cloned().unwrap_or_default();
        places
            .into_iter()
            .filter(|&i| {
                version.is_none_or(|v| self.packages.get(i).is_some_and(|p| p.version == v))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "a"
        version = "1.0.0"
        source = "registry+x"
        checksum = "aa"
        dependencies = ["b 2.0.0"]
        [[package]]
        name = "b"
        version = "1.0.0"
        source = "registry+x"
        checksum = "b1"
        [[package]]
        name = "b"
        version = "2.0.0"
        source = "registry+x"
        checksum = "b2"
        dependencies = ["a"]
        [[package]]
        name = "unrelated"
        version = "1.0.0"
        source = "registry+x"
        checksum = "cc"
        [[package]]
        name = "own"
        version = "0.1.0"
        dependencies = ["unrelated"]
    "#;

    #[test]
    fn the_closure_has_what_is_used_and_nothing_else() {
        let lock = Lockfile::parse(LOCK).expect("parses");
        let closure: Vec<(String, String)> = lock.closure(["a"]).into_iter().collect();
        assert_eq!(closure, [("a".into(), "1.0.0 aa".into()), ("b".into(), "2.0.0 b2".into())]);
        assert!(lock.closure(["nothing"]).is_empty());
    }
}
