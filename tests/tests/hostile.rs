//! Bad input of every kind, as a user meets it: what is said, with which status, and that nothing made earlier is touched.
//!
//! The table of all of it is docs/bad-input.md; with KNOCKLINE_BLESS=1 this test writes it anew.

#![allow(clippy::indexing_slicing, clippy::format_push_string)]

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::write::GzEncoder;

use e2e::{Artifacts, Ended, root, table, zip_of};

/// One thing that is wrong.
struct Case {
    /// In words, for the table.
    what: String,
    code: i32,
    /// What the message must have.
    says: String,
    command: Command,
}

/// All of them, in groups.
#[derive(Default)]
struct Cases(Vec<(&'static str, Vec<Case>)>);

impl Cases {
    fn group(&mut self, name: &'static str) {
        self.0.push((name, Vec::new()));
    }

    fn add(&mut self, what: &str, code: i32, says: &str, command: Command) {
        let case = Case { what: what.to_owned(), code, says: says.to_owned(), command };
        self.0.last_mut().expect("a group").1.push(case);
    }
}

/// A folder of bad files, and the artifacts that must stay as they are.
struct World {
    dir: tempfile::TempDir,
    artifacts: Artifacts,
    good: String,
    /// Folders of inputs so far.
    folders: Cell<usize>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let good = table(400);
        let path = dir.path().join("good.csv");
        std::fs::write(&path, &good).expect("writes");
        let artifacts = Artifacts::with(&[&format!("ingest.source={}", path.display()), "embed.source=hash:8", "train.mlp.epochs=1"]);
        artifacts.run(&["pipeline", "--to", "train.mlp"]).ok();
        Self { dir, artifacts, good, folders: Cell::new(0) }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(&path, bytes).expect("writes");
        path
    }

    /// `cargo xtask` with these words, in the artifacts' folder.
    fn xtask(&self, args: &[&str]) -> Command {
        self.artifacts.command(args)
    }

    fn set(&self, sets: &[&str]) -> Command {
        self.set_to("train.mlp", sets)
    }

    fn set_to(&self, node: &str, sets: &[&str]) -> Command {
        let mut command = self.xtask(&["pipeline", "--jobs", "1", "--to", node]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    /// The pipeline with the option `node.source` at a file of these bytes.
    fn source(&self, node: &str, name: &str, bytes: &[u8]) -> Command {
        let path = self.put(name, bytes);
        self.set(&[&format!("{node}.source={}", path.display())])
    }

    /// A stage by itself, with a folder of artifacts of its own for one of its inputs.
    fn stage(&self, package: &str, node: &str, input: &str, files: &[(&str, Vec<u8>)]) -> Command {
        let number = self.folders.get();
        self.folders.set(number + 1);
        let name = format!("input-{number}");
        for (file, bytes) in files {
            self.put(&format!("{name}/{file}"), bytes);
        }
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root()).args(["run", "--quiet", "--package", package, "--", "--node", node, "--artifacts"]);
        command.arg(self.artifacts.path()).arg("--input").arg(format!("{input}={}", self.dir.path().join(name).display()));
        command.arg("--out").arg(self.dir.path().join("out"));
        command
    }
}

/// A safetensors file, by its format's definition: a length, a header and data.
fn tensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A part with `X` of these rows and two columns and the labels `y`.
fn part(x: &[f32], y: &[i64], columns: usize) -> Vec<u8> {
    let (a, b) = (y.len() * 8, y.len() * 16);
    let c = b + x.len() * 4;
    let header = format!(
        r#"{{"id":{{"dtype":"I64","shape":[{n}],"data_offsets":[0,{a}]}},"y":{{"dtype":"I64","shape":[{n}],"data_offsets":[{a},{b}]}},"X":{{"dtype":"F32","shape":[{m},{columns}],"data_offsets":[{b},{c}]}}}}"#,
        n = y.len(),
        m = x.len() / columns
    );
    let ids = (0_i64..).take(y.len()).flat_map(i64::to_le_bytes);
    let data: Vec<u8> = ids.chain(y.iter().flat_map(|y| y.to_le_bytes())).chain(x.iter().flat_map(|x| x.to_le_bytes())).collect();
    tensors(&header, &data)
}

/// A zip archive whose two headers of the table are changed: by the place in the local header, that in the central one, and the bytes.
fn patched(good: &str, changes: &[(Option<usize>, Option<usize>, &[u8])]) -> Vec<u8> {
    let mut archive = zip_of(&[("newsCorpora.csv", good.as_bytes())]);
    let central = archive.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a central header");
    for (local, place, bytes) in changes {
        for start in [*local, place.map(|at| central + at)].into_iter().flatten() {
            archive[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }
    archive
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("packs");
    packed.finish().expect("packs")
}

/// A server on loopback that answers everything with this.
fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://me:secret@{}/news.zip?token=secret", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let _ = lines.take_while(|line| !line.is_empty()).count();
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

fn archives(world: &World, cases: &mut Cases) {
    let good = &world.good;
    cases.group("Archives");
    let file = |name: &str, bytes: &[u8]| world.source("ingest", name, bytes);
    let missing = world.set(&[&format!("ingest.source={}", world.dir.path().join("nothing.zip").display())]);
    cases.add("a path where nothing is", 3, "cannot read the source", missing);
    cases.add("a folder", 3, "Is a directory", world.set(&[&format!("ingest.source={}", world.dir.path().display())]));
    cases.add("an empty file", 3, "there are no rows", file("empty.csv", b""));
    cases.add("a web page under the archive's name", 3, "a web page", file("page.zip", b"<!DOCTYPE html><html>log in</html>"));
    cases.add("a Git LFS pointer", 3, "a Git LFS pointer", file("lfs.zip", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"));
    cases.add("an XML error message", 3, "an XML error message", file("xml.zip", b"<?xml version=\"1.0\"?><Error>AccessDenied</Error>"));
    cases.add("a JSON message", 3, "a JSON message", file("json.zip", b"{\"message\": \"Not Found\"}"));
    cases.add("a gzip file", 3, "this is a gzip file", file("news.csv.gz", &gzip(good.as_bytes())));
    cases.add("a table in UTF-16", 3, "columns, not 8", file("utf16.csv", b"\xff\xfe1\x00\t\x00F\x00\n\x00"));
    cases.add(
        "the table in another file's name",
        3,
        "has no newsCorpora.csv; it has a.csv",
        file("other.zip", &zip_of(&[("a.csv", b"x")])),
    );
    let twin = zip_of(&[("__MACOSX/._newsCorpora.csv", good.as_bytes())]);
    cases.add("only the table's twin for macOS", 3, "has no newsCorpora.csv", file("twin.zip", &twin));
    let climbs = zip_of(&[("../newsCorpora.csv", good.as_bytes())]);
    cases.add("a member whose name climbs out", 3, "has no newsCorpora.csv", file("climbs.zip", &climbs));
    let archive = zip_of(&[("newsCorpora.csv", good.as_bytes())]);
    cases.add("half an archive", 3, "cannot read the zip archive", file("cut.zip", &archive[..archive.len() / 2]));
    let mut flipped = archive.clone();
    flipped[archive.len() / 3] ^= 0x10;
    cases.add("a flipped bit in the packed table", 3, "cannot read", file("flipped.zip", &flipped));
    cases.add("a wrong checksum", 3, "checksum", file("crc.zip", &patched(good, &[(Some(14), Some(16), &[1, 2, 3, 4])])));
    cases.add("an encrypted member", 3, "Password required", file("locked.zip", &patched(good, &[(Some(6), Some(8), &[1, 0])])));
    cases.add("a packing that nobody unpacks", 3, "it is packed by", file("odd.zip", &patched(good, &[(Some(8), Some(10), &[98, 0])])));
    let link = patched(good, &[(None, Some(5), &[3]), (None, Some(38), &[0, 0, 0xff, 0xa1])]);
    cases.add("a symbolic link", 3, "it is a link", file("link.zip", &link));
    let bomb = patched(good, &[(None, Some(24), &[0, 0, 0, 0xf0])]);
    cases.add("a member that claims four gigabytes of a few kilobytes", 3, "no headlines do", file("bomb.zip", &bomb));
    let more = patched(good, &[(None, Some(24), &[100, 0, 0, 0])]);
    cases.add("a member that is larger than it claims", 3, "larger than its declared", file("more.zip", &more));
    let end = archive.windows(4).rposition(|w| w == b"PK\x05\x06").expect("an end");
    let mut many = archive.clone();
    many[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    cases.add("an archive that claims 65,534 members", 3, "cannot read the zip archive", file("many.zip", &many));

    cases.group("Rows");
    let first = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    cases.add("a row with seven columns", 3, "row 1 has 7 columns, not 8", file("seven.csv", &first("\tReuters", "")));
    cases.add("a row with nine columns", 3, "row 1 has 9 columns, not 8", file("nine.csv", &first("\tReuters", "\tReuters\tx")));
    let mut latin = good.clone().into_bytes();
    latin[4] = 0xff;
    cases.add("a byte that is no UTF-8", 3, "is not UTF-8", file("latin.csv", &latin));
    cases.add("a zero byte", 3, "has a zero byte", file("nul.csv", &first("markets", "mar\0kets")));
    cases.add("an unknown category", 3, "has the unknown category `x`", file("category.csv", &first("\tb\t", "\tx\t")));
    cases.add("an id that is no number", 3, "has `one` as its id", file("id.csv", &first("1\t", "one\t")));
    cases.add("a time stamp that is no number", 3, "as its timestamp", file("time.csv", &first("\t1394470370001\n", "\tnoon\n")));
    cases.add("an id that comes twice", 3, "row 2 has the id 1", file("twice.csv", &first("\n2\t", "\n1\t")));
    cases.add("a title of ten megabytes", 3, "has a title of", file("title.csv", &first("markets", &"x".repeat(10 << 20))));
    cases.add("a row that does not end", 3, "a row is longer than", file("endless.csv", &vec![b'x'; 70 << 20]));
    cases.add("blank lines alone", 3, "there are no rows", file("blank.csv", b"\n\n\r\n"));
    let strangers = good.replace("Reuters", "Somebody");
    cases.add("no row of a chosen publisher", 3, "none of the 400 rows", file("strangers.csv", strangers.as_bytes()));
    let bad = world.put("bad.csv", good.replace("\tt\t", "\tx\t").as_bytes());
    let bad = format!("ingest.source={}", bad.display());
    cases.add("more bad rows than are allowed", 3, "and 5 rows before it are bad", world.set(&[&bad, "ingest.max_bad_rows=5"]));
    let nothing = world.put("nothing.csv", b"a\nb\n");
    let nothing = format!("ingest.source={}", nothing.display());
    cases.add("bad rows alone, all of them allowed", 3, "all of the 2 rows are wrong", world.set(&[&nothing, "ingest.max_bad_rows=9"]));
    cases.add("another number of rows than is expected", 3, "400 rows, not the expected 422937", world.set(&["ingest.expect.rows=422937"]));
    let sum = format!("ingest.sha256={}", "0".repeat(64));
    cases.add("another SHA-256 than is pinned", 3, "SHA-256 is", world.set(&[&sum]));
    cases.add("a category with one headline", 3, "category `e` has only 1 headline", file("one.csv", table(3).as_bytes()));
    let few = world.put("few.csv", table(12).as_bytes());
    let few = format!("ingest.source={}", few.display());
    cases.add("too few headlines for the parts", 3, "", world.set(&[&few, "split.test_size=0.05"]));
}

fn vectors(world: &World, cases: &mut Cases) {
    cases.group("Word vectors");
    let file = |name: &str, bytes: &[u8]| world.source("embed", name, bytes);
    let entry =
        |word: &str, vector: &[f32]| [word.as_bytes(), b" ", &vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()].concat();
    let binary = |header: &str, entries: &[Vec<u8>]| [header.as_bytes(), &entries.concat()].concat();
    let missing = world.set(&[&format!("embed.source={}", world.dir.path().join("nothing.bin").display())]);
    cases.add("a path where nothing is", 3, "cannot read the source", missing);
    cases.add("an empty file", 3, "the file is empty", file("empty.bin", b""));
    cases.add("a web page", 3, "a web page", file("page.bin", b"<html><body>quota exceeded</body></html>"));
    cases.add("a zip archive", 3, "", file("vectors.zip", &zip_of(&[("vectors.txt", b"bank 1 2 3\n")])));
    cases.add("a picture", 3, "", file("picture.bin", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01"));
    cases.add("vectors of no components", 3, "vectors of 0 components", file("zero.bin", b"3 0\nbank \nfilm \n"));
    cases.add("vectors of a million components", 3, "vectors of 1000000 components", file("wide.bin", b"3 1000000\nbank "));
    cases.add(
        "a header with numbers that fit no machine",
        3,
        "",
        file("huge.bin", b"99999999999999999999 99999999999999999999\nbank 1 2\n"),
    );
    cases.add(
        "a header that lies about the components",
        3,
        "the header says 5 components, and the first vector has 2",
        file("lies.txt", b"2 5\nbank 1 2\nfilm 3 4\n"),
    );
    let cut = binary("2 2\n", &[entry("bank", &[1.0, 2.0]), b"film \x01\x02".to_vec()]);
    cases.add("an end in the middle of a vector", 3, "the file ends inside the vector of `film`", file("cut.bin", &cut));
    cases.add(
        "a component that is NaN",
        3,
        "component 2 of the vector of `bank` is no finite number",
        file("nan.bin", &binary("1 2\n", &[entry("bank", &[1.0, f32::NAN])])),
    );
    cases.add(
        "a component that is infinite",
        3,
        "component 1 of the vector of `bank`",
        file("inf.bin", &binary("1 2\n", &[entry("bank", &[f32::INFINITY, 1.0])])),
    );
    cases.add("an infinite component in a text file", 3, "is no finite number", file("inf.txt", b"bank 1 inf\nfilm 1 2\n"));
    cases.add("no word of the headlines", 3, "none of the headlines'", file("foreign.txt", b"2 2\nBanque 1 2\nFilmes 3 4\n"));
    cases.add("a component that is no number", 3, "a component of `film` is no number", file("word.txt", b"2 2\nbank 1 2\nfilm 3 four\n"));
    cases.add("a line with too few components", 3, "`film` has 1 components, not 2", file("short.txt", b"2 2\nbank 1 2\nfilm 3\n"));
    cases.add(
        "a first line that is nothing",
        3,
        "neither a header nor a word and its vector",
        file("prose.txt", b"these are not vectors\n"),
    );
    cases.add("a word that does not end", 3, "", file("endless.bin", &[b"9 2\n".to_vec(), vec![b'x'; 1 << 20]].concat()));
    let whole = binary("1 2\n", &[entry("bank", &[1.0, 2.0])]);
    let packed = gzip(&whole);
    cases.add("half a gzip file", 3, "cannot read on", file("half.bin.gz", &packed[..packed.len() / 2]));
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    cases.add("a gzip file with a wrong checksum", 3, "cannot read on", file("crc.bin.gz", &flipped));
    cases.add("garbage behind a gzip member", 3, "cannot read on", file("tail.bin.gz", &[&packed[..], b"garbage garbage"].concat()));
    let sum = format!("embed.sha256={}", "0".repeat(64));
    let good = world.put("good.txt", b"bank 1 2 3\n");
    cases.add("another SHA-256 than is pinned", 3, "SHA-256 is", world.set(&[&format!("embed.source={}", good.display()), &sum]));
}

fn downloads(world: &World, cases: &mut Cases) {
    cases.group("Downloads");
    let url = |answer: &'static str| world.set(&[&format!("ingest.source={}", serve(answer))]);
    cases.add(
        "a server without the file",
        4,
        "the server answers 404",
        url("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "a server that forbids it",
        4,
        "the server answers 403",
        url("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "a server that is always busy",
        4,
        "the server answers 503 Service Unavailable, 5 times",
        url("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "a web page under the file's name",
        4,
        "a web page",
        url("HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\n<!DOCTYPE html><html>"),
    );
    cases.add(
        "redirects in a circle",
        4,
        "too many redirects",
        url("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "more than the disk has room for",
        4,
        "MB are still to come",
        url("HTTP/1.1 200 OK\r\nContent-Length: 900000000000000000\r\nConnection: close\r\n\r\nPK"),
    );
    let small = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndata";
    let sum = format!("ingest.sha256={}", "0".repeat(64));
    cases.add("another file than is pinned", 4, "SHA-256 is", world.set(&[&format!("ingest.source={}", serve(small)), &sum]));
    cases.add("what is no archive, downloaded", 3, "delete it to download it again", url(small));
    cases.add("nobody at the address", 4, "127.0.0.1:9", world.set(&["ingest.source=http://127.0.0.1:9/news.zip"]));
    cases.add("another protocol", 2, "cannot download by ftp", world.set(&["ingest.source=ftp://a.example/news.zip"]));
    cases.add("an address that is none", 2, "not a URL", world.set(&["ingest.source=http://"]));
    let secret = "ingest.source=http://me:secret@a example/news.zip?token=secret";
    cases.add("an address that is none, with secrets", 2, "not a URL", world.set(&[secret]));
    let mut offline = url(small);
    offline.arg("--offline");
    cases.add("a download where --offline forbids it", 4, "--offline forbids a download", offline);
}

fn artifacts(world: &World, cases: &mut Cases) {
    cases.group("Artifacts");
    let good = || part(&[1.0, 2.0, 3.0, 4.0], &[0, 3], 2);
    let train = |first: Vec<u8>| {
        let files = [("train.safetensors", first), ("valid.safetensors", good()), ("test.safetensors", good())];
        world.stage("train", "train.slp", "tensors", &files)
    };
    cases.add(
        "tensors that are not there",
        3,
        "an artifact of an earlier stage is missing",
        world.stage("train", "train.slp", "tensors", &[("x", vec![])]),
    );
    cases.add("an empty file of tensors", 3, "", train(Vec::new()));
    cases.add("tensors with a header that is longer than the file", 3, "", train([&u64::MAX.to_le_bytes()[..], b"{}"].concat()));
    cases.add("tensors with a header that is no JSON", 3, "", train(tensors("not json", b"")));
    let beyond = r#"{"X":{"dtype":"F32","shape":[1000000,300],"data_offsets":[0,1200000000]}}"#;
    cases.add("tensors that claim more than the file has", 3, "", train(tensors(beyond, &[0; 8])));
    let ids = r#""id":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"y":{"dtype":"I64","shape":[2],"data_offsets":[16,32]}"#;
    let double = tensors(&format!(r#"{{{ids},"X":{{"dtype":"F64","shape":[2,2],"data_offsets":[32,64]}}}}"#), &[0; 64]);
    cases.add("features of another type", 3, "array `X` is F64 [2, 2]", train(double));
    let vector = format!(r#"{{{ids},"X":{{"dtype":"F32","shape":[2],"data_offsets":[32,40]}}}}"#);
    cases.add("features that are no matrix", 3, "array `X` is F32 [2]", train(tensors(&vector, &[0; 40])));
    let alone = r#"{"X":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    cases.add("features without labels", 3, "", train(tensors(alone, &[0; 8])));
    cases.add("more rows than labels", 3, "array `id` is I64 [1], not I64 [2]", train(part(&[1.0, 2.0, 3.0, 4.0], &[0], 2)));
    cases.add("a label of 4", 3, "label 4 in row 1", train(part(&[1.0, 2.0, 3.0, 4.0], &[0, 4], 2)));
    cases.add("a label of -1", 3, "label -1 in row 0", train(part(&[1.0, 2.0, 3.0, 4.0], &[-1, 0], 2)));
    cases.add("a feature that is NaN", 3, "no finite number in row 1, column 0", train(part(&[1.0, 2.0, f32::NAN, 4.0], &[0, 1], 2)));
    cases.add("no rows at all", 3, "X is empty", train(part(&[], &[], 2)));
    cases.add("parts with different numbers of features", 3, "not F32 [n, 3]", train(part(&[1.0; 6], &[0, 1], 3)));
    let parquet = |file: &str| std::fs::read(world.artifacts.path().join(file)).expect("reads");
    let other = || world.stage("split", "split", "ingest", &[("headlines.parquet", parquet("embed/vocabulary.parquet"))]);
    cases.add("a table with other columns", 3, "headlines.parquet", other());
    let table = parquet("ingest/headlines.parquet");
    cases.add(
        "half a table",
        3,
        "headlines.parquet",
        world.stage("split", "split", "ingest", &[("headlines.parquet", table[..table.len() / 2].to_vec())]),
    );
    cases.add(
        "a table that is none",
        3,
        "headlines.parquet",
        world.stage("split", "split", "ingest", &[("headlines.parquet", b"no parquet".to_vec())]),
    );
    let mismatch = [
        ("vocabulary.parquet", parquet("embed/vocabulary.parquet")),
        ("vectors.safetensors", tensors(r#"{"vectors":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#, &[0; 8])),
    ];
    cases.add("another number of vectors than of words", 3, "words for 1 vectors", world.stage("tensors", "tensors", "embed", &mismatch));
    let mlp = world.artifacts.path().join("train.mlp/model.safetensors");
    cases.add(
        "starting weights of another net",
        3,
        "train.slp.init",
        world.set_to("train.slp", &[&format!("train.slp.init={}", mlp.display())]),
    );
    let page = world.put("init.safetensors", b"<html>");
    cases.add(
        "starting weights that are a web page",
        3,
        "train.slp.init",
        world.set_to("train.slp", &[&format!("train.slp.init={}", page.display())]),
    );

    cases.group("Bundles");
    let import = |path: &Path| world.xtask(&["cache", "import", &path.display().to_string()]);
    cases.add("a bundle that is not there", 3, "cannot read the bundle", import(&world.dir.path().join("nothing.knockline")));
    cases.add("a folder", 3, "this is a folder and no bundle", import(world.dir.path()));
    cases.add("a file that is no bundle", 3, "this is no bundle", import(&world.put("page.knockline", b"<html>")));
    let whole = world.dir.path().join("whole.knockline");
    world.artifacts.run(&["cache", "export", &whole.display().to_string(), "ingest"]).ok();
    let bytes = std::fs::read(&whole).expect("a bundle");
    cases.add("half a bundle", 3, "damaged or cut off", import(&world.put("half.knockline", &bytes[..bytes.len() / 2])));
    let mut flipped = bytes.clone();
    // The frame ends in a checksum (RFC 8878, section 3.1.1).
    *flipped.last_mut().expect("bytes") ^= 4;
    cases.add("a bundle with a wrong checksum", 3, "get the bundle again", import(&world.put("flipped.knockline", &flipped)));
}

fn options(world: &World, cases: &mut Cases) {
    cases.group("Configuration");
    for (what, sets, says) in [
        ("an unknown option", &["train.mlp.lrr=1"][..], "did you mean `lr`?"),
        ("an unknown node", &["trian.mlp.lr=1"], "did you mean `train.mlp.lr`?"),
        ("an option without its node", &["batch_sizes=[1]"], "is an option of `train.sweep`"),
        ("no value", &["train.mlp.lr"], "there is no `=`"),
        ("a word for a number", &["train.mlp.lr=fast"], "must be a number"),
        ("a fraction for a whole number", &["train.mlp.epochs=1.5"], "must be a whole number"),
        ("a negative learning rate", &["train.mlp.lr=-1"], "must be more than 0"),
        ("a learning rate that is no number", &["train.mlp.lr=nan"], "must be a finite number"),
        ("batches of no rows", &["train.slp.batch_size=0"], "must be at least 1"),
        ("a share of more than all", &["split.test_size=1.5"], "less than 1"),
        ("an unknown choice", &["tensors.empty=zeros"], "did you mean `zero`?"),
        ("vectors of no components", &["embed.source=hash:0"], "a number from 1 to 65536"),
        ("a checksum that is none", &["ingest.sha256=abc"], "64 hexadecimal digits"),
        ("the sample among mirrors", &["ingest.source=[\"sample\", \"http://a.example/b.zip\"]"], "a list takes paths and URLs only"),
        ("the same seed twice", &["train.mlp.seeds=[1, 1]"], "has 1 twice"),
        ("annealing that raises the rate", &["train.mlp.lr=1e-6"], "annealing lowers the rate"),
        ("momentum of an optimizer that has none", &["train.mlp.optimizer=adamw", "train.mlp.momentum=0.9"], "means nothing unless"),
        ("three mistakes at once", &["train.mlp.lr=-1", "split.test_size=2", "x=1"], "3 mistakes"),
    ] {
        cases.add(what, 2, says, world.set(sets));
    }
    cases.add("an unknown profile", 2, "did you mean `nlp100`?", world.xtask(&["pipeline", "--profile", "nlp10"]));
    cases.add("a profile that is a path", 2, "there is no profile", world.xtask(&["pipeline", "--profile", "../nlp100"]));
    cases.add("an unknown device", 2, "there is no device `gpu`", world.xtask(&["pipeline", "--device", "gpu"]));
    cases.add("an unknown node to run", 2, "did you mean `train.mlp`?", world.xtask(&["pipeline", "--only", "train.mpl"]));
    cases.add(
        "a forced node that is not selected",
        2,
        "is forced but not selected",
        world.xtask(&["pipeline", "--to", "split", "--force", "report"]),
    );
    cases.add(
        "a learning rate that blows the net up",
        1,
        "the loss is no finite number",
        world.set_to("train.slp", &["train.slp.lr=1e38"]),
    );

    cases.group("Headlines to classify");
    let predict = |args: &[&str]| world.xtask(&[&["predict"], args].concat());
    cases.add("a run that is none", 2, "", predict(&["--run", "train.mpl", "x"]));
    cases.add("a run that has not been trained", 2, "there is no result of `train.slp`", predict(&["--run", "train.slp", "x"]));
    let nothing = world.dir.path().join("nothing.txt").display().to_string();
    cases.add("a file that is not there", 3, "nothing.txt", predict(&["--file", &nothing]));
    let latin = world.put("latin.txt", b"Bank raises forecast\nCaf\xe9 opens\n").display().to_string();
    cases.add("a file that is not UTF-8", 3, "latin.txt", predict(&["--file", &latin]));
    let folder = world.dir.path().display().to_string();
    cases.add("a folder", 3, "", predict(&["--file", &folder]));
}

/// The parts of an error as it is shown: what, where, and what to do.
fn parts(err: &str) -> Option<[String; 3]> {
    let start = err.rfind("\nerror: ").map_or_else(|| err.starts_with("error: ").then_some(0), |at| Some(at + 1))?;
    let error = &err[start + 7..];
    let (what, rest) = error.split_once("\n  where: ")?;
    let (place, hint) = rest.split_once("\n  hint:  ")?;
    Some([what, place, hint].map(|part| part.trim().to_owned()))
}

/// Without what differs from run to run: folders and ports.
fn plain(text: &str, world: &World) -> String {
    let mut text =
        text.replace(&world.dir.path().display().to_string(), "DIR").replace(&world.artifacts.path().display().to_string(), "ARTIFACTS");
    while let Some(at) =
        text.find("127.0.0.1:").filter(|at| text[at + 10..].starts_with(|c: char| c.is_ascii_digit()) && !text[at + 10..].starts_with("9/"))
    {
        let end = text[at + 10..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| at + 10 + n);
        text.replace_range(at..end, "127.0.0.1");
    }
    // The name of a download begins with a digest of its address, and a disk has room for something else every time.
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if let Some(at) = word.find("downloads/") {
            word.replace_range(at + 10..at + 22, "…");
        }
    }
    if let Some(at) = words.windows(2).position(|w| w[0] == "room" && w[1] == "for") {
        words[at + 2] = "…".into();
    }
    words.join(" ").replace('\n', " ").replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn bad_input_is_refused_in_words_and_nothing_made_is_lost() {
    let world = World::new();
    let mut cases = Cases::default();
    archives(&world, &mut cases);
    vectors(&world, &mut cases);
    downloads(&world, &mut cases);
    artifacts(&world, &mut cases);
    options(&world, &mut cases);
    let before = world.artifacts.bytes();

    let mut page = String::from(
        "# Bad input\n\nWhat knockline says to bad input. `tests/tests/hostile.rs` makes all of this, compares it with this page, and holds that no result made\nearlier is touched; `KNOCKLINE_BLESS=1 cargo test --package e2e --test hostile` writes the page. The exit status is 2 for the command line or\nconfiguration, 3 for input data, 4 for a download, 1 for the rest.\n",
    );
    let (mut count, mut wrong) = (0, String::new());
    for (group, cases) in cases.0 {
        let _ = write!(page, "\n## {group}\n\n| what | exit | what it says | where | what to do |\n| --- | --- | --- | --- | --- |\n");
        for Case { what, code, says, command } in cases {
            count += 1;
            let ended = Ended::of(command);
            let Some([error, place, hint]) = parts(&ended.err).filter(|_| ended.code == Some(code)) else {
                let _ = writeln!(wrong, "{group}, {what}: exit {:?}, not {code}\n{}\n", ended.code, ended.err);
                continue;
            };
            if ![&error, &place, &hint].iter().any(|part| part.contains(&says)) || error.is_empty() || place.is_empty() || hint.is_empty() {
                let _ = writeln!(wrong, "{group}, {what}: no `{says}` in\n{}\n", ended.err);
            }
            for secret in ["secret", "panicked", "this is a bug"] {
                if ended.err.contains(secret) || ended.out.contains(secret) {
                    let _ = writeln!(wrong, "{group}, {what}: `{secret}` in\n{}\n", ended.err);
                }
            }
            let row = [&error, &place, &hint].map(|part| plain(part, &world));
            let _ = writeln!(page, "| {what} | {code} | {} | {} | {} |", row[0], row[1], row[2]);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 80, "{count} cases");
    let after = world.artifacts.bytes();
    assert!(before == after, "earlier artifacts were touched");
    let again = Ended::of(world.xtask(&["pipeline", "--to", "train.mlp"])).ok();
    assert_eq!(again.nodes("status", "hit").len(), 5, "{}", again.out);

    // Systems differ in their own words.
    if cfg!(target_os = "linux") {
        let file = root().join("docs/bad-input.md");
        if std::env::var_os("KNOCKLINE_BLESS").is_some() {
            std::fs::write(&file, &page).expect("writes");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let changed: Vec<&str> = page.lines().filter(|line| !kept.contains(line)).collect();
        assert!(page == kept, "docs/bad-input.md is no longer what is said; see the top of this file\n{}", changed.join("\n"));
    }
}

#[test]
fn bad_rows_that_are_allowed_are_counted_and_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("news.csv");
    std::fs::write(&path, format!("x\n{}1\tagain\tu\tReuters\tb\ts\th\t1\n", table(400))).expect("writes");
    let artifacts = Artifacts::with(&[&format!("ingest.source={}", path.display()), "ingest.max_bad_rows=2"]);
    let ended = artifacts.run(&["pipeline", "--to", "ingest"]).ok();
    assert!(ended.err.contains("left out: row 1 has 1 columns, not 8"), "{}", ended.err);
    let summary = artifacts.json("ingest/summary.json");
    assert_eq!((summary["kept"].as_u64(), summary["bad_rows"].as_u64()), (Some(400), Some(2)));
    assert_eq!(summary["bad"][1], "row 402 has the id 1, as a row before it");
}

#[test]
fn what_was_downloaded_stands_in_the_manifest_without_secrets() {
    let body = zip_of(&[("newsCorpora.csv", table(400).as_bytes())]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes(), &body].concat();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let _ = lines.take_while(|line| !line.is_empty()).count();
            let _ = stream.write_all(&answer);
        }
    });
    let source = format!("ingest.source=http://me:secret@{address}/news.zip?token=secret");
    let artifacts = Artifacts::with(&[&source]);
    artifacts.run(&["pipeline", "--to", "ingest"]).ok();
    let manifest = artifacts.json("ingest/manifest.json");
    let download = &manifest["downloads"][0];
    assert_eq!(download["url"], format!("http://{address}/news.zip"));
    assert_eq!(download["bytes"].as_u64(), Some(body.len() as u64));
    assert_eq!(download["sha256"].as_str().map(str::len), Some(64));
    let mut todo = vec![artifacts.path().to_owned()];
    while let Some(folder) = todo.pop() {
        for path in std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                todo.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("reads");
                assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{}", path.display());
            }
        }
    }
    // What was downloaded is enough offline.
    artifacts.run(&["pipeline", "--to", "ingest", "--force", "ingest", "--offline"]).ok();
}
