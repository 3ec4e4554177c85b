//! The nodes that a command selects, and how they are run.

use std::num::NonZeroUsize;

use failure::{Failure, Result};

use crate::config::ExecutorKind;
use crate::device;
use crate::graph::{Graph, Node};

/// What to bring up to date, and how.
#[derive(clap::Args, Default)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Selection {
    /// Only this node and the nodes that depend on it; take the results before it as they are
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// Only this node and the nodes that it depends on
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// Only this node; take the results before it as they are
    #[arg(long, value_name = "NODE", conflicts_with_all = ["from", "to"])]
    pub only: Option<String>,
    /// Run this node even if it has a result
    #[arg(long, value_name = "NODE")]
    pub force: Vec<String>,
    /// Resume an unfinished training run from its last checkpoint; this is the default
    #[arg(long, conflicts_with = "fresh")]
    pub resume: bool,
    /// Start training from scratch, and drop the checkpoints of an unfinished run
    #[arg(long)]
    pub fresh: bool,
    /// Read every file again, even if its time stamps are unchanged
    #[arg(long)]
    pub paranoid: bool,
    /// Show what would run, and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How many nodes may run at the same time [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// What runs the stages, instead of one process each; the table [executor] has more options
    #[arg(long, value_enum, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorKind>,
    /// The most processes at once, with an executor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs_max: Option<u16>,
    /// Submit the job, and do not wait for it (with --executor slurm)
    #[arg(long)]
    pub detach: bool,
    /// Take results from the remote of [cache], but upload none
    #[arg(long)]
    pub read_only: bool,
    /// Download no data, and use a remote only if it is a folder; earlier downloads are used
    #[arg(long)]
    pub offline: bool,
    /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
    pub device: String,
}

impl Selection {
    /// Everything, on this device.
    pub fn on(device: &str) -> Self {
        Self { device: device.to_owned(), ..Self::default() }
    }

    /// How many nodes may run at the same time.
    pub fn jobs(&self) -> usize {
        self.jobs.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            usize::from,
        )
    }

    /// Whether this node is to run even if it has a result.
    pub fn forces(&self, node: &Node) -> bool {
        self.force.iter().any(|name| node.name.is_called(name))
    }

    /// The selected nodes, in the graph's order.
    pub fn nodes<'g>(&self, graph: &'g Graph) -> Result<Vec<&'g Node>> {
        let called =
            |name: &Option<String>| name.as_deref().map(|name| graph.called(name)).transpose();
        let (only, from, to) = (called(&self.only)?, called(&self.from)?, called(&self.to)?);
        for name in &self.force {
            graph.called(name)?;
        }
        let is_one_of =
            |node: &Node, all: &[&Node]| all.iter().any(|other| other.name == node.name);
        let wanted = |node: &&Node| {
            only.as_ref().is_none_or(|only| is_one_of(node, only))
                && from.as_ref().is_none_or(|from| {
                    is_one_of(node, from) || from.iter().any(|f| graph.depends(node, &f.name))
                })
                && to.as_ref().is_none_or(|to| {
                    is_one_of(node, to) || to.iter().any(|t| graph.depends(t, &node.name))
                })
        };
        let nodes: Vec<&Node> = graph.iter().filter(wanted).collect();
        if let Some(name) =
            self.force.iter().find(|name| !nodes.iter().any(|node| node.name.is_called(name)))
        {
            return Err(Failure::usage(
                format_args!("`{name}` is forced but not selected"),
                "--force",
                "select it as well, or leave --force out",
            ));
        }
        if nodes.is_empty() {
            return Err(Failure::usage(
                "no node lies between --from and --to",
                "command line",
                "run `cargo xtask graph` to see the nodes",
            ));
        }
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn names(from: Option<&str>, to: Option<&str>, only: Option<&str>) -> Result<Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let sets = ["matrix.train.wide.hidden=[1, 2]".to_owned(), "train.wide.net=mlp".to_owned()];
        let config = Config::read(root, "sample", &sets).expect("a configuration");
        let own = |o: Option<&str>| o.map(str::to_owned);
        let selection = Selection {
            from: own(from),
            to: own(to),
            only: own(only),
            device: "cpu".into(),
            ..Selection::default()
        };
        Ok(selection.nodes(&config.graph)?.into_iter().map(|n| n.name.to_string()).collect())
    }

    #[test]
    fn selections_follow_the_graph() {
        assert_eq!(names(None, Some("embed"), None).expect("nodes"), ["ingest", "split", "embed"]);
        assert_eq!(names(Some("train.mlp"), None, None).expect("nodes"), ["train.mlp", "report"]);
        assert_eq!(
            names(Some("split"), Some("tensors"), None).expect("nodes"),
            ["split", "embed", "tensors"]
        );
        assert_eq!(names(None, None, Some("split")).expect("nodes"), ["split"]);
        assert!(names(Some("train.slp"), Some("split"), None).is_err());
        assert!(names(None, Some("nothing"), None).is_err());
        assert_eq!(
            names(None, None, Some("train.wide")).expect("nodes"),
            ["train.wide@hidden=1", "train.wide@hidden=2"]
        );
    }
}
