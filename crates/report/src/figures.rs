//! The report's figures, each in both languages.

mod calibration;
mod comparison;
mod shares;
mod strongest;
mod style;
mod tuned;

use curves::{Area, Curve, DrawError, ENGLISH, FIRST, FigureWords, GRID, INK, PAPER, SECOND, svg};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use crate::facts::Facts;
use crate::runs::RunFacts;
use style::{diamond, font, rows_mesh};

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
    let mut figures = vec![
        Figure::new(
            "result",
            ["Accuracy of the nets", "各ネットワークの正解率"],
            |ja| {
                let rows = if facts.best.is_some() { 4 } else { 3 };
                svg((510, 106 + 50 * rows), |area| result(area, facts, ja))
            },
        )?,
        Figure::new(
            "sweep",
            ["Seconds per epoch by batch size", "バッチサイズと1エポックの秒数"],
            |ja| svg((500, 370), |area| sweep(area, facts, ja)),
        )?,
    ];
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
    for run in nets.chain(&facts.bags) {
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
    for run in [&facts.slp, &facts.mlp, &facts.best].into_iter().flatten() {
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

/// The longest bar of the first figure that has no room for its number.
const SHORT: f64 = 0.25;
/// Height of the legend of the first figure, in pixels.
const LEGEND: u32 = 24;

/// Draws a bar for each net, its 95 % interval as a line, and a published figure as a diamond.
fn result(area: &Area<'_>, facts: &Facts, ja: bool) -> Result<(), DrawError> {
    let interval = |run: &RunFacts| run.intervals.get(facts.part).copied();
    let mut names = vec![if ja { "常に最頻カテゴリ" } else { "most frequent category" }];
    let mut bars = vec![(facts.majority, None, None)];
    let published = facts.published.as_ref();
    if let Some(run) = &facts.slp {
        names.push(if ja { "単層ニューラルネットワーク" } else { "single-layer net" });
        bars.push((run.accuracy(facts.part), interval(run), published.map(|p| p.slp[1])));
    }
    if let Some(run) = &facts.mlp {
        names.push(if ja { "多層ニューラルネットワーク" } else { "multi-layer net" });
        bars.push((run.accuracy(facts.part), interval(run), published.map(|p| p.mlp[1])));
    }
    if let Some(run) = &facts.best {
        names.push("train.best");
        bars.push((run.accuracy(facts.part), interval(run), None));
    }
    let last = bars.len() - 1;
    // The legend is below the chart, where it covers no bar.
    let (above, legend) = area.split_vertically(area.dim_in_pixel().1.saturating_sub(LEGEND));
    let mut chart = ChartBuilder::on(&above)
        .margin(8)
        .margin_right(56)
        .x_label_area_size(48)
        .y_label_area_size(206)
        .build_cartesian_2d(0.0..1.0, (0..last).into_segmented())?;
    let title = match (facts.part, ja) {
        ("test", false) => "accuracy on test",
        ("test", true) => "評価データの正解率",
        (_, false) => "accuracy on valid",
        (_, true) => "検証データの正解率",
    };
    rows_mesh(&mut chart, &names, title, &|x| format!("{:.0} %", x * 100.0))?;
    for (i, (value, interval, published)) in bars.into_iter().enumerate() {
        let mut bar = Rectangle::new(
            [(0.0, SegmentValue::Exact(i)), (value, SegmentValue::Exact(i + 1))],
            FIRST.mix(0.35).filled(),
        );
        bar.set_margin(9, 9, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(i);
        let percent = |value: f64| format!("{:.1} %", value * 100.0);
        let left = interval.map_or(value, |(low, _)| low);
        if let Some((low, high)) = interval {
            chart.draw_series([PathElement::new(
                [(low, middle.clone()), (high, middle.clone())],
                INK.stroke_width(3),
            )])?;
        }
        if let Some(published) = published {
            let text = Text::new(
                percent(published),
                (12, -8),
                ("sans-serif", 15).into_font().color(&SECOND),
            );
            chart.draw_series([EmptyElement::at((published, middle.clone()))
                + diamond((0, 0))
                + text])?;
        }
        // The number is inside the bar, so that it is not taken for the published figure; a bar that
        // is too short for it has it beside its interval.
        let inside = left > SHORT;
        let (at, offset, align) = if inside {
            (left, -10, HPos::Right)
        } else {
            (interval.map_or(value, |(_, high)| high), 8, HPos::Left)
        };
        let style = font(16).pos(Pos::new(align, VPos::Center));
        chart.draw_series([
            EmptyElement::at((at, middle)) + Text::new(percent(value), (offset, 0), style)
        ])?;
    }
    let centred = font(14).pos(Pos::new(HPos::Left, VPos::Center));
    let y = 10;
    legend.draw(&PathElement::new([(216, y), (238, y)], INK.stroke_width(3)))?;
    legend.draw(&Text::new(
        if ja { "95 %信頼区間" } else { "95 % interval" },
        (246, y),
        centred.clone(),
    ))?;
    if facts.published.is_some() {
        legend.draw(&diamond((372, y)))?;
        legend.draw(&Text::new(if ja { "公開解答" } else { "published" }, (384, y), centred))?;
    }
    Ok(())
}

/// How a series of the sweep is drawn: line and marker distinguish the series without colour.
#[derive(Clone, Copy)]
enum Look {
    /// A solid line with dots.
    Dots,
    /// A dashed line with triangles.
    Triangles,
    /// A line of long dashes with squares.
    Squares,
    /// A line of short dashes with crosses.
    Crosses,
    /// A dotted line with open circles.
    Circles,
}

type Series = (String, Look, Vec<(f64, f64)>);

/// Draws the seconds per epoch, evaluation included as in the published times, by batch size; both
/// axes are logarithmic.
fn sweep(area: &Area<'_>, facts: &Facts, ja: bool) -> Result<(), DrawError> {
    let mut series: Vec<Series> = Vec::new();
    for (device, look) in facts
        .sweep
        .devices
        .iter()
        .zip([Look::Dots, Look::Triangles, Look::Squares].into_iter().cycle())
    {
        let times = facts.sweep.times.iter().filter(|t| t.device == *device);
        let points =
            times.map(|t| (t.batch_size as f64, t.seconds + t.seconds_evaluation)).collect();
        let device = device.replace("cpu", "CPU").replace("cuda", "GPU");
        series.push((
            if ja { format!("本実装 {device}") } else { format!("knockline, {device}") },
            look,
            points,
        ));
    }
    if let Some(published) = &facts.published {
        let times = |of: fn(&(u64, f64, f64)) -> f64| {
            published.sweep.iter().map(|t| (t.0 as f64, of(t))).collect()
        };
        let name = |device: &str| {
            if ja { format!("公開解答 {device}") } else { format!("published, {device}") }
        };
        series.push((name("CPU"), Look::Crosses, times(|t| t.1)));
        series.push((name("GPU"), Look::Circles, times(|t| t.2)));
    }

    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = series.iter().flat_map(|s| &s.2).map(of);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    // The range begins a little below a power of ten, so that the power has its tick, and ends well
    // above the next one: that gives at least two ticks, and room for the legend.
    let decade = |value: f64| 10.0_f64.powf(value.log10().floor());
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (x.0..x.1.max(2.0 * x.0)).log_scale().base(2.0),
            (decade(y.0) * 0.8..decade(y.1) * 30.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(font(14))
        .axis_desc_style(font(14))
        .x_desc(if ja { "バッチサイズ" } else { "batch size" })
        .y_desc(if ja {
            "1エポックの秒数（評価を含む）"
        } else {
            "seconds per epoch, with evaluation"
        })
        .x_labels(12)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(6)
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    for (name, look, points) in series {
        let style = match look {
            Look::Dots => FIRST.stroke_width(2),
            Look::Triangles | Look::Squares => SECOND.stroke_width(2),
            Look::Crosses | Look::Circles => INK.stroke_width(1),
        };
        let (on, off) = look.dashes();
        let line = if off == 0 {
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?
        } else {
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), on, off, style))?
        };
        line.label(name).legend(move |(x, y)| {
            EmptyElement::at((x, y))
                + DashedPathElement::new([(0, 0), (32, 0)], on, off, style)
                + look.mark((16, 0), style)
        });
        chart.draw_series(
            points.into_iter().map(|at| EmptyElement::at(at) + look.mark((0, 0), style)),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .legend_area_size(40)
        .background_style(PAPER)
        .border_style(GRID)
        .label_font(font(14))
        .draw()?;
    Ok(())
}

impl Look {
    /// Lengths of the dashes and of the gaps, in pixels.
    fn dashes(self) -> (u32, u32) {
        match self {
            Self::Dots => (32, 0),
            Self::Triangles => (8, 4),
            Self::Squares => (14, 5),
            Self::Crosses => (4, 4),
            Self::Circles => (1, 3),
        }
    }

    /// The marker, centred on a point in pixels.
    fn mark<'b>(
        self,
        (x, y): (i32, i32),
        style: ShapeStyle,
    ) -> DynElement<'static, SVGBackend<'b>, (i32, i32)> {
        const R: i32 = 4;
        let path = |points: &[(i32, i32)]| {
            PathElement::new(
                points.iter().map(|(a, b)| (x + a, y + b)).collect::<Vec<_>>(),
                style.stroke_width(2),
            )
            .into_dyn()
        };
        match self {
            Self::Dots => Circle::new((x, y), R, style.filled()).into_dyn(),
            Self::Triangles => path(&[(-R, R), (R, R), (0, -R), (-R, R)]),
            Self::Squares => path(&[(-R, R), (R, R), (R, -R), (-R, -R), (-R, R)]),
            Self::Crosses => path(&[(-R, -R), (R, R), (0, 0), (R, -R), (-R, R)]),
            Self::Circles => Circle::new((x, y), R, style.stroke_width(1)).into_dyn(),
        }
    }
}
