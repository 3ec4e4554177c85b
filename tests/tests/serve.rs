//! `knockline serve`: answers, limits, and a model that is replaced while it answers.

#![allow(clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Artifacts, Ended, root, xtask};
use serde_json::{Value, json};

/// A server on a free port.
struct Server {
    child: Child,
    address: String,
    /// The lines of its stderr after the first.
    log: BufReader<std::process::ChildStderr>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(root().join("target/debug/knockline"));
        command.arg("serve").args(args).args(["--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
        let log = BufReader::new(child.stderr.take().expect("stderr"));
        let mut server = Self { child, address: String::new(), log };
        while server.address.is_empty() {
            let line = server.line();
            assert!(!line.is_empty(), "the server ended");
            if let Some(address) = line.trim().strip_prefix("listening on http://") {
                address.clone_into(&mut server.address);
            }
        }
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
        stream
    }

    /// The status, the head and the body of an answer.
    fn send(&self, request: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        stream.write_all(request).expect("writes");
        answer(&mut BufReader::new(stream))
    }

    fn post(&self, path: &str, body: &[u8], more: &str) -> (u16, String, Value) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let (status, head, body) = self.send(&[head.as_bytes(), body].concat());
        (status, head, serde_json::from_slice(&body).expect("JSON"))
    }

    fn get(&self, path: &str, more: &str) -> (u16, String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        let (status, head, body) = self.send(request.as_bytes());
        (status, head, String::from_utf8(body).expect("UTF-8"))
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.log.read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Reads an answer whose head has a length.
fn answer(from: &mut impl BufRead) -> (u16, String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let n = from.read_line(&mut head).expect("a line");
        assert!(n > 0, "the connection ended after {head:?}");
    }
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |n| n.parse().expect("a number"))];
    from.read_exact(&mut body).expect("the body");
    (status, lower, body)
}

/// A folder with the models of two runs, and their paths.
fn models() -> (Artifacts, [PathBuf; 2]) {
    let artifacts = Artifacts::new();
    artifacts.run(&["pipeline", "--to", "train.best"]).ok();
    artifacts.run(&["pipeline", "--to", "train.slp"]).ok();
    let paths = ["train.best", "train.slp"].map(|run| {
        let path = artifacts.path().join(format!("{run}.knock"));
        artifacts.run(&["model", "export", run, path.to_str().expect("UTF-8")]).ok();
        path
    });
    Ended::of(xtask(&["model", "info", paths[0].to_str().expect("UTF-8")])).ok();
    (artifacts, paths)
}

