//! Performs random actions and compares the outcome with the oracle.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cache::{Digest, NodeName, Store};
use failure::Result;

use super::builder::{Builder, Built};
use super::stage::{Action, EPOCHS, Meddling, ModelStage, Moment, content, files_of, recipe};
use super::world::{CRATES, TEXTS, World, source};
use crate::binaries::{Binaries, stages};
use crate::cargo::Builder as _;
use crate::config::Config;
use crate::context::Context;
use crate::graph::Node;
use crate::pipeline::PipelineRun;
use crate::selection::Selection;

/// The node that is brought up to date, with all nodes before it.
const LAST: &str = "train.slp";
/// Stands for the index's minute: longer than a tick of the clock.
const SOON: Duration = Duration::from_millis(15);
const NODES: [&str; 5] = ["ingest", "split", "embed", "tensors", LAST];

/// One sequence.
pub struct Player {
    config: Config,
    world: Arc<Mutex<World>>,
    built: Built,
    random: u64,
    /// How often each action was performed.
    pub counts: BTreeMap<&'static str, u64>,
    seed: u64,
    /// Earlier sources, with their time stamps.
    history: Vec<(&'static str, String, SystemTime)>,
    /// Earlier programs.
    programs: Vec<Vec<u8>>,
    /// The contents of files that knockline did not make. Each must survive somewhere.
    strangers: Vec<String>,
    /// Whether the index is in use. It then trusts a file after [`SOON`], and after each action the
    /// files are left alone for longer than that. Nothing is written through the map then, since
    /// that would need a real minute.
    trusting: bool,
    /// The actions so far, for the message of a failure.
    story: Vec<String>,
}

impl Player {
    pub fn new(seed: u64) -> Self {
        let world = World::new();
        Self {
            config: Config::read(world.root(), "sample", &[]).expect("a configuration"),
            world: Arc::new(Mutex::new(world)),
            built: Built::default(),
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            counts: BTreeMap::new(),
            seed,
            history: Vec::new(),
            programs: vec![b"garbage".to_vec()],
            strangers: Vec::new(),
            trusting: seed % 10 == 3,
            story: Vec::new(),
        }
    }

    /// A number below `n` (xorshift64*; Vigna, 2016).
    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn node(&self, name: &str) -> &Node {
        self.config.graph.find(name).expect("a node")
    }

    /// The files of a node that other nodes read.
    fn files_of(&self, name: &str) -> Vec<String> {
        files_of(&self.config.graph, name)
    }

