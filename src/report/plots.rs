//! Charts of numbers, as pictures: lines, the surface of a loss, histograms. Every
//! function is pure: plain data to a [`Picture`].

use super::axes::{Frame, LABEL, LineStyle, Range, TICK, TITLE, legend, number};
pub use super::canvas::Picture;
use super::canvas::{Align, Canvas, Color, Point, Rect, TextStyle, line_color, line_is_dashed, map_color};

const WIDTH: f32 = 860.0;

/// A named line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The name in the legend; a line without one is not in it.
    pub name: String,
    /// (x, y); a value that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A line through y at x = `first`, `first` + 1, …
    pub fn counted(name: impl Into<String>, first: u64, values: impl IntoIterator<Item = f64>) -> Series {
        Series { name: name.into(), points: (first..).map(|x| x as f64).zip(values).collect() }
    }
}

/// A point that is marked and named, such as the best epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// Where.
    pub y: f64,
    /// What is written beside it.
    pub text: String,
}

/// Lines in one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinePlot {
    /// What stands above.
    pub title: String,
    /// What x is.
    pub x_label: String,
    /// What y is.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Whether y is logarithmic; values of 0 and below are not drawn then.
    pub log_y: bool,
    /// Whether x counts something, so that no fractions are labelled.
    pub whole_x: bool,
    /// Whether y stays as it is until the next x, as a learning rate does.
    pub stepped: bool,
    /// Points to mark.
    pub marks: Vec<Mark>,
    /// Points to draw as dots, such as the data that a line was fitted to.
    pub dots: Vec<(f64, f64)>,
}

/// Lines in one frame, as a picture of their own.
pub fn line_plot(plot: &LinePlot) -> Picture {
    stacked_plots(&[(plot, 360.0)])
}

/// Frames one below the other, each with its height.
pub(super) fn stacked_plots(plots: &[(&LinePlot, f32)]) -> Picture {
    let heights: Vec<f32> = plots.iter().map(|(plot, height)| height + head_height(plot) + 62.0).collect();
    let mut canvas = Canvas::new(WIDTH, heights.iter().sum());
    let mut top = 0.0;
    for ((plot, area_height), height) in plots.iter().zip(&heights) {
        draw_lines(&mut canvas, plot, top, *area_height);
        top += height;
    }
    canvas.finish()
}

const LEFT: f32 = 84.0;
const RIGHT: f32 = 30.0;

fn entries(plot: &LinePlot) -> Vec<(&str, LineStyle)> {
    let style = |index| LineStyle { color: line_color(index), is_dashed: line_is_dashed(index) };
    let all = plot.series.iter().enumerate().map(|(index, series)| (series.name.as_str(), style(index)));
    all.filter(|(name, _)| !name.is_empty()).collect()
}

/// The height of title and legend.
fn head_height(plot: &LinePlot) -> f32 {
    let title = if plot.title.is_empty() { 14.0 } else { 38.0 };
    title + legend(None, (LEFT, 0.0), WIDTH - LEFT - RIGHT, &entries(plot)) + 8.0
}

