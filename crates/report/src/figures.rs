//! The report's figures, each in both languages.

mod calibration;
mod comparison;
mod result;
mod shares;
mod strongest;
mod style;
mod sweep;
mod tuned;

use curves::{Curve, DrawError, ENGLISH, FIRST, FigureWords, GRID, INK, PAPER, SECOND, svg};
use serde::Serialize;

use crate::facts::Facts;
use crate::runs::RunFacts;

const JAPANESE: FigureWords = FigureWords {
    loss: "損失（交差エントロピーの平均）",
    accuracy: "正解率",
    epoch: "エポック",
    train: "学習データ",
    valid: "検証データ",
};

/// A figure.
#[derive(Serialize)]
pub struct Figure {
    /// Its name on the page, and as a file without `.svg`.
    pub name: String,
    /// The file's content, in English.
    #[serde(skip)]
    pub svg: String,
    /// For the page, in English.
    english: String,
    /// For the page, in Japanese.
    japanese: String,
}

impl Figure {
    /// `draw` draws the figure in a language (`true` is Japanese); `labels` describe it to screen
    /// readers, in English and Japanese.
    fn new(
        name: &str,
        labels: [&str; 2],
        draw: impl Fn(bool) -> Result<String, DrawError>,
    ) -> Result<Self, DrawError> {
        let svg = draw(false)?;
        let [english, japanese] = labels;
        Ok(Self {
            name: name.to_owned(),
            english: inline(&svg, english),
            japanese: inline(&draw(true)?, japanese),
            svg,
        })
    }
}

/// Every figure of the report.
pub fn all(facts: &Facts) -> Result<Vec<Figure>, DrawError> {
    let mut figures = vec![Figure::new(
        "result",
        ["Accuracy of the nets", "各ネットワークの正解率"],
        |ja| {
            let rows = u32::try_from(result::count(facts)).unwrap_or(u32::MAX);
            svg((510, 106 + 50 * rows), |area| result::draw(area, facts, ja))
        },
    )?];
    if let Some(sweep) = &facts.sweep {
        figures.push(Figure::new(
            "sweep",
            ["Seconds per epoch by batch size", "バッチサイズと1エポックの秒数"],
            |ja| svg((500, 370), |area| sweep::draw(area, facts, sweep, ja)),
        )?);
    }
    if !facts.runs.rows.is_empty() {
        figures.push(Figure::new(
            "runs",
            ["Accuracy of each run on valid and test", "各実行の検証データと評価データの正解率"],
            |ja| {
                svg(comparison::size(facts.runs.rows.len()), |area| {
                    comparison::draw(area, &facts.runs.rows, ja)
                })
            },
        )?);
    }
    let nets = [&facts.slp, &facts.curve, &facts.mlp].into_iter().flatten();
    let on_sequences = || facts.sequences.iter().flat_map(|of| &of.runs);
    for run in nets.chain(&facts.bags).chain(on_sequences()) {
        for curve in Curve::ALL {
            figures.push(learning(run, curve)?);
        }
    }
    if let Some(run) = &facts.linear {
        figures.push(Figure::new(
            "passes",
            [
                "Largest violation of the optimality conditions after each pass",
                "各パス後の最適性条件の最大違反量",
            ],
            |ja| svg(strongest::PASSES, |area| strongest::passes(area, run, ja)),
        )?);
        for (label, features) in strongest::shown(facts, run) {
            let category = facts.letter(label);
            let labels = [
                format!("N-grams that speak most for {category}"),
                format!("{category}を最も支持するn-gram"),
            ];
            figures.push(Figure::new(
                &format!("strongest-{label}"),
                labels.each_ref().map(String::as_str),
                |ja| svg(strongest::SIZE, |area| strongest::draw(area, category, &features, ja)),
            )?);
        }
    }
    let curves = facts.evaluated.as_ref().map_or(&[][..], |of| &of.curves);
    let mut runs: Vec<&str> = curves.iter().map(|curve| curve.run.as_str()).collect();
    runs.dedup();
    for run in runs {
        let of_run: Vec<_> = curves.iter().filter(|curve| curve.run == run).collect();
        let english = format!("{run}: accuracy by the number of training headlines");
        let japanese = format!("{run}：学習データの件数と正解率");
        figures.push(Figure::new(
            &format!("shares-{}", run.strip_prefix("train.").unwrap_or(run)),
            [&english, &japanese],
            |ja| svg(shares::SIZE, |area| shares::draw(area, &of_run, curves, ja)),
        )?);
    }
    for of in &facts.tuned {
        let name = of.run.strip_prefix("train.").unwrap_or(&of.run);
        for (at, option) in of.ranges.keys().enumerate() {
            let english = format!("{}: accuracy of the trials by {option}", of.run);
            let japanese = format!("{}：{option} ごとの候補の正解率", of.run);
            figures.push(Figure::new(
                &format!("tuned-{name}-{option}"),
                [&english, &japanese],
                |ja| svg(tuned::SIZE, |area| tuned::draw(area, of, option, at, ja)),
            )?);
        }
    }
    for run in [&facts.slp, &facts.mlp, &facts.best].into_iter().flatten().chain(on_sequences()) {
        if let Some(quality) = run.quality(facts.part) {
            let labels = ["Accuracy by probability of the prediction", "予測確率ごとの正解率"];
            figures.push(Figure::new(&format!("{}-calibration", run.node), labels, |ja| {
                svg(calibration::SIZE, |area| calibration::draw(area, &quality.calibration, ja))
            })?);
        }
    }
    Ok(figures)
}

fn learning(run: &RunFacts, curve: Curve) -> Result<Figure, DrawError> {
    let name = format!("{}-{}", run.node, curve.name());
    let english = format!("{}: {} of train and valid after each epoch", run.node, curve.name());
    let japanese = format!(
        "{}：各エポック後の学習データと検証データの{}",
        run.node,
        if curve.name() == "loss" { "損失" } else { "正解率" }
    );
    Figure::new(&name, [&english, &japanese], |ja| {
        curves::draw(&run.history, curve, if ja { &JAPANESE } else { &ENGLISH })
    })
}

/// The figure for the page: its colours follow the page's, light or dark, and its size the
/// screen's.
fn inline(svg: &str, label: &str) -> String {
    let mut out = svg.to_owned();
    for (colour, variable) in [
        (INK, "--ink"),
        (GRID, "--grid"),
        (FIRST, "--first"),
        (SECOND, "--second"),
        (PAPER, "--paper"),
    ] {
        out = out.replace(
            &format!("\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2),
            &format!("\"var({variable})\""),
        );
    }
    // Without `width` and `height`, the size is that of the view box, scaled by the style sheet.
    let rest = out.split_once("viewBox=").map_or("", |(_, rest)| rest);
    format!("<svg role=\"img\" aria-label=\"{label}\" viewBox={rest}")
}
