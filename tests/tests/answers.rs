//! The exercise's answers: the report, further seeds, the sweep, and predictions.

#![allow(clippy::indexing_slicing)]

use std::io::Write;
use std::process::Stdio;

use e2e::{Artifacts, Ended};
use serde_json::Value;

fn page(artifacts: &Artifacts) -> String {
    std::fs::read_to_string(artifacts.path().join("report/index.html")).expect("a page")
}

#[test]
fn the_report_answers_every_problem_in_one_file() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline"]).ok();
    let page = page(&artifacts);
    let places: Vec<usize> = (70..80)
        .map(|n| page.find(&format!("<section id=\"p{n}\">")).expect("a section"))
        .collect();
    assert!(places.is_sorted());
    for n in 70..80 {
        assert!(
            page.contains(&format!("<a href=\"#p{n}\">{n} ")),
            "{n} is not in the table of contents"
        );
    }
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "<link"] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    // Every table header has both languages, except for symbols.
    let heads = page
        .split("<th scope=\"col\"")
        .skip(1)
        .map(|h| h.split("</th>").next().unwrap_or_default());
    let symbols = ["X", "y", "id", "b", "t", "e", "m", "F1", "CPU", "GPU", "‖∂/∂w‖"];
    let mut translated = 0;
    for head in heads {
        let text: String =
            head.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect();
        let symbol = symbols.contains(&text.as_str())
            || text.starts_with('x')
            || text.starts_with("∂/∂w")
            || head.contains("<code>");
        let both = head.contains("class=\"en\"") && head.contains("class=\"ja\"");
        assert!(both || symbol, "not in both languages: {head}");
        translated += usize::from(both);
    }
    assert!(translated > 60, "{translated} heads in both languages");
    assert_eq!(page.matches("<svg").count(), 2 * 17);
    for text in ["エポック", "正解率", "学習データ", "検証データ", "バッチサイズ"]
    {
        assert!(page.contains(&format!("\n{text}\n</text>")), "no figure has the text {text}");
    }
    assert!(page.contains("<strong>No GPU was used.</strong> cuda: this build cannot use CUDA"));
    let metrics = artifacts.json("report/metrics.json");
    let sums = metrics["start"]["probabilities"].as_array().expect("rows").iter().map(|row| {
        let row = row.as_array().expect("a row");
        row.iter().filter_map(Value::as_f64).sum::<f64>()
    });
    assert!(sums.clone().count() == 4 && sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-6));
    assert_eq!(metrics["curve"]["history"].as_array().map(Vec::len), Some(30));
    let sizes = metrics["sweep"]["times"]
        .as_array()
        .expect("times")
        .iter()
        .filter_map(|t| t["batch_size"].as_u64());
    assert!(sizes.eq((0..11).map(|i| 1 << i)));
}

/// Runs only the report stage, with another sweep, and returns its page.
fn page_with_sweep(artifacts: &Artifacts, rows: &[Value], config: &Value) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(dir.path().join("sweep.jsonl"), lines).expect("writes");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writes");
    let machine = r#"{ "processor": "Z80", "processors": 1, "threads": 1, "gpus": ["H100"] }"#;
    std::fs::write(dir.path().join("machine.json"), machine).expect("writes");
    let out = dir.path().join("out");
    let mut command =
        std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(e2e::root())
        .args(["run", "--quiet", "--package", "report", "--", "--artifacts"])
        .arg(artifacts.path());
    command.args(["--input", "train.sweep"]).arg(dir.path()).arg("--out").arg(&out);
    Ended::of(command).ok();
    std::fs::read_to_string(out.join("index.html")).expect("a page")
}

