//! Parallel coordinates: a line for each run across an axis for each hyperparameter, ending at its metric.

use std::collections::BTreeSet;

use super::axes::{LABEL, Range, TICK, TITLE, number};
use super::canvas::{Align, Canvas, Point, Rect, TextStyle};
use super::color::{Color, map_color};
use super::picture::Picture;
use crate::{Error, Result};

/// What runs have on one axis.
#[derive(Clone, Debug, PartialEq)]
pub enum AxisValues {
    /// A number for each run.
    Numbers {
        /// The numbers; one that cannot be drawn leaves a gap.
        values: Vec<f64>,
        /// Whether the axis is logarithmic.
        is_log: bool,
    },
    /// A word for each run.
    Names(Vec<String>),
}

/// An axis of parallel coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct ParallelAxis {
    /// The hyperparameter or the metric.
    pub name: String,
    /// What each run has.
    pub values: AxisValues,
}

/// Which metric value is the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Best {
    /// The lowest, as with a loss.
    Lowest,
    /// The highest, as with an accuracy.
    #[default]
    Highest,
}

/// Runs across hyperparameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParallelPlot {
    /// What stands above.
    pub title: String,
    /// The hyperparameters, and last the metric; a run whose metric is not finite failed.
    pub axes: Vec<ParallelAxis>,
    /// Which metric value is the best.
    pub best: Best,
}

impl ParallelAxis {
    fn len(&self) -> usize {
        match &self.values {
            AxisValues::Numbers { values, .. } => values.len(),
            AxisValues::Names(names) => names.len(),
        }
    }

    /// For each run where it lies from 0 (bottom) to 1, and what is written at the axis.
    fn places(&self) -> (Vec<f64>, Vec<(f64, String)>) {
        match &self.values {
            AxisValues::Numbers { values, is_log } => {
                let range = Range::around(values.iter().copied(), *is_log);
                let usable = |value: f64| value.is_finite() && (!is_log || value > 0.0);
                let place = |&value: &f64| if usable(value) { range.share(value) } else { f64::NAN };
                let mut distinct: Vec<f64> = values.iter().copied().filter(|value| usable(*value)).collect();
                distinct.sort_by(f64::total_cmp);
                distinct.dedup();
                // A handful of choices are named themselves.
                let ticks = if distinct.len() <= FEW {
                    distinct.into_iter().map(|value| (value, number(value))).collect()
                } else {
                    range.ticks(6, distinct.iter().all(|value| value.fract() == 0.0))
                };
                let ticks = ticks.into_iter().map(|(value, label)| (range.share(value), label));
                (values.iter().map(place).collect(), ticks.collect())
            }
            AxisValues::Names(names) => {
                let mut distinct: Vec<&String> = names.iter().collect();
                distinct.sort();
                distinct.dedup();
                let place = |name: &String| {
                    let index = distinct.iter().position(|other| *other == name).unwrap_or(0);
                    (index as f64 + 0.5) / distinct.len() as f64
                };
                let labels = distinct.iter().map(|name| (place(name), (*name).clone())).collect();
                (names.iter().map(place).collect(), labels)
            }
        }
    }

    /// How far apart, in logical pixels, runs of the same value are drawn in all; 0 where values are rarely the same.
    fn band(&self, height: f32) -> f32 {
        match &self.values {
            AxisValues::Names(names) => {
                let distinct = names.iter().collect::<BTreeSet<_>>().len().max(1);
                (0.6 * height / distinct as f32).min(80.0)
            }
            AxisValues::Numbers { values, .. } => {
                let distinct = values.iter().map(|value| value.to_bits()).collect::<BTreeSet<_>>().len();
                if 2 * distinct <= values.len() { 24.0 } else { 0.0 }
            }
        }
    }

    /// What a run has, in few signs.
    fn value(&self, run: usize) -> String {
        match &self.values {
            AxisValues::Numbers { values, .. } => number(values[run]),
            AxisValues::Names(names) => names[run].clone(),
        }
    }
}

/// So many values are choices, and are named themselves.
const FEW: usize = 5;

const BEST_COLOR: Color = Color::VERMILION;

