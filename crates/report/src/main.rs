//! Command line of the report stage.

fn main() -> std::process::ExitCode {
    stage::main("Writes the report", report::NODES, report::run)
}
