//! The model's runner of programs. A result is a digest of the program's text and of what the stage
//! reads.

use std::path::Path;
use std::sync::Mutex;

use cache::{Digest, StageReport};
use failure::{Failure, Result};

use crate::binaries::Binaries;
use crate::graph::Graph;
use crate::spawn::{Job, Runner};

/// When a deed is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The programs are about to be built.
    Build,
    /// A stage is about to read.
    Read,
    /// The stage of this node is about to read.
    ReadOf(&'static str),
    /// A stage has read, and is about to write.
    Write,
}

/// Something that is done to the checkout during a run.
pub type Action = Box<dyn FnOnce() + Send>;

/// Deeds during a run, each with its moment. Each is done once.
#[derive(Default)]
pub struct Meddling(Mutex<Vec<(Moment, Action)>>);

impl Meddling {
    pub fn new(all: Vec<(Moment, Action)>) -> Self {
        Self(Mutex::new(all))
    }

    /// Does the deeds of this moment.
    pub fn at(&self, moment: Moment) {
        self.when(|when| when == moment);
    }

    /// Does the deeds of the moment in which the stage of a node is about to read.
    pub fn at_read_of(&self, node: &str) {
        self.when(|when| matches!(when, Moment::ReadOf(of) if of == node));
    }

    fn when(&self, is_now: impl Fn(Moment) -> bool) {
        let mut all = self.0.lock().expect("no panic");
        while let Some(at) = all.iter().position(|(when, _)| is_now(*when)) {
            all.remove(at).1();
        }
    }
}

/// Epochs of training; each leaves a checkpoint.
pub const EPOCHS: u64 = 3;

/// The runner of stages.
pub struct ModelStage<'s> {
    pub graph: &'s Graph,
    pub binaries: Binaries<'s>,
    /// What is done to the checkout meanwhile.
    pub meddling: &'s Meddling,
    /// The node whose stage is killed, and after how many epochs or files.
    pub kill: Option<(&'static str, u64)>,
    /// How many epochs were taken from checkpoints.
    pub resumed: Mutex<u64>,
}

/// The digest from which a stage's files are made; the oracle computes the same.
pub fn recipe(program: &str, options: &str, inputs: &str) -> String {
    Digest::of(format!("{program}\n{options}\n{inputs}").as_bytes()).to_string()
}

/// The files of a node that other nodes read, or one file if there are none.
pub fn files_of(graph: &Graph, node: &str) -> Vec<String> {
    let all: Vec<String> = graph.files_read_of(node).into_iter().map(str::to_owned).collect();
    if all.is_empty() { vec!["result".to_owned()] } else { all }
}

/// The text of a file of a node.
pub fn content(recipe: &str, file: &str) -> String {
    format!("{file} of {recipe}\n")
}

impl Runner for ModelStage<'_> {
    fn ready(&self) -> Result<()> {
        self.binaries.build_once()
    }

    fn run(&self, job: &Job<'_>) -> Result<StageReport> {
        let node = job.node;
        let program = self.binaries.start(
            &node.package,
            Some(&job.sources),
            |path| std::fs::read_to_string(path),
            drop,
        )?;
        self.meddling.at(Moment::Read);
        self.meddling.at_read_of(&node.name);
        let read = |path: &Path| std::fs::read_to_string(path).expect("reads");
        let mut inputs = String::new();
        if node.name == "ingest" {
            inputs += &read(Path::new(job.options["source"].as_str().expect("a source")));
        }
        for (folder, input) in job.inputs.iter().map(|(_, folder)| folder).zip(&node.reads) {
            input.files.iter().for_each(|file| inputs += &read(&folder.join(file)));
        }
        self.meddling.at(Moment::Write);
        let recipe = recipe(
            &program,
            &job.options.get("seed").map(ToString::to_string).unwrap_or_default(),
            &inputs,
        );
        let killed = || Failure::failed("killed", &node.name, "run it again");
        let kill = self.kill.filter(|(name, _)| node.name == *name).map(|(_, after)| after);
        let mut state = recipe.clone();
        if node.resumable {
            let folder = job.work.join("checkpoints");
            std::fs::create_dir_all(&folder).expect("a folder");
            for epoch in 1..=EPOCHS {
                let checkpoint = folder.join(epoch.to_string());
                if job.resume && checkpoint.exists() {
                    state = read(&checkpoint);
                    *self.resumed.lock().expect("no panic") += 1;
                    continue;
                }
                if kill.is_some_and(|after| epoch > after) {
                    return Err(killed());
                }
                state = Digest::of(state.as_bytes()).to_string();
                std::fs::write(&checkpoint, &state).expect("writes");
            }
        }
        for (at, file) in files_of(self.graph, &node.name).into_iter().enumerate() {
            if kill.is_some_and(|after| at as u64 >= after) {
                std::fs::write(job.work.join("half"), "half").expect("writes");
                return Err(killed());
            }
            std::fs::write(job.work.join(&file), content(&state, &file)).expect("writes");
        }
        Ok(StageReport::from(String::new()))
    }
}
