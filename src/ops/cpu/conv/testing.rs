//! What the tests of kernels compare with: sums in f64, product by product.

use super::Layer;

/// Numbers of both signs without a pattern.
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A layer of stride 1 with a square kernel.
pub(super) fn layer(
    size: usize,
    [in_channels, out_channels]: [usize; 2],
    input: [usize; 2],
    padding: [usize; 2],
) -> Layer {
    let output = [0, 1].map(|axis| input[axis] + 2 * padding[axis] + 1 - size);
    let [kernel, stride, dilation] = [[size; 2], [1, 1], [1, 1]];
    Layer { in_channels, input, out_channels, output, kernel, stride, padding, end_padding: padding, dilation }
}

/// Calls `body(output, weight, input)` with the indices of all products of an image that are not with a zero around it.
pub(super) fn for_products(layer: &Layer, mut body: impl FnMut(usize, usize, usize)) {
    let ([in_height, in_width], [height, width], [rows, columns]) = (layer.input, layer.output, layer.kernel);
    let met = |axis: usize, index: usize, tap: usize| {
        let place = index * layer.stride[axis] + tap * layer.dilation[axis];
        place.checked_sub(layer.padding[axis]).filter(|&place| place < layer.input[axis])
    };
    for out in 0..layer.out_channels * height * width {
        let (channel, y, x) = (out / (height * width), out / width % height, out % width);
        for tap in 0..layer.num_taps() {
            let (in_channel, i, j) = (tap / (rows * columns), tap / columns % rows, tap % columns);
            if let (Some(row), Some(column)) = (met(0, y, i), met(1, x, j)) {
                let at = (in_channel * in_height + row) * in_width + column;
                body(out, channel * layer.num_taps() + tap, at);
            }
        }
    }
}

/// Kernels' sums are off by some units in the last place of the sum of magnitudes, which this allows 16 of: the transforms
/// multiply by up to 64 what they take from each other again.
pub(super) fn assert_close(got: &[f32], want: &[f64], magnitude: &[f64], what: &str) {
    assert_within(16.0, got, want, magnitude, what);
}

/// [`assert_close`] within so many units.
pub(super) fn assert_within(units: f64, got: &[f32], want: &[f64], magnitude: &[f64], what: &str) {
    for (at, ((&got, want), magnitude)) in got.iter().zip(want).zip(magnitude).enumerate() {
        let off = (f64::from(got) - want).abs();
        assert!(off <= units * f64::from(f32::EPSILON) * (magnitude + 1.0), "{what}, element {at}: {got} for {want}");
    }
}