fn draw_lines(canvas: &mut Canvas, plot: &LinePlot, top: f32, height: f32) {
    let points = || plot.series.iter().flat_map(|series| &series.points).chain(&plot.dots);
    let x_values = points().map(|point| point.0).filter(|x| x.is_finite());
    let (low, high) = x_values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
    let x = if low <= high { Range::exact(low, high) } else { Range::exact(0.0, 1.0) };
    let frame = Frame {
        area: Rect { x: LEFT, y: top + head_height(plot), width: WIDTH - LEFT - RIGHT, height },
        x,
        y: Range::around(points().map(|point| point.1), plot.log_y),
        title: &plot.title,
        x_label: &plot.x_label,
        y_label: &plot.y_label,
        x_is_whole: plot.whole_x,
    };
    canvas.text(&TITLE.fit(frame.title, frame.area.width), (LEFT, top + 26.0), TITLE);
    let title = if plot.title.is_empty() { 10.0 } else { 34.0 };
    legend(Some(canvas), (LEFT, top + title), frame.area.width, &entries(plot));
    frame.draw(canvas);
    for &(x, y) in &plot.dots {
        let (x, y) = frame.point(x, y);
        canvas.circle((x, y), 3.5, Color::GREY.fade(0.6));
    }
    for (index, series) in plot.series.iter().enumerate() {
        let place = |&(x, y): &(f64, f64)| {
            if y.is_finite() && (!plot.log_y || y > 0.0) { frame.point(x, y) } else { (f32::NAN, f32::NAN) }
        };
        let at: Vec<Point> = series.points.iter().map(place).collect();
        let corners = |pair: &[Point]| [pair[0], (pair[1].0, pair[0].1)];
        let mut line = at.clone();
        if plot.stepped {
            line = at.windows(2).flat_map(corners).chain(at.last().copied()).collect();
        }
        if line_is_dashed(index) {
            canvas.stroke_dashed(&line, 2.2, line_color(index));
        } else {
            canvas.stroke(&line, 2.2, line_color(index));
        }
        // Few points are worth seeing one by one, and a single one is no line at all.
        if at.len() <= 40 {
            at.iter().filter(|point| point.1.is_finite()).for_each(|&at| canvas.circle(at, 3.0, line_color(index)));
        }
    }
    for mark in &plot.marks {
        draw_mark(canvas, &frame, mark);
    }
}

/// A ring at the point, a dashed line through it, and the text beside it on the side with more room.
fn draw_mark(canvas: &mut Canvas, frame: &Frame<'_>, mark: &Mark) {
    let (x, y) = frame.point(mark.x, mark.y);
    let area = frame.area;
    if !((area.x..=area.right()).contains(&x) && (area.y..=area.bottom()).contains(&y)) {
        return;
    }
    canvas.stroke_dashed(&[(x, area.y), (x, area.bottom())], 1.2, Color::GREY);
    canvas.circle((x, y), 6.5, Color::BLACK);
    canvas.circle((x, y), 4.3, Color::WHITE);
    let style = TICK.color(Color::BLACK);
    let half_height = 10.0;
    let is_right = x + 12.0 + style.width(&mark.text) < area.right();
    // Beside the dashed line, and in the half of the frame where the point is not.
    let text_y = if y > area.y + area.height / 2.0 { area.y + half_height } else { area.bottom() - half_height };
    let (text_x, align) = if is_right { (x + 8.0, Align::Left) } else { (x - 8.0, Align::Right) };
    let width = style.width(&mark.text);
    let left = if is_right { text_x - 3.0 } else { text_x - width - 3.0 };
    let backdrop = Rect { x: left, y: text_y - 9.0, width: width + 6.0, height: 18.0 };
    canvas.fill_rect(backdrop, Color::WHITE.fade(0.85));
    canvas.text_middle(&mark.text, (text_x, text_y), style.align(align));
}

/// Numbers over a grid, with the way that parameters took across it: the surface of a loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContourPlot {
    /// What stands above.
    pub title: String,
    /// What x is.
    pub x_label: String,
    /// What y is.
    pub y_label: String,
    /// The grid's columns, rising.
    pub xs: Vec<f64>,
    /// The grid's rows, rising.
    pub ys: Vec<f64>,
    /// The value at each row and column, row by row.
    pub values: Vec<f64>,
    /// Ways across, each drawn from its first point to its last.
    pub paths: Vec<Series>,
    /// A point to mark with a star, such as the minimum.
    pub minimum: Option<(f64, f64)>,
    /// Whether levels rise by factors, which shows what lies around a minimum.
    pub log_levels: bool,
}

