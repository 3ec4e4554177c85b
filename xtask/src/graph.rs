//! The graph: what each node runs and reads, from the declarations of the stages and the runs that
//! the user names.

mod show;
pub mod snakemake;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use cache::NodeName;
use failure::{Failure, Result};
use serde_json::Value as Json;
use stage::Options;
use stage::declaration::{self, Declaration};
use stage::options::suggest;

use crate::declared::Declared;
pub use show::GraphFormat;

/// A node of the graph.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is declared independently")]
pub struct Node {
    /// Its name, which is also its folder's.
    pub name: NodeName,
    /// The stage crate that runs it.
    pub package: String,
    /// Whether it measures time. If so, nothing runs beside it, and the machine is part of its
    /// content key.
    pub measures_time: bool,
    /// Whether it computes on the device that the user chooses.
    pub uses_device: bool,
    /// Whether an unfinished run leaves checkpoints from which the next one resumes.
    pub resumable: bool,
    /// Whether several processes can share its work.
    pub shared: bool,
    /// Whether it is a training run, which the user names.
    pub is_run: bool,
    /// The artifacts that it reads. It gets no others, and no others can make it stale.
    pub reads: Vec<Input>,
}

/// The files of another node that a node reads.
#[derive(Debug)]
pub struct Input {
    /// The other node.
    pub node: NodeName,
    /// Its files.
    pub files: Vec<String>,
    /// Whether the reading node can do without it.
    optional: bool,
}

impl Node {
    /// Whether it reads files of `other`.
    pub fn reads_from(&self, other: &str) -> bool {
        self.reads.iter().any(|input| input.node == *other)
    }
}

/// A training run as the user describes it.
pub struct UserRun {
    /// Its name.
    pub name: NodeName,
    /// Its net.
    pub net: String,
    /// Its options.
    pub options: Options,
}

impl UserRun {
    /// The names that an option lists.
    pub fn listed(&self, option: &str) -> Vec<&str> {
        let items = self.options.get(option).and_then(Json::as_array);
        items.into_iter().flatten().filter_map(Json::as_str).collect()
    }
}

/// The nodes, each after those that it reads.
#[derive(Debug)]
pub struct Graph(Vec<Node>);

impl Graph {
    /// The graph of the fixed nodes, but for those in `left_out`, and of `runs`. A node on demand is
    /// in it only if another one needs it.
    pub fn new(declared: &Declared, runs: &[UserRun], left_out: &[&str]) -> Result<Self> {
        let wrong = |what: String| {
            Failure::usage(what, declaration::FILE, "correct the declaration of the stage")
        };
        let mut all: Vec<(NodeName, Option<&str>, &str, &Declaration)> = Vec::new();
        for (package, node) in declared.iter() {
            match node.name.prefix() {
                None if left_out.contains(&node.name.as_str()) => {}
                None => all.push((
                    NodeName::try_from(node.name.as_str()).map_err(wrong)?,
                    None,
                    package,
                    node,
                )),
                Some(_) => {
                    let of = runs.iter().filter(|run| {
                        declared.find(&run.name, Some(&run.net)).is_some_and(|(_, d)| d == node)
                    });
                    all.extend(
                        of.map(|run| (run.name.clone(), Some(run.net.as_str()), package, node)),
                    );
                }
            }
        }
        // Runs come in the user's order, even if their nets differ.
        let place = |name: &NodeName| runs.iter().position(|run| run.name == *name);
        all.sort_by_key(|(name, _, package, _)| match place(name) {
            Some(place) => (false, "", place),
            None => (true, *package, 0),
        });
        let mut nodes = Vec::new();
        for (name, _, package, node) in &all {
            let mut reads: Vec<Input> = Vec::new();
            for read in &node.reads {
                let run = runs.iter().find(|run| run.name == *name);
                let listed = read
                    .option
                    .as_deref()
                    .map(|option| run.map(|run| run.listed(option)).unwrap_or_default());
                let fits = |other: &NodeName, net: Option<&str>, is_run: bool| {
                    read.node.matches(other)
                        && is_run == read.node.prefix().is_some()
                        && (read.net.is_none() || read.net.as_deref() == net)
                        && listed.as_ref().is_none_or(|listed| listed.contains(&other.as_str()))
                };
                let of: Vec<_> = all
                    .iter()
                    .filter(|(other, net, _, _)| fits(other, *net, net.is_some()))
                    .collect();
                let is_declared = || declared.fixed().any(|(_, node)| node.name == read.node);
                if of.is_empty() && read.node.prefix().is_none() && !is_declared() {
                    return Err(wrong(format!(
                        "`{name}` reads `{}`, which no stage declares",
                        read.node
                    )));
                }
                for (other, ..) in of {
                    let at =
                        reads.iter().position(|input| input.node == *other).unwrap_or_else(|| {
                            let node = other.clone();
                            reads.push(Input { node, files: Vec::new(), optional: true });
                            reads.len() - 1
                        });
                    if let Some(input) = reads.get_mut(at) {
                        input.optional &= read.optional;
                        input.files.extend(read.files.iter().cloned());
                    }
                }
            }
            let Declaration { measures_time, uses_device, resumable, shared, on_demand, .. } =
                **node;
            let is_run = node.name.prefix().is_some();
            let node = Node {
                name: name.clone(),
                package: (*package).to_owned(),
                measures_time,
                uses_device,
                resumable,
                shared,
                is_run,
                reads,
            };
            nodes.push((node, on_demand));
        }
        sorted(needed(nodes)).map(Self).map_err(wrong)
    }

