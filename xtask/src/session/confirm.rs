//! Checks, before and after a stage runs, that its result is the one that its key describes.

use std::path::PathBuf;

use cache::{Digest, Digests as _, Index, NodeName};
use failure::{Failure, Result};
use stage::files;

use super::{Running, Session};
use crate::graph::Node;
use crate::recipe::Recipes;

impl Session<'_> {
    /// Refuses to run a node on results of different data, such as one net trained on the sample
    /// and another on real headlines. That can happen only with results that are taken as they are.
    pub(super) fn refuse_mixed_data(&self, node: &Node) -> Result<()> {
        for name in node.reads.iter().map(|input| &input.node) {
            let before = self
                .context
                .config
                .graph
                .find(name)
                .into_iter()
                .flat_map(|made| &made.reads)
                .map(|input| &input.node);
            for before in before.filter(|before| node.reads_from(before)) {
                let (Some(one), Some(other)) = (self.manifest(name), self.manifest(before)) else {
                    continue;
                };
                if let Some(file) = one.made_of_another(other) {
                    let what = format_args!(
                        "`{name}` was not made from the current result of `{before}`: its {file} was different"
                    );
                    let remedy = format!(
                        "bring it up to date: cargo xtask pipeline --to {}, with the options that you want",
                        node.name
                    );
                    return Err(Failure::usage(what, self.context.artifacts().display(), remedy));
                }
            }
        }
        Ok(())
    }

    /// Lists how the files that a stage read may differ from its key. Every file is read again: the
    /// index can be wrong, and a wrong result in the store would be found again. The program is
    /// not checked here, since it was compared with the key when it started.
    pub(super) fn changes(&self, node: &Node, running: &Running) -> Vec<String> {
        let again = self.context.store.index.again();
        let given = Recipes::given(node, self.context.config, &again)
            .map(|now| running.given.changes(&now));
        let mut changes =
            given.unwrap_or_else(|failure| vec![format!("{} ({})", failure.what, failure.place)]);
        for (name, folder) in &running.inputs {
            for file in
                node.reads.iter().filter(|input| input.node == *name).flat_map(|input| &input.files)
            {
                let was = running.wanted.ingredients.get(&format!("input {name}/{file}"));
                if again.digest(&folder.join(file)).ok().as_ref().map(Digest::as_str) != was {
                    changes.push(format!("`{name}/{file}` changed"));
                }
            }
        }
        // The stage may have read a file between a change and its reversal.
        if changes.is_empty() && self.states(node, &running.inputs) != running.states {
            changes.push(format!("a file that `{}` reads was touched", node.name));
        }
        changes
    }

    /// The states of the files that a node reads: its sources and its inputs.
    pub(super) fn states(
        &self,
        node: &Node,
        inputs: &[(NodeName, PathBuf)],
    ) -> Vec<Option<String>> {
        let files = |name: &NodeName| {
            node.reads
                .iter()
                .find(|input| input.node == *name)
                .map_or(&[][..], |input| &input.files)
        };
        let inputs = inputs
            .iter()
            .flat_map(|(name, folder)| files(name).iter().map(move |file| folder.join(file)));
        let sources = self.context.config.source_paths(node).into_iter().flat_map(|source| {
            // With the source itself: a folder changes when a file is added.
            let files = files::expand(&source).unwrap_or_default();
            std::iter::once(PathBuf::from(source)).chain(files.into_iter().map(|file| file.path))
        });
        sources.chain(inputs).map(|path| Index::state_of_the_way(&path)).collect()
    }
}
