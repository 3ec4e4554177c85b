//! Results that machines share: `[cache] remote`, `cache push` and `pull`, and remotes that fail.

#![allow(clippy::indexing_slicing)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use e2e::{Artifacts, Ended};

const DATA: [&str; 4] = ["ingest", "split", "embed", "tensors"];

/// A machine's folder, with the remote `remote`.
fn machine(remote: &str) -> Artifacts {
    Artifacts::with(&["train.mlp.epochs=2", &format!("cache.remote={remote}"), "cache.timeout=2"])
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    found
}

/// The nodes with a folder in `artifacts`.
fn nodes_here(artifacts: &Artifacts) -> Vec<String> {
    let folders = fs::read_dir(artifacts.path()).expect("a folder").flatten();
    let mut names: Vec<String> = folders
        .map(|f| f.file_name().into_string().expect("UTF-8"))
        .filter(|n| n != ".knockline")
        .collect();
    names.sort();
    names
}

fn no_warning(ended: &Ended) {
    assert!(!ended.err.contains("warning"), "{}", ended.err);
}

#[test]
fn a_second_machine_runs_what_the_first_has_not_run_and_fetches_only_its_inputs() {
    let dir = tempfile::tempdir().expect("a folder");
    let remote = dir.path().join("shared").display().to_string();
    let (first, second, third) = (machine(&remote), machine(&remote), machine(&remote));
    let made = first.run(&["pipeline", "--to", "tensors"]).ok();
    assert_eq!(made.nodes("status", "run"), DATA);

    let rest = second.run(&["pipeline", "--to", "train.slp"]).ok();
    assert_eq!(
        (rest.nodes("place", "remote"), rest.nodes("status", "run")),
        (DATA.map(str::to_owned).to_vec(), vec!["train.slp".to_owned()])
    );
    assert_eq!(nodes_here(&second), ["train.slp"]);
    let borrowed = files(&second.path().join(".knockline/borrowed"));
    assert!(
        borrowed.iter().all(|f| f.display().to_string().contains("/tensors/"))
            && borrowed.len() == 4,
        "{borrowed:?}"
    );
    first.run(&["pipeline", "--to", "train.slp"]).ok();
    let (one, two) = (first.bytes(), second.bytes());
    let compared: Vec<&String> =
        two.keys().filter(|file| !file.ends_with("manifest.json")).collect();
    assert!(
        compared.len() > 10 && compared.iter().all(|file| two[*file] == one[*file]),
        "a borrowed file makes no difference"
    );
    let status = second.run(&["status"]).ok();
    assert_eq!(
        status.nodes("state", "fresh"),
        ["ingest", "split", "embed", "tensors", "train.slp"]
    );

    let put = files(dir.path()).len();
    let hits = third.run(&["pipeline", "--to", "train.slp", "--read-only"]).ok();
    assert_eq!(hits.nodes("status", "hit").len(), 5);
    assert_eq!(
        (nodes_here(&third), hits.nodes("place", "here")),
        (vec!["train.slp".to_owned()], vec!["train.slp".to_owned()])
    );
    assert!(!third.path().join(".knockline/borrowed").exists(), "only needed files are fetched");
    let other = third
        .run(&["pipeline", "--to", "train.slp", "--read-only", "--set", "train.slp.epochs=1"])
        .ok();
    assert_eq!(other.nodes("status", "run"), ["train.slp"]);
    assert_eq!(files(dir.path()).len(), put, "--read-only uploads nothing");
    no_warning(&hits);
}

