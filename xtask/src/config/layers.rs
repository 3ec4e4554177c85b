//! The settings of the configuration's files and the command line as they are written: in order,
//! and not yet checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stage::options::suggest;
use toml::de::DeTable;
use toml::{Table, Value};

use super::tables::other_tables;
use super::{Problems, tuning};
use crate::declared::Declared;

/// The table whose tables list values to combine.
const MATRIX: &str = "matrix";
/// The list of the earlier files' runs that a file keeps.
const KEEP_RUNS: &str = "keep_runs";

/// An option's value as it was written.
pub struct Setting {
    pub option: String,
    pub value: Given,
    /// Where it was written, for messages.
    pub shown: String,
    /// The folder that its paths are relative to.
    pub base: PathBuf,
    /// Where it was written, as a number: the command line overrides the files.
    pub layer: usize,
}

/// The values of an option that a matrix lists.
pub struct MatrixOption {
    pub values: Vec<Value>,
    pub shown: String,
    pub base: PathBuf,
    pub layer: usize,
}

/// A value from a file, or a text from the command line.
pub enum Given {
    Toml(Value),
    Text(String),
}

/// All settings, by table.
pub struct ConfigLayers<'d> {
    declared: &'d Declared,
    settings: BTreeMap<String, Vec<Setting>>,
    /// The values to combine, by run and option.
    pub matrices: BTreeMap<String, BTreeMap<String, MatrixOption>>,
    /// The tables below `tune`.
    pub tunings: Table,
    /// The names of the runs, in order of first mention.
    pub runs: Vec<String>,
    /// Nodes with fixed names that are left out.
    left_out: Vec<String>,
    /// Names that belong to no table, each after the place where it was written.
    unknown: Vec<(String, String)>,
    /// The current layer: how many files and `--set` options have been added.
    layer: usize,
}

