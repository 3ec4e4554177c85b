//! Command line of the report stage.

fn main() -> std::process::ExitCode {
    artifact::stage::main("Writes the report", report::NODES, report::run)
}
