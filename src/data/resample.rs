//! Scaling images as Pillow's `BILINEAR` does, byte for byte: a triangle filter as wide as the source asks for, columns
//! before rows, weights in fixed point with 22 bits after the point, bytes between the passes.
//! (torchvision's `Resize` on a PIL image is that filter.) Pillow 13 takes rows before columns where that is less work,
//! which may differ by 1 of 255; this is what all versions before it do.

/// One channel of an image, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plane {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

/// A piece of the scaled image: only that is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// What one output pixel is made of along an axis: weights of the inputs from `first`.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

/// Bits after the point of a weight.
const WEIGHT_BITS: u32 = 22;

impl Plane {
    /// The window of this image scaled to `width`×`height`, all at least 1; the window lies in it.
    pub fn resample(&self, width: usize, height: usize, window: Window) -> Plane {
        let columns = taps(self.width, width, window.left, window.width);
        let rows = taps(self.height, height, window.top, window.height);
        let first_row = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
        let end_row = rows.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);

        let mut narrow = Vec::with_capacity((end_row - first_row) * window.width);
        for row in first_row..end_row {
            let pixels = &self.pixels[row * self.width..(row + 1) * self.width];
            narrow.extend(columns.iter().map(|taps| {
                weighted(taps.weights.iter().zip(&pixels[taps.first..]).map(|(&weight, &pixel)| (weight, pixel)))
            }));
        }
        let mut pixels = Vec::with_capacity(window.height * window.width);
        for taps in &rows {
            let start = (taps.first - first_row) * window.width;
            pixels.extend((0..window.width).map(|column| {
                let inputs = narrow[start..].iter().skip(column).step_by(window.width);
                weighted(taps.weights.iter().copied().zip(inputs.copied()))
            }));
        }
        Plane { width: window.width, height: window.height, pixels }
    }
}

/// The taps of outputs `start..start + count` where `from` pixels become `to`.
fn taps(from: usize, to: usize, start: usize, count: usize) -> Vec<Taps> {
    // Extents are far below 2^53.
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let of = |output: usize| {
        let center = (output as f64 + 0.5) * scale;
        // Casts from floats saturate, so nothing is below 0.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle = |input: usize| (1.0 - ((input as f64 - center + 0.5) / support).abs()).max(0.0);
        let sum: f64 = (first..end).map(triangle).sum();
        let fixed = |input| (triangle(input) / sum * f64::from(1u32 << WEIGHT_BITS) + 0.5) as i64;
        Taps { first, weights: (first..end).map(fixed).collect() }
    };
    (start..start + count).map(of).collect()
}

fn weighted(inputs: impl Iterator<Item = (i64, u8)>) -> u8 {
    let sum: i64 = inputs.map(|(weight, pixel)| weight * i64::from(pixel)).sum();
    // Between 0 and 255 by the clamp.
    ((sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS).clamp(0, 255) as u8
}
