//! The command line of a stage. A stage's `main.rs` passes [`main`] its description, its embedded
//! files and its `run`; the command line, the options, the events and the exit status are the same
//! for all stages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use failure::{Exit, Failure, Result};

use crate::declaration::{self, Declaration};
use crate::shards::processes::{Part, do_part, part, shared_arguments};
use crate::stage::{InputFolder, Stage, bug};
use crate::{Event, Options, Progress, Schema, Shared};

/// The files that a stage's crate embeds: its `node.toml` and the descriptions of options that it
/// lists.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// The text of `node.toml`.
    pub nodes: &'static str,
    /// The texts of the descriptions of options, each with its path relative to `node.toml`.
    pub options: &'static [(&'static str, &'static str)],
}

impl Embedded {
    fn declarations(&self) -> Result<Vec<Declaration>> {
        declaration::parse(self.nodes).map_err(|e| bug(e, declaration::FILE))
    }

    fn schema(&self, declared: &Declaration) -> Result<Schema> {
        let text = |file: &String| {
            self.options.iter().find(|(path, _)| path == file).map(|(_, text)| *text)
        };
        let texts: Option<Vec<&str>> = declared.options.iter().map(text).collect();
        let texts = texts.ok_or_else(|| {
            bug(
                format_args!("`{}` names a file that is not embedded", declared.name),
                declaration::FILE,
            )
        })?;
        Schema::parse(&texts).map_err(|e| bug(e, &format!("options of `{}`", declared.name)))
    }
}

/// The artifact that lists the options of a result.
pub const OPTIONS: &str = "options.json";

/// The variable in which xtask gives a stage its options, as JSON.
pub const OPTIONS_VARIABLE: &str = "KNOCKLINE_OPTIONS";

/// Runs a stage's command line: parses it, calls `run`, reports the one-line summary or the
/// failure, and returns the exit status.
pub fn main(
    about: &'static str,
    embedded: Embedded,
    run: fn(&Stage) -> Result<String>,
) -> ExitCode {
    start(about, embedded, run, None)
}

/// [`main`] for a stage whose work several processes can share.
pub fn main_shared(
    about: &'static str,
    embedded: Embedded,
    run: fn(&Stage) -> Result<String>,
    shared: Shared,
) -> ExitCode {
    start(about, embedded, run, Some(shared))
}

fn start(
    about: &'static str,
    embedded: Embedded,
    run: fn(&Stage) -> Result<String>,
    shared: Option<Shared>,
) -> ExitCode {
    let command = command(about, embedded)
        .map(|command| if shared.is_some() { shared_arguments(command) } else { command });
    let matches = match command {
        Ok(command) => command.get_matches(),
        Err(failure) => return fail(&report_to(false, ""), failure, false),
    };
    let events = matches.get_flag("events");
    // Held until the process ends, even if it is killed: the next run waits for this.
    let _lock = matches.get_one::<PathBuf>("stage-lock").map(|path| {
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .and_then(|file| file.lock_shared().map(|()| file))
    });
    if events {
        end_with_the_parent();
    }
    let stage = match crate::machine::threads().and_then(|_| prepare(&matches, embedded)) {
        Ok(stage) => stage,
        Err(failure) => return fail(&report_to(events, ""), failure, events),
    };
    if let Some((shared, part)) = shared.zip(part(&matches))
        && part != Part::Finish
    {
        return match do_part(&stage, shared, part) {
            Ok(()) => Exit::Done.into(),
            Err(failure) => fail(&stage.progress, failure, events),
        };
    }
    // A process that was given up, but lives on, may still write the same result.
    let own_lock = matches.get_one::<PathBuf>("stage-lock").map(|path| {
        let path = path.with_extension(format!("{}.lock", stage.node));
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .and_then(|file| file.lock().map(|()| file))
    });
    let exit = match run(&stage)
        .and_then(|summary| stage.write_json(OPTIONS, &stage.recorded).map(|()| summary))
        // Also those that an interrupted, shared run has left to one that is not shared.
        .and_then(|summary| stage.drop_pieces().map(|()| summary))
    {
        Ok(summary) => {
            stage.progress.send(&Event::Summary { text: summary.clone() });
            if !events {
                // If stdout is closed, nobody wants the line.
                let _ = writeln!(std::io::stdout(), "{summary}");
            }
            Exit::Done.into()
        }
        Err(failure) => fail(&stage.progress, failure, events),
    };
    drop(own_lock);
    exit
}

