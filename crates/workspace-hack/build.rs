//! Exists so that cargo resolves the build-dependencies, whose features are what matters.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
