//! Compares training runs and measures their answers, for the report, `cargo xtask compare` and
//! `knockline test`.
//!
//! Training stages do not depend on this crate, so a change to it retrains nothing.

mod calibration;
mod interval;
mod paired;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

pub use calibration::{Bin, Calibration};
pub use interval::wilson;
pub use paired::paired;
use schema::{Metrics, OptionValues, Score};

/// The names of the options in which runs differ.
///
/// An option that a net does not have is not a difference. An option that a run leaves unset is one
/// if another run of the same net sets it.
pub fn differing(runs: &[&OptionValues]) -> Vec<String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|options| options.keys()).collect();
    let differs = |name: &&String| {
        // The values in the runs of each net. If none of a net's runs has a value, the net does not
        // have the option.
        let mut by_net: BTreeMap<Option<&str>, Vec<Option<&Json>>> = BTreeMap::new();
        for options in runs {
            let net = options.get("net").and_then(Json::as_str);
            by_net
                .entry(net)
                .or_default()
                .push(options.get(*name).filter(|value| !value.is_null()));
        }
        let mut values =
            by_net.values().filter(|values| values.iter().any(Option::is_some)).flatten();
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    names.into_iter().filter(differs).cloned().collect()
}

/// A run's figures by name, such as `accuracy_valid`.
pub fn metrics(of: &Metrics) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for (part, Score { loss, accuracy }) in of.result.scores() {
        all.insert(format!("loss_{part}"), loss);
        all.insert(format!("accuracy_{part}"), accuracy);
    }
    all.insert("epochs_done".to_owned(), f64::from(of.result.outcome.epochs));
    all.insert("epoch_kept".to_owned(), f64::from(of.result.outcome.epoch_kept));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(json: serde_json::Value) -> OptionValues {
        serde_json::from_value(json).expect("options")
    }

    #[test]
    fn an_option_is_named_only_if_it_differs_among_nets_that_have_it() {
        let runs = [
            options(json!({ "net": "slp", "lr": 0.1, "seed": 1, "seeds": null })),
            options(json!({ "net": "mlp", "lr": 0.1, "seed": 1, "hidden": 200, "seeds": [1, 2] })),
            options(json!({ "net": "mlp", "lr": 0.1, "seed": 1, "hidden": 200, "seeds": null })),
        ];
        assert_eq!(differing(&[&runs[0], &runs[1], &runs[2]]), ["net", "seeds"]);
        assert_eq!(differing(&[&runs[0], &runs[1]]), ["net"]);
        assert!(differing(&[&runs[0]]).is_empty());
    }
}
