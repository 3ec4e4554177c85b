//! What has to hold before a stage runs, and after it has run, for its result to be what its key says.

use std::path::Path;

use artifact::{Failure, Result};
use cache::{Digest, Digests as _, Index};

use super::{Running, Session};
use crate::graph::{Node, find};
use crate::recipe::Recipes;

impl Session<'_> {
    /// Refuses to run a node on results of different data, such as a net's of the sample beside a net's of real headlines.
    /// Only results that are taken as they are can be such.
    pub(super) fn refuse_mixed_data(&self, node: &Node) -> Result<()> {
        for (name, _) in node.reads {
            for (before, _) in find(name)?.reads.iter().filter(|(before, _)| node.reads.iter().any(|(name, _)| name == before)) {
                let (Some(one), Some(other)) = (self.manifest(name), self.manifest(before)) else { continue };
                if let Some(file) = one.made_of_another(other) {
                    let what = format_args!("`{name}` was not made of the `{before}` that is here: its {file} was another");
                    let remedy = format!("bring it up to date: cargo xtask pipeline --to {}, with the options that you want", node.name);
                    return Err(Failure::usage(what, self.artifacts.display(), remedy));
                }
            }
        }
        Ok(())
    }

    /// What has changed since the key of a run was made, in words: the key says what the stage has read only if nothing has.
    /// Every file is read again. What the index knows can be wrong, and a wrong result in the store would be found again.
    pub(super) fn changes(&self, node: &'static Node, running: &Running) -> Result<Vec<String>> {
        let again = self.store.index.again();
        let now = Recipes::of_node(self.root, self.config, &self.selection.device, &again, node)?.own(node)?;
        let mut changes = self.recipes.own(node)?.changes(&now);
        // One that was changed and changed back may have been read in between.
        if changes.is_empty() && self.states_of_sources(node) != running.sources {
            changes.push(format!("a source of `{}` was written to", node.name));
        }
        for (name, folder) in &running.inputs {
            for file in node.reads.iter().filter(|(of, _)| of == name).flat_map(|(_, files)| *files) {
                let was = running.wanted.ingredients.get(&format!("input {name}/{file}"));
                if again.digest(&folder.join(file)).ok().as_ref().map(Digest::as_str) != was {
                    changes.push(format!("`{name}/{file}` changed"));
                }
            }
        }
        Ok(changes)
    }

    pub(super) fn states_of_sources(&self, node: &Node) -> Vec<Option<String>> {
        self.config.source_paths(node).iter().map(|path| Index::state(Path::new(path))).collect()
    }
}