/// What a name like `train.mlp.lr` means.
enum Meaning<'n> {
    /// A parent of tables: `train`.
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
            tunings: Table::new(),
            runs: Vec::new(),
            left_out: Vec::new(),
            unknown: Vec::new(),
            layer: 0,
        }
    }

    /// The settings of a table; later ones override earlier ones.
    pub fn of(&self, table: &str) -> &[Setting] {
        self.settings.get(table).map_or(&[], Vec::as_slice)
    }

    /// The tables with fixed names.
    fn fixed(&self) -> impl Iterator<Item = &str> {
        self.declared.fixed().map(|(_, node)| node.name.as_str()).chain(other_tables())
    }

    /// The prefixes of runs' names: `train.`.
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

    /// Adds the settings in a file's text.
    pub fn file(
        &mut self,
        text: &str,
        shown: &str,
        base: &Path,
        problems: &mut Problems,
    ) -> Result<(), toml::de::Error> {
        let mut table: Table = toml::from_str(text)?;
        if let Some(names) = table.remove(KEEP_RUNS) {
            self.keep_runs(&names, shown, problems);
        }
        match table.remove(tuning::TUNE) {
            Some(Value::Table(tunings)) => tuning::merge(&mut self.tunings, tunings),
            Some(_) => problems.add(format!("{shown}: `{0}` must be a table, [{0}]", tuning::TUNE)),
            None => {}
        }
        // Runs keep the order of the file, but a `Table` is sorted by name.
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
                    .filter(|(key, value)| {
                        value.get_ref().is_table() && !key.get_ref().contains('.')
                    })
                    .map(|(key, _)| (key.span().start, format!("{prefix}.{}", key.get_ref()))),
            );
        }
        found.sort_unstable();
        for (_, name) in found {
            self.note_run(&name);
        }
        self.table("", &table, shown, base, problems);
        self.layer += 1;
        Ok(())
    }

    /// Forgets the runs so far that `names` does not list, and leaves out the other nodes whose names
    /// begin as theirs.
    fn keep_runs(&mut self, names: &Value, shown: &str, problems: &mut Problems) {
        let list: Option<Vec<&str>> =
            names.as_array().and_then(|all| all.iter().map(Value::as_str).collect());
        let Some(keep) = list else {
            problems.add(format!(
                "{shown}: `{KEEP_RUNS}` must be a list of runs, such as [\"train.mlp\"], not {names}"
            ));
            return;
        };
        let fixed: Vec<String> = self
            .fixed()
            .filter(|table| self.prefixes().any(|prefix| table.starts_with(prefix)))
            .map(str::to_owned)
            .collect();
        for name in &keep {
            if !self.runs.iter().chain(&fixed).any(|known| known == name) {
                let known = self.runs.iter().chain(&fixed).map(String::as_str);
                let nearest = suggest(name, known);
                problems.add(format!("{shown}: `{KEEP_RUNS}`: there is no run `{name}`{nearest}"));
            }
        }
        let is_kept = |name: &str| keep.contains(&name);
        for dropped in self.runs.extract_if(.., |name| !is_kept(name)) {
            self.settings.remove(&dropped);
            self.matrices.remove(&dropped);
        }
        for name in fixed.into_iter().filter(|name| !is_kept(name)) {
            self.settings.remove(&name);
            self.left_out.push(name);
        }
    }

    /// The nodes with fixed names that are left out.
    pub fn left_out(&self) -> Vec<&str> {
        self.left_out.iter().map(String::as_str).collect()
    }

    /// Notes `name` as a run, unless it is another table's.
    fn note_run(&mut self, name: &str) {
        let is_run = !self.fixed().any(|table| table == name)
            && self.prefixes().any(|prefix| name.starts_with(prefix));
        if is_run && !self.runs.iter().any(|run| run == name) {
            self.runs.push(name.to_owned());
        }
    }

    /// Adds the settings of a table whose keys stand below `above`.
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
            if key.contains('.') {
                problems.add(format!("{shown}: a name cannot contain a dot: \"{key}\""));
                continue;
            }
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
                        self.matrix(&table, &option, value, shown, base, problems);
                    } else {
                        self.push(&table, &option, Given::Toml(value.clone()), shown, base);
                    }
                }
                _ => problems.add(format!("{shown}: `{name}` must be a table, [{name}]")),
            }
        }
    }

    fn push(&mut self, table: &str, option: &str, value: Given, shown: &str, base: &Path) {
        self.note_run(table);
        // A later setting wants the node after all.
        self.left_out.retain(|name| name != table);
        let setting = Setting {
            option: option.to_owned(),
            value,
            shown: shown.to_owned(),
            base: base.to_owned(),
            layer: self.layer,
        };
        self.settings.entry(table.to_owned()).or_default().push(setting);
    }

    fn matrix(
        &mut self,
        table: &str,
        option: &str,
        value: &Value,
        shown: &str,
        base: &Path,
        problems: &mut Problems,
    ) {
        self.note_run(table);
        match value {
            Value::Array(values) if !values.is_empty() && self.runs.iter().any(|run| run == table) => {
                let listed = MatrixOption {
                    values: values.clone(),
                    shown: shown.to_owned(),
                    base: base.to_owned(),
                    layer: self.layer,
                };
                self.matrices.entry(table.to_owned()).or_default().insert(option.to_owned(), listed);
            }
            Value::Array(values) if !values.is_empty() => {
                problems.add(format!("{shown}: `{MATRIX}.{table}`: only a training run has a matrix, and `{table}` is not one"));
            }
            _ => problems.add(format!("{shown}: `{MATRIX}.{table}.{option}` must be a list of values, such as [1, 2] or [\"a\", \"b\"], not {value}")),
        }
    }

    /// Adds a `--set`. `options` gives the names of a table's options.
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
        // Each overrides what stands before it.
        self.layer += 1;
        if let Some(tunings) = tuning::of_set(name, text) {
            tuning::merge(&mut self.tunings, tunings);
            return;
        }
        let in_matrix = in_matrix(name);
        if let Some(Value::Table(inner)) = parse(text).filter(|_| in_matrix.is_none()) {
            self.table(name, &inner, &shown, base, problems);
            return;
        }
        if let Meaning::Option(table, option) = self.place(in_matrix.unwrap_or(name)) {
            if in_matrix.is_none() {
                self.push(table, option, Given::Text(text.to_owned()), &shown, base);
                return;
            }
            let value = parse(text);
            self.matrix(
                table,
                option,
                &value.unwrap_or_else(|| Value::String(text.to_owned())),
                &shown,
                base,
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
        // `mlp.lr` is the end of `train.mlp.lr`, but far from it in edit distance.
        let end = format!(".{name}");
        let nearest = match known.iter().find(|option| option.ends_with(&end)) {
            Some(option) => format!("; did you mean `{option}`?"),
            None => suggest(name, known.iter().map(String::as_str)),
        };
        problems.add(format!("{shown}: `{name}` is not a known option{nearest}"));
    }

    /// The names of all tables.
    pub fn tables(&self) -> Vec<String> {
        self.fixed().map(str::to_owned).chain(self.runs.iter().cloned()).collect()
    }

    /// Adds a problem for each name that belongs to no table.
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

/// The TOML value that a text of the command line is, if it is one.
pub fn parse(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("v = {text}")).ok()?.remove("v")
}

/// The part of a name below `matrix`, if it is there; empty for `matrix` itself.
fn in_matrix(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(MATRIX)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
}
