//! Command line of the tokens stage.

fn main() -> std::process::ExitCode {
    stage::main("Turns texts into sequences of token ids", tokens::NODES, tokens::run)
}