/// What the page's own nets answer is checked by tests/page/classifier.mjs, which needs Node.
#[test]
fn the_report_classifies_with_its_best_nets_that_are_small_enough() {
    let artifacts = Artifacts::with(&["train.mlp.epochs=1"]);
    artifacts.run(&["pipeline"]).ok();
    let json = |page: &str| -> Option<Value> {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"classifier\">")?;
        Some(serde_json::from_str(rest.split_once("</script>")?.0).expect("JSON"))
    };
    let nets = json(&page(&artifacts)).expect("nets");
    assert_eq!(nets["labels"], serde_json::json!(["b", "t", "e", "m"]));
    let runs = [&nets["nets"][0]["run"], &nets["nets"][1]["run"], &nets["nets"][2]["run"]];
    assert_eq!(runs, [&Value::from("train.linear"), &Value::from("train.slp"), &Value::Null]);
    let summary = &artifacts.json("report/metrics.json")["classifier"];
    assert_eq!(summary["runs"], serde_json::json!(["train.linear", "train.slp"]));
    assert!(summary["megabytes"].as_f64().expect("a number") < 1.0, "{summary}");
    // Every word's and n-gram's row is there, and none more.
    let bytes = 4 * 2 * nets["words"]["keys"]["count"].as_u64().expect("a number");
    let values = nets["nets"][1]["words"]["values"].as_str().expect("Base64");
    assert_eq!(values.len() as u64, bytes.div_ceil(3) * 4);
    artifacts.run(&["pipeline", "--set", "report.classifier=0"]).ok();
    assert!(json(&page(&artifacts)).is_none());
    assert!(!page(&artifacts).contains("id=\"try\""));
    // So many n-grams do not fit, and the page says what to do.
    let artifacts = Artifacts::with(&[
        "train.mlp.epochs=1",
        "ngrams.word=[1,12]",
        "ngrams.char_wb=[2,12]",
        "report.classifier=1",
    ]);
    artifacts.run(&["pipeline"]).ok();
    let page = page(&artifacts);
    assert_eq!(json(&page).expect("nets")["nets"][0]["run"], "train.slp");
    assert!(page.contains("cargo xtask model export train.linear model.knock"));
}

#[test]
fn the_report_shows_a_sweep_with_a_gpu_and_one_without_a_cpu() {
    let artifacts = Artifacts::with(&["train.mlp.epochs=1", "train.sweep.batch_sizes=[64]"]);
    artifacts.run(&["pipeline"]).ok();
    let text =
        std::fs::read_to_string(artifacts.path().join("train.sweep/sweep.jsonl")).expect("reads");
    let cpu: Value = serde_json::from_str(text.lines().next().expect("a row")).expect("JSON");
    let mut gpu = cpu.clone();
    (gpu["device"], gpu["kernel"], gpu["seconds"]) =
        ("cuda".into(), "autograd".into(), 0.125.into());
    let mut config = artifacts.json("train.sweep/config.json");
    (config["devices"], config["unavailable"]) =
        (serde_json::json!(["cpu", "cuda"]), serde_json::json!([]));
    let both = page_with_sweep(&artifacts, &[cpu, gpu.clone()], &config);
    assert!(both.contains("<td>autograd, fused</td><td>0.125</td>"), "the GPU's row is missing");
    assert!(!both.contains("No GPU was used"));
    assert!(
        both.contains("Timed on Z80, 1 processor, 1 thread, H100."),
        "the page names the machine that was timed"
    );
    config["devices"] = serde_json::json!(["cuda"]);
    let only = page_with_sweep(&artifacts, &[gpu], &config);
    assert!(
        only.contains("The CPU was not among the devices.")
            && only.contains("<td>autograd, –</td>")
    );
}

#[test]
fn the_devices_of_the_sweep_can_be_chosen() {
    let artifacts = Artifacts::new();
    artifacts
        .run(&["pipeline", "--to", "train.sweep", "--set", "train.sweep.devices=[\"cpu\"]"])
        .ok();
    assert_eq!(artifacts.json("train.sweep/config.json")["unavailable"], serde_json::json!([]));
    let absent = artifacts.run(&[
        "pipeline",
        "--to",
        "train.sweep",
        "--set",
        "train.sweep.devices=[\"cpu\", \"cuda\"]",
    ]);
    assert!(
        absent.code == Some(2) && absent.err.contains("run with --device cuda"),
        "{}",
        absent.err
    );
    let diverged =
        artifacts.run(&["pipeline", "--to", "train.sweep", "--set", "train.sweep.lr=1e39"]);
    assert!(
        diverged.code == Some(1) && diverged.err.contains("train.sweep, cpu, batch size "),
        "{}",
        diverged.err
    );
}

