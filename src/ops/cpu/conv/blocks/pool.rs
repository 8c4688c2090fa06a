//! The forward kernel followed by max-pooling of 2×2 windows side by side, while a tile of sums is still in registers.

use pulp::{Simd, WithSimd};

use super::{Block, Weights, fits, with_weights};
use crate::ops::cpu::conv::largest::largest;
use crate::ops::cpu::conv::{Finish, Layer};
use crate::ops::cpu::transpose::channels_first;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, parallel, scratch};

/// Rows of windows and columns of them.
fn windows(layer: &Layer) -> [usize; 2] {
    layer.output.map(|extent| extent / 2)
}

/// The tile of two rows, which has whole windows, with which least is computed.
fn tile(layer: &Layer) -> Option<[usize; 2]> {
    let tiles: &[[usize; 2]] =
        if isa::has_32_registers() { &[[2, 14], [2, 12], [2, 10], [2, 8], [2, 6]] } else { &[[2, 6]] };
    let cells = Layer { output: windows(layer).map(|extent| 2 * extent), ..*layer };
    fits(&cells, tiles).filter(|_| layer.stride == [1, 1])
}

/// Whether there is a tile.
pub(crate) fn is_pooled(layer: &Layer) -> bool {
    tile(layer).is_some()
}

/// The largest of each window of `finish(input ⋆ weight)` (images, O, windows), and which cell of the output's plane it is.
pub(crate) fn forward_pooled(
    layer: &Layer,
    [input, weight]: [&[f32]; 2],
    finish: Finish<'_>,
    (maxima, indices): (&mut [f32], &mut [u32]),
) {
    let tile = tile(layer).expect("callers ask whether there is one");
    let (lanes, taps) = (isa::lanes(), layer.num_taps());
    let (num_windows, image_in) = (windows(layer).iter().product::<usize>(), layer.in_channels * layer.in_pixels());
    let (image_out, block_out) = (layer.out_channels * num_windows, lanes * num_windows);
    with_weights(layer, tile, weight, finish, |weights| {
        parallel::for_chunk_pairs((maxima, image_out), (indices, image_out), 4 * taps, |image, maxima, indices| {
            layer.with_padded(&input[image * image_in..][..image_in], 0, |image| {
                scratch::with(2 * block_out, |room: &mut [f32]| {
                    let blocks = maxima.chunks_mut(block_out).zip(indices.chunks_mut(block_out));
                    for (index, (maxima, indices)) in blocks.enumerate() {
                        isa::dispatch(Pool { weights: &weights, image, index, room, maxima, indices });
                    }
                });
            });
        });
    });
}

/// One image's windows in one block of channels.
struct Pool<'w, 'a> {
    weights: &'w Weights<'w>,
    /// Padded.
    image: &'a [f32],
    /// The block's.
    index: usize,
    /// Room for maxima and for indices, (windows, lanes) each.
    room: &'a mut [f32],
    maxima: &'a mut [f32],
    indices: &'a mut [u32],
}

impl WithSimd for Pool<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.weights.tile[1] {
            14 => simd.vectorize(Tiles::<14>(self)),
            12 => simd.vectorize(Tiles::<12>(self)),
            10 => simd.vectorize(Tiles::<10>(self)),
            8 => simd.vectorize(Tiles::<8>(self)),
            _ => simd.vectorize(Tiles::<6>(self)),
        }
    }
}

/// Windows in tiles of two rows of P pixels; those at the end of a row are moved back to end with it.
struct Tiles<'w, 'a, const P: usize>(Pool<'w, 'a>);

impl<const P: usize> WithSimd for Tiles<'_, '_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tiles(Pool { weights, image, index, room, maxima, indices }) = self;
        let [rows, columns] = windows(weights.layer);
        let num_windows = rows * columns;
        let (of_maxima, of_indices) = room.split_at_mut(num_windows * S::F32_LANES);
        let block = weights.block(image, index);
        for row in 0..rows {
            for column in (0..columns).step_by(P / 2) {
                let column = column.min(columns - P / 2);
                let first = (row * columns + column) * S::F32_LANES;
                let to = [&mut of_maxima[first..], &mut of_indices[first..]];
                block.pool::<S, P>(simd, [2 * row, 2 * column], to);
            }
        }
        let sizes = [maxima.len() / num_windows, num_windows];
        channels_first(simd, sizes, of_maxima, (maxima, num_windows));
        channels_first(simd, sizes, of_indices, (bytemuck::cast_slice_mut(indices), num_windows));
    }
}

impl Block<'_> {
    /// The largest of each window of two rows from (y, x) on, and the bits of where in the plane they are.
    #[inline(always)]
    fn pool<S: Simd, const P: usize>(&self, simd: S, [y, x]: [usize; 2], [maxima, indices]: [&mut [f32]; 2]) {
        let sums = self.sums::<S, 2, P, 1>(simd, y, x);
        let width = self.layer.output[1];
        let (maxima, _) = S::as_mut_simd_f32s(&mut maxima[..P / 2 * S::F32_LANES]);
        let (indices, _) = S::as_mut_simd_f32s(&mut indices[..P / 2 * S::F32_LANES]);
        unroll!(window in 0..P / 2, up to 8 => {
            let first = y * width + x + 2 * window;
            let place = |offset: usize| simd.splat_f32s(f32::from_bits((first + offset) as u32));
            let values = [sums[0][2 * window], sums[0][2 * window + 1], sums[1][2 * window], sums[1][2 * window + 1]];
            let places = [place(0), place(1), place(width), place(width + 1)];
            (maxima[window], indices[window]) = largest(simd, values, places);
        });
    }
}
