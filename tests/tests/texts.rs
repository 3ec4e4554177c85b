//! Anybody's labelled texts: every format, given parts, any number of labels.

#![allow(clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use e2e::{Artifacts, Ended, zip_of};
use flate2::write::GzEncoder;

/// Rows of the sets below.
const ROWS: usize = 2000;

/// Labelled texts: label, text. Sorted by label, as folders for classes are.
fn rows() -> Vec<(&'static str, String)> {
    let words = ["markets, bank", "film \"star\"", "drug – study", "phone launch"];
    (0..ROWS)
        .map(|i| {
            let class = i * 4 / ROWS;
            (["b", "e", "m", "t"][class], format!("{} no{} x{}", words[class], i % 7, i))
        })
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("bytes");
    writer.finish().expect("a file")
}

/// The table of headlines that a source gives.
fn ingested(sets: &[&str]) -> Vec<u8> {
    let artifacts = Artifacts::with(sets);
    artifacts.run(&["pipeline", "--to", "ingest"]).ok();
    assert_eq!(artifacts.json("ingest/labels.json").as_array().map(Vec::len), Some(4), "{sets:?}");
    std::fs::read(artifacts.path().join("ingest/headlines.parquet")).expect("a table")
}

#[test]
fn every_format_gives_the_same_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(&path, bytes).expect("writes");
        path.display().to_string()
    };
    let rows = rows();
    let lines = |line: &dyn Fn(usize, &str, &str) -> String| -> String {
        rows.iter().enumerate().map(|(i, (label, text))| line(i + 1, label, text)).collect()
    };
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let csv = lines(&|_, label, text| format!("{label},{}\r\n", quote(text)));
    let csv = format!("label,text\r\n{csv}");
    let tsv = lines(&|_, label, text| format!("{text}\t{label}\n"));
    let json = lines(&|i, label, text| {
        serde_json::json!({ "n": i, "sentence": text, "class": label, "more": [1] }).to_string()
            + "\n"
    });
    let fasttext = lines(&|_, label, text| format!("__label__{label} {text}\n"));
    let news = lines(&|i, label, text| format!("{i}\t{text}\tu\tReuters\t{label}\ts\th\t1\n"));
    for (i, (label, text)) in rows.iter().enumerate() {
        put(&format!("folders/{label}/{i:04}.txt"), format!("{text}\n").as_bytes());
    }
    let (head, tail) = json.split_at(json.match_indices('\n').nth(700).expect("a line").0 + 1);
    put("parts/1.jsonl", head.as_bytes());
    put("parts/2.jsonl", tail.as_bytes());
    let source = |path: String| format!("ingest.source={path}");

    let want = ingested(&[&source(put("a.csv", csv.as_bytes()))]);
    let same = |sets: &[&str]| assert!(ingested(sets) == want, "another table from {sets:?}");
    let semicolons = csv.replacen("label,text", "label;text", 1).replace(",\"", ";\"");
    same(&[&source(put("semicolons.csv", semicolons.as_bytes())), "ingest.separator=;"]);
    same(&[&source(put("a.csv.gz", &gzip(csv.as_bytes())))]);
    same(&[&source(put("a.csv.zst", &zstd::encode_all(csv.as_bytes(), 1).expect("packs")))]);
    same(&[&source(put("a.zip", &zip_of(&[("x/a.csv", csv.as_bytes())])))]);
    let tsv = source(put("a.tsv", tsv.as_bytes()));
    let columns = ["ingest.columns.text=column_1", "ingest.columns.label=column_2"];
    same(&[&tsv, "ingest.header=false", columns[0], columns[1]]);
    same(&[&source(put("a.jsonl", json.as_bytes()))]);
    same(&[&source(put("a.jsonl", json.as_bytes())), "ingest.columns.id=n"]);
    same(&[&source(put("a.txt", fasttext.as_bytes()))]);
    same(&[&source(dir.path().join("folders").display().to_string())]);
    let texts: Vec<(String, String)> = rows
        .iter()
        .enumerate()
        .map(|(i, (label, text))| (format!("all/{label}/{i:04}.txt"), format!("{text}\n")))
        .collect();
    let members: Vec<(&str, &[u8])> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let zipped = ingested(&[&source(put("folders.zip", &zip_of(&members)))]);
    // As parquet, the table itself, and the news archive's.
    let parquet =
        ["ingest.columns.text=title", "ingest.columns.label=category", "ingest.columns.id=id"];
    let from = |name: &str, bytes: &[u8]| {
        same(&[&source(put(name, bytes)), parquet[0], parquet[1], parquet[2]]);
    };
    from("a.parquet", &want);
    from("a.parquet.gz", &gzip(&want));
    // With a folder above, the rows have a part.
    from("zipped.parquet", &zipped);
    let archive = zip_of(&[("newsCorpora.csv", news.as_bytes())]);
    // Its labels have the exercise's order, which the table does not show.
    from("news.parquet", &ingested(&[&source(put("news.zip", &archive))]));
    from("packed.parquet", &ingested(&[&source(put("news.tsv.gz", &gzip(news.as_bytes())))]));

    // Several files: with their names, by which they can be given parts.
    let pattern = format!("ingest.files={}", dir.path().join("parts/*.jsonl").display());
    let several = ingested(&[&pattern]);
    assert!(several != want);
    from("several.parquet", &several);
}

