//! `labels.json`: the names of the classes, in label order.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use failure::{Failure, Result};
use serde::{Deserialize, Serialize};

/// The classes of a data set. A class's label, the number that the nets learn, is its place in the
/// list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Labels {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

/// The news archive's letters, what they mean, and the exercise's words for it.
const NEWS: [(&str, &str, &str); 4] = [
    ("b", "business", "ビジネス"),
    ("t", "science and technology", "科学技術"),
    ("e", "entertainment", "エンターテインメント"),
    ("m", "health", "健康"),
];

impl Labels {
    /// The file's name.
    pub const FILE: &str = "labels.json";
    /// The most classes.
    pub const MOST: usize = 65_536;

    /// The classes in this order. The error is for people.
    pub fn new(names: Vec<String>) -> std::result::Result<Self, String> {
        let labels = Self::of(names);
        let Self { names, places } = &labels;
        match names.len() {
            0 => return Err("there are no labels, and at least 2 are needed".to_owned()),
            1 => return Err("there is only 1 label, and at least 2 are needed".to_owned()),
            n if n > Self::MOST => {
                return Err(format!(
                    "there are {n} labels, and at most {} are supported",
                    Self::MOST
                ));
            }
            n if n > places.len() => return Err("a label is listed twice".to_owned()),
            _ => {}
        }
        if names.iter().any(String::is_empty) {
            return Err("a label is empty".to_owned());
        }
        Ok(labels)
    }

    fn of(names: Vec<String>) -> Self {
        Self { places: names.iter().cloned().zip(0..).collect(), names }
    }

    /// The classes in the order in which numpy sorts them: whole numbers by value, other texts by
    /// their characters.
    pub fn sorted(names: BTreeSet<String>) -> std::result::Result<Self, String> {
        let mut names: Vec<String> = names.into_iter().collect();
        if names.iter().all(|name| number(name).is_some()) {
            names.sort_by_cached_key(|name| number(name));
        }
        Self::new(names)
    }

    /// The news archive's classes.
    pub fn news() -> Self {
        Self::of(NEWS.iter().map(|(letter, ..)| (*letter).to_owned()).collect())
    }

    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|e| Failure::artifact(format_args!("cannot read the labels: {e}"), path))?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Failure::artifact(format_args!("not a list of labels: {e}"), path))
    }

    /// How many classes there are.
    #[expect(clippy::len_without_is_empty, reason = "there are at least two")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The classes' names, in label order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of a class; empty if there is no such label.
    pub fn name(&self, label: usize) -> &str {
        self.names.get(label).map_or("", String::as_str)
    }

    /// The label of the class with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The label of the class with this name, which the artifact at `path` has.
    ///
    /// # Errors
    /// If there is no such class.
    pub fn label(&self, name: &str, path: &Path) -> Result<u32> {
        let label = self.find(name).and_then(|label| u32::try_from(label).ok());
        label.ok_or_else(|| Failure::artifact(format_args!("unknown label `{name}`"), path))
    }

    /// The same classes in sorted order, which is scikit-learn's; see [`Labels::sorted`].
    pub fn in_sorted_order(&self) -> Self {
        Self::sorted(self.names.iter().cloned().collect()).unwrap_or_else(|_| self.clone())
    }

    /// Two classes whose names differ only in case or in white space at their ends, which are likely
    /// one class.
    pub fn nearly_equal(&self) -> Option<(&str, &str)> {
        let mut seen: HashMap<String, &str> = HashMap::new();
        self.names.iter().find_map(|name| {
            let earlier = seen.insert(name.trim().to_lowercase(), name)?;
            Some((earlier, name.as_str()))
        })
    }

    /// What a class of the news archive means, in English and in Japanese. `None` for other data.
    pub fn meaning(&self, label: usize) -> Option<(&'static str, &'static str)> {
        let is_news = self.names.iter().map(String::as_str).eq(NEWS.iter().map(|news| news.0));
        NEWS.get(label).filter(|_| is_news).map(|(_, english, japanese)| (*english, *japanese))
    }
}

/// The whole number that a label is, if it is one as numbers are written: without a plus sign or
/// leading zeros.
fn number(name: &str) -> Option<i64> {
    name.parse().ok().filter(|number: &i64| number.to_string() == name)
}

impl TryFrom<Vec<String>> for Labels {
    type Error = String;
    fn try_from(names: Vec<String>) -> std::result::Result<Self, String> {
        Self::new(names)
    }
}

impl From<Labels> for Vec<String> {
    fn from(labels: Labels) -> Self {
        labels.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> std::result::Result<Labels, String> {
        Labels::new(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_label_is_a_place_in_the_list() {
        let labels: Labels = serde_json::from_str(r#"["z", "a b", "é"]"#).expect("labels");
        assert_eq!((labels.len(), labels.find("a b"), labels.find("b")), (3, Some(1), None));
        assert_eq!((labels.name(2), labels.name(3), labels.meaning(0)), ("é", "", None));
        assert_eq!(serde_json::to_string(&labels).expect("JSON"), r#"["z","a b","é"]"#);
        assert_eq!(labels.in_sorted_order().names(), ["a b", "z", "é"]);
        assert_eq!(labels.nearly_equal(), None);
    }

    #[test]
    fn the_archive_s_letters_have_the_exercise_s_labels() {
        let news = Labels::news();
        assert_eq!(news.names(), ["b", "t", "e", "m"]);
        assert_eq!(news.meaning(3), Some(("health", "健康")));
        assert_eq!(labels(&["b", "e", "t", "m"]).expect("labels").meaning(0), None);
    }

    #[test]
    fn labels_that_are_likely_one_are_found() {
        let near = labels(&["pos", "neg ", "neg", "Pos"]).expect("labels");
        assert_eq!(near.nearly_equal(), Some(("neg ", "neg")));
    }

    #[test]
    fn numbers_are_sorted_by_value() {
        let sorted = |names: &[&str]| labels(names).expect("labels").in_sorted_order();
        // numpy.unique([10, 9, -1, 0]) and numpy.unique(["10", "9", "x"])
        assert_eq!(sorted(&["10", "9", "-1", "0"]).names(), ["-1", "0", "9", "10"]);
        assert_eq!(sorted(&["10", "9", "x"]).names(), ["10", "9", "x"]);
        assert_eq!(sorted(&["010", "9"]).names(), ["010", "9"]);
    }

    #[test]
    fn lists_that_name_no_classes_are_refused() {
        let refused = |names: &[&str]| labels(names).unwrap_err();
        assert_eq!(refused(&["a"]), "there is only 1 label, and at least 2 are needed");
        assert_eq!(refused(&["a", "b", "a"]), "a label is listed twice");
        assert_eq!(refused(&["a", ""]), "a label is empty");
        let many: Vec<String> = (0..=Labels::MOST).map(|k| k.to_string()).collect();
        assert!(Labels::new(many[1..].to_vec()).is_ok());
        assert!(Labels::new(many).unwrap_err().starts_with("there are 65537 labels"));
        assert!(serde_json::from_str::<Labels>(r#"["a", 1]"#).is_err());
    }
}
