//! The remote of `[cache]`, through the program `remote`: xtask is built without clients for object
//! stores.
//!
//! A remote that is broken, slow or full, or that denies access, costs a warning and a miss, never
//! a failed run.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use bars::Board;
use cache::wire::{Ask, Reply};
use cache::{ContentKey, Manifest, NodeName, Store};
use failure::{Failure, Result};
use stage::Event;
use stage::Unit;

use crate::binaries::Binaries;
use crate::config::RemoteOptions;
use crate::context::Context;

/// The remote. Its program starts with the first request.
pub struct Remote<'r> {
    root: &'r Path,
    store: &'r Store,
    board: &'r Board,
    options: Option<RemoteOptions>,
    program: Option<RemoteProgram>,
    /// Whether uploads are forbidden.
    read_only: bool,
    /// Whether the remote is given up for fetching, and for uploading.
    over: (bool, bool),
    /// What happens instead, for warnings.
    instead: &'static str,
    /// The results that were uploaded.
    pub pushed: Vec<Pushed>,
    /// Descriptions of what went wrong.
    pub troubles: Vec<String>,
    /// Whether a remote that fails ends the run.
    strict: bool,
    /// The keys of results there that do not count.
    distrusted: BTreeSet<ContentKey>,
}

/// A result that was uploaded.
pub struct Pushed {
    pub node: NodeName,
    pub key: ContentKey,
    /// The bytes that were sent, without files that the remote already had.
    pub sent: u64,
}

struct RemoteProgram {
    child: Child,
    stdin: ChildStdin,
    name: String,
    /// Replies to requests that are answered in turn.
    replies: Receiver<Reply>,
    /// Replies to pushes.
    pushes: Receiver<Reply>,
    waiting: usize,
}

impl<'r> Remote<'r> {
    /// The remote that `config` names, if it names one.
    pub fn new(context: Context<'r>, board: &'r Board) -> Self {
        let Context { root, config, store, .. } = context;
        let options = config.remote();
        let read_only = options.as_ref().is_some_and(|o| o.read_only);
        let instead = "what it does not deliver is made here";
        let over = (false, read_only);
        Self {
            root,
            store,
            board,
            options,
            program: None,
            read_only,
            over,
            instead,
            pushed: Vec::new(),
            troubles: Vec::new(),
            strict: false,
            distrusted: BTreeSet::new(),
        }
    }

