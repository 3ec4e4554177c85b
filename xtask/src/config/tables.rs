//! The tables that are not a node's: where results are kept, whose count, and what runs the stages.

use cache::{PublicKey, Signer, Trust};
use failure::{Failure, Result};
use serde_json::Value as Json;

use super::Config;

/// The table that says where results are kept for other machines.
const CACHE: &str = "cache";
/// The table that says what runs the stages.
const EXECUTOR: &str = "executor";
/// The tables that are not a node's, and for each the file, relative to `crates/`, that describes its
/// options. None of them is in a key.
pub const OTHER_TABLES: [(&str, &str); 2] =
    [(CACHE, "remote/options.toml"), (EXECUTOR, "../xtask/executor.toml")];

/// The variable with the key that signs results, in place of a file.
const SIGNING_KEY: &str = "KNOCKLINE_SIGNING_KEY";

/// The names of the tables that are not a node's.
pub fn other_tables<'t>() -> impl Iterator<Item = &'t str> {
    OTHER_TABLES.iter().map(|&(table, _)| table)
}

/// The options of the remote.
#[derive(Debug, PartialEq)]
pub struct RemoteOptions {
    /// A folder's path or a URL.
    pub remote: String,
    /// Whether results are only fetched, and none uploaded.
    pub read_only: bool,
    /// Seconds that the remote may be silent before it is left out.
    pub timeout: f64,
}

/// What runs the stages, if not one process each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExecutorKind {
    /// Processes on this machine, which share the work of a stage
    Local,
    /// Nodes of a Slurm cluster
    Slurm,
}

impl ExecutorKind {
    fn from_name(name: &str) -> Option<Self> {
        <Self as clap::ValueEnum>::from_str(name, false).ok()
    }
}

/// The options of the table `executor`.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// What runs the stages, if it is not one process each.
    pub kind: Option<ExecutorKind>,
    /// The most processes at once.
    pub jobs_max: Option<u32>,
    /// Rows of a chunk.
    pub chunk_rows: u32,
    /// Processors of a process.
    pub cpus: u32,
    /// Memory of a process, as Slurm writes it.
    pub memory: Option<String>,
    /// The partition of Slurm.
    pub partition: Option<String>,
    /// The account of Slurm.
    pub account: Option<String>,
    /// The longest time of a job.
    pub time: Option<String>,
    /// Further options of `sbatch`.
    pub sbatch: Vec<String>,
    /// Further options of `srun`, each after the name of a stage and a colon.
    pub srun: Vec<String>,
}

impl Config {
    /// The options of the remote, if one is set.
    pub fn remote(&self) -> Option<RemoteOptions> {
        let (_, options) = self.tables.get(CACHE)?;
        let read_only = options.get("read_only").and_then(Json::as_bool).unwrap_or(false);
        let timeout = options.get("timeout").and_then(Json::as_f64).unwrap_or(10.0);
        Some(RemoteOptions {
            remote: options.get("remote")?.as_str()?.to_owned(),
            read_only,
            timeout,
        })
    }

    /// Whose results count, and the key that signs those made here.
    pub fn trust(&self) -> Result<Trust> {
        let options = self.tables.get(CACHE).map(|(_, options)| options);
        let value = |name: &str| options.and_then(|options| options.get(name));
        let mut trust = Trust::default();
        for text in value("trust").and_then(Json::as_array).into_iter().flatten() {
            let text = text.as_str().unwrap_or_default();
            let wrong = || {
                Failure::usage(
                    format_args!("`{text}` is not an Ed25519 public key"),
                    "option `cache.trust`",
                    "write the line between the first and the last that `openssl pkey -in FILE -pubout` prints",
                )
            };
            trust.keys.push(PublicKey::parse(text).ok_or_else(wrong)?);
        }
        let (pem, place) = match (std::env::var(SIGNING_KEY), value("sign").and_then(Json::as_str))
        {
            (Ok(pem), _) if !pem.is_empty() => (pem, format!("variable {SIGNING_KEY}")),
            (_, Some(path)) => {
                match std::fs::read_to_string(path) {
                    Ok(pem) => (pem, path.to_owned()),
                    // A checkout without the key can do all but sign.
                    Err(e) => {
                        trust.no_key = Some(format!("cannot read {path}: {e}"));
                        return Ok(trust);
                    }
                }
            }
            _ => return Ok(trust),
        };
        let signer = Signer::from_pem(&pem).map_err(|what| {
            Failure::usage(
                what,
                place,
                "make a key with `openssl genpkey -algorithm ed25519 -out FILE`",
            )
        })?;
        trust.signer = Some(signer);
        Ok(trust)
    }

    /// What runs the stages.
    pub fn executor(&self) -> ExecutorOptions {
        let options = self.tables.get(EXECUTOR).map(|(_, options)| options);
        let value = |name: &str| options.and_then(|options| options.get(name));
        let text = |name| value(name).and_then(Json::as_str).map(str::to_owned);
        let number = |name| value(name).and_then(Json::as_u64).and_then(|n| u32::try_from(n).ok());
        let texts = |name| {
            let items = value(name).and_then(Json::as_array).into_iter().flatten();
            items.filter_map(Json::as_str).map(str::to_owned).collect()
        };
        ExecutorOptions {
            kind: text("kind").and_then(|kind| ExecutorKind::from_name(&kind)),
            jobs_max: number("jobs_max"),
            chunk_rows: number("chunk_rows").unwrap_or(1 << 20),
            cpus: number("cpus").unwrap_or(1),
            memory: text("memory"),
            partition: text("partition"),
            account: text("account"),
            time: text("time"),
            sbatch: texts("sbatch"),
            srun: texts("srun"),
        }
    }
}
