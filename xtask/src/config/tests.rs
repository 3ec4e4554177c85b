use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(sets: &[&str]) -> Result<Config> {
    Config::read(&root(), "sample", &sets.iter().map(|&s| s.to_owned()).collect::<Vec<_>>())
}

fn option(config: &Config, node: &str, option: &str) -> Json {
    config.options(config.graph.find(node).expect("a node"))[option].clone()
}

#[test]
fn both_profiles_are_valid_and_have_the_expected_defaults() {
    let sample = read(&[]).expect("reads");
    assert_eq!(option(&sample, "ingest", "source"), "sample");
    assert_eq!(option(&sample, "embed", "source"), "hash:300");
    assert_eq!(option(&sample, "split", "seed"), 123);
    assert_eq!(option(&sample, "train.slp", "lr"), 0.1);
    assert_eq!(option(&sample, "train.mlp", "epochs"), 1000);
    assert_eq!(
        (option(&sample, "train.slp", "epochs"), option(&sample, "train.curve", "epochs")),
        (10.into(), 30.into())
    );
    assert_eq!(option(&sample, "train.sweep", "batch_sizes").as_array().map(Vec::len), Some(11));
    let published = Config::read(&root(), "nlp100", &[]).expect("reads");
    assert_eq!(option(&published, "ingest", "expect.rows"), 422_937);
    assert_eq!(option(&published, "ingest", "expect.kept"), 13_356);
    assert!(option(&published, "embed", "source").to_string().contains("GoogleNews"));
}

#[test]
fn all_mistakes_are_reported_together() {
    let failure = read(&["train.mlp.lrr=1", "split.test_size=1.5", "spilt.seed=1", "x"])
        .err()
        .expect("refused");
    assert_eq!(failure.what, "the configuration has 4 mistakes");
    for part in [
        "`train.mlp.lrr` is not a known option; did you mean `lr`?",
        "must be more than 0 and less than 1",
        "did you mean `split.seed`?",
        "no `=`",
    ] {
        assert!(failure.place.contains(part), "{failure}");
    }
    assert_eq!(failure.exit, failure::Exit::Usage);
}

#[test]
fn an_option_without_its_node_gets_the_nodes_that_have_it() {
    let failure = read(&["batch_sizes=[1]"]).err().expect("refused");
    assert!(
        failure.place.contains(
            "`batch_sizes` is an option of `train.sweep`; write --set train.sweep.batch_sizes=…"
        ),
        "{failure}"
    );
}

#[test]
fn the_end_of_an_option_s_name_gets_the_full_name() {
    let failure = read(&["mlp.lr=1"]).err().expect("refused");
    assert!(failure.place.contains("did you mean `train.mlp.lr`?"), "{failure}");
}

#[test]
fn an_option_that_would_have_no_effect_is_a_mistake() {
    let failure =
        read(&["train.mlp.optimizer=adamw", "train.mlp.momentum=0.9"]).err().expect("refused");
    assert!(
        failure.place.contains(
            "`train.mlp.momentum` is set, but has no effect unless `train.mlp.optimizer` is \"sgd\""
        ),
        "{failure}"
    );
    assert!(read(&["train.mlp.momentum=0.9"]).is_ok());
    assert!(read(&["train.sweep.devices=[\"cpu\", \"cuda:1\"]"]).is_ok());
    assert!(read(&["train.mlp.optimizer=adamw", "train.mlp.momentum=0"]).is_ok());
}

#[test]
fn paths_are_relative_to_where_they_were_written() {
    let config =
        read(&["ingest.source=a/b.zip", "embed.source=https://example.org/v.bin"]).expect("reads");
    let here = std::env::current_dir().expect("a folder").join("a/b.zip");
    assert_eq!(option(&config, "ingest", "source"), here.display().to_string());
    assert_eq!(option(&config, "embed", "source"), "https://example.org/v.bin");
}

#[test]
fn the_cache_has_its_own_table() {
    assert_eq!(read(&[]).expect("reads").remote(), None);
    let far =
        read(&["cache.remote=s3://bucket/x", "cache.read_only=true"]).expect("reads").remote();
    assert_eq!(
        far,
        Some(RemoteOptions { remote: "s3://bucket/x".to_owned(), read_only: true, timeout: 10.0 })
    );
    let near =
        read(&["cache.remote=x", "cache.timeout=2"]).expect("reads").remote().expect("a remote");
    assert!(Path::new(&near.remote).is_absolute() && !near.read_only);
    let failure = read(&["cache.remot=x"]).err().expect("refused");
    assert!(failure.place.contains("did you mean `remote`?"), "{failure}");
}

