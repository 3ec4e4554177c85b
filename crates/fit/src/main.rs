//! Command line of the fit stage.

fn main() -> std::process::ExitCode {
    stage::main("Fits a classifier to sparse features", fit::NODES, fit::run)
}
