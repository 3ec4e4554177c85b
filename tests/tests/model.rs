//! A model that leaves the house: `cargo xtask model`, and `knockline` with the file alone.

#![allow(clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Artifacts, Ended, root, xtask};
use serde_json::Value;

/// The runs whose models are compared with `predict`.
const RUNS: [&str; 6] =
    ["train.best", "train.slp", "train.mlp", "train.linear", "train.bow", "train.dan"];

const TEXTS: [&str; 5] = [
    "Bank raises forecast after record quarter",
    "Cannes jury plans surprise move",
    "Zzqqx",
    "Fed’s İSTANBUL rates: 'too low'",
    "",
];

fn artifacts() -> Artifacts {
    Artifacts::with(&["train.mlp.epochs=2", "train.bow.net=\"bow\"", "train.dan.net=\"dan\""])
}

/// Exports a run into the artifacts' folder.
fn exported(artifacts: &Artifacts, run: &str, more: &[&str]) -> PathBuf {
    let path = artifacts.path().join(format!("{run}.knock"));
    let file = path.to_str().expect("UTF-8");
    artifacts.run(&[&["model", "export", run, file], more].concat()).ok();
    path
}

/// Runs `knockline` in an empty folder: it needs nothing but the model.
fn knockline(args: &[&str]) -> Ended {
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(root().join("target/debug/knockline"));
    command.current_dir(dir.path()).args(args).stdin(std::process::Stdio::null());
    Ended::of(command)
}

/// Builds `knockline` as a user's first command does.
fn built(model: &Path) -> Value {
    let info = xtask(&["model", "info", model.to_str().expect("UTF-8"), "--json"]);
    Ended::of(info).ok().json().remove(0)
}

