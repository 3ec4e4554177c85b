//! The training runs that the user has named, and the combinations of a matrix.

use std::collections::BTreeMap;

use cache::{Digest, NodeName};
use serde_json::Value as Json;
use stage::options::suggest;
use stage::{Options, Schema};
use toml::Value;

use super::layers::{ConfigLayers, Given, Setting};
use super::{Problems, Schemas, apply};

/// The option that says which net a run trains.
pub const NET: &str = "net";

/// More combinations than this are a mistake.
const MOST: usize = 1000;

/// A run with its options.
pub struct NamedRun {
    pub name: NodeName,
    pub net: String,
    pub schema: Schema,
    pub options: Options,
}

/// Every run, in the user's order; a matrix gives one a combination.
pub fn resolve(
    layers: &ConfigLayers<'_>,
    schemas: &Schemas<'_>,
    problems: &mut Problems,
) -> Vec<NamedRun> {
    let mut runs: Vec<NamedRun> = Vec::new();
    for name in &layers.runs {
        let label = name.rsplit('.').next().unwrap_or_default();
        if !label.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
            || NodeName::try_from(name.as_str()).is_err()
        {
            problems.add(format!("`{name}`: a run's name may have letters, digits, _ and -"));
            continue;
        }
        let matrix = layers.matrices.get(name);
        for combination in
            matrix.map_or_else(|| Ok(vec![Vec::new()]), combinations).unwrap_or_else(|too_many| {
                problems.add(format!(
                    "`matrix.{name}` has {too_many} combinations; there may be {MOST}"
                ));
                Vec::new()
            })
        {
            let Some(run) = one(name, &combination, layers, schemas, problems) else { continue };
            if runs.iter().any(|other| other.name == run.name) {
                problems.add(format!("`matrix.{name}` has a value twice: `{}`", run.name));
            } else {
                runs.push(run);
            }
        }
    }
    runs
}

/// Option, value, and where it was written.
type MatrixChoice<'v> = (&'v str, &'v Value, &'v str);

/// Every combination, the last option's values changing fastest.
fn combinations(
    matrix: &BTreeMap<String, (Vec<Value>, String)>,
) -> Result<Vec<Vec<MatrixChoice<'_>>>, usize> {
    let count = matrix
        .values()
        .map(|(values, _)| values.len())
        .try_fold(1_usize, usize::checked_mul)
        .unwrap_or(usize::MAX);
    if count > MOST {
        return Err(count);
    }
    let mut all: Vec<Vec<MatrixChoice<'_>>> = vec![Vec::new()];
    for (option, (values, shown)) in matrix {
        let choices = || values.iter().map(|value| (option.as_str(), value, shown.as_str()));
        all = all
            .iter()
            .flat_map(|before| choices().map(|choice| [&before[..], &[choice]].concat()))
            .collect();
    }
    Ok(all)
}

fn one(
    name: &str,
    combination: &[MatrixChoice<'_>],
    layers: &ConfigLayers<'_>,
    schemas: &Schemas<'_>,
    problems: &mut Problems,
) -> Option<NamedRun> {
    let chosen = combination
        .iter()
        .find(|(option, ..)| *option == NET)
        .map(|(_, value, _)| (*value).clone());
    let last = layers.of(name).iter().rev().find(|setting| setting.option == NET);
    let net = match (chosen, last) {
        (Some(value), _) => text(&value),
        (None, Some(Setting { value: Given::Toml(value), .. })) => text(value),
        (None, Some(Setting { value: Given::Text(text), .. })) => text.trim_matches('"').to_owned(),
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
    for (option, value, shown) in combination {
        match schema.set(&mut options, option, value) {
            Ok(()) => parts.push(format!("{option}={}", in_a_name(options.get(*option)))),
            Err(e) => problems.add(format!("{shown}: `matrix.{name}.{option}` {e}")),
        }
    }
    if parts.len() < combination.len() {
        return None;
    }
    let name =
        if parts.is_empty() { name.to_owned() } else { format!("{name}@{}", parts.join("+")) };
    match NodeName::try_from(name) {
        Ok(name) => Some(NamedRun { name, net, schema, options }),
        Err(e) => {
            problems.add(e);
            None
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A run that has options and no net is most often another's misspelled name.
fn without_net(name: &str, layers: &ConfigLayers<'_>, schemas: &Schemas<'_>) -> String {
    let has_net = |run: &&String| layers.of(run).iter().any(|setting| setting.option == NET);
    let others = layers.runs.iter().filter(|run| *run != name).filter(has_net).map(String::as_str);
    let shown =
        layers.of(name).first().map_or_else(String::new, |setting| format!("{}: ", setting.shown));
    let nets: Vec<String> =
        schemas.declared.nets(name).iter().map(|net| format!("\"{net}\"")).collect();
    format!(
        "{shown}there is no run `{name}`{}; a new one needs `{name}.{NET}` = {}",
        suggest(name, others),
        nets.join(" or ")
    )
}

/// A value as a part of a node's name; one that has other characters than a name may have is there
/// as a digest.
fn in_a_name(value: Option<&Json>) -> String {
    const MOST: usize = 24;
    let text = match value {
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
