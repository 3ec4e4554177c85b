//! What the configuration's files and the command line set, as it is written: settings in their
//! order, not yet checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stage::options::suggest;
use toml::de::DeTable;
use toml::{Table, Value};

use super::{CACHE, Problems};
use crate::graph::Declared;

/// The table whose tables list values to combine.
const MATRIX: &str = "matrix";

/// An option's value, as somebody wrote it.
pub struct Setting {
    pub option: String,
    pub value: Given,
    /// Where it was written, for messages.
    pub shown: String,
    /// What its paths are relative to.
    pub base: PathBuf,
}

/// A value from a file, or a text from the command line.
pub enum Given {
    Toml(Value),
    Text(String),
}

/// Every setting, by the table that it is in.
pub struct ConfigLayers<'d> {
    declared: &'d Declared,
    settings: BTreeMap<String, Vec<Setting>>,
    /// By run and option, the values to combine.
    pub matrices: BTreeMap<String, BTreeMap<String, (Vec<Value>, String)>>,
    /// The names of the runs, in the order in which they were first written.
    pub runs: Vec<String>,
    /// Names that are no table's, and where they were written.
    unknown: Vec<(String, String)>,
}

/// What a name like `train.mlp.lr` means.
enum Meaning<'n> {
    /// There are tables below it: `train`.
    Above,
    /// A table: `train.mlp`.
    Table,
    /// An option of a table.
    Option(&'n str, &'n str),
    Unknown,
}

