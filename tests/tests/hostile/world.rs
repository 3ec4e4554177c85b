//! A folder of bad files, the artifacts that must stay unchanged, and functions that make bad
//! files.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use flate2::write::GzEncoder;

use e2e::{Artifacts, root, table, zip_of};

/// One bad input.
pub struct Case {
    /// The input in words, for the table.
    pub what: String,
    /// The expected exit status.
    pub code: i32,
    /// A text that the error must contain.
    pub says: String,
    pub command: Command,
}

/// All cases, in groups.
#[derive(Default)]
pub struct Cases(pub Vec<(&'static str, Vec<Case>)>);

impl Cases {
    pub fn group(&mut self, name: &'static str) {
        self.0.push((name, Vec::new()));
    }

    pub fn add(&mut self, what: &str, code: i32, says: &str, command: Command) {
        let case = Case { what: what.to_owned(), code, says: says.to_owned(), command };
        self.0.last_mut().expect("a group").1.push(case);
    }
}

/// A folder of bad files, and the artifacts that must stay unchanged.
pub struct World {
    pub dir: tempfile::TempDir,
    pub artifacts: Artifacts,
    pub good: String,
    /// Number of input folders made so far.
    pub folders: Cell<usize>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let good = table(400);
        let path = dir.path().join("good.csv");
        std::fs::write(&path, &good).expect("writes");
        let artifacts = Artifacts::with(&[
            &format!("ingest.source={}", path.display()),
            "embed.source=hash:8",
            "train.mlp.epochs=1",
        ]);
        artifacts.run(&["pipeline", "--to", "train.mlp"]).ok();
        Self { dir, artifacts, good, folders: Cell::new(0) }
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(&path, bytes).expect("writes");
        path
    }

    /// `cargo xtask` with `args`, on the world's artifacts.
    pub fn xtask(&self, args: &[&str]) -> Command {
        self.artifacts.command(args)
    }

    pub fn set(&self, sets: &[&str]) -> Command {
        self.set_to("train.mlp", sets)
    }

    pub fn set_to(&self, node: &str, sets: &[&str]) -> Command {
        let mut command = self.xtask(&["pipeline", "--jobs", "1", "--to", node]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    /// The pipeline with the option `node.source` set to a file with these bytes.
    pub fn source(&self, node: &str, name: &str, bytes: &[u8]) -> Command {
        let path = self.put(name, bytes);
        self.set(&[&format!("{node}.source={}", path.display())])
    }

    /// The pipeline with this file as the news archive.
    pub fn news(&self, name: &str, bytes: &[u8]) -> Command {
        let path = self.put(name, bytes);
        self.set(&[&format!("ingest.source={}", path.display()), "ingest.format=news"])
    }

    /// A stage run alone, which reads one of its inputs from a folder with the given files.
    pub fn stage(
        &self,
        package: &str,
        node: &str,
        input: &str,
        files: &[(&str, Vec<u8>)],
    ) -> Command {
        let number = self.folders.get();
        self.folders.set(number + 1);
        let name = format!("input-{number}");
        if ["tensors", "tokens", "ingest"].contains(&input) {
            self.put(&format!("{name}/labels.json"), b"[\"b\", \"t\", \"e\", \"m\"]");
        }
        for (file, bytes) in files {
            self.put(&format!("{name}/{file}"), bytes);
        }
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root()).args([
            "run",
            "--quiet",
            "--package",
            package,
            "--",
            "--node",
            node,
            "--artifacts",
        ]);
        command.arg(self.artifacts.path()).args(["--input", input]).arg(self.dir.path().join(name));
        if let Some(net) = ["slp", "mlp"].into_iter().find(|net| node == format!("train.{net}")) {
            command.args(["--set", &format!("net={net}")]);
        }
        command.arg("--out").arg(self.dir.path().join("out"));
        command
    }
}

/// A safetensors file, as its format defines it: a length, a header and data.
pub fn tensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A part with the values `x` in rows of `columns`, and the labels `y`.
pub fn part(x: &[f32], y: &[i64], columns: usize) -> Vec<u8> {
    let (a, b) = (y.len() * 8, y.len() * 16);
    let c = b + x.len() * 4;
    let header = format!(
        r#"{{"id":{{"dtype":"I64","shape":[{n}],"data_offsets":[0,{a}]}},"y":{{"dtype":"I64","shape":[{n}],"data_offsets":[{a},{b}]}},"X":{{"dtype":"F32","shape":[{m},{columns}],"data_offsets":[{b},{c}]}}}}"#,
        n = y.len(),
        m = x.len() / columns
    );
    let ids = (0_i64..).take(y.len()).flat_map(i64::to_le_bytes);
    let data: Vec<u8> = ids
        .chain(y.iter().flat_map(|y| y.to_le_bytes()))
        .chain(x.iter().flat_map(|x| x.to_le_bytes()))
        .collect();
    tensors(&header, &data)
}

/// A zip archive in which both headers of the table are changed. A change is an offset in the local
/// header, one in the central header, and the bytes to write there.
pub fn patched(good: &str, changes: &[(Option<usize>, Option<usize>, &[u8])]) -> Vec<u8> {
    let mut archive = zip_of(&[("newsCorpora.csv", good.as_bytes())]);
    let central = archive.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a central header");
    for (local, place, bytes) in changes {
        for start in [*local, place.map(|at| central + at)].into_iter().flatten() {
            archive[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }
    archive
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("packs");
    packed.finish().expect("packs")
}

/// Starts a server on loopback that sends `answer` to every request; returns a URL with secrets.
pub fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "http://me:secret@{}/news.zip?token=secret",
        listener.local_addr().expect("an address")
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let _ = lines.take_while(|line| !line.is_empty()).count();
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}
