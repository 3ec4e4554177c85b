//! How a stage is called. A stage's `main.rs` hands [`main`] what it is and its `run`; the
//! command line, the options, the events and the exit status are the same for all of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::Kind;
use crate::{Event, Exit, Failure, Options, Progress, Result, Schema};

/// A node that a stage crate can run.
#[derive(Clone, Copy, Debug)]
pub struct NodeSpec {
    /// The node's name: `split`, `train.slp`.
    pub name: &'static str,
    /// Its options' descriptions, as [`Schema::parse`] reads them.
    pub options: &'static [&'static str],
}

/// One run of a stage: its options, where its inputs lie and where its outputs go.
pub struct Stage {
    /// The node that is run.
    pub node: &'static str,
    /// Where to say how far it is.
    pub progress: Progress,
    /// The device to compute on, as the user named it.
    pub device: String,
    /// Whether nothing may be downloaded.
    pub offline: bool,
    /// Whether to go on with an unfinished run that lies in the output folder.
    pub resume: bool,
    /// The commit of the workspace that runs it, where that is known.
    pub commit: Option<String>,
    options: Options,
    /// The options that are set, sources and paths aside: an artifact names no folder.
    recorded: Options,
    inputs: BTreeMap<String, PathBuf>,
    artifacts: PathBuf,
    out: PathBuf,
    downloads: PathBuf,
}

impl Stage {
    /// The options, typed.
    pub fn options<T: DeserializeOwned>(&self) -> Result<T> {
        let map = self.options.clone().into_iter().collect();
        serde_json::from_value(serde_json::Value::Object(map))
            .map_err(|e| Failure::usage(e, format_args!("options of `{}`", self.node), "compare them with `--help`"))
    }

    /// The path of `file` among the artifacts of `node`.
    pub fn input(&self, node: &str, file: &str) -> PathBuf {
        self.inputs.get(node).cloned().unwrap_or_else(|| self.artifacts.join(node)).join(file)
    }

    /// The path of an artifact that this run makes.
    pub fn output(&self, file: &str) -> PathBuf {
        self.out.join(file)
    }

    /// The folder that this run's artifacts go into.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Writes `value` as the JSON artifact `file`, readable by people.
    pub fn write_json(&self, file: &str, value: &impl Serialize) -> Result<()> {
        let path = self.output(file);
        let json = serde_json::to_string_pretty(value);
        let json = json.map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
        std::fs::write(&path, json + "\n").map_err(|e| Failure::io("write", &path, &e))
    }

    /// The folder where downloads are kept.
    pub fn downloads(&self) -> &Path {
        &self.downloads
    }
}

/// The artifact that says which options a result was made with.
pub const OPTIONS: &str = "options.json";

/// The variable in which xtask gives a stage its options, as JSON.
pub const OPTIONS_VARIABLE: &str = "KNOCKLINE_OPTIONS";

/// Runs a stage's command line: parses it, calls `run`, reports its one-line summary or its
/// failure, and gives the exit status.
pub fn main(about: &'static str, nodes: &'static [NodeSpec], run: fn(&Stage) -> Result<String>) -> ExitCode {
    let matches = command(about, nodes).get_matches();
    let events = matches.get_flag("events");
    // Held until the process ends, however it ends: a next run waits for that.
    let _lock = matches.get_one::<PathBuf>("stage-lock").map(|path| {
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).and_then(|file| file.lock_shared().map(|()| file))
    });
    if events {
        end_with_the_parent();
    }
    let stage = match crate::machine::threads().and_then(|_| prepare(&matches, nodes)) {
        Ok(stage) => stage,
        Err(failure) => return fail(&report_to(events, ""), failure, events),
    };
    match run(&stage).and_then(|summary| stage.write_json(OPTIONS, &stage.recorded).map(|()| summary)) {
        Ok(summary) => {
            stage.progress.send(&Event::Summary { text: summary.clone() });
            if !events {
                // Who has closed stdout does not want the line.
                let _ = writeln!(std::io::stdout(), "{summary}");
            }
            Exit::Done.into()
        }
        Err(failure) => fail(&stage.progress, failure, events),
    }
}

/// A parent that is killed cannot stop its stage; but the pipe to the stage's stdin closes. A
/// stage that went on would write into a folder that the next run takes for its own.
fn end_with_the_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(Exit::Failed as i32);
    });
}

fn report_to(events: bool, label: &str) -> Progress {
    if events { Progress::events() } else { Progress::console(label) }
}

fn fail(progress: &Progress, failure: Failure, events: bool) -> ExitCode {
    let exit = failure.exit;
    if !events {
        eprintln!("error: {failure}");
    }
    progress.send(&Event::Failure { failure });
    exit.into()
}

fn command(about: &'static str, nodes: &'static [NodeSpec]) -> Command {
    let options: String = nodes
        .iter()
        .map(|n| format!("Options of {} (--set NAME=VALUE):\n{}\n", n.name, Schema::parse(n.options).map_or_else(|e| e, |s| s.help())))
        .collect();
    let node = Arg::new("node").long("node").value_name("NAME").help("which node to run");
    let node = node.value_parser(nodes.iter().map(|n| n.name).collect::<Vec<_>>()).default_value(nodes.first().map_or("", |n| n.name));
    let dir = || value_parser!(PathBuf);
    Command::new(env!("CARGO_PKG_NAME"))
        .about(about)
        .after_help(options.trim_end().to_owned())
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
            Arg::new("input").long("input").value_name("NODE=DIR").action(ArgAction::Append).help("take NODE's artifacts from DIR instead"),
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
            Arg::new("downloads")
                .long("downloads")
                .value_name("DIR")
                .value_parser(dir())
                .help("where downloads are kept [default: DIR/.knockline/downloads of --artifacts]"),
        )
        .arg(Arg::new("set").long("set").value_name("NAME=VALUE").action(ArgAction::Append).help("set an option"))
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
                .help("go on with the unfinished run in --out, where the stage can"),
        )
        .arg(Arg::new("offline").long("offline").action(ArgAction::SetTrue).help("download nothing"))
        .arg(Arg::new("commit").long("commit").hide(true))
        .arg(Arg::new("stage-lock").long("stage-lock").value_parser(dir()).hide(true))
        .arg(Arg::new("events").long("events").action(ArgAction::SetTrue).hide(true))
}

