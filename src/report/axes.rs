//! Axes of charts: where values lie on the sheet, round numbers to label, a frame with grid and titles, a legend.

use super::canvas::{Align, Canvas, Point, Rect, TextStyle};
use super::color::Color;

/// The size of text at ticks.
pub(super) const TICK: TextStyle = TextStyle::new(13.0).color(Color::GREY);
/// The size of text that names axes and lines.
pub(super) const LABEL: TextStyle = TextStyle::new(14.0);
/// The size of titles.
pub(super) const TITLE: TextStyle = TextStyle::new(17.0).bold();

/// The values that an axis covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub low: f64,
    pub high: f64,
    pub is_log: bool,
}

impl Range {
    /// A range around finite values, a little wider than they are; 0 to 1 where there are none. On a logarithmic axis
    /// only those above 0 count.
    pub fn around(values: impl Iterator<Item = f64>, is_log: bool) -> Range {
        let usable = values.filter(|value| value.is_finite() && (!is_log || *value > 0.0));
        let (low, high) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Range { low: if is_log { 0.1 } else { 0.0 }, high: 1.0, is_log };
        }
        if is_log {
            let margin = ((high / low).ln() * 0.05).max(0.05).exp();
            return Range { low: low / margin, high: high * margin, is_log };
        }
        let margin = if high > low { (high - low) * 0.05 } else { low.abs().max(1e-3) * 0.1 };
        Range { low: low - margin, high: high + margin, is_log }
    }

    /// A linear range without margin; a little wider where it would be empty.
    pub fn exact(low: f64, high: f64) -> Range {
        if high > low {
            Range { low, high, is_log: false }
        } else {
            Range { low: low - 0.5, high: low + 0.5, is_log: false }
        }
    }

    /// Where a value lies, 0 to 1 within the range.
    pub fn share(&self, value: f64) -> f64 {
        if self.is_log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Round numbers within the range and what to write at them: about `wanted` many, up to two thirds more. `whole` leaves out fractions.
    pub fn ticks(&self, wanted: usize, whole: bool) -> Vec<(f64, String)> {
        if self.is_log {
            return self.log_ticks(wanted);
        }
        let raw = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10_f64.powf(raw.log10().floor());
        let mut step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= raw * 0.6);
        if whole {
            step = step.map(|step| step.max(1.0));
        }
        let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else { return Vec::new() };
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        // At most a few times what was wanted, whatever rounding made of it.
        let numbers = (first..=last).take(4 * wanted + 4);
        numbers.map(|number| (number as f64 * step, tick_label(number as f64 * step, step))).collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let pick = |digits: &[f64], every: usize| -> Vec<(f64, String)> {
            let powers = (first..=last).step_by(every);
            let values = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
            let inside = values.filter(|value| (self.low * 0.999..=self.high * 1.001).contains(value));
            inside.map(|value| (value, number(value))).collect()
        };
        // The finest choice that is not too crowded.
        let choices =
            [pick(&[1.0, 2.0, 3.0, 5.0, 7.0], 1), pick(&[1.0, 2.0, 5.0], 1), pick(&[1.0, 3.0], 1), pick(&[1.0], 1)];
        let fits = choices.into_iter().find(|ticks| ticks.len() <= wanted + 2);
        fits.unwrap_or_else(|| pick(&[1.0], ((last - first) as usize).div_ceil(wanted.max(1)).max(1)))
    }
}

/// A multiple of `step` with as many decimals as the step needs.
fn tick_label(value: f64, step: f64) -> String {
    let magnitude = value.abs().max(step);
    if !(1e-3..1e6).contains(&magnitude) {
        return number(if value.abs() < step / 2.0 { 0.0 } else { value });
    }
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.starts_with('-') && text.trim_start_matches(['-', '0', '.']).is_empty() {
        return text.trim_start_matches('-').to_owned();
    }
    text.replace('-', "−")
}

