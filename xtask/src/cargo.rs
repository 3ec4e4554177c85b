//! Builds programs with cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use failure::{Failure, Result};
use serde_json::Value as Json;

use crate::device;

/// What builds programs: cargo, or in tests something that behaves like it.
pub trait Builder: Sync {
    /// Builds the packages, and returns every library and program of the workspace that they
    /// consist of.
    fn build(&self, packages: &[String]) -> Result<Vec<BuildUnit>>;

    /// The file `name` beside the programs, if their folder is known.
    fn stamp(&self, name: &str) -> Option<PathBuf>;
}

/// A library, a program or a build script of the workspace that cargo built, or found built.
pub struct BuildUnit {
    /// `lib`, `bin` or `custom-build`.
    pub kind: String,
    /// The name of the package and of its folder in `crates/`.
    pub package: String,
    /// The source file that the compiler is given.
    pub root_file: PathBuf,
    /// The files that cargo wrote.
    pub files: Vec<PathBuf>,
    /// The program's file, if it is a program.
    pub executable: Option<PathBuf>,
    pub has_build_script: bool,
    /// Whether cargo found it already built.
    pub fresh: bool,
}

impl BuildUnit {
    /// Its name among the units of a build.
    pub fn name(&self) -> String {
        format!("{} {}", self.kind, self.package)
    }

    /// Reads a unit from a message of cargo, if it is about one in the workspace at `root`.
    fn of(message: &Json, root: &Path) -> Option<Self> {
        let text = |pointer: &str| message.pointer(pointer)?.as_str();
        let files = message.get("filenames")?.as_array()?;
        let package = Path::new(text("/manifest_path")?)
            .parent()?
            .strip_prefix(root.join("crates"))
            .ok()?
            .to_str()?
            .to_owned();
        Some(Self {
            kind: text("/target/kind/0")?.to_owned(),
            has_build_script: root.join("crates").join(&package).join("build.rs").exists(),
            package,
            root_file: text("/target/src_path")?.into(),
            files: files.iter().filter_map(Json::as_str).map(PathBuf::from).collect(),
            executable: text("/executable").map(PathBuf::from),
            fresh: message.get("fresh")?.as_bool()?,
        })
    }
}

/// cargo itself.
pub struct Cargo<'c> {
    /// The folder of the workspace.
    pub root: &'c Path,
    /// The device to build for.
    pub device: &'c str,
}

impl Builder for Cargo<'_> {
    fn build(&self, packages: &[String]) -> Result<Vec<BuildUnit>> {
        let cuda = device::is_cuda(self.device);
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        without_xtask(&mut command);
        command.current_dir(self.root).args(["build", "--message-format=json-render-diagnostics"]);
        command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .args(packages.iter().flat_map(|package| ["--package", package.as_str()]));
        device::prepare(&mut command, self.device, self.root)?;
        if cuda && packages.iter().any(|package| package == "train") {
            command.args(["--features", "train/cuda"]);
        }
        let remedy = if cuda {
            "see the messages above; a build for CUDA needs NVIDIA's toolkit, with nvcc"
        } else {
            "see the compiler's messages above"
        };
        let failed = |what: String| Failure::failed(what, "cargo build", remedy);
        let output =
            command.spawn().and_then(std::process::Child::wait_with_output).map_err(|e| {
                let remedy = "install Rust, or use programs that were built from the same sources";
                Failure::failed(
                    format_args!("the programs have to be built, and cargo cannot be run: {e}"),
                    "cargo build",
                    remedy,
                )
            })?;
        if !output.status.success() {
            return Err(failed("the programs do not build".into()));
        }
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.to_owned());
        let messages = output
            .stdout
            .split(|b| *b == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok());
        Ok(messages
            .filter_map(|message| {
                BuildUnit::of(&message, self.root).or_else(|| BuildUnit::of(&message, &root))
            })
            .collect())
    }

    fn stamp(&self, name: &str) -> Option<PathBuf> {
        // xtask itself was built into the same folder.
        let exe = std::env::current_exe().ok()?;
        let folder = exe.parent()?;
        // cargo puts what is built for a named target into `target/NAME/debug`.
        let beside = device::subfolder(self.device)
            .and_then(|name| Some(folder.parent()?.join(name).join(folder.file_name()?)));
        Some(beside.unwrap_or_else(|| folder.to_owned()).join(name))
    }
}

/// Removes from a command's environment the variables that `cargo run` sets for xtask. Build
/// scripts watch them (ring's does): passed on, they would cause a rebuild of what a plain `cargo
/// build` has built, and vice versa.
pub fn without_xtask(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let of_xtask = |name: &str| {
            let prefixes = [
                "OUT_DIR",
                "CARGO_MANIFEST_",
                "CARGO_PKG_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
                "CARGO_PRIMARY_",
            ];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        if name.to_str().is_some_and(of_xtask) {
            command.env_remove(name);
        }
    }
}
