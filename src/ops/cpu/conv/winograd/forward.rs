//! The forward pass: bands of the image, transformed tile by tile, are multiplied once there are enough of them, and the
//! outputs go by rows of tiles to where they belong.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::band::Band;
use super::points::{Points, TransformTiles};
use super::product;
use super::transform::{Input, KERNEL, Kernel, LARGE_KERNEL, LARGE_TILE, Output, POINTS, TILE, Transform, both_axes};
use crate::ops::cpu::conv::{Finish, Layer, rectify};
use crate::ops::cpu::transpose::{channels_first, turn};
use crate::ops::cpu::{isa, parallel, scratch, threads};

/// Tiles that are multiplied together: as many as let the transformed values stay in the first-level cache, or in half of
/// the next one, but enough to make use of the weights read.
fn capacity(layer: &Layer) -> usize {
    match layer.whole_blocks().iter().sum::<usize>() {
        0..=32 => 8,
        33..=64 => 16,
        _ => 32,
    }
}

/// Images below which an image's channels are shared out.
const FEW_IMAGES: usize = 4;

/// `out = finish(input ⋆ weight)` for images side by side; weights are (O, C, K, K), K being 3 or 5.
pub(crate) fn forward(layer: &Layer, input: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    let lanes = isa::lanes();
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (num_images, taps) = (out.len() / image_out, layer.num_taps());
    let points = Points::tiles(layer.out_channels, layer.in_channels);
    scratch::with(points.num_elems(), |weights: &mut [f32]| {
        transform_weights(layer, weight, (points, weights));
        let weights = &*weights;
        let images = |first_channel: usize, layer: Layer, input: &[f32], out: &mut [f32]| {
            let blocks = first_channel / lanes..(first_channel + layer.out_channels).div_ceil(lanes);
            Images { layer, weights: (points, weights), blocks, first_channel, finish }.run(input, out);
        };
        if num_images < FEW_IMAGES {
            // Outputs are the same for any share; each share transforms the image for itself.
            let channels = layer.out_channels.div_ceil(threads::available()).next_multiple_of(lanes);
            for (image, out) in input.chunks_exact(image_in).zip(out.chunks_exact_mut(image_out)) {
                parallel::for_chunks(out, channels * layer.out_pixels(), taps, |index, out| {
                    let share = Layer { out_channels: out.len() / layer.out_pixels(), ..*layer };
                    images(index * channels, share, image, out);
                });
            }
            return;
        }
        let [rows, columns] = layer.tiles();
        let together = capacity(layer).div_ceil(rows * columns);
        parallel::for_chunks(out, together * image_out, taps, |index, out| {
            let input = &input[index * together * image_in..][..out.len() / image_out * image_in];
            images(0, *layer, input, out);
        });
    });
}

/// Weights (O, C, K, K) at the points: of C and blocks of O.
fn transform_weights(layer: &Layer, weight: &[f32], (points, to): (Points, &mut [f32])) {
    let (lanes, taps) = (isa::lanes(), layer.num_taps());
    scratch::with(taps * lanes, |turned: &mut [f32]| {
        for (block, rows) in weight.chunks(lanes * taps).enumerate() {
            isa::dispatch(TransformWeights { kernel: layer.kernel[0], rows, taps, turned, block, points, to });
        }
    });
}

struct TransformWeights<'a> {
    kernel: usize,
    /// (channels of a block, taps).
    rows: &'a [f32],
    taps: usize,
    /// Room for (taps, lanes).
    turned: &'a mut [f32],
    block: usize,
    points: Points,
    to: &'a mut [f32],
}

impl WithSimd for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.kernel {
            KERNEL => self.kernels::<S, KERNEL>(simd),
            _ => self.kernels::<S, LARGE_KERNEL>(simd),
        }
    }
}

