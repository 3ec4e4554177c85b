//! Command line of the split stage.

fn main() -> std::process::ExitCode {
    stage::main_shared(
        "Splits the headlines into train, valid and test",
        split::NODES,
        split::run,
        split::SHARED,
    )
}
