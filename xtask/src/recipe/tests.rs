use std::collections::BTreeSet;

use super::*;
use cache::Index;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

fn named(name: &str) -> NodeName {
    NodeName::try_from(name).expect("a name")
}

/// Compares each key's inputs with what the declarations say, not with the graph made of them.
#[test]
fn every_file_that_a_stage_may_read_is_in_its_key() {
    let config =
        Config::read(root(), "sample", &["train.wide.net=mlp".into()]).expect("a configuration");
    let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
    let all = crate::declared::Declared::read(root()).expect("declarations");
    let net =
        |node: &Node| config.options(node).get("net").and_then(Json::as_str).map(str::to_owned);
    let files: Vec<String> =
        all.iter().flat_map(|(_, d)| &d.reads).flat_map(|read| read.files.clone()).collect();
    let manifests: Vec<Manifest> =
        config.graph.iter().map(|node| made(&node.name, &files)).collect();
    let mut most = 0;
    for node in config.graph.iter() {
        let (_, declared) = all.find(&node.name, net(node).as_deref()).expect("a declaration");
        let mut expected = BTreeSet::new();
        for other in config.graph.iter() {
            let is_named = declared.reads.iter().any(|r| r.node.as_str() == &*other.name);
            for read in &declared.reads {
                let applies = if is_named {
                    read.node.as_str() == &*other.name
                } else {
                    read.node.matches(&other.name)
                };
                let is_listed = read.option.as_ref().is_none_or(|option| {
                    let listed = config.options(node).get(option).cloned().unwrap_or_default();
                    let mut names = listed.as_array().into_iter().flatten();
                    names.any(|name| name.as_str() == Some(&*other.name))
                });
                if applies && is_listed && (read.net.is_none() || read.net == net(other)) {
                    let input = |file| format!("input {}/{file}", other.name);
                    expected.extend(read.files.iter().map(input));
                }
            }
        }
        let found = |name: &str| manifests.iter().find(|manifest| manifest.node == *name);
        let content = recipes.content(node, found).expect("ingredients");
        let inputs = content.only(|name| name.starts_with("input ") && name.contains('/'));
        for input in &expected {
            assert!(inputs.get(input).is_some(), "{}: {input}", node.name);
        }
        let other = inputs.only(|name| !expected.contains(name));
        assert_eq!(other, inputs.only(|_| false), "{}: undeclared", node.name);
        most = most.max(expected.len());
    }
    // The report reads most: 4 nodes, 7 runs, the histories of 4 of them and the starts of 2, a
    // linear one's passes and strongest features, and the sweep; for the nets of its page, the words
    // and n-grams, three files of the linear run and one of each of the 2 single-layer nets.
    assert_eq!(most, 11 + 7 * 3 + 4 + 2 + 2 + 3 + 5 + 2 + 3 + 2);
}

/// A manifest that has these files.
fn made(node: &NodeName, files: &[String]) -> Manifest {
    let file = |path: &String| cache::Output {
        path: path.clone(),
        size: 0,
        digest: Digest::of(path.as_bytes()),
    };
    let files = files.iter().map(file).collect();
    Manifest::new(node, Digest::of(b"").into(), Ingredients::new(), String::new(), files)
}

fn key(node: &str, sets: &[&str], device: &str) -> RecipeKey {
    let sets: Vec<String> = sets.iter().map(|&s| s.to_owned()).collect();
    let config = Config::read(root(), "sample", &sets).expect("a configuration");
    let recipes = Recipes::new(root(), &config, device, &Index::default()).expect("recipes");
    recipes.recipe(config.graph.find(node).expect("a node")).expect("a key")
}

#[test]
fn key_differs_when_an_option_of_the_node_or_of_one_before_it_does() {
    let plain = key("train.mlp", &[], "cpu");
    for set in [
        "train.mlp.lr=0.5",
        "tensors.empty=drop",
        "embed.seed=7",
        "split.group_by=story",
        "ingest.publishers=[\"*\"]",
    ] {
        assert_ne!(plain, key("train.mlp", &[set], "cpu"), "{set}");
    }
}

#[test]
fn key_is_the_same_when_an_option_of_another_branch_differs() {
    assert_eq!(key("train.mlp", &[], "cpu"), key("train.mlp", &["train.slp.lr=0.5"], "cpu"));
    assert_eq!(key("train.slp", &["train.slp.lr=0.10"], "cpu"), key("train.slp", &[], "cpu"));
}

#[test]
fn key_differs_when_the_device_does_and_only_for_training() {
    assert_ne!(key("train.mlp", &[], "cpu"), key("train.mlp", &[], "cuda"));
    assert_eq!(key("train.mlp", &[], "cuda"), key("train.mlp", &[], "cuda:1"));
    assert_eq!(key("tensors", &[], "cpu"), key("tensors", &[], "cuda"));
}

#[test]
fn key_differs_when_the_compiler_does() {
    let config = Config::read(root(), "sample", &[]).expect("a configuration");
    let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
    let own = recipes.own(config.graph.find("split").expect("a node")).expect("ingredients");
    assert!(
        own.get("compiler").is_some_and(|c| c.starts_with("rustc 1.")),
        "{:?}",
        own.get("compiler")
    );
    let other = own.with(&[("compiler".to_owned(), "rustc 2.0.0".to_owned())]);
    assert_eq!(own.changes(&other).len(), 1, "the compiler is one of the ingredients");
}

