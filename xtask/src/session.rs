//! One run of the graph: existing results are found, and the other nodes run, several at a time.
//!
//! A result that only the remote has stays there. If a node that has to run reads files of it,
//! these files are borrowed. The results of the last nodes in the selection are fetched whole,
//! since they are what the user asked for.

mod confirm;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Instant;

use bars::Board;
use cache::{Ingredients, Manifest, NodeName, RecipeKey, StageReport};
use failure::{Failure, Result};

use crate::cache::remote::Remote;
use crate::context::Context;
use crate::graph::{Graph, Node};
use crate::line::Line;
use crate::recipe::Recipes;
use crate::selection::Selection;
use crate::spawn::{Job, Runner};
use crate::{commit, device, executor, interrupt};

/// One run of the graph.
pub struct Session<'s> {
    pub context: Context<'s>,
    pub selection: &'s Selection,
    pub recipes: Recipes<'s>,
    pub remote: Remote<'s>,
    pub runner: &'s dyn Runner,
    pub board: &'s Board,
    /// Prints a node's line once it is final.
    pub say: &'s dyn Fn(&Line),
    /// By node: the selected nodes, and those that a selected node reads.
    pub tasks: BTreeMap<NodeName, Task<'s>>,
    /// Determined when the first stage runs: a run that finds every result does not need it.
    pub commit: OnceCell<Option<String>>,
}

/// A node in this run.
#[expect(clippy::struct_excessive_bools, reason = "each is independent of the others")]
pub struct Task<'s> {
    node: &'s Node,
    /// Whether the node is brought up to date, or its result taken as it is.
    selected: bool,
    /// Whether all its files have to be here.
    wanted: bool,
    state: TaskState,
    /// A result that was found in the remote and could not be fetched. The nodes after it were
    /// looked up by its digests.
    lost: Option<Manifest>,
    /// Whether a result that it reads was replaced by another while it ran.
    outdated: bool,
    line: Option<Line>,
    printed: bool,
}

/// How far a node is.
enum TaskState {
    /// Its inputs are not known yet.
    Waiting,
    /// It has no result, and runs when its inputs are known and available.
    Due(WantedResult),
    Running(Running),
    /// Its result is here.
    Here(Manifest),
    /// Its result is in the remote.
    Elsewhere(Manifest),
}

/// The result that a stage is to make.
struct WantedResult {
    recipe: RecipeKey,
    ingredients: Ingredients,
}

/// A running stage.
struct Running {
    wanted: WantedResult,
    start: Instant,
    /// Where the files that it reads lie, by node.
    inputs: Vec<(NodeName, PathBuf)>,
    /// Its sources and options, as they are in its key.
    given: Ingredients,
    /// The states of the files that it reads, from before it started.
    states: Vec<Option<String>>,
}

impl<'s> Task<'s> {
    /// A node that is to be brought up to date.
    pub fn selected(node: &'s Node, wanted: bool) -> Self {
        Self {
            node,
            selected: true,
            wanted,
            state: TaskState::Waiting,
            lost: None,
            outdated: false,
            line: None,
            printed: false,
        }
    }

    /// A node that is taken as it is, here or in the remote.
    pub fn given(node: &'s Node, manifest: Manifest, is_here: bool) -> Self {
        let state =
            if is_here { TaskState::Here(manifest) } else { TaskState::Elsewhere(manifest) };
        Self { state, selected: false, ..Self::selected(node, false) }
    }

    fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            TaskState::Here(manifest) | TaskState::Elsewhere(manifest) => Some(manifest),
            _ => None,
        }
    }
}

/// What a node's turn came to.
enum Turn<'s> {
    Still,
    Moved,
    Start(Box<Job<'s>>),
}

