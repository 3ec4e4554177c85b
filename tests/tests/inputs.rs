//! The user's data: archives, vector files, downloads; and errors in them.

#![allow(clippy::indexing_slicing, clippy::format_push_string)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use flate2::write::GzEncoder;

use e2e::{Artifacts, Ended, table, zip_of};

fn source(path: &std::path::Path) -> String {
    format!("ingest.source={}", path.display())
}

/// A folder with an archive, its table, and vectors for some of its words in three formats.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let put =
        |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("writes");
    let text = table(400);
    put("news.csv", text.as_bytes());
    put(
        "news.zip",
        &zip_of(&[
            ("__MACOSX/._newsCorpora.csv", b"no"),
            ("newsCorpora.csv", text.as_bytes()),
            ("readme.txt", b"hello"),
        ]),
    );
    let words = ["markets", "bank", "software", "phone", "film", "star", "virus", "drug"];
    let (mut lines, mut binary) =
        (format!("{} 4\n", words.len()), format!("{} 4\n", words.len()).into_bytes());
    for (i, word) in words.iter().enumerate() {
        let vector: Vec<f32> =
            (0..4_u8).map(|j| if i / 2 == usize::from(j) { 1.5 } else { -0.25 }).collect();
        let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
        lines += &format!("{word} {}\n", numbers.join(" "));
        binary.extend(word.bytes().chain([b' ']));
        binary.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    put("vectors.txt", lines.as_bytes());
    put("vectors.bin", &binary);
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&binary).expect("packs");
    put("vectors.bin.gz", &packed.finish().expect("packs"));
    dir
}

#[test]
fn a_zip_and_its_table_and_every_vector_format_give_the_same_features() {
    let files = files();
    let mut seen = Vec::new();
    for (archive, vectors) in
        [("news.zip", "vectors.bin"), ("news.csv", "vectors.txt"), ("news.zip", "vectors.bin.gz")]
    {
        let artifacts = Artifacts::with(&[
            &source(&files.path().join(archive)),
            &format!("embed.source={}", files.path().join(vectors).display()),
        ]);
        artifacts.run(&["pipeline", "--to", "tensors"]).ok();
        let coverage = artifacts.json("embed/coverage.json");
        assert_eq!(
            (coverage["dimension"].as_u64(), coverage["distinct_words_known"].as_u64()),
            (Some(4), Some(8))
        );
        let bytes = artifacts.bytes();
        seen.push(
            ["tensors/train.safetensors", "tensors/test.safetensors"].map(|f| bytes[f].clone()),
        );
    }
    assert!(seen.iter().all(|features| *features == seen[0]));
}

#[test]
fn a_key_depends_on_a_file_s_content_and_not_on_its_path() {
    let (one, two) = (files(), files());
    let key = |dir: &tempfile::TempDir| {
        let set = source(&dir.path().join("news.zip"));
        Ended::of(e2e::xtask(&["cache", "key", "split", "--set", &set])).ok().out
    };
    assert_eq!(key(&one), key(&two));
    assert_eq!(key(&one).trim().len(), 64);
    std::fs::write(
        two.path().join("news.zip"),
        zip_of(&[("newsCorpora.csv", table(399).as_bytes())]),
    )
    .expect("writes");
    assert_ne!(key(&one), key(&two));
}

#[test]
fn grouping_by_story_keeps_stories_whole() {
    let files = files();
    let artifacts =
        Artifacts::with(&[&source(&files.path().join("news.csv")), "split.group_by=story"]);
    artifacts.run(&["pipeline", "--to", "split"]).ok();
    let summary = artifacts.json("split/summary.json");
    let size = |part: &str| {
        summary[part]
            .as_object()
            .expect("counts")
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum::<u64>()
    };
    assert_eq!(["train", "valid", "test"].map(size).iter().sum::<u64>(), 400);
    assert!((300..=340).contains(&size("train")), "{summary}");
}

/// Serves `body` to every request on loopback, but cuts off the first answer; returns the URL.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/news.zip", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut lines =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let start = lines.by_ref().take_while(|l| !l.is_empty()).filter_map(|l| {
                let lower = l.to_ascii_lowercase();
                lower.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
            });
            let start = start.last().unwrap_or(0);
            let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
            let rest = &body[start..];
            let sent = if number == 0 { rest.len() / 2 } else { rest.len() };
            let mut stream = stream;
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nETag: \"x\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                rest.len()
            );
            let _ = stream.write_all(&rest[..sent]);
        }
    });
    url
}

