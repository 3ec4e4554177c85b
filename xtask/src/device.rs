//! The device that nets train on: its name, and what a build for it needs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use failure::{Failure, Result};

/// The file that `crates/train/cuda.sh` writes for `make cuda-toolkit`.
const TOOLKIT: &str = "target/cuda/environment";

/// The name by which a user asks for whichever device is available.
const AUTO: &str = "auto";

/// Parses a device as the user names it.
///
/// # Errors
/// If there is no such device.
pub fn parse(name: &str) -> std::result::Result<String, String> {
    let is_known = match name.split_once(':') {
        None => matches!(name, "cpu" | "cuda" | AUTO),
        Some((kind, number)) => kind == "cuda" && number.parse::<usize>().is_ok(),
    };
    if is_known {
        Ok(name.to_owned())
    } else {
        Err(format!("there is no device `{name}`; use cpu, cuda, cuda:K or auto"))
    }
}

/// Replaces `auto` with a device of this machine, before any key is made of it. Also returns why an
/// existing GPU is not used.
pub fn resolve(name: &str, root: &Path) -> (String, Option<&'static str>) {
    if name != AUTO {
        return (name.to_owned(), None);
    }
    if !has_gpu() {
        return ("cpu".to_owned(), None);
    }
    let missing = if toolkit(root).is_none() {
        Some("no nvcc to build for it (`make cuda-toolkit` downloads one)")
    } else if !has_cublas() {
        Some("the loader does not find cuBLAS (check LD_LIBRARY_PATH)")
    } else {
        None
    };
    (if missing.is_none() { "cuda" } else { "cpu" }.to_owned(), missing)
}

/// Whether the loader finds CUDA's library for matrix products, without which no program can use a
/// GPU.
fn has_cublas() -> bool {
    let name = "libcublas.so";
    let in_folder = |dir: PathBuf| {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        files.map(|file| file.file_name()).any(|file| file.to_string_lossy().starts_with(name))
    };
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let known = || {
        Command::new("ldconfig")
            .arg("-p")
            .output()
            .is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains(name))
    };
    !cfg!(target_os = "linux") || std::env::split_paths(&path).any(in_folder) || known()
}

/// Whether a device is one of NVIDIA's GPUs.
pub fn is_cuda(device: &str) -> bool {
    device.starts_with("cuda")
}

/// Whether NVIDIA's driver reports a GPU.
fn has_gpu() -> bool {
    // WSL has no such folder, but it has `nvidia-smi`.
    std::fs::read_dir("/proc/driver/nvidia/gpus").is_ok_and(|mut gpus| gpus.next().is_some())
        || has_smi()
}

fn has_smi() -> bool {
    Command::new("nvidia-smi")
        .arg("--list-gpus")
        .output()
        .is_ok_and(|done| done.status.success() && !done.stdout.is_empty())
}

/// The environment variables with which a build finds CUDA's compiler. An installed compiler needs
/// at most `CUDA_COMPUTE_CAP`; without one, they are those of `make cuda-toolkit`. `None` if there
/// is neither.
fn toolkit(root: &Path) -> Option<BTreeMap<String, OsString>> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let homes =
        [set("CUDA_HOME"), set("CUDA_PATH")].into_iter().flatten().map(|home| home.join("bin"));
    let path = set("PATH").unwrap_or_default();
    let installed = set("NVCC").is_some()
        || homes.chain(std::env::split_paths(&path)).any(|dir| dir.join("nvcc").is_file());
    if installed {
        // Without a GPU to query, candle's build has to be told its compute capability;
        // crates/train/cuda.sh explains the number.
        let told = set("CUDA_COMPUTE_CAP").is_some() || has_smi();
        return Some(if told {
            BTreeMap::new()
        } else {
            BTreeMap::from([("CUDA_COMPUTE_CAP".to_owned(), "80".into())])
        });
    }
    let text = std::fs::read_to_string(root.join(TOOLKIT)).ok()?;
    Some(
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
    )
}

/// The folder below the build folder in which cargo puts programs for `device`, if it is another.
pub fn subfolder(device: &str) -> Option<&'static str> {
    is_cuda(device).then_some(env!("KNOCKLINE_HOST"))
}

/// Prepares the command `cargo` to build for `device`.
///
/// A program for CUDA loads its libraries when it needs them, so that it starts without them: see
/// crates/train/cuda.sh.
pub fn prepare(cargo: &mut Command, device: &str, root: &Path) -> Result<()> {
    if !is_cuda(device) {
        return Ok(());
    }
    let missing = || {
        Failure::usage(
            "there is no nvcc to build for CUDA",
            format_args!("--device {device}"),
            "run `make cuda-toolkit`, which downloads it from PyPI",
        )
    };
    // The user's variables stay; our library path comes before the user's.
    for (name, mut value) in toolkit(root).ok_or_else(missing)? {
        match std::env::var_os(&name) {
            Some(old) if name == "LIBRARY_PATH" => {
                value.push(":");
                value.push(old);
            }
            Some(_) => continue,
            None => {}
        }
        cargo.env(name, value);
    }
    let encoded = std::env::var_os("CARGO_ENCODED_RUSTFLAGS");
    let (name, between) =
        if encoded.is_some() { ("CARGO_ENCODED_RUSTFLAGS", "\x1f") } else { ("RUSTFLAGS", " ") };
    let mut flags = encoded.or_else(|| std::env::var_os("RUSTFLAGS")).unwrap_or_default();
    flags.push(format!("{between}--cfg{between}feature=\"dynamic-loading\""));
    cargo.env(name, flags).args(["--target", env!("KNOCKLINE_HOST")]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for known in ["cpu", "cuda", "cuda:0", "cuda:12", "auto"] {
            assert_eq!(parse(known).as_deref(), Ok(known));
        }
        for unknown in ["gpu", "cuda:", "cuda:x", "cpu:1"] {
            assert!(parse(unknown).is_err(), "{unknown}");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(resolve("cuda:1", root), ("cuda:1".to_owned(), None));
        let (found, missing) = resolve("auto", root);
        assert!(
            if has_gpu() {
                found == "cuda" || missing.is_some()
            } else {
                found == "cpu" && missing.is_none()
            },
            "{found}"
        );
    }

    #[test]
    fn the_downloaded_toolkit_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join(TOOLKIT);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("creates");
        std::fs::write(&file, "NVCC=/a b/nvcc\nLIBRARY_PATH=/l\n").expect("writes");
        if let Some(set) = toolkit(dir.path()).filter(|set| set.contains_key("NVCC")) {
            assert_eq!(
                (set["NVCC"].to_str(), set["LIBRARY_PATH"].to_str()),
                (Some("/a b/nvcc"), Some("/l"))
            );
        }
    }
}