/// A manifest of `split` whose files have these contents.
fn split(train: &str, summary: &str) -> Manifest {
    let file = |path: &str, text: &str| cache::Output {
        path: path.into(),
        size: 0,
        digest: Digest::of(text.as_bytes()),
    };
    let files = vec![
        file("train.parquet", train),
        file("valid.parquet", "v"),
        file("test.parquet", "t"),
        file("summary.json", summary),
    ];
    Manifest::new(&named("split"), Digest::of(b"").into(), Ingredients::new(), String::new(), files)
}

#[test]
fn key_differs_when_an_artifact_that_is_read_does_and_is_the_same_when_another_does() {
    let config = Config::read(root(), "sample", &[]).expect("a configuration");
    let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
    let key = |manifest: &Manifest| {
        let embed = config.graph.find("embed").expect("a node");
        recipes
            .content(embed, |name| (name == "split").then_some(manifest))
            .expect("ingredients")
            .content_key()
    };
    assert_ne!(key(&split("a", "x")), key(&split("b", "x")));
    assert_eq!(key(&split("a", "x")), key(&split("a", "y")));
}

#[test]
fn key_differs_when_a_source_s_content_does_and_not_when_its_folder_does() {
    let (one, two) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let put = |dir: &tempfile::TempDir, text: &str| {
        std::fs::write(dir.path().join("x.csv"), text).expect("writes");
        format!("ingest.source={}", dir.path().join("x.csv").display())
    };
    let first = key("ingest", &[&put(&one, "a")], "cpu");
    assert_eq!(first, key("ingest", &[&put(&two, "a")], "cpu"));
    assert_ne!(first, key("ingest", &[&put(&two, "b")], "cpu"));
    // The file counts even after a mirror, which may be down.
    let list = |text: &str| {
        let _ = put(&two, text);
        format!(
            "ingest.source=[\"http://127.0.0.1:9/x.csv\", \"{}\"]",
            two.path().join("x.csv").display()
        )
    };
    assert_ne!(key("ingest", &[&list("a")], "cpu"), key("ingest", &[&list("b")], "cpu"));
}

#[test]
fn a_pinned_file_must_have_the_checksum_and_a_missing_one_counts_by_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x.csv");
    std::fs::write(&file, "abc").expect("writes");
    // FIPS 180-2, appendix B.1.
    let pin = "ingest.sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let source = format!("ingest.source={}", file.display());
    let recipe = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|&s| s.to_owned()).collect();
        let config = Config::read(root(), "sample", &sets).expect("a configuration");
        Recipes::new(root(), &config, "cpu", &Index::default())
            .and_then(|r| Ok(r.recipe(config.graph.find("ingest").expect("a node"))?))
    };
    let right = recipe(&[&source, pin]).expect("a key");
    std::fs::write(&file, "ab").expect("cuts");
    let failure = recipe(&[&source, pin]).expect_err("refused");
    assert!(
        failure.what.starts_with("SHA-256 is fb8e20fc") && failure.exit == failure::Exit::BadInput,
        "{failure}"
    );
    // The run takes the first source that has the checksum.
    let list = format!("ingest.source=[\"{}\", \"http://127.0.0.1:9/x.csv\"]", file.display());
    assert_eq!(recipe(&[&list, pin]).expect("a key"), right);
    std::fs::remove_file(&file).expect("removes");
    assert_eq!(recipe(&[&source, pin]).expect("a key"), right);
}

#[test]
fn key_differs_when_the_machine_does_and_only_for_what_measures_time() {
    let config = Config::read(root(), "sample", &[]).expect("a configuration");
    let mut recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
    let file =
        |path: &&str| cache::Output { path: (*path).into(), size: 0, digest: Digest::of(b"x") };
    let files = ["labels.json", "train.safetensors", "valid.safetensors", "test.safetensors"]
        .iter()
        .map(file)
        .collect();
    let tensors = Manifest::new(
        &named("tensors"),
        Digest::of(b"").into(),
        Ingredients::new(),
        String::new(),
        files,
    );
    let keys = |recipes: &Recipes<'_>| {
        ["train.sweep", "train.mlp"].map(|node| {
            let node = config.graph.find(node).expect("a node");
            let content =
                recipes.content(node, |_| Some(&tensors)).expect("ingredients").content_key();
            (content, recipes.recipe(node).expect("a key"))
        })
    };
    let [sweep, mlp] = keys(&recipes);
    recipes.machine.threads += 1;
    let [other_sweep, other_mlp] = keys(&recipes);
    assert_ne!(sweep.0, other_sweep.0);
    assert_eq!(sweep.1, other_sweep.1, "the recipe key is the same on every machine");
    assert_eq!(mlp, other_mlp);
}

#[test]
fn a_source_that_cannot_be_read_does_not_affect_unrelated_nodes() {
    let config = Config::read(root(), "sample", &["embed.source=/nothing/here.bin".into()])
        .expect("a configuration");
    let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
    assert!(recipes.recipe(config.graph.find("split").expect("a node")).is_ok());
    assert!(
        Failure::from(recipes.recipe(config.graph.find("tensors").expect("a node")).unwrap_err())
            .what
            .contains("cannot read the source")
    );
}

#[test]
fn a_folder_cannot_be_pinned_since_its_content_would_not_be_in_the_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = format!("embed.source={}", dir.path().display());
    let sum = format!("embed.sha256={}", "0".repeat(64));
    let config = Config::read(root(), "sample", &[source, sum]).expect("a configuration");
    let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
    let refused = recipes.recipe(config.graph.find("embed").expect("a node")).unwrap_err();
    assert_eq!(Failure::from(refused).what, "a folder has no checksum");
}
