//! Records the compiler that builds xtask, and its flags: the stages are built with the same.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (target, rustc) =
        (variable("TARGET"), std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!("cargo::rustc-env=KNOCKLINE_HOST={target}");
    // The last digits of results depend on the kind of processor and on the system.
    println!("cargo::rustc-env=KNOCKLINE_RUSTC={} for {target}", version.unwrap_or_default());
    // The flags as cargo resolved them from all its files and variables. The target features show
    // what `target-cpu=native` means on this machine.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").replace('\x1f', " ");
    println!(
        "cargo::rustc-env=KNOCKLINE_FLAGS={}",
        format!("{flags} {} {}", variable("RUSTC_LINKER"), variable("CARGO_CFG_TARGET_FEATURE"))
            .trim()
    );
}
