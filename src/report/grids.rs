//! Pictures of images and tables: the confusion matrix, samples with their classes, filters, the probabilities of one
//! image. Pure, as [`plots`](super::plots).

use super::axes::{LABEL, TICK, TITLE};
use super::canvas::{Align, Canvas, Rect, TextStyle};
use super::classify::{Confusion, percent};
use super::color::Color;
use super::picture::Picture;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The confusion matrix: a row for each true class, a column for each predicted one, every count written, cells shaded
/// by their share of the row; recall stands at the right and precision below.
pub fn confusion_matrix(confusion: &Confusion, class_names: &[&str]) -> Picture {
    let num = confusion.num_classes();
    let name = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
    let longest = (0..num).map(|class| LABEL.width(&name(class))).fold(70.0, f32::max).min(150.0);
    let cell = if num <= 12 { 58.0 } else { 40.0 };
    let area =
        Rect { x: 52.0 + longest, y: 64.0 + longest.max(40.0), width: cell * num as f32, height: cell * num as f32 };
    let title =
        format!("Confusion matrix: {} of {} images right", percent(Some(confusion.accuracy())), confusion.total());
    let width = (area.right() + 84.0).max(TITLE.width(&title) + 40.0);
    let mut canvas = Canvas::new(width, area.bottom() + 48.0);
    canvas.text(&title, (20.0, 28.0), TITLE);
    canvas.text_middle("true class", (22.0, area.center().1), LABEL.align(Align::Center).upward().color(Color::GREY));
    canvas.text("predicted class", (area.center().0, 52.0), LABEL.align(Align::Center).color(Color::GREY));
    for (label, scores) in confusion.scores().iter().enumerate() {
        let y = area.y + cell * label as f32;
        canvas.text_middle(
            &LABEL.fit(&name(label), longest),
            (area.x - 8.0, y + cell / 2.0),
            LABEL.align(Align::Right),
        );
        canvas.text_middle(&percent(scores.recall), (area.right() + 8.0, y + cell / 2.0), TICK);
        let column_x = area.x + cell * (label as f32 + 0.5);
        canvas.text_middle(&LABEL.fit(&name(label), longest), (column_x, area.y - 8.0), LABEL.upward());
        canvas.text(&percent(scores.precision), (column_x, area.bottom() + 20.0), TICK.align(Align::Center));
        for predicted in 0..num {
            let count = confusion.count(label, predicted);
            let share = count as f64 / scores.support.max(1) as f64;
            let rect = Rect { x: area.x + cell * predicted as f32, y, width: cell, height: cell };
            let color = shade(share, label == predicted);
            canvas.fill_rect(rect, color);
            if count > 0 {
                let style = TextStyle::new(if cell > 50.0 { 15.0 } else { 11.0 }).align(Align::Center);
                let text = if color.is_dark() { Color::WHITE } else { Color::BLACK };
                canvas.text_middle(&count.to_string(), rect.center(), style.color(text));
            }
        }
    }
    for line in 0..=num {
        let offset = cell * line as f32;
        canvas.stroke(&[(area.x + offset, area.y), (area.x + offset, area.bottom())], 1.0, Color::FAINT);
        canvas.stroke(&[(area.x, area.y + offset), (area.right(), area.y + offset)], 1.0, Color::FAINT);
    }
    canvas.text("recall", (area.right() + 8.0, area.y - 8.0), TICK);
    canvas.text("precision", (area.x - 8.0, area.bottom() + 20.0), TICK.align(Align::Right));
    canvas.finish()
}

/// White to blue for what is right, white to vermilion for mistakes; the root makes rare mistakes visible.
fn shade(share: f64, is_right: bool) -> Color {
    let full = if is_right { Color::BLUE } else { Color::VERMILION };
    let strength = share.clamp(0.0, 1.0).sqrt();
    let mix = |channel: u8| (255.0 + (f64::from(channel) - 255.0) * strength).round() as u8;
    Color { rgb: full.rgb.map(mix), alpha: 1.0 }
}

/// An image with what it is and what it was taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSample {
    /// Pixels (C, H, W), 0 to 255.
    pub pixels: Vec<u8>,
    /// C (1 or 3), H and W.
    pub shape: [usize; 3],
    /// The name of its class.
    pub label: String,
    /// The name of the class it was taken for, and the probability, if it was classified.
    pub predicted: Option<(String, f64)>,
}

