//! Command line of the ngrams stage.

fn main() -> std::process::ExitCode {
    stage::main("Makes sparse features of n-grams", ngrams::NODES, ngrams::run)
}
