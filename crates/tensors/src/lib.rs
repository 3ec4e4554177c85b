//! The fourth stage: feature matrices and labels (problem 70).
//!
//! In: `split/{train,valid,test}.parquet`, `embed/vocabulary.parquet`,
//! `embed/vectors.safetensors`. Out: `{train,valid,test}.safetensors` with `X` f32 \[n, d\],
//! `y` i64 \[n\] and `id` i64 \[n\], and `summary.json`.
//!
//! Always holds: row i of `X`, `y` and `id` is headline i of its part; a row of `X` is the f32
//! mean of its words' vectors, bit for bit numpy's.

use std::collections::BTreeMap;

use artifact::{Failure, NodeSpec, Result, Stage};
use features::{Category, PARTS};
use formats::arrays::{self, Array};
use formats::table;
use serde::{Deserialize, Serialize};
use vectors::{Lookup, Matrix};

/// The node that this crate runs.
pub const NODES: &[NodeSpec] = &[NodeSpec { name: "tensors", options: &[include_str!("../options.toml")] }];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    empty: Empty,
}

/// What becomes of a title with no known word.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Empty {
    Zero,
    Drop,
}

/// What a part has.
#[derive(Serialize)]
struct Summary {
    rows: usize,
    columns: usize,
    classes: BTreeMap<&'static str, usize>,
    without_known_word: usize,
    dropped: usize,
    first: Vec<Headline>,
}

/// One of the first rows, to look at.
#[derive(Serialize)]
struct Headline {
    id: i64,
    title: String,
    y: i64,
    /// The first components of its features.
    x: Vec<f32>,
}

/// So many rows and components are shown.
const SHOWN: (usize, usize) = (4, 6);

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let lookup = Lookup::read(&stage.input("embed", "vocabulary.parquet"), &stage.input("embed", "vectors.safetensors"))?;
    let mut summaries = BTreeMap::new();
    let mut sizes = Vec::new();
    let mut empty = 0;
    for part in PARTS {
        let path = stage.input("split", &format!("{part}.parquet"));
        let frame = table::read(&path, &["id", "title", "category"])?;
        let ids = table::integers(&frame, "id", &path)?.no_null_iter();
        let titles = table::texts(&frame, "title", &path)?.no_null_iter();
        let categories = table::texts(&frame, "category", &path)?.no_null_iter();

        let mut matrix = Matrix::new(&lookup, frame.height());
        let (mut y, mut id) = (Vec::new(), Vec::new());
        let (mut without, mut first) = (0, Vec::new());
        for ((title, letter), number) in titles.zip(categories).zip(ids) {
            let known = matrix.push(title).known;
            without += usize::from(known == 0);
            if known == 0 && options.empty == Empty::Drop {
                matrix.pop();
                continue;
            }
            let category = Category::from_letter(letter);
            let category = category.ok_or_else(|| Failure::artifact(format_args!("unknown category `{letter}`"), &path))?;
            y.push(category);
            id.push(number);
            if first.len() < SHOWN.0 {
                let values = matrix.values();
                let x = values.iter().skip(values.len() - lookup.dimension()).take(SHOWN.1).copied().collect();
                first.push(Headline { id: number, title: title.to_owned(), y: category.label(), x });
            }
        }
        let labels: Vec<i64> = y.iter().map(|c| c.label()).collect();
        let x = Array::f32(&[y.len(), lookup.dimension()], matrix.values());
        let file = stage.output(&format!("{part}.safetensors"));
        arrays::write(&file, [("X", x), ("y", Array::i64(&labels)), ("id", Array::i64(&id))], None)?;

        empty += without;
        sizes.push(format!("{part} {}×{}", y.len(), lookup.dimension()));
        let classes = Category::ALL.map(|c| (c.letter(), y.iter().filter(|&&is| is == c).count()));
        let summary = Summary {
            rows: y.len(),
            columns: lookup.dimension(),
            classes: classes.into(),
            without_known_word: without,
            dropped: frame.height() - y.len(),
            first,
        };
        summaries.insert(part, summary);
    }
    stage.write_json("summary.json", &summaries)?;
    let fate = if options.empty == Empty::Drop { "left out" } else { "all zeros" };
    let note = if empty > 0 { format!("; {empty} without a known word, {fate}") } else { String::new() };
    Ok(format!("{}{note}", sizes.join(", ")))
}
