use std::path::Path;

use serde_json::json;

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

fn graph(runs: &[(&str, &str)]) -> Result<Graph> {
    let runs: Vec<UserRun> = runs
        .iter()
        .map(|(name, net)| UserRun {
            name: NodeName::try_from(*name).expect("a name"),
            net: (*net).to_owned(),
            options: Options::from([("members".to_owned(), json!(["train.a", "train.b"]))]),
        })
        .collect();
    Graph::new(&Declared::read(root())?, &runs, &[])
}

#[test]
fn every_node_comes_after_those_that_it_reads() {
    let graph = graph(&[("train.wide", "mlp"), ("train.slp", "slp")]).expect("a graph");
    let names: Vec<&str> = graph.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(
        names,
        ["ingest", "split", "embed", "tensors", "train.wide", "train.slp", "train.sweep", "report"]
    );
    for (at, node) in graph.iter().enumerate() {
        for input in &node.reads {
            assert!(
                graph.iter().take(at).any(|n| n.name == input.node),
                "{} reads {}",
                node.name,
                input.node
            );
            assert!(!input.files.is_empty());
        }
    }
}

#[test]
fn a_node_on_demand_is_there_only_if_another_needs_it() {
    let runs = [UserRun {
        name: NodeName::try_from("train.a").expect("a name"),
        net: "mean".to_owned(),
        options: Options::new(),
    }];
    let declared = Declared::read(root()).expect("declarations");
    let names = |left_out: &[&str]| {
        let graph = Graph::new(&declared, &runs, left_out).expect("a graph");
        let report = graph.find("report").expect("a node");
        // What the report reads is there.
        assert!(report.reads.iter().all(|input| graph.find(&input.node).is_some()));
        graph.iter().map(|node| node.name.to_string()).collect::<Vec<_>>()
    };
    let all = ["ingest", "split", "embed", "tokens", "train.a", "tensors", "train.sweep", "report"];
    assert_eq!(names(&[]), all);
    // Without the sweep, nothing needs the features.
    assert_eq!(
        names(&["train.sweep"]),
        ["ingest", "split", "embed", "tokens", "train.a", "report"]
    );
}

#[test]
fn a_stack_reads_its_members_and_comes_after_them() {
    let graph = graph(&[
        ("train.both", "stack"),
        ("train.c", "knn"),
        ("train.b", "knn"),
        ("train.a", "linear"),
    ])
    .expect("a graph");
    let both = graph.find("train.both").expect("the stack");
    let read: Vec<&str> = both.reads.iter().map(|input| input.node.as_str()).collect();
    assert_eq!(read, ["train.b", "train.a"]);
    let place = |name: &str| graph.iter().position(|node| node.name == *name);
    assert!(place("train.both") > place("train.a") && place("train.both") > place("train.b"));
}

#[test]
fn the_report_reads_from_every_run_what_its_net_writes() {
    let graph = graph(&[("train.wide", "mlp"), ("train.slp", "slp")]).expect("a graph");
    let has_start = |run| graph.files_read_of(run).contains("start.json");
    assert!(has_start("train.slp") && !has_start("train.wide") && !has_start("train.sweep"));
    assert!(graph.files_read_of("train.wide").contains("predictions.parquet"));
    assert!(!graph.files_read_of("train.sweep").contains("predictions.parquet"));
}

#[test]
fn a_wrong_name_gets_the_nearest_one_and_a_run_s_name_means_its_matrix() {
    let graph = graph(&[
        ("train.wide@hidden=1", "mlp"),
        ("train.wide@hidden=2", "mlp"),
        ("train.wider", "mlp"),
    ])
    .expect("a graph");
    assert!(graph.called("tensor").unwrap_err().what.contains("did you mean `tensors`?"));
    assert_eq!(graph.called("train.wide").expect("two").len(), 2);
    assert_eq!(graph.called("train.wide@hidden=2").expect("one").len(), 1);
    let report = graph.find("report").expect("a node");
    assert!(
        graph.depends(report, "ingest")
            && !graph.depends(graph.find("split").expect("a node"), "embed")
    );
}

#[test]
fn declarations_that_do_not_fit_together_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |package: &str, text: &str| {
        std::fs::create_dir_all(dir.path().join("crates").join(package)).expect("a folder");
        std::fs::write(dir.path().join("crates").join(package).join("node.toml"), text)
            .expect("writes");
    };
    let node = |name: &str, of: &str| {
        format!(
            "[[node]]\nname = \"{name}\"\noptions = []\nreads = [{{ node = \"{of}\", files = [\"x\"] }}]\n"
        )
    };
    let refusal = || {
        Declared::read(dir.path()).and_then(|d| Graph::new(&d, &[], &[])).expect_err("refused").what
    };
    put("a", &node("a", "b"));
    assert_eq!(refusal(), "`a` reads `b`, which no stage declares");
    put("b", &node("b", "a"));
    assert_eq!(refusal(), "`a` depends on itself");
}