fn odds(answer: &Value, name: &str) -> Vec<(String, f64)> {
    let top = answer["top"].as_array().expect("a list");
    let mut all: Vec<(String, f64)> = top
        .iter()
        .map(|odds| {
            let label = odds[name].as_str().expect("a label").to_owned();
            (label, odds["probability"].as_f64().expect("a number"))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn a_model_gives_the_answers_of_its_run_without_the_artifacts() {
    let artifacts = artifacts();
    artifacts.run(&["pipeline"]).ok();
    for run in RUNS {
        let model = exported(&artifacts, run, &["--uncalibrated"]);
        let info = built(&model);
        assert_eq!(info["description"]["run"], run);
        let key = artifacts.json(&format!("{run}/manifest.json"))["key"].clone();
        assert_eq!(info["description"]["keys"][run], key);
        let path = model.to_str().expect("UTF-8");
        let want = artifacts.run(&[&["predict", "--run", run], &TEXTS[..]].concat()).ok();
        let args = [&["predict", path, "--json", "--"], &TEXTS[..]].concat();
        let got = knockline(&args).ok();
        let (want, got) = (want.json(), got.json());
        assert_eq!((want.len(), got.len()), (TEXTS.len(), TEXTS.len()));
        for (want, got) in want.iter().zip(got) {
            assert_eq!(want["title"], got["text"]);
            assert_eq!(
                (&want["category"], &want["words"], &want["words_known"]),
                (&got["label"], &got["words"], &got["words_known"]),
                "{run} {}",
                want["title"]
            );
            let (want, got) = (odds(want, "category"), odds(&got, "label"));
            assert_eq!(want.len(), got.len());
            for (want, got) in want.iter().zip(got) {
                assert_eq!(want.0, got.0);
                assert!((want.1 - got.1).abs() < 5e-6, "{run}: {want:?} {got:?}");
            }
        }
    }
    // The score on test is the run's own, from the parquet table of `split`.
    let model = artifacts.path().join("train.best.knock");
    let model = model.to_str().expect("UTF-8");
    let test = artifacts.path().join("split/test.parquet");
    let test = test.to_str().expect("UTF-8");
    let args = ["test", model, test, "--label-column", "category", "--json"];
    let figures = knockline(&args).ok().json().remove(0);
    let score = &artifacts.json("train.best/metrics.json")["test"];
    for name in ["accuracy", "loss"] {
        let [is, was] = [&figures[name], &score[name]].map(|v| v.as_f64().expect("a number"));
        assert!((is - was).abs() < 1e-5, "{name}: {is} {was}");
    }
    // A smaller model of fewer words.
    let whole = std::fs::metadata(model).expect("a file").len();
    let small = exported(&artifacts, "train.slp", &["--quantize", "int8", "--words", "100"]);
    let info = built(&small);
    assert_eq!(info["description"]["words"]["count"], 100);
    assert!(std::fs::metadata(&small).expect("a file").len() < whole / 10);
    let words = knockline(&["info", small.to_str().expect("UTF-8"), "--words"]).ok().out;
    assert_eq!(words.lines().count(), 100);
    let card = knockline(&["card", model]).ok().out;
    let head = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    let head = head.expect("a YAML head").0;
    assert!(head.contains("pipeline_tag: text-classification") && card.contains("| test |"));
}

#[test]
fn files_come_back_with_a_prediction_for_each_row() {
    let artifacts = artifacts();
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    let model = exported(&artifacts, "train.slp", &[]);
    built(&model);
    let model = model.to_str().expect("UTF-8");
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("UTF-8").to_owned()
    };
    let csv =
        file("x.csv", "\u{feff}id,title\r\n1,\"Bank, \"\"raises\"\" forecast\"\r\n2,Zzqqx\r\n");
    let out = knockline(&["predict", model, "--file", &csv]).ok().out;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "id,title,predicted,probability");
    assert!(lines[1].starts_with("1,\"Bank, \"\"raises\"\" forecast\",b,0."), "{}", lines[1]);
    assert_eq!(lines[2], "2,Zzqqx,,");
    let tsv = file("x.tsv", "b\tBank \"raises forecast\ne\tCannes jury\n");
    let args =
        ["test", model, &tsv, "--no-header", "--label-column", "1", "--text-column", "2", "--json"];
    let figures = knockline(&args).ok().json().remove(0);
    assert_eq!((&figures["rows"], &figures["right"]), (&2.into(), &2.into()));
    let fasttext = file("x.txt", "__label__b Bank raises forecast\n\n__label__e Cannes jury\n");
    let figures = knockline(&["test", model, &fasttext, "--json"]).ok().json().remove(0);
    assert_eq!(figures["right"], 2);
    let row = "{\"z\": 1.50, \"text\": \"Bank raises\", \"id\": 7";
    let jsonl = file("x.jsonl", &format!("{row} }}\n\n{{\"text\": \"Cannes jury\"}}\n"));
    let ended = knockline(&["predict", model, "--file", &jsonl, "--top-k", "1"]).ok();
    assert!(ended.out.starts_with(&format!("{row},\"prediction\":{{")), "{}", ended.out);
    let rows = ended.json();
    assert_eq!((&rows[0]["id"], &rows[0]["prediction"]["label"]), (&7.into(), &"b".into()));
    assert_eq!(rows[1]["prediction"]["label"], "e");
    let parquet = dir.path().join("x.parquet");
    let parquet = parquet.to_str().expect("UTF-8");
    let table = artifacts.path().join("split/test.parquet");
    let table = table.to_str().expect("UTF-8");
    knockline(&["predict", model, "--file", table, "--output", parquet]).ok();
    // The answers are labels of the same table.
    let args = ["test", model, parquet, "--label-column", "predicted", "--json"];
    let figures = knockline(&args).ok().json().remove(0);
    assert_eq!((&figures["rows"], figures["accuracy"].as_f64()), (&415.into(), Some(1.0)));
    // A file may be replaced by its answers.
    let copy = file("copy.csv", "title\nBank raises\n");
    knockline(&["predict", model, "--file", &copy, "--output", &copy]).ok();
    let text = std::fs::read_to_string(&copy).expect("reads");
    assert!(text.starts_with("title,predicted,probability\nBank raises,b,"), "{text}");
    // But only if all its rows are answered, and stand beside the answers.
    let bad = file("bad.csv", "title,id\nBank raises,1\nx\n");
    let ended = knockline(&["predict", model, "--file", &bad, "--output", &bad]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert_eq!(std::fs::read_to_string(&bad).expect("reads"), "title,id\nBank raises,1\nx\n");
    let made = std::fs::read_to_string(format!("{bad}.partial")).expect("reads");
    assert!(made.lines().count() == 2 && made.contains("Bank raises,1,b,"), "{made}");
    let lines = file("lines.txt", "Bank raises\n");
    let ended = knockline(&["predict", model, "--file", &lines, "--output", &lines]);
    assert!(
        ended.code == Some(2) && ended.err.contains("the output is the input"),
        "{}",
        ended.err
    );
    assert_eq!(std::fs::read_to_string(&lines).expect("reads"), "Bank raises\n");
    // The output's name says what it is, whatever the input was.
    let csv = file("answers.csv", "");
    let two = file("two.txt", "Bank, \"raises\"\nZzqqx\n");
    knockline(&["predict", model, "--file", &two, "--output", &csv]).ok();
    let text = std::fs::read_to_string(&csv).expect("reads");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2]), ("text,predicted,probability", "Zzqqx,,"));
    assert!(lines[1].starts_with("\"Bank, \"\"raises\"\"\",b,0."), "{text}");
    let jsonl = file("answers.jsonl", "");
    knockline(&["predict", model, "--file", table, "--output", &jsonl]).ok();
    let text = std::fs::read_to_string(&jsonl).expect("reads");
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert!(first["text"].is_string() && text.lines().count() == 415, "{first}");
    let tsv = dir.path().join("answers.tsv");
    let tsv = tsv.to_str().expect("UTF-8");
    let ended = knockline(&["predict", model, "--file", &two, "--output", tsv]);
    assert!(ended.code == Some(2) && ended.err.contains("TSV has no quotes"), "{}", ended.err);
    // A column that is there already is not replaced.
    let again = knockline(&["predict", model, "--file", parquet, "--output", parquet]);
    assert!(again.code == Some(3) && again.err.contains("is there already"), "{}", again.err);
    // No answer is better than an unlikely one.
    let sure = knockline(&["predict", model, "--json", "--min-probability", "1", "Bank quarter"]);
    assert_eq!(sure.ok().json()[0]["label"], Value::Null);
    let args = ["explain", model, "--json", "Bank raises forecast"];
    let explained = &knockline(&args).ok().json()[0]["explanation"];
    assert_eq!(explained["method"], "exact");
    assert_eq!(explained["words"].as_array().map(Vec::len), Some(3));
    let unsure = knockline(&["predict", model, "--min-probability", "1", "Bank quarter"]).ok().out;
    assert!(unsure.contains("unsure") && !unsure.contains("none known"), "{unsure}");
    let plain = knockline(&["predict", model, "--explain", "Bank raises forecast"]).ok().out;
    assert!(plain.starts_with("b ") && plain.contains("Bank("), "{plain}");
}

