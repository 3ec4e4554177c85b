//! The workspace's own files: what a stage's binary is built from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use toml::{Table, Value};

use crate::{Digests, Lockfile, cargo_config, test_files};

/// The root manifest, the lock file and the crates' manifests.
pub struct Workspace {
    root: PathBuf,
    manifest: Table,
    lockfile: Lockfile,
}

/// Folders of a crate that its library and binary are not built from.
const NOT_BUILT: [&str; 2] = ["target", "proptest-regressions"];

/// How deeply the folders of a crate may be nested: links can form a cycle.
const DEEPEST: usize = 32;

impl Workspace {
    /// Reads the workspace at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let manifest = read_toml(&root.join("Cargo.toml"))?;
        let lockfile = Lockfile::read(&root.join("Cargo.lock"))?;
        Ok(Self { root: root.to_owned(), manifest, lockfile })
    }

    /// What the binary of `package` is built from, by name: ingredients 2 and 3 of a key.
    pub fn ingredients(
        &self,
        package: &str,
        digests: &dyn Digests,
    ) -> Result<Vec<(String, String)>> {
        let mut out = Vec::new();
        let mut direct = BTreeSet::new();
        for folder in self.crates(package, &mut direct)? {
            for file in files(&self.root.join(&folder))? {
                let path = self.root.join(&folder).join(&file);
                let digest = digests.digest(&path).map_err(|e| Failure::io("read", &path, &e))?;
                out.push((format!("source {folder}/{file}"), digest.to_string()));
            }
        }
        for name in &direct {
            let spec = self.spec(name).map(Value::to_string).unwrap_or_default();
            out.push((format!("asked-for {name}"), spec));
        }
        let locked = self.lockfile.closure(direct.iter().map(|name| self.package_name(name)));
        out.extend(
            locked.into_iter().map(|(name, versions)| (format!("dependency {name}"), versions)),
        );
        for name in ["profile", "patch"] {
            out.push((
                name.into(),
                self.manifest.get(name).map(Value::to_string).unwrap_or_default(),
            ));
        }
        // The edition, and the version, which a report names.
        let package = self.manifest.get("workspace").and_then(|w| w.get("package"));
        out.push(("package".into(), package.map(Value::to_string).unwrap_or_default()));
        out.push(("build-flags".into(), cargo_config::describe(&self.root)?));
        Ok(out)
    }

    /// The folders of `package` and of the workspace crates that it uses; the names of their
    /// other dependencies go into `direct`.
    fn crates(&self, package: &str, direct: &mut BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut todo = vec![format!("crates/{package}")];
        while let Some(folder) = todo.pop() {
            if !found.insert(folder.clone()) {
                continue;
            }
            let manifest = read_toml(&self.root.join(&folder).join("Cargo.toml"))?;
            let per_target = manifest
                .get("target")
                .and_then(Value::as_table)
                .into_iter()
                .flat_map(Table::values)
                .filter_map(Value::as_table);
            for table in std::iter::once(&manifest).chain(per_target) {
                let names = ["dependencies", "build-dependencies"]
                    .into_iter()
                    .filter_map(|kind| table.get(kind)?.as_table());
                for name in names.flat_map(Table::keys) {
                    match self.spec(name).and_then(|spec| spec.get("path")).and_then(Value::as_str)
                    {
                        Some(path) => todo.push(path.to_owned()),
                        None => drop(direct.insert(name.clone())),
                    }
                }
            }
        }
        Ok(found)
    }

    /// How the workspace asks for a dependency.
    fn spec(&self, name: &str) -> Option<&Value> {
        self.manifest.get("workspace")?.get("dependencies")?.get(name)
    }

    /// A dependency's name in the lock file, which the workspace may call by another name.
    fn package_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.spec(name).and_then(|spec| spec.get("package")).and_then(Value::as_str).unwrap_or(name)
    }
}

fn read_toml(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
    toml::from_str(&text).map_err(|e| Failure::usage(e, path.display(), "fix the file"))
}