    /// The nodes, each after those that it reads.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.0.iter()
    }

    /// The width of a column of node names.
    pub fn width(&self) -> usize {
        const LEAST: usize = 11;
        self.iter().map(|node| node.name.len()).max().unwrap_or(0).max(LEAST)
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.iter().find(|node| node.name == *name)
    }

    /// The nodes that the user means by `name`: one, or all of a matrix.
    pub fn called(&self, name: &str) -> Result<Vec<&Node>> {
        let nodes: Vec<&Node> = self.iter().filter(|node| node.name.is_called(name)).collect();
        if nodes.is_empty() {
            let what = format!(
                "there is no node `{name}`{}",
                suggest(name, self.iter().map(|n| n.name.as_str()))
            );
            return Err(Failure::usage(
                what,
                "command line",
                "run `cargo xtask graph` to see the nodes; a run that --set defines needs its --set options each time, and features that no run needs are not made",
            ));
        }
        Ok(nodes)
    }

    /// Whether `node` depends on `other`, directly or indirectly.
    pub fn depends(&self, node: &Node, other: &str) -> bool {
        node.reads.iter().any(|input| {
            input.node == *other || self.find(&input.node).is_some_and(|n| self.depends(n, other))
        })
    }

    /// The files of a node that other nodes read.
    pub fn files_read_of(&self, node: &str) -> BTreeSet<&str> {
        let inputs = self.iter().flat_map(|by| &by.reads).filter(|input| input.node == *node);
        inputs.flat_map(|input| input.files.iter().map(String::as_str)).collect()
    }
}

/// The nodes without those on demand that no other node needs. Of what is left out, nothing is read.
fn needed(nodes: Vec<(Node, bool)>) -> Vec<Node> {
    let mut kept: BTreeSet<NodeName> = BTreeSet::new();
    let mut todo: Vec<&Node> =
        nodes.iter().filter(|(_, on_demand)| !on_demand).map(|(node, _)| node).collect();
    while let Some(node) = todo.pop() {
        if kept.insert(node.name.clone()) {
            let needs = |other: &Node| {
                node.reads.iter().any(|input| !input.optional && input.node == other.name)
            };
            todo.extend(nodes.iter().map(|(other, _)| other).filter(|other| needs(other)));
        }
    }
    let mut nodes: Vec<Node> =
        nodes.into_iter().map(|(node, _)| node).filter(|node| kept.contains(&node.name)).collect();
    for node in &mut nodes {
        node.reads.retain(|input| kept.contains(&input.node));
    }
    nodes
}

/// The nodes, each after those that it reads.
fn sorted(nodes: Vec<Node>) -> Result<Vec<Node>, String> {
    fn visit(
        at: usize,
        nodes: &[Node],
        path: &mut Vec<usize>,
        order: &mut Vec<usize>,
    ) -> Result<(), String> {
        if order.contains(&at) {
            return Ok(());
        }
        if path.contains(&at) {
            return Err(format!(
                "`{}` depends on itself",
                nodes.get(at).map_or("", |node| node.name.as_str())
            ));
        }
        path.push(at);
        for input in nodes.get(at).into_iter().flat_map(|node| &node.reads) {
            if let Some(before) = nodes.iter().position(|node| node.name == input.node) {
                visit(before, nodes, path, order)?;
            }
        }
        path.pop();
        order.push(at);
        Ok(())
    }
    let mut order = Vec::new();
    for at in 0..nodes.len() {
        visit(at, &nodes, &mut Vec::new(), &mut order)?;
    }
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| nodes.get_mut(at)?.take()).collect())
}
