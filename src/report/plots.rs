//! Charts of numbers, as pictures: lines, the surface of a loss ([`contour_plot`]), histograms. Every function is pure:
//! plain data to a [`Picture`].

use super::axes::{Frame, LABEL, LineStyle, Range, TICK, TITLE, legend};
use super::canvas::{Align, Canvas, Point, Rect, TextStyle};
use super::color::{Color, line_color, line_is_dashed};
pub use super::contours::{ContourPlot, contour_grid, contour_plot};
pub use super::picture::Picture;

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
    /// Whether x is logarithmic; values of 0 and below are not drawn then.
    pub log_x: bool,
    /// The same of y.
    pub log_y: bool,
    /// Whether x counts something, so that no fractions are labelled.
    pub whole_x: bool,
    /// Whether y stays as it is until the next x, as a learning rate does.
    pub stepped: bool,
    /// The highest y that there is room for; lines end at it where they go beyond. `None` shows all.
    pub highest: Option<f64>,
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
    let x = match (plot.log_x, low <= high) {
        (true, _) => Range::around(points().map(|point| point.0), true),
        (false, true) => Range::exact(low, high),
        (false, false) => Range::exact(0.0, 1.0),
    };
    let is_shown = |y: &f64| plot.highest.is_none_or(|highest| *y <= highest);
    let frame = Frame {
        area: Rect { x: LEFT, y: top + head_height(plot), width: WIDTH - LEFT - RIGHT, height },
        x,
        y: Range::around(points().map(|point| point.1).filter(is_shown), plot.log_y),
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
            let is_drawn = y.is_finite() && (!plot.log_y || y > 0.0) && (!plot.log_x || x > 0.0);
            if is_drawn { frame.point(x, y) } else { (f32::NAN, f32::NAN) }
        };
        let at: Vec<Point> = series.points.iter().map(place).collect();
        let corners = |pair: &[Point]| [pair[0], (pair[1].0, pair[0].1)];
        let mut line = at.clone();
        if plot.stepped {
            line = at.windows(2).flat_map(corners).chain(at.last().copied()).collect();
        }
        if plot.highest.is_some() {
            line = cut_above(&line, frame.area.y);
        }
        if line_is_dashed(index) {
            canvas.stroke_dashed(&line, 2.2, line_color(index));
        } else {
            canvas.stroke(&line, 2.2, line_color(index));
        }
        // Few points are worth seeing one by one, and a single one is no line at all.
        if at.len() <= 40 {
            let is_seen = |point: &&Point| point.1 >= frame.area.y;
            at.iter().filter(is_seen).for_each(|&at| canvas.circle(at, 3.0, line_color(index)));
        }
    }
    draw_marks(canvas, &frame, &plot.marks);
}

/// The parts of a line from `top` downwards, with gaps between them.
fn cut_above(line: &[Point], top: f32) -> Vec<Point> {
    let mut cut = Vec::new();
    for (index, &(x, y)) in line.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| line[before]);
        if let Some((x0, y0)) = before.filter(|&(_, y0)| y0.is_finite() && y.is_finite() && (y0 < top) != (y < top)) {
            cut.push((x0 + (x - x0) * (top - y0) / (y - y0), top));
        }
        cut.push(if y < top { (f32::NAN, f32::NAN) } else { (x, y) });
    }
    cut
}