#[test]
fn an_archive_is_downloaded_and_an_interrupted_download_is_resumed() {
    let url = serve(zip_of(&[("newsCorpora.csv", table(400).as_bytes())]));
    let artifacts = Artifacts::with(&[&format!("ingest.source={url}")]);
    let ended = artifacts.run(&["pipeline", "--to", "ingest"]).ok();
    assert!(ended.err.contains("the connection"), "{}", ended.err);
    assert_eq!(artifacts.json("ingest/summary.json")["kept"], 400);
    assert_eq!(artifacts.json("ingest/summary.json")["source"], "news.zip");
}

/// Runs the pipeline with the bad options `sets`, and checks that it exits with `code`, that the
/// message has all `parts`, a place and a hint, and that no earlier result is lost.
fn refused(sets: &[&str], code: i32, parts: &[&str]) {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    let before = artifacts.bytes();
    // One node at a time: with more, another node could finish while one fails.
    let mut args = vec!["pipeline", "--jobs", "1"];
    args.extend(sets.iter().flat_map(|s| ["--set", s]));
    let ended = artifacts.run(&args);
    assert_eq!(ended.code, Some(code), "{}", ended.err);
    for part in parts.iter().chain(&["where:", "hint:"]) {
        assert!(ended.err.contains(part), "no `{part}` in {}", ended.err);
    }
    let after = artifacts.bytes();
    // Results that the run made before it failed may be current; earlier ones are in the store.
    let back = artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    assert_eq!(back.nodes("status", "hit").len(), 4, "{}", back.out);
    assert!(!after.is_empty() && artifacts.bytes() == before);
}

#[test]
fn wrong_archives_are_refused_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        source(&path)
    };
    let news = "ingest.format=news";
    let good = table(400);
    refused(
        &[&source(&dir.path().join("nothing.zip"))],
        3,
        &["cannot read the source", "nothing.zip"],
    );
    refused(&[&put("page.zip", b"<!DOCTYPE html><html>")], 3, &["a web page"]);
    refused(
        &[&put("other.zip", &zip_of(&[("a.csv", b"x")])), news],
        3,
        &["has no newsCorpora.csv; it has a.csv"],
    );
    let archive = zip_of(&[("newsCorpora.csv", good.as_bytes())]);
    refused(&[&put("cut.zip", &archive[..archive.len() / 2])], 3, &["cannot read the zip archive"]);
    refused(
        &[&put("short.csv", good.replacen("\tReuters", "", 1).as_bytes()), news],
        3,
        &["row 1 has 7 columns, not 8"],
    );
    refused(&[&put("one.csv", table(1).as_bytes())], 3, &["category `t` has only 1 headline"]);
    refused(
        &[&put("rows.csv", good.as_bytes()), "ingest.expect.rows=422937"],
        3,
        &["400 rows, not the expected 422937"],
    );
    refused(&["ingest.source=http://127.0.0.1:9/news.zip"], 4, &["5 times", "127.0.0.1:9"]);
}

#[test]
fn wrong_options_are_refused_before_anything_runs() {
    refused(
        &["train.mlp.lr=-1", "split.test_size=1.5", "tensors.empty=zeros"],
        2,
        &["3 mistakes", "train.mlp.lr", "split.test_size", "did you mean `zero`?"],
    );
    refused(
        &["train.mlp.lr=1e-6", "ingest.sha256=abc"],
        2,
        &["annealing lowers the rate", "64 hexadecimal digits"],
    );
    refused(&["embed.source=hash:0"], 2, &["must have a number from 1 to 65536 after `hash:`"]);
    let unknown = Ended::of(e2e::xtask(&["pipeline", "--profile", "nlp10"]));
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("did you mean `nlp100`?"), "{}", unknown.err);
}

#[test]
fn the_error_for_a_too_large_learning_rate_names_epoch_and_batch() {
    refused(&["train.slp.lr=1e38"], 1, &["the loss is not finite", "train.slp, epoch 1, batch "]);
    // With one step per epoch, the loss before the step is finite and the weights after it are not.
    refused(
        &["train.slp.lr=1e39", "train.slp.batch_size=100000"],
        1,
        &["train.slp, epoch 1, batch 1"],
    );
    // A final ReLU turns NaN into 0, so a diverged net would have a loss of ln 4.
    let artifacts = Artifacts::new();
    for option in ["train.mlp.relu_out=true", "train.mlp.relu_out=false"] {
        let ended = artifacts.run(&[
            "pipeline",
            "--to",
            "train.mlp",
            "--set",
            "train.mlp.lr=1e30",
            "--set",
            option,
        ]);
        assert!(
            ended.code == Some(1) && ended.err.contains("train.mlp, epoch 1, batch "),
            "{}",
            ended.err
        );
    }
}
