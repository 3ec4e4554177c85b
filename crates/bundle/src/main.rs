//! The command line for bundles, which `cargo xtask cache export` and `import` run.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use cache::{NodeName, Store};
use clap::{Parser, Subcommand};
use failure::{Exit, Result};

/// Export results of nodes to a file, or import them from one
#[derive(Parser)]
#[command(name = "bundle", max_term_width = 100)]
struct BundleCli {
    #[command(subcommand)]
    command: BundleCommand,
    /// The folder with the artifacts
    #[arg(long, global = true, value_name = "DIR", default_value = "artifacts")]
    artifacts: PathBuf,
    /// Print one JSON object per line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum BundleCommand {
    /// Write the current results of nodes to a file
    Export {
        /// The file
        file: PathBuf,
        /// The nodes
        #[arg(required = true, value_parser = |text: &str| NodeName::try_from(text))]
        nodes: Vec<NodeName>,
    },
    /// Import the results in a file
    Import {
        /// The file
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = BundleCli::parse();
    match run(&cli) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(cli.json),
    }
}

fn run(cli: &BundleCli) -> Result<()> {
    let store = Store::open(&cli.artifacts);
    let _lock =
        store.lock(|| eprintln!("waiting for another run in {}", cli.artifacts.display()))?;
    let (verb, items) = match &cli.command {
        BundleCommand::Export { file, nodes } => ("export", bundle::export(&store, nodes, file)?),
        BundleCommand::Import { file } => {
            let items = bundle::import(&store, file);
            store.notices().iter().for_each(|notice| eprintln!("warning: {notice}"));
            ("import", items?)
        }
    };
    for item in items {
        let line = if cli.json {
            serde_json::json!({ "node": item.node, "key": item.key, "bytes": item.bytes, "had": item.had }).to_string()
        } else {
            let had = if item.had && verb == "import" { "  (already here)" } else { "" };
            format!("{verb}  {:<11} {}  {} bytes{had}", item.node, item.key.short(), item.bytes)
        };
        // If stdout is closed, nobody wants the lines.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    Ok(())
}
