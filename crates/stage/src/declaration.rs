//! The nodes that a stage's crate runs, as its `node.toml` declares them.
//!
//! ```toml
//! [[node]]
//! name = "embed"
//! options = ["options.toml"]
//! reads = [{ node = "split", files = ["train.parquet", "valid.parquet", "test.parquet"] }]
//! ```
//!
//! A stage embeds the file and refuses to read anything else ([`crate::Stage::input`]); `xtask`
//! reads the same file and derives the graph and the keys from it. So a file that reaches a result
//! is always in the result's key.

use std::fmt::{self, Display};

use serde::Deserialize;

/// The file's name in a stage's crate.
pub const FILE: &str = "node.toml";

/// One node or, with a name like `train.*`, every node of that kind, whose names the user chooses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is declared independently")]
pub struct Declaration {
    /// The node's name, `split`, or a prefix and a `*` that stands for a name without a dot.
    pub name: Pattern,
    /// The value of the option `net` that chooses this declaration among those with the same name.
    pub net: Option<String>,
    /// The files that describe its options, beside `node.toml`; later ones override earlier ones.
    pub options: Vec<String>,
    /// Whether it measures time. Nothing runs beside it, and the machine is part of its content
    /// key.
    #[serde(default)]
    pub measures_time: bool,
    /// Whether it computes on the device that the user chooses.
    #[serde(default)]
    pub uses_device: bool,
    /// Whether a run that was killed can continue from its checkpoints.
    #[serde(default)]
    pub resumable: bool,
    /// Whether several processes can share its work ([`crate::shards`]).
    #[serde(default)]
    pub shared: bool,
    /// Whether it is in the graph only if another node needs it.
    #[serde(default)]
    pub on_demand: bool,
    /// The artifacts that it reads.
    #[serde(default)]
    pub reads: Vec<Read>,
}

/// Files of other nodes that a node reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The node, or every node of a kind.
    pub node: Pattern,
    /// Only nodes with this net.
    pub net: Option<String>,
    /// Only the nodes that this option of the reading node lists.
    pub option: Option<String>,
    /// The nets that listed nodes can have; empty for all.
    #[serde(default)]
    pub nets: Vec<String>,
    /// An option that listed nodes must set, if their net has it.
    pub needs: Option<String>,
    /// Whether it is read only if it is in the graph for another reason.
    #[serde(default)]
    pub optional: bool,
    /// The files in the node's folder.
    pub files: Vec<String>,
}

/// A node's name, or a prefix and `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// The part of `name` that the `*` stands for, if `name` is of this kind.
    pub fn capture<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = name.strip_prefix(self.prefix()?)?;
        // Values of a matrix may contain dots: `wide@lr=0.1`.
        let label = rest.split('@').next().unwrap_or_default();
        (!label.is_empty() && !label.contains('.')).then_some(rest)
    }

    /// The part before the `*`, if there is one.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether it is `name`, or `name` is of this kind.
    pub fn matches(&self, name: &str) -> bool {
        self.0 == name || self.capture(name).is_some()
    }

    /// The pattern as written in `node.toml`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a `node.toml`. The error is for the stage's author.
pub fn parse(text: &str) -> Result<Vec<Declaration>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NodeFile {
        node: Vec<Declaration>,
    }
    let NodeFile { node: nodes } = toml::from_str(text).map_err(|e| e.to_string())?;
    for (at, node) in nodes.iter().enumerate() {
        if nodes
            .iter()
            .take(at)
            .any(|other| other.name == node.name && (other.net == node.net || other.net.is_none()))
        {
            return Err(format!("`{}` is declared twice", node.name));
        }
    }
    Ok(nodes)
}

/// The declaration of the node `name` with this `net`: one with exactly this name, or else one of
/// its kind.
pub fn find<'d>(all: &'d [Declaration], name: &str, net: Option<&str>) -> Option<&'d Declaration> {
    let fits = |d: &&Declaration| d.net.is_none() || d.net.as_deref() == net;
    let exact = all.iter().filter(fits).find(|d| d.name.as_str() == name);
    exact.or_else(|| all.iter().filter(fits).find(|d| d.name.matches(name)))
}

/// An option of a node as the user sets it: `train.mlp.lr`. A node of a matrix has its run's
/// options, but for those that the matrix lists: `train.wide.lr`, `matrix.train.wide.hidden`.
pub fn setting(node: &str, option: &str) -> String {
    let Some((run, values)) = node.split_once('@') else { return format!("{node}.{option}") };
    let is_listed = values.split('+').any(|value| value.split('=').next() == Some(option));
    format!("{}{run}.{option}", if is_listed { "matrix." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: &str = r#"
        [[node]]
        name = "train.*"
        net = "slp"
        options = ["a.toml"]
        reads = [{ node = "tensors", files = ["x"] }]
        [[node]]
        name = "train.*"
        net = "mlp"
        options = ["a.toml", "b.toml"]
        [[node]]
        name = "train.sweep"
        options = []
        measures_time = true
    "#;

    #[test]
    fn a_setting_is_the_run_s_or_the_matrix_s() {
        assert_eq!(setting("embed", "seed"), "embed.seed");
        let node = "train.wide@hidden=100+lr=0.01";
        assert_eq!(setting(node, "lr"), "matrix.train.wide.lr");
        assert_eq!(setting(node, "epochs"), "train.wide.epochs");
    }

    #[test]
    fn a_name_is_found_before_a_kind() {
        let all = parse(TRAIN).expect("a valid file");
        let options = |name, net| find(&all, name, net).map(|d| d.options.len());
        assert_eq!(options("train.wide", Some("mlp")), Some(2));
        assert_eq!(options("train.wide", Some("slp")), Some(1));
        assert_eq!(options("train.wide@lr=0.1", Some("slp")), Some(1));
        assert_eq!(options("train.sweep", None), Some(0));
        assert_eq!(options("train.wide", None), None);
        assert_eq!(options("train.a.b", Some("slp")), None);
        assert_eq!(options("train.", Some("slp")), None);
    }

    #[test]
    fn an_author_s_mistakes_are_found() {
        assert!(
            parse(&TRAIN.replace("\"mlp\"", "\"slp\""))
                .unwrap_err()
                .contains("`train.*` is declared twice")
        );
        assert!(
            parse(&TRAIN.replace("measures_time", "measure_time"))
                .unwrap_err()
                .contains("measure_time")
        );
    }
}
