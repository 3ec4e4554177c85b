//! Which of a table's columns hold what.

use failure::{Failure, Result};

/// Names under which published data sets have the text, the first that is there counts.
const TEXTS: [&str; 6] = ["text", "sentence", "title", "headline", "content", "review"];
/// The same for the label.
const LABELS: [&str; 4] = ["label", "category", "class", "target"];

/// The columns' names, as the options give them.
#[derive(Clone, Debug, Default)]
pub struct ColumnNames {
    /// The texts, which are joined by a space.
    pub text: Option<Vec<String>>,
    pub label: Option<String>,
    pub id: Option<String>,
    pub group: Option<String>,
    pub part: Option<String>,
}

/// The columns of a table, by their place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub texts: Vec<usize>,
    pub label: usize,
    pub id: Option<usize>,
    pub group: Option<usize>,
    pub part: Option<usize>,
}

impl ColumnNames {
    /// Whether the options name any column.
    pub fn any(&self) -> bool {
        self.text.is_some()
            || [&self.label, &self.id, &self.group, &self.part].into_iter().any(Option::is_some)
    }

    /// Finds the columns among those of a table.
    pub fn find(&self, there: &[&str], place: &str) -> Result<Columns> {
        let at = |name: &str| there.iter().position(|column| *column == name);
        let missing = |what: &str, option: &str| {
            let shown: Vec<String> =
                there.iter().take(20).map(|name| name.chars().take(40).collect()).collect();
            let separator =
                |only: &str| [';', '\t', '|', ','].into_iter().find(|c| only.contains(*c));
            if let [only] = there
                && let Some(separator) = separator(only)
            {
                return Failure::input(
                    format_args!("there is one column, `{}`", shown.join("")),
                    place,
                    format_args!(
                        "if its fields are separated by {separator:?}, set `ingest.separator` to it; with quotes around fields, set `ingest.quoting` to true"
                    ),
                );
            }
            Failure::input(
                format_args!("{what}; the columns are {}", shown.join(", ")),
                place,
                format_args!(
                    "name the column in the option `ingest.columns.{option}`; if the first row is not a header, set `ingest.header` to false, and the columns are column_1, column_2 …"
                ),
            )
        };
        let by_name = |name: &String, option: &str| {
            at(name).ok_or_else(|| missing(&format!("there is no column `{name}`"), option))
        };
        let usual = |names: &[&str], option: &str| {
            names.iter().find_map(|name| at(name)).ok_or_else(|| {
                missing(&format!("no column is called {}", names.join(", ")), option)
            })
        };
        let optional = |name: &Option<String>, option: &str| {
            name.as_ref().map(|name| by_name(name, option)).transpose()
        };
        Ok(Columns {
            texts: match &self.text {
                Some(names) => {
                    names.iter().map(|name| by_name(name, "text")).collect::<Result<_>>()?
                }
                None => vec![usual(&TEXTS, "text")?],
            },
            label: match &self.label {
                Some(name) => by_name(name, "label")?,
                None => usual(&LABELS, "label")?,
            },
            id: optional(&self.id, "id")?,
            group: optional(&self.group, "group")?,
            part: optional(&self.part, "part")?,
        })
    }
}

impl Columns {
    /// The places of all columns that are needed.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let optional = [self.id, self.group, self.part].into_iter().flatten();
        self.texts.iter().copied().chain([self.label]).chain(optional)
    }
}

/// The whole number that a text is. The error is for the message about the row.
pub fn number(text: &str) -> std::result::Result<i64, String> {
    let shown = || text.chars().take(40).collect::<String>();
    text.trim()
        .parse()
        .map_err(|_| format!("has `{}` as its id, which is not a whole number", shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_usual_names_or_as_the_options_say() {
        let there = ["idx", "sentence", "text", "label"];
        let names = ColumnNames::default();
        let found = names.find(&there, "x.csv").expect("columns");
        assert_eq!((found.texts, found.label, found.id), (vec![2], 3, None));
        let names = ColumnNames {
            text: Some(vec!["sentence".into(), "text".into()]),
            label: Some("idx".into()),
            group: Some("label".into()),
            ..names
        };
        let found = names.find(&there, "x.csv").expect("columns");
        assert_eq!((found.texts, found.label, found.group), (vec![1, 2], 0, Some(3)));
        let wrong = ColumnNames { id: Some("uuid".into()), ..names };
        let failure = wrong.find(&there, "x.csv").unwrap_err();
        assert_eq!(
            failure.what,
            "there is no column `uuid`; the columns are idx, sentence, text, label"
        );
        assert!(failure.remedy.contains("`ingest.columns.id`"), "{failure}");
    }
}
