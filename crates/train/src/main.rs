//! Command line of the train stage.

fn main() -> std::process::ExitCode {
    stage::main("Trains a net on the feature matrices", train::NODES, train::run)
}