impl<'d> ConfigLayers<'d> {
    pub fn new(declared: &'d Declared) -> Self {
        Self {
            declared,
            settings: BTreeMap::new(),
            matrices: BTreeMap::new(),
            runs: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// The settings of a table, later ones over earlier ones.
    pub fn of(&self, table: &str) -> &[Setting] {
        self.settings.get(table).map_or(&[], Vec::as_slice)
    }

    /// The tables with a name of their own.
    fn fixed(&self) -> impl Iterator<Item = &str> {
        self.declared.fixed().map(|(_, node)| node.name.as_str()).chain([CACHE])
    }

    /// What stands before the names of runs: `train.`.
    fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.declared.iter().filter_map(|(_, node)| node.name.prefix())
    }

    fn place<'n>(&self, name: &'n str) -> Meaning<'n> {
        let below = |table: &str| name.get(table.len()..).and_then(|rest| rest.strip_prefix('.'));
        for table in self.fixed().filter(|table| name.starts_with(table)) {
            match below(table) {
                Some(option) => {
                    return Meaning::Option(name.get(..table.len()).unwrap_or_default(), option);
                }
                None if name == table => return Meaning::Table,
                None => {}
            }
        }
        let run = self.prefixes().find_map(|prefix| {
            Some((prefix.len(), name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?))
        });
        if let Some((start, rest)) = run {
            return match rest.split_once('.') {
                Some((run, option)) => {
                    Meaning::Option(name.get(..start + run.len()).unwrap_or_default(), option)
                }
                None => Meaning::Table,
            };
        }
        let above = format!("{name}.");
        if self.fixed().chain(self.prefixes()).any(|table| table.starts_with(&above)) {
            Meaning::Above
        } else {
            Meaning::Unknown
        }
    }

    /// Takes a file's text.
    pub fn file(
        &mut self,
        text: &str,
        shown: &str,
        base: &Path,
        problems: &mut Problems,
    ) -> Result<(), toml::de::Error> {
        let table: Table = toml::from_str(text)?;
        // The runs come in the order of the file; a table is sorted by name.
        let spanned = DeTable::parse(text)?;
        let mut found = Vec::new();
        for prefix in self.prefixes().map(|prefix| prefix.trim_end_matches('.')) {
            let tables = spanned
                .get_ref()
                .iter()
                .find(|(key, _)| key.get_ref() == prefix)
                .and_then(|(_, value)| value.get_ref().as_table());
            found.extend(
                tables
                    .into_iter()
                    .flatten()
                    .map(|(key, _)| (key.span().start, format!("{prefix}.{}", key.get_ref()))),
            );
        }
        found.sort_unstable();
        for (_, name) in found {
            self.note_run(&name);
        }
        self.table("", &table, shown, base, problems);
        Ok(())
    }

    /// Notes a run, if the name is one's.
    fn note_run(&mut self, name: &str) {
        let is_run = !self.fixed().any(|table| table == name)
            && self.prefixes().any(|prefix| name.starts_with(prefix));
        if is_run && !self.runs.iter().any(|run| run == name) {
            self.runs.push(name.to_owned());
        }
    }

    /// Takes a table whose keys stand below `above`.
    fn table(
        &mut self,
        above: &str,
        table: &Table,
        shown: &str,
        base: &Path,
        problems: &mut Problems,
    ) {
        for (key, value) in table {
            let name = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
            let in_matrix = in_matrix(&name);
            match (self.place(in_matrix.unwrap_or(&name)), value) {
                (Meaning::Unknown, _) if in_matrix != Some("") => {
                    self.unknown.push((shown.to_owned(), name));
                }
                (place, Value::Table(inner)) => {
                    if matches!(place, Meaning::Table) {
                        self.note_run(in_matrix.unwrap_or(&name));
                    }
                    self.table(&name, inner, shown, base, problems);
                }
                (Meaning::Option(table, option), _) => {
                    let (table, option) = (table.to_owned(), option.to_owned());
                    if in_matrix.is_some() {
                        self.matrix(&table, &option, value, shown, problems);
                    } else {
                        self.push(&table, &option, Given::Toml(value.clone()), shown, base);
                    }
                }
                _ => problems.add(format!("{shown}: `{name}` is a table: [{name}]")),
            }
        }
    }

    fn push(&mut self, table: &str, option: &str, value: Given, shown: &str, base: &Path) {
        self.note_run(table);
        let setting = Setting {
            option: option.to_owned(),
            value,
            shown: shown.to_owned(),
            base: base.to_owned(),
        };
        self.settings.entry(table.to_owned()).or_default().push(setting);
    }

    fn matrix(
        &mut self,
        table: &str,
        option: &str,
        value: &Value,
        shown: &str,
        problems: &mut Problems,
    ) {
        self.note_run(table);
        match value {
            Value::Array(values) if !values.is_empty() && self.runs.iter().any(|run| run == table) => {
                self.matrices.entry(table.to_owned()).or_default().insert(option.to_owned(), (values.clone(), shown.to_owned()));
            }
            Value::Array(values) if !values.is_empty() => {
                problems.add(format!("{shown}: `{MATRIX}.{table}`: only a training run has a matrix, and `{table}` is not one"));
            }
            _ => problems.add(format!("{shown}: `{MATRIX}.{table}.{option}` must be a list of values, such as [1, 2], not {value}")),
        }
    }

    /// Takes a `--set`. `schema` tells the options of a table.
    pub fn set(
        &mut self,
        set: &str,
        base: &Path,
        options: &dyn Fn(&str) -> Vec<String>,
        problems: &mut Problems,
    ) {
        let Some((name, text)) = set.split_once('=') else {
            problems.add(format!("--set {set}: there is no `=`; write --set NODE.OPTION=VALUE"));
            return;
        };
        let shown = format!("--set {set}");
        let in_matrix = in_matrix(name);
        if let Meaning::Option(table, option) = self.place(in_matrix.unwrap_or(name)) {
            if in_matrix.is_none() {
                self.push(table, option, Given::Text(text.to_owned()), &shown, base);
                return;
            }
            let value = toml::from_str::<Table>(&format!("v = {text}"))
                .ok()
                .and_then(|mut table| table.remove("v"));
            self.matrix(
                table,
                option,
                &value.unwrap_or_else(|| Value::String(text.to_owned())),
                &shown,
                problems,
            );
            return;
        }
        let tables: Vec<String> = self.tables();
        let having: Vec<&String> = tables
            .iter()
            .filter(|table| options(table).iter().any(|option| option == name))
            .collect();
        if let Some(first) = having.first() {
            let nodes: Vec<String> = having.iter().map(|table| format!("`{table}`")).collect();
            problems.add(format!(
                "{shown}: `{name}` is an option of {}; write --set {first}.{name}=…",
                nodes.join(", ")
            ));
            return;
        }
        let known: Vec<String> = tables
            .iter()
            .flat_map(|table| options(table).into_iter().map(move |o| format!("{table}.{o}")))
            .collect();
        // `mlp.lr` is the end of one of them, and far from it letter by letter.
        let end = format!(".{name}");
        let nearest = match known.iter().find(|option| option.ends_with(&end)) {
            Some(option) => format!("; did you mean `{option}`?"),
            None => suggest(name, known.iter().map(String::as_str)),
        };
        problems.add(format!("{shown}: `{name}` is not a known option{nearest}"));
    }

    /// Every table that there is.
    pub fn tables(&self) -> Vec<String> {
        self.fixed().map(str::to_owned).chain(self.runs.iter().cloned()).collect()
    }

    /// Says which names mean nothing.
    pub fn refuse_unknown(&self, problems: &mut Problems) {
        let tables = self.tables();
        for (shown, name) in &self.unknown {
            problems.add(format!(
                "{shown}: there is no node `{name}`{}",
                suggest(name, tables.iter().map(String::as_str))
            ));
        }
    }
}

/// The name below `matrix`, if it is there; the matrix itself has none.
fn in_matrix(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(MATRIX)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
}
