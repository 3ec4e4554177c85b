//! Downloads from a server on loopback that gives prepared answers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;

/// One answer of the server.
#[derive(Clone)]
struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Where the connection is closed, in bytes of the body.
    cut: usize,
}

/// A whole file with an entity tag.
fn whole(body: &[u8], tag: &str) -> Answer {
    Answer {
        status: "200 OK",
        headers: format!("ETag: \"{tag}\"\r\n"),
        body: body.to_vec(),
        cut: usize::MAX,
    }
}

/// A range of a file, with the matching header.
fn part(file: &[u8], range: std::ops::Range<usize>) -> Answer {
    let headers =
        format!("Content-Range: bytes {}-{}/{}\r\n", range.start, range.end - 1, file.len());
    Answer { status: "206 Partial Content", headers, body: file[range].to_vec(), cut: usize::MAX }
}

/// The `Range` and `If-Range` headers that the server received, request by request.
type Asked = Arc<Mutex<Vec<String>>>;

/// Serves the answers in order, and then repeats the last one.
fn serve(answers: Vec<Answer>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "http://user:secret@{}/data.bin?token=secret",
        listener.local_addr().expect("an address")
    );
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let lines = BufReader::new(stream.try_clone().expect("a stream"))
                .lines()
                .map_while(std::result::Result::ok);
            let ranges: Vec<String> = lines
                .take_while(|l| !l.is_empty())
                .filter(|l| l.to_lowercase().contains("range"))
                .collect();
            log.lock().expect("a log").push(ranges.join("; ").to_lowercase());
            let answer = answers.get(number).or(answers.last()).expect("an answer");
            let _ = write!(
                stream,
                "HTTP/1.1 {}\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
                answer.status,
                answer.headers,
                answer.body.len()
            );
            let _ = stream.write_all(&answer.body[..answer.body.len().min(answer.cut)]);
        }
    });
    (url, asked)
}

fn get(urls: &[String], sha256: Option<&str>, folder: &Path) -> Result<Vec<u8>> {
    let obtained =
        obtain(urls, sha256, Downloads { folder, offline: false }, &Progress::lines("test"))?;
    Ok(std::fs::read(obtained.path).expect("a file"))
}

#[test]
fn a_cut_download_is_resumed_where_it_stopped() {
    let file: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let rest = part(&file, 40_000..100_000);
    let (url, asked) = serve(vec![Answer { cut: 40_000, ..whole(&file, "a") }, rest]);
    let dir = tempfile::tempdir().expect("a folder");
    assert!(get(&[url], None, dir.path()).expect("downloads") == file);
    assert_eq!(asked.lock().expect("a log")[1], "range: bytes=40000-; if-range: \"a\"");
}

#[test]
fn a_server_that_sends_less_than_the_requested_range_is_asked_for_the_rest() {
    let file: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let answers = vec![
        Answer { cut: 40_000, ..whole(&file, "a") },
        part(&file, 40_000..60_000),
        part(&file, 60_000..100_000),
    ];
    let (url, asked) = serve(answers);
    let dir = tempfile::tempdir().expect("a folder");
    assert!(get(&[url], None, dir.path()).expect("downloads") == file);
    // The partial response did not repeat the tag, which is still valid.
    assert_eq!(asked.lock().expect("a log")[2], "range: bytes=60000-; if-range: \"a\"");
}