fn prepare(matches: &ArgMatches, nodes: &'static [NodeSpec]) -> Result<Stage> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let wanted = matches.get_one::<String>("node").map_or("", String::as_str);
    let unknown = || Failure::usage("no such node", wanted, "see --help");
    let spec = nodes.iter().find(|n| n.name == wanted).ok_or_else(unknown)?;
    let schema = Schema::parse(spec.options)
        .map_err(|e| Failure::usage(e, format_args!("options of `{}`", spec.name), "this is a bug in the stage's options file"))?;

    let mut options = schema.defaults();
    if let Ok(json) = std::env::var(OPTIONS_VARIABLE) {
        let given: Options = serde_json::from_str(&json).map_err(|e| Failure::usage(e, OPTIONS_VARIABLE, "give a JSON object"))?;
        options.extend(given);
    }
    let pairs = |name: &'static str| -> Result<Vec<(String, String)>> {
        matches
            .get_many::<String>(name)
            .into_iter()
            .flatten()
            .map(|pair| {
                let (left, right) = pair.split_once('=').ok_or_else(|| {
                    Failure::usage(format_args!("`{pair}` has no `=`"), format_args!("--{name}"), format_args!("write --{name} NAME=VALUE"))
                })?;
                Ok((left.to_owned(), right.to_owned()))
            })
            .collect()
    };
    for (name, value) in pairs("set")? {
        schema
            .set_text(&mut options, &name, &value)
            .map_err(|e| Failure::usage(format_args!("`{name}` {e}"), format_args!("--set {name}={value}"), "see --help"))?;
    }

    let is_place = |name: &str| schema.0.get(name).is_some_and(|entry| matches!(entry.kind, Kind::Source | Kind::Path));
    let is_silent = |name: &str, value: &serde_json::Value| {
        schema.0.get(name).is_some_and(|entry| entry.since.is_some() && entry.default_value() == *value)
    };
    let recorded = options.iter().filter(|(name, value)| !value.is_null() && !is_place(name) && !is_silent(name, value));
    let recorded = recorded.map(|(name, value)| (name.clone(), value.clone())).collect();
    let artifacts = path("artifacts").unwrap_or_default();
    let out = path("out").unwrap_or_default();
    if !matches.get_flag("events") && out.join("manifest.json").exists() {
        let remedy = "give another folder; `cargo xtask pipeline --only NODE` makes a result the pipeline's own";
        return Err(Failure::usage("the pipeline's own result lies there", format_args!("--out {}", out.display()), remedy));
    }
    std::fs::create_dir_all(&out).map_err(|e| Failure::io("create folder", &out, &e))?;
    let is_ours = matches.get_flag("events") || matches.get_flag("resume") || out.join(OPTIONS).exists();
    if !is_ours && std::fs::read_dir(&out).map_err(|e| Failure::io("read folder", &out, &e))?.next().is_some() {
        let remedy = "give an empty folder, a new one, or one that holds an earlier result; --resume goes on with a run that was killed";
        return Err(Failure::usage("the folder is not empty, and no result lies there", format_args!("--out {}", out.display()), remedy));
    }
    Ok(Stage {
        node: spec.name,
        progress: report_to(matches.get_flag("events"), spec.name),
        device: matches.get_one::<String>("device").cloned().unwrap_or_default(),
        resume: matches.get_flag("resume"),
        offline: matches.get_flag("offline"),
        commit: matches.get_one::<String>("commit").cloned(),
        options,
        recorded,
        inputs: pairs("input")?.into_iter().map(|(n, d)| (n, d.into())).collect(),
        downloads: path("downloads").unwrap_or_else(|| artifacts.join(".knockline").join("downloads")),
        artifacts,
        out,
    })
}

/// Whether a source names something on the network, and no file.
pub fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// What artifacts call a source: the file name of the first of `sources` that has one. Artifacts
/// name no folder of the machine that made them, no query and no password; and mirrors of a file
/// agree on its name.
pub fn source_name(sources: &[&str]) -> String {
    let names = || sources.iter().map(|source| file_name(source));
    names().find(|name| name.contains('.')).or_else(|| names().next()).unwrap_or_default()
}

fn file_name(source: &str) -> String {
    let Some((_, address)) = source.split_once("://") else {
        return Path::new(source).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    };
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    let host = segments.next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    segments.next_back().unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_goes_by_its_file_name() {
        assert_eq!(source_name(&["/home/me/uci.zip"]), "uci.zip");
        assert_eq!(source_name(&["https://a.example/download?id=1.2", "https://b.example/x/v.bin.gz"]), "v.bin.gz");
        assert_eq!(source_name(&["/home/me/a#1/vectors"]), "vectors");
        assert_eq!(source_name(&["https://user:secret@a.example?token=secret"]), "a.example");
    }
}
