//! The programs that xtask runs: built by cargo, and only when something that they are built of has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use artifact::{Failure, Result};
use cache::{Digest, Index, Ingredients, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::device;
use crate::graph::GRAPH;

/// Binaries by package.
pub struct Binaries(BTreeMap<String, PathBuf>);

/// What packages are built of, by name, as keys have it.
type Made = BTreeMap<String, Vec<(String, String)>>;

/// Beside the binaries: what they were built of when xtask last built them.
const STAMP: &str = "knockline-built.json";

/// An entry of that file.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    /// Of everything that it was built of.
    of: Digest,
    /// Its source files and their digests, relative to the workspace.
    files: Vec<(String, String)>,
    /// The executable's name, beside this file: a copied build folder runs its own.
    executable: String,
    /// The executable's, then.
    state: String,
}

/// The packages of all stages, each once.
pub fn stages() -> Vec<&'static str> {
    GRAPH.iter().map(|node| node.package).collect::<BTreeSet<_>>().into_iter().collect()
}

impl Binaries {
    /// Builds the `packages` at once; for the stages, all of them: cargo then chooses one set of features for what they share,
    /// and nothing is compiled twice. Where nothing that they are built of has changed since xtask built them, cargo is not
    /// even asked, which takes it a quarter of a second to answer.
    ///
    /// cargo tells a changed file by its time stamp, keys by its content. A file that was replaced
    /// by one with an older time stamp (`cp -p`, `rsync -a`) would be built into a key and not into
    /// the binary; so where contents changed and cargo saw nothing, the files are touched and the
    /// build is run again.
    pub fn build(root: &Path, device: &str, packages: &[&str], index: &Index) -> Result<Self> {
        let made = made_of(root, packages, index)?;
        let of = |package: &str| made.get(package).map(|all| digest(all, package, device));
        // xtask itself was built into the same folder.
        let here = std::env::current_exe().ok().and_then(|exe| {
            let folder = exe.parent()?;
            // cargo puts what is built for a named target into `target/NAME/debug`.
            let beside = device::subfolder(device).and_then(|name| Some(folder.parent()?.join(name).join(folder.file_name()?)));
            Some(beside.unwrap_or_else(|| folder.to_owned()).join(STAMP))
        });
        let known = here.as_deref().map(read).unwrap_or_default();
        let current = |package: &str| {
            let known = known.get(package).filter(|k| Some(&k.of) == of(package).as_ref())?;
            let executable = here.as_ref()?.with_file_name(&known.executable);
            (Index::state(&executable).as_ref() == Some(&known.state)).then(|| (package.to_owned(), executable))
        };
        if let Some(all) = packages.iter().map(|&package| current(package)).collect() {
            return Ok(Self(all));
        }

        let messages = cargo_build(root, device, packages)?;
        let built: Vec<Built> = messages.iter().filter_map(Built::of).collect();
        let Some(stamp) = built.first().and_then(|b| b.executable.parent()).map(|dir| dir.join(STAMP)) else {
            return Err(Failure::failed("cargo built no program", "cargo build", "this is a bug; please report it"));
        };
        let mut known = read(&stamp);
        let sources = |name: &str| made.get(name).map(|all| files(all)).unwrap_or_default();
        let unseen = |b: &&Built| b.fresh && known.get(&b.name).is_some_and(|old| old.files != sources(&b.name));
        let touched: Vec<&Built> = built.iter().filter(unseen).collect();
        for built in &touched {
            let old = known.get(&built.name).map(|known| known.files.as_slice()).unwrap_or_default();
            // A file that is gone leaves nothing to touch, but cargo sees that by itself.
            for (file, _) in sources(&built.name).iter().filter(|source| !old.contains(source)) {
                let path = root.join(file);
                let touch = std::fs::File::options().append(true).open(&path).and_then(|f| f.set_modified(std::time::SystemTime::now()));
                touch.map_err(|e| Failure::io("touch", &path, &e))?;
            }
        }
        if !touched.is_empty() {
            cargo_build(root, device, packages)?;
        }
        // What was edited while cargo built may or may not be in the binaries.
        let still = made_of(root, packages, index)?;
        for built in &built {
            let name = built.name.as_str();
            let beside = built.executable.file_name().and_then(|n| n.to_str()).filter(|_| built.executable.parent() == stamp.parent());
            match (of(name).filter(|_| made.get(name) == still.get(name)), Index::state(&built.executable), beside) {
                (Some(of), Some(state), Some(executable)) => {
                    let entry = Known { of, files: sources(name), executable: executable.to_owned(), state };
                    known.insert(name.to_owned(), entry);
                }
                _ => drop(known.remove(name)),
            }
        }
        write(&stamp, &known)?;
        Ok(Self(built.into_iter().map(|b| (b.name, b.executable)).collect()))
    }

