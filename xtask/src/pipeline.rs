//! `cargo xtask pipeline`: brings nodes up to date.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use bars::Board;
use cache::{Manifest, NodeName, Store};
use failure::{Exit, Failure, Result};
use serde_json::json;

use crate::binaries::{Binaries, stages};
use crate::cache::remote::Remote;
use crate::context::Context;
use crate::executor::{self, Executor};
use crate::graph::Node;
use crate::line::Line;
use crate::recipe::Recipes;
use crate::runlog::RunLog;
use crate::selection::Selection;
use crate::session::{Session, Task};
use crate::spawn::Runner;
use crate::{commit, interrupt, status};

/// Runs the command.
pub fn run(context: Context<'_>, selection: &Selection) -> Result<ExitCode> {
    let Context { root, config, store, json } = context;
    let nodes = selection.nodes(&config.graph)?;
    if selection.dry_run {
        return dry_run(context, selection, &nodes).map(|()| Exit::Done.into());
    }
    let options = executor::chosen(config, selection)?;
    if let Some(options) = options.as_ref().filter(|options| options.is_to_be_submitted()) {
        return executor::submit(context, selection, options);
    }
    interrupt::watch();
    let binaries = &Binaries::new(root, &selection.device, &stages(root)?, &store.index);
    let spread = options.map(|options| Executor::new(binaries, options, selection.jobs()));
    let runner: &dyn Runner = spread.as_ref().map_or(binaries, |spread| spread);
    let width = config.graph.width();
    let log = RunLog::begin(context.artifacts());
    let say = &|line: &Line| {
        log.add(line);
        line.print(width, json);
    };
    let run = PipelineRun { context, selection, runner, say, wanted: &[], commit: OnceCell::new() };
    let done = run.go(&nodes);
    let exit = done.as_ref().map_or_else(|failure| failure.exit, |()| Exit::Done);
    log.end(exit, commit::describe(root).as_deref());
    done?;
    let page = context.artifacts().join("report").join("index.html");
    if nodes.iter().any(|n| n.name == "report") && page.exists() {
        eprintln!("report: {}", page.display());
    }
    Ok(Exit::Done.into())
}

/// A run that brings nodes up to date.
pub struct PipelineRun<'r> {
    pub context: Context<'r>,
    pub selection: &'r Selection,
    pub runner: &'r dyn Runner,
    /// Prints a node's line once it is final.
    pub say: &'r dyn Fn(&Line),
    /// The nodes whose files all have to be here, besides the last ones.
    pub wanted: &'r [NodeName],
    /// Determined when the first stage runs: a run that finds every result does not need it.
    pub commit: OnceCell<Option<String>>,
}

impl PipelineRun<'_> {
    /// Brings `nodes` up to date.
    pub fn go(self, nodes: &[&Node]) -> Result<()> {
        let Self { context, selection, runner, say, wanted, commit } = self;
        let Context { root, config, store, .. } = context;
        let lock = store
            .lock(|| eprintln!("waiting for another run in {}", context.artifacts().display()))?;
        for node in nodes {
            store.refuse_foreign_node(&node.name)?;
        }
        let board = &Board::default();
        let remote = Remote::new(context, board)
            .read_only(selection.read_only)
            .offline(selection.offline)
            .strict(executor::is_on_cluster(config, selection));
        let recipes = Recipes::new(root, config, &selection.device, &store.index)?;
        let mut tasks = BTreeMap::new();
        for node in config.graph.iter() {
            let is_read = |by: &&&Node| by.reads_from(&node.name);
            if nodes.iter().any(|n| n.name == node.name) {
                // The last nodes are what the user asked for.
                let is_last = !nodes.iter().any(|by| is_read(&by));
                let is_wanted = is_last || wanted.contains(&node.name);
                tasks.insert(node.name.clone(), Task::selected(node, is_wanted));
            } else if nodes.iter().any(|by| is_read(&by)) {
                let (manifest, is_here) = as_it_is(store, &remote, &recipes, node)?;
                tasks.insert(node.name.clone(), Task::given(node, manifest, is_here));
            }
        }
        let session =
            Session { context, selection, recipes, remote, runner, board, say, tasks, commit };
        let done = { session }.run();
        store.index.save();
        drop(lock);
        done
    }
}

/// A node's current result, undamaged but perhaps stale, and whether it is here or was left in the
/// remote.
fn as_it_is(
    store: &Store,
    remote: &Remote<'_>,
    recipes: &Recipes<'_>,
    node: &Node,
) -> Result<(Manifest, bool)> {
    let folder = store.current(&node.name);
    let remedy = format!("make it: cargo xtask pipeline --to {}", node.name);
    let (manifest, is_here) = match Manifest::read(&folder)? {
        Some(manifest) => (manifest, true),
        None => match remote.noted(&node.name, None) {
            Some(manifest) => (manifest, false),
            None => {
                let what = format_args!("there is no result of `{}` to use", node.name);
                return Err(Failure::usage(
                    what,
                    folder.display(),
                    format_args!("{remedy}, with the same options"),
                ));
            }
        },
    };
    let manifest = store.trusted(manifest, &remedy)?;
    if let Some(problem) = manifest.check(&folder, &store.index).filter(|_| is_here) {
        return Err(Failure::input(problem, folder.display(), remedy));
    }
    if recipes.recipe(node).is_ok_and(|recipe| recipe != manifest.recipe) {
        eprintln!(
            "warning: `{}` is stale, and is taken as it is (`cargo xtask status {}` with the same options shows why)",
            node.name, node.name
        );
    }
    Ok((manifest, is_here))
}

fn dry_run(context: Context<'_>, selection: &Selection, nodes: &[&Node]) -> Result<()> {
    let width = context.config.graph.width();
    for state in status::states(context, &selection.device)? {
        if !nodes.iter().any(|n| n.name == state.node.name) {
            continue;
        }
        let forced = selection.forces(state.node);
        let would = if forced { "run" } else { state.would };
        let why = match would {
            _ if forced => "forced".to_owned(),
            // A stale node does not have to run if an earlier result is the wanted one.
            "hit" if state.state != "fresh" => "an earlier result is in the store".to_owned(),
            _ => state.reasons.join("; "),
        };
        let line = if context.json {
            json!({ "node": state.node.name, "would": would, "why": why }).to_string()
        } else {
            format!("{would:<8} {:<width$} {why}", state.node.name)
        };
        let _ = writeln!(std::io::stdout(), "{}", line.trim_end());
    }
    Ok(())
}