#[test]
fn an_unknown_profile_is_named_with_the_known_ones() {
    let failure = Config::read(&root(), "nlp10", &[]).err().expect("refused");
    assert!(
        failure.what.contains("did you mean `nlp100`?") && failure.remedy.contains("sample"),
        "{failure}"
    );
}

fn names(config: &Config) -> Vec<&str> {
    config.graph.iter().filter(|node| node.is_run).map(|node| node.name.as_str()).collect()
}

#[test]
fn a_new_run_has_the_options_of_its_net() {
    let config = read(&["train.wide.net=\"mlp\"", "train.wide.hidden=400", "train.a.net=slp"])
        .expect("reads");
    let configured = ["train.slp", "train.curve", "train.mlp"];
    let combined = ["train.linear", "train.knn", "train.best"];
    assert_eq!(names(&config), [&configured[..], &combined, &["train.wide", "train.a"]].concat());
    assert_eq!(
        (option(&config, "train.wide", "hidden"), option(&config, "train.wide", "batch_size")),
        (400.into(), 64.into())
    );
    assert_eq!(option(&config, "train.a", "batch_size"), 1);
    for (sets, want) in [
        (&["train.mpl.lr=0.1"][..], "there is no run `train.mpl`; did you mean `train.mlp`?"),
        (&["train.x.net=slp", "train.X.net=slp"], "`train.x` and `train.X` differ only in case"),
        (&["train.other.lr=1"], "the run `train.other` has no net; set `train.other.net` = "),
        (&["train.x.net=rnn2"], "`train.x.net` cannot be \"rnn2\""),
        (&["train.x.net=slp", "train.x.hidden=4"], "`train.x.hidden` is not a known option"),
        (&["train.x y.net=slp"], "a run's name may contain only letters, digits, _ and -"),
        (&["train.slp.net=mlp", "train.slp.hidden=x"], "`train.slp.hidden` must be a whole number"),
    ] {
        let failure = read(sets).err().expect("refused");
        assert!(failure.place.contains(want), "{failure}");
    }
    assert!(read(&["train.slp.net=mlp"]).is_ok(), "an entry like any other");
    assert!(read(&["train.x.net='mlp'", "train.x.hidden=9"]).is_ok(), "quoted as in TOML");
}

#[test]
fn a_matrix_is_a_run_for_each_combination() {
    let sets = [
        "train.wide.net=mlp",
        "matrix.train.wide.hidden=[100, 200, 400]",
        "matrix.train.wide.lr=[0.01, 1e-3]",
    ];
    let config = read(&sets).expect("reads");
    assert_eq!(names(&config).len(), 6 + 6);
    assert_eq!(
        names(&config)[6..8],
        ["train.wide@hidden=100+lr=0.01", "train.wide@hidden=100+lr=0.001"]
    );
    assert_eq!(option(&config, "train.wide@hidden=400+lr=0.001", "hidden"), 400);
    assert_eq!(config.graph.called("train.wide").expect("six").len(), 6);
    let nets = read(&["matrix.train.x.net=[\"slp\", \"mlp\"]"]).expect("reads");
    assert_eq!(names(&nets)[6..], ["train.x@net=slp", "train.x@net=mlp"]);
    for (set, want) in [
        ("matrix.train.slp.lr=0.1", "must be a list of values"),
        ("matrix.train.slp.lr=[0.1, -1]", "`matrix.train.slp.lr` must be more than 0, not -1"),
        ("matrix.train.slp.net=[slp, mlp]", "such as [1, 2] or [\"a\", \"b\"]"),
        ("matrix.train.slp.init=[\"a/w\", \"b/w\"]", "gives two runs the name `train.slp@init=w`"),
        ("matrix.train.slp.lr=[1, 1.0]", "gives two runs the name `train.slp@lr=1.0`"),
        ("matrix.split.seed=[1, 2]", "only a training run has a matrix"),
        ("matrix.train.mpl.lr=[1]", "there is no run `train.mpl`; did you mean `train.mlp`?"),
    ] {
        let failure = read(&[set]).err().expect("refused");
        assert!(failure.place.contains(want), "{set}: {failure}");
    }
    // Paths of the command line are relative to the current folder, and names have none.
    let paths = read(&["matrix.train.slp.init=[\"a/x.st\", \"b/y.st\"]"]).expect("reads");
    assert_eq!(names(&paths)[..2], ["train.slp@init=x.st", "train.slp@init=y.st"]);
    let here = std::env::current_dir().expect("a folder").join("a/x.st");
    assert_eq!(option(&paths, "train.slp@init=x.st", "init"), here.display().to_string());
    // A `--set` after another one overrides it, so it must have an effect.
    let useless = ["matrix.train.slp.lr=[0.1, 0.2]", "train.slp.lr=0.5"];
    let failure = read(&useless).err().expect("refused");
    assert!(failure.place.contains("`train.slp.lr` has no effect"), "{failure}");
    let many: Vec<String> = (1..=1001).map(|n| n.to_string()).collect();
    let failure =
        read(&[&format!("matrix.train.slp.seed=[{}]", many.join(","))]).err().expect("refused");
    assert!(failure.place.contains("has 1001 combinations; at most 1000 are allowed"), "{failure}");
}