/// A number in few signs: 0.01, 12.5, 3e−4.
pub(super) fn number(value: f64) -> String {
    let text = if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&value.abs()) {
        let text = format!("{value:.2e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa =
            if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        format!("{mantissa}e{exponent}")
    } else {
        // Four digits that count.
        let decimals = (3 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    text.replace('-', "−")
}

/// A chart's frame: the rectangle that data is drawn in, and what its sides mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub area: Rect,
    pub x: Range,
    pub y: Range,
    pub title: &'a str,
    pub x_label: &'a str,
    pub y_label: &'a str,
    /// Whether x counts something.
    pub x_is_whole: bool,
}

impl Frame<'_> {
    /// Where values lie on the sheet.
    pub fn point(&self, x: f64, y: f64) -> Point {
        let (across, up) = (self.x.share(x), self.y.share(y));
        (self.area.x + across as f32 * self.area.width, self.area.bottom() - up as f32 * self.area.height)
    }

    /// Draws grid, ticks and titles.
    pub fn draw(&self, canvas: &mut Canvas) {
        let area = self.area;
        let mut widest = 0.0_f32;
        for (value, label) in self.y.ticks((area.height / 45.0).max(4.0) as usize, false) {
            let (_, y) = self.point(self.x.low, value);
            canvas.stroke(&[(area.x, y), (area.right(), y)], 1.0, Color::FAINT);
            canvas.text_middle(&label, (area.x - 8.0, y), TICK.align(Align::Right));
            widest = widest.max(TICK.width(&label));
        }
        for (value, label) in self.x.ticks((area.width / 75.0).max(2.0) as usize, self.x_is_whole) {
            let (x, _) = self.point(value, self.y.low);
            canvas.stroke(&[(x, area.y), (x, area.bottom())], 1.0, Color::FAINT);
            canvas.text(&label, (x, area.bottom() + 18.0), TICK.align(Align::Center));
        }
        canvas.stroke(&[(area.x, area.y), (area.x, area.bottom()), (area.right(), area.bottom())], 1.0, Color::GREY);
        let (middle_x, middle_y) = area.center();
        canvas.text(self.x_label, (middle_x, area.bottom() + 38.0), LABEL.align(Align::Center));
        let left = (area.x - 8.0 - widest - 14.0).max(9.0);
        canvas.text_middle(self.y_label, (left, middle_y), LABEL.align(Align::Center).upward());
    }
}

/// The style of a line in a legend and a chart.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineStyle {
    pub color: Color,
    pub is_dashed: bool,
}

/// Draws named lines in rows from `at` on, within `width`, and says how high that is. Without a canvas it only says so.
pub(super) fn legend(mut canvas: Option<&mut Canvas>, at: Point, width: f32, entries: &[(&str, LineStyle)]) -> f32 {
    const ROW: f32 = 20.0;
    const SWATCH: f32 = 24.0;
    const BETWEEN: f32 = 20.0;
    if entries.is_empty() {
        return 0.0;
    }
    let (mut x, mut y) = at;
    for (name, style) in entries {
        let name = LABEL.fit(name, width - SWATCH - 6.0);
        let needed = SWATCH + 6.0 + LABEL.width(&name);
        if x > at.0 && x + needed > at.0 + width {
            (x, y) = (at.0, y + ROW);
        }
        if let Some(canvas) = canvas.as_deref_mut() {
            let middle = y + ROW / 2.0;
            let line = [(x, middle), (x + SWATCH, middle)];
            if style.is_dashed {
                canvas.stroke_dashed(&line, 2.5, style.color);
            } else {
                canvas.stroke(&line, 2.5, style.color);
            }
            canvas.text_middle(&name, (x + SWATCH + 6.0, middle), LABEL);
        }
        x += needed + BETWEEN;
    }
    y + ROW - at.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        let labels = |low, high, is_log, wanted, whole| -> Vec<String> {
            Range { low, high, is_log }.ticks(wanted, whole).into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(0.0, 1.0, false, 5, false), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-1.0, 1.0, false, 2, false), ["−1", "0", "1"]);
        assert_eq!(labels(1.0, 3.0, false, 8, true), ["1", "2", "3"]);
        assert_eq!(labels(1e-5, 1e-1, true, 5, false), ["1e−5", "1e−4", "0.001", "0.01", "0.1"]);
        assert!(labels(1e-30, 1e30, true, 5, false).len() < 10);
        assert_eq!(labels(0.0, 2e-5, false, 2, false), ["0", "1e−5", "2e−5"]);
    }

    #[test]
    fn a_range_needs_no_values_that_can_be_drawn() {
        assert_eq!(Range::around([f64::NAN].into_iter(), false), Range { low: 0.0, high: 1.0, is_log: false });
        let flat = Range::around([0.0, 0.0].into_iter(), false);
        assert!(flat.low < 0.0 && flat.high > 0.0);
        let log = Range::around([0.0, -1.0, 10.0].into_iter(), true);
        assert!(log.low > 0.0 && log.low < 10.0 && log.high > 10.0);
    }

    #[test]
    fn numbers_are_written_in_few_signs() {
        let cases =
            [(0.01, "0.01"), (12.5, "12.5"), (3e-4, "3e−4"), (1234567.0, "1.23e6"), (-0.25, "−0.25"), (100.0, "100")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