/// Ends this process when its parent dies. A parent that is killed cannot stop its stage, but the
/// pipe to the stage's stdin closes. A stage that continued would write into a folder that the next
/// run uses.
fn end_with_the_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(Exit::Failed as i32);
    });
}

fn report_to(events: bool, label: &str) -> Progress {
    if events { Progress::events() } else { Progress::lines(label) }
}

fn fail(progress: &Progress, failure: Failure, events: bool) -> ExitCode {
    let exit = failure.exit;
    if !events {
        eprintln!("error: {failure}");
    }
    progress.send(&Event::Failure { failure });
    exit.into()
}

fn command(about: &'static str, embedded: Embedded) -> Result<Command> {
    let mut help = String::new();
    let nodes = embedded.declarations()?;
    for node in &nodes {
        let with =
            node.net.as_ref().map_or_else(String::new, |net| format!(" with net = \"{net}\""));
        // Writing to a string cannot fail.
        let _ = writeln!(
            help,
            "Options of {}{with} (--set NAME=VALUE):\n{}",
            node.name,
            embedded.schema(node)?.help()
        );
    }
    // `--node` can be left out if the stage has exactly one node and its name is fixed.
    let has_one = matches!(&nodes[..], [only] if only.name.prefix().is_none());
    let node = Arg::new("node")
        .long("node")
        .value_name("NAME")
        .help("which node to run")
        .required(!has_one);
    let dir = || value_parser!(PathBuf);
    let command = Command::new(env!("CARGO_PKG_NAME"))
        .about(about)
        .after_help(help.trim_end().to_owned())
        .arg(node)
        .arg(
            Arg::new("artifacts")
                .long("artifacts")
                .value_name("DIR")
                .value_parser(dir())
                .default_value("artifacts")
                .help("the folder with the earlier nodes' artifacts"),
        )
        .arg(
            Arg::new("input")
                .long("input")
                .value_names(["NODE", "DIR", "FILE"])
                .num_args(2..)
                .action(ArgAction::Append)
                .help("read NODE's artifacts from DIR, and only these files if any are named"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(dir())
                .required(true)
                .help("the folder to write this node's artifacts into"),
        )
        .arg(
            Arg::new("downloads").long("downloads").value_name("DIR").value_parser(dir()).help(
                "where downloads are kept [default: DIR/.knockline/downloads of --artifacts]",
            ),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("set an option"),
        )
        .arg(
            Arg::new("device")
                .long("device")
                .value_name("DEVICE")
                .default_value("cpu")
                .help("cpu, or cuda[:K] in a build with that feature"),
        )
        .arg(
            Arg::new("resume")
                .long("resume")
                .action(ArgAction::SetTrue)
                .help("resume the unfinished run in --out, if the stage can"),
        )
        .arg(
            Arg::new("offline").long("offline").action(ArgAction::SetTrue).help("download nothing"),
        )
        .arg(Arg::new("commit").long("commit").hide(true))
        .arg(Arg::new("stage-lock").long("stage-lock").value_parser(dir()).hide(true))
        .arg(Arg::new("events").long("events").action(ArgAction::SetTrue).hide(true));
    Ok(command)
}

fn prepare(matches: &ArgMatches, embedded: Embedded) -> Result<Stage> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let all = embedded.declarations()?;
    let only = all.first().map_or("", |declared| declared.name.as_str());
    let node = matches.get_one::<String>("node").map_or(only, String::as_str);
    let given: Options = match std::env::var(OPTIONS_VARIABLE) {
        Ok(json) => serde_json::from_str(&json)
            .map_err(|e| Failure::usage(e, OPTIONS_VARIABLE, "give a JSON object"))?,
        Err(_) => Options::new(),
    };
    let mut sets = Vec::new();
    for pair in matches.get_many::<String>("set").into_iter().flatten() {
        let no_value = || {
            Failure::usage(format_args!("`{pair}` has no `=`"), "--set", "write --set NAME=VALUE")
        };
        sets.push(pair.split_once('=').ok_or_else(no_value)?);
    }
    let net =
        sets.iter().rev().find(|(name, _)| *name == NET).map(|(_, net)| net.trim_matches('"'));
    let declared = declare(&all, node, net.or_else(|| given.get(NET)?.as_str()))?;
    let schema = embedded.schema(&declared)?;
    let mut options = schema.defaults();
    options.extend(given);
    for (name, value) in sets {
        schema.set_text(&mut options, name, value).map_err(|e| {
            Failure::usage(
                format_args!("`{name}` {e}"),
                format_args!("--set {name}={value}"),
                "see --help",
            )
        })?;
    }

    let is_place = |name: &str| schema.0.get(name).is_some_and(|entry| entry.kind.names_files());
    let is_silent = |name: &str, value: &serde_json::Value| {
        schema
            .0
            .get(name)
            .is_some_and(|entry| entry.since.is_some() && entry.default_value() == *value)
    };
    let recorded = options
        .iter()
        .filter(|(name, value)| !value.is_null() && !is_place(name) && !is_silent(name, value));
    let recorded = recorded.map(|(name, value)| (name.clone(), value.clone())).collect();
    let artifacts = path("artifacts").unwrap_or_default();
    let out = path("out").unwrap_or_default();
    if !matches.get_flag("events") && out.join("manifest.json").exists() {
        let remedy =
            "give another folder, or make the result with `cargo xtask pipeline --only NODE`";
        return Err(Failure::usage(
            "the folder contains a result of the pipeline",
            format_args!("--out {}", out.display()),
            remedy,
        ));
    }
    std::fs::create_dir_all(&out).map_err(|e| Failure::io("create folder", &out, &e))?;
    let chunk_rows = matches.try_get_one::<u32>("chunk-rows").ok().flatten().copied();
    let events = matches.get_flag("events");
    let stage = Stage {
        node: node.to_owned(),
        progress: report_to(events, node),
        device: matches.get_one::<String>("device").cloned().unwrap_or_default(),
        resume: matches.get_flag("resume"),
        offline: matches.get_flag("offline"),
        chunk_rows: chunk_rows.and_then(|rows| usize::try_from(rows).ok()),
        commit: matches.get_one::<String>("commit").cloned(),
        options,
        recorded,
        inputs: inputs(matches, &declared, &artifacts),
        declared,
        downloads: path("downloads")
            .unwrap_or_else(|| artifacts.join(".knockline").join("downloads")),
        artifacts: (!events).then_some(artifacts),
        out,
    };
    let out = &stage.out;
    // Processes that share a run find the folder of its pieces; nothing else may be there, since a part
    // of it could be taken for their own.
    let is_ours = match stage.chunk_rows {
        Some(_) => stage.pieces().exists(),
        None => stage.resume || out.join(OPTIONS).exists(),
    };
    // Another process of the run may just be making the folder of pieces.
    let is_late = || {
        stage.chunk_rows.is_some() && {
            std::thread::sleep(LATE);
            stage.pieces().exists()
        }
    };
    if !(events || is_ours)
        && std::fs::read_dir(out).map_err(|e| Failure::io("read folder", out, &e))?.next().is_some()
        && !is_late()
    {
        let (what, remedy) = match stage.chunk_rows {
            Some(_) => (
                "the folder has other files, or a run with other options or another size of chunks",
                "give an empty folder or a new one to all processes of a run, and the same options",
            ),
            None => (
                "the folder is not empty, and it does not contain a result",
                "give an empty folder, a new one, or one with an earlier result; use --resume to resume a run that was killed",
            ),
        };
        return Err(Failure::usage(what, format_args!("--out {}", out.display()), remedy));
    }
    Ok(stage)
}

