//! Writes down which compiler builds this, since it is the one that builds the stages.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!("cargo::rustc-env=KNOCKLINE_HOST={}", std::env::var("TARGET").unwrap_or_default());
    // Another kind of processor or system computes other last digits.
    println!("cargo::rustc-env=KNOCKLINE_RUSTC={} for {}", version.unwrap_or_default(), std::env::var("TARGET").unwrap_or_default());
}
