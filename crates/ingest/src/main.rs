//! Command line of the ingest stage.

fn main() -> std::process::ExitCode {
    stage::main_shared(
        "Reads the news archive and keeps the chosen publishers' headlines",
        ingest::NODES,
        ingest::run,
        ingest::SHARED,
    )
}
