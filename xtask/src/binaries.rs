//! The programs that xtask runs, and the proof that each was built from the current sources.
//!
//! cargo recognises a changed file by its time stamp, a key by its content. Where the two disagree
//! (a file was replaced by one with an older time stamp, or a program was built from an edit that
//! has been undone), cargo calls a stale program fresh. So xtask believes cargo only about what it
//! built while xtask watched: xtask notes the digest of what cargo wrote beside the digest of the
//! sources, and rebuilds everything whose note is missing or does not match. A program is read
//! again each time before it runs. (A library that is newer than its sources, by change times,
//! would prove nothing: a folder above them may have been swapped, and the library itself, too.)

mod copies;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use cache::{Digest, Digests as _, Index, Ingredients, Lock, Workspace};
use failure::{Failure, Result};
use serde::{Deserialize, Serialize};

use crate::cargo::{BuildUnit, Builder, Cargo};
use crate::declared::Declared;
use crate::device;

pub use copies::copy_all;

/// The file beside the programs that notes what each library and program was built from.
const STAMP: &str = "knockline-built.json";
/// The lock file that a run holds while it builds.
const LOCK: &str = "knockline-built.lock";
/// How often to try, as sources may change while they are built, and a program while it starts.
const TRIES: usize = 5;

/// The packages of all stages, each once.
pub fn stages(root: &Path) -> Result<Vec<String>> {
    Declared::read(root).map(|declared| declared.packages())
}

/// The programs of some packages.
///
/// Those of the stages are built at once: cargo then chooses one set of features for what they
/// share, and compiles nothing twice.
pub struct Binaries<'b> {
    root: &'b Path,
    device: &'b str,
    packages: Vec<String>,
    index: &'b Index,
    builder: Box<dyn Builder + 'b>,
    built: Mutex<BTreeMap<String, BuiltProgram>>,
}

/// A program that was built from known sources.
#[derive(Clone)]
struct BuiltProgram {
    path: PathBuf,
    digest: Digest,
    /// The digest of everything that it was built from.
    of: Digest,
}

/// The note about a library or program.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    /// The digest of everything that it was built from.
    of: Digest,
    /// The files that cargo wrote, by their paths relative to the stamp's folder, so that the notes
    /// in a copied build folder are about its own files.
    files: BTreeMap<String, Digest>,
}

type Notes = BTreeMap<String, Note>;

/// What packages are built from, and the states of these files.
#[derive(PartialEq)]
struct BuiltOf {
    of: BTreeMap<String, Vec<(String, String)>>,
    states: BTreeMap<String, Option<String>>,
}

impl<'b> Binaries<'b> {
    /// The programs of `packages`, built when the first is needed.
    pub fn new(
        root: &'b Path,
        device: &'b str,
        packages: &[impl AsRef<str>],
        index: &'b Index,
    ) -> Self {
        Self::built_by(Box::new(Cargo { root, device }), root, device, packages, index)
    }

    /// Like [`Binaries::new`], but with another builder than cargo.
    pub fn built_by(
        builder: Box<dyn Builder + 'b>,
        root: &'b Path,
        device: &'b str,
        packages: &[impl AsRef<str>],
        index: &'b Index,
    ) -> Self {
        let packages = packages.iter().map(|package| package.as_ref().to_owned()).collect();
        Self { root, device, packages, index, builder, built: Mutex::default() }
    }

    /// Starts the program of a package.
    ///
    /// # Errors
    /// As [`Binaries::start`].
    pub fn spawn(
        &self,
        package: &str,
        sources: Option<&[(String, String)]>,
        start: impl FnMut(&Path) -> std::io::Result<Child>,
    ) -> Result<Child> {
        let stop = |mut child: Child| drop(child.kill().and_then(|()| child.wait()));
        self.start(package, sources, start, stop)
    }

    /// Starts the program of a package with `start`, after reading it again; `stop` stops one that
    /// was replaced in the meantime. `sources`, if given, are what it must have been built from.
    ///
    /// # Errors
    /// If it cannot be built or started, or if the sources have changed.
    pub fn start<T>(
        &self,
        package: &str,
        sources: Option<&[(String, String)]>,
        mut start: impl FnMut(&Path) -> std::io::Result<T>,
        stop: impl Fn(T),
    ) -> Result<T> {
        for _ in 0..TRIES {
            let program = self.program(package)?;
            if sources.is_some_and(|sources| digest(sources, package, self.device) != program.of) {
                let what =
                    format_args!("the sources of `{package}` changed while the pipeline ran");
                return Err(Failure::failed(
                    what,
                    format_args!("package `{package}`"),
                    "run the same command again",
                ));
            }
            let before = Index::state(&program.path);
            if self.index.read_again(&program.path).ok().as_ref() == Some(&program.digest) {
                let cannot = |e| {
                    Failure::failed(
                        format_args!("cannot run the program: {e}"),
                        program.path.display(),
                        "report this",
                    )
                };
                let started = start(&program.path).map_err(cannot)?;
                // The system prevents writing to a running program; one that was replaced in the
                // meantime is another file.
                if Index::state(&program.path) == before {
                    return Ok(started);
                }
                stop(started);
            }
            self.built.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let what = format_args!("the program of `{package}` is replaced again and again");
        Err(Failure::failed(
            what,
            format_args!("package `{package}`"),
            "wait until other builds in this checkout are done",
        ))
    }

    /// The workspace, and the index of digests.
    pub fn place(&self) -> (&Path, &Index) {
        (self.root, self.index)
    }

    /// Builds the programs, unless they were built before.
    pub fn build_once(&self) -> Result<()> {
        self.packages.first().map_or(Ok(()), |package| self.program(package).map(drop))
    }

    fn program(&self, package: &str) -> Result<BuiltProgram> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if built.is_empty() {
            *built = self.build()?;
        }
        let missing = || {
            Failure::failed(
                "cargo built no such program",
                format_args!("package `{package}`"),
                "this is a bug; please report it",
            )
        };
        built.get(package).cloned().ok_or_else(missing)
    }