/// Draws the lines, the better the darker and the further in front; the best is thick, and its values stand below.
///
/// # Errors
/// [`Error::Operand`] where there are fewer than 2 axes or they differ in the number of runs.
pub fn parallel_coordinates(plot: &ParallelPlot) -> Result<Picture> {
    let ParallelPlot { title, axes, best } = plot;
    let lengths: Vec<usize> = axes.iter().map(ParallelAxis::len).collect();
    if axes.len() < 2 || lengths.iter().any(|len| *len != lengths[0]) {
        let expected = "at least 2 axes with a value for each run";
        return Err(Error::operand("parallel_coordinates", expected, format!("axes of {lengths:?} values")));
    }
    let places: Vec<_> = axes.iter().map(ParallelAxis::places).collect();
    // 1 is the best of the axis; a run that failed has none.
    let merit = |run: usize| {
        let share = places[axes.len() - 1].0[run];
        if *best == Best::Highest { share } else { 1.0 - share }
    };
    let (mut scored, failed): (Vec<usize>, Vec<usize>) = (0..lengths[0]).partition(|&run| merit(run).is_finite());
    // The best last, and so in front; of equals the first.
    scored.sort_by(|&a, &b| merit(a).total_cmp(&merit(b)).then(b.cmp(&a)));

    let labels = |index: usize| places[index].1.iter().map(|(_, label)| TICK.width(label));
    let left = (labels(0).fold(0.0, f32::max) + 44.0).clamp(80.0, 220.0);
    // The best's value below the first axis stands beside the word "best".
    let value = scored.last().map_or(0.0, |&winner| LABEL.bold().width(&axes[0].value(winner)));
    let left = left.max(20.0 + LABEL.width("best") + 12.0 + value.min(160.0) / 2.0);
    let right = (labels(axes.len() - 1).fold(0.0, f32::max) + 50.0).max(80.0);
    let between = ((900.0 - left - right) / (axes.len() - 1) as f32).max(160.0);
    let area = Rect { x: left, y: 92.0, width: between * (axes.len() - 1) as f32, height: 380.0 };
    let below = if failed.is_empty() { 34.0 } else { 64.0 };
    let mut canvas = Canvas::new(area.right() + right, area.bottom() + below + 28.0);
    canvas.text(&TITLE.fit(title, area.right() + right - 40.0), (20.0, 32.0), TITLE);
    let axis_x = |index: usize| area.x + between * index as f32;
    let axis_y = |share: f64| area.bottom() - share as f32 * area.height;
    let offsets: Vec<Vec<f32>> = axes
        .iter()
        .zip(&places)
        .map(|(axis, (shares, _))| spread(shares, &places[axes.len() - 1].0, axis.band(area.height)))
        .collect();
    let at =
        |run: usize, index: usize| -> Point { (axis_x(index), axis_y(places[index].0[run]) + offsets[index][run]) };
    let line = |run: usize| -> Vec<Point> { (0..axes.len()).map(|index| at(run, index)).collect() };

    let failed_y = area.bottom() + 26.0;
    for &run in &failed {
        let mut line = line(run);
        line[axes.len() - 1].1 = failed_y;
        canvas.stroke_dashed(&smooth(&line), 1.4, Color::GREY.fade(0.6));
    }
    for &run in &scored {
        let color = map_color((1.0 - merit(run)) * 0.92).fade(0.85);
        canvas.stroke(&smooth(&line(run)), 2.0, color);
    }
    if let Some(&winner) = scored.last() {
        let line = line(winner);
        canvas.stroke(&smooth(&line), 7.0, Color::WHITE.fade(0.9));
        canvas.stroke(&smooth(&line), 3.8, BEST_COLOR);
    }

    for (index, axis) in axes.iter().enumerate() {
        let (x, is_last) = (axis_x(index), index + 1 == axes.len());
        if is_last {
            // The axis says what the colours mean.
            let strip = Rect { x: x - 4.0, y: area.y, width: 8.0, height: area.height };
            let rows = area.height as usize;
            canvas.pixels(strip, 1, rows, |_, row| {
                let down = (row as f64 + 0.5) / rows as f64;
                map_color(0.92 * if *best == Best::Highest { down } else { 1.0 - down }).rgb
            });
        } else {
            canvas.stroke(&[(x, area.y), (x, area.bottom())], 1.4, Color::BLACK);
        }
        let name = LABEL.align(Align::Center).bold();
        canvas.text(&fit_name(&axis.name, name, between - 14.0), (x, area.y - 18.0), name);
        let mut last_y = f32::INFINITY;
        for (share, label) in &places[index].1 {
            let y = axis_y(*share);
            // From the bottom up; what would run into the label below is left out.
            if last_y - y < 15.0 {
                continue;
            }
            last_y = y;
            // Above the best's line, not on it.
            let is_crossed =
                index > 0 && !is_last && scored.last().is_some_and(|&best| (at(best, index).1 - y).abs() < 10.0);
            let label_y = if is_crossed { at(scored[scored.len() - 1], index).1 - 13.0 } else { y };
            let side = if index == 0 { Side::Left } else { Side::Right { is_last, between } };
            tick(&mut canvas, (x, y), label_y, label, side);
        }
        if let Some(&winner) = scored.last() {
            canvas.circle(at(winner, index), 5.5, Color::WHITE);
            canvas.circle(at(winner, index), 4.2, BEST_COLOR);
            let style = LABEL.align(Align::Center).bold().color(BEST_COLOR);
            canvas.text(&style.fit(&axis.value(winner), between - 14.0), (x, area.bottom() + below), style);
        }
    }
    if !scored.is_empty() {
        canvas.text("best", (20.0, area.bottom() + below), LABEL.color(BEST_COLOR));
    }
    if !failed.is_empty() {
        let text = format!("failed ({})", failed.len());
        canvas.circle((axis_x(axes.len() - 1), failed_y), 3.5, Color::GREY);
        canvas.text_middle(&text, (axis_x(axes.len() - 1) + 11.0, failed_y), TICK);
    }
    Ok(canvas.finish())
}