#[test]
fn bad_files_are_named() {
    let artifacts = artifacts();
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    let path = exported(&artifacts, "train.slp", &[]);
    built(&path);
    let model = path.to_str().expect("UTF-8");
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |name: &str, bytes: &[u8], args: &[&str], code: i32, want: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).expect("writes");
        let file = file.to_str().expect("UTF-8");
        let args: Vec<&str> = args.iter().map(|a| if *a == "FILE" { file } else { a }).collect();
        let ended = knockline(&args);
        assert_eq!(ended.code, Some(code), "{args:?} {}{}", ended.out, ended.err);
        assert!(ended.err.contains(want), "{want}: {}", ended.err);
        assert!(ended.err.contains("where:") && ended.err.contains("hint:"), "{}", ended.err);
        ended.out
    };
    let predict = ["predict", model, "--file", "FILE"];
    let test = ["test", model, "FILE"];
    refused("a.csv", b"id,words\n1,x\n", &predict, 3, "no column of texts; there are id, words");
    refused("a.csv", b"title\nx\n", &test, 3, "no column of labels");
    refused("a.csv", b"title,id\nx\n", &predict, 3, "found record with 1 fields");
    let said = refused("a.csv", b"title\ngood\n\xff\n", &predict, 3, "UTF-8");
    assert_eq!(said.lines().count(), 2, "the row before is answered: {said}");
    refused("a.txt", b"__label__b __label__t x\n", &test, 3, "more than one label");
    let said = refused("a.jsonl", b"{\"text\": \"x\"}\n{", &predict, 3, "a.jsonl, line 2");
    assert_eq!(said.lines().count(), 1, "{said}");
    refused("a.jsonl", b"{\"text\": [1]}\n", &predict, 3, "[1] is not a text");
    refused("a.jsonl", b"[]\n", &predict, 3, "not a JSON object");
    let row = b"{\"text\": \"x\", \"prediction\": 1}\n";
    refused("a.jsonl", row, &predict, 3, "`prediction` is there already");
    refused("a.csv", b"title,probability\nx,1\n", &predict, 3, "`probability` is there already");
    // It is in nobody's way if the answer does not stand beside the rows.
    let json = ["predict", model, "--file", "FILE", "--json"];
    for (name, text) in
        [("a.csv", "title,probability\nx,1\n"), ("b.csv", "title\n\"x\n\"\"y\"\"\"\n5\" z")]
    {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("writes");
        let file = file.to_str().expect("UTF-8");
        let args: Vec<&str> = json.iter().map(|a| if *a == "FILE" { file } else { a }).collect();
        knockline(&args).ok();
    }
    // The rows after the quote are part of a cell, whether it ends with the file or with a later quote.
    for (text, line) in
        [("\"x,1\ny,2\n", 3), ("\n\"x,1\n\"y\",2\n\"z\",3\n", 4), ("1\n\"x\ny\n", 4)]
    {
        let bytes = format!("title,id\ngood,0\n{text}");
        let want = format!("a.csv, line {line}");
        let bytes =
            if text.starts_with('1') { bytes.replace(",id", "").replace(",0", "") } else { bytes };
        let said = refused("a.csv", bytes.as_bytes(), &predict, 3, &want);
        assert!(said.lines().count() >= 2, "the rows before are answered: {said}");
    }
    refused("a.txt", b"no label\n", &test, 3, "does not begin with `__label__`");
    refused(
        "a.txt",
        b"__label__q x\n",
        &test,
        3,
        "label `q` is not one of the model's: b, t, e, m",
    );
    refused("a.parquet", b"PAR1", &predict, 3, "parquet");
    let args = ["test", model, "FILE", "--no-header", "--label-column", "label"];
    refused("a.csv", b"x,y\n", &args, 2, "a column has a number");
    let whole = std::fs::read(&path).expect("reads");
    let mut changed = whole.clone();
    changed[whole.len() - 9] ^= 1;
    refused("b.knock", &changed, &["info", "FILE"], 3, "the model is damaged");
    refused("b.knock", &whole[..whole.len() / 2], &["predict", "FILE", "x"], 3, "not a model");
    refused("b.knock", b"", &["predict", "FILE", "x"], 3, "not a model");
    let missing = knockline(&["info", "/nowhere/x.knock"]);
    assert_eq!(missing.code, Some(3), "{}", missing.err);
    let other = artifacts.run(&["model", "export", "train.slp", "/nowhere/x.knock"]);
    assert_eq!(other.code, Some(1), "{}", other.err);
    let unknown = artifacts.run(&["model", "export", "train.sl", "/tmp/x.knock"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("train.slp"), "{}", unknown.err);
}
