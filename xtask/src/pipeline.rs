//! `cargo xtask pipeline`: brings nodes up to date.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use artifact::{Failure, Result};
use cache::{Manifest, Store};
use serde_json::json;

use crate::commit;
use crate::config::Config;
use crate::graph::{GRAPH, Node, depends, find};
use crate::recipe::Recipes;
use crate::spawn::{Binaries, Call};
use crate::status;

/// What to bring up to date, and how.
#[derive(clap::Args)]
pub struct Selection {
    /// Only this node and what depends on it; what comes before is taken as it is
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Only this node and what it depends on
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Only this node; what comes before is taken as it is
    #[arg(long, value_name = "NODE", conflicts_with_all = ["from", "to"])]
    only: Option<String>,
    /// Run this node even if its result is there
    #[arg(long, value_name = "NODE")]
    force: Vec<String>,
    /// Go on with a training run that was killed, from its last checkpoint
    #[arg(long)]
    resume: bool,
    /// Say what would run, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// cpu, cuda or cuda:K
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
}

impl Selection {
    fn nodes(&self) -> Result<Vec<&'static Node>> {
        let check = |name: &Option<String>| name.as_deref().map(find).transpose();
        let (only, from, to) = (check(&self.only)?, check(&self.from)?, check(&self.to)?);
        for name in &self.force {
            find(name)?;
        }
        check_device(&self.device)?;
        let wanted = |node: &&Node| {
            only.is_none_or(|o| o.name == node.name)
                && from.is_none_or(|f| f.name == node.name || depends(node, f.name))
                && to.is_none_or(|t| t.name == node.name || depends(t, node.name))
        };
        let nodes: Vec<&Node> = GRAPH.iter().filter(wanted).collect();
        if let Some(name) = self.force.iter().find(|name| nodes.iter().all(|n| n.name != **name)) {
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

/// Refuses a device's name that no stage knows, before any runs.
pub fn check_device(device: &str) -> Result<()> {
    let known = match device.split_once(':') {
        None => matches!(device, "cpu" | "cuda"),
        Some((kind, number)) => kind == "cuda" && number.parse::<usize>().is_ok(),
    };
    let unknown = || Failure::usage(format_args!("there is no device `{device}`"), "--device", "use cpu, cuda or cuda:K");
    known.then_some(()).ok_or_else(unknown)
}

/// Runs the command.
pub fn run(root: &Path, config: &Config, artifacts: &Path, selection: &Selection, json: bool) -> Result<()> {
    let nodes = selection.nodes()?;
    let store = Store::open(artifacts);
    if selection.dry_run {
        return dry_run(root, config, &store, selection, &nodes, json);
    }
    let lock = store.lock(selection.resume, || eprintln!("waiting for another run in {}", artifacts.display()))?;
    for node in store.dropped() {
        eprintln!("warning: an unfinished run of `{node}` was dropped; --resume goes on with one");
    }
    let recipes = Recipes::new(root, config, &selection.device, &store.index)?;
    let mut session = Session { store: &store, recipes, done: BTreeMap::new(), binaries: None, commit: OnceCell::new() };
    for node in GRAPH {
        if nodes.iter().any(|n| n.name == node.name) {
            let line = session.bring_up_to_date(root, config, artifacts, node, selection)?;
            for notice in store.notices() {
                eprintln!("warning: {notice}");
            }
            line.print(json);
        } else if nodes.iter().any(|n| n.reads.iter().any(|(name, _)| *name == node.name)) {
            session.take_as_it_is(node)?;
        }
    }
    store.index.save();
    drop(lock);
    let page = artifacts.join("report").join("index.html");
    if nodes.iter().any(|n| n.name == "report") && page.exists() {
        eprintln!("report: {}", page.display());
    }
    Ok(())
}

struct Session<'s> {
    store: &'s Store,
    recipes: Recipes,
    done: BTreeMap<&'static str, Manifest>,
    binaries: Option<Binaries>,
    /// Asked for when the first stage runs: a run that finds everything made has no use for it.
    commit: OnceCell<Option<String>>,
}

impl Session<'_> {
    fn bring_up_to_date(
        &mut self,
        root: &Path,
        config: &Config,
        artifacts: &Path,
        node: &'static Node,
        selection: &Selection,
    ) -> Result<Line> {
        let start = Instant::now();
        let upstream = self.done.iter().map(|(name, manifest)| (*name, manifest.recipe.clone())).collect();
        let recipe = self.recipes.recipe_after(node, &upstream)?;
        let ingredients = self.recipes.content(node, |name| self.done.get(name))?;
        let found = if selection.force.iter().any(|f| f == node.name) {
            None
        } else {
            let finding = self.store.find(node.name, &ingredients.key())?;
            finding.damaged.iter().for_each(|what| eprintln!("warning: {what}"));
            finding.manifest
        };
        let (status, manifest) = match found {
            Some(mut manifest) => {
                // Found by its content: from now on its newest recipe finds it, too.
                if manifest.recipe != recipe {
                    manifest.recipe = recipe;
                    manifest.write(&self.store.current(node.name))?;
                }
                ("hit", manifest)
            }
            None => {
                if self.binaries.is_none() {
                    self.binaries = Some(Binaries::build(root, &selection.device, &stages(), &self.recipes.sources)?);
                }
                if selection.resume && node.package == "train" && self.store.has_other_unfinished(node.name, &ingredients.key()) {
                    eprintln!(
                        "warning: an unfinished run of `{}` with other options or sources is left where it is; --resume goes on only with the same",
                        node.name
                    );
                }
                let Some(binaries) = &self.binaries else { return Err(Failure::failed("no binaries", "cargo build", "this is a bug")) };
                let call = Call {
                    node,
                    options: &config.options(node),
                    artifacts,
                    work: &self.store.work(node.name, &ingredients.key())?,
                    downloads: &self.store.downloads(),
                    lock: &self.store.stage_lock(),
                    device: &selection.device,
                    resume: selection.resume,
                    commit: self.commit.get_or_init(|| commit::describe(root)).as_deref(),
                };
                let summary = binaries.run(&call)?;
                // The key was made before the stage was built and read its source.
                let now = Recipes::new(root, config, &selection.device, &self.store.index)?.own(node)?;
                let changes = self.recipes.own(node)?.changes(&now);
                if !changes.is_empty() {
                    let what = format!("something changed while `{}` ran: {}", node.name, changes.join("; "));
                    return Err(Failure::failed(what, node.name, "run the same command again"));
                }
                ("run", self.store.publish(node.name, recipe, ingredients, summary)?)
            }
        };
        let line = Line {
            node: node.name,
            status,
            key: manifest.key.to_string(),
            seconds: start.elapsed().as_secs_f64(),
            bytes: manifest.bytes(),
            summary: manifest.summary.clone(),
        };
        self.done.insert(node.name, manifest);
        Ok(line)
    }

