//! `cargo xtask pipeline`: brings nodes up to date.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use bars::Board;
use cache::{Manifest, NodeName, Store};
use failure::{Failure, Result};
use serde_json::json;

use crate::binaries::{Binaries, stages};
use crate::config::Config;
use crate::graph::{Graph, Node};
use crate::recipe::Recipes;
use crate::remote::Remote;
use crate::session::{Session, Task};
use crate::spawn::Runner;
use crate::{interrupt, status};

/// What to bring up to date, and how.
#[derive(clap::Args)]
#[cfg_attr(test, derive(Default))]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Selection {
    /// Only this node and what depends on it; what comes before is taken as it is
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// Only this node and what it depends on
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// Only this node; what comes before is taken as it is
    #[arg(long, value_name = "NODE", conflicts_with_all = ["from", "to"])]
    pub only: Option<String>,
    /// Run this node even if its result is there
    #[arg(long, value_name = "NODE")]
    pub force: Vec<String>,
    /// Go on with a training run that was killed, from its last checkpoint; this is the default
    #[arg(long, conflicts_with = "fresh")]
    pub resume: bool,
    /// Start training anew, and drop the checkpoints of a run that was killed
    #[arg(long)]
    pub fresh: bool,
    /// Read every file again, whatever its time stamps say
    #[arg(long)]
    pub paranoid: bool,
    /// Say what would run, and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How many nodes may run at the same time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Take results from the remote of [cache], and put none there
    #[arg(long)]
    pub read_only: bool,
    /// Download no data and ask no remote but a folder; what was downloaded earlier is used
    #[arg(long)]
    pub offline: bool,
    /// cpu, cuda, cuda:K, or auto: a GPU where there is one
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = crate::device::parse)]
    pub device: String,
}

impl Selection {
    /// How many nodes may run at the same time.
    pub fn jobs(&self) -> usize {
        self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get), usize::from)
    }

    /// Whether this node is to run even if its result is there.
    pub fn forces(&self, node: &Node) -> bool {
        self.force.iter().any(|name| node.is_called(name))
    }

    /// The nodes that it names, in the graph's order.
    pub fn nodes<'g>(&self, graph: &'g Graph) -> Result<Vec<&'g Node>> {
        let called = |name: &Option<String>| name.as_deref().map(|name| graph.called(name)).transpose();
        let (only, from, to) = (called(&self.only)?, called(&self.from)?, called(&self.to)?);
        for name in &self.force {
            graph.called(name)?;
        }
        crate::device::check(&self.device)?;
        let is_one_of = |node: &Node, all: &[&Node]| all.iter().any(|other| other.name == node.name);
        let wanted = |node: &&Node| {
            only.as_ref().is_none_or(|only| is_one_of(node, only))
                && from.as_ref().is_none_or(|from| is_one_of(node, from) || from.iter().any(|f| graph.depends(node, &f.name)))
                && to.as_ref().is_none_or(|to| is_one_of(node, to) || to.iter().any(|t| graph.depends(t, &node.name)))
        };
        let nodes: Vec<&Node> = graph.iter().filter(wanted).collect();
        if let Some(name) = self.force.iter().find(|name| !nodes.iter().any(|node| node.is_called(name))) {
            return Err(Failure::usage(
                format_args!("`{name}` is forced but not selected"),
                "--force",
                "take it into the selection, or leave --force out",
            ));
        }
        if nodes.is_empty() {
            return Err(Failure::usage("no node lies between --from and --to", "command line", "`cargo xtask graph` shows the nodes"));
        }
        Ok(nodes)
    }
}

/// Runs the command.
pub fn run(root: &Path, config: &Config, artifacts: &Path, selection: &Selection, json: bool) -> Result<()> {
    let nodes = selection.nodes(&config.graph)?;
    let store = &Store::open(artifacts).paranoid(selection.paranoid);
    if selection.dry_run {
        return dry_run(root, config, store, selection, &nodes, json);
    }
    interrupt::watch();
    let runner = &Binaries::new(root, &selection.device, &stages(root)?, &store.index);
    let width = config.graph.width();
    let say = &|line: &Line| line.print(width, json);
    Run { root, config, artifacts, selection, store, runner, say, commit: OnceCell::new() }.go(&nodes)?;
    let page = artifacts.join("report").join("index.html");
    if nodes.iter().any(|n| n.name == "report") && page.exists() {
        eprintln!("report: {}", page.display());
    }
    Ok(())
}

/// What brings nodes up to date, and where.
pub struct Run<'r> {
    /// The workspace.
    pub root: &'r Path,
    pub config: &'r Config,
    pub artifacts: &'r Path,
    pub selection: &'r Selection,
    pub store: &'r Store,
    /// Runs the stages.
    pub runner: &'r dyn Runner,
    /// Is told of each node what became of it.
    pub say: &'r dyn Fn(&Line),
    /// Asked for when the first stage runs: a run that finds everything made has no use for it.
    pub commit: OnceCell<Option<String>>,
}

