//! Command line of the train stage.

fn main() -> std::process::ExitCode {
    stage::main_shared(
        "Trains a net on the feature matrices",
        train::NODES,
        train::run,
        train::SHARED,
    )
}
