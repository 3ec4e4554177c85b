//! Command line of the train stage.

fn main() -> std::process::ExitCode {
    artifact::stage::main("Trains a net on the feature matrices", train::NODES, train::run)
}