    /// Forbids uploads, if `read_only`.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only |= read_only;
        self.over.1 |= read_only;
        self
    }

    /// Uses no remote that is not on this machine's disks, if `offline`.
    pub fn offline(mut self, offline: bool) -> Self {
        let far = |remote: &str| stage::is_url(remote) && !remote.starts_with("file://");
        self.options = self.options.filter(|options| !(offline && far(&options.remote)));
        self
    }

    /// Makes a remote that fails end the run, if `strict`: on a cluster, what the remote does not take
    /// or deliver would cost every node's work.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Fails if the remote has failed and has to be there.
    pub fn check(&self) -> Result<()> {
        match self.troubles.first().filter(|_| self.strict) {
            None => Ok(()),
            Some(what) => Err(Failure::download(
                format_args!("the remote failed: {what}"),
                "option `cache.remote`",
                "run the same command again when it works, or add --set cache.remote=none",
            )),
        }
    }

    /// For commands that need the remote: they run no stage where it fails.
    pub fn required(mut self) -> Self {
        self.instead =
            "`cargo xtask pipeline` makes what it does not deliver, and replaces it there";
        self
    }

    /// The manifest of a result of `node` that was seen in the remote before, under `key` if given.
    pub fn noted(&self, node: &NodeName, key: Option<&ContentKey>) -> Option<Manifest> {
        let manifest = self.store.elsewhere(&self.options.as_ref()?.remote, node)?;
        let is_wanted = key.is_none_or(|key| &manifest.key == key);
        (is_wanted && self.store.distrusts(&manifest).is_none()).then_some(manifest)
    }

    /// Notes that the remote has the result of `manifest`.
    pub fn note(&self, manifest: &Manifest) -> Result<()> {
        self.options
            .as_ref()
            .map_or(Ok(()), |options| self.store.note_elsewhere(&options.remote, manifest))
    }

    /// Whether there is a remote to fetch results from.
    pub fn is_there(&self) -> bool {
        self.options.is_some() && !self.over.0
    }

    /// Whether results can be uploaded, as far as is known.
    pub fn is_writable(&self) -> bool {
        !self.over.1
    }

    /// The manifest of the result of `node` under `key`, if the remote has it.
    pub fn manifest(&mut self, node: &NodeName, key: &ContentKey) -> Option<Manifest> {
        let ask = Ask::Manifest { node: node.clone(), key: key.clone() };
        let Some(Reply::Manifest { manifest: Some(text) }) = self.ask(&ask, |_| ()) else {
            return None;
        };
        let manifest = Manifest::parse(text.as_bytes(), "the remote").ok()?;
        if &manifest.node != node || &manifest.key != key {
            return None;
        }
        if let Some(problem) = self.store.distrusts(&manifest) {
            self.board.aside(|| {
                eprintln!("warning: the remote's result of `{node}` does not count: {problem}");
            });
            self.distrusted.insert(key.clone());
            return None;
        }
        Some(manifest)
    }

    /// Fetches a result and makes it the current one; `false` if the remote does not deliver
    /// all of it.
    pub fn fetch(&mut self, manifest: &Manifest) -> Result<bool> {
        let Some(folder) = self.fetch_into(manifest, Vec::new())? else { return Ok(false) };
        self.store.adopt(&folder, manifest)?;
        Ok(true)
    }

    /// The folder with these files of a result. Those that were not borrowed before are fetched;
    /// `None` if the remote does not deliver them.
    pub fn borrow(&mut self, manifest: &Manifest, files: &[String]) -> Result<Option<PathBuf>> {
        let (folder, missing) = self.store.borrowed(manifest, files)?;
        if !missing.is_empty() {
            let Some(from) = self.fetch_into(manifest, missing.clone())? else { return Ok(None) };
            self.store.borrow(&from, &folder, &missing)?;
            self.store.drop_incoming();
        }
        Ok(Some(folder))
    }

    fn fetch_into(&mut self, manifest: &Manifest, only: Vec<String>) -> Result<Option<PathBuf>> {
        if !self.is_there() {
            return Ok(None);
        }
        let folder = self.store.incoming(&manifest.node)?;
        let bytes = manifest
            .outputs
            .iter()
            .filter(|o| only.is_empty() || only.contains(&o.path))
            .map(|o| o.size)
            .sum();
        let ask = Ask::Fetch { manifest: text(manifest)?, only, into: folder.clone() };
        let mut console = self.board.console(&manifest.node);
        console.show(&Event::Begin {
            what: "fetching".to_owned(),
            total: Some(bytes),
            unit: Unit::Bytes,
        });
        let reply = self.ask(&ask, |done| console.show(&Event::At { done, note: String::new() }));
        console.clear();
        if reply == Some(Reply::Fetched) {
            return Ok(Some(folder));
        }
        self.store.drop_incoming();
        Ok(None)
    }

    /// Starts to upload a current result, with `replace` even if the remote has it already;
    /// [`Remote::finish`] waits until that is done.
    pub fn push(&mut self, manifest: &Manifest, replace: bool) -> Result<()> {
        let ask = Ask::Push {
            manifest: text(manifest)?,
            // Otherwise the one that does not count would stay there.
            replace: replace || self.distrusted.contains(&manifest.key),
            folder: self.store.current(&manifest.node),
        };
        self.start();
        self.take_pushed(false);
        let Some(program) = self.program.as_mut().filter(|_| !self.over.1) else { return Ok(()) };
        if program.send(&ask) {
            program.waiting += 1;
        } else {
            self.over = (true, true);
            self.warn("its program has ended", false);
        }
        Ok(())
    }

    /// Waits until all results are uploaded, and warns of those that could not be.
    pub fn finish(&mut self) {
        if let Some(program) = &mut self.program {
            program.send(&Ask::Finish);
        }
        self.take_pushed(true);
        if let Some(mut program) = self.program.take() {
            if self.over.1 && !self.read_only {
                // Uploading was given up, so that what is still waiting must not be uploaded.
                let _ = program.child.kill();
            }
            drop(program.stdin);
            let _ = program.child.wait();
        }
        self.over = (true, true);
    }

    /// Takes the replies to pushes that have arrived; with `all`, waits for the rest.
    fn take_pushed(&mut self, all: bool) {
        while let Some(program) = self.program.as_mut().filter(|p| p.waiting > 0 && !self.over.1) {
            let reply =
                if all { program.pushes.recv().ok() } else { program.pushes.try_recv().ok() };
            match reply {
                Some(Reply::Pushed { node, key, sent }) => {
                    program.waiting -= 1;
                    self.pushed.push(Pushed { node, key, sent });
                }
                Some(Reply::Failed { what, over, .. }) => {
                    program.waiting -= 1;
                    self.over.1 = over;
                    self.warn(&format!("a result could not be uploaded: {what}"), true);
                }
                _ if all => {
                    self.over.1 = true;
                    self.warn("its program ended before all results were uploaded", true);
                }
                _ => return,
            }
        }
    }

    fn ask(&mut self, ask: &Ask, mut at: impl FnMut(u64)) -> Option<Reply> {
        self.start();
        let program = self.program.as_mut().filter(|_| !self.over.0)?;
        let mut reply = program.send(ask).then(|| program.replies.recv().ok()).flatten();
        while let Some(Reply::At { done }) = reply {
            at(done);
            reply = program.replies.recv().ok();
        }
        match reply {
            None => {
                self.over = (true, true);
                self.warn("its program has ended", false);
            }
            Some(Reply::Failed { what, over, .. }) => {
                // A remote that cannot be read is not written to, either: one warning is enough.
                self.over = (self.over.0 | over, self.over.1 | over);
                self.warn(&what, false);
            }
            reply => return reply,
        }
        None
    }

    /// Starts the program, once.
    fn start(&mut self) {
        if self.program.is_some() || self.over.0 {
            return;
        }
        let Some(options) = &self.options else { return };
        match RemoteProgram::start(self.root, self.store, options, self.read_only) {
            Ok((program, read_only)) => {
                self.over.1 |= read_only;
                self.program = Some(program);
            }
            Err(what) => {
                self.over = (true, true);
                self.warn(&what, false);
            }
        }
    }

    fn warn(&mut self, what: &str, was_push: bool) {
        let name = self.program.as_ref().map_or(String::new(), |p| format!(" {}", p.name));
        let and = match self.over {
            (true, _) => "it is left out for the rest of this run",
            (_, true) if was_push => "nothing more is uploaded in this run",
            _ if was_push => "other results still are",
            _ => self.instead,
        };
        let what = failure::without_credentials(what);
        self.board.aside(|| eprintln!("warning: remote{name}: {what}; {and}"));
        self.troubles.push(what);
    }
}

