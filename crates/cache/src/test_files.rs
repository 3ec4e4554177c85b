//! Which files of a crate are compiled for tests only, and so are not part of a key.
//!
//! When in doubt, a file counts: a result that is made again costs time, a wrong hit costs trust.

use std::fs;
use std::path::Path;

/// Folders at the top of a crate that cargo builds its library and programs without.
const FOLDERS: [&str; 3] = ["tests/", "benches/", "examples/"];

/// Removes the files that only tests use from the `files` of the crate in `root`.
pub fn remove(root: &Path, files: &mut Vec<String>) {
    let in_folder = |file: &str| FOLDERS.iter().any(|folder| file.starts_with(folder));
    let text = |file: &String| fs::read_to_string(root.join(file)).unwrap_or_default();
    let modules: Vec<&str> = files
        .iter()
        .filter(|file| is_rust(file) && !in_folder(file))
        .map(|file| module(file))
        .filter(|module| is_test_module(module, &text))
        .collect();
    let is_test = |file: &str| {
        let is_in = |test: &&str| module(file).strip_prefix(test).is_some_and(is_below);
        in_folder(file) || (is_rust(file) && modules.iter().any(is_in))
    };
    // A path may lead anywhere, so a crate whose other code names such a file keeps them all.
    let sources = files.iter().filter(|file| is_rust(file) && !is_test(file));
    if !sources.map(text).any(|text| names_test_files(&text)) {
        let kept = files.iter().filter(|file| !is_test(file)).cloned().collect();
        *files = kept;
    }
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

/// Whether what follows a module's path belongs to the module: nothing, or a path below it.
fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The path of a module: `src/a/tests` for `src/a/tests.rs` and for `src/a/tests/mod.rs`.
fn module(file: &str) -> &str {
    file.strip_suffix("/mod.rs").or_else(|| file.strip_suffix(".rs")).unwrap_or(file)
}

/// Whether a source file may use a file of tests by its path.
fn names_test_files(text: &str) -> bool {
    let takes_paths = ["#[path", "include!", "include_str!", "include_bytes!"];
    takes_paths.iter().any(|word| text.contains(word))
        && FOLDERS.iter().chain(&["tests.rs"]).any(|name| text.contains(name))
}

/// Whether a module is called `tests` and every declaration of it is for tests only.
fn is_test_module(module: &str, text: &dyn Fn(&String) -> String) -> bool {
    let Some((folder, "tests")) = module.rsplit_once('/') else { return false };
    let parents = ["mod.rs", "lib.rs", "main.rs"].map(|name| format!("{folder}/{name}"));
    let (mut all, mut for_tests) = (0, 0);
    for parent in parents.into_iter().chain([format!("{folder}.rs")]) {
        let text = text(&parent);
        all += declarations(&text);
        for_tests += test_declarations(&text);
    }
    for_tests > 0 && for_tests == all
}

/// How often `mod tests` stands in a text, wherever that is: in a comment it counts, too.
fn declarations(text: &str) -> usize {
    let words: Vec<&str> = text.split_whitespace().collect();
    let pairs = words.iter().zip(words.iter().skip(1));
    pairs
        .filter(|(first, second)| {
            first.ends_with("mod") && second.trim_start_matches("r#").starts_with("tests")
        })
        .count()
}

/// How many lines are `mod tests;` directly below `#[cfg(test)]` or `#[cfg(all(test, …))]`, with
/// nothing but other attributes between.
fn test_declarations(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_attribute = |line: &&str| line.starts_with("#[") && line.ends_with(']');
    let is_for_tests = |line: &str| line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test,");
    (0..lines.len())
        .filter(|&at| lines.get(at) == Some(&"mod tests;"))
        .filter(|&at| {
            let above = lines.iter().take(at).rev().copied();
            above.take_while(is_attribute).any(is_for_tests)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("writes");
        }
        let mut all = files.iter().map(|(file, _)| (*file).to_owned()).collect();
        remove(dir.path(), &mut all);
        all
    }

    #[test]
    fn key_is_the_same_when_files_of_tests_change() {
        let declared = "#[cfg(all(test, unix))]\n#[allow(clippy::expect_used)]\nmod tests;\n";
        for (parent, file) in [
            ("src/lib.rs", "src/tests.rs"),
            ("src/lib.rs", "src/tests/mod.rs"),
            ("src/kernel.rs", "src/kernel/tests.rs"),
            ("src/kernel/mod.rs", "src/kernel/tests.rs"),
        ] {
            let more = format!("{}/more.rs", module(file));
            assert_eq!(kept(&[(parent, declared), (file, ""), (&more, "")]), [parent], "{file}");
        }
        assert_eq!(kept(&[("src/lib.rs", ""), ("tests/x.rs", ""), ("benches/y.rs", "")]).len(), 1);
    }

    /// Each is a way to build a module that looks like tests into a program.
    #[test]
    fn key_differs_when_a_file_changes_that_may_be_more_than_a_test() {
        for lib in [
            "mod tests;\n",
            "#[cfg(test)] mod fixtures;\nmod tests;\n",
            "#[cfg(test)]\nmod tests;\n#[cfg(not(test))]\nmod tests; // the real one\n",
            "#[cfg(test)]\nmod tests;\nmod inner { pub mod tests; }\n",
            "#[cfg(any(test, feature = \"x\"))]\nmod tests;\n",
            "#[cfg(test)]\nmod fixtures;\nmod\ntests;\n",
            "#[cfg(test)]\nmod tests;\nmod r#tests;\n",
            "#[cfg(test)]\nmod tests;\n#[path = \"tests.rs\"]\nmod real;\n",
            "#[cfg(test)]\nmod tests;\nconst X: &str = include_str!(\n  \"tests.rs\");\n",
            "#[cfg(test)]\nmod tests;\nconst X: &str = include_str!(concat!(\"../\", \"tests/x\"));\n",
            "// declared nowhere",
        ] {
            assert_eq!(kept(&[("src/lib.rs", lib), ("src/tests.rs", "")]).len(), 2, "{lib}");
        }
        // The library says that it is for tests, the program does not.
        let lib = ("src/lib.rs", "#[cfg(test)]\nmod tests;\n");
        let main = ("src/main.rs", "pub mod tests; // shared\n");
        assert_eq!(kept(&[lib, main, ("src/tests.rs", "")]).len(), 3);
        let lib = ("src/lib.rs", "const X: &str = include_str!(\"../benches/x\");\n");
        assert_eq!(kept(&[lib, ("benches/x", "")]).len(), 2);
        // Data beside tests is not a module of them.
        let lib = ("src/lib.rs", "#[cfg(test)]\nmod tests;\n");
        assert_eq!(kept(&[lib, ("src/tests.rs", ""), ("src/tests/x.csv", "")]).len(), 2);
    }
}