impl TransformWeights<'_> {
    #[inline(always)]
    fn kernels<S: Simd, const K: usize>(self, simd: S)
    where
        Kernel: Transform<K, POINTS>,
    {
        let (taps, stride) = (self.taps, self.points.stride());
        turn(simd, [self.rows.len() / taps, taps], (self.rows, taps), self.turned);
        let ((kernels, _), (to, _)) = (S::as_simd_f32s(self.turned), S::as_mut_simd_f32s(self.to));
        for (channel, kernel) in kernels.chunks_exact(K * K).enumerate() {
            let to = &mut to[self.block * self.points.rows + channel..];
            both_axes(
                simd,
                Kernel,
                #[inline(always)]
                |i, j| kernel[i * K + j],
                #[inline(always)]
                |i, row| {
                    for (j, value) in row.into_iter().enumerate() {
                        to[(i * POINTS + j) * stride] = value;
                    }
                },
            );
        }
    }
}

/// Images whose outputs one thread computes.
struct Images<'a> {
    /// With the output channels that are computed.
    layer: Layer,
    /// Of C and all blocks of O.
    weights: (Points, &'a [f32]),
    /// The blocks of O that are computed.
    blocks: Range<usize>,
    first_channel: usize,
    finish: Finish<'a>,
}

impl Images<'_> {
    fn run(&self, input: &[f32], out: &mut [f32]) {
        let (layer, band) = (&self.layer, self.layer.input_band());
        let band_out = layer.tile() * layer.output[1] * layer.whole_blocks()[1];
        let capacity = capacity(layer);
        let inputs = Points::tiles(layer.in_channels, capacity);
        let products = Points::tiles(layer.out_channels, capacity);
        scratch::with(band.num_elems() + band_out, |bands: &mut [f32]| {
            scratch::with(inputs.num_elems() + products.num_elems(), |values: &mut [f32]| {
                let (band_in, band_out) = bands.split_at_mut(band.num_elems());
                let values = values.split_at_mut(inputs.num_elems());
                let (inputs, products) = ((inputs, values.0), (products, values.1));
                let batch = Batch { images: self, band, band_in, band_out, inputs, products, first: 0, num_tiles: 0 };
                batch.run(input, out);
            });
        });
    }
}

/// The tiles that are multiplied next.
struct Batch<'a> {
    images: &'a Images<'a>,
    band: Band,
    /// The band of the row of tiles at work.
    band_in: &'a mut [f32],
    /// Outputs of a row of tiles, (blocks of O, rows, width, lanes).
    band_out: &'a mut [f32],
    inputs: (Points, &'a mut [f32]),
    products: (Points, &'a mut [f32]),
    /// The first tile's number, counted through all images.
    first: usize,
    num_tiles: usize,
}

impl Batch<'_> {
    fn run(mut self, input: &[f32], out: &mut [f32]) {
        let layer = &self.images.layer;
        let ([tile_rows, columns], capacity) = (layer.tiles(), self.inputs.0.rows);
        for image in input.chunks_exact(layer.in_channels * layer.in_pixels()) {
            for tile_row in 0..tile_rows {
                self.band.fill(tile_row, image, self.band_in);
                let mut column = 0;
                while column < columns {
                    let count = (columns - column).min(capacity - self.num_tiles);
                    self.transform(column, count);
                    column += count;
                    if self.num_tiles == capacity {
                        self.finish(out);
                    }
                }
            }
        }
        self.finish(out);
    }

    /// Takes tiles of the row at work.
    fn transform(&mut self, column: usize, count: usize) {
        let (points, to) = (self.inputs.0, &mut self.inputs.1[self.num_tiles * isa::lanes()..]);
        isa::dispatch(TransformTiles {
            transform: Input,
            band: self.band,
            from: self.band_in,
            column,
            count,
            points,
            to,
        });
        self.num_tiles += count;
    }

    /// Multiplies the tiles and stores their outputs.
    fn finish(&mut self, out: &mut [f32]) {
        let Images { layer, weights, blocks, .. } = self.images;
        isa::dispatch(product::Forward {
            num_tiles: self.num_tiles,
            inputs: (self.inputs.0, self.inputs.1),
            weights: *weights,
            blocks: blocks.clone(),
            products: (self.products.0, self.products.1),
        });
        let [tile_rows, columns] = layer.tiles();
        let mut slot = 0;
        while slot < self.num_tiles {
            let (row, column) = ((self.first + slot) / columns, (self.first + slot) % columns);
            let count = (columns - column).min(self.num_tiles - slot);
            isa::dispatch(TransformOutput {
                images: self.images,
                products: (self.products.0, &self.products.1[slot * isa::lanes()..]),
                column,
                count,
                band: self.band_out,
            });
            slot += count;
            if column + count == columns {
                let image_out = layer.out_channels * layer.out_pixels();
                let out = &mut out[row / tile_rows * image_out..][..image_out];
                isa::dispatch(StoreBand { layer, tile_row: row % tile_rows, band: self.band_out, out });
            }
        }
        self.first += self.num_tiles;
        self.num_tiles = 0;
    }
}