#[test]
fn damaged_objects_are_reported_made_again_and_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let remote = dir.path().display().to_string();
    let (first, second, third) = (machine(&remote), machine(&remote), machine(&remote));
    first.run(&["pipeline", "--to", "train.slp"]).ok();
    let sound: Vec<(PathBuf, Vec<u8>)> =
        files(dir.path()).into_iter().map(|f| (f.clone(), fs::read(f).expect("reads"))).collect();
    for (object, bytes) in sound.iter().filter(|(f, _)| f.extension().is_some_and(|e| e == "zst")) {
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(object, bytes).expect("writes");
    }
    let made = second.run(&["pipeline", "--to", "train.slp"]).ok();
    assert!(made.err.contains("is damaged") && made.err.contains("made here"), "{}", made.err);
    assert_eq!(
        made.nodes("status", "run"),
        ["ingest", "split", "embed", "tensors", "train.slp"],
        "the inputs are made again, too"
    );
    let (one, two) = (first.bytes(), second.bytes());
    assert!(
        one.iter()
            .filter(|(f, _)| !f.ends_with("manifest.json"))
            .all(|(f, bytes)| two[f] == *bytes)
    );
    let timed = |f: &Path| {
        fs::read(f).map_or(0, |b| b.len()) < 200 || f.display().to_string().contains("train.slp")
    };
    for (object, bytes) in sound.iter().filter(|(f, _)| !timed(f)) {
        assert!(fs::read(object).expect("reads") == *bytes, "{} is not replaced", object.display());
    }
    let hits = third.run(&["pipeline", "--to", "train.slp"]).ok();
    assert_eq!(hits.nodes("status", "hit").len(), 5);
    no_warning(&hits);

    for (object, bytes) in
        sound.iter().filter(|(f, _)| f.display().to_string().contains("/manifests-"))
    {
        let half = bytes.len() / 2;
        fs::write(object, &bytes[..half]).expect("writes");
    }
    let fourth = machine(&remote);
    let made = fourth.run(&["pipeline", "--to", "split"]).ok();
    assert!(made.err.contains("the manifest of `ingest` in the remote is damaged"), "{}", made.err);
    assert_eq!(made.nodes("status", "run"), ["ingest", "split"]);
    let fifth = machine(&remote).run(&["pipeline", "--to", "split"]).ok();
    assert_eq!(fifth.nodes("status", "hit").len(), 2);
}

#[test]
fn an_unusable_remote_causes_a_single_warning() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "mine").expect("writes");
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_at = silent.local_addr().expect("an address");
    let remotes = [
        (file.display().to_string(), "cannot create folder"),
        (format!("http://me:secret@{gone}/x"), "onnect"),
        (format!("http://{silent_at}/x"), "timed out"),
    ];
    for (remote, want) in remotes {
        let artifacts = machine(&remote);
        let made = artifacts.run(&["pipeline", "--to", "split"]).ok();
        assert_eq!(made.nodes("status", "run"), ["ingest", "split"], "{remote}");
        assert_eq!(made.err.matches("warning: remote").count(), 1, "{remote}: {}", made.err);
        assert!(
            made.err.contains(want) && made.err.contains("left out for the rest of this run"),
            "{remote}: {}",
            made.err
        );
        assert!(!made.err.contains("secret"), "{}", made.err);
        let pushed = artifacts.run(&["cache", "push"]);
        assert!(
            matches!(pushed.code, Some(2 | 4)) && pushed.err.contains("hint:"),
            "{remote}: {:?} {}",
            pushed.code,
            pushed.err
        );
    }
    for remote in ["ftp://me:secret@a.example/x", "s3:/bucket", "~/results", "gs://", "C:\\results"]
    {
        let refused = machine(remote).run(&["pipeline", "--to", "split"]);
        assert!(
            refused.code == Some(2)
                && refused.err.contains("cache.remote")
                && !refused.err.contains("secret"),
            "{}",
            refused.err
        );
    }
    assert_eq!(fs::read_to_string(file).expect("reads"), "mine");
}

/// Serves the files of a folder, with a user name and a password, and nothing else.
fn web(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url =
        format!("http://Aladdin:open%20sesame@{}", listener.local_addr().expect("an address"));
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let path = lines
                .next()
                .and_then(|l| Some(l.strip_prefix("GET /")?.split(' ').next()?.to_owned()));
            // The example of RFC 7617.
            let may = lines
                .take_while(|l| !l.is_empty())
                .any(|l| l.to_lowercase() == "authorization: basic qwxhzgrpbjpvcgvuihnlc2ftzq==");
            let file = path.filter(|_| may).and_then(|path| fs::read(folder.join(path)).ok());
            let head = |status: &str, size| {
                format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {size}\r\nLast-Modified: Mon, 02 Jan 2023 00:00:00 GMT\r\nConnection: close\r\n\r\n"
                )
            };
            let answer = file.map_or_else(
                || head("404 Not Found", 0).into_bytes(),
                |bytes| [head("200 OK", bytes.len()).into_bytes(), bytes].concat(),
            );
            let _ = stream.write_all(&answer);
        }
    });
    url
}

