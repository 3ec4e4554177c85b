//! The exercise's 2025 edition: sequences of tokens, the nets on them, and the report.

#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::{Artifacts, Ended, zip_of};
use serde_json::Value;

/// The profile's options that every command gets, and shorter trainings.
const PROFILE: [&str; 2] = ["--profile", "sample-2025"];
const NODES: [&str; 11] = [
    "ingest",
    "split",
    "embed",
    "tokens",
    "train.mean",
    "train.batches",
    "train.finetuned",
    "train.deep",
    "train.cnn",
    "train.lstm",
    "report",
];

fn artifacts() -> Artifacts {
    Artifacts::with(&[
        "train.mean.epochs=2",
        "train.batches.epochs=2",
        "train.finetuned.epochs=4",
        "train.deep.epochs=3",
        "train.cnn.epochs=2",
        "train.lstm.epochs=3",
    ])
}

fn with_profile<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &PROFILE].concat()
}

/// An array of a safetensors file as little-endian numbers of four or eight bytes, in f64.
fn array(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f64>) {
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("8"))).expect("n");
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let of = &header[name];
    let number = |v: &Value| usize::try_from(v.as_u64().expect("a number")).expect("small");
    let at = |i: usize| 8 + length + number(&of["data_offsets"][i]);
    let data = &bytes[at(0)..at(1)];
    let shape = of["shape"].as_array().expect("a shape").iter().map(number).collect();
    let four = |b: &[u8]| -> [u8; 4] { b.try_into().expect("4") };
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let values = match of["dtype"].as_str().expect("a type") {
        "F32" => data.chunks(4).map(|b| f64::from(f32::from_le_bytes(four(b)))).collect(),
        "U32" => data.chunks(4).map(|b| f64::from(u32::from_le_bytes(four(b)))).collect(),
        "I64" => {
            data.chunks(8).map(|b| i64::from_le_bytes(b.try_into().expect("8")) as f64).collect()
        }
        other => panic!("{other}"),
    };
    (shape, values)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers")]
fn whole(values: &[f64]) -> Vec<usize> {
    values.iter().map(|&x| x as usize).collect()
}

