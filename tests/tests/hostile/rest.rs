//! Bad downloads, artifacts, bundles, options, and headlines to classify.

use std::path::Path;

use crate::world::{Cases, World, part, serve, tensors};

pub fn downloads(world: &World, cases: &mut Cases) {
    cases.group("Downloads");
    let url = |answer: &'static str| world.set(&[&format!("ingest.source={}", serve(answer))]);
    cases.add(
        "a server without the file",
        4,
        "the server answers 404",
        url("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "a server that forbids it",
        4,
        "the server answers 403",
        url("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "a server that is always busy",
        4,
        "the server answers 503 Service Unavailable, 5 times",
        url("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "a web page under the file's name",
        4,
        "a web page",
        url("HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\n<!DOCTYPE html><html>"),
    );
    cases.add(
        "redirects in a circle",
        4,
        "too many redirects",
        url("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    cases.add(
        "more than the disk has room for",
        4,
        "the download needs another",
        url("HTTP/1.1 200 OK\r\nContent-Length: 900000000000000000\r\nConnection: close\r\n\r\nPK"),
    );
    let small = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndata";
    let sum = format!("ingest.sha256={}", "0".repeat(64));
    cases.add(
        "another file than is pinned",
        4,
        "SHA-256 is",
        world.set(&[&format!("ingest.source={}", serve(small)), &sum]),
    );
    cases.add("a download that is not an archive", 3, "delete it to download it again", url(small));
    cases.add(
        "nobody at the address",
        4,
        "127.0.0.1:9",
        world.set(&["ingest.source=http://127.0.0.1:9/news.zip"]),
    );
    cases.add(
        "another protocol",
        2,
        "cannot download over ftp",
        world.set(&["ingest.source=ftp://a.example/news.zip"]),
    );
    cases.add(
        "an address that is not a URL",
        2,
        "not a URL",
        world.set(&["ingest.source=http://"]),
    );
    let secret = "ingest.source=http://me:secret@a example/news.zip?token=secret";
    cases.add("an address that is not a URL, with secrets", 2, "not a URL", world.set(&[secret]));
    let mut offline = url(small);
    offline.arg("--offline");
    cases.add("a download where --offline forbids it", 4, "--offline forbids a download", offline);
}

pub fn artifacts(world: &World, cases: &mut Cases) {
    cases.group("Artifacts");
    let good = || part(&[1.0, 2.0, 3.0, 4.0], &[0, 3], 2);
    let train = |first: Vec<u8>| {
        let files = [
            ("train.safetensors", first),
            ("valid.safetensors", good()),
            ("test.safetensors", good()),
        ];
        world.stage("train", "train.slp", "tensors", &files)
    };
    cases.add(
        "missing tensors",
        3,
        "an artifact of an earlier stage is missing",
        world.stage("train", "train.slp", "tensors", &[("x", vec![])]),
    );
    cases.add("an empty file of tensors", 3, "", train(Vec::new()));
    cases.add(
        "tensors with a header that is longer than the file",
        3,
        "",
        train([&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
    );
    cases.add("tensors with a header that is not JSON", 3, "", train(tensors("not json", b"")));
    let beyond = r#"{"X":{"dtype":"F32","shape":[1000000,300],"data_offsets":[0,1200000000]}}"#;
    cases.add("tensors that claim more than the file has", 3, "", train(tensors(beyond, &[0; 8])));
    let ids = r#""id":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"y":{"dtype":"I64","shape":[2],"data_offsets":[16,32]}"#;
    let double = tensors(
        &format!(r#"{{{ids},"X":{{"dtype":"F64","shape":[2,2],"data_offsets":[32,64]}}}}"#),
        &[0; 64],
    );
    cases.add("features of another type", 3, "array `X` is F64 [2, 2]", train(double));
    let vector = format!(r#"{{{ids},"X":{{"dtype":"F32","shape":[2],"data_offsets":[32,40]}}}}"#);
    cases.add(
        "features that are not a matrix",
        3,
        "array `X` is F32 [2]",
        train(tensors(&vector, &[0; 40])),
    );
    let alone = r#"{"X":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    cases.add("features without labels", 3, "", train(tensors(alone, &[0; 8])));
    cases.add(
        "more rows than labels",
        3,
        "array `id` is I64 [1], not I64 [2]",
        train(part(&[1.0, 2.0, 3.0, 4.0], &[0], 2)),
    );
    cases.add(
        "a label of 4",
        3,
        "label 4 in row 1",
        train(part(&[1.0, 2.0, 3.0, 4.0], &[0, 4], 2)),
    );
    cases.add(
        "a label of -1",
        3,
        "label -1 in row 0",
        train(part(&[1.0, 2.0, 3.0, 4.0], &[-1, 0], 2)),
    );
    cases.add(
        "a feature that is NaN",
        3,
        "X is not finite in row 1, column 0",
        train(part(&[1.0, 2.0, f32::NAN, 4.0], &[0, 1], 2)),
    );
    cases.add("no rows at all", 3, "X has no rows", train(part(&[], &[], 2)));
    cases.add(
        "parts with different numbers of features",
        3,
        "not F32 [n, 3]",
        train(part(&[1.0; 6], &[0, 1], 3)),
    );
    let parquet = |file: &str| std::fs::read(world.artifacts.path().join(file)).expect("reads");
    let other = || {
        world.stage(
            "split",
            "split",
            "ingest",
            &[("headlines.parquet", parquet("embed/vocabulary.parquet"))],
        )
    };
    cases.add("a table with other columns", 3, "headlines.parquet", other());
    let table = parquet("ingest/headlines.parquet");
    cases.add(
        "half a table",
        3,
        "headlines.parquet",
        world.stage(
            "split",
            "split",
            "ingest",
            &[("headlines.parquet", table[..table.len() / 2].to_vec())],
        ),
    );
    cases.add(
        "a file that is not a table",
        3,
        "headlines.parquet",
        world.stage("split", "split", "ingest", &[("headlines.parquet", b"no parquet".to_vec())]),
    );
    let mismatch = [
        ("vocabulary.parquet", parquet("embed/vocabulary.parquet")),
        (
            "vectors.safetensors",
            tensors(r#"{"vectors":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#, &[0; 8]),
        ),
    ];
    cases.add(
        "another number of vectors than of words",
        3,
        "words for 1 vectors",
        world.stage("tensors", "tensors", "embed", &mismatch),
    );
    sequences(world, cases);
    let mlp = world.artifacts.path().join("train.mlp/model.safetensors");
    cases.add(
        "starting weights of another net",
        3,
        "train.slp.init",
        world.set_to("train.slp", &[&format!("train.slp.init={}", mlp.display())]),
    );
    let page = world.put("init.safetensors", b"<html>");
    cases.add(
        "starting weights that are a web page",
        3,
        "train.slp.init",
        world.set_to("train.slp", &[&format!("train.slp.init={}", page.display())]),
    );

    cases.group("Bundles");
    let import = |path: &Path| world.xtask(&["cache", "import", &path.display().to_string()]);
    cases.add(
        "a bundle that does not exist",
        3,
        "cannot read the bundle",
        import(&world.dir.path().join("nothing.knockline")),
    );
    cases.add("a folder", 3, "this is a folder, not a bundle", import(world.dir.path()));
    cases.add(
        "a file that is not a bundle",
        3,
        "this is not a bundle",
        import(&world.put("page.knockline", b"<html>")),
    );
    let whole = world.dir.path().join("whole.knockline");
    world.artifacts.run(&["cache", "export", &whole.display().to_string(), "ingest"]).ok();
    let bytes = std::fs::read(&whole).expect("a bundle");
    cases.add(
        "half a bundle",
        3,
        "damaged or cut off",
        import(&world.put("half.knockline", &bytes[..bytes.len() / 2])),
    );
    let mut flipped = bytes.clone();
    // The frame ends in a checksum (RFC 8878, section 3.1.1).
    *flipped.last_mut().expect("bytes") ^= 4;
    cases.add(
        "a bundle with a wrong checksum",
        3,
        "get the bundle again",
        import(&world.put("flipped.knockline", &flipped)),
    );
}

/// Bad results of `tokens`.
fn sequences(world: &World, cases: &mut Cases) {
    let table = |values: &[f32]| {
        let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let header = format!(
            r#"{{"E":{{"dtype":"F32","shape":[{},2],"data_offsets":[0,{}]}}}}"#,
            values.len() / 2,
            data.len()
        );
        tensors(&header, &data)
    };
    let rows = |ids: [u32; 2], offsets: [i64; 3], y: [i64; 2]| {
        let header = r#"{"offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},"y":{"dtype":"I64","shape":[2],"data_offsets":[24,40]},"id":{"dtype":"I64","shape":[2],"data_offsets":[40,56]},"ids":{"dtype":"U32","shape":[2],"data_offsets":[56,64]}}"#;
        let long = offsets.into_iter().chain(y).chain([1, 2]).flat_map(i64::to_le_bytes);
        let data: Vec<u8> = long.chain(ids.into_iter().flat_map(u32::to_le_bytes)).collect();
        tensors(header, &data)
    };
    let good = || rows([1, 2], [0, 1, 2], [0, 1]);
    let train = |e: &[f32], first: Vec<u8>| {
        let files = [
            ("embeddings.safetensors", table(e)),
            ("train.safetensors", first),
            ("valid.safetensors", good()),
            ("test.safetensors", good()),
        ];
        let mut command = world.stage("train", "train.x", "tokens", &files);
        command.args(["--set", "net=mean"]);
        command
    };
    let e = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0];
    cases.add(
        "a matrix of embeddings whose row for padding is not zeros",
        3,
        "row 0 of E, the padding, is not zeros",
        train(&[0.0, 1.0, 1.0, 2.0, 3.0, 4.0], good()),
    );
    cases.add(
        "an embedding that is not a number",
        3,
        "E is not finite in row 1, column 1",
        train(&[0.0, 0.0, 1.0, f32::NAN, 3.0, 4.0], good()),
    );
    cases.add(
        "a token that the matrix has no row for",
        3,
        "token 1 has id 3; ids are 1 to 2",
        train(&e, rows([1, 3], [0, 1, 2], [0, 1])),
    );
    cases.add(
        "a sequence that contains padding",
        3,
        "token 0 has id 0; ids are 1 to 2",
        train(&e, rows([0, 2], [0, 1, 2], [0, 1])),
    );
    cases.add(
        "sequences whose ends are out of order",
        3,
        "`offsets` does not go from 0 to the number of tokens",
        train(&e, rows([1, 2], [0, 3, 2], [0, 1])),
    );
    cases.add(
        "a sequence with a label that there is not",
        3,
        "label 4 in row 1; labels are 0 to 3",
        train(&e, rows([1, 2], [0, 1, 2], [0, 4])),
    );
}

pub fn options(world: &World, cases: &mut Cases) {
    cases.group("Configuration");
    for (what, sets, says) in [
        ("an unknown option", &["train.mlp.lrr=1"][..], "did you mean `lr`?"),
        ("an unknown node", &["trian.mlp.lr=1"], "did you mean `train.mlp.lr`?"),
        ("an option without its node", &["batch_sizes=[1]"], "is an option of `train.sweep`"),
        ("no value", &["train.mlp.lr"], "there is no `=`"),
        ("a word for a number", &["train.mlp.lr=fast"], "must be a number"),
        ("a fraction for a whole number", &["train.mlp.epochs=1.5"], "must be a whole number"),
        ("a negative learning rate", &["train.mlp.lr=-1"], "must be more than 0"),
        ("a learning rate that is not a number", &["train.mlp.lr=nan"], "must be a finite number"),
        ("batches of no rows", &["train.slp.batch_size=0"], "must be at least 1"),
        ("a share of more than all", &["split.test_size=1.5"], "less than 1"),
        ("an unknown choice", &["tensors.empty=zeros"], "did you mean `zero`?"),
        ("vectors of no components", &["embed.source=hash:0"], "a number from 1 to 65536"),
        ("a checksum of three digits", &["ingest.sha256=abc"], "64 hexadecimal digits"),
        (
            "the sample among mirrors",
            &["ingest.source=[\"sample\", \"http://a.example/b.zip\"]"],
            "a list takes paths and URLs only",
        ),
        ("the same seed twice", &["train.mlp.seeds=[1, 1]"], "has 1 twice"),
        ("annealing that raises the rate", &["train.mlp.lr=1e-6"], "annealing lowers the rate"),
        (
            "momentum for an optimizer without momentum",
            &["train.mlp.optimizer=adamw", "train.mlp.momentum=0.9"],
            "has no effect unless",
        ),
        (
            "a run without a net",
            &["train.wide.lr=1"],
            "the run `train.wide` has no net; set `train.wide.net`",
        ),
        ("an unknown net", &["train.wide.net=transformer"], "cannot be \"transformer\""),
        (
            "a stack of a run that does not exist",
            &["train.two.net=stack", r#"train.two.members=["train.kn"]"#],
            "lists `train.kn`, which is not another run; did you mean `train.knn`?",
        ),
        (
            "a stack of a stack",
            &["train.two.net=stack", r#"train.two.members=["train.best"]"#],
            "whose net is stack, not linear or knn",
        ),
        (
            "a stack of a linear run without folds",
            &["train.one.net=linear", "train.two.net=stack", r#"train.two.members=["train.one"]"#],
            "which needs the option `train.one.folds`",
        ),
        (
            "two stacks of each other",
            &[
                "train.one.net=stack",
                r#"train.one.members=["train.two"]"#,
                "train.two.net=stack",
                r#"train.two.members=["train.one"]"#,
            ],
            "`train.one.members` lists `train.two`, whose net is stack, not linear or knn",
        ),
        ("a range from more to less", &["ngrams.word=[2, 1]"], "the least and the most"),
        ("a range from 0", &["ngrams.char_wb=[0, 3]"], "must be at least 1"),
        (
            "an option of the other net",
            &["train.slp.hidden=4"],
            "`train.slp.hidden` is not a known option",
        ),
        ("a run's name with a blank", &["train.my run.net=slp"], "a run's name may contain only"),
        ("a matrix that is not a list", &["matrix.train.slp.lr=0.1"], "must be a list of values"),
        ("a matrix with a wrong value", &["matrix.train.slp.lr=[0.1, -1]"], "must be more than 0"),
        (
            "a matrix of a node that is not a training run",
            &["matrix.split.seed=[1, 2]"],
            "only a training run has a matrix",
        ),
        (
            "a tuning of a run that does not exist",
            &["tune.liner.ranges.c=[1, 2]"],
            "there is no run `train.liner`; did you mean `train.linear`?",
        ),
        ("a tuning without ranges", &["tune.linear.trials=3"], "[tune.linear] has no ranges"),
        (
            "a tuning of an option that the net does not have",
            &["tune.linear.ranges.hidden=[1, 2]"],
            "is not an option that can be tuned",
        ),
        (
            "a tuning with a value out of bounds",
            &["tune.linear.ranges.c={min=-1, max=2}"],
            "and more than 0, not -1",
        ),
        (
            "a tuning from more to less",
            &["tune.linear.ranges.c={min=2, max=1}"],
            "has `min` = 2 and `max` = 1; `min` must be less",
        ),
        (
            "a tuning with an option beside its ranges",
            &["tune.linear={c=[1, 2], ranges={c=[1, 2]}}"],
            "write `tune.linear.ranges.c`",
        ),
        (
            "a tuning with one fold",
            &["tune.linear={folds=1, ranges={c=[1, 2]}}"],
            "`tune.linear.folds` must be a whole number from 2 to 1000",
        ),
        ("three mistakes at once", &["train.mlp.lr=-1", "split.test_size=2", "x=1"], "3 mistakes"),
    ] {
        cases.add(what, 2, says, world.set(sets));
    }
    cases.add("nothing to tune", 2, "there is nothing to tune", world.xtask(&["tune"]));
    cases.add(
        "an unknown tuning",
        2,
        "there is no [tune.liner]; did you mean `linear`?",
        world.xtask(&["tune", "liner", "--set", "tune.linear.ranges.c=[1, 2]"]),
    );
    cases.add(
        "a fold beyond the last",
        2,
        "there is no fold 4 of 3",
        world.set(&["split.cv.folds=3", "split.cv.fold=4"]),
    );
    cases.add(
        "an unknown profile",
        2,
        "did you mean `nlp100`?",
        world.xtask(&["pipeline", "--profile", "nlp10"]),
    );
    cases.add(
        "a profile that is a path",
        2,
        "there is no profile",
        world.xtask(&["pipeline", "--profile", "../nlp100"]),
    );
    cases.add(
        "an unknown device",
        2,
        "there is no device `gpu`",
        world.xtask(&["pipeline", "--device", "gpu"]),
    );
    cases.add(
        "an unknown node to run",
        2,
        "did you mean `train.mlp`?",
        world.xtask(&["pipeline", "--only", "train.mpl"]),
    );
    cases.add(
        "a forced node that is not selected",
        2,
        "is forced but not selected",
        world.xtask(&["pipeline", "--to", "split", "--force", "report"]),
    );
    cases.add(
        "a learning rate that makes training diverge",
        1,
        "the loss is not finite",
        world.set_to("train.slp", &["train.slp.lr=1e38"]),
    );

    cases.group("Headlines to classify");
    let predict = |args: &[&str]| world.xtask(&[&["predict"], args].concat());
    cases.add("a run that does not exist", 2, "", predict(&["--run", "train.mpl", "x"]));
    cases.add(
        "a run that has not been trained",
        2,
        "there is no result of `train.slp`",
        predict(&["--run", "train.slp", "x"]),
    );
    let nothing = world.dir.path().join("nothing.txt").display().to_string();
    cases.add("a file that does not exist", 3, "nothing.txt", predict(&["--file", &nothing]));
    let latin =
        world.put("latin.txt", b"Bank raises forecast\nCaf\xe9 opens\n").display().to_string();
    cases.add("a file that is not UTF-8", 3, "latin.txt", predict(&["--file", &latin]));
    let folder = world.dir.path().display().to_string();
    cases.add("a folder", 3, "", predict(&["--file", &folder]));
}
