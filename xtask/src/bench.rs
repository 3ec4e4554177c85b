//! `cargo xtask bench`: runs the benchmarks, each beside its peers. They are in Python, as most of
//! the peers are.

use std::path::Path;
use std::process::{Command, ExitCode};

use failure::{Failure, Result};

/// Runs bench/run.py with these arguments.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let remedy = "install Python 3 with its `venv` module, or run bench/run.py with another Python";
    let mut command = Command::new("python3");
    command.arg(root.join("bench/run.py")).args(arguments);
    crate::cargo::without_xtask(&mut command);
    let status = command.status().map_err(|e| {
        Failure::failed(format_args!("cannot run python3: {e}"), "bench/run.py", remedy)
    })?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
