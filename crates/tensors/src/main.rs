//! Command line of the tensors stage.

fn main() -> std::process::ExitCode {
    stage::main_shared(
        "Makes feature matrices and labels of the headlines",
        tensors::NODES,
        tensors::run,
        tensors::SHARED,
    )
}
