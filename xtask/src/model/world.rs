//! A checkout in a temporary folder: small crates, the real descriptions of options, and a file of
//! data.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memmap2::MmapMut;
use tempfile::TempDir;

use crate::declared::Declared;

/// The texts that a source or the data can have. They are few, so that each comes up again.
pub const TEXTS: [&str; 3] = ["one\n", "two\n", "six\n"];
/// The crates whose sources are edited: one that all stages use, and those of the nodes that are
/// run.
pub const CRATES: [&str; 6] = ["stage", "ingest", "split", "embed", "tensors", "train"];

/// The checkout.
pub struct World {
    dir: TempDir,
    /// A memory map of the data. It stays open, so that writes through it change no time stamp.
    map: Option<MmapMut>,
    last: SystemTime,
}

impl World {
    /// Makes a checkout in which all sources and the data have the first text.
    pub fn new() -> Self {
        // In memory, if possible: nothing here has to survive a power cut.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
            .expect("a folder");
        let mut world = Self { dir, map: None, last: SystemTime::now() };
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        world.put("Cargo.toml", "[workspace.dependencies]\nstage = { path = \"crates/stage\" }\n");
        world.put("Cargo.lock", "version = 4\n");
        world.put("pipeline.toml", "[train.slp]\nnet = \"slp\"\n");
        world.put("profiles/sample.toml", "");
        let declared = Declared::read(real).expect("declarations");
        let described = declared.iter().flat_map(|(package, node)| {
            node.options.iter().map(move |file| format!("{package}/{file}"))
        });
        let nodes = declared.packages().into_iter().map(|package| format!("{package}/node.toml"));
        for file in described
            .chain(nodes)
            .chain(["remote/options.toml", "../xtask/executor.toml"].map(str::to_owned))
        {
            let path = format!("crates/{file}");
            world.put(&path, &std::fs::read_to_string(real.join(&path)).expect("reads"));
        }
        for package in CRATES.into_iter().chain(["tokens", "ngrams", "fit", "report"]) {
            let uses =
                if package == "stage" { "" } else { "[dependencies]\nstage.workspace = true\n" };
            world.put(&format!("crates/{package}/Cargo.toml"), uses);
            world.put(&source(package), TEXTS[0]);
            world.put(&format!("crates/{package}/src/main.rs"), "main\n");
        }
        world.put("data.csv", TEXTS[0]);
        world
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).expect("reads")
    }

    /// A time after every earlier one.
    pub fn now(&mut self) -> SystemTime {
        self.last = SystemTime::now().max(self.last + Duration::from_nanos(1));
        self.last
    }

    /// Writes a file as an editor does.
    pub fn put(&mut self, relative: &str, text: &str) {
        let now = self.now();
        self.put_as_of(relative, text, now);
    }

    /// Writes a file as `cp -p` does.
    pub fn put_as_of(&mut self, relative: &str, text: &str, stamp: SystemTime) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        // Not truncated first: the data may be mapped.
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .expect("opens");
        file.write_all(text.as_bytes())
            .and_then(|()| file.set_len(text.len() as u64))
            .expect("writes");
        file.set_modified(stamp).expect("sets the time");
    }

    pub fn stamp(&self, relative: &str) -> SystemTime {
        std::fs::metadata(self.path(relative)).and_then(|m| m.modified()).expect("a time")
    }

    /// Writes the data through the map.
    pub fn write_through_the_map(&mut self, text: &str) {
        let path = self.path("data.csv");
        let map = self.map.get_or_insert_with(|| {
            let file = std::fs::File::options().read(true).write(true).open(path).expect("opens");
            // SAFETY: the file is as long as every text, is never cut, and this is its only map.
            unsafe { MmapMut::map_mut(&file) }.expect("maps")
        });
        map.copy_from_slice(text.as_bytes());
    }

    /// The texts of the sources that a package's program is built from.
    pub fn sources_of(&self, package: &str) -> String {
        format!("{}|{}", self.read(&source(package)), self.read(&source("stage")))
    }

    /// Every file below a folder, with its content.
    pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![folder.to_owned()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    drop(found.insert(path.clone(), std::fs::read(&path).expect("reads")));
                }
            }
        }
        found
    }
}

/// The source file of a crate that the player edits.
pub fn source(package: &str) -> String {
    format!("crates/{package}/src/lib.rs")
}
