//! The surface of a loss as coloured levels with the paths that training took across it, alone or many in a grid.

use super::axes::{Frame, LABEL, LineStyle, Range, TICK, TITLE, legend, number};
use super::canvas::{Align, Canvas, Point, Rect};
use super::color::{Color, map_color};
use super::picture::Picture;
use super::plots::Series;
use crate::{Error, Result};

const LEVELS: usize = 14;
/// Beside a surface: room for the scale.
const RIGHT: f32 = 120.0;
const LEFT: f32 = 84.0;

/// Numbers over a grid, with the path that parameters took across it: the surface of a loss.
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
    /// Paths across, each drawn from its first point to its last.
    pub paths: Vec<Series>,
    /// A point to mark with a star, such as the minimum.
    pub minimum: Option<(f64, f64)>,
    /// Whether levels rise by factors, which shows what lies around a minimum.
    pub log_levels: bool,
}

/// The surface as coloured levels with lines between them, a scale, and the paths across.
///
/// # Errors
/// [`Error::Operand`] where there are fewer than 2 rows or columns, or not as many values as the grid has points.
pub fn contour_plot(plot: &ContourPlot) -> Result<Picture> {
    check(plot)?;
    let scale = Scale::of([plot]);
    let names: Vec<(&str, LineStyle)> = plot
        .paths
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.name.is_empty())
        .map(|(index, path)| (path.name.as_str(), LineStyle { color: path_color(index), is_dashed: false }))
        .collect();
    let width = 760.0;
    let head = 38.0 + legend(None, (LEFT, 0.0), width - LEFT - RIGHT, &names) + 8.0;
    let area = Rect { x: LEFT, y: head, width: width - LEFT - RIGHT, height: 520.0 };
    let mut canvas = Canvas::new(width, head + area.height + 62.0);
    canvas.text(&TITLE.fit(&plot.title, width - LEFT - 10.0), (LEFT, 26.0), TITLE);
    legend(Some(&mut canvas), (LEFT, 34.0), area.width, &names);
    draw(&mut canvas, plot, area, &scale);
    draw_scale(&mut canvas, area, &scale);
    Ok(canvas.finish())
}

/// Surfaces in a grid of `columns`, each under its title, all in the colours of one scale, so that they compare.
///
/// # Errors
/// As [`contour_plot`]; [`Error::Operand`] where there are no plots.
pub fn contour_grid(title: &str, plots: &[ContourPlot], columns: usize) -> Result<Picture> {
    if plots.is_empty() || columns == 0 {
        return Err(Error::operand("contour_grid", "at least one plot and one column", "none"));
    }
    plots.iter().try_for_each(check)?;
    let scale = Scale::of(plots);
    let (side, gap, head) = ((228.0, 176.0), (78.0, 84.0), 72.0);
    let columns = columns.min(plots.len());
    let rows = plots.len().div_ceil(columns);
    let across = columns as f32 * (side.0 + gap.0);
    let mut canvas =
        Canvas::new((across + RIGHT - 22.0).max(TITLE.width(title) + 40.0), head + rows as f32 * (side.1 + gap.1));
    canvas.text(title, (20.0, 28.0), TITLE);
    for (index, plot) in plots.iter().enumerate() {
        let (column, row) = ((index % columns) as f32, (index / columns) as f32);
        let (x, y) = (gap.0 + column * (side.0 + gap.0), head + row * (side.1 + gap.1));
        let area = Rect { x, y, width: side.0, height: side.1 };
        canvas.text(&LABEL.fit(&plot.title, side.0), (area.center().0, y - 9.0), LABEL.align(Align::Center));
        draw(&mut canvas, plot, area, &scale);
    }
    let height = rows as f32 * (side.1 + gap.1) - gap.1;
    draw_scale(&mut canvas, Rect { x: gap.0, y: head, width: across - gap.0, height }, &scale);
    Ok(canvas.finish())
}

