//! The forward kernel for many output channels: a vector holds one pixel of as many channels as it has lanes, and a
//! tile of pixels stays in registers while all taps go by. Weights are packed by blocks of that many channels.

mod pool;

pub(super) use pool::{forward_pooled, is_pooled};

use pulp::{Simd, WithSimd};

use super::{Finish, Layer, rectify};
use crate::ops::cpu::transpose::{FEW, TILE, transpose_few, transpose_tile, turn};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, parallel, scratch};

/// Images below which the blocks of an image are handed out one by one.
const FEW_IMAGES: usize = 4;

/// `out = finish(input ⋆ weight)` for images side by side; weights are (O, C, KH, KW).
pub(super) fn forward(layer: &Layer, input: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (block_out, taps) = (isa::lanes() * layer.out_pixels(), layer.num_taps());
    with_weights(layer, tile(layer), weight, finish, |weights| {
        if out.len() / image_out < FEW_IMAGES {
            for (image, out) in input.chunks_exact(image_in).zip(out.chunks_exact_mut(image_out)) {
                layer.with_padded(image, 0, |image| {
                    let block = |index: usize, out: &mut [f32]| weights.block(image, index).store_all(out);
                    parallel::for_chunks(out, block_out, taps, block);
                });
            }
            return;
        }
        parallel::for_chunks(out, image_out, taps, |index, out| {
            layer.with_padded(&input[index * image_in..][..image_in], 0, |image| {
                let blocks = out.chunks_mut(block_out).enumerate();
                blocks.for_each(|(index, out)| weights.block(image, index).store_all(out));
            });
        });
    });
}

/// Calls `body` with the weights by blocks of channels, for tiles of so many rows and pixels.
fn with_weights(layer: &Layer, tile: [usize; 2], weight: &[f32], finish: Finish<'_>, body: impl FnOnce(Weights<'_>)) {
    let (taps, lanes) = (layer.num_taps(), isa::lanes());
    layer.with_offsets(|offsets| {
        scratch::with(layer.out_channels.div_ceil(lanes) * (1 + taps) * lanes, |packed: &mut [f32]| {
            pack(layer, weight, finish.bias, lanes, packed);
            body(Weights { layer, tile, offsets, packed, relu: finish.relu });
        });
    });
}

/// What the blocks of all images have in common.
struct Weights<'a> {
    layer: &'a Layer,
    /// Rows and pixels.
    tile: [usize; 2],
    offsets: &'a [u32],
    /// As [`pack`] arranges them.
    packed: &'a [f32],
    relu: bool,
}

impl Weights<'_> {
    /// One block of channels of a padded image.
    #[inline(always)]
    fn block<'a>(&'a self, image: &'a [f32], index: usize) -> Block<'a> {
        let Weights { layer, tile, offsets, packed, relu } = *self;
        let block_elems = (1 + layer.num_taps()) * isa::lanes();
        let weights = &packed[index * block_elems..][..block_elems];
        Block { layer, tile, offsets, image, weights, relu }
    }
}

/// Weights (O, taps) as blocks of `lanes` channels, the bias and then the taps, (1 + taps, lanes) each, with zeros for
/// channels that are not there.
fn pack(layer: &Layer, weight: &[f32], bias: Option<&[f32]>, lanes: usize, packed: &mut [f32]) {
    let taps = layer.num_taps();
    let blocks = weight.chunks(lanes * taps).zip(packed.chunks_exact_mut(lanes * (1 + taps)));
    for (index, (rows, block)) in blocks.enumerate() {
        let channels = rows.len() / taps;
        let (block_bias, block) = block.split_at_mut(lanes);
        block_bias.fill(0.0);
        if let Some(bias) = bias {
            block_bias[..channels].copy_from_slice(&bias[index * lanes..][..channels]);
        }
        isa::dispatch(Turn { rows, taps, block });
    }
}

/// Weights (channels, taps) as (taps, lanes).
struct Turn<'a> {
    rows: &'a [f32],
    taps: usize,
    block: &'a mut [f32],
}