#[test]
fn a_headline_with_markup_is_text_in_the_report() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("newsCorpora.csv");
    std::fs::write(
        &path,
        e2e::table(400).replace("markets bank", "<script>alert(1)</script> & </svg> bank"),
    )
    .expect("writes");
    let artifacts =
        Artifacts::with(&[&format!("ingest.source={}", path.display()), "train.mlp.epochs=1"]);
    artifacts.run(&["pipeline"]).ok();
    let page = page(&artifacts);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;") && !page.contains("<script>alert"));
}

#[test]
fn further_seeds_give_the_results_of_separate_runs() {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "train.slp", "--set", "train.slp.seeds=[123, 5, 7]"]).ok();
    let all = artifacts.json("train.slp/metrics.json");
    let seeds = all["seeds"].as_array().expect("seeds");
    assert_eq!(seeds.iter().filter_map(|s| s["seed"].as_u64()).collect::<Vec<_>>(), [123, 5, 7]);
    assert_eq!(seeds[0]["test"], all["test"]);
    assert!(artifacts.path().join("train.slp/seeds/5/history.jsonl").exists());
    assert!(!artifacts.path().join("train.slp/seeds/5/checkpoints").exists());
    artifacts.run(&["pipeline", "--to", "train.slp", "--set", "train.slp.seed=5"]).ok();
    assert_eq!(artifacts.json("train.slp/metrics.json")["test"], seeds[1]["test"]);
}

#[test]
fn checkpoints_keep_leaves_only_the_newest_checkpoints() {
    let artifacts = Artifacts::with(&["train.slp.checkpoints.keep=2"]);
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    let folder = artifacts.path().join("train.slp/checkpoints");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|f| f.file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["epoch-0009.safetensors", "epoch-0010.safetensors"]);
}

#[test]
fn training_options_change_the_result_and_can_be_combined() {
    let plain = Artifacts::with(&["train.mlp.epochs=3"]);
    plain.run(&["pipeline", "--to", "train.mlp"]).ok();
    let loss = |artifacts: &Artifacts| {
        artifacts.json("train.mlp/metrics.json")["valid"]["loss"].as_f64().expect("a loss")
    };
    let base = loss(&plain);
    let together = [
        "optimizer=adamw",
        "dropout=0.1",
        "label_smoothing=0.1",
        "weight_decay=0.01",
        "layers=2",
        "relu_out=false",
    ];
    let mut args = vec!["pipeline".to_owned(), "--to".into(), "train.mlp".into()];
    args.extend(together.iter().flat_map(|o| ["--set".to_owned(), format!("train.mlp.{o}")]));
    plain.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert!(loss(&plain).is_finite() && loss(&plain) != base);
    let all = [
        "dropout=0.5",
        "label_smoothing=0.2",
        "weight_decay=0.1",
        "momentum=0.9",
        "optimizer=adamw",
        "relu_out=false",
        "layers=3",
        "hidden=50",
    ];
    for option in all {
        plain.run(&["pipeline", "--to", "train.mlp", "--set", &format!("train.mlp.{option}")]).ok();
        assert!(loss(&plain) != base, "{option} changes nothing");
    }
}

