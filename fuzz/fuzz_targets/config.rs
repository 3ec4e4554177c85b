//! Options as a user writes them, on the command line and in a file: an error with an explanation,
//! or a configuration.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use xtask::config::Config;
use xtask::declared::Declared;

static ROOT: LazyLock<std::path::PathBuf> =
    LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned());

/// The options of all stages.
static SCHEMAS: LazyLock<Vec<stage::Schema>> = LazyLock::new(|| {
    let declared = Declared::read(&ROOT).expect("declarations");
    let read = |package: &str, file: &String| std::fs::read_to_string(ROOT.join("crates").join(package).join(file)).expect("reads");
    let schema = |(package, node): (&str, &stage::declaration::Declaration)| {
        stage::Schema::parse(&node.options.iter().map(|file| read(package, file)).collect::<Vec<_>>()).expect("parses")
    };
    declared.iter().map(schema).collect()
});

fuzz_target!(|data: &str| {
    let sets: Vec<String> = data.lines().take(8).map(str::to_owned).collect();
    if let Err(failure) = Config::read(&ROOT, "sample", &sets) {
        assert!(failure.what.contains("mistake") && !failure.place.is_empty());
    }
    if let Ok(table) = toml::from_str::<toml::Table>(data) {
        for (name, value) in &table {
            for schema in &*SCHEMAS {
                let mut options = schema.defaults();
                if schema.set(&mut options, name, value).is_ok() {
                    // A value's canonical form has to be accepted, too.
                    let again = options.get(name).cloned();
                    let text = serde_json::to_string(&again).expect("JSON");
                    if !text.contains('\\') {
                        schema.set_text(&mut options, name, &text).unwrap_or_else(|e| panic!("{name} = {text}: {e}"));
                        assert_eq!(options.get(name).cloned(), again, "{name}");
                    }
                }
            }
        }
    }
});