impl WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        turn(simd, [self.rows.len() / self.taps, self.taps], (self.rows, self.taps), self.block);
    }
}

/// One image in one block of channels.
#[derive(Clone, Copy)]
struct Block<'a> {
    layer: &'a Layer,
    /// Rows and pixels.
    tile: [usize; 2],
    offsets: &'a [u32],
    /// Padded.
    image: &'a [f32],
    /// (1 + taps, lanes), the bias first.
    weights: &'a [f32],
    relu: bool,
}

impl Block<'_> {
    /// Stores all outputs, (channels, pixels), of as many channels as there are.
    fn store_all(self, out: &mut [f32]) {
        isa::dispatch(StoreAll(self, out));
    }
}

struct StoreAll<'a>(Block<'a>, &'a mut [f32]);

impl WithSimd for StoreAll<'_> {
    type Output = ();

    /// Each tile's loops are a function of their own, since the compiler gives up inlining within one that is too long.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.0.layer.stride[1], self.0.tile) {
            (1, [1, 28]) => simd.vectorize(Tiles::<1, 28, 1>(self)),
            (1, [2, 14]) => simd.vectorize(Tiles::<2, 14, 1>(self)),
            (1, [2, 12]) => simd.vectorize(Tiles::<2, 12, 1>(self)),
            (1, [2, 10]) => simd.vectorize(Tiles::<2, 10, 1>(self)),
            (1, [2, 8]) => simd.vectorize(Tiles::<2, 8, 1>(self)),
            (1, [2, 6]) => simd.vectorize(Tiles::<2, 6, 1>(self)),
            (1, [3, 4]) => simd.vectorize(Tiles::<3, 4, 1>(self)),
            (2, [2, 8]) => simd.vectorize(Tiles::<2, 8, 2>(self)),
            (2, [2, 4]) => simd.vectorize(Tiles::<2, 4, 2>(self)),
            _ => simd.vectorize(Tiles::<1, 1, 1>(self)),
        }
    }
}

/// Rows and pixels of the tiles of a block: as many accumulators as there are registers for, so that the products hide the
/// loads of weights and the loop overhead, and as little as there can be that is computed twice at the ends.
fn tile(layer: &Layer) -> [usize; 2] {
    let tiles: &[[usize; 2]] = match (layer.stride[1], isa::has_32_registers()) {
        (1, true) => &[[1, 28], [2, 14], [2, 12], [2, 10], [2, 8], [2, 6], [3, 4]],
        (1, false) => &[[2, 6], [3, 4]],
        (2, true) => &[[2, 8], [2, 4]],
        (2, false) => &[[2, 4]],
        _ => &[],
    };
    fits(layer, tiles).unwrap_or([1, 1])
}

/// The tile with which least is computed, of those that the output has room for.
fn fits(layer: &Layer, tiles: &[[usize; 2]]) -> Option<[usize; 2]> {
    let [height, width] = layer.output;
    let tiles = tiles.iter().copied().filter(|&[rows, pixels]| rows <= height && pixels <= width);
    tiles.min_by_key(|&tile| computed_pixels(layer, tile))
}

/// Pixels of an image that are computed in such tiles, some of them twice.
fn computed_pixels(layer: &Layer, [rows, pixels]: [usize; 2]) -> usize {
    layer.output[0].next_multiple_of(rows) * layer.output[1].next_multiple_of(pixels)
}

/// What it takes, in products of one lane: those for channels up to a whole block and for whole tiles, and turning each
/// pixel's channels around as they are stored, at the cost of some 24 taps.
pub(super) fn cost(layer: &Layer) -> usize {
    let channels = layer.out_channels.next_multiple_of(isa::lanes());
    computed_pixels(layer, tile(layer)) * channels * (layer.num_taps() + 24)
}

/// A block's outputs in tiles of R rows and P pixels, whose inputs lie STEP apart.
struct Tiles<'a, const R: usize, const P: usize, const STEP: usize>(StoreAll<'a>);