impl ImageSample {
    fn rgb(&self, column: usize, row: usize) -> [u8; 3] {
        let [channels, height, width] = self.shape;
        let at = |channel: usize| self.pixels.get((channel * height + row) * width + column).copied().unwrap_or(0);
        if channels < 3 { [at(0); 3] } else { [at(0), at(1), at(2)] }
    }
}

/// Images in a grid of `columns`, each with its true class and, if it was classified, the predicted one: a tick where
/// they agree, a cross and a red frame where they do not.
pub fn sample_grid(title: &str, samples: &[ImageSample], columns: usize) -> Picture {
    const SIDE: f32 = 96.0;
    // A second line where something was predicted.
    let is_classified = samples.iter().any(|sample| sample.predicted.is_some());
    let cell = (132.0, if is_classified { 152.0 } else { 135.0 });
    let columns = columns.clamp(1, samples.len().max(1));
    let rows = samples.len().div_ceil(columns);
    let width = (cell.0 * columns as f32 + 24.0).max(TITLE.width(title) + 40.0);
    let mut canvas = Canvas::new(width, 48.0 + cell.1 * rows as f32 + 8.0);
    canvas.text(title, (20.0, 29.0), TITLE);
    for (index, sample) in samples.iter().enumerate() {
        let (column, row) = (index % columns, index / columns);
        let left = 12.0 + cell.0 * column as f32;
        let rect = Rect { x: left + (cell.0 - SIDE) / 2.0, y: 52.0 + cell.1 * row as f32, width: SIDE, height: SIDE };
        let [_, height, width] = sample.shape;
        canvas.pixels(rect, width.max(1), height.max(1), |column, row| sample.rgb(column, row));
        let style = TextStyle::new(13.0).align(Align::Center);
        let middle = left + cell.0 / 2.0;
        let text = |canvas: &mut Canvas, text: &str, line: f32, style: TextStyle| {
            canvas.text(&style.fit(text, cell.0 - 8.0), (middle, rect.bottom() + 17.0 + 17.0 * line), style);
        };
        match &sample.predicted {
            None => {
                canvas.frame_rect(rect, 1.0, Color::FAINT);
                text(&mut canvas, &sample.label, 0.0, style);
            }
            Some((predicted, probability)) if *predicted == sample.label => {
                canvas.frame_rect(rect, 1.0, Color::FAINT);
                text(&mut canvas, &sample.label, 0.0, style);
                text(&mut canvas, &format!("✓ {:.0}%", 100.0 * probability), 1.0, style.color(Color::GREEN));
            }
            Some((predicted, probability)) => {
                canvas.frame_rect(rect, 3.5, Color::VERMILION);
                text(&mut canvas, &sample.label, 0.0, style);
                let wrong = format!("✗ {predicted} {:.0}%", 100.0 * probability);
                text(&mut canvas, &wrong, 1.0, style.color(Color::VERMILION).bold());
            }
        }
    }
    canvas.finish()
}

/// The filters of a convolution's weight (out, in, kh, kw), each scaled for itself: blue is negative, white 0, red
/// positive. Three input channels are shown as colours, with grey 0; of other numbers a column shows each.
///
/// # Errors
/// [`Error::Operand`] where the weight has not four axes, or one is empty.
pub fn filters(title: &str, weight: &Tensor) -> Result<Picture> {
    let &[out, channels, height, width] = weight.shape().dims() else {
        return Err(Error::operand("filters", "a weight (out, in, kh, kw)", weight.shape().to_string()));
    };
    if weight.shape().num_elems() == 0 {
        return Err(Error::operand("filters", "a weight with elements", weight.shape().to_string()));
    }
    let values = weight.to_f32_vec();
    let in_color = channels == 3;
    let shown_channels = if in_color { 1 } else { channels.min(8) };
    const SIDE: f32 = 84.0;
    const GAP: f32 = 14.0;
    let shown = out.min(64);
    // One input channel: filters fill rows; several: a row for each filter.
    let columns = if shown_channels == 1 { shown.min(8) } else { shown_channels };
    let rows = (shown * shown_channels).div_ceil(columns);
    let sheet_width = (40.0 + (SIDE + GAP) * columns as f32).max(TITLE.width(title) + 40.0);
    let mut canvas = Canvas::new(sheet_width, 50.0 + (SIDE + GAP + 18.0) * rows as f32);
    canvas.text(title, (20.0, 29.0), TITLE);
    for index in 0..shown * shown_channels {
        let (filter, channel) = (index / shown_channels, index % shown_channels);
        let (column, row) = (index % columns, index / columns);
        let x = 20.0 + (SIDE + GAP) * column as f32;
        let rect = Rect { x, y: 46.0 + (SIDE + GAP + 18.0) * row as f32, width: SIDE, height: SIDE };
        let own = &values[filter * channels * height * width..(filter + 1) * channels * height * width];
        let largest = own.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())).max(f32::MIN_POSITIVE);
        let at = |channel: usize, row: usize, column: usize| own[(channel * height + row) * width + column] / largest;
        canvas.pixels(rect, width, height, |column, row| {
            if in_color {
                [0, 1, 2].map(|channel| (127.5 + 127.5 * at(channel, row, column)) as u8)
            } else {
                diverging(at(channel, row, column))
            }
        });
        canvas.frame_rect(rect, 1.0, Color::GREY);
        let name = if shown_channels == 1 { filter.to_string() } else { format!("{filter}, in {channel}") };
        canvas.text(&name, (rect.center().0, rect.bottom() + 16.0), TICK.align(Align::Center));
    }
    Ok(canvas.finish())
}