#[test]
fn the_newer_edition_is_answered() {
    let artifacts = artifacts();
    let made = artifacts.run(&with_profile(&["pipeline"])).ok();
    assert_eq!(made.nodes("status", "run"), NODES);
    let files = artifacts.bytes();

    // 70: E with a row of zeros for padding.
    let (shape, e) = array(&files["tokens/embeddings.safetensors"], "E");
    let d = shape[1];
    assert!(shape[0] > 100 && e[..d].iter().all(|x| *x == 0.0));
    // 71: ids of words, none of them padding.
    let sequences = &files["tokens/test.safetensors"];
    let [ids, offsets, y, id] = ["ids", "offsets", "y", "id"].map(|name| array(sequences, name).1);
    let [ids, offsets] = [ids, offsets].map(|values| whole(&values));
    assert!(ids.iter().all(|&id| id > 0 && id < shape[0]));
    assert_eq!((offsets.len(), y.len(), id.len(), offsets[400]), (401, 400, 400, ids.len()));
    // 72: the logistic regression on the mean, in f64 from the model's file; ln p of the labels is
    // the loss that the run reports.
    let model = &files["train.mean/model.safetensors"];
    let (w, b) = (array(model, "fc.weight").1, array(model, "fc.bias").1[0]);
    let (mut loss, mut first) = (0.0, 0.0);
    for (row, label) in y.iter().enumerate() {
        let tokens = &ids[offsets[row]..offsets[row + 1]];
        let product =
            |&id: &usize| e[id * d..(id + 1) * d].iter().zip(&w).map(|(x, w)| x * w).sum::<f64>();
        #[expect(clippy::cast_precision_loss, reason = "a few tokens")]
        let z = tokens.iter().map(product).sum::<f64>() / tokens.len() as f64 + b;
        let p = 1.0 / (1.0 + (-z).exp());
        if row == 0 {
            first = p;
        }
        loss -= if *label == 1.0 { p.ln() } else { (1.0 - p).ln() };
    }
    // The first text of test, classified anew, has the same probability as by the formula.
    let text = &artifacts.json("tokens/summary.json")["parts"]["test"]["first"][0]["text"];
    let args = ["predict", "--run", "train.mean", text.as_str().expect("a text")];
    let answer = &artifacts.run(&with_profile(&args)).ok().json()[0];
    let top = &answer["top"][0];
    let (label, answered) = (&top["category"], top["probability"].as_f64().expect("a number"));
    let own = if *label == "1" { first } else { 1.0 - first };
    assert!((answered - own).abs() < 1e-6, "{answer} {first}");
    let metrics = artifacts.json("train.mean/metrics.json");
    let seen = metrics["test"]["loss"].as_f64().expect("a loss");
    assert!((loss / 400.0 - seen).abs() < 1e-6, "{} {seen}", loss / 400.0);
    // 75: the longest first, the others padded.
    let batch = artifacts.json("tokens/collate.json");
    let rows: Vec<Vec<u64>> =
        serde_json::from_value(batch["input_ids"].clone()).expect("lists of ids");
    let lengths: Vec<usize> = serde_json::from_value(batch["lengths"].clone()).expect("lengths");
    assert!(rows.len() == 4 && lengths.is_sorted_by(|a, b| a >= b));
    for (row, length) in rows.iter().zip(&lengths) {
        assert!(row.len() == lengths[0] && row[*length..].iter().all(|id| *id == 0));
    }
    // 78: only the rows of train's words differ from E, and padding is still zeros.
    let (_, trained) = array(&files["train.finetuned/model.safetensors"], "embedding.weight");
    let used = whole(&array(&files["tokens/train.safetensors"], "ids").1);
    for (token, (before, after)) in e.chunks(d).zip(trained.chunks(d)).enumerate() {
        assert_eq!(before != after, used.contains(&token), "token {token}");
    }
    // The report, in both languages.
    let page = String::from_utf8(files["report/index.html"].clone()).expect("UTF-8");
    for text in [
        "100 NLP exercises 2025",
        "言語処理100本ノック 2025",
        "Fine-tuning the embeddings",
        "単語埋め込みのファインチューニング",
        "&lt;PAD&gt;",
        "train.lstm",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("Prediction with a single-layer net"));
    // The best architecture is the best on valid, whatever it is on test.
    let nets = ["train.deep", "train.cnn", "train.lstm"];
    let valid = |net: &str| {
        let metrics = artifacts.json(&format!("{net}/metrics.json"));
        metrics["valid"]["accuracy"].as_f64().expect("an accuracy")
    };
    let best = nets.into_iter().max_by(|a, b| valid(a).total_cmp(&valid(b)).then(b.cmp(a)));
    let title = page.lines().find(|line| line.contains("<title")).expect("a title");
    assert!(title.contains(best.expect("a net")), "{title}");
    // All hits now, and an option of a net reruns that net alone.
    let again = artifacts.run(&with_profile(&["pipeline"])).ok();
    assert_eq!(again.nodes("status", "hit"), NODES);
    let changed = artifacts.run(&with_profile(&["pipeline", "--set", "train.cnn.lr=0.01"])).ok();
    assert_eq!(changed.nodes("status", "run"), ["train.cnn", "report"]);
}

/// Everything but clock readings and what lists them.
fn bytes(artifacts: &Artifacts) -> BTreeMap<String, Vec<u8>> {
    let mut all = artifacts.bytes();
    all.retain(|file, _| !file.ends_with("manifest.json") && !file.starts_with("report/"));
    all
}

#[test]
fn nets_on_sequences_have_the_same_bytes_by_any_number_of_threads_and_after_a_kill() {
    let [one, three, killed] = [(); 3].map(|()| artifacts());
    for (artifacts, threads) in [(&one, "1"), (&three, "3")] {
        for node in ["train.finetuned", "train.deep", "train.cnn", "train.lstm"] {
            let mut command = artifacts.command(&with_profile(&["pipeline", "--to", node]));
            command.env("KNOCKLINE_THREADS", threads);
            Ended::of(command).ok();
        }
    }
    let mut resumed = 0;
    for node in ["train.finetuned", "train.deep", "train.cnn", "train.lstm"] {
        let args = with_profile(&["pipeline", "--to", node]);
        let mut child = killed.start(&args);
        let unfinished = killed.path().join(".knockline/unfinished").join(node);
        let begun = || {
            let folders = std::fs::read_dir(&unfinished).into_iter().flatten().flatten();
            folders
                .into_iter()
                .any(|of| of.path().join("checkpoints/epoch-0001.safetensors").exists())
        };
        while !begun() && child.try_wait().expect("a state").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().and_then(|()| child.wait()).expect("kills");
        resumed += usize::from(killed.run(&args).ok().err.contains("resuming after epoch"));
    }
    assert!(resumed > 0, "no net was resumed");
    let [one, three, killed] = [one, three, killed].map(|artifacts| bytes(&artifacts));
    assert!(one.contains_key("train.lstm/model.safetensors"));
    for (file, bytes) in &one {
        assert!(three[file] == *bytes, "{file} differs by the number of threads");
        assert!(killed.get(file) == Some(bytes), "{file} differs after a kill");
    }
}