/// Headlines of `classes` classes, whose words tell them apart, as CSV.
fn classes(classes: usize, rows: usize) -> String {
    let mut csv = "text,label\n".to_owned();
    for i in 0..rows {
        let class = i % classes;
        writeln!(csv, "word{class} other{} more{},class {class}", i % 11, i % 5).expect("writes");
    }
    csv
}

#[test]
fn nineteen_and_a_hundred_classes_go_all_the_way() {
    let dir = tempfile::tempdir().expect("a folder");
    for (n, rows) in [(2, 200), (19, 760), (100, 2000)] {
        let path = dir.path().join(format!("{n}.csv"));
        std::fs::write(&path, classes(n, rows)).expect("writes");
        let artifacts = Artifacts::with(&[
            &format!("ingest.source={}", path.display()),
            "embed.source=hash:64",
            "train.slp.epochs=40",
            "train.mlp.epochs=2",
            "train.curve.epochs=2",
        ]);
        artifacts.run(&["pipeline"]).ok();
        let labels = artifacts.json("train.slp/labels.json");
        assert_eq!(labels.as_array().map(Vec::len), Some(n));
        // Sorted as texts: "class 10" is before "class 9".
        let last = if n == 2 {
            "class 1"
        } else if n == 19 {
            "class 9"
        } else {
            "class 99"
        };
        assert_eq!(labels[n - 1], last);
        let accuracy = artifacts.json("train.slp/metrics.json")["test"]["accuracy"].as_f64();
        assert!(accuracy.is_some_and(|accuracy| accuracy > 0.9), "{n}: {accuracy:?}");
        let text = artifacts
            .run(&["predict", "--run", "train.slp", "--top-k", "3", "word1 other1 more1"])
            .ok();
        let answer = &text.json()[0];
        assert_eq!(answer["category"], "class 1", "{answer}");
        assert_eq!(answer["top"].as_array().map(Vec::len), Some(3.min(n)));
        assert!(answer["name"].is_null());
        let quality = &artifacts.json("report/metrics.json")["slp"]["quality"][1];
        assert_eq!(quality["classes"].as_array().map(Vec::len), Some(n));
        assert!(quality["macro_f1"].as_f64().is_some_and(|f1| f1 > 0.9), "{quality}");
        let page =
            std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page");
        assert!(page.contains("class 1") && page.len() < 2_000_000, "{} bytes", page.len());
    }
}

fn put_parts(dir: &Path) -> [String; 2] {
    for (name, rows) in [("train.csv", 400), ("dev.csv", 80)] {
        std::fs::write(dir.join(name), classes(4, rows)).expect("writes");
    }
    let files = ["train.csv", "dev.csv"].map(|name| dir.join(name).display().to_string());
    [format!("ingest.files={files:?}"), "embed.source=hash:32".to_owned()]
}

