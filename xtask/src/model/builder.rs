//! The model's builder of programs: it believes time stamps, as cargo does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use failure::Result;

use super::stage::{Meddling, Moment};
use super::world::source;
use crate::cargo::BuildUnit;

/// When each library and program was built.
pub type Built = Mutex<BTreeMap<String, SystemTime>>;

/// Each run makes its own builder; the build times outlive it, as cargo's fingerprints do.
pub struct Builder<'b> {
    pub root: PathBuf,
    pub built: &'b Built,
    pub meddling: &'b Meddling,
}

impl Builder<'_> {
    fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.root.join(relative)).expect("reads")
    }

    /// Builds a library or program if one of its `files`, or something that it `uses`, is newer.
    fn unit(
        &self,
        name: &str,
        files: &[&str],
        uses: &[&str],
        output: &str,
        text: impl Fn() -> String,
    ) -> bool {
        let stamp = |file: &&str| {
            std::fs::metadata(self.root.join(file)).and_then(|m| m.modified()).expect("a time")
        };
        let mut built = self.built.lock().expect("no panic");
        let newest = files
            .iter()
            .map(stamp)
            .chain(uses.iter().filter_map(|name| built.get(*name).copied()))
            .max();
        let output = self.root.join("target/debug").join(output);
        let fresh = output.exists() && built.get(name).copied() >= newest;
        if !fresh {
            std::fs::create_dir_all(output.parent().expect("a parent")).expect("a folder");
            // A new file, not the old one with new content.
            let _ = std::fs::remove_file(&output);
            std::fs::write(&output, text()).expect("writes");
            // cargo notes when it began. The last time from the world's clock may be ahead of the
            // system's by some nanoseconds.
            let after = newest.map_or_else(SystemTime::now, |newest| newest.max(SystemTime::now()));
            built.insert(name.to_owned(), after);
        }
        fresh
    }
}

impl crate::cargo::Builder for Builder<'_> {
    fn build(&self, packages: &[String]) -> Result<Vec<BuildUnit>> {
        self.meddling.at(Moment::Build);
        let mut units = Vec::new();
        let unit =
            |kind: &str, package: &str, root_file: &str, file: String, fresh: bool| BuildUnit {
                kind: kind.to_owned(),
                package: package.to_owned(),
                root_file: self.root.join(root_file),
                executable: (kind == "bin").then(|| self.root.join("target/debug").join(&file)),
                files: vec![self.root.join("target/debug").join(file)],
                has_build_script: false,
                fresh,
            };
        let shared = source("stage");
        let fresh =
            self.unit("lib stage", &[&shared], &[], "deps/libstage.rlib", || self.read(&shared));
        units.push(unit("lib", "stage", &shared, "deps/libstage.rlib".into(), fresh));
        for package in packages {
            let (library, main) = (source(package), format!("crates/{package}/src/main.rs"));
            let (name, file) = (format!("lib {package}"), format!("deps/lib{package}.rlib"));
            let fresh =
                self.unit(&name, &[&library], &["lib stage"], &file, || self.read(&library));
            units.push(unit("lib", package, &library, file.clone(), fresh));
            // A program is linked from the libraries as they were built, even if their sources have
            // changed since.
            let linked = || {
                format!(
                    "{}|{}",
                    self.read(&format!("target/debug/{file}")),
                    self.read("target/debug/deps/libstage.rlib")
                )
            };
            let uses = ["lib stage", name.as_str()];
            let (program, kept) = (package.clone(), format!("deps/{package}"));
            let fresh = self.unit(&format!("bin {package}"), &[&main], &uses, &kept, linked);
            // As in cargo, the program is a second name of a file in `deps`.
            let to = self.root.join("target/debug").join(&program);
            let _ = std::fs::remove_file(&to);
            std::fs::hard_link(self.root.join("target/debug").join(&kept), to).expect("links");
            units.push(unit("bin", package, &main, program, fresh));
        }
        Ok(units)
    }

    fn stamp(&self, name: &str) -> Option<PathBuf> {
        Some(self.root.join("target/debug").join(name))
    }
}
