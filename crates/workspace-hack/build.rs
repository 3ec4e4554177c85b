//! Present so that the build-dependencies, whose features are the point, are resolved.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