impl<const R: usize, const P: usize, const STEP: usize> WithSimd for Tiles<'_, R, P, STEP> {
    type Output = ();

    /// Tiles at the end of a row, or of the rows, are moved back to end with them.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tiles(StoreAll(block, out)) = self;
        let [height, width] = block.layer.output;
        for y in (0..height).step_by(R) {
            for x in (0..width).step_by(P) {
                let (y, x) = (y.min(height - R), x.min(width - P));
                let sums = block.sums::<S, R, P, STEP>(simd, y, x);
                unroll!(r in 0..R, up to 4 => { block.store(simd, &sums[r], (y + r) * width + x, out); });
            }
        }
    }
}

impl Block<'_> {
    /// R rows of P pixels from (y, x) on, `STEP` input pixels apart.
    #[inline(always)]
    fn sums<S: Simd, const R: usize, const P: usize, const STEP: usize>(
        &self,
        simd: S,
        y: usize,
        x: usize,
    ) -> [[S::f32s; P]; R] {
        let Layer { stride, .. } = *self.layer;
        let [_, padded_width] = self.layer.padded();
        let image = &self.image[y * stride[0] * padded_width + x * stride[1]..];
        let row_step = stride[0] * padded_width;
        let (weights, _) = S::as_simd_f32s(self.weights);
        let [bias, weights @ ..] = weights else { panic!("the bias comes first") };
        let mut sums = [[*bias; P]; R];
        for (&offset, &weight) in self.offsets.iter().zip(weights) {
            let image = &image[offset as usize..];
            unroll!(r in 0..R, up to 4 => {
                let row = &image[r * row_step..][..(P - 1) * STEP + 1];
                unroll!(p in 0..P, up to 28 => {
                    sums[r][p] = simd.mul_add_e_f32s(simd.splat_f32s(row[p * STEP]), weight, sums[r][p]);
                });
            });
        }
        // A copy, so that the sums themselves need no address and stay in registers.
        let mut finished = [[simd.splat_f32s(0.0); P]; R];
        unroll!(r in 0..R, up to 4 => {
            unroll!(p in 0..P, up to 28 => {
                finished[r][p] = if self.relu { rectify(simd, sums[r][p]) } else { sums[r][p] };
            });
        });
        finished
    }

    /// Stores P pixels of a row from the plane's pixel `start` on, channel by channel.
    #[inline(always)]
    fn store<S: Simd, const P: usize>(&self, simd: S, sums: &[S::f32s; P], start: usize, out: &mut [f32]) {
        let values: &[f32] = pulp::bytemuck::cast_slice(sums);
        let pixels = self.layer.out_pixels();
        if S::F32_LANES == FEW {
            unroll!(part in 0..P.div_ceil(FEW), up to 4 => {
                let (first, count) = (part * FEW, if P - part * FEW < FEW { P - part * FEW } else { FEW });
                let mut tile = [[0.0; FEW]; FEW];
                tile.as_flattened_mut()[..count * FEW].copy_from_slice(&values[first * FEW..(first + count) * FEW]);
                for (out, row) in out.chunks_exact_mut(pixels).zip(&transpose_few(simd, &tile)) {
                    out[start + first..][..count].copy_from_slice(&row[..count]);
                }
            });
            return;
        }
        if S::F32_LANES != TILE {
            for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
                let out = &mut out[start..][..P];
                unroll!(p in 0..P, up to 28 => { out[p] = values[p * S::F32_LANES + channel]; });
            }
            return;
        }
        unroll!(part in 0..P.div_ceil(TILE), up to 4 => {
            let (first, count) = (part * TILE, if P - part * TILE < TILE { P - part * TILE } else { TILE });
            let mut tile = [[0.0; TILE]; TILE];
            tile.as_flattened_mut()[..count * TILE].copy_from_slice(&values[first * TILE..(first + count) * TILE]);
            transpose_tile(simd, &mut tile);
            for (out, row) in out.chunks_exact_mut(pixels).zip(&tile) {
                out[start + first..][..count].copy_from_slice(&row[..count]);
            }
        });
    }
}