/// The files of a crate that its binary can be built from, as sorted relative paths. Tests, texts
/// for people and the temporary files of editors do not count.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut todo = vec![String::new()];
    while let Some(folder) = todo.pop() {
        let path = root.join(&folder);
        let fail = |e: std::io::Error| Failure::io("read folder", &path, &e);
        for entry in fs::read_dir(&path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Links are followed; one that leads nowhere is left to the compiler.
            let Ok(is_folder) = fs::metadata(entry.path()).map(|m| m.is_dir()) else { continue };
            let top = folder.is_empty();
            let left_behind = name.starts_with(['.', '#']) || name.ends_with(['~', '#']);
            if left_behind
                || (top
                    && (NOT_BUILT.contains(&name.as_str())
                        || Path::new(&name).extension().is_some_and(|e| e == "md")))
            {
                continue;
            }
            let relative = if top { name } else { format!("{folder}/{name}") };
            if !is_folder {
                found.push(relative);
            } else if relative.split('/').count() <= DEEPEST {
                todo.push(relative);
            } else {
                let remedy = "remove the link that leads back to a folder above it";
                return Err(Failure::usage(
                    "the folders of a crate are nested too deeply",
                    entry.path().display(),
                    remedy,
                ));
            }
        }
    }
    test_files::remove(root, &mut found);
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, Ingredients};

    /// A workspace of four crates: `a` uses `shared`, `b` does not, and each has a dependency.
    fn workspace(root: &Path) {
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("writes");
        };
        put(
            "Cargo.toml",
            "[workspace.dependencies]\nshared = { path = \"crates/shared\" }\nx = \"1\"\ny = \"1\"\n[profile.dev]\nopt-level = 3\n",
        );
        put(
            "Cargo.lock",
            "[[package]]\nname = \"x\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"1\"\n[[package]]\nname = \"y\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"2\"\n",
        );
        put("crates/a/Cargo.toml", "[dependencies]\nshared.workspace = true\n");
        put("crates/a/src/lib.rs", "// a");
        put("crates/a/options.toml", "");
        put("crates/shared/Cargo.toml", "[dependencies]\nx.workspace = true\n");
        put("crates/shared/src/lib.rs", "// shared");
        put("crates/b/Cargo.toml", "[dependencies]\ny.workspace = true\n");
        put("crates/b/src/lib.rs", "// b");
    }

    fn ingredients(root: &Path) -> Ingredients {
        let of_a = Workspace::read(root)
            .and_then(|w| w.ingredients("a", &Index::default()))
            .expect("reads");
        Ingredients::new().with(&of_a)
    }

    /// What changes in crate `a`'s ingredients when `text` is written to `path`.
    fn changes_when(path: &str, text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a folder");
        workspace(dir.path());
        let before = ingredients(dir.path());
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("writes");
        let after = ingredients(dir.path());
        assert_eq!(before.digest() == after.digest(), before.changes(&after).is_empty());
        before.changes(&after)
    }

    #[test]
    fn key_differs_when_a_source_of_the_crate_changes() {
        assert_eq!(
            changes_when("crates/a/src/lib.rs", "// other"),
            ["`crates/a/src/lib.rs` changed"]
        );
        assert_eq!(changes_when("crates/a/src/new.rs", ""), ["`crates/a/src/new.rs` is new"]);
        assert_eq!(changes_when("crates/a/options.toml", "x"), ["`crates/a/options.toml` changed"]);
    }

    #[test]
    fn key_differs_when_a_workspace_crate_that_it_uses_changes() {
        assert_eq!(
            changes_when("crates/shared/src/lib.rs", "// other"),
            ["`crates/shared/src/lib.rs` changed"]
        );
    }

    #[test]
    fn key_differs_when_a_dependency_or_how_the_workspace_asks_for_it_changes() {
        let lock =
            "[[package]]\nname = \"x\"\nversion = \"1.0.1\"\nsource = \"r\"\nchecksum = \"9\"\n";
        assert_eq!(changes_when("Cargo.lock", lock), ["dependency `x` 1.0.0 → 1.0.1"]);
        let spec = "[workspace.dependencies]\nshared = { path = \"crates/shared\" }\nx = { version = \"1\", features = [\"f\"] }\n[profile.dev]\nopt-level = 3\n";
        assert_eq!(changes_when("Cargo.toml", spec).len(), 1);
    }

    #[test]
    fn key_differs_when_the_profile_or_the_build_flags_change() {
        let profile = "[workspace.dependencies]\nshared = { path = \"crates/shared\" }\nx = \"1\"\n[profile.dev]\nopt-level = 2\n";
        assert_eq!(changes_when("Cargo.toml", profile).len(), 1);
        let version = "[workspace.package]\nversion = \"9.9.9\"\n[workspace.dependencies]\nshared = { path = \"crates/shared\" }\nx = \"1\"\ny = \"1\"\n[profile.dev]\nopt-level = 3\n";
        assert_eq!(changes_when("Cargo.toml", version).len(), 1);
        assert_eq!(
            changes_when(".cargo/config.toml", "[build]\nrustflags = [\"-Ctarget-cpu=native\"]\n")
                .len(),
            1
        );
    }

    #[test]
    fn key_is_the_same_when_an_unrelated_crate_or_its_dependency_changes() {
        assert!(changes_when("crates/b/src/lib.rs", "// a comment").is_empty());
        let lock = "[[package]]\nname = \"x\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"1\"\n[[package]]\nname = \"y\"\nversion = \"2.0.0\"\nsource = \"r\"\nchecksum = \"3\"\n";
        assert!(changes_when("Cargo.lock", lock).is_empty());
    }

    #[test]
    fn key_is_the_same_when_tests_texts_and_temporary_files_change() {
        for path in [
            "crates/a/tests/x.rs",
            "crates/a/README.md",
            "crates/a/src/.lib.rs.swp",
            "crates/a/src/lib.rs~",
            ".cargo/other",
        ] {
            assert!(changes_when(path, "x").is_empty(), "{path}");
        }
        assert!(changes_when(".cargo/config.toml", "[alias]\nx = \"run\"\n").is_empty());
    }

    #[test]
    fn key_is_the_same_when_a_test_module_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        workspace(dir.path());
        let put = |file: &str, text: &str| {
            fs::write(dir.path().join("crates/a/src").join(file), text).expect("writes");
        };
        put("lib.rs", "#[cfg(test)]\nmod tests;\n");
        let before = ingredients(dir.path());
        put("tests.rs", "// a test");
        assert_eq!(before, ingredients(dir.path()));
        put("lib.rs", "mod tests;\n");
        let changes = before.changes(&ingredients(dir.path()));
        assert!(changes.iter().any(|change| change.contains("tests.rs")), "{changes:?}");
    }

    #[test]
    #[cfg(unix)]
    fn key_is_the_same_when_a_folder_is_a_link_to_another() {
        let dir = tempfile::tempdir().expect("a folder");
        workspace(dir.path());
        let before = ingredients(dir.path());
        let (src, elsewhere) = (dir.path().join("crates/a/src"), dir.path().join("elsewhere"));
        fs::rename(&src, &elsewhere).expect("moves");
        std::os::unix::fs::symlink(&elsewhere, &src).expect("links");
        assert_eq!(before.digest(), ingredients(dir.path()).digest());
        std::os::unix::fs::symlink("nowhere", dir.path().join("crates/a/dangling")).expect("links");
        assert_eq!(before.digest(), ingredients(dir.path()).digest());
        std::os::unix::fs::symlink("..", dir.path().join("crates/a/circle")).expect("links");
        let read = Workspace::read(dir.path()).and_then(|w| w.ingredients("a", &Index::default()));
        assert!(read.unwrap_err().what.contains("too deeply"));
    }

    #[test]
    fn key_is_the_same_when_a_time_stamp_or_the_checkout_path_changes() {
        let (one, two) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        workspace(one.path());
        std::thread::sleep(std::time::Duration::from_millis(5));
        workspace(two.path());
        assert_eq!(ingredients(one.path()).digest(), ingredients(two.path()).digest());
    }
}
