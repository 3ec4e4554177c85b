//! Tests with the real cargo, on a workspace of two crates that compile in a moment.

use super::*;

/// A workspace with a library and a package whose program prints the texts of both libraries.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("writes");
    };
    put(
        "Cargo.toml",
        "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"3\"\n[workspace.dependencies]\nbase = { path = \"crates/base\" }\n",
    );
    put(
        "Cargo.lock",
        "version = 4\n[[package]]\nname = \"base\"\nversion = \"0.1.0\"\n[[package]]\nname = \"tiny\"\nversion = \"0.1.0\"\ndependencies = [\"base\"]\n",
    );
    put(
        "crates/base/Cargo.toml",
        "[package]\nname = \"base\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    put("crates/base/src/lib.rs", "pub const TEXT: &str = \"base one\";\n");
    put(
        "crates/tiny/Cargo.toml",
        "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nbase.workspace = true\n",
    );
    put("crates/tiny/src/lib.rs", "pub const TEXT: &str = include_str!(\"text\");\n");
    put("crates/tiny/src/text", "tiny one");
    put("crates/tiny/src/main.rs", "fn main() { println!(\"{}, {}\", base::TEXT, tiny::TEXT); }\n");
    dir
}

/// What the program prints when xtask starts it.
fn said(root: &Path) -> String {
    let index = &Index::default();
    let binaries = Binaries::new(root, "cpu", &["tiny"], index);
    let run = |program: &Path| std::process::Command::new(program).output();
    let output = binaries.start("tiny", None, run, drop).expect("runs");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// A `cargo build` outside xtask.
fn build(root: &Path) {
    let builder = Cargo { root, device: "cpu" };
    assert!(!builder.build(&["tiny".to_owned()]).expect("builds").is_empty());
}

/// Replaces a file as `cp -p` or `rsync -a` does: with an older time stamp.
fn put_back(path: &Path, text: &str, stamp: SystemTime) {
    std::fs::write(path, text).expect("writes");
    std::fs::File::options()
        .append(true)
        .open(path)
        .and_then(|f| f.set_modified(stamp))
        .expect("sets the time");
}

#[test]
fn a_program_built_from_an_undone_edit_is_built_again() {
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        return;
    }
    let dir = workspace();
    let root = dir.path();
    assert_eq!(said(root), "base one, tiny one");
    for (file, was, edit) in [
        ("crates/tiny/src/text", "tiny one", "tiny two"),
        (
            "crates/base/src/lib.rs",
            "pub const TEXT: &str = \"base one\";\n",
            "pub const TEXT: &str = \"base two\";\n",
        ),
    ] {
        let path = root.join(file);
        let stamp = std::fs::metadata(&path).and_then(|m| m.modified()).expect("a time");
        std::fs::write(&path, edit).expect("writes");
        build(root);
        put_back(&path, was, stamp);
        build(root);
        let program =
            std::process::Command::new(root.join("target/debug/tiny")).output().expect("runs");
        assert!(
            String::from_utf8_lossy(&program.stdout).contains("two"),
            "cargo believes the time stamp, or this test would prove nothing"
        );
        assert_eq!(said(root), "base one, tiny one", "{file}");
    }
}

#[test]
fn an_older_source_with_an_older_time_stamp_is_built() {
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        return;
    }
    let dir = workspace();
    let root = dir.path();
    assert_eq!(said(root), "base one, tiny one");
    put_back(
        &root.join("crates/tiny/src/text"),
        "tiny zero",
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000),
    );
    assert_eq!(said(root), "base one, tiny zero");
}

#[test]
fn a_program_that_was_replaced_does_not_run() {
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        return;
    }
    let dir = workspace();
    let root = dir.path();
    assert_eq!(said(root), "base one, tiny one");
    let program = root.join("target/debug/tiny");
    for in_place in [false, true] {
        if !in_place {
            std::fs::remove_file(&program).expect("removes");
        }
        std::fs::copy("/bin/echo", &program).expect("copies");
        assert_eq!(said(root), "base one, tiny one");
    }
}

#[test]
fn a_folder_that_was_swapped_during_a_build_is_built_again() {
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        return;
    }
    let dir = workspace();
    let root = dir.path();
    assert_eq!(said(root), "base one, tiny one");
    let (crates, kept) = (root.join("crates"), root.join("kept"));
    std::fs::rename(&crates, &kept).expect("moves");
    std::process::Command::new("cp").arg("-a").arg(&kept).arg(&crates).status().expect("copies");
    std::fs::write(crates.join("tiny/src/text"), "tiny two").expect("writes");
    build(root);
    std::fs::remove_dir_all(&crates).expect("removes");
    std::fs::rename(&kept, &crates).expect("moves back");
    assert_eq!(said(root), "base one, tiny one");
}