    /// A random stage's package.
    fn package(&mut self) -> String {
        let all = self.with(|world| stages(world.root()).expect("packages"));
        let at = self.below(all.len());
        all[at].clone()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: &'static str, more: impl std::fmt::Display) {
        self.count(what);
        self.story.push(format!("{what} {more}"));
    }

    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().expect("no panic"))
    }

    fn artifacts(&self, which: usize) -> PathBuf {
        self.with(|world| world.path(["artifacts", "elsewhere"][which]))
    }

    /// Performs a random action.
    pub fn act(&mut self) {
        match self.below(21) {
            0..3 => self.edit(),
            3 => self.restore(),
            4 => {
                let package = self.one(&CRATES);
                let text = self.with(|world| world.read(&source(package)));
                self.with(|world| world.put(&source(package), &text));
                self.note("touch", package);
            }
            5 => self.build(),
            6 | 7 => {
                let change = self.swap();
                change();
            }
            8 => {
                let text = self.one(&TEXTS);
                self.with(|world| world.put("data.csv", text));
                self.note("data", text);
            }
            9 if self.trusting => {}
            9 => {
                let text = self.one(&TEXTS);
                self.with(|world| world.write_through_the_map(text));
                self.note("map", text);
            }
            10 => {
                let node = self.one(&NODES);
                self.note("force", node);
                self.run(
                    Selection { force: vec![node.to_owned()], ..Selection::default() },
                    None,
                    None,
                );
            }
            11 | 12 => {
                let (node, after) = (self.one(&NODES), self.below(3) as u64);
                self.note("kill", format_args!("{node} after {after}"));
                // A forced node runs, so that it can be killed.
                let force = if self.below(2) == 0 { vec![node.to_owned()] } else { Vec::new() };
                let meddle = match self.below(4) {
                    0 => Some(self.meddling()),
                    // Leaves checkpoints made from something that should not have been read.
                    1 if node != NODES[0] => {
                        let before = NODES
                            .into_iter()
                            .find(|before| self.node(node).reads[0].node == *before)
                            .expect("one");
                        Some(Meddling::new(vec![(Moment::ReadOf(node), self.damage(before))]))
                    }
                    _ => None,
                };
                self.run(Selection { force, ..Selection::default() }, Some((node, after)), meddle);
            }
            13 => self.collect(),
            14 => self.export_and_import(),
            15 => self.stranger(),
            20 => {
                let node = self.one(&NODES);
                let change = self.damage(node);
                change();
            }
            16 | 17 => {
                let meddle = self.meddling();
                self.count("meddled");
                self.run(Selection::default(), None, Some(meddle));
            }
            _ => self.run(
                Selection { fresh: self.random.is_multiple_of(5), ..Selection::default() },
                None,
                None,
            ),
        }
        self.nothing_is_lost();
        if self.trusting {
            std::thread::sleep(2 * SOON);
        }
    }

    fn store(&self, artifacts: &Path) -> Store {
        let store = Store::open(artifacts);
        if self.trusting { store.settled_after(SOON) } else { store }
    }

    fn edit(&mut self) {
        let (package, text) = (self.one(&CRATES), self.one(&TEXTS));
        let before =
            self.with(|world| (world.read(&source(package)), world.stamp(&source(package))));
        self.history.push((package, before.0, before.1));
        self.with(|world| world.put(&source(package), text));
        self.note("edit", format_args!("{package} {text:?}"));
    }

    /// Restores an earlier source with its time stamp.
    fn restore(&mut self) {
        if self.history.is_empty() {
            return;
        }
        let at = self.below(self.history.len());
        let (package, text, stamp) = self.history[at].clone();
        self.with(|world| world.put_as_of(&source(package), &text, stamp));
        self.note("restore", format_args!("{package} {text:?}"));
    }

    /// Builds without xtask.
    fn build(&mut self) {
        let package = self.package();
        let root = self.with(|world| world.root().to_owned());
        Builder { root, built: &self.built, meddling: &Meddling::default() }
            .build(std::slice::from_ref(&package))
            .expect("builds");
        self.note("build", package);
    }

    /// A deed that replaces a program with another one, as a new file or in place.
    fn swap(&mut self) -> Action {
        let package = self.package();
        let path = self.with(|world| world.path(&format!("target/debug/{package}")));
        if let Ok(program) = std::fs::read(&path) {
            self.programs.push(program);
        }
        let at = self.below(self.programs.len());
        let (program, in_place) = (self.programs[at].clone(), self.below(2) == 0);
        self.note(
            "swap",
            format_args!("{package} {:?} {in_place}", String::from_utf8_lossy(&program)),
        );
        Box::new(move || {
            if !path.exists() {
                return;
            }
            if !in_place {
                std::fs::remove_file(&path).expect("removes");
            }
            std::fs::write(&path, program).expect("writes");
        })
    }

    /// Random deeds during a run: a change, perhaps undone again.
    fn meddling(&mut self) -> Meddling {
        let (text, package, moment) = (
            self.one(&TEXTS),
            self.one(&CRATES),
            self.one(&[Moment::Build, Moment::Read, Moment::Write]),
        );
        let back = self.below(2) == 0;
        let (source, data) = (source(package), "data.csv".to_owned());
        self.story.push(format!("meanwhile at {moment:?}, and back: {back}: {package} {text:?}"));
        let all = match self.below(5) {
            0 => vec![(moment, self.swap())],
            1 => self.change_and_restore(source, text, moment, back),
            2 => self.change_and_restore(data, text, moment, back),
            3 if self.trusting => Vec::new(),
            3 => {
                let world = self.world.clone();
                let write: Action =
                    Box::new(move || world.lock().expect("no panic").write_through_the_map(text));
                vec![(moment, write)]
            }
            _ => {
                let node = self.one(&NODES);
                let path = self.artifacts(0).join(node).join(&self.files_of(node)[0]);
                let (damage, was) = (self.damage(node), std::fs::read(&path).ok());
                let restore: Action = Box::new(move || {
                    if let Some(was) = was.filter(|_| path.exists()) {
                        std::fs::write(path, was).expect("writes");
                    }
                });
                if back {
                    vec![(moment, damage), (Moment::Write, restore)]
                } else {
                    vec![(moment, damage)]
                }
            }
        };
        Meddling::new(all)
    }

    /// Deeds that write a file and, with `back`, restore it later with its time stamp.
    fn change_and_restore(
        &self,
        file: String,
        text: &'static str,
        moment: Moment,
        back: bool,
    ) -> Vec<(Moment, Action)> {
        let (was, stamp) = self.with(|world| (world.read(&file), world.stamp(&file)));
        let (there, again, and_again) = (self.world.clone(), self.world.clone(), file.clone());
        let mut all: Vec<(Moment, Action)> =
            vec![(moment, Box::new(move || there.lock().expect("no panic").put(&file, text)))];
        if back {
            all.push((
                Moment::Write,
                Box::new(move || {
                    again.lock().expect("no panic").put_as_of(&and_again, &was, stamp);
                }),
            ));
        }
        all
    }

    /// A deed that damages a file of a result.
    fn damage(&mut self, node: &'static str) -> Action {
        let path = self.artifacts(0).join(node).join(&self.files_of(node)[0]);
        self.note("damage", path.display());
        Box::new(move || {
            if path.exists() {
                std::fs::write(path, "damaged").expect("writes");
            }
        })
    }

    fn collect(&mut self) {
        let store = self.store(&self.artifacts(0));
        if !self.artifacts(0).exists() {
            return;
        }
        let Ok(_lock) = store.lock(|| ()) else { return self.count("refused") };
        store.collect(&::cache::Collection::default()).expect("collects");
        self.note("gc", "");
    }

    /// Moves a result in a bundle to the other folder of artifacts, or back.
    fn export_and_import(&mut self) {
        let (from, node) = (self.below(2), self.one(&NODES));
        let (from, to) = (self.artifacts(from), self.artifacts(1 - from));
        if !from.join(node).join("manifest.json").exists() {
            return;
        }
        let bundle = self.with(|world| world.path("bundle"));
        let (one, other) = (self.store(&from), self.store(&to));
        let Ok(lock) = one.lock(|| ()) else { return self.count("refused") };
        if bundle::export(&one, &[NodeName::try_from(node).expect("a name")], &bundle).is_err() {
            // The result was damaged, and that was found.
            return;
        }
        self.note("export", node);
        drop(lock);
        let Ok(_lock) = other.lock(|| ()) else { return self.count("refused") };
        if bundle::import(&other, &bundle).is_ok() {
            self.note("import", node);
        }
    }

    /// Puts a user's file into a result's folder, now and then before there is a result.
    fn stranger(&mut self) {
        let node = self.one(&NODES);
        let folder = self.artifacts(0).join(node);
        let text = format!("precious {} {}", self.seed, self.strangers.len());
        if self.below(4) > 0 && !folder.exists() {
            return;
        }
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("mine-{}", self.strangers.len())), &text)
            .expect("writes");
        self.strangers.push(text);
        self.note("stranger", node);
    }

    /// Brings everything up to date, and if that succeeds, checks that it is.
    fn run(
        &mut self,
        selection: Selection,
        kill: Option<(&'static str, u64)>,
        meddling: Option<Meddling>,
    ) {
        let meddled = meddling.is_some();
        let (lines, resumed, done) = self.pipeline(selection, kill, &meddling.unwrap_or_default());
        let seen: Vec<String> =
            lines.iter().map(|(node, status)| format!("{node} {status}")).collect();
        self.story.push(format!(
            "pipeline: {} {:?}",
            seen.join(", "),
            done.as_ref().err().map(|e| e.what.clone())
        ));
        for (_, status) in lines {
            self.count(status);
        }
        for _ in 0..resumed {
            self.count("resumed");
        }
        match done {
            // A result is right for what was read, even if that was meddled with afterwards.
            Ok(()) if !meddled => self.everything_is_right(),
            Ok(()) => {}
            Err(failure) => {
                self.count("refused");
                let known = [
                    "killed",
                    "changed while",
                    "not a result of knockline",
                    "knockline did not make it",
                    "the sources change",
                ];
                assert!(
                    known.iter().any(|what| failure.what.contains(what)),
                    "{failure}\n{}",
                    self.story()
                );
            }
        }
    }

    fn pipeline(
        &self,
        selection: Selection,
        kill: Option<(&'static str, u64)>,
        meddling: &Meddling,
    ) -> (Vec<(String, &'static str)>, u64, Result<()>) {
        let selection =
            Selection { to: Some(LAST.to_owned()), device: "cpu".to_owned(), ..selection };
        let (root, data) = self.with(|world| (world.root().to_owned(), world.path("data.csv")));
        let artifacts = &self.artifacts(0);
        let config = &Config::read(&root, "sample", &[format!("ingest.source={}", data.display())])
            .expect("a configuration");
        let store = &self.store(artifacts);
        let builder = Box::new(Builder { root: root.clone(), built: &self.built, meddling });
        let binaries = Binaries::built_by(
            builder,
            &root,
            "cpu",
            &stages(&root).expect("packages"),
            &store.index,
        );
        let runner = &ModelStage {
            graph: &config.graph,
            binaries,
            meddling,
            kill,
            resumed: Mutex::default(),
        };
        let lines = RefCell::new(Vec::new());
        let say = &|line: &crate::line::Line| {
            lines.borrow_mut().push((line.node.to_string(), line.status));
        };
        let nodes = selection.nodes(&config.graph).expect("nodes");
        let context = Context { root: &root, config, store, json: false };
        let run = PipelineRun {
            wanted: &[],
            context,
            selection: &selection,
            runner,
            say,
            commit: OnceCell::from(None),
        };
        let done = run.go(&nodes);
        let resumed = *runner.resumed.lock().expect("no panic");
        (lines.into_inner(), resumed, done)
    }

    /// The oracle: computes every node's files from the current sources and data, node by node.
    fn everything_is_right(&self) {
        let mut made: BTreeMap<&str, String> = BTreeMap::new();
        for name in NODES {
            let node = self.node(name);
            let mut inputs = if name == "ingest" {
                self.with(|world| world.read("data.csv"))
            } else {
                String::new()
            };
            for input in &node.reads {
                for file in &input.files {
                    inputs += &content(&made[input.node.as_str()], file);
                }
            }
            let program = self.with(|world| world.sources_of(&node.package));
            let seed = match name {
                "split" | "embed" | LAST => "123",
                _ => "",
            };
            let mut state = recipe(&program, seed, &inputs);
            if node.resumable {
                for _ in 0..EPOCHS {
                    state = Digest::of(state.as_bytes()).to_string();
                }
            }
            for file in self.files_of(name) {
                let is = std::fs::read_to_string(self.artifacts(0).join(name).join(&file))
                    .unwrap_or_default();
                assert!(is == content(&state, &file), "{name}/{file} is wrong\n{}", self.story());
            }
            made.insert(name, state);
        }
    }

    fn nothing_is_lost(&self) {
        let all = World::files(&self.artifacts(0));
        for text in &self.strangers {
            assert!(
                all.values().any(|bytes| bytes == text.as_bytes()),
                "{text} is lost\n{}",
                self.story()
            );
        }
    }

    /// Checks that everything can be brought up to date in the end, once foreign files are moved
    /// out of the way.
    pub fn settle(&mut self) {
        for node in NODES {
            let folder = self.artifacts(0).join(node);
            if folder.exists() && !folder.join("manifest.json").exists() {
                let aside = self.artifacts(0).join(format!(".knockline/aside/moved-{node}"));
                std::fs::create_dir_all(aside.parent().expect("a parent")).expect("a folder");
                std::fs::rename(&folder, aside).expect("moves");
            }
        }
        self.story.push("settle".to_owned());
        let (_, _, done) = self.pipeline(Selection::default(), None, &Meddling::default());
        if let Err(failure) = done {
            panic!("{failure}\n{}", self.story());
        }
        self.everything_is_right();
        self.nothing_is_lost();
        // A second run finds only hits.
        let (lines, _, _) = self.pipeline(Selection::default(), None, &Meddling::default());
        assert!(lines.iter().all(|(_, status)| *status == "hit"), "{lines:?}\n{}", self.story());
    }

    fn story(&self) -> String {
        format!("sequence {}:\n  {}", self.seed, self.story.join("\n  "))
    }
}