    /// Takes a node's current result, sound but perhaps stale.
    fn take_as_it_is(&mut self, node: &'static Node) -> Result<()> {
        let folder = self.store.current(node.name);
        let remedy = format!("make it: cargo xtask pipeline --to {}", node.name);
        let Some(manifest) = Manifest::read(&folder)? else {
            return Err(Failure::usage(format_args!("there is no result of `{}` to take", node.name), folder.display(), remedy));
        };
        if let Some(problem) = manifest.check(&folder, &self.store.index) {
            return Err(Failure::input(problem, folder.display(), remedy));
        }
        if self.recipes.recipe(node).is_ok_and(|recipe| recipe != manifest.recipe) {
            eprintln!("warning: `{}` is taken as it is, and is stale (`cargo xtask status {}` says why)", node.name, node.name);
        }
        self.done.insert(node.name, manifest);
        Ok(())
    }
}

/// The packages of all stages, each once.
fn stages() -> Vec<&'static str> {
    GRAPH.iter().map(|node| node.package).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is said about a node.
struct Line {
    node: &'static str,
    status: &'static str,
    key: String,
    seconds: f64,
    bytes: u64,
    summary: String,
}

impl Line {
    fn print(&self, json: bool) {
        let key = self.key.get(..12).unwrap_or(&self.key);
        let line = if json {
            json!({ "node": self.node, "status": self.status, "key": self.key, "seconds": self.seconds, "bytes": self.bytes, "summary": self.summary })
                .to_string()
        } else {
            format!("{:<4} {:<11} {key} {:>8.2} s {:>9}  {}", self.status, self.node, self.seconds, size(self.bytes), self.summary)
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
    for state in status::states(root, config, store, &selection.device)? {
        if !nodes.iter().any(|n| n.name == state.node) {
            continue;
        }
        let forced = selection.force.iter().any(|f| f == state.node);
        let would = if forced { "run" } else { state.would };
        let why = match would {
            _ if forced => "forced".to_owned(),
            // What is stale needs no run where an earlier result is what is wanted.
            "hit" if !state.reasons.is_empty() => "an earlier result is in the store".to_owned(),
            _ => state.reasons.join("; "),
        };
        let line = if json {
            json!({ "node": state.node, "would": would, "why": why }).to_string()
        } else {
            format!("{would:<8} {:<11} {why}", state.node)
        };
        let _ = writeln!(std::io::stdout(), "{}", line.trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: Option<&str>, to: Option<&str>, only: Option<&str>) -> Result<Vec<&'static str>> {
        let own = |o: Option<&str>| o.map(str::to_owned);
        let selection = Selection {
            from: own(from),
            to: own(to),
            only: own(only),
            force: Vec::new(),
            resume: false,
            dry_run: false,
            device: "cpu".into(),
        };
        Ok(selection.nodes()?.into_iter().map(|n| n.name).collect())
    }

    #[test]
    fn selections_follow_the_graph() {
        assert_eq!(names(None, Some("embed"), None).expect("nodes"), ["ingest", "split", "embed"]);
        assert_eq!(names(Some("train.mlp"), None, None).expect("nodes"), ["train.mlp", "report"]);
        assert_eq!(names(Some("split"), Some("tensors"), None).expect("nodes"), ["split", "embed", "tensors"]);
        assert_eq!(names(None, None, Some("split")).expect("nodes"), ["split"]);
        assert!(names(Some("train.slp"), Some("split"), None).is_err());
        assert!(names(None, Some("nothing"), None).is_err());
    }
}
