//! Bad downloads, options, and headlines to classify.

use crate::world::{Cases, World, serve};

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