#[test]
fn a_text_s_answer_does_not_depend_on_its_neighbours() {
    let artifacts = artifacts();
    for run in ["train.finetuned", "train.cnn", "train.lstm"] {
        artifacts.run(&with_profile(&["pipeline", "--to", run])).ok();
        let text = "the film is tedious";
        let p = |texts: &[&str]| {
            let args = [&["predict", "--run", run, "--top-k", "2"][..], texts].concat();
            let ended = artifacts.run(&with_profile(&args)).ok();
            ended.json()[0]["top"].clone()
        };
        let alone = p(&[text]);
        assert!(alone.is_array(), "{alone}");
        assert_eq!(alone, p(&[text, "a moving and well acted film from start to finish", ""]));
    }
}

#[test]
fn a_net_answers_only_with_the_embeddings_that_it_was_trained_on() {
    let artifacts = artifacts();
    artifacts.run(&with_profile(&["pipeline", "--to", "train.mean"])).ok();
    let text = "the film is tedious";
    let answer = || artifacts.run(&with_profile(&["predict", "--run", "train.mean", text]));
    answer().ok();
    // Other vectors of the same words give the same ids.
    let ids = || std::fs::read(artifacts.path().join("tokens/train.safetensors")).expect("reads");
    let before = ids();
    let other = with_profile(&["pipeline", "--to", "tokens", "--set", "embed.seed=7"]);
    artifacts.run(&other).ok();
    assert_eq!(before, ids());
    let refused = answer();
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("`train.mean` was trained on other"), "{}", refused.err);
}

#[test]
fn sequences_may_feed_a_stack_and_stand_beside_the_older_edition() {
    let artifacts = Artifacts::with(&[
        "train.mlp.epochs=2",
        "train.mean.net=mean",
        "train.mean.epochs=2",
        "train.mean.folds=2",
        "train.slp.folds=2",
        "tokens.empty=keep",
        "train.both.net=stack",
        "train.both.members=[\"train.mean\", \"train.slp\"]",
    ]);
    let made = artifacts.run(&["pipeline"]).ok();
    let nodes = made.nodes("status", "run");
    assert!(nodes.contains(&"tokens".to_owned()) && nodes.contains(&"train.both".to_owned()));
    let page = std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page");
    assert!(page.contains("Prediction with a single-layer net") && page.contains("train.mean"));
    let compared = artifacts.run(&["compare", "train.mean", "train.slp"]).ok();
    assert_eq!(compared.json().len(), 2);
}

#[test]
fn members_of_an_archive_are_chosen() {
    let table = |rows: std::ops::Range<usize>| {
        let row = |i: usize| format!("{} film number {i}\t{}\n", ["bad", "good"][i % 2], i % 2);
        format!("sentence\tlabel\n{}", rows.map(row).collect::<String>())
    };
    // As in GLUE's SST-2, a third file has no labels.
    let archive = zip_of(&[
        ("SST-2/train.tsv", table(0..200).as_bytes()),
        ("SST-2/dev.tsv", table(200..240).as_bytes()),
        ("SST-2/test.tsv", b"index\tsentence\n0\tfilm number\n"),
    ]);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("SST-2.zip");
    std::fs::write(&path, archive).expect("writes");
    let artifacts = Artifacts::with(&[&format!("ingest.source={}", path.display())]);
    let given = "split.given.test=*dev.tsv";
    let to_split = |members: &str| {
        let members = format!("ingest.members={members}");
        artifacts.run(&["pipeline", "--to", "split", "--set", &members, "--set", given])
    };
    to_split(r#"["*/train.tsv", "*/dev.tsv"]"#).ok();
    let summary = artifacts.json("split/summary.json");
    let rows = |part: &str| -> u64 {
        let counts = summary[part].as_object().expect("counts");
        counts.values().map(|n| n.as_u64().expect("a number")).sum()
    };
    assert_eq!((rows("train"), rows("valid"), rows("test")), (180, 20, 40));
    let refused = to_split(r#"["train.tsv"]"#);
    assert_eq!(refused.code, Some(3));
    assert!(refused.err.contains("is called `train.tsv`") && refused.err.contains("SST-2/dev.tsv"));
    let one_of_two = to_split(r#"["*/train.tsv", "*/dve.tsv"]"#);
    assert!(one_of_two.code == Some(3) && one_of_two.err.contains("*/dve.tsv"));
    // Without a choice, the file without labels is a mistake.
    let all = artifacts.run(&["pipeline", "--to", "split", "--set", given]);
    assert!(all.code == Some(3) && all.err.contains("test.tsv"), "{}", all.err);
}