/// The surface as coloured levels with lines between them, a scale, and the ways across.
///
/// # Errors
/// [`crate::Error::Operand`] where there are fewer than 2 rows or columns, or not as many values as the grid has points.
pub fn contour_plot(plot: &ContourPlot) -> crate::Result<Picture> {
    let (columns, rows) = (plot.xs.len(), plot.ys.len());
    if columns < 2 || rows < 2 || plot.values.len() != columns * rows {
        let got = format!("{columns} columns, {rows} rows, {} values", plot.values.len());
        return Err(crate::Error::operand("contour_plot", "a value for each of at least 2×2 grid points", got));
    }
    let shown = |value: f64| if plot.log_levels { value.max(f64::MIN_POSITIVE).ln() } else { value };
    let finite = || plot.values.iter().copied().filter(|value| value.is_finite() && (!plot.log_levels || *value > 0.0));
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low < high { (low, high) } else { (0.5, 1.5) };
    let (bottom, top) = (shown(low), shown(high));
    let share = |value: f64| ((shown(value) - bottom) / (top - bottom)).clamp(0.0, 1.0);
    const LEVELS: usize = 14;

    let names: Vec<(&str, LineStyle)> = plot
        .paths
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.name.is_empty())
        .map(|(index, path)| (path.name.as_str(), LineStyle { color: path_color(index), is_dashed: false }))
        .collect();
    let width = 760.0;
    let (left, right) = (LEFT, 120.0);
    let head = 38.0 + legend(None, (left, 0.0), width - left - right, &names) + 8.0;
    let area = Rect { x: left, y: head, width: width - left - right, height: 520.0 };
    let mut canvas = Canvas::new(width, head + area.height + 62.0);
    let range = |values: &[f64]| Range::exact(values[0], values[values.len() - 1]);
    let frame = Frame {
        area,
        x: range(&plot.xs),
        y: range(&plot.ys),
        title: &plot.title,
        x_label: &plot.x_label,
        y_label: &plot.y_label,
        x_is_whole: false,
    };
    canvas.text(&TITLE.fit(frame.title, width - left - 10.0), (left, 26.0), TITLE);
    legend(Some(&mut canvas), (left, 34.0), area.width, &names);
    frame.draw(&mut canvas);
    // Two samples for each logical pixel.
    let samples = ((area.width * 2.0) as usize, (area.height * 2.0) as usize);
    canvas.pixels(area, samples.0, samples.1, |column, row| {
        let x = frame.x.low + (column as f64 + 0.5) / samples.0 as f64 * (frame.x.high - frame.x.low);
        let y = frame.y.high - (row as f64 + 0.5) / samples.1 as f64 * (frame.y.high - frame.y.low);
        let level = (share(interpolate(plot, x, y)) * LEVELS as f64).floor().min(LEVELS as f64 - 1.0);
        map_color(1.0 - (level + 0.5) / LEVELS as f64).rgb
    });
    for level in 1..LEVELS {
        let shares: Vec<f64> = plot.values.iter().map(|&value| share(value)).collect();
        for (a, b) in iso_lines(&shares, plot, level as f64 / LEVELS as f64) {
            canvas.stroke(&[frame.point(a.0, a.1), frame.point(b.0, b.1)], 0.8, Color::WHITE.fade(0.55));
        }
    }
    draw_scale(&mut canvas, area, LEVELS, |share| {
        let value = bottom + share * (top - bottom);
        if plot.log_levels { value.exp() } else { value }
    });
    for (index, path) in plot.paths.iter().enumerate() {
        draw_path(&mut canvas, &frame, path, path_color(index));
    }
    if let Some((x, y)) = plot.minimum {
        star(&mut canvas, frame.point(x, y));
    }
    Ok(canvas.finish())
}

/// Colours that stand out from the map's blue and yellow.
fn path_color(index: usize) -> Color {
    [Color::hex(0xd4_1f_1f), Color::BLACK, Color::hex(0x00_d0_c0), Color::hex(0xff_66_ff), Color::WHITE][index % 5]
}