fn parts(artifacts: &Artifacts) -> [usize; 3] {
    let summary = artifacts.json("split/summary.json");
    ["train", "valid", "test"].map(|part| {
        let counts = summary[part].as_object().expect("counts");
        counts.values().map(|n| usize::try_from(n.as_u64().expect("a count")).expect("few")).sum()
    })
}

#[test]
fn given_parts_stay_as_they_are_and_missing_ones_are_cut_from_train() {
    let dir = tempfile::tempdir().expect("a folder");
    let [files, vectors] = put_parts(dir.path());
    let run = |sets: &[&str]| {
        let mut all = vec![files.as_str(), &vectors, "train.mlp.epochs=2", "train.curve.epochs=2"];
        all.extend(sets);
        let artifacts = Artifacts::with(&all);
        let ended = artifacts.run(&["pipeline"]);
        (artifacts, ended)
    };
    // As the published data sets with a development part and no labelled test part.
    let (artifacts, ended) =
        run(&["split.given.valid=dev.csv", "split.parts=[\"train\", \"valid\"]"]);
    let ended = ended.ok();
    assert_eq!(parts(&artifacts), [400, 80, 0]);
    assert!(ended.out.contains("valid accuracy"), "{}", ended.out);
    assert!(artifacts.json("train.slp/metrics.json")["test"].is_null());
    let page = std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page");
    assert!(page.contains("the data has no test part") && !page.contains("accuracy, test"));
    let compared = artifacts.run(&["compare"]).ok();
    assert!(!compared.out.contains("accuracy_test"), "{}", compared.out);

    let (artifacts, ended) = run(&["split.given.test=dev.csv"]);
    assert_eq!(parts(&artifacts), [360, 40, 80]);
    let said = "valid is not given: 40 rows are cut from train";
    assert!(ended.ok().err.contains(said));
    let (artifacts, _) = run(&["split.given.train=train.csv", "split.given.valid=d*.csv"]);
    assert_eq!(parts(&artifacts), [360, 80, 40]);

    // With only train given, the others are cut as from whole data; other files are left out.
    let (artifacts, ended) = run(&["split.given.train=train.csv"]);
    assert_eq!(parts(&artifacts), [320, 40, 40]);
    assert!(ended.ok().err.contains("80 headlines are in no given part"));

    let refused = |sets: &[&str], what: &str| {
        let (_, Ended { code, err, .. }) = run(sets);
        assert!(matches!(code, Some(2 | 3)) && err.contains(what), "{sets:?}: {err}");
    };
    refused(&["split.given.valid=valid.csv"], "there are train.csv, dev.csv");
    refused(
        &["split.given.train=*.csv", "split.given.test=dev.csv"],
        "no file or part is called `dev.csv`",
    );
    refused(&["split.parts=[\"train\"]"], "train and valid are needed");
    refused(
        &["split.given.valid=dev.csv", "split.given.test=dev.csv"],
        "`dev.csv` is already valid",
    );
    let one = dir.path().join("dev.csv").display().to_string();
    refused(&[&format!("ingest.files=[{one:?}, {one:?}]")], "the file is listed twice");
    // What is set last counts.
    let source = format!("ingest.source={one}");
    let (artifacts, ended) = run(&[&source]);
    ended.ok();
    assert_eq!(artifacts.json("ingest/summary.json")["kept"], 80);
}

#[test]
fn a_column_can_say_which_part_a_row_is_in() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("all.csv");
    let mut csv = "fold,text,label\n".to_owned();
    for i in 0..300 {
        let fold = ["train", "train", "dev", "test", "spare"][i % 5];
        writeln!(csv, "{fold},word{} x{i},{}", i % 3, i % 3).expect("writes");
    }
    std::fs::write(&path, csv).expect("writes");
    let artifacts = Artifacts::with(&[
        &format!("ingest.source={}", path.display()),
        "ingest.columns.part=fold",
        "split.given.train=train",
        "split.given.valid=dev",
        "split.given.test=test",
        "ingest.labels=[\"2\", \"0\", \"1\"]",
    ]);
    let ended = artifacts.run(&["pipeline", "--to", "tensors"]).ok();
    assert_eq!(parts(&artifacts), [120, 60, 60]);
    assert!(ended.err.contains("60 headlines are in no given part and are left out: spare"));
    assert_eq!(artifacts.json("tensors/labels.json"), serde_json::json!(["2", "0", "1"]));
}

