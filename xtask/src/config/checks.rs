//! Options that are valid by themselves, but not together.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stage::options::{Kind, suggest};
use stage::{Options, Schema};

use super::Problems;
use crate::declared::Declared;
use crate::graph::UserRun;

/// Adds options that are valid by themselves but contradict each other.
pub fn contradictions(tables: &BTreeMap<String, (Schema, Options)>, problems: &mut Problems) {
    for (node, (schema, options)) in tables {
        let number = |name: &str| options.get(name).and_then(Json::as_f64);
        if let (Some(from), Some(to)) = (number("lr"), number("lr_min"))
            && to > from
        {
            problems.add(format!(
                "`{node}.lr_min` {to} is more than `{node}.lr` {from}; annealing lowers the rate"
            ));
        }
        for (name, entry) in &schema.0 {
            let source = options.get(name);
            let builtin = |s: &Json| s.as_str().is_some_and(|s| entry.is_builtin(s));
            let in_list = entry.kind == Kind::Source
                && source.and_then(Json::as_array).is_some_and(|items| items.iter().any(builtin));
            if in_list {
                problems.add(format!("`{node}.{name}`: a list takes paths and URLs only"));
            }
            let is_set = source.is_some_and(|value| *value != entry.default_value());
            let other = entry
                .only_with
                .iter()
                .find(|(other, value)| is_set && options.get(*other) != Some(value));
            if let Some((other, value)) = other {
                problems.add(format!(
                    "`{node}.{name}` is set, but has no effect unless `{node}.{other}` is {value}"
                ));
            }
            let pin =
                entry.pin.as_ref().filter(|pin| options.get(*pin).is_some_and(|v| !v.is_null()));
            if let Some(pin) = pin.filter(|_| source.is_some_and(builtin)) {
                problems.add(format!("`{node}.{pin}` is set, but `{node}.{name}` is not a file"));
            }
        }
    }
}

/// Adds a problem for each run that another one lists and cannot read.
pub fn wrong_members(declared: &Declared, runs: &[UserRun], problems: &mut Problems) {
    for run in runs {
        let Some((_, declaration)) = declared.find(&run.name, Some(&run.net)) else { continue };
        for read in &declaration.reads {
            let Some(option) = read.option.as_deref() else { continue };
            let others = || runs.iter().filter(|other| other.name != run.name);
            for listed in run.listed(option) {
                let place = format!("`{}.{option}` lists `{listed}`", run.name);
                let Some(other) = others().find(|other| *other.name == *listed) else {
                    let of_matrix: Vec<&str> = others()
                        .map(|other| other.name.as_str())
                        .filter(|name| name.starts_with(&format!("{listed}@")))
                        .collect();
                    if !of_matrix.is_empty() {
                        let names = of_matrix.join("`, `");
                        problems
                            .add(format!("{place}, which is a matrix; list its runs: `{names}`"));
                        continue;
                    }
                    let meant = suggest(listed, others().map(|other| other.name.as_str()));
                    problems.add(format!("{place}, which is not another run{meant}"));
                    continue;
                };
                if !read.nets.is_empty() && !read.nets.contains(&other.net) {
                    let nets = read.nets.join(" or ");
                    problems.add(format!("{place}, whose net is {}, not {nets}", other.net));
                }
                let needed = read
                    .needs
                    .as_ref()
                    .filter(|needed| other.options.get(*needed).is_some_and(Json::is_null));
                if let Some(needed) = needed {
                    problems.add(format!("{place}, which needs the option `{listed}.{needed}`"));
                }
            }
        }
    }
}