fn draw_path(canvas: &mut Canvas, frame: &Frame<'_>, path: &Series, color: Color) {
    let inside = |x: f64, y: f64| (0.0..=1.0).contains(&frame.x.share(x)) && (0.0..=1.0).contains(&frame.y.share(y));
    let place = |&(x, y): &(f64, f64)| if inside(x, y) { frame.point(x, y) } else { (f32::NAN, f32::NAN) };
    let line: Vec<Point> = path.points.iter().map(place).collect();
    canvas.stroke(&line, 3.6, Color::WHITE.fade(0.7));
    canvas.stroke(&line, 2.0, color);
    let visible = |at: &&Point| at.0.is_finite();
    if line.len() <= 200 {
        line.iter().filter(visible).for_each(|&at| canvas.circle(at, 2.6, color));
    }
    if let Some(&start) = line.first().filter(visible) {
        canvas.circle(start, 6.5, Color::WHITE);
        canvas.circle(start, 4.5, color);
    }
}

fn star(canvas: &mut Canvas, (x, y): Point) {
    let shape = |radius: f32| -> Vec<Point> {
        let corner = |index: usize| {
            let radius = if index.is_multiple_of(2) { radius } else { radius * 0.42 };
            let (sin, cos) = (index as f32 * std::f32::consts::PI / 5.0).sin_cos();
            (x + radius * sin, y - radius * cos)
        };
        (0..10).map(corner).collect()
    };
    canvas.fill_polygon(&shape(13.0), Color::WHITE);
    canvas.fill_polygon(&shape(10.0), Color::BLACK);
}

fn draw_scale(canvas: &mut Canvas, area: Rect, levels: usize, value: impl Fn(f64) -> f64) {
    let bar = Rect { x: area.right() + 22.0, y: area.y, width: 18.0, height: area.height };
    canvas.pixels(bar, 1, levels, |_, row| map_color((row as f64 + 0.5) / levels as f64).rgb);
    for level in (0..=levels).step_by(2) {
        let share = level as f64 / levels as f64;
        let y = bar.bottom() - share as f32 * bar.height;
        canvas.stroke(&[(bar.right(), y), (bar.right() + 4.0, y)], 1.0, Color::GREY);
        canvas.text_middle(&number(value(share)), (bar.right() + 8.0, y), TICK);
    }
}

/// The value between grid points, each corner by its nearness.
fn interpolate(plot: &ContourPlot, x: f64, y: f64) -> f64 {
    let place = |values: &[f64], at: f64| {
        let above = values.partition_point(|&value| value <= at).clamp(1, values.len() - 1);
        let (low, high) = (values[above - 1], values[above]);
        (above - 1, ((at - low) / (high - low)).clamp(0.0, 1.0))
    };
    let ((column, right), (row, up)) = (place(&plot.xs, x), place(&plot.ys, y));
    let at = |row: usize, column: usize| plot.values[row * plot.xs.len() + column];
    let lower = at(row, column) * (1.0 - right) + at(row, column + 1) * right;
    let upper = at(row + 1, column) * (1.0 - right) + at(row + 1, column + 1) * right;
    lower * (1.0 - up) + upper * up
}

type Line = ((f64, f64), (f64, f64));

/// Where the grid's values pass `level`: marching over its triangles (two a cell), which leaves no case in doubt.
fn iso_lines(values: &[f64], plot: &ContourPlot, level: f64) -> Vec<Line> {
    let columns = plot.xs.len();
    let corner = |row: usize, column: usize| (plot.xs[column], plot.ys[row], values[row * columns + column]);
    let mut lines = Vec::new();
    for row in 0..plot.ys.len() - 1 {
        for column in 0..columns - 1 {
            let (a, b) = (corner(row, column), corner(row, column + 1));
            let (c, d) = (corner(row + 1, column), corner(row + 1, column + 1));
            for triangle in [[a, b, c], [b, d, c]] {
                let mut crossings = Vec::new();
                for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                    let (from, to) = (triangle[from], triangle[to]);
                    if (from.2 < level) != (to.2 < level) {
                        let part = (level - from.2) / (to.2 - from.2);
                        crossings.push((from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1)));
                    }
                }
                if let [a, b] = crossings[..] {
                    lines.push((a, b));
                }
            }
        }
    }
    lines
}

