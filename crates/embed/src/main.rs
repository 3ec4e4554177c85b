//! Command line of the embed stage.

fn main() -> std::process::ExitCode {
    stage::main_shared(
        "Collects the headlines' words and their vectors",
        embed::NODES,
        embed::run,
        embed::SHARED,
    )
}