    /// The binary of a package.
    pub fn path(&self, package: &str) -> Result<&Path> {
        let missing =
            || Failure::failed("cargo built no such binary", format_args!("package `{package}`"), "this is a bug; please report it");
        self.0.get(package).map(PathBuf::as_path).ok_or_else(missing)
    }
}

fn made_of(root: &Path, packages: &[&str], index: &Index) -> Result<Made> {
    let workspace = Workspace::read(root)?;
    packages.iter().map(|&package| Ok((package.to_owned(), workspace.ingredients(package, index)?))).collect()
}

fn digest(all: &[(String, String)], package: &str, device: &str) -> Digest {
    let mut all = Ingredients::new().with(all);
    all.add("compiler", env!("KNOCKLINE_RUSTC"));
    all.add("cuda", (package == "train" && device.starts_with("cuda")).to_string());
    all.key()
}

/// The source files among what a package is built of.
fn files(all: &[(String, String)]) -> Vec<(String, String)> {
    all.iter().filter_map(|(name, digest)| Some((name.strip_prefix("source ")?.to_owned(), digest.clone()))).collect()
}

fn read(stamp: &Path) -> BTreeMap<String, Known> {
    std::fs::read(stamp).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// By way of a file of its own: another xtask may read it at the same time.
fn write(stamp: &Path, known: &BTreeMap<String, Known>) -> Result<()> {
    let partial = stamp.with_extension(format!("{}.partial", std::process::id()));
    let written = serde_json::to_vec(known).map_err(std::io::Error::other).and_then(|bytes| std::fs::write(&partial, bytes));
    written.and_then(|()| std::fs::rename(&partial, stamp)).map_err(|e| Failure::io("write", stamp, &e))
}

/// A binary that cargo built, or found built.
struct Built {
    name: String,
    executable: PathBuf,
    fresh: bool,
}

impl Built {
    /// From one of cargo's messages, if it is about a binary.
    fn of(message: &Json) -> Option<Self> {
        Some(Self {
            name: message.pointer("/target/name")?.as_str()?.to_owned(),
            executable: PathBuf::from(message.get("executable")?.as_str()?),
            fresh: message.get("fresh")?.as_bool()?,
        })
    }
}

/// Takes from a command's environment what `cargo run` says of xtask. Build scripts watch it (ring's does); passed on, it would
/// rebuild what a plain `cargo build` has built, and the other way round.
pub fn without_xtask(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let of_xtask = |name: &str| {
            let prefixes = ["OUT_DIR", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        if name.to_str().is_some_and(of_xtask) {
            command.env_remove(name);
        }
    }
}

/// Builds the packages and returns cargo's messages.
fn cargo_build(root: &Path, device: &str, packages: &[&str]) -> Result<Vec<Json>> {
    let cuda = device.starts_with("cuda");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    without_xtask(&mut command);
    command.current_dir(root).args(["build", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped()).stdin(Stdio::null());
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    device::prepare(&mut command, device, root)?;
    if cuda && packages.contains(&"train") {
        command.args(["--features", "train/cuda"]);
    }
    let remedy = if cuda {
        "see the messages above; a build for CUDA needs NVIDIA's toolkit, with nvcc"
    } else {
        "see the compiler's messages above"
    };
    let failed = |what: String| Failure::failed(what, "cargo build", remedy);
    let output = command.spawn().and_then(std::process::Child::wait_with_output).map_err(|e| failed(format!("cannot run cargo: {e}")))?;
    if !output.status.success() {
        return Err(failed("it does not build".into()));
    }
    Ok(output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
