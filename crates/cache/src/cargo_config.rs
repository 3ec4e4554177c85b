//! The settings in cargo's configuration that change a program built from the same sources.
//!
//! cargo merges `.cargo/config.toml` of the workspace and of every folder above it, and
//! `$CARGO_HOME/config.toml` below them all (the Cargo Book, "Hierarchical structure"). It has no
//! stable command that prints the result, so the files are read here. cargo also passes the
//! resulting flags to build scripts; xtask's build script records them, and they are a separate
//! ingredient.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use toml::{Table, Value};

use crate::Digest;

/// The keys of the table `build` that count; the others set where and how fast cargo builds.
const BUILD: [&str; 3] = ["rustc", "rustflags", "target"];
/// The keys of a table in `target` that count.
const TARGET: [&str; 2] = ["linker", "rustflags"];
/// How deeply files may include each other.
const DEEPEST: usize = 10;

/// The settings that count for a build in `root`, in one line; empty if there are none.
pub fn describe(root: &Path) -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let mut parts = of_files(root, home.as_deref())?;
    parts.extend(of_environment(
        std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    ));
    Ok(parts.join("; "))
}

/// The settings that count in the configuration's files.
fn of_files(root: &Path, home: Option<&Path>) -> Result<Vec<String>> {
    let mut folders: Vec<PathBuf> = home.map(Path::to_owned).into_iter().collect();
    let above: Vec<&Path> = root.ancestors().collect();
    folders.extend(above.into_iter().rev().map(|folder| folder.join(".cargo")));
    let mut seen = BTreeSet::new();
    let mut merged = Table::new();
    for folder in folders {
        // Otherwise, cargo's home above a checkout would count twice.
        let file = ["config", "config.toml"]
            .map(|name| folder.join(name))
            .into_iter()
            .find(|path| path.is_file());
        if let Some(file) =
            file.filter(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())))
        {
            merge(&mut merged, read(&file, DEEPEST)?);
        }
    }
    Ok(what_counts(&merged))
}

/// Reads a file of the configuration, merged over the files that it includes.
fn read(path: &Path, depth: usize) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
    let mut table: Table =
        toml::from_str(&text).map_err(|e| Failure::usage(e, path.display(), "fix the file"))?;
    let included = match table.remove("include") {
        Some(Value::Array(items)) => items,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let mut all = Table::new();
    for item in included.iter().filter(|_| depth > 0) {
        let name = item.as_str().or_else(|| item.get("path")?.as_str()).unwrap_or_default();
        let file = path.with_file_name(name);
        let optional = item.get("optional").and_then(Value::as_bool).unwrap_or(false);
        if file.is_file() || !optional {
            merge(&mut all, read(&file, depth - 1)?);
        }
    }
    merge(&mut all, table);
    Ok(all)
}

/// Merges as cargo does: a later value replaces an earlier one, tables are merged, lists are
/// joined.
fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn what_counts(merged: &Table) -> Vec<String> {
    let table =
        |name: &str| merged.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let mut parts = Vec::new();
    let mut add = |name: String, value: &Value| parts.push(format!("{name} = {value}"));
    for (key, value) in table("build").iter().filter(|(key, _)| BUILD.contains(&key.as_str())) {
        add(format!("build.{key}"), value);
    }
    for (target, values) in &table("target") {
        for (key, value) in values
            .as_table()
            .into_iter()
            .flatten()
            .filter(|(key, _)| TARGET.contains(&key.as_str()))
        {
            add(format!("target.{target}.{key}"), value);
        }
    }
    for (profile, values) in &table("profile") {
        add(format!("profile.{profile}"), values);
    }
    let environment = table("env");
    if !environment.is_empty() {
        // Only its digest, because a value may be a token.
        parts.push(format!("env {}", Digest::of(environment.to_string().as_bytes()).short()));
    }
    parts
}

/// The settings that count in the variables that cargo reads in place of its files.
fn of_environment(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let counts = |name: &str| {
        name.ends_with("RUSTFLAGS")
            || name.starts_with("CARGO_PROFILE_")
            || (name.starts_with("CARGO_TARGET_") && name.ends_with("_LINKER"))
            || matches!(name, "CARGO_BUILD_TARGET" | "CARGO_BUILD_RUSTC" | "RUSTC")
    };
    let mut found: Vec<String> = variables
        .filter(|(name, value)| counts(name) && !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("writes");
    }

    #[test]
    fn files_of_every_folder_above_and_of_cargo_s_home_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let (home, root) = (dir.path().join("home"), dir.path().join("a/b"));
        std::fs::create_dir_all(&root).expect("a folder");
        let seen = || of_files(&root, Some(&home)).expect("reads");
        assert_eq!(seen(), [""; 0]);
        put(
            &home.join("config.toml"),
            "[build]\nrustflags = [\"-Ctarget-cpu=native\"]\njobs = 3\n",
        );
        assert_eq!(seen(), ["build.rustflags = [\"-Ctarget-cpu=native\"]"]);
        put(
            &dir.path().join("a/.cargo/config"),
            "[target.x86_64-unknown-linux-gnu]\nlinker = \"lld\"\nrunner = \"qemu\"\n",
        );
        assert_eq!(seen()[1..], ["target.x86_64-unknown-linux-gnu.linker = \"lld\""]);
        // The nearest file wins, and lists are joined.
        put(&dir.path().join("a/.cargo/config"), "[profile.dev]\nlto = false\nopt-level = 1\n");
        put(
            &root.join(".cargo/config.toml"),
            "include = \"more.toml\"\n[build]\nrustflags = [\"-g\"]\n[alias]\nx = \"run\"\n",
        );
        put(
            &root.join(".cargo/more.toml"),
            "[profile.dev]\nlto = true\n[env]\nTOKEN = \"secret\"\n",
        );
        let seen = seen();
        assert_eq!(
            seen[..2],
            [
                "build.rustflags = [\"-Ctarget-cpu=native\", \"-g\"]",
                "profile.dev = { lto = true, opt-level = 1 }"
            ]
        );
        assert!(seen[2].starts_with("env ") && !seen[2].contains("secret"), "{seen:?}");
    }

    #[test]
    fn a_home_above_the_checkout_counts_once() {
        let dir = tempfile::tempdir().expect("a folder");
        put(&dir.path().join(".cargo/config.toml"), "[build]\nrustflags = [\"-g\"]\n");
        let seen =
            of_files(&dir.path().join("a"), Some(&dir.path().join(".cargo"))).expect("reads");
        assert_eq!(seen, ["build.rustflags = [\"-g\"]"]);
    }

    #[test]
    fn variables_count_where_they_change_the_program() {
        let all = [
            ("RUSTFLAGS", "-g"),
            ("CARGO_TARGET_DIR", "x"),
            ("CARGO_PROFILE_DEV_LTO", ""),
            ("CARGO_TARGET_X_LINKER", "lld"),
            ("USER", "me"),
        ];
        let seen = of_environment(
            all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(seen, ["CARGO_TARGET_X_LINKER=lld", "RUSTFLAGS=-g"]);
    }
}