    /// Builds every program from the current sources. If all notes match, cargo is not run: it
    /// takes a quarter of a second to find that there is nothing to do.
    fn build(&self) -> Result<BTreeMap<String, BuiltProgram>> {
        let known = |sources: &BuiltOf| {
            self.builder.stamp(STAMP).and_then(|stamp| self.known(&stamp, sources))
        };
        if let Some(programs) = known(&self.sources()?) {
            return Ok(programs);
        }
        // Only one run builds at a time: runs would see each other's touches as edits. If the lock
        // cannot be taken, cargo's own messages say why nothing can be built.
        let _lock = self.builder.stamp(LOCK).and_then(|path| {
            std::fs::create_dir_all(path.parent()?).ok()?;
            Lock::take(&path, || eprintln!("waiting for another run to build")).ok()
        });
        let mut sources = self.sources()?;
        if let Some(programs) = known(&sources) {
            return Ok(programs);
        }
        // What cargo has built from these sources.
        let mut watched: BTreeSet<String> = BTreeSet::new();
        for _ in 0..TRIES {
            let units = self.builder.build(&self.packages)?;
            let now = self.sources_with(&units)?;
            if !sources.is_within(&now) {
                // The build may be from either version.
                (sources, watched) = (now, BTreeSet::new());
                continue;
            }
            sources = now;
            watched.extend(units.iter().filter(|unit| !unit.fresh).map(BuildUnit::name));
            let stamp = units
                .iter()
                .find_map(|unit| unit.executable.as_ref()?.parent())
                .map(|folder| folder.join(STAMP));
            let Some(stamp) = stamp else {
                return Err(Failure::failed(
                    "cargo built no program",
                    "cargo build",
                    "this is a bug; please report it",
                ));
            };
            let mut notes = read(&stamp);
            let (known, doubtful): (Vec<&BuildUnit>, Vec<&BuildUnit>) = units
                .iter()
                .partition(|unit| self.is_known(unit, &watched, &notes, &stamp, &sources));
            watched.extend(known.iter().map(|unit| unit.name()));
            if doubtful.is_empty() {
                for unit in &units {
                    if let Some(note) = self.note(unit, &stamp, &sources) {
                        notes.insert(unit.name(), note);
                    }
                }
                write(&stamp, &notes)?;
                return self.known(&stamp, &sources).ok_or_else(|| {
                    Failure::failed(
                        "a program changed right after it was built",
                        stamp.display(),
                        "wait until other builds in this checkout are done",
                    )
                });
            }
            self.touch(&doubtful, &sources)?;
            // What is built from them has to be built again, too.
            let changed: BTreeSet<&str> = doubtful
                .iter()
                .filter(|unit| unit.kind != "bin")
                .map(|unit| unit.package.as_str())
                .collect();
            let uses = |unit: &BuildUnit| {
                sources
                    .crates_of(&unit.package)
                    .iter()
                    .any(|package| changed.contains(package.as_str()))
            };
            for unit in units.iter().filter(|unit| uses(unit)) {
                watched.remove(&unit.name());
            }
            let touched = self.sources_with(&units)?;
            if touched.of != sources.of {
                watched.clear();
            }
            sources = touched;
        }
        Err(Failure::failed(
            "the sources change faster than they can be built",
            self.root.display(),
            "run the same command again when they no longer change",
        ))
    }

    /// Every program, if the notes name these sources for all and no program has changed since.
    fn known(&self, stamp: &Path, sources: &BuiltOf) -> Option<BTreeMap<String, BuiltProgram>> {
        let notes = read(stamp);
        let program = |package: &String| {
            let note = notes.get(&format!("bin {package}"))?;
            let of = digest(sources.of.get(package)?, package, self.device);
            let file = format!("{package}{}", std::env::consts::EXE_SUFFIX);
            let digest = note.files.get(&file).filter(|_| note.of == of)?;
            let path = stamp.with_file_name(file);
            (self.index.digest(&path).ok().as_ref() == Some(digest))
                .then(|| (package.clone(), BuiltProgram { path, digest: digest.clone(), of }))
        };
        self.packages.iter().map(program).collect()
    }