fn predict(artifacts: &Artifacts, args: &[&str], input: &[u8]) -> Ended {
    let mut command = e2e::xtask(&["predict"]);
    command
        .arg("--artifacts")
        .arg(artifacts.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    // A child that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("stdin").write_all(input);
    let output = child.wait_with_output().expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn predict_classifies_headlines_from_arguments_files_and_stdin() {
    let dir = tempfile::tempdir().expect("a folder");
    let (table, file) = (dir.path().join("newsCorpora.csv"), dir.path().join("mine.txt"));
    std::fs::write(&table, e2e::table(400)).expect("writes");
    let artifacts =
        Artifacts::with(&[&format!("ingest.source={}", table.display()), "train.mlp.epochs=20"]);
    let nothing = predict(&artifacts, &["markets"], b"");
    assert_eq!(nothing.code, Some(2));
    assert!(
        nothing.err.contains("cargo xtask pipeline --to train.best --artifacts "),
        "{}",
        nothing.err
    );

    artifacts.run(&["pipeline", "--to", "train.mlp"]).ok();
    let answer = predict(&artifacts, &["markets bank rates unheard", "virus drug study"], b"").ok();
    let lines: Vec<&str> = answer.out.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("b 0.")
            && lines[0].ends_with("3/4 known  markets bank rates unheard"),
        "{}",
        answer.out
    );
    assert!(lines[1].starts_with("m 0."), "{}", answer.out);

    // A file and stdin give the same answers, also with CRLF line ends and a byte order mark.
    let text = "\u{feff}markets bank rates unheard\r\nvirus drug study";
    std::fs::write(&file, text).expect("writes");
    let path = file.display().to_string();
    assert_eq!(predict(&artifacts, &["--file", &path], b"").ok().out, answer.out);
    assert_eq!(predict(&artifacts, &["-"], text.as_bytes()).ok().out, answer.out);
    assert_eq!(predict(&artifacts, &[], text.as_bytes()).ok().out, answer.out);

    let json =
        predict(&artifacts, &["--json", "--top-k", "1", "--run", "train.slp", "--", "- film"], b"");
    assert_eq!(json.code, Some(2), "there is no train.slp: {}", json.err);
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    let json = predict(
        &artifacts,
        &["--json", "--top-k", "1", "--run", "train.slp", "--", "- film star album", ""],
        b"",
    )
    .ok()
    .json();
    assert_eq!(
        (&json[0]["category"], &json[0]["words"], &json[0]["words_known"]),
        (&"e".into(), &3.into(), &3.into())
    );
    assert_eq!(json[0]["top"].as_array().map(Vec::len), Some(1));
    assert_eq!((&json[1]["title"], &json[1]["words"]), (&"".into(), &0.into()));
}

#[test]
fn predict_explains_what_it_cannot_classify() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "train.mlp"]).ok();
    let garbage = predict(&artifacts, &[], b"fine\n\xff\xfe\x00\n");
    assert_eq!(
        (garbage.code, garbage.out.lines().count()),
        (Some(3), 1),
        "the good line is answered"
    );
    assert!(garbage.err.contains("stdin, line 2"), "{}", garbage.err);
    let missing =
        predict(&artifacts, &["--file", &dir.path().join("no.txt").display().to_string()], b"");
    assert!(missing.code == Some(3) && missing.err.contains("no.txt"), "{}", missing.err);
    let run = predict(&artifacts, &["--run", "train.mlpp", "x"], b"");
    assert!(run.code == Some(2) && run.err.contains("did you mean `train.mlp`?"), "{}", run.err);
    for (args, want) in [
        (&["--profile", "nosuch", "x"][..], "there is no profile `nosuch`"),
        (&["--set", "train.mlp.lrr=1", "x"], "did you mean `lr`?"),
        (&["x", "-"], "`-` cannot be combined with other headlines"),
    ] {
        let refused = predict(&artifacts, args, b"");
        assert!(refused.code == Some(2) && refused.err.contains(want), "{}", refused.err);
    }
    let folder = predict(&artifacts, &["--file", &dir.path().display().to_string()], b"");
    assert!(folder.code == Some(3) && folder.err.contains("it is a folder"), "{}", folder.err);
    let described = predict(&artifacts, &["--set", "train.mlp.lr=0.5", "x"], b"").ok();
    assert!(
        described.err.contains("`train.mlp` in ") && described.out.contains("none known  x"),
        "{}{}",
        described.err,
        described.out
    );
    let many = predict(&artifacts, &["--top-k", "0", "x"], b"");
    assert_eq!(many.code, Some(2));

    // With other vectors than the net was trained on, the answers would be meaningless.
    artifacts.run(&["pipeline", "--to", "embed", "--set", "embed.seed=7"]).ok();
    let other = predict(&artifacts, &["x"], b"");
    assert!(
        other.code == Some(2) && other.err.contains("was trained on other word vectors"),
        "{}",
        other.err
    );
    artifacts.run(&["pipeline", "--to", "train.mlp"]).ok();
    let model = artifacts.path().join("train.mlp/model.safetensors");
    let mut bytes = std::fs::read(&model).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&model, bytes).expect("writes");
    let damaged = predict(&artifacts, &["x"], b"");
    assert!(
        damaged.code == Some(3)
            && damaged.err.contains("model.safetensors has changed since it was made"),
        "{}",
        damaged.err
    );
}

