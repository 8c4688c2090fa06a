//! By Winograd's F(2×2, 5×5), whose tiles of outputs are the windows: 36 products for each pair of channels instead of
//! 100. Transforms are those of [`winograd`](super::super::winograd), with a vector of windows instead of one of channels,
//! so that no channel is missing in a vector where there are few.

use pulp::{Simd, WithSimd};

use super::Image;
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::conv::winograd::{
    Input, LARGE_KERNEL, Output, POINTS, PRODUCTS, Points, Transform, both_axes, transform_weights,
};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Output channels that are taken together: at a column of points they take 24 accumulators, or 12 of 16 registers. They lie
/// in one block of channels.
fn group() -> usize {
    match (isa::has_32_registers(), isa::lanes()) {
        (_, 1) => 1,
        (true, _) => 4,
        (false, _) => 2,
    }
}

/// What it takes, in products of one lane; `None` where no window is a tile.
pub(super) fn cost(layer: &Layer) -> Option<usize> {
    if layer.kernel != [LARGE_KERNEL; 2] {
        return None;
    }
    let windows = (layer.output[0] / 2 * (layer.output[1] / 2)).next_multiple_of(isa::lanes());
    let outputs = layer.out_channels.next_multiple_of(group());
    let products = PRODUCTS * layer.in_channels * outputs;
    // Beside products each channel's transform.
    Some(windows * (products + products / 10 + 310 * layer.in_channels + 20 * outputs))
}

fn points(layer: &Layer) -> Points {
    Points::tiles(layer.out_channels, layer.in_channels)
}

/// Floats of the weights at the points.
pub(super) fn num_weights(layer: &Layer) -> usize {
    points(layer).num_elems()
}

/// Weights (O, C, 5, 5) at the points: of C and blocks of O.
pub(super) fn pack(layer: &Layer, weight: &[f32], packed: &mut [f32]) {
    transform_weights(layer, weight, (points(layer), packed));
}

pub(super) fn run(image: Image<'_>) {
    let (lanes, channels, split) = (isa::lanes(), image.split.layer.in_channels, image.split);
    let num_values = image.positions(lanes).count() * channels * PRODUCTS * lanes;
    scratch::with(num_values + split.num_elems(1) + 2 * POINTS * group() * lanes, |memory: &mut [f32]| {
        let (values, memory) = memory.split_at_mut(num_values);
        let (columns, channel) = memory.split_at_mut(2 * POINTS * group() * lanes);
        isa::dispatch(Run { image, values, channel, columns });
    });
}

struct Run<'a> {
    image: Image<'a>,
    /// Room for inputs at the points: (vectors of windows, C, points, lanes).
    values: &'a mut [f32],
    /// Room for a channel, laid out.
    channel: &'a mut [f32],
    /// Room for columns of products, transformed: (O of a group, rows of cells, columns of points, lanes).
    columns: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run { mut image, values, channel, columns } = self;
        simd.vectorize(TransformInput { image: &image, values, channel });
        let values_len = image.split.layer.in_channels * PRODUCTS * S::F32_LANES;
        for (position, values) in image.positions(S::F32_LANES).zip(values.chunks_exact(values_len)) {
            let (image, columns) = (&mut image, &mut *columns);
            match group() {
                4 => simd.vectorize(Channels::<4> { image, position, values, columns }),
                1 => simd.vectorize(Channels::<1> { image, position, values, columns }),
                _ => simd.vectorize(Channels::<2> { image, position, values, columns }),
            }
        }
    }
}

struct TransformInput<'i, 'a> {
    image: &'i Image<'a>,
    values: &'i mut [f32],
    channel: &'i mut [f32],
}

impl WithSimd for TransformInput<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let TransformInput { image, values, channel: plane } = self;
        let values = S::as_mut_simd_f32s(values).0.as_chunks_mut::<PRODUCTS>().0;
        let (split, channels) = (&image.split, image.split.layer.in_channels);
        for channel in 0..channels {
            split.lay_out(simd, image.padded, channel, plane);
            for (index, position) in image.positions(S::F32_LANES).enumerate() {
                let (plane, values) = (&plane[position..], &mut values[index * channels + channel]);
                both_axes(
                    simd,
                    Input,
                    #[inline(always)]
                    |i, j| S::as_simd_f32s(&plane[split.offset(0, i, j)..][..S::F32_LANES]).0[0],
                    #[inline(always)]
                    |i, row| {
                        for (j, value) in row.into_iter().enumerate() {
                            values[i * POINTS + j] = value;
                        }
                    },
                );
            }
        }
    }
}

/// All output channels, O at a time.
struct Channels<'i, 'a, const O: usize> {
    image: &'i mut Image<'a>,
    position: usize,
    values: &'i [f32],
    columns: &'i mut [f32],
}

impl<const O: usize> WithSimd for Channels<'_, '_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Channels { image, position, values, columns } = self;
        let zero = simd.splat_f32s(0.0);
        let values = S::as_simd_f32s(values).0.as_chunks::<PRODUCTS>().0;
        let columns = S::as_mut_simd_f32s(columns).0.as_chunks_mut::<POINTS>().0.as_chunks_mut::<2>().0;
        let columns = &mut columns[..O];
        let layer = image.split.layer;
        let (points, places) = (points(&layer), image.places(simd, position));
        for first in (0..layer.out_channels).step_by(O) {
            let block = first / S::F32_LANES * points.rows * S::F32_LANES + first % S::F32_LANES;
            for j in 0..POINTS {
                let mut weights: [&[f32]; POINTS] = [&[]; POINTS];
                unroll!(i in 0..POINTS, up to 8 => {
                    let start = (i * POINTS + j) * points.stride() * S::F32_LANES + block;
                    weights[i] = &image.weights[start..][..(layer.in_channels - 1) * S::F32_LANES + O];
                });
                let mut sums = [[zero; POINTS]; O];
                for (channel, values) in values.iter().enumerate() {
                    unroll!(i in 0..POINTS, up to 8 => {
                        let (value, weights) = (values[i * POINTS + j], &weights[i][channel * S::F32_LANES..][..O]);
                        unroll!(o in 0..O, up to 4 => {
                            sums[o][i] = simd.mul_add_e_f32s(simd.splat_f32s(weights[o]), value, sums[o][i]);
                        });
                    });
                }
                unroll!(o in 0..O, up to 4 => {
                    let column: [S::f32s; 2] = Output.apply(simd, sums[o]);
                    (columns[o][0][j], columns[o][1][j]) = (column[0], column[1]);
                });
            }
            for (channel, columns) in (first..layer.out_channels).zip(&*columns) {
                let upper: [S::f32s; 2] = Output.apply(simd, columns[0]);
                let lower: [S::f32s; 2] = Output.apply(simd, columns[1]);
                let bias = simd.splat_f32s(image.finish.bias(channel));
                let mut sums = [upper[0], upper[1], lower[0], lower[1]];
                unroll!(cell in 0..4, up to 4 => { sums[cell] = simd.add_f32s(sums[cell], bias); });
                image.store(simd, [channel, position], sums, places);
            }
        }
    }
}
