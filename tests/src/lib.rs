//! Helpers of the end-to-end tests: a folder for artifacts, and `cargo xtask` run in it as a user
//! runs it.

// A test that cannot continue should panic at that place.
#![allow(clippy::expect_used, clippy::missing_panics_doc, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use zip::write::{SimpleFileOptions, ZipWriter};

/// The nodes of the sample's pipeline.
pub const NODES: [&str; 13] = [
    "ingest",
    "split",
    "embed",
    "tensors",
    "train.slp",
    "train.curve",
    "train.mlp",
    "ngrams",
    "train.linear",
    "train.knn",
    "train.best",
    "train.sweep",
    "report",
];

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// `cargo xtask` with `args`, in the workspace.
pub fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg("xtask").args(args).stdin(Stdio::null());
    // The servers of these tests are on loopback; a proxy of the machine must not be used for them.
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command
}

/// The outcome of a command.
pub struct Ended {
    /// The exit status; `None` if a signal ended the command.
    pub code: Option<i32>,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl Ended {
    /// Runs `command` to its end.
    pub fn of(mut command: Command) -> Self {
        let output = command.output().expect("the command runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Returns itself, and panics unless the exit status is 0.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// The JSON objects on stdout.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The nodes of the JSON lines on stdout whose field `name` is `value`.
    pub fn nodes(&self, name: &str, value: &str) -> Vec<String> {
        self.json()
            .iter()
            .filter(|l| l[name] == value)
            .map(|l| l["node"].as_str().expect("a node").to_owned())
            .collect()
    }
}

/// A folder of artifacts that is removed with the test.
pub struct Artifacts {
    dir: TempDir,
    options: Vec<String>,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self::new()
    }
}

impl Artifacts {
    /// An empty folder. The multi-layer net trains for only two epochs: its quality does not matter.
    pub fn new() -> Self {
        Self::with(&["train.mlp.epochs=2"])
    }

    /// An empty folder, with `options` set for all its commands.
    pub fn with(options: &[&str]) -> Self {
        let options = options.iter().map(|&o| o.to_owned()).collect();
        Self { dir: tempfile::tempdir().expect("a folder"), options }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `cargo xtask` with `args` and `--json`, in this folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = xtask(args);
        command.arg("--json").arg("--artifacts").arg(self.path());
        command.args(self.options.iter().flat_map(|o| ["--set", o]));
        command
    }

    /// Runs `cargo xtask` with `args` to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args))
    }

    /// Starts `cargo xtask` with `args`, without output.
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts")
    }

    /// A JSON artifact.
    pub fn json(&self, file: &str) -> Value {
        let bytes = std::fs::read(self.path().join(file)).expect(file);
        serde_json::from_slice(&bytes).expect(file)
    }

    /// The bytes of every artifact by its path, without `timings.jsonl` and `.knockline`.
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.path().to_owned()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
                let path = entry.path();
                let relative = path.strip_prefix(self.path()).expect("below").display().to_string();
                if path.is_dir() && relative != ".knockline" {
                    todo.push(path);
                } else if path.is_file() && !relative.ends_with("timings.jsonl") {
                    found.insert(relative, std::fs::read(&path).expect("a file"));
                }
            }
        }
        found
    }
}

/// A table of `rows` headlines of the publisher Reuters, the categories in turn.
pub fn table(rows: usize) -> String {
    let words =
        ["markets bank rates", "software phone launch", "film star album", "virus drug study"];
    let row = |i: usize| {
        let (letter, title) = (["b", "t", "e", "m"][i % 4], words[i % 4]);
        format!(
            "{i}\t{title} \"no{}\"\thttp://a.example/{i}\tReuters\t{letter}\ts{}\ta.example\t{}\n",
            i % 7,
            i / 3,
            1_394_470_370_000 + i
        )
    };
    (1..=rows).map(row).collect()
}

/// A zip archive of the members.
pub fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).expect("a member");
        writer.write_all(bytes).expect("bytes");
    }
    writer.finish().expect("an archive").into_inner()
}
