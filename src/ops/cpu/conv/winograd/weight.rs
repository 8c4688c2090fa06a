//! The weight gradient: sums over tiles of what inputs and gradients are at the points, turned into kernels at the end.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::band::Band;
use super::points::{Points, TransformTiles};
use super::product;
use super::transform::{Gradient, Input, KERNEL, KernelGradient, POINTS, TILE, Transform, both_axes};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::transpose::channels_first;
use crate::ops::cpu::{isa, scratch};

/// Tiles that are multiplied together: each time all sums are read and written.
const CAPACITY: usize = 64;

/// Adds the weight gradient of images side by side to `total` (O, C, 3, 3), on the calling thread.
pub(crate) fn grad_weight(layer: &Layer, grad: &[f32], input: &[f32], total: &mut [f32]) {
    let (input_band, grad_band) = (layer.input_band(), grad_band(layer));
    let inputs = Points::tiles(layer.in_channels, CAPACITY);
    let grads = Points::tiles(layer.out_channels, CAPACITY);
    let sums = Points::tiles(layer.out_channels, layer.whole_blocks()[0]);
    scratch::with(sums.num_elems(), |values: &mut [f32]| {
        values.fill(0.0);
        let sums = (sums, values);
        scratch::with(input_band.num_elems() + grad_band.num_elems(), |bands: &mut [f32]| {
            scratch::with(inputs.num_elems() + grads.num_elems(), |values: &mut [f32]| {
                let bands = bands.split_at_mut(input_band.num_elems());
                let values = values.split_at_mut(inputs.num_elems());
                let inputs = Side { band: input_band, rows: bands.0, points: inputs, values: values.0 };
                let grads = Side { band: grad_band, rows: bands.1, points: grads, values: values.1 };
                Batch { layer, inputs, grads, num_tiles: 0, sums: (sums.0, &mut *sums.1) }.run(grad, input);
            });
        });
        add_kernels(layer, (sums.0, sums.1), total);
    });
}

/// The rows of gradients of a row of tiles.
fn grad_band(layer: &Layer) -> Band {
    let [_, columns] = layer.tiles();
    Band {
        channels: layer.out_channels,
        image: layer.output,
        rows: TILE,
        step: TILE,
        width: columns * TILE,
        padding: [0, 0],
    }
}

/// Inputs or gradients: the band of the row of tiles at work, and the tiles that are multiplied next.
struct Side<'a> {
    band: Band,
    rows: &'a mut [f32],
    points: Points,
    values: &'a mut [f32],
}

impl Side<'_> {
    /// Takes tiles of the row at work as those from `first` on.
    fn transform<T: Transform<N, POINTS>, const N: usize>(&mut self, transform: T, first: usize, tiles: Range<usize>) {
        isa::dispatch(TransformTiles {
            transform,
            band: self.band,
            from: self.rows,
            column: tiles.start,
            count: tiles.len(),
            points: self.points,
            to: &mut self.values[first * isa::lanes()..],
        });
    }
}

struct Batch<'a> {
    layer: &'a Layer,
    inputs: Side<'a>,
    grads: Side<'a>,
    num_tiles: usize,
    /// Of C up to whole blocks and blocks of O.
    sums: (Points, &'a mut [f32]),
}

impl Batch<'_> {
    fn run(mut self, grad: &[f32], input: &[f32]) {
        let layer = self.layer;
        let [tile_rows, columns] = layer.tiles();
        let images = input.chunks_exact(layer.in_channels * layer.in_pixels());
        for (image, grad) in images.zip(grad.chunks_exact(layer.out_channels * layer.out_pixels())) {
            for tile_row in 0..tile_rows {
                self.inputs.band.fill(tile_row, image, self.inputs.rows);
                self.grads.band.fill(tile_row, grad, self.grads.rows);
                let mut column = 0;
                while column < columns {
                    let tiles = column..columns.min(column + CAPACITY - self.num_tiles);
                    self.inputs.transform(Input, self.num_tiles, tiles.clone());
                    self.grads.transform(Gradient, self.num_tiles, tiles.clone());
                    self.num_tiles += tiles.len();
                    column = tiles.end;
                    if self.num_tiles == CAPACITY {
                        self.add_products();
                    }
                }
            }
        }
        self.add_products();
    }

    fn add_products(&mut self) {
        isa::dispatch(product::Weight {
            num_tiles: self.num_tiles,
            inputs: (self.inputs.points, self.inputs.values),
            gradients: (self.grads.points, self.grads.values),
            sums: (self.sums.0, self.sums.1),
        });
        self.num_tiles = 0;
    }
}

/// Adds the kernels' gradients, from their sums at the points, to `total` (O, C, 3, 3).
fn add_kernels(layer: &Layer, (points, sums): (Points, &[f32]), total: &mut [f32]) {
    let (lanes, taps) = (isa::lanes(), layer.num_taps());
    scratch::with(2 * taps * lanes, |room: &mut [f32]| {
        for (block, rows) in total.chunks_mut(lanes * taps).enumerate() {
            let (last, first) = room.split_at_mut(taps * lanes);
            isa::dispatch(Kernels { layer, points, sums, block, last, first });
            rows.iter_mut().zip(&*first).for_each(|(row, &gradient)| *row += gradient);
        }
    });
}

/// The kernels' gradients of one block of output channels.
struct Kernels<'a> {
    layer: &'a Layer,
    points: Points,
    sums: &'a [f32],
    block: usize,
    /// Room for (taps, lanes).
    last: &'a mut [f32],
    /// (channels of the block, taps).
    first: &'a mut [f32],
}

impl WithSimd for Kernels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (lanes, taps, stride) = (S::F32_LANES, self.layer.num_taps(), self.points.stride());
        let ((sums, _), (last, _)) = (S::as_simd_f32s(self.sums), S::as_mut_simd_f32s(self.last));
        for (channel, kernel) in last.chunks_exact_mut(KERNEL * KERNEL).enumerate() {
            let sums = &sums[self.block * self.points.rows + channel..];
            both_axes(
                simd,
                KernelGradient,
                #[inline(always)]
                |i, j| sums[(i * POINTS + j) * stride],
                #[inline(always)]
                |i, row| kernel[i * KERNEL..][..KERNEL].copy_from_slice(&row),
            );
        }
        let channels = lanes.min(self.layer.out_channels - self.block * lanes);
        channels_first(simd, [channels, taps], self.last, (self.first, taps));
    }
}