/// The outputs of tiles of a row, from `column` on.
struct TransformOutput<'a> {
    images: &'a Images<'a>,
    /// From the first of the tiles on.
    products: (Points, &'a [f32]),
    column: usize,
    count: usize,
    /// (blocks of O, rows, width, lanes).
    band: &'a mut [f32],
}

impl WithSimd for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.images.layer.tile() {
            TILE => self.tiles::<S, TILE>(simd),
            _ => self.tiles::<S, LARGE_TILE>(simd),
        }
    }
}

impl TransformOutput<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const T: usize>(self, simd: S)
    where
        Output: Transform<POINTS, T>,
    {
        let (layer, finish, lanes) = (&self.images.layer, self.images.finish, S::F32_LANES);
        let width = layer.output[1];
        let ((products, _), (band, _)) = (S::as_simd_f32s(self.products.1), S::as_mut_simd_f32s(self.band));
        let (Points { rows, .. }, stride) = (self.products.0, self.products.0.stride());
        for (block, band) in band.chunks_exact_mut(T * width).enumerate() {
            let bias =
                block_bias(simd, finish, self.images.first_channel + block * lanes, layer.out_channels - block * lanes);
            for tile in 0..self.count {
                let products = &products[block * rows + tile..];
                let first = (self.column + tile) * T;
                let count = T.min(width - first);
                both_axes(
                    simd,
                    Output,
                    #[inline(always)]
                    |i, j| products[(i * POINTS + j) * stride],
                    #[inline(always)]
                    |i, row| {
                        let to = &mut band[i * width + first..][..count];
                        for (to, value) in to.iter_mut().zip(row) {
                            let value = simd.add_f32s(value, bias);
                            *to = if finish.relu { rectify(simd, value) } else { value };
                        }
                    },
                );
            }
        }
    }
}

/// The biases of `count` channels, or of a block of them.
#[inline(always)]
fn block_bias<S: Simd>(simd: S, finish: Finish<'_>, first: usize, count: usize) -> S::f32s {
    let Some(bias) = finish.bias else { return simd.splat_f32s(0.0) };
    simd.partial_load_f32s(&bias[first..first + count.min(S::F32_LANES)])
}

/// Outputs of a row of tiles to where they belong.
struct StoreBand<'a> {
    layer: &'a Layer,
    tile_row: usize,
    band: &'a [f32],
    /// (O, H, W).
    out: &'a mut [f32],
}

impl WithSimd for StoreBand<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ([height, width], pixels, lanes) = (self.layer.output, self.layer.out_pixels(), S::F32_LANES);
        let tile = self.layer.tile();
        let rows = tile.min(height - self.tile_row * tile);
        let bands = self.band.chunks_exact(tile * width * lanes);
        for (band, planes) in bands.zip(self.out.chunks_mut(lanes * pixels)) {
            let shape = [planes.len() / pixels, rows * width];
            channels_first(simd, shape, band, (&mut planes[self.tile_row * tile * width..], pixels));
        }
    }
}