impl Run<'_> {
    /// Brings `nodes` up to date.
    pub fn go(self, nodes: &[&Node]) -> Result<()> {
        let Self { root, config, artifacts, selection, store, runner, say, commit } = self;
        let lock = store.lock(|| eprintln!("waiting for another run in {}", artifacts.display()))?;
        for node in nodes {
            store.refuse_foreign_node(&node.name)?;
        }
        let board = &Board::default();
        let remote = Remote::new(root, config, store, board).read_only(selection.read_only).offline(selection.offline);
        let recipes = Recipes::new(root, config, &selection.device, &store.index)?;
        let mut tasks = BTreeMap::new();
        for node in config.graph.iter() {
            let is_read = |by: &&&Node| by.reads_from(&node.name);
            if nodes.iter().any(|n| n.name == node.name) {
                // The last nodes are what the user asked for.
                tasks.insert(node.name.clone(), Task::selected(node, !nodes.iter().any(|by| is_read(&by))));
            } else if nodes.iter().any(|by| is_read(&by)) {
                let (manifest, is_here) = as_it_is(store, &remote, &recipes, node)?;
                tasks.insert(node.name.clone(), Task::given(node, manifest, is_here));
            }
        }
        let session = Session { root, config, artifacts, selection, store, recipes, remote, runner, board, say, tasks, commit };
        let done = { session }.run();
        store.index.save();
        drop(lock);
        done
    }
}

/// A node's current result, sound but perhaps stale, and whether it is here or was left in the remote.
fn as_it_is(store: &Store, remote: &Remote<'_>, recipes: &Recipes<'_>, node: &Node) -> Result<(Manifest, bool)> {
    let folder = store.current(&node.name);
    let remedy = format!("make it: cargo xtask pipeline --to {}", node.name);
    let (manifest, is_here) = match Manifest::read(&folder)? {
        Some(manifest) => (manifest, true),
        None => match remote.noted(&node.name, None) {
            Some(manifest) => (manifest, false),
            None => {
                let what = format_args!("there is no result of `{}` to take", node.name);
                return Err(Failure::usage(what, folder.display(), format_args!("{remedy}, with the same options")));
            }
        },
    };
    if let Some(problem) = manifest.check(&folder, &store.index).filter(|_| is_here) {
        return Err(Failure::input(problem, folder.display(), remedy));
    }
    if recipes.recipe(node).is_ok_and(|recipe| recipe != manifest.recipe) {
        eprintln!(
            "warning: `{}` is taken as it is, and is stale (`cargo xtask status {}` with the same options says why)",
            node.name, node.name
        );
    }
    Ok((manifest, is_here))
}

/// What is said about a node.
pub struct Line {
    /// Which one.
    pub node: NodeName,
    /// `hit` or `run`.
    pub status: &'static str,
    place: &'static str,
    key: String,
    seconds: f64,
    bytes: u64,
    summary: String,
}

impl Line {
    /// Of a result that was found or made since `start`, and is `here` or in the `remote`.
    pub fn new(status: &'static str, place: &'static str, manifest: &Manifest, start: Instant) -> Self {
        Self {
            node: manifest.node.clone(),
            status,
            place,
            key: manifest.key.to_string(),
            seconds: start.elapsed().as_secs_f64(),
            bytes: manifest.bytes(),
            summary: manifest.summary.clone(),
        }
    }

    /// On stdout; the names of nodes are so wide.
    pub fn print(&self, width: usize, json: bool) {
        let key = self.key.get(..12).unwrap_or(&self.key);
        let line = if json {
            json!({ "node": self.node, "status": self.status, "place": self.place, "key": self.key, "seconds": self.seconds, "bytes": self.bytes, "summary": self.summary })
                .to_string()
        } else {
            let place = if self.place == "remote" { "in the remote: " } else { "" };
            format!(
                "{:<4} {:<width$} {key} {:>8.2} s {:>9}  {place}{}",
                self.status,
                self.node,
                self.seconds,
                size(self.bytes),
                self.summary
            )
        };
        // Who has closed stdout does not want the lines; the work goes on.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Bytes for a person.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn dry_run(root: &Path, config: &Config, store: &Store, selection: &Selection, nodes: &[&Node], json: bool) -> Result<()> {
    let width = config.graph.width();
    for state in status::states(root, config, store, &selection.device)? {
        if !nodes.iter().any(|n| n.name == state.node.name) {
            continue;
        }
        let forced = selection.forces(state.node);
        let would = if forced { "run" } else { state.would };
        let why = match would {
            _ if forced => "forced".to_owned(),
            // What is stale needs no run where an earlier result is what is wanted.
            "hit" if state.state != "fresh" => "an earlier result is in the store".to_owned(),
            _ => state.reasons.join("; "),
        };
        let line = if json {
            json!({ "node": state.node.name, "would": would, "why": why }).to_string()
        } else {
            format!("{would:<8} {:<width$} {why}", state.node.name)
        };
        let _ = writeln!(std::io::stdout(), "{}", line.trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: Option<&str>, to: Option<&str>, only: Option<&str>) -> Result<Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let sets = ["matrix.train.wide.hidden=[1, 2]".to_owned(), "train.wide.net=mlp".to_owned()];
        let config = Config::read(root, "sample", &sets).expect("a configuration");
        let own = |o: Option<&str>| o.map(str::to_owned);
        let selection = Selection { from: own(from), to: own(to), only: own(only), device: "cpu".into(), ..Selection::default() };
        Ok(selection.nodes(&config.graph)?.into_iter().map(|n| n.name.to_string()).collect())
    }

    #[test]
    fn selections_follow_the_graph() {
        assert_eq!(names(None, Some("embed"), None).expect("nodes"), ["ingest", "split", "embed"]);
        assert_eq!(names(Some("train.mlp"), None, None).expect("nodes"), ["train.mlp", "report"]);
        assert_eq!(names(Some("split"), Some("tensors"), None).expect("nodes"), ["split", "embed", "tensors"]);
        assert_eq!(names(None, None, Some("split")).expect("nodes"), ["split"]);
        assert!(names(Some("train.slp"), Some("split"), None).is_err());
        assert!(names(None, Some("nothing"), None).is_err());
        assert_eq!(names(None, None, Some("train.wide")).expect("nodes"), ["train.wide@hidden=1", "train.wide@hidden=2"]);
    }
}
