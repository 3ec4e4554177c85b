//! The training runs that the user has named, and the combinations of a matrix.

use std::collections::BTreeMap;
use std::path::Path;

use cache::{Digest, NodeName};
use serde_json::Value as Json;
use stage::options::{Kind, nearest, suggest};
use stage::{Options, Schema};
use toml::Value;

use super::layers::{ConfigLayers, Given, MatrixOption, Setting, parse};
use super::{Problems, Schemas, absolute, apply};

/// The option that names the net of a run.
pub const NET: &str = "net";

/// More combinations than this are a mistake.
const MOST: usize = 1000;

/// The values in a trial's name are not longer than this; a digest stands for longer ones.
const LONGEST: usize = 100;

/// After so many mistakes in the combinations of one matrix, the others are probably the same.
const SHOWN: usize = 10;

/// A run with its options.
pub struct NamedRun {
    pub name: NodeName,
    pub net: String,
    pub schema: Schema,
    pub options: Options,
}

/// All runs, in the user's order; a matrix gives one for each combination.
pub fn resolve(
    layers: &ConfigLayers<'_>,
    schemas: &Schemas<'_>,
    problems: &mut Problems,
) -> Vec<NamedRun> {
    let mut runs: Vec<NamedRun> = Vec::new();
    for name in &layers.runs {
        if !label(name).chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
            problems
                .add(format!("`{name}`: a run's name may contain only letters, digits, _ and -"));
            continue;
        }
        if let Err(e) = NodeName::try_from(name.as_str()) {
            problems.add(e);
            continue;
        }
        let matrix = layers.matrices.get(name);
        overridden(name, layers, problems);
        let before = problems.0.len();
        for combination in
            matrix.map_or_else(|| Ok(vec![Vec::new()]), combinations).unwrap_or_else(|too_many| {
                problems.add(format!(
                    "`matrix.{name}` has {too_many} combinations; at most {MOST} are allowed"
                ));
                Vec::new()
            })
        {
            match one(name, &combination, layers, schemas, problems, false) {
                Some(run) if runs.iter().any(|other| other.name == run.name) => {
                    problems.add(format!("`matrix.{name}` gives two runs the name `{}`", run.name));
                }
                Some(run) => {
                    let alike = |other: &&NamedRun| other.name.eq_ignore_ascii_case(&run.name);
                    if let Some(other) = runs.iter().find(alike) {
                        problems.add(format!(
                            "`{}` and `{}` differ only in case, which some file systems ignore; rename one",
                            other.name, run.name
                        ));
                    }
                    runs.push(run);
                }
                None if problems.0.len() >= before + SHOWN => break,
                None => {}
            }
        }
    }
    runs
}

/// Adds a problem for each setting that a matrix of an earlier layer makes useless.
fn overridden(name: &str, layers: &ConfigLayers<'_>, problems: &mut Problems) {
    for (option, listed) in layers.matrices.get(name).into_iter().flatten() {
        let later = |setting: &&Setting| setting.option == *option && setting.layer > listed.layer;
        if let Some(setting) = layers.of(name).iter().rev().find(later) {
            problems.add(format!(
                "{}: `{name}.{option}` has no effect, because {} lists values in `matrix.{name}.{option}`; override that list instead",
                setting.shown, listed.shown
            ));
        }
    }
}

/// An option and one of its values.
type MatrixChoice<'v> = (&'v str, &'v Value, &'v MatrixOption);

/// Every combination, the last option's values changing fastest.
fn combinations(
    matrix: &BTreeMap<String, MatrixOption>,
) -> Result<Vec<Vec<MatrixChoice<'_>>>, usize> {
    let count = matrix
        .values()
        .map(|listed| listed.values.len())
        .try_fold(1_usize, usize::checked_mul)
        .unwrap_or(usize::MAX);
    if count > MOST {
        return Err(count);
    }
    let mut all: Vec<Vec<MatrixChoice<'_>>> = vec![Vec::new()];
    for (option, listed) in matrix {
        let choices = || listed.values.iter().map(move |value| (option.as_str(), value, listed));
        all = all
            .iter()
            .flat_map(|before| choices().map(|choice| [&before[..], &[choice]].concat()))
            .collect();
    }
    Ok(all)
}

/// The run `name` with these options of a trial, each with one value.
pub fn trial(
    name: &str,
    choices: &[(String, MatrixOption)],
    layers: &ConfigLayers<'_>,
    schemas: &Schemas<'_>,
    problems: &mut Problems,
) -> Option<NamedRun> {
    let combination: Vec<MatrixChoice<'_>> = choices
        .iter()
        .filter_map(|(option, listed)| Some((option.as_str(), listed.values.first()?, listed)))
        .collect();
    one(name, &combination, layers, schemas, problems, true)
}

