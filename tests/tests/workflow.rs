//! The CI workflow, as it is written and as it would run: a job for each node, with only bundles
//! passed between jobs.

#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use e2e::{Artifacts, Ended, root, xtask};

/// Each node with its package and the nodes that it reads.
fn graph() -> Vec<(String, String, Vec<String>)> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let node = |line: serde_json::Value| {
        let reads = line["reads"].as_object().expect("nodes").keys().cloned().collect();
        (text(&line["node"]), text(&line["package"]), reads)
    };
    Ended::of(xtask(&["graph", "--format", "json"])).ok().json().into_iter().map(node).collect()
}

#[test]
fn the_workflow_makes_each_node_in_one_job_that_waits_for_what_it_reads() {
    let text = std::fs::read_to_string(root().join(".github/workflows/ci.yml")).expect("reads");
    let list = |line: &str, start: &str| -> Option<Vec<String>> {
        let items = line.strip_prefix(start)?.strip_suffix(']')?;
        Some(items.split(", ").map(str::to_owned).collect())
    };
    // The workflow lists the runs, and those that combine others, with these commands.
    let (stacks, runs): (Vec<_>, Vec<_>) = graph()
        .into_iter()
        .filter(|(_, package, _)| package == "train" || package == "fit")
        .partition(|(.., reads)| reads.iter().any(|node| node.starts_with("train.")));
    let names = |of: Vec<(String, String, Vec<String>)>| -> Vec<String> {
        of.into_iter().map(|(node, ..)| node).collect()
    };
    let (stacks, runs) = (names(stacks), names(runs));
    for command in [
        r#"trained='select(.package == "train" or .package == "fit")'"#,
        r#"stack='(.reads | keys | any(startswith("train.")))'"#,
        r#"runs=$(jq -sc "map($trained | select($stack | not).node)" <<< "$graph")"#,
        r#"stacks=$(jq -sc "map($trained | select($stack).node)" <<< "$graph")"#,
    ] {
        assert!(text.contains(command), "the jobs of training: {command}");
    }
    // For each job: the jobs that it waits for, and the nodes that it makes.
    let mut jobs: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    let (mut job, mut matrix) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("  ")
            .and_then(|l| l.strip_suffix(':'))
            .filter(|l| !l.starts_with([' ', '#']))
        {
            (job, matrix) = (name.to_owned(), Vec::new());
        }
        let line = line.trim();
        let [needs, nodes] = jobs.entry(job.clone()).or_default();
        if let Some(list) = list(line, "needs: [") {
            *needs = list;
        } else if line == "node: ${{ fromJSON(needs.programs.outputs.runs) }}" {
            matrix.clone_from(&runs);
        } else if line == "node: ${{ fromJSON(needs.programs.outputs.stacks) }}" {
            matrix.clone_from(&stacks);
        } else if let Some(made) = line.strip_prefix("nodes: ") {
            *nodes = if made.starts_with("${{") {
                matrix.clone()
            } else {
                made.split(' ').map(str::to_owned).collect()
            };
        }
    }
    let makes: Vec<(&String, &String)> = jobs
        .iter()
        .flat_map(|(job, [_, nodes])| nodes.iter().map(move |node| (node, job)))
        .collect();
    let by = |node: &String| {
        let of: Vec<&String> =
            makes.iter().filter(|(made, _)| *made == node).map(|(_, job)| *job).collect();
        assert_eq!(of.len(), 1, "{node} is made by {of:?}");
        of[0]
    };
    for (node, _, reads) in graph() {
        let [needs, _] = &jobs[by(&node)];
        for read in reads.iter().filter(|read| by(read) != by(&node)) {
            assert!(
                needs.contains(by(read)),
                "the job of {node} does not wait for the job of {read}"
            );
        }
    }
    assert_eq!(makes.len(), graph().len());
    // The results of earlier jobs arrive in bundles.
    let action =
        std::fs::read_to_string(root().join(".github/actions/stage/action.yml")).expect("reads");
    assert!(
        action.contains("pattern: ${{ inputs.needs }}")
            && action.contains("default: bundle-*")
            && action.contains("name: bundle-${{ inputs.name }}")
    );
}