#[test]
fn a_table_can_be_set_at_once() {
    let set = "ingest.columns={ text = [\"title\", \"body\"], label = \"kind\" }";
    let config = read(&[set]).expect("reads");
    let options = config.options(config.graph.find("ingest").expect("a node"));
    assert_eq!(options["columns.text"], serde_json::json!(["title", "body"]));
    assert_eq!(options["columns.label"], "kind");
    let wrong = read(&["ingest.columns={ texts = \"title\" }"]).err().expect("refused");
    assert!(wrong.place.contains("did you mean `columns.text`?"), "{wrong}");
}

#[test]
fn members_that_a_stack_cannot_have_are_mistakes() {
    let mistakes = |members: &str| {
        let set = format!("train.two.members={members}");
        let sets = ["train.two.net=stack", "train.one.net=linear", set.as_str()];
        read(&sets).map_or_else(|failure| failure.place, |_| String::new())
    };
    assert_eq!(mistakes(r#"["train.linear", "train.knn"]"#), "");
    let matrix = read(&["matrix.train.knn.k=[4, 8]"]).err().expect("refused").place;
    assert!(
        matrix.contains("is a matrix; list its runs: `train.knn@k=4`, `train.knn@k=8`"),
        "{matrix}"
    );
    for (members, want) in [
        (r#"["train.one"]"#, "which needs the option `train.one.folds`"),
        (r#"["train.slp"]"#, "`train.slp`, which needs the option `train.slp.folds`"),
        (r#"["train.kn"]"#, "which is not another run; did you mean `train.knn`?"),
        (r#"["train.two"]"#, "which is not another run"),
    ] {
        let found = mistakes(members);
        assert!(found.contains(want) && !found.contains('\n'), "{members}: {found}");
    }
}

/// The configuration of a folder with the workspace's stages, these texts as `pipeline.toml` and
/// profile, and these options.
fn read_own(pipeline: &str, profile: &str, sets: &[&str]) -> Result<Config> {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("writes");
    };
    put("pipeline.toml", pipeline);
    put("profiles/own.toml", profile);
    let crates = dir.path().join("crates");
    std::os::unix::fs::symlink(root().join("crates"), crates).expect("a link");
    Config::read(dir.path(), "own", &sets.iter().map(|&s| s.to_owned()).collect::<Vec<_>>())
}

#[test]
fn a_profile_keeps_the_runs_that_it_lists_and_has_its_own() {
    let two =
        "[train.a]\nnet = \"slp\"\n[train.b]\nnet = \"mlp\"\n[matrix.train.b]\nlr = [0.1, 0.5]\n";
    let kept = |profile: &str, sets: &[&str]| {
        let config = read_own(two, profile, sets).expect("reads");
        let nodes = config.graph.iter().map(|node| node.name.to_string());
        nodes.filter(|name| name.starts_with("train.")).collect::<Vec<_>>()
    };
    let all = ["train.a", "train.b@lr=0.1", "train.b@lr=0.5", "train.sweep"];
    assert_eq!(kept("", &[]), all);
    assert_eq!(kept("keep_runs = []\n[train.c]\nnet = \"slp\"\n", &[]), ["train.c"]);
    assert_eq!(kept("keep_runs = [\"train.b\"]\n", &[]), ["train.b@lr=0.1", "train.b@lr=0.5"]);
    assert_eq!(kept("keep_runs = [\"train.sweep\"]\n", &[]), ["train.sweep"]);
    // What is set later is wanted.
    assert_eq!(kept("keep_runs = []\n[train.sweep]\nlr = 0.2\n", &[]), ["train.sweep"]);
    assert_eq!(kept("keep_runs = []\n", &["train.sweep.lr=0.2"]), ["train.sweep"]);
    // A run of the same name starts from scratch.
    let again = "keep_runs = []\n[train.b]\nnet = \"slp\"\n";
    assert_eq!(kept(again, &[]), ["train.b"]);
    for (profile, want) in [
        ("keep_runs = [\"train.aa\"]", "there is no run `train.aa`; did you mean `train.a`?"),
        ("keep_runs = \"train.a\"", "`keep_runs` must be a list of runs"),
        ("keep_runs = [1]", "`keep_runs` must be a list of runs"),
    ] {
        let failure = read_own(two, profile, &[]).err().expect("refused");
        assert!(failure.place.contains(want), "{failure}");
    }
}