#[test]
fn push_and_pull_use_a_folder_and_pull_also_a_web_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let remote = dir.path().display().to_string();
    let alone = Artifacts::new();
    alone.run(&["pipeline", "--to", "embed"]).ok();
    let none = alone.run(&["cache", "push"]);
    assert!(
        none.code == Some(2)
            && none.err.contains("no remote is set")
            && none.err.contains("[cache]"),
        "{}",
        none.err
    );
    let set = format!("cache.remote={remote}");
    let pushed = alone.run(&["cache", "push", "--set", &set]).ok().json();
    assert_eq!(
        pushed.iter().map(|l| l["node"].as_str().expect("a node")).collect::<Vec<_>>(),
        ["ingest", "split", "embed"]
    );
    let again = alone.run(&["cache", "push", "embed", "--set", &set]).ok().json();
    assert!(
        again.len() == 1 && again[0]["sent"].as_u64() < pushed[2]["sent"].as_u64(),
        "{again:?}"
    );

    for remote in [remote, web(dir.path())] {
        let other = machine(&remote);
        let pulled = other.run(&["cache", "pull", "embed", "tensors"]).ok();
        assert_eq!(
            (pulled.nodes("state", "pulled"), pulled.nodes("state", "missing")),
            (vec!["embed".to_owned()], vec!["tensors".to_owned()])
        );
        assert_eq!(nodes_here(&other), ["embed"]);
        assert_eq!(other.run(&["cache", "pull", "embed"]).ok().nodes("state", "here"), ["embed"]);
        other.run(&["cache", "verify"]).ok();
        let made = other.run(&["pipeline", "--to", "tensors", "--read-only"]).ok();
        assert_eq!(made.nodes("status", "run"), ["tensors"]);
        no_warning(&made);
        if remote.starts_with("http") {
            let refused = other.run(&["cache", "push"]);
            assert!(
                refused.code == Some(2) && refused.err.contains("read-only"),
                "{}",
                refused.err
            );
        }
    }
}

#[test]
fn nodes_that_a_failure_does_not_affect_finish_and_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let weights = dir.path().join("weights.safetensors");
    fs::write(&weights, "no weights").expect("writes");
    let init = format!("train.curve.init={}", weights.display());
    let artifacts = Artifacts::with(&["train.mlp.epochs=2", &init]);
    let ended = artifacts.run(&["pipeline", "--to", "report", "--jobs", "3"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let made = ended
        .json()
        .iter()
        .filter_map(|l| Some(l["node"].as_str()?.to_owned()))
        .collect::<Vec<_>>();
    // Whatever had started beside the failed run has finished.
    let has = |name: &str| made.iter().any(|node| node == name);
    assert!(["ingest", "split", "embed", "tensors", "train.slp"].into_iter().all(has), "{made:?}");
    assert!(!["train.curve", "report"].into_iter().any(has), "{made:?}");
    fs::copy(artifacts.path().join("train.slp/model.safetensors"), weights).expect("copies");
    let next = artifacts.run(&["pipeline", "--jobs", "1"]).ok();
    let mut all = [made, next.nodes("status", "run")].concat();
    all.sort_unstable();
    let mut nodes = e2e::NODES;
    nodes.sort_unstable();
    assert_eq!(all, nodes, "each node is made once");
}

/// A net may be used only with the word vectors that it was trained on.
#[test]
fn results_in_the_remote_are_not_mixed_up_with_local_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let remote = dir.path().display().to_string();
    let (first, second) = (machine(&remote), machine(&remote));
    first.run(&["pipeline", "--to", "train.mlp", "--set", "embed.seed=7"]).ok();
    second.run(&["pipeline", "--to", "embed"]).ok();
    let fetched = second.run(&["pipeline", "--to", "train.mlp", "--set", "embed.seed=7"]).ok();
    assert_eq!(fetched.nodes("status", "hit").len(), 5);
    let predict =
        |sets: &[&str]| second.run(&[&["predict", "Bank raises forecast"], sets].concat());
    let refused = predict(&[]);
    assert!(
        refused.code == Some(2) && refused.err.contains("cache pull embed train.mlp"),
        "{}",
        refused.err
    );
    second.run(&["cache", "pull", "embed", "train.mlp"]).ok();
    let refused = predict(&[]);
    assert!(
        refused.code == Some(2) && refused.err.contains("other word vectors"),
        "{}",
        refused.err
    );
    second.run(&["cache", "pull", "embed", "train.mlp", "--set", "embed.seed=7"]).ok();
    let answer = predict(&["--set", "embed.seed=7"]).ok();
    assert_eq!(
        answer.out,
        first.run(&["predict", "Bank raises forecast", "--set", "embed.seed=7"]).ok().out
    );

    // One node after a change, with its inputs in the remote.
    let only = second
        .run(&[
            "pipeline",
            "--only",
            "train.mlp",
            "--set",
            "embed.seed=7",
            "--set",
            "train.mlp.lr=0.01",
        ])
        .ok();
    assert_eq!(only.nodes("status", "run"), ["train.mlp"]);
    let bundle = dir.path().join("x.bundle").display().to_string();
    let exported = second.run(&["cache", "export", &bundle]).ok();
    assert!(
        exported.err.contains("only the remote has them: ingest split tensors"),
        "{}",
        exported.err
    );
    assert_eq!(exported.json().len(), 2);
}