/// A ring at each point, a dashed line through it, and the text beside it, on the side with more room and where no other
/// text or ring is.
fn draw_marks(canvas: &mut Canvas, frame: &Frame<'_>, marks: &[Mark]) {
    const RING: f32 = 6.5;
    let area = frame.area;
    let is_inside =
        |&(_, (x, y)): &(&Mark, Point)| (area.x..=area.right()).contains(&x) && (area.y..=area.bottom()).contains(&y);
    let marks: Vec<(&Mark, Point)> =
        marks.iter().map(|mark| (mark, frame.point(mark.x, mark.y))).filter(is_inside).collect();
    for &(_, (x, y)) in &marks {
        canvas.stroke_dashed(&[(x, area.y), (x, area.bottom())], 1.2, Color::GREY);
        canvas.circle((x, y), RING, Color::BLACK);
        canvas.circle((x, y), 4.3, Color::WHITE);
    }
    let ring = |&(_, (x, y)): &(&Mark, Point)| Rect { x: x - RING, y: y - RING, width: 2.0 * RING, height: 2.0 * RING };
    let mut taken: Vec<Rect> = marks.iter().map(ring).collect();
    let style = TICK.color(Color::BLACK);
    for (mark, at) in marks {
        let label = place_label(area, at, style.width(&mark.text), &taken);
        canvas.fill_rect(label, Color::WHITE.fade(0.85));
        canvas.text_middle(&mark.text, (label.x + MARGIN, label.center().1), style);
        taken.push(label);
    }
}

/// What a label has to its left and right.
const MARGIN: f32 = 3.0;

/// Where a label of this width stands: beside the dashed line through `at`, in the half of the area where the point is
/// not, as near to the edge as those that are there leave room.
fn place_label(area: Rect, at: Point, width: f32, taken: &[Rect]) -> Rect {
    const HEIGHT: f32 = 18.0;
    let (x, y) = at;
    let is_right = x + 12.0 + width < area.right();
    // One that fits on neither side stays within the area.
    let left = if is_right { x + 8.0 } else { (x - 8.0 - width).max(area.x + MARGIN) };
    let is_low = y > area.y + area.height / 2.0;
    let (first, step) = if is_low { (area.y + 1.0, HEIGHT + 2.0) } else { (area.bottom() - 19.0, -HEIGHT - 2.0) };
    let row = |index: usize| Rect {
        x: left - MARGIN,
        y: first + index as f32 * step,
        width: width + 2.0 * MARGIN,
        height: HEIGHT,
    };
    let overlaps = |a: &Rect, b: &Rect| a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom();
    // A whole number of rows, few.
    let num_rows = (area.height / (HEIGHT + 2.0)) as usize;
    let free = (0..num_rows).map(row).find(|row| !taken.iter().any(|other| overlaps(row, other)));
    free.unwrap_or_else(|| row(0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_apart_and_within_the_area() {
        let area = Rect { x: 84.0, y: 50.0, width: 746.0, height: 360.0 };
        let points = [(700.0, 100.0), (705.0, 380.0), (710.0, 102.0), (90.0, 390.0), (400.0, 60.0)];
        for width in [40.0, 140.0, 700.0] {
            let mut taken: Vec<Rect> = Vec::new();
            for at in points {
                let label = place_label(area, at, width, &taken);
                assert!(label.x >= area.x && label.right() <= area.right(), "{label:?}");
                assert!(label.y >= area.y && label.bottom() <= area.bottom(), "{label:?}");
                let apart = |other: &Rect| {
                    label.right() <= other.x
                        || other.right() <= label.x
                        || label.bottom() <= other.y
                        || other.bottom() <= label.y
                };
                assert!(taken.iter().all(apart), "{label:?} among {taken:?}");
                taken.push(label);
            }
        }
    }

    #[test]
    fn a_line_is_cut_where_it_leaves_the_area() {
        let nan = f32::NAN;
        let cut = cut_above(&[(0.0, 20.0), (10.0, 0.0), (20.0, -5.0), (30.0, 15.0), (40.0, nan), (50.0, 12.0)], 10.0);
        let want =
            [(0.0, 20.0), (5.0, 10.0), (nan, nan), (nan, nan), (27.5, 10.0), (30.0, 15.0), (40.0, nan), (50.0, 12.0)];
        let bits = |line: &[Point]| line.iter().map(|(x, y)| (x.to_bits(), y.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(&cut), bits(&want), "{cut:?}");
    }
}