    /// Whether a library or program was built from these sources: cargo built it while they were
    /// watched, or it matches the note of such a build.
    fn is_known(
        &self,
        unit: &BuildUnit,
        watched: &BTreeSet<String>,
        notes: &Notes,
        stamp: &Path,
        sources: &BuiltOf,
    ) -> bool {
        let name = unit.name();
        watched.contains(&name)
            || self.note(unit, stamp, sources).is_some_and(|note| notes.get(&name) == Some(&note))
    }

    fn note(&self, unit: &BuildUnit, stamp: &Path, sources: &BuiltOf) -> Option<Note> {
        let of = digest(sources.of.get(&unit.package)?, &unit.package, self.device);
        let file = |path: &PathBuf| {
            let relative = path.strip_prefix(stamp.parent()?).ok()?.to_str()?.to_owned();
            Some((relative, self.index.read_again(path).ok()?))
        };
        Some(Note { of, files: unit.files.iter().map(file).collect::<Option<_>>()? })
    }

    /// Makes cargo see the sources of these units as changed.
    fn touch(&self, units: &[&BuildUnit], sources: &BuiltOf) -> Result<()> {
        for unit in units {
            let mut paths = vec![unit.root_file.clone()];
            if unit.has_build_script {
                // A build script chooses which files to watch.
                paths.extend(sources.files(&unit.package).map(|file| self.root.join(file)));
            }
            for path in paths {
                let touched = std::fs::File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|file| file.set_modified(SystemTime::now()));
                touched.map_err(|e| Failure::io("touch", &path, &e))?;
            }
        }
        Ok(())
    }

    fn sources(&self) -> Result<BuiltOf> {
        self.sources_of(self.packages.iter().cloned())
    }

    /// The sources of the programs and of `units`.
    fn sources_with(&self, units: &[BuildUnit]) -> Result<BuiltOf> {
        self.sources_of(
            units.iter().map(|unit| unit.package.clone()).chain(self.packages.iter().cloned()),
        )
    }

    fn sources_of(&self, packages: impl Iterator<Item = String>) -> Result<BuiltOf> {
        let workspace = Workspace::read(self.root)?;
        let packages: BTreeSet<String> = packages.collect();
        let mut sources = BuiltOf { of: BTreeMap::new(), states: BTreeMap::new() };
        for package in packages {
            let of = workspace.ingredients(&package, self.index)?;
            for (file, _) in source_files(&of) {
                sources
                    .states
                    .entry(file.to_owned())
                    .or_insert_with(|| Index::state(&self.root.join(file)));
            }
            sources.of.insert(package, of);
        }
        Ok(sources)
    }
}

impl BuiltOf {
    /// Whether all of these are the same in `other`, which may have more.
    fn is_within(&self, other: &Self) -> bool {
        self.of.iter().all(|(package, of)| other.of.get(package) == Some(of))
            && self.states.iter().all(|(file, state)| other.states.get(file) == Some(state))
    }

    /// The source files of the package itself.
    fn files(&self, package: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("crates/{package}/");
        let all = self.of.get(package).into_iter().flat_map(|of| source_files(of));
        all.map(|(file, _)| file).filter(move |file| file.starts_with(&prefix))
    }

    /// The packages of the workspace that a package is built from.
    fn crates_of(&self, package: &str) -> BTreeSet<String> {
        let all = self.of.get(package).into_iter().flat_map(|of| source_files(of));
        all.filter_map(|(file, _)| file.split('/').nth(1).map(str::to_owned)).collect()
    }
}

/// The source files among what a package is built from, with their digests.
fn source_files(of: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    of.iter().filter_map(|(name, digest)| Some((name.strip_prefix("source ")?, digest.as_str())))
}

fn digest(of: &[(String, String)], package: &str, device: &str) -> Digest {
    let mut all = Ingredients::new().with(of);
    all.add("compiler", env!("KNOCKLINE_RUSTC"));
    all.add("compiler-flags", env!("KNOCKLINE_FLAGS"));
    all.add("cuda", (package == "train" && device::is_cuda(device)).to_string());
    all.digest()
}

/// Waits for a program that reports its own errors, and returns its exit status.
pub fn ended(mut child: Child) -> Result<ExitCode> {
    let status = child.wait().map_err(|e| {
        Failure::failed(format_args!("cannot wait for the program: {e}"), "program", "report this")
    })?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn read(stamp: &Path) -> Notes {
    std::fs::read(stamp)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Writes a temporary file first, since another xtask may read the stamp at the same time.
fn write(stamp: &Path, notes: &Notes) -> Result<()> {
    let partial = stamp.with_extension(format!("{}.partial", std::process::id()));
    let written = serde_json::to_vec(notes).map_err(std::io::Error::other);
    let written = written.and_then(|bytes| {
        atomic::replace_atomically(stamp, &partial, |file| file.write_all(&bytes))
    });
    written.map_err(|e| Failure::io("write", stamp, &e))
}

#[cfg(all(test, unix))]
#[allow(clippy::expect_used)]
mod tests;