impl RemoteProgram {
    /// Builds and starts the program. Also returns whether the remote is read-only; an error says
    /// what went wrong.
    fn start(
        root: &Path,
        store: &Store,
        options: &RemoteOptions,
        read_only: bool,
    ) -> Result<(Self, bool), String> {
        let start = |program: &Path| {
            Command::new(program)
                .arg("--stage-lock")
                .arg(store.stage_lock())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let started =
            Binaries::new(root, "cpu", &["remote"], &store.index).spawn("remote", None, start);
        let mut child = started.map_err(|failure| failure.what)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("it has no pipes".to_owned());
        };
        let open =
            Ask::Open { remote: options.remote.clone(), read_only, timeout: options.timeout };
        if !send(&mut stdin, &open) {
            return Err("its program has ended".to_owned());
        }
        let (in_turn, replies) = channel();
        let (of_pushes, pushes) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                let Ok(reply) = serde_json::from_str(&line) else { continue };
                let is_push =
                    matches!(reply, Reply::Pushed { .. } | Reply::Failed { push: true, .. });
                // Sending fails only if nobody listens any more.
                let _ = if is_push { of_pushes.send(reply) } else { in_turn.send(reply) };
            }
        });
        match replies.recv() {
            Ok(Reply::Ready { name, read_only }) => {
                Ok((Self { child, stdin, name, replies, pushes, waiting: 0 }, read_only))
            }
            Ok(Reply::Failed { what, .. }) => Err(what),
            _ => Err("its program has ended".to_owned()),
        }
    }

    fn send(&mut self, ask: &Ask) -> bool {
        send(&mut self.stdin, ask)
    }
}

fn send(stdin: &mut ChildStdin, ask: &Ask) -> bool {
    serde_json::to_string(ask).is_ok_and(|line| writeln!(stdin, "{line}").is_ok())
}

fn text(manifest: &Manifest) -> Result<String> {
    Ok(String::from_utf8_lossy(&manifest.to_bytes()?).into_owned())
}