#[test]
fn predictions_know_words_that_the_data_lacks() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        path.display().to_string()
    };
    let data = put("data.csv", classes(2, 200).as_bytes());
    // `stock` is near `word0`, `movie` near `word1`; the data has neither.
    let vectors = "word0 1 0\nstock 0.9 0.1\nthe_Fed 1 1\nword1 0 1\nmovie 0.1 0.9\nlast 0 1\n";
    let vectors = put("vectors.txt", vectors.as_bytes());
    let with = |keep: &str| {
        let artifacts = Artifacts::with(&[
            &format!("ingest.source={data}"),
            &format!("embed.source={vectors}"),
            "train.slp.epochs=50",
            &format!("embed.keep={keep}"),
        ]);
        let ended = artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
        let answers = artifacts
            .run(&["predict", "--run", "train.slp", "stock word0", "movie", "last", "the_Fed"])
            .ok()
            .json();
        let known: Vec<u64> =
            answers.iter().map(|a| a["words_known"].as_u64().expect("few")).collect();
        let classes: Vec<String> =
            answers.iter().map(|a| a["category"].as_str().unwrap_or("none").to_owned()).collect();
        let tensors = std::fs::read(artifacts.path().join("tensors/train.safetensors")).expect("X");
        (known, classes, tensors, ended.out)
    };
    let (known, classes, tensors, said) = with("4");
    assert_eq!((known, classes.join(" ")), (vec![2, 1, 0, 0], "class 0 class 1 none none".into()));
    assert!(said.contains("2 more words for predictions"), "{said}");
    assert_eq!(with("all").0, [2, 1, 1, 0]);
    let (known, classes, others, _) = with("data");
    assert_eq!((known, classes[1].as_str()), (vec![1, 0, 0, 0], "none"));
    assert!(tensors == others, "what is kept for predictions changes the features");
}

#[test]
fn a_model_s_folder_gives_vectors_and_its_tokenizer() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data.csv");
    let mut csv = "text,label\n".to_owned();
    for i in 0..200 {
        writeln!(csv, "{},{}", ["Unpaid bills", "Paying café"][i % 2], ["x", "y"][i % 2])
            .expect("writes");
    }
    std::fs::write(&data, csv).expect("writes");
    let model = dir.path().join("model");
    std::fs::create_dir(&model).expect("creates");
    let pieces = ["[UNK]", "un", "##paid", "bill", "##s", "pay", "##ing", "cafe", "night"];
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        pieces.iter().zip(0..).map(|(piece, id)| ((*piece).to_owned(), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{ "id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary }
    });
    std::fs::write(model.join("tokenizer.json"), tokenizer.to_string()).expect("writes");
    // Row i is [i, -i], as 16-bit floating-point numbers would be, but in 64 bits.
    let values: Vec<u8> = (0..pieces.len())
        .flat_map(|i| [i as f64, -(i as f64)])
        .flat_map(f64::to_le_bytes)
        .collect();
    let header = format!(
        r#"{{"embeddings":{{"dtype":"F64","shape":[{},2],"data_offsets":[0,{}]}}}}"#,
        pieces.len(),
        values.len()
    );
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &values].concat();
    std::fs::write(model.join("model.safetensors"), bytes).expect("writes");
    let artifacts = Artifacts::with(&[
        &format!("ingest.source={}", data.display()),
        &format!("embed.source={}", model.display()),
        "embed.tokenizer=wordpiece",
        "train.slp.epochs=20",
    ]);
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    let summary = artifacts.json("tensors/summary.json");
    for row in summary["train"]["first"].as_array().expect("rows") {
        // un ##paid bill ##s, and pay ##ing cafe
        let mean = if row["title"] == "Unpaid bills" { 2.5 } else { 6.0 };
        assert_eq!(row["x"], serde_json::json!([mean, -mean]), "{row}");
    }
    let answer = &artifacts.run(&["predict", "--run", "train.slp", "Night bill"]).ok().json()[0];
    assert_eq!((answer["words"].as_u64(), answer["words_known"].as_u64()), (Some(2), Some(2)));

    // Another file in the folder is another source.
    let key = |args: &[&str]| artifacts.run(args).ok().out;
    let before = key(&["cache", "key", "embed"]);
    std::fs::write(model.join("notes.txt"), "x").expect("writes");
    assert_ne!(key(&["cache", "key", "embed"]), before);
}