/// A named set of numbers of which only the distribution matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name above its histogram.
    pub name: String,
    /// The numbers; those that are not finite are counted apart.
    pub values: Vec<f32>,
}

/// Histograms in rows, each row with a name and one range of x for all of it, so that its histograms compare. Mean and
/// standard deviation are written above each.
pub fn histogram_rows(title: &str, rows: &[(String, Vec<Sample>)]) -> Picture {
    let columns = rows.iter().map(|(_, samples)| samples.len()).max().unwrap_or(0).max(1);
    let cell = ((WIDTH - 60.0) / columns as f32).clamp(118.0, 240.0);
    let (row_height, head) = (178.0, 46.0);
    let width = (60.0 + cell * columns as f32).max(TITLE.width(title) + 40.0);
    let mut canvas = Canvas::new(width, head + row_height * rows.len() as f32 + 8.0);
    canvas.text(title, (20.0, 28.0), TITLE);
    for (row, (name, samples)) in rows.iter().enumerate() {
        let top = head + row as f32 * row_height;
        canvas.text_middle(name, (20.0, top + row_height / 2.0 - 6.0), LABEL.align(Align::Center).bold().upward());
        let all = || samples.iter().flat_map(|sample| &sample.values).map(|&value| f64::from(value));
        let range = Range::around(all(), false);
        for (column, sample) in samples.iter().enumerate() {
            let area = Rect { x: 44.0 + column as f32 * cell, y: top + 40.0, width: cell - 14.0, height: 98.0 };
            draw_histogram(&mut canvas, area, range, sample, line_color(row));
        }
    }
    canvas.finish()
}

fn draw_histogram(canvas: &mut Canvas, area: Rect, range: Range, sample: &Sample, color: Color) {
    const BINS: usize = 40;
    let mut counts = [0_usize; BINS];
    let finite = || sample.values.iter().map(|&value| f64::from(value)).filter(|value| value.is_finite());
    for value in finite() {
        let bin = (range.share(value) * BINS as f64).clamp(0.0, BINS as f64 - 1.0) as usize;
        counts[bin] += 1;
    }
    let num = finite().count().max(1) as f64;
    let mean = finite().sum::<f64>() / num;
    let std = (finite().map(|value| (value - mean).powi(2)).sum::<f64>() / num).sqrt();
    let (middle, _) = area.center();
    canvas.text(&LABEL.fit(&sample.name, area.width), (middle, area.y - 20.0), LABEL.align(Align::Center));
    let small = TextStyle::new(11.5).color(Color::GREY).align(Align::Center);
    // Rounded first, so that what rounds to 0 has no sign.
    let mean = format!("{:.2}", (mean * 100.0).round() / 100.0 + 0.0).replace('-', "−");
    let std = format!("{std:.2}");
    canvas.text(&format!("{mean} ± {std}"), (middle, area.y - 5.0), small);
    let highest = counts.iter().copied().max().unwrap_or(0).max(1) as f32;
    let bar = area.width / BINS as f32;
    for (bin, &count) in counts.iter().enumerate() {
        let height = area.height * count as f32 / highest;
        let rect = Rect { x: area.x + bin as f32 * bar, y: area.bottom() - height, width: bar, height };
        canvas.fill_rect(rect, color.fade(0.85));
    }
    if (0.0..=1.0).contains(&range.share(0.0)) {
        let x = area.x + range.share(0.0) as f32 * area.width;
        canvas.stroke_dashed(&[(x, area.y), (x, area.bottom())], 1.0, Color::GREY);
    }
    canvas.stroke(&[(area.x, area.bottom()), (area.right(), area.bottom())], 1.0, Color::GREY);
    for (value, label) in range.ticks((area.width / 32.0).max(3.0) as usize, false) {
        let x = area.x + range.share(value) as f32 * area.width;
        canvas.stroke(&[(x, area.bottom()), (x, area.bottom() + 3.0)], 1.0, Color::GREY);
        canvas.text(&label, (x, area.bottom() + 15.0), small);
    }
}