fn one(
    name: &str,
    combination: &[MatrixChoice<'_>],
    layers: &ConfigLayers<'_>,
    schemas: &Schemas<'_>,
    problems: &mut Problems,
    is_trial: bool,
) -> Option<NamedRun> {
    let chosen = combination
        .iter()
        .find(|(option, ..)| *option == NET)
        .map(|(_, value, _)| (*value).clone());
    let last = layers.of(name).iter().rev().find(|setting| setting.option == NET);
    let net = match (chosen, last) {
        (Some(value), _) => text(&value),
        (None, Some(Setting { value: Given::Toml(value), .. })) => text(value),
        (None, Some(Setting { value: Given::Text(given), .. })) => {
            parse(given).map_or_else(|| given.clone(), |value| text(&value))
        }
        (None, None) => {
            problems.add(without_net(name, layers, schemas));
            return None;
        }
    };
    let nets = schemas.declared.nets(name);
    if !nets.contains(&net.as_str()) {
        let shown = last.map_or("", |setting| setting.shown.as_str());
        problems.add(format!(
            "{shown}: `{name}.{NET}` cannot be \"{net}\"{}",
            suggest(&net, nets.iter().copied())
        ));
        return None;
    }
    let schema = schemas.of(name, Some(&net))?;
    let mut options = schema.defaults();
    apply(&schema, &mut options, name, layers.of(name), problems);
    let mut parts = Vec::new();
    for (option, value, listed) in combination {
        match schema.set(&mut options, option, value) {
            Ok(()) => {
                let is_path = schema.0.get(*option).is_some_and(|entry| entry.kind == Kind::Path);
                parts.push(format!("{option}={}", in_a_name(options.get(*option), is_path)));
                absolute(&schema, &mut options, option, &listed.base);
            }
            Err(e) => problems.add(format!("{}: `matrix.{name}.{option}` {e}", listed.shown)),
        }
    }
    if parts.len() < combination.len() {
        return None;
    }
    let values = parts.join("+");
    let name = if parts.is_empty() {
        name.to_owned()
    } else if is_trial && values.len() > LONGEST {
        let digest = Digest::of(values.as_bytes());
        format!("{name}@{}", digest.as_str().get(..16).unwrap_or_default())
    } else {
        format!("{name}@{values}")
    };
    match NodeName::try_from(name) {
        Ok(name) => Some(NamedRun { name, net, schema, options }),
        Err(e) => {
            problems.add(e);
            None
        }
    }
}

/// The part of a run's name that the user chooses: `wide` of `train.wide`.
fn label(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, label)| label)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The problem of a run that has options but no net: most often, another run's name is misspelled.
fn without_net(name: &str, layers: &ConfigLayers<'_>, schemas: &Schemas<'_>) -> String {
    let has_net = |run: &&String| layers.of(run).iter().any(|setting| setting.option == NET);
    let others = layers.runs.iter().filter(|run| *run != name).filter(has_net);
    // All begin alike, with `train.`, and that must not make them look alike.
    let prefix = name.len() - label(name).len();
    let meant = nearest(label(name), others.filter_map(|other| other.get(prefix..))).map(|meant| {
        format!("; did you mean `{}{meant}`?", name.get(..prefix).unwrap_or_default())
    });
    let shown =
        layers.of(name).first().map_or_else(String::new, |setting| format!("{}: ", setting.shown));
    let nets: Vec<String> =
        schemas.declared.nets(name).iter().map(|net| format!("\"{net}\"")).collect();
    let nets = nets.join(" or ");
    match meant {
        Some(meant) => format!(
            "{shown}there is no run `{name}`{meant} A new run needs `{name}.{NET}` = {nets}"
        ),
        None => format!("{shown}the run `{name}` has no net; set `{name}.{NET}` = {nets}"),
    }
}

/// A value as part of a node's name: its text, or a digest if the text is too long or has
/// characters that are not allowed in a name.
///
/// Of a path, the file's name: a key must not depend on the folder.
fn in_a_name(value: Option<&Json>, is_path: bool) -> String {
    const MOST: usize = 24;
    let text = match value {
        Some(Json::String(path)) if is_path => {
            let file = Path::new(path).file_name().unwrap_or_default();
            file.to_string_lossy().into_owned()
        }
        Some(Json::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if is_plain && !text.is_empty() && text.len() <= MOST && !text.ends_with('.') {
        text
    } else {
        Digest::of(text.as_bytes()).as_str().chars().take(8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::Declared;

    /// The mistakes of a configuration file with a `--set` after it.
    fn mistakes(file: &str, set: Option<&str>) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let declared = Declared::read(root).expect("declarations");
        let schemas = Schemas::read(root, &declared).expect("options");
        let mut problems = Problems::default();
        let mut layers = ConfigLayers::new(&declared);
        layers.file(file, "pipeline.toml", root, &mut problems).expect("TOML");
        if let Some(set) = set {
            layers.set(set, root, &|table| schemas.names(table), &mut problems);
        }
        resolve(&layers, &schemas, &mut problems);
        problems.0
    }

    #[test]
    fn a_mistake_in_a_run_is_reported_once() {
        for (file, want) in [
            ("[train.\"a.b\"]\nnet = \"slp\"", "a name cannot contain a dot: \"a.b\""),
            ("[train]\nlr = 0.1", "`train.lr` must be a table"),
        ] {
            let found = mistakes(file, None);
            assert!(matches!(&found[..], [one] if one.contains(want)), "{file}: {found:?}");
        }
        let long = "a".repeat(150);
        let file = format!(
            "[train.{long}]\nnet = \"slp\"\n[matrix.train.{long}]\nseed = {:?}",
            (0..100).collect::<Vec<_>>()
        );
        assert_eq!(mistakes(&file, None).len(), SHOWN);
    }

    #[test]
    fn a_setting_that_a_matrix_overrides_is_a_mistake() {
        let file = "[train.a]\nnet = \"mlp\"\nlr = 0.5\n[matrix.train.a]\nlr = [0.1, 0.2]";
        assert!(mistakes(file, None).is_empty(), "a matrix overrides its own file");
        let found = mistakes(file, Some("train.a.lr=0.3"));
        assert!(
            matches!(&found[..], [one] if one.contains("--set train.a.lr=0.3: `train.a.lr` has no effect")),
            "{found:?}"
        );
        assert!(mistakes(file, Some("matrix.train.a.lr=[0.3]")).is_empty());
        assert!(mistakes(file, Some("train.a.hidden=9")).is_empty());
    }
}