#[test]
fn each_node_runs_in_its_own_folder_with_only_bundles() {
    let dir = tempfile::tempdir().expect("a folder");
    let table = dir.path().join("newsCorpora.csv");
    std::fs::write(&table, e2e::table(400)).expect("writes");
    let source = format!("ingest.source={}", table.display());
    let options = [source.as_str(), "train.mlp.epochs=2", "train.curve.epochs=2"];
    let graph = graph();
    let bundle = |node: &str| dir.path().join(format!("{node}.bundle")).display().to_string();
    let mut last = None;
    for (at, (node, ..)) in graph.iter().enumerate() {
        let job = Artifacts::with(&options);
        // The action downloads everything that earlier jobs have uploaded, needed or not.
        for (earlier, ..) in &graph[..at] {
            job.run(&["cache", "import", &bundle(earlier)]).ok();
        }
        let ended = job.run(&["pipeline", "--to", node]).ok();
        assert_eq!(
            ended.nodes("status", "run"),
            [node.as_str()],
            "the job of {node} runs only that node"
        );
        job.run(&["cache", "export", &bundle(node), node]).ok();
        last = Some(job);
    }
    // The next workflow, nothing having changed: a restored bundle is all that a job needs of its
    // own.
    let again = Artifacts::with(&options);
    for (node, ..) in &graph {
        again.run(&["cache", "import", &bundle(node)]).ok();
    }
    assert_eq!(again.run(&["pipeline"]).ok().nodes("status", "hit").len(), graph.len());

    let whole = Artifacts::with(&options);
    whole.run(&["pipeline"]).ok();
    let (whole, last) = (whole.bytes(), last.expect("a job").bytes());
    for file in [
        "report/train.mlp-loss.svg",
        "report/train.slp-accuracy.svg",
        "train.mlp/model.safetensors",
        "train.curve/history.jsonl",
    ] {
        assert!(whole[file] == last[file], "{file} differs");
    }
}

/// As the workflow's last job does it, and the log of the runs.
#[test]
fn a_summary_says_what_differs_and_the_log_what_was_reused() {
    let (main, branch) = (Artifacts::new(), Artifacts::new());
    main.run(&["pipeline", "--to", "train.slp"]).ok();
    let json =
        Ended::of(xtask(&["summary", "--json", "--artifacts", &main.path().display().to_string()]))
            .ok();
    let file = main.path().join("main.json");
    std::fs::write(&file, json.out).expect("writes");
    let folder = branch.path().display().to_string();
    let file = file.display().to_string();
    let against = ["summary", "--against", &file, "--artifacts", &folder];
    let none = Ended::of(xtask(&against));
    assert!(none.code == Some(2) && none.err.contains("there are no results here"), "{}", none.err);
    branch.run(&["pipeline", "--to", "train.slp"]).ok();
    branch.run(&["pipeline", "--to", "train.slp", "--set", "train.slp.epochs=2"]).ok();
    let text = Ended::of(xtask(&against)).ok().out;
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    for node in ["ingest", "split", "embed", "tensors"] {
        assert!(line(&format!("| {node} |")).ends_with("| none: the same result |"), "{text}");
    }
    let of_test = |artifacts: &Artifacts| {
        artifacts.json("train.slp/metrics.json")["test"]["accuracy"].as_f64().expect("a number")
    };
    let (now, before) = (of_test(&branch), of_test(&main));
    assert!((now - before).abs() > 0.001, "the test needs runs that differ");
    assert!(text.contains(&format!("{now:.4} ({:+.4})", now - before)), "{text}");

    let log = std::fs::read_to_string(branch.path().join(".knockline/runs.jsonl")).expect("a log");
    let runs: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let counts = |run: &serde_json::Value| (run["hits"].as_u64(), run["runs"].as_u64());
    assert_eq!(
        runs.iter().map(counts).collect::<Vec<_>>(),
        [(Some(0), Some(5)), (Some(4), Some(1))]
    );
    assert!(runs[1]["bytes_made"].as_u64() > Some(1000) && runs[1]["exit"] == 0, "{log}");
    branch.run(&["pipeline", "--to", "split", "--set", "ingest.source=/nowhere.tsv"]);
    let log = std::fs::read_to_string(branch.path().join(".knockline/runs.jsonl")).expect("a log");
    assert!(log.lines().last().is_some_and(|last| !last.contains("\"exit\":0")), "{log}");
}