#[test]
fn a_range_that_does_not_match_the_partial_file_is_refused() {
    let file: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    for wrong in [
        Answer { headers: String::new(), ..part(&file, 0..50_000) },
        part(&file, 0..50_000),
        Answer {
            headers:
                "Content-Range: bytes 20000-49999/18446744073709551615\r\nContent-Length: 3\r\n"
                    .into(),
            ..part(&file, 0..3)
        },
    ] {
        let (url, _) =
            serve(vec![Answer { cut: 20_000, ..whole(&file, "a") }, wrong, whole(&file, "a")]);
        let dir = tempfile::tempdir().expect("a folder");
        let got = get(&[url], None, dir.path());
        assert!(
            got.as_ref().is_ok_and(|got| *got == file)
                || got.is_err_and(|e| e.what.contains("the download needs another"))
        );
    }
    // So is a range that was not requested.
    let (url, _) = serve(vec![part(&file, 0..100), whole(&file, "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    assert!(get(&[url], None, dir.path()).expect("downloads") == file);
}

#[test]
fn a_web_page_in_place_of_the_file_does_not_touch_the_partial_file() {
    let file: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    let page = whole(b"<!DOCTYPE html><html>log in</html>", "p");
    let (url, asked) =
        serve(vec![Answer { cut: 20_000, ..whole(&file, "a") }, page, part(&file, 20_000..50_000)]);
    let dir = tempfile::tempdir().expect("a folder");
    assert!(
        get(std::slice::from_ref(&url), None, dir.path()).unwrap_err().what.contains("a web page")
    );
    assert!(get(&[url], None, dir.path()).expect("downloads") == file);
    assert_eq!(asked.lock().expect("a log")[2], "range: bytes=20000-; if-range: \"a\"");
}

#[test]
fn a_secret_in_an_invalid_url_is_not_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let failure = get(&["http://me:secret@ho st/x.csv?token=secret".to_owned()], None, dir.path())
        .unwrap_err();
    assert!(
        failure.what.contains("not a URL") && !failure.to_string().contains("secret"),
        "{failure}"
    );
}

#[test]
fn a_file_that_changed_on_the_server_is_downloaded_from_scratch() {
    let (old, new) = (vec![1; 50_000], vec![2; 60_000]);
    let (url, _) = serve(vec![Answer { cut: 20_000, ..whole(&old, "a") }, whole(&new, "b")]);
    let dir = tempfile::tempdir().expect("a folder");
    assert!(get(&[url], None, dir.path()).expect("downloads") == new);
}

#[test]
fn a_file_is_downloaded_once() {
    let (url, asked) = serve(vec![whole(b"data", "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        assert_eq!(get(std::slice::from_ref(&url), None, dir.path()).expect("downloads"), b"data");
    }
    assert_eq!(asked.lock().expect("a log").len(), 1);
}

#[test]
fn a_busy_server_is_asked_again_after_the_wait_that_it_names() {
    let busy = Answer {
        status: "503 Service Unavailable",
        headers: "Retry-After: 0\r\n".into(),
        body: Vec::new(),
        cut: 0,
    };
    let (url, asked) = serve(vec![busy.clone(), busy, whole(b"data", "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(get(&[url], None, dir.path()).expect("downloads"), b"data");
    assert_eq!(asked.lock().expect("a log").len(), 3);
}

#[test]
fn the_next_mirror_is_tried_when_one_does_not_have_the_file_or_has_another() {
    let gone = Answer { status: "404 Not Found", headers: String::new(), body: Vec::new(), cut: 0 };
    let (first, _) = serve(vec![gone]);
    let (second, _) = serve(vec![whole(b"other", "a")]);
    let (third, _) = serve(vec![whole(b"abc", "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    // FIPS 180-2, appendix B.1: the SHA-256 of "abc".
    let sum = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    assert_eq!(get(&[first, second, third], Some(sum), dir.path()).expect("downloads"), b"abc");
}

#[test]
fn a_web_page_in_place_of_the_file_is_refused_without_showing_secrets() {
    let (url, _) = serve(vec![whole(b"<!DOCTYPE html><html>virus scan warning</html>", "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    let failure = get(&[url], None, dir.path()).unwrap_err();
    assert_eq!(failure.exit, failure::Exit::Download);
    assert!(failure.what.contains("a web page"), "{failure}");
    assert!(!failure.to_string().contains("secret"), "{failure}");
}

#[test]
fn a_page_that_asks_for_confirmation_is_answered_once() {
    let page = b"<!DOCTYPE html><form id=\"download-form\" action=\"/file.bin\"><input name=\"confirm\" value=\"t\"></form>";
    let (url, asked) = serve(vec![whole(page, "a"), whole(b"data", "b")]);
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(get(&[url], None, dir.path()).expect("downloads"), b"data");
    assert_eq!(asked.lock().expect("a log").len(), 2);
    let (url, asked) = serve(vec![whole(page, "a")]);
    assert!(get(&[url], None, dir.path()).unwrap_err().what.contains("a web page"));
    assert_eq!(asked.lock().expect("a log").len(), 2);
}

#[test]
fn nothing_is_downloaded_offline_but_an_earlier_download_is_used() {
    let (url, asked) = serve(vec![whole(b"data", "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    let offline = Downloads { folder: dir.path(), offline: true };
    let failure =
        obtain(std::slice::from_ref(&url), None, offline, &Progress::lines("test")).unwrap_err();
    assert_eq!(failure.exit, failure::Exit::Download);
    assert!(
        failure.what.contains("--offline") && asked.lock().expect("a log").is_empty(),
        "{failure}"
    );
    get(std::slice::from_ref(&url), None, dir.path()).expect("downloads");
    assert!(obtain(&[url], None, offline, &Progress::lines("test")).is_ok());
}

#[test]
fn endless_redirects_are_an_error_at_once() {
    let around = Answer {
        status: "302 Found",
        headers: "Location: /again\r\n".into(),
        body: Vec::new(),
        cut: 0,
    };
    let (url, asked) = serve(vec![around]);
    let dir = tempfile::tempdir().expect("a folder");
    let failure = get(&[url], None, dir.path()).unwrap_err();
    assert!(failure.what.contains("too many redirects"), "{failure}");
    assert_eq!(asked.lock().expect("a log").len(), 11);
}

#[test]
fn a_download_that_the_disk_has_no_room_for_is_not_started() {
    let huge = Answer {
        headers: "Content-Length: 900000000000000000\r\nETag: \"a\"\r\n".into(),
        ..whole(b"", "a")
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/data.bin", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a stream"))
                .lines()
                .map_while(std::result::Result::ok);
            let _ = lines.take_while(|l| !l.is_empty()).count();
            let _ = write!(
                stream,
                "HTTP/1.1 {}\r\n{}Connection: close\r\n\r\nabc",
                huge.status, huge.headers
            );
        }
    });
    let dir = tempfile::tempdir().expect("a folder");
    let failure = get(&[url], None, dir.path()).unwrap_err();
    assert!(failure.what.contains("the download needs another"), "{failure}");
}

#[test]
fn a_wrong_checksum_leaves_no_file_behind() {
    let (url, _) = serve(vec![whole(b"other", "a")]);
    let dir = tempfile::tempdir().expect("a folder");
    let failure = get(&[url], Some(&"0".repeat(64)), dir.path()).unwrap_err();
    assert!(failure.what.starts_with("SHA-256 is d9298a10d1b07358"), "{failure}");
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a folder")
        .flatten()
        .filter(|f| {
            ![".json", ".lock"].iter().any(|end| f.file_name().to_string_lossy().ends_with(end))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_checksum_and_the_first_bytes_of_a_local_file_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("abc");
    std::fs::write(&path, "abc").expect("writes");
    let source = [path.display().to_string()];
    let wrong = get(&source, Some(&"0".repeat(64)), dir.path()).unwrap_err();
    assert_eq!(wrong.exit, failure::Exit::BadInput);
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
        .expect("writes");
    assert!(get(&source, None, dir.path()).unwrap_err().what.contains("a Git LFS pointer"));
    assert!(
        get(&[dir.path().display().to_string()], None, dir.path())
            .unwrap_err()
            .what
            .contains("a folder")
    );
}