/// Blue for −1, white for 0, red for 1 (ends of ColorBrewer's RdBu, which all colour vision tells apart).
fn diverging(value: f32) -> [u8; 3] {
    let end = if value < 0.0 { [0x21, 0x66, 0xac] } else { [0xb2, 0x18, 0x2b] };
    // Not a number ends up white.
    let strength = if value.is_finite() { value.abs().min(1.0) } else { 0.0 };
    end.map(|channel: u8| (255.0 + (f32::from(channel) - 255.0) * strength) as u8)
}

/// An image beside bars for the probabilities of its classes, the most probable in front; the true class, if known, is
/// named on top and its bar is green.
pub fn probability_bars(image: &ImageSample, class_names: &[&str], probabilities: &[f64]) -> Picture {
    const ROW: f32 = 27.0;
    const SHOWN: usize = 10;
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    order.truncate(SHOWN);
    let name = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
    let longest = order.iter().map(|&class| LABEL.width(&name(class))).fold(40.0, f32::max).min(180.0);
    let side = 220.0;
    let bars = Rect { x: 20.0 + side + 24.0 + longest, y: 56.0, width: 300.0, height: ROW * order.len() as f32 };
    let mut canvas = Canvas::new(bars.right() + 78.0, (56.0 + side).max(bars.bottom()) + 20.0);
    let predicted = order.first().map_or(String::new(), |&class| name(class));
    let known = !image.label.is_empty();
    let title = if known { format!("{predicted} (true class: {})", image.label) } else { predicted };
    canvas.text(&TITLE.fit(&title, bars.right() + 40.0), (20.0, 31.0), TITLE);
    let [_, height, width] = image.shape;
    let longer = height.max(width).max(1) as f32;
    let rect = Rect { x: 20.0, y: 56.0, width: side * width as f32 / longer, height: side * height as f32 / longer };
    canvas.pixels(rect, width.max(1), height.max(1), |column, row| image.rgb(column, row));
    canvas.frame_rect(rect, 1.0, Color::FAINT);
    for (row, &class) in order.iter().enumerate() {
        let middle = bars.y + ROW * (row as f32 + 0.5);
        let share = if probabilities[class].is_finite() { probabilities[class].clamp(0.0, 1.0) as f32 } else { 0.0 };
        let is_true = known && name(class) == image.label;
        let color = if is_true { Color::GREEN } else { Color::BLUE };
        let bar = Rect { x: bars.x, y: middle - ROW * 0.36, width: bars.width * share, height: ROW * 0.72 };
        canvas.fill_rect(Rect { width: bars.width, ..bar }, Color::FAINT.fade(0.6));
        canvas.fill_rect(bar, color);
        let style = if is_true { LABEL.bold() } else { LABEL };
        canvas.text_middle(&style.fit(&name(class), longest), (bars.x - 8.0, middle), style.align(Align::Right));
        canvas.text_middle(&format!("{:.1}%", 100.0 * probabilities[class]), (bars.right() + 8.0, middle), LABEL);
    }
    canvas.finish()
}