#[test]
fn a_run_is_correct_after_others_were_killed_while_fetching_and_pushing() {
    let dir = tempfile::tempdir().expect("a folder");
    let remote = dir.path().join("shared").display().to_string();
    let (first, second) = (machine(&remote), machine(&remote));
    let mut state = 11_u32;
    for round in 0..30 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wait = std::time::Duration::from_millis(u64::from(state >> 22));
        let artifacts = if round % 2 == 0 { &first } else { &second };
        let seed = format!("split.seed={}", round / 6);
        let mut child = artifacts.start(&["pipeline", "--to", "train.slp", "--set", &seed]);
        std::thread::sleep(wait);
        child.kill().and_then(|()| child.wait()).expect("kills");
    }
    let whole = Artifacts::new();
    whole.run(&["pipeline", "--to", "train.slp"]).ok();
    for artifacts in [&first, &second] {
        let ended = artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
        no_warning(&ended);
        artifacts.run(&["cache", "pull", "ingest", "split", "embed", "tensors", "train.slp"]).ok();
        artifacts.run(&["cache", "verify"]).ok();
        let (one, other) = (whole.bytes(), artifacts.bytes());
        let same = |file: &String| other[file] == one[file];
        assert!(one.keys().filter(|f| !f.ends_with("manifest.json")).all(same));
        assert!(!artifacts.path().join(".knockline/incoming").exists());
    }
}

/// A store that has one object for everybody who asks, and notes the paths that were asked for.
fn object_store(bytes: &'static [u8]) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            noted.lock().expect("a list").push(path);
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"1\"\r\nLast-Modified: Wed, 25 Nov 2026 00:00:00 GMT\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(bytes));
        }
    });
    (address, asked)
}

#[test]
fn a_source_can_lie_in_a_cloud_s_store() {
    let (address, asked) = object_store(b"text,label\none two,x\nthree four,y\n");
    let artifacts = Artifacts::with(&["ingest.source=s3://bucket/folder/data.csv"]);
    let run = |args: &[&str], endpoint: &str| {
        let mut command = artifacts.command(args);
        command
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1");
        Ended::of(command)
    };
    let offline = run(&["pipeline", "--to", "ingest", "--offline"], &address);
    assert_eq!(offline.code, Some(4), "{}", offline.err);
    run(&["pipeline", "--to", "ingest"], &address).ok();
    assert_eq!(artifacts.json("ingest/summary.json")["kept"], 2);
    assert_eq!(artifacts.json("ingest/summary.json")["source"], "data.csv");
    assert_eq!(*asked.lock().expect("a list"), ["/bucket/folder/data.csv"]);
    // As for other downloads, a file that is here is not fetched again.
    run(&["pipeline", "--to", "ingest", "--force", "ingest", "--offline"], "http://127.0.0.1:9")
        .ok();
    let manifest = artifacts.json("ingest/manifest.json");
    assert_eq!(manifest["downloads"][0]["url"], "s3://bucket/folder/data.csv", "{manifest}");
}