#[test]
fn odd_but_sound_files_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let ingest = |name: &str, bytes: &[u8], sets: &[&str]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        let source = format!("ingest.source={}", path.display());
        let all: Vec<&str> = std::iter::once(source.as_str()).chain(sets.iter().copied()).collect();
        let artifacts = Artifacts::with(&all);
        let ended = artifacts.run(&["pipeline", "--to", "ingest"]);
        (artifacts, ended)
    };
    let kept = |name: &str, bytes: &[u8], sets: &[&str]| {
        let (artifacts, ended) = ingest(name, bytes, sets);
        ended.ok();
        artifacts.json("ingest/summary.json")["kept"].as_u64()
    };
    // The first bytes of a row may be those of a zlib stream, and those of a table a zip archive's.
    assert_eq!(kept("x.csv", b"text,label\nx^2,a\nb,c\n", &[]), Some(2));
    assert_eq!(
        kept("pk.csv", b"PK,text,label\n1,a,x\n2,b,y\n", &["ingest.columns.id=PK"]),
        Some(2)
    );
    // Eight columns of which the first is a number are not always the news archive's.
    let eight = b"1\ta\tx\tc\td\te\tf\tg\n2\tb\ty\tc\td\te\tf\tg\n";
    let columns =
        ["ingest.header=false", "ingest.columns.text=column_2", "ingest.columns.label=column_3"];
    assert_eq!(kept("eight.tsv", eight, &columns), Some(2));
    // A readme beside the data is not data.
    let zip = zip_of(&[
        ("readme", b"about"),
        ("train.csv", b"text,label\na,x\n"),
        ("dev.csv", b"text,label\nb,y\n"),
    ]);
    assert_eq!(kept("parts.zip", &zip, &[]), Some(2));
    let news = zip_of(&[
        ("x/2pageSessions.csv", b"a\tb\tc\td\n"),
        ("x/newsCorpora.csv", e2e::table(40).as_bytes()),
    ]);
    assert_eq!(kept("news.zip", &news, &[]), Some(40));

    // Rows are numbered as they stand, whatever is left out; the first bad ones are told in order.
    let bad = b"text,label\na,x\nbad\n,y\nb,y\n5\" disk,x\nc,\"y\"\n";
    let (artifacts, ended) = ingest("bad.csv", bad, &["ingest.max_bad_rows=3"]);
    ended.ok();
    let summary = artifacts.json("ingest/summary.json");
    assert_eq!(summary["kept"], 3);
    let told: Vec<&str> =
        summary["bad"].as_array().expect("rows").iter().filter_map(|row| row.as_str()).collect();
    assert_eq!(
        told,
        [
            "line 3 has 1 columns, not 2",
            "line 4 has no text",
            "line 6 has a quote within column 1, which is not in quotes"
        ]
    );
    let refused = |name: &str, bytes: &[u8], sets: &[&str], what: &str| {
        let (_, Ended { code, err, .. }) = ingest(name, bytes, sets);
        assert!(matches!(code, Some(2 | 3)) && err.contains(what), "{name}: {err}");
    };
    let bad_rows = "ingest.max_bad_rows=9";
    refused(
        "first.jsonl",
        b"{\n{\"text\": \"a\", \"label\": 1}\n",
        &[bad_rows],
        "line 1 is not a JSON object",
    );
    refused("header.csv", b"te\xffxt,label\na,x\nb,y\n", &[bad_rows], "line 1 is not UTF-8");
    refused(
        "ft.txt",
        b"__label__x a\n__label__y b\n",
        &["ingest.columns.group=g"],
        "has no columns",
    );
}