/// How long a process that was started at the same time may take to make the folder of pieces.
const LATE: std::time::Duration = std::time::Duration::from_secs(1);
/// The option that chooses the net that a run trains.
const NET: &str = "net";

/// The declaration of the requested node.
fn declare(all: &[Declaration], node: &str, net: Option<&str>) -> Result<Declaration> {
    if let Some(declared) = declaration::find(all, node, net) {
        return Ok(declared.clone());
    }
    let nets: Vec<&str> =
        all.iter().filter(|d| d.name.matches(node)).filter_map(|d| d.net.as_deref()).collect();
    if nets.is_empty() {
        let mut known: Vec<&str> = all.iter().map(|d| d.name.as_str()).collect();
        known.dedup();
        return Err(Failure::usage(
            format_args!("there is no node `{node}` here"),
            "--node",
            format_args!("use one of {}", known.join(", ")),
        ));
    }
    let what = net
        .map_or_else(|| "no net is chosen".to_owned(), |net| format!("there is no net \"{net}\""));
    Err(Failure::usage(
        what,
        format_args!("option `{NET}` of `{node}`"),
        format_args!("use --set {NET}=… with {}", nets.join(" or ")),
    ))
}

/// Where the artifacts of other nodes lie: the folders that the command line names and, if a person
/// runs the stage alone, every existing folder of a node of a kind that it reads.
fn inputs(
    matches: &ArgMatches,
    declared: &Declaration,
    artifacts: &Path,
) -> BTreeMap<String, InputFolder> {
    let mut inputs = BTreeMap::new();
    let kinds = || declared.reads.iter().filter(|read| read.node.prefix().is_some());
    if !matches.get_flag("events") {
        for entry in std::fs::read_dir(artifacts).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if kinds().any(|read| read.node.matches(&name)) {
                inputs.insert(name, InputFolder { folder: entry.path(), files: None });
            }
        }
    }
    for mut values in matches.get_occurrences::<String>("input").into_iter().flatten() {
        if let (Some(node), Some(folder)) = (values.next(), values.next()) {
            let files: BTreeSet<String> = values.cloned().collect();
            let files = (!files.is_empty()).then_some(files);
            inputs.insert(node.clone(), InputFolder { folder: PathBuf::from(folder), files });
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMBEDDED: Embedded = Embedded {
        nodes: r#"
            [[node]]
            name = "train.*"
            net = "slp"
            options = ["options.toml"]
            reads = [{ node = "tensors", files = ["train.safetensors"] }, { node = "seed.*", files = ["seed", "more"] }, { node = "seed.own", files = ["own"] }]
        "#,
        options: &[("options.toml", "[net]\nkind = \"text\"\nabout = \"net\"\n")],
    };

    fn stage(args: &[&str]) -> Result<Stage> {
        let matches = command("about", EMBEDDED)?.try_get_matches_from([&["train"], args].concat());
        prepare(&matches.expect("a command line"), EMBEDDED)
    }

    #[test]
    fn a_stage_cannot_read_what_it_does_not_declare() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| dir.path().join(name).display().to_string();
        for node in ["seed.a", "seed.b", "other"] {
            std::fs::create_dir_all(dir.path().join("artifacts").join(node)).expect("a folder");
        }
        let (out, artifacts, elsewhere) =
            (folder("out"), folder("artifacts"), folder("else=where"));
        let args = [
            "--node",
            "train.x",
            "--set",
            "net=slp",
            "--out",
            &out,
            "--artifacts",
            &artifacts,
            "--input",
            "seed.b",
            &elsewhere,
        ];
        let stage = stage(&args).expect("a stage");
        assert!(
            stage
                .input("tensors", "train.safetensors")
                .expect("declared")
                .ends_with("artifacts/tensors/train.safetensors")
        );
        assert_eq!(stage.nodes("seed.*"), ["seed.a", "seed.b"]);
        assert!(stage.input("seed.b", "seed").expect("declared").ends_with("else=where/seed"));
        for (node, file) in [
            ("tensors", "valid.safetensors"),
            ("split", "train.safetensors"),
            ("seed.a.b", "seed"),
            ("seed.own", "seed"),
        ] {
            let refused = stage.input(node, file).expect_err("refused");
            assert!(
                refused
                    .what
                    .contains(&format!("{node}/{file}, which its node.toml does not declare")),
                "{refused}"
            );
        }
    }

    /// `xtask` lists the files that are in the key; the declaration alone is not enough then.
    #[test]
    fn a_stage_that_xtask_runs_reads_only_the_files_that_it_lists() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| dir.path().join(name).display().to_string();
        let (out, artifacts, listed) = (folder("out"), folder("artifacts"), folder("artifacts/a"));
        let args = ["--node", "train.x", "--set", "net=slp", "--out", &out, "--events"];
        let inputs = ["--artifacts", &artifacts, "--input", "seed.a", &listed, "seed"];
        let stage = stage(&[&args[..], &inputs].concat()).expect("a stage");
        assert!(stage.input("seed.a", "seed").expect("listed").ends_with("artifacts/a/seed"));
        for (node, file) in
            [("seed.a", "more"), ("seed.b", "seed"), ("tensors", "train.safetensors")]
        {
            let refused = stage.input(node, file).expect_err("refused");
            assert!(refused.what.ends_with("which is not among its inputs"), "{refused}");
        }
    }

    #[test]
    fn a_run_needs_a_net_that_is_known() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("out").display().to_string();
        let refusal = |args: &[&str]| {
            stage(&[args, &["--out", &out]].concat()).err().expect("refused").to_string()
        };
        assert!(refusal(&["--node", "train.x"]).contains("no net is chosen"));
        assert!(
            refusal(&["--node", "train.x", "--set", "net=cnn"]).contains("there is no net \"cnn\"")
        );
        assert!(refusal(&["--node", "split"]).contains("there is no node `split` here"));
    }
}
