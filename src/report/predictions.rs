//! A picture of what a network makes of images: each as it was given, as the network sees it, and the probabilities of
//! its classes. Pure, as [`plots`](super::plots).

use super::axes::{LABEL, TICK, TITLE};
use super::canvas::{Align, Canvas, Rect, TextStyle};
use super::color::Color;
use super::picture::Picture;

/// One image and its probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedImage {
    /// What the image is called.
    pub name: String,
    /// The image as it was given.
    pub given: Pixels,
    /// The image as the network sees it, before its pixels are normalised.
    pub seen: Pixels,
    /// The probability of every class.
    pub probabilities: Vec<f64>,
}

/// An image's pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// (C, H, W), 0 to 255.
    pub pixels: Vec<u8>,
    /// C (1 or 3), H and W, each at least 1.
    pub shape: [usize; 3],
}

/// A row for each image, with bars for its `top` most probable classes.
pub fn predictions(images: &[PredictedImage], class_names: &[&str], top: usize) -> Picture {
    const MARGIN: f32 = 20.0;
    const SIDE: f32 = 132.0;
    const GAP: f32 = 18.0;
    const HEAD: f32 = 30.0;
    const BAR: f32 = 26.0;
    const BARS: f32 = 240.0;
    let name = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
    let top = top.clamp(1, class_names.len().max(1));
    let longest = (0..class_names.len()).map(|class| LABEL.bold().width(&name(class))).fold(40.0, f32::max).min(180.0);
    let row_height = HEAD + SIDE.max(BAR * top as f32) + GAP;
    let bars_left = MARGIN + 2.0 * (SIDE + GAP) + longest + 8.0;
    let heading = 34.0;
    let mut canvas =
        Canvas::new(bars_left + BARS + 76.0, heading + row_height * images.len().max(1) as f32 + MARGIN / 2.0);
    for (text, x) in [("as given", MARGIN), ("as the network sees it", MARGIN + SIDE + GAP)] {
        canvas.text(text, (x, 24.0), TICK);
    }
    for (index, image) in images.iter().enumerate() {
        let top_y = heading + row_height * index as f32;
        if index > 0 {
            let y = top_y - GAP / 2.0;
            canvas.stroke(&[(MARGIN, y), (bars_left + BARS + 56.0, y)], 1.0, Color::FAINT);
        }
        canvas.text(&TITLE.fit(&image.name, bars_left + BARS - MARGIN), (MARGIN, top_y + 19.0), TITLE);
        for (pixels, x) in [(&image.given, MARGIN), (&image.seen, MARGIN + SIDE + GAP)] {
            draw(&mut canvas, pixels, Rect { x, y: top_y + HEAD, width: SIDE, height: SIDE });
        }
        let mut order: Vec<usize> = (0..image.probabilities.len()).collect();
        order.sort_by(|&a, &b| image.probabilities[b].total_cmp(&image.probabilities[a]));
        let first = top_y + HEAD + (SIDE - BAR * top as f32).max(0.0) / 2.0;
        for (place, &class) in order.iter().take(top).enumerate() {
            let probability = image.probabilities[class];
            let middle = first + BAR * (place as f32 + 0.5);
            let share = if probability.is_finite() { probability.clamp(0.0, 1.0) as f32 } else { 0.0 };
            let bar = Rect { x: bars_left, y: middle - BAR * 0.36, width: BARS, height: BAR * 0.72 };
            canvas.fill_rect(bar, Color::FAINT.fade(0.6));
            canvas.fill_rect(Rect { width: BARS * share, ..bar }, if place == 0 { Color::BLUE } else { LIGHT_BLUE });
            let style: TextStyle = if place == 0 { LABEL.bold() } else { LABEL };
            canvas.text_middle(&style.fit(&name(class), longest), (bars_left - 8.0, middle), style.align(Align::Right));
            canvas.text_middle(&format!("{:.1}%", 100.0 * probability), (bar.right() + 8.0, middle), style);
        }
    }
    canvas.finish()
}

/// What was not chosen.
const LIGHT_BLUE: Color = Color::hex(0x7f_b8_d8);

/// Draws an image in the middle of a square, as large as it fits.
fn draw(canvas: &mut Canvas, image: &Pixels, square: Rect) {
    let [channels, height, width] = image.shape;
    let longer = height.max(width).max(1) as f32;
    let (shown_width, shown_height) = (square.width * width as f32 / longer, square.height * height as f32 / longer);
    let rect = Rect {
        x: square.x + (square.width - shown_width) / 2.0,
        y: square.y + (square.height - shown_height) / 2.0,
        // A hair line at least, however long the image is.
        width: shown_width.max(1.0),
        height: shown_height.max(1.0),
    };
    let at = |channel: usize, row: usize, column: usize| {
        image.pixels.get((channel * height + row) * width + column).copied().unwrap_or(0)
    };
    canvas.pixels(rect, width.max(1), height.max(1), |column, row| {
        if channels < 3 { [at(0, row, column); 3] } else { [0, 1, 2].map(|channel| at(channel, row, column)) }
    });
    canvas.frame_rect(rect, 1.0, Color::FAINT);
}