fn check(plot: &ContourPlot) -> Result<()> {
    let (columns, rows) = (plot.xs.len(), plot.ys.len());
    if columns < 2 || rows < 2 || plot.values.len() != columns * rows {
        let got = format!("{columns} columns, {rows} rows, {} values", plot.values.len());
        return Err(Error::operand("contour_plot", "a value for each of at least 2×2 grid points", got));
    }
    Ok(())
}

/// The values that the colours stand for.
struct Scale {
    bottom: f64,
    top: f64,
    is_log: bool,
}

impl Scale {
    fn of<'a>(plots: impl IntoIterator<Item = &'a ContourPlot>) -> Scale {
        let (mut low, mut high, mut is_log) = (f64::INFINITY, f64::NEG_INFINITY, true);
        for plot in plots {
            is_log &= plot.log_levels;
            for &value in plot.values.iter().filter(|value| value.is_finite() && (!plot.log_levels || **value > 0.0)) {
                (low, high) = (low.min(value), high.max(value));
            }
        }
        let (low, high) = if low < high { (low, high) } else { (0.5, 1.5) };
        let shown = |value: f64| if is_log { value.ln() } else { value };
        Scale { bottom: shown(low), top: shown(high), is_log }
    }

    /// Where a value lies, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let shown = if self.is_log { value.max(f64::MIN_POSITIVE).ln() } else { value };
        ((shown - self.bottom) / (self.top - self.bottom)).clamp(0.0, 1.0)
    }

    fn value(&self, share: f64) -> f64 {
        let shown = self.bottom + share * (self.top - self.bottom);
        if self.is_log { shown.exp() } else { shown }
    }
}

/// Draws the surface, its axes, its paths and its minimum.
fn draw(canvas: &mut Canvas, plot: &ContourPlot, area: Rect, scale: &Scale) {
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
    frame.draw(canvas);
    // Two samples for each logical pixel.
    let samples = ((area.width * 2.0) as usize, (area.height * 2.0) as usize);
    canvas.pixels(area, samples.0, samples.1, |column, row| {
        let x = frame.x.low + (column as f64 + 0.5) / samples.0 as f64 * (frame.x.high - frame.x.low);
        let y = frame.y.high - (row as f64 + 0.5) / samples.1 as f64 * (frame.y.high - frame.y.low);
        let level = (scale.share(interpolate(plot, x, y)) * LEVELS as f64).floor().min(LEVELS as f64 - 1.0);
        map_color(1.0 - (level + 0.5) / LEVELS as f64).rgb
    });
    let shares: Vec<f64> = plot.values.iter().map(|&value| scale.share(value)).collect();
    for level in 1..LEVELS {
        for (a, b) in iso_lines(&shares, plot, level as f64 / LEVELS as f64) {
            canvas.stroke(&[frame.point(a.0, a.1), frame.point(b.0, b.1)], 0.8, Color::WHITE.fade(0.55));
        }
    }
    for (index, path) in plot.paths.iter().enumerate() {
        draw_path(canvas, &frame, path, path_color(index));
    }
    if let Some((x, y)) = plot.minimum {
        star(canvas, frame.point(x, y));
    }
}

/// Colours that stand out from the map's blue and yellow.
fn path_color(index: usize) -> Color {
    let colors = [0xd4_1f_1f, 0x1a_1a_1a, 0x00_d0_c0, 0xff_66_ff, 0x6a_1b_9a];
    Color::hex(colors[index % colors.len()])
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

fn draw_scale(canvas: &mut Canvas, area: Rect, scale: &Scale) {
    let bar = Rect { x: area.right() + 22.0, y: area.y, width: 18.0, height: area.height };
    canvas.pixels(bar, 1, LEVELS, |_, row| map_color((row as f64 + 0.5) / LEVELS as f64).rgb);
    for level in (0..=LEVELS).step_by(2) {
        let share = level as f64 / LEVELS as f64;
        let y = bar.bottom() - share as f32 * bar.height;
        canvas.stroke(&[(bar.right(), y), (bar.right() + 4.0, y)], 1.0, Color::GREY);
        canvas.text_middle(&number(scale.value(share)), (bar.right() + 8.0, y), TICK);
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