/// The arrays `X` and `id` of a safetensors file, read as the format defines it: a length, a JSON
/// header and the values.
fn arrays(artifacts: &Artifacts, file: &str) -> (Vec<f32>, Vec<i64>) {
    let bytes = std::fs::read(artifacts.path().join(file)).expect("reads");
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
    let (header, data) = rest.split_at(usize::try_from(length).expect("a length"));
    let header: Value = serde_json::from_slice(header).expect("JSON");
    let values = |name: &str| {
        let place = |i: usize| {
            header[name]["data_offsets"][i]
                .as_u64()
                .and_then(|at| usize::try_from(at).ok())
                .expect("a place")
        };
        &data[place(0)..place(1)]
    };
    (
        values("X").chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect(),
        values("id")
            .chunks(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")))
            .collect(),
    )
}

#[test]
fn headlines_without_a_known_word_are_zeros_or_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let (table, vectors) = (dir.path().join("newsCorpora.csv"), dir.path().join("vectors.txt"));
    // One headline in ten has a word without a vector; the word of the others identifies their row.
    let letters = ["b", "t", "e", "m"];
    let headline =
        |id: usize| format!("{id}\tw{}\tu\tReuters\t{}\ts\th\t1\n", id % 10, letters[id / 10 % 4]);
    std::fs::write(&table, (0..5000).map(headline).collect::<String>()).expect("writes");
    let known = (0..10).filter(|k| *k != 3);
    std::fs::write(&vectors, known.map(|k| format!("w{k} {k} {}\n", 2 * k)).collect::<String>())
        .expect("writes");
    let row = |id: i64| {
        if id % 10 == 3 { [0.0, 0.0] } else { [(id % 10) as f32, (2 * (id % 10)) as f32] }
    };
    let sources = [
        format!("ingest.source={}", table.display()),
        format!("embed.source={}", vectors.display()),
    ];
    let options: Vec<&str> = sources.iter().map(String::as_str).collect();
    let zeros = Artifacts::with(&options);
    zeros.run(&["pipeline", "--to", "tensors"]).ok();
    let (x, all) = arrays(&zeros, "tensors/train.safetensors");
    assert_eq!(all.len(), 4000);
    assert!(x.iter().copied().eq(all.iter().flat_map(|&id| row(id))));
    let drop = Artifacts::with(&[&options[..], &["tensors.empty=drop"]].concat());
    drop.run(&["pipeline", "--to", "tensors"]).ok();
    let (x, kept) = arrays(&drop, "tensors/train.safetensors");
    assert!(kept.iter().eq(all.iter().filter(|&&id| id % 10 != 3)));
    assert!(x.iter().copied().eq(kept.iter().flat_map(|&id| row(id))));
    let summary = &drop.json("tensors/summary.json")["train"];
    assert_eq!(summary["dropped"].as_u64(), Some((all.len() - kept.len()) as u64));
    assert_eq!(summary["without_known_word"], summary["dropped"]);
}