#[test]
fn it_answers_and_says_what_is_wrong_with_a_request() {
    let (_artifacts, [best, slp]) = models();
    let named = format!("small={}", slp.display());
    let args = [
        best.to_str().expect("UTF-8"),
        &named,
        "--max-texts",
        "50",
        "--max-body",
        "65536",
        "--timeout",
        "2",
    ];
    let server = Server::start(&args);
    let ask = |body: Value| server.post("/predict", body.to_string().as_bytes(), "");
    let texts = ["Bank raises forecast", "Cannes jury", "Zzqqx"];
    let (status, _, answer) = ask(json!({ "texts": texts, "top_k": 2 }));
    assert_eq!((status, &answer["model"]), (200, &"train.best".into()));
    let predictions = answer["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), 3);
    assert_eq!((&predictions[0]["label"], &predictions[1]["label"]), (&"b".into(), &"e".into()));
    assert_eq!(predictions[0]["top"].as_array().map(Vec::len), Some(2));
    assert_eq!((&predictions[2]["label"], &predictions[2]["top"]), (&Value::Null, &json!([])));
    // The same bits as on the command line.
    let mut command = Command::new(root().join("target/debug/knockline"));
    command.args(["predict", args[0], "--json", "--top-k", "2"]).args(texts);
    let lines = Ended::of(command).ok().json();
    let tops = |all: &[Value]| all.iter().map(|one| one["top"].clone()).collect::<Vec<_>>();
    assert_eq!(tops(&lines), tops(predictions));
    let (status, _, answer) = ask(json!({ "text": "Bank", "model": "small" }));
    assert_eq!((status, &answer["model"]), (200, &"small".into()));
    let (status, _, empty) = ask(json!({ "texts": [] }));
    assert_eq!((status, &empty["predictions"]), (200, &json!([])));
    let body = json!({ "text": "Bank raises", "model": "small" }).to_string();
    let (status, _, answer) = server.post("/explain", body.as_bytes(), "");
    let explanation = &answer["explanations"][0]["explanation"];
    assert_eq!((status, &explanation["method"]), (200, &"exact".into()));
    assert_eq!(explanation["words"][1]["word"], "raises");

    // Each says what is wrong, and what to do.
    let wrong = |(status, _, answer): (u16, String, Value), want: u16, what: &str| {
        assert_eq!(status, want, "{answer}");
        let error = &answer["error"];
        assert!(error["what"].as_str().is_some_and(|text| text.contains(what)), "{answer}");
        assert!(error["hint"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    };
    let post = |body: &[u8]| server.post("/predict", body, "");
    wrong(post(b"{\"texts\": [\"a\""), 400, "not the expected JSON");
    wrong(post(b"{\"texts\": [\"\xff\"]}"), 400, "not the expected JSON");
    wrong(post(b""), 400, "not the expected JSON");
    wrong(post("[".repeat(60_000).as_bytes()), 400, "not the expected JSON");
    wrong(ask(json!({})), 400, "neither or both");
    wrong(ask(json!({ "text": "a", "texts": ["b"] })), 400, "neither or both");
    wrong(ask(json!({ "texts": vec!["a"; 51] })), 400, "51 texts, and at most 50");
    wrong(ask(json!({ "text": "a", "top_k": 0 })), 400, "`top_k` is 0");
    wrong(ask(json!({ "text": "a", "min_probability": 2 })), 400, "not a probability");
    wrong(ask(json!({ "text": "a", "model": null })), 400, "invalid type: null");
    wrong(ask(json!({ "text": "a", "other": 2 })), 400, "unknown field `other`");
    wrong(ask(json!({ "text": "a", "model": "none" })), 404, "no model `none`");
    wrong(post(&vec![b' '; 65_537]), 413, "larger than 65536 bytes");
    let get = |path: &str| server.get(path, "");
    assert_eq!(get("/healthz").2, "ok\n");
    assert_eq!(get("/predict").0, 405);
    assert_eq!(get("/nothing").0, 404);
    let labels: Value = serde_json::from_str(&get("/labels").2).expect("JSON");
    assert_eq!(labels["labels"], json!(["b", "t", "e", "m"]));
    let page = get("/");
    assert!(page.1.contains("default-src 'none'") && page.2.contains("<textarea"));
    // A form or a plain text, which a page of another origin may send without asking.
    let plain = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(server.send(plain.as_bytes()).0, 415);
    wrong(
        server.post("/explain", json!({ "text": "a ".repeat(9_000) }).to_string().as_bytes(), ""),
        400,
        "bytes of text to explain",
    );
    // A body of a gigabyte that is announced, and one that is not.
    let head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n";
    assert_eq!(server.send(head.as_bytes()).0, 413);
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536)).repeat(2);
    let head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(server.send(format!("{head}{chunk}").as_bytes()).0, 413);
    // A body that does not arrive, and a head that does not.
    let start = Instant::now();
    let half = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    assert_eq!(server.send(half.as_bytes()).0, 408);
    let mut slow = server.connect();
    slow.write_all(b"POST /pre").expect("writes");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("the server ends it");
    assert!(start.elapsed() < Duration::from_secs(15));
    let metrics = get("/metrics").2;
    assert!(metrics.contains("knockline_requests_total{path=\"/predict\",status=\"200\"} 3"));
    assert!(metrics.contains("knockline_texts_total{model=\"small\"} 2"), "{metrics}");
    let paths: Value = serde_json::from_str(&get("/openapi.json").2).expect("JSON");
    assert!(paths["paths"]["/predict"]["post"].is_object());
}

#[test]
fn a_token_and_other_origins_are_checked() {
    let (artifacts, [_, slp]) = models();
    let token = "0123456789abcdef0123456789abcdef";
    let file = artifacts.path().join("token");
    std::fs::write(&file, format!("{token}\n")).expect("writes");
    let [slp, file] = [slp, file].map(|path| path.to_str().expect("UTF-8").to_owned());
    let server = Server::start(&[&slp, "--token-file", &file, "--cors", "https://example.org"]);
    let ask = |more: &str| server.post("/predict", b"{\"text\": \"Bank\"}", more);
    let (status, head, answer) = ask("");
    assert!(status == 401 && head.contains("www-authenticate: bearer"), "{head}{answer}");
    for wrong in [&token[1..], "", &format!("{token}0"), &token.to_uppercase()] {
        assert_eq!(ask(&format!("Authorization: Bearer {wrong}\r\n")).0, 401, "{wrong}");
    }
    assert_eq!(ask(&format!("Authorization: Bearer {token}\r\n")).0, 200);
    assert_eq!((server.get("/metrics", "").0, server.get("/healthz", "").0), (401, 200));
    let allows = |origin: &str| {
        let request = format!(
            "OPTIONS /predict HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        );
        server
            .send(request.as_bytes())
            .1
            .contains("access-control-allow-origin: https://example.org")
    };
    assert!(allows("https://example.org") && !allows("https://example.com"));
    // A page whose name leads to this machine is not of this server.
    let local = Server::start(&[&slp, "--host", "proxied.example"]);
    let status = |host: &str| {
        local.send(format!("GET /labels HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).0
    };
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "[::1]:80", "Proxied.example"] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in ["example.org", "localhost.example.org:8080", "10.0.0.1", ""] {
        assert_eq!(status(host), 421, "{host}");
    }
    let ended = Ended::of({
        let mut command = Command::new(root().join("target/debug/knockline"));
        command.args(["serve", &slp, "--host", "example.org:8080"]);
        command
    });
    assert!(ended.code == Some(2) && ended.err.contains("without a scheme or a port"));
    for origin in ["*", "https://example.org/", "example.org"] {
        let mut command = Command::new(root().join("target/debug/knockline"));
        command.args(["serve", &slp, "--cors", origin]);
        let ended = Ended::of(command);
        assert!(ended.code == Some(2) && ended.err.contains("is not an origin"), "{}", ended.err);
    }
    std::fs::write(&file, "short").expect("writes");
    let mut command = Command::new(root().join("target/debug/knockline"));
    command.args(["serve", &slp, "--token-file", &file]);
    let ended = Ended::of(command);
    assert!(ended.code == Some(2) && ended.err.contains("shorter than 16"), "{}", ended.err);
}

#[test]
fn a_full_queue_refuses_and_a_replaced_model_loses_nothing() {
    let (artifacts, [best, slp]) = models();
    let path = artifacts.path().join("served.knock");
    std::fs::copy(&best, &path).expect("copies");
    let file = path.to_str().expect("UTF-8");
    let mut server = Server::start(&[file, "--queue", "40", "--threads", "1"]);
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = BufReader::new(server.connect());
                    let texts = json!({ "texts": vec!["Bank raises forecast after quarter"; 20] });
                    let body = texts.to_string();
                    let (mut right, mut refused) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        let request = format!(
                            "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        stream.get_mut().write_all(request.as_bytes()).expect("writes");
                        let (status, head, body) = answer(&mut stream);
                        match status {
                            200 => {
                                let body: Value = serde_json::from_slice(&body).expect("JSON");
                                let all = body["predictions"].as_array().expect("a list");
                                assert!(all.len() == 20 && all.iter().all(|p| p["label"] == "b"));
                                right += 1;
                            }
                            503 => {
                                assert!(head.contains("retry-after: 1"), "{head}");
                                refused += 1;
                            }
                            other => panic!("{other}: {}", String::from_utf8_lossy(&body)),
                        }
                    }
                    (right, refused)
                })
            })
            .collect();
        for round in 0..11 {
            // Renamed into place, as an export does it.
            let next = artifacts.path().join("next");
            std::fs::copy([&slp, &best][round % 2], &next).expect("copies");
            std::fs::rename(&next, &path).expect("renames");
            server.signal("-HUP");
            std::thread::sleep(Duration::from_millis(60));
        }
        // However many signals came together, the last file is the one that answers.
        let until = Instant::now() + Duration::from_secs(20);
        while !server.get("/models", "").2.contains("train.slp") {
            assert!(Instant::now() < until, "the last model is not served");
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    let right: u32 = counts.iter().map(|count| count.0).sum();
    let refused: u32 = counts.iter().map(|count| count.1).sum();
    assert!(right > 0 && refused > 0, "{right} answers, {refused} refusals");
    // A damaged model does not take the place of a whole one.
    let (_, _, before) = server.get("/models", "");
    std::fs::write(artifacts.path().join("next"), "damaged").expect("writes");
    std::fs::rename(artifacts.path().join("next"), &path).expect("renames");
    server.signal("-HUP");
    loop {
        let line = server.line();
        assert!(!line.is_empty(), "the server has ended");
        if line.contains("stays as it is") {
            break;
        }
    }
    assert_eq!(server.get("/models", "").2, before);
    // On SIGTERM an open request is answered, then the server ends.
    let mut open = BufReader::new(server.connect());
    let body = "{\"text\": \"Bank\"}";
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    open.get_mut().write_all(head.as_bytes()).expect("writes");
    open.get_mut().write_all(&body.as_bytes()[..4]).expect("writes");
    std::thread::sleep(Duration::from_millis(200));
    server.signal("-TERM");
    std::thread::sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(&server.address).is_err(), "no new connection is taken");
    open.get_mut().write_all(&body.as_bytes()[4..]).expect("writes");
    assert_eq!(answer(&mut open).0, 200);
    assert!(server.child.wait().expect("ends").success());
}

#[test]
fn clients_that_do_not_read_give_their_connections_back() {
    let (_artifacts, [_, slp]) = models();
    let slp = slp.to_str().expect("UTF-8");
    let server = Server::start(&[slp, "--max-connections", "2", "--timeout", "1"]);
    let greedy: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            stream.set_write_timeout(Some(Duration::from_millis(200))).expect("sets");
            // Requests for long answers until the server stops reading.
            let request = "GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
            while stream.write_all(request.as_bytes()).is_ok() {}
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(server.get("/healthz", "").2, "ok\n");
    assert!(start.elapsed() < Duration::from_secs(15));
    drop(greedy);
}
