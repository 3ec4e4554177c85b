//! Bad input of every kind, as a user meets it: the error, the exit status, and that no earlier
//! result is touched.
//!
//! docs/bad-input.md has the table of all cases; with KNOCKLINE_BLESS=1 this test writes it.

#![allow(clippy::too_many_lines, reason = "a function is a table of cases")]
#![allow(clippy::indexing_slicing, clippy::format_push_string)]

mod artifacts;
mod rest;
mod sources;
mod texts;
mod world;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;

use e2e::{Artifacts, Ended, root, table, zip_of};

use crate::world::{Case, Cases, World};

/// The parts of a printed error: what, where, and the hint.
fn parts(err: &str) -> Option<[String; 3]> {
    let start = err
        .rfind("\nerror: ")
        .map_or_else(|| err.starts_with("error: ").then_some(0), |at| Some(at + 1))?;
    let error = &err[start + 7..];
    let (what, rest) = error.split_once("\n  where: ")?;
    let (place, hint) = rest.split_once("\n  hint:  ")?;
    Some([what, place, hint].map(|part| part.trim().to_owned()))
}

/// Removes what differs from run to run: folders, ports, names of downloads, free space.
fn plain(text: &str, world: &World) -> String {
    let mut text = text
        .replace(&world.dir.path().display().to_string(), "DIR")
        .replace(&world.artifacts.path().display().to_string(), "ARTIFACTS");
    while let Some(at) = text.find("127.0.0.1:").filter(|at| {
        text[at + 10..].starts_with(|c: char| c.is_ascii_digit())
            && !text[at + 10..].starts_with("9/")
    }) {
        let end =
            text[at + 10..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| at + 10 + n);
        text.replace_range(at..end, "127.0.0.1");
    }
    // The name of a download begins with a digest of its address, which includes the port; the free
    // space of a disk changes.
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if let Some(at) = word.find("downloads/") {
            word.replace_range(at + 10..at + 22, "…");
        }
    }
    if let Some(at) = words.windows(2).position(|w| w[0] == "MB" && w[1] == "free") {
        words[at - 1] = "…".into();
    }
    words
        .join(" ")
        .replace('\n', " ")
        .replace('|', "\\|")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn bad_input_is_refused_with_an_explanation_and_no_result_is_lost() {
    let world = World::new();
    let mut cases = Cases::default();
    sources::archives(&world, &mut cases);
    texts::texts(&world, &mut cases);
    sources::vectors(&world, &mut cases);
    rest::downloads(&world, &mut cases);
    artifacts::artifacts(&world, &mut cases);
    rest::options(&world, &mut cases);
    let before = world.artifacts.bytes();

    let mut page = String::from(
        "# Bad input\n\nHow knockline answers bad input. The test `tests/tests/hostile` makes every input below, compares the errors with this page, and checks that\nno earlier result is touched; `KNOCKLINE_BLESS=1 cargo test --package e2e --test hostile` writes the page. The exit status is 2 for errors in the\ncommand line or the configuration, 3 for input data, 4 for downloads, and 1 for all other errors.\n",
    );
    let (mut count, mut wrong) = (0, String::new());
    for (group, cases) in cases.0 {
        let _ = write!(
            page,
            "\n## {group}\n\n| input | exit | error | where | hint |\n| --- | --- | --- | --- | --- |\n"
        );
        for Case { what, code, says, command } in cases {
            count += 1;
            let ended = Ended::of(command);
            let Some([error, place, hint]) = parts(&ended.err).filter(|_| ended.code == Some(code))
            else {
                let _ = writeln!(
                    wrong,
                    "{group}, {what}: exit {:?}, not {code}\n{}\n",
                    ended.code, ended.err
                );
                continue;
            };
            if ![&error, &place, &hint].iter().any(|part| part.contains(&says))
                || error.is_empty()
                || place.is_empty()
                || hint.is_empty()
            {
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

    // Messages of the operating system differ elsewhere.
    if cfg!(target_os = "linux") {
        let file = root().join("docs/bad-input.md");
        if std::env::var_os("KNOCKLINE_BLESS").is_some() {
            std::fs::write(&file, &page).expect("writes");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let changed: Vec<&str> = page.lines().filter(|line| !kept.contains(line)).collect();
        assert!(
            page == kept,
            "docs/bad-input.md is out of date; the top of this file tells how to write it\n{}",
            changed.join("\n")
        );
    }
}

#[test]
fn allowed_bad_rows_are_counted_and_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("news.csv");
    std::fs::write(&path, format!("x\n{}1\tagain\tu\tReuters\tb\ts\th\t1\n", table(400)))
        .expect("writes");
    let artifacts = Artifacts::with(&[
        &format!("ingest.source={}", path.display()),
        "ingest.max_bad_rows=2",
        "ingest.format=news",
    ]);
    let ended = artifacts.run(&["pipeline", "--to", "ingest"]).ok();
    assert!(ended.err.contains("left out: row 1 has 1 columns, not 8"), "{}", ended.err);
    let summary = artifacts.json("ingest/summary.json");
    assert_eq!((summary["kept"].as_u64(), summary["bad_rows"].as_u64()), (Some(400), Some(2)));
    assert_eq!(summary["bad"][1], "row 402 repeats the id 1 of an earlier row");
}

#[test]
fn the_manifest_lists_downloads_without_secrets() {
    let body = zip_of(&[("newsCorpora.csv", table(400).as_bytes())]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
            .as_bytes(),
        &body,
    ]
    .concat();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
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
        for path in
            std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path())
        {
            if path.is_dir() {
                todo.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("reads");
                assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{}", path.display());
            }
        }
    }
    // Offline, the downloaded file is used.
    artifacts.run(&["pipeline", "--to", "ingest", "--force", "ingest", "--offline"]).ok();
}