impl<'s> Session<'s> {
    /// Runs the graph. After a failure, no other node starts; those that run are waited for, and
    /// their results are kept.
    pub fn run(&mut self) -> Result<()> {
        let (sender, ended) = channel();
        let graph = &self.context.config.graph;
        let mut failed: Option<Failure> = None;
        std::thread::scope(|scope| {
            loop {
                let mut moved = false;
                for node in graph.iter() {
                    if failed.is_some() {
                        break;
                    }
                    let turn = self.turn(node);
                    match turn.and_then(|turn| self.remote.check().map(|()| turn)) {
                        Ok(Turn::Still) => {}
                        Ok(Turn::Moved) => moved = true,
                        Ok(Turn::Start(job)) => {
                            moved = true;
                            let (sender, runner) = (sender.clone(), self.runner);
                            scope.spawn(move || {
                                let bug = |what| {
                                    Failure::failed(
                                        what,
                                        &job.node.name,
                                        "this is a bug; please report it",
                                    )
                                };
                                let run = || runner.run(&job);
                                // The session would wait forever for a thread that sends nothing.
                                let summary =
                                    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
                                        Err(bug("the thread of this node panicked"))
                                    });
                                // It cannot fail: the session holds the receiver.
                                let _ = sender.send((job.node, summary));
                            });
                        }
                        Err(failure) => failed = Some(failure),
                    }
                }
                self.print(false);
                if moved && failed.is_none() {
                    continue;
                }
                let running: Vec<&str> = self.running().map(|node| node.name.as_str()).collect();
                if running.is_empty() {
                    break;
                }
                if failed.is_some() {
                    let names = running.join("`, `");
                    self.board
                        .aside(|| eprintln!("waiting for `{names}`; finished results are kept"));
                }
                let Ok((node, report)) = ended.recv() else { break };
                if let Err(failure) = self.end(node, report) {
                    match &failed {
                        None => failed = Some(failure),
                        Some(_) => self.board.aside(|| eprintln!("error: {failure}")),
                    }
                }
            }
        });
        self.print(true);
        self.remote.finish();
        failed.map_or_else(|| self.remote.check(), Err)
    }

    fn running(&self) -> impl Iterator<Item = &'s Node> {
        self.tasks.values().filter(|t| matches!(t.state, TaskState::Running(..))).map(|t| t.node)
    }

    fn manifest(&self, name: &str) -> Option<&Manifest> {
        self.tasks.get(name)?.manifest()
    }

    /// Advances a node by one step, if possible.
    fn turn(&mut self, node: &'s Node) -> Result<Turn<'s>> {
        let Some(task) = self.tasks.get(&node.name) else { return Ok(Turn::Still) };
        match &task.state {
            // A look-up may move the current result, so it waits while a stage reads that.
            TaskState::Waiting if self.running().any(|by| by.reads_from(&node.name)) => {
                Ok(Turn::Still)
            }
            TaskState::Waiting if !task.selected => {
                let remedy = format!("make it: cargo xtask pipeline --to {}", node.name);
                Err(Failure::download(
                    format_args!("the remote did not deliver the result of `{}`", node.name),
                    "the remote",
                    remedy,
                ))
            }
            TaskState::Waiting
                if node.reads.iter().all(|input| self.manifest(&input.node).is_some()) =>
            {
                self.look_for(node)?;
                Ok(Turn::Moved)
            }
            TaskState::Elsewhere(manifest) if task.wanted => {
                let manifest = manifest.clone();
                let start = Instant::now();
                if self.remote.fetch(&manifest)? {
                    self.found(node, TaskState::Here(manifest), start);
                } else {
                    self.lose(&node.name, manifest);
                }
                Ok(Turn::Moved)
            }
            TaskState::Due(_) => self.start(node),
            _ => Ok(Turn::Still),
        }
    }

    /// Looks for a node's result, first here, then in the remote.
    fn look_for(&mut self, node: &'s Node) -> Result<()> {
        let start = Instant::now();
        let upstream = self
            .tasks
            .iter()
            .filter_map(|(name, task)| Some((name.clone(), task.manifest()?.recipe.clone())))
            .collect();
        let recipe = self.recipes.recipe_after(node, &upstream)?;
        let ingredients = self.recipes.content(node, |name| self.manifest(name))?;
        let key = ingredients.content_key();
        let is_lost = self.tasks.get(&node.name).is_some_and(|t| t.lost.is_some());
        let mut state = TaskState::Due(WantedResult { recipe: recipe.clone(), ingredients });
        if !self.selection.forces(node) {
            let finding = self.context.store.check_out(&node.name, &key)?;
            self.board
                .aside(|| finding.damaged.iter().for_each(|what| eprintln!("warning: {what}")));
            if let Some(mut manifest) = finding.manifest {
                // It was found by its content key: note the newest recipe that gives it, too.
                if manifest.recipe != recipe && !self.context.store.is_read_only() {
                    manifest.recipe = recipe;
                    manifest.write(&self.context.store.current(&node.name))?;
                }
                state = TaskState::Here(manifest);
            } else if !is_lost && self.remote.is_there() {
                let noted = self.remote.noted(&node.name, Some(&key));
                if let Some(mut manifest) = noted
                    .or_else(|| self.remote.manifest(&node.name, &key))
                    .filter(|m| has_what_is_read(&self.context.config.graph, m))
                {
                    manifest.recipe = recipe;
                    self.remote.note(&manifest)?;
                    state = TaskState::Elsewhere(manifest);
                }
            }
        }
        self.notices();
        self.found(node, state, start);
        Ok(())
    }

    fn notices(&self) {
        let notices = self.context.store.notices();
        self.board.aside(|| notices.iter().for_each(|notice| eprintln!("warning: {notice}")));
    }

    /// Records the state in which a node's result was found.
    fn found(&mut self, node: &Node, state: TaskState, start: Instant) {
        let Some(task) = self.tasks.get_mut(&node.name) else { return };
        task.state = state;
        let place = if matches!(task.state, TaskState::Elsewhere(_)) { "remote" } else { "here" };
        task.line = task.manifest().map(|manifest| Line::new("hit", place, manifest, start));
    }

    /// Records that the remote could not deliver a promised result: the node is made here.
    fn lose(&mut self, name: &NodeName, manifest: Manifest) {
        if let Some(task) = self.tasks.get_mut(name) {
            (task.state, task.lost, task.line) = (TaskState::Waiting, Some(manifest), None);
        }
    }

    /// Starts a node that has to run, if its inputs are available and there is room for it.
    fn start(&mut self, node: &'s Node) -> Result<Turn<'s>> {
        if !node.reads.iter().all(|input| self.manifest(&input.node).is_some()) {
            return Ok(Turn::Still);
        }
        let running: Vec<&Node> = self.running().collect();
        if !has_room(node, &running, self.jobs(), &self.selection.device) {
            return Ok(Turn::Still);
        }
        let mut inputs = Vec::new();
        for (name, files) in node.reads.iter().map(|input| (&input.node, &input.files)) {
            match self.tasks.get(name).map(|task| &task.state) {
                Some(TaskState::Elsewhere(manifest)) => {
                    let manifest = manifest.clone();
                    let Some(folder) = self.remote.borrow(&manifest, files)? else {
                        self.lose(name, manifest);
                        return Ok(Turn::Moved);
                    };
                    inputs.push((name.clone(), folder));
                }
                _ => inputs.push((name.clone(), self.context.store.current(name))),
            }
        }
        self.refuse_mixed_data(node)?;
        self.context.store.writable(format_args!("`{}` has to run", node.name))?;
        self.context.store.can_sign(&node.name)?;
        let Some(Task { state: TaskState::Due(wanted), .. }) = self.tasks.get(&node.name) else {
            return Ok(Turn::Still);
        };
        let key = wanted.ingredients.content_key();
        // Whoever can write to the folder can leave checkpoints there, and the result would be signed.
        let is_ours = !self.context.store.requires_signatures()
            || self.selection.resume
            || executor::is_later_try();
        let resume = self.keeps_unfinished(node) && !self.selection.fresh && is_ours;
        if resume && self.context.store.has_other_unfinished(&node.name, &key) {
            let of = &node.name;
            self.board
                .aside(|| eprintln!("{of}: an unfinished run with other options or sources is kept; `cargo xtask cache gc` drops it"));
        }
        self.runner.ready()?;
        interrupt::running(self.keeps_unfinished(node), self.selection.fresh);
        let states = self.states(node, &inputs);
        let given = self.recipes.given_part(node)?;
        let job = Job {
            node,
            options: self.context.config.options(node),
            artifacts: self.context.artifacts().to_owned(),
            inputs: inputs.clone(),
            work: self.context.store.work(&node.name, &key, resume)?,
            downloads: self.context.store.downloads(),
            lock: self.context.store.stage_lock(),
            sources: self.recipes.sources(node).to_vec(),
            device: self.selection.device.clone(),
            resume,
            offline: self.selection.offline,
            commit: self.commit.get_or_init(|| commit::describe(self.context.root)).clone(),
            board: self.board.clone(),
        };
        if let Some(task) = self.tasks.get_mut(&node.name)
            && let TaskState::Due(wanted) = std::mem::replace(&mut task.state, TaskState::Waiting)
        {
            task.state = TaskState::Running(Running {
                wanted,
                start: Instant::now(),
                inputs,
                given,
                states,
            });
        }
        Ok(Turn::Start(Box::new(job)))
    }

    /// How many nodes may run at the same time.
    fn jobs(&self) -> usize {
        self.runner.processes().unwrap_or_else(|| self.selection.jobs())
    }

    /// Whether an interrupted run of the node can be continued: it has checkpoints, or pieces of work
    /// that several processes share.
    fn keeps_unfinished(&self, node: &Node) -> bool {
        node.resumable || node.shared && self.runner.processes().is_some()
    }

    /// Publishes a stage's result. If the stage may have read something other than its key lists,
    /// drops its files, and also the checkpoints of a stage that failed.
    fn end(&mut self, node: &'s Node, report: Result<StageReport>) -> Result<()> {
        let Some(task) = self.tasks.get_mut(&node.name) else { return Ok(()) };
        let TaskState::Running(running) = std::mem::replace(&mut task.state, TaskState::Waiting)
        else {
            return Ok(());
        };
        interrupt::ended(self.keeps_unfinished(node));
        let changes = self.changes(node, &running);
        if !changes.is_empty() {
            self.context
                .store
                .drop_unfinished(&node.name, &running.wanted.ingredients.content_key())?;
        }
        if !changes.is_empty() {
            let what =
                format!("something changed while `{}` ran: {}", node.name, changes.join("; "));
            let also = report
                .err()
                .map_or_else(String::new, |failure| format!("; it also failed: {}", failure.what));
            return Err(Failure::failed(
                format_args!("{what}{also}"),
                &node.name,
                "run the same command again; it starts from scratch",
            ));
        }
        let report = report?;
        let Running { wanted, start, .. } = running;
        let manifest =
            self.context.store.publish(&node.name, wanted.recipe, wanted.ingredients, report)?;
        let Some(task) = self.tasks.get_mut(&node.name) else { return Ok(()) };
        task.line = Some(Line::new("run", "here", &manifest, start));
        task.state = TaskState::Here(manifest.clone());
        let lost = task.lost.take();
        if std::mem::take(&mut task.outdated) {
            (task.state, task.line) = (TaskState::Waiting, None);
        }
        self.notices();
        self.remote.push(&manifest, false)?;
        if lost.is_some_and(|lost| lost.outputs != manifest.outputs) {
            self.look_again_after(node);
        }
        Ok(())
    }

    /// Looks up the nodes after `node` again: they were looked up by a result that could not be
    /// fetched, and the one made here differs from it.
    fn look_again_after(&mut self, node: &Node) {
        let graph = &self.context.config.graph;
        for task in
            self.tasks.values_mut().filter(|t| t.selected && graph.depends(t.node, &node.name))
        {
            if matches!(task.state, TaskState::Running(..)) {
                task.outdated = true;
            } else {
                (task.state, task.lost, task.line) = (TaskState::Waiting, None, None);
            }
        }
    }

    /// Prints the lines that can no longer change, in the graph's order; with `at_end`, all
    /// remaining lines.
    fn print(&mut self, at_end: bool) {
        for node in self.context.config.graph.iter() {
            let Some(task) = self.tasks.get_mut(&node.name).filter(|t| t.selected && !t.printed)
            else {
                continue;
            };
            match task.line.as_ref().filter(|_| at_end || matches!(task.state, TaskState::Here(_)))
            {
                Some(line) => {
                    self.board.aside(|| (self.say)(line));
                    task.printed = true;
                }
                None if at_end => {}
                None => return,
            }
        }
    }
}

/// Whether a result has every file that other nodes read of it. One that somebody else put into the
/// remote may not.
fn has_what_is_read(graph: &Graph, manifest: &Manifest) -> bool {
    graph.files_read_of(&manifest.node).into_iter().all(|file| manifest.digest(file).is_some())
}

/// Whether `node` may start beside the running ones.
fn has_room(node: &Node, running: &[&Node], jobs: usize, device: &str) -> bool {
    // Nodes do not share a GPU, either.
    let alone = |node: &Node| node.measures_time || node.uses_device && device::is_cuda(device);
    running.is_empty()
        || running.len() < jobs && !alone(node) && !running.iter().any(|node| alone(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn what_measures_time_and_what_uses_a_gpu_runs_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let config = Config::read(root, "sample", &[]).expect("a configuration");
        let node = |name| config.graph.find(name).expect("a node");
        let (slp, mlp, sweep) = (node("train.slp"), node("train.mlp"), node("train.sweep"));
        assert!(has_room(mlp, &[slp], 2, "cpu") && !has_room(mlp, &[slp], 1, "cpu"));
        assert!(!has_room(mlp, &[slp], 2, "cuda:1"));
        assert!(
            has_room(sweep, &[], 1, "cpu")
                && !has_room(sweep, &[mlp], 8, "cpu")
                && !has_room(mlp, &[sweep], 8, "cpu")
        );
    }
}