/// The vertical offset of each run in logical pixels, downwards, so that runs with the same value lie side by side
/// instead of on top of each other: the higher the metric, the higher up.
fn spread(shares: &[f64], scores: &[f64], band: f32) -> Vec<f32> {
    const APART: f32 = 4.0;
    let mut offsets = vec![0.0; shares.len()];
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| shares[a].total_cmp(&shares[b]).then(scores[b].total_cmp(&scores[a])));
    for equal in order.chunk_by(|&a, &b| shares[a] == shares[b]) {
        let apart = APART.min(band / equal.len() as f32);
        for (place, &run) in equal.iter().enumerate() {
            offsets[run] = (place as f32 - (equal.len() - 1) as f32 / 2.0) * apart;
        }
    }
    offsets
}

/// On which side of its axis a label stands.
#[derive(Clone, Copy)]
enum Side {
    /// Where no lines are.
    Left,
    /// Among the lines, unless the axis is the last.
    Right { is_last: bool, between: f32 },
}

/// A tick at a point of an axis, and its label at a height of its own.
fn tick(canvas: &mut Canvas, (x, y): Point, label_y: f32, label: &str, side: Side) {
    let style = TICK.color(Color::BLACK);
    match side {
        Side::Left => {
            canvas.stroke(&[(x - 5.0, y), (x, y)], 1.2, Color::BLACK);
            canvas.text_middle(&style.fit(label, x - 20.0), (x - 10.0, label_y), style.align(Align::Right));
        }
        Side::Right { is_last, between } => {
            let start = if is_last { x + 4.0 } else { x };
            canvas.stroke(&[(start, y), (start + 5.0, y)], 1.2, Color::BLACK);
            let label = if is_last { label.to_owned() } else { style.fit(label, between * 0.7) };
            if !is_last {
                let backdrop =
                    Rect { x: start + 8.0, y: label_y - 8.5, width: style.width(&label) + 5.0, height: 17.0 };
                canvas.fill_rect(backdrop, Color::WHITE.fade(0.8));
            }
            canvas.text_middle(&label, (start + 10.0, label_y), style);
        }
    }
}

/// A dotted name without its first parts where they do not fit: the last says most.
fn fit_name(name: &str, style: TextStyle, width: f32) -> String {
    let mut shown = name.to_owned();
    let mut rest = name;
    while style.width(&shown) > width
        && let Some((_, inner)) = rest.split_once('.')
    {
        rest = inner;
        shown = format!("….{rest}");
    }
    style.fit(&shown, width)
}

/// Gentle curves between axes: lines that cross at one axis can be followed to the other side.
fn smooth(line: &[Point]) -> Vec<Point> {
    const PIECES: usize = 24;
    let mut points = Vec::new();
    for pair in line.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        for piece in 0..=PIECES {
            let part = piece as f32 / PIECES as f32;
            let eased = part * part * (3.0 - 2.0 * part);
            points.push((x0 + (x1 - x0) * part, y0 + (y1 - y0) * eased));
        }
    }
    points
}
