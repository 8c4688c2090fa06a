//! The forward kernel for many output channels: a vector holds one pixel of as many channels as it has lanes, and a
//! tile of pixels stays in registers while all taps go by. Weights are packed by blocks of that many channels.

use pulp::{Simd, WithSimd};

use super::{Finish, Layer, rectify};
use crate::ops::cpu::transpose::{TILE, transpose_tile, turn};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, parallel, scratch};

/// Images below which the blocks of an image are handed out one by one.
const FEW_IMAGES: usize = 4;

/// `out = finish(input ⋆ weight)` for images side by side; weights are (O, C, KH, KW).
pub(crate) fn forward(layer: &Layer, input: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    let (taps, lanes) = (layer.num_taps(), isa::lanes());
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (num_blocks, tile) = (layer.out_channels.div_ceil(lanes), tile(layer));
    layer.with_offsets(|offsets| {
        scratch::with(num_blocks * (1 + taps) * lanes, |packed: &mut [f32]| {
            pack(layer, weight, finish.bias, lanes, packed);
            let packed = &*packed;
            let block = |image: &[f32], index: usize, out: &mut [f32]| {
                let weights = &packed[index * (1 + taps) * lanes..][..(1 + taps) * lanes];
                isa::dispatch(Block { layer, tile, offsets, image, weights, relu: finish.relu, out });
            };
            let block_out = lanes * layer.out_pixels();
            if out.len() / image_out < FEW_IMAGES {
                for (image, out) in input.chunks_exact(image_in).zip(out.chunks_exact_mut(image_out)) {
                    layer.with_padded(image, 0, |image| {
                        parallel::for_chunks(out, block_out, taps, |index, out| block(image, index, out));
                    });
                }
                return;
            }
            parallel::for_chunks(out, image_out, taps, |index, out| {
                layer.with_padded(&input[index * image_in..][..image_in], 0, |image| {
                    out.chunks_mut(block_out).enumerate().for_each(|(index, out)| block(image, index, out));
                });
            });
        });
    });
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

/// One image's outputs in one block of channels.
struct Block<'a> {
    layer: &'a Layer,
    /// As [`tile`] chooses it.
    tile: [usize; 2],
    offsets: &'a [u32],
    /// Padded.
    image: &'a [f32],
    /// (1 + taps, lanes), the bias first.
    weights: &'a [f32],
    relu: bool,
    /// (channels, pixels), as many channels as there are.
    out: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    /// Each tile's loops are a function of their own, since the compiler gives up inlining within one that is too long.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.layer.stride[1], self.tile) {
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
    let [height, width] = layer.output;
    let tiles = tiles.iter().copied().filter(|&[rows, pixels]| rows <= height && pixels <= width);
    tiles.min_by_key(|&tile| computed_pixels(layer, tile)).unwrap_or([1, 1])
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
struct Tiles<'a, const R: usize, const P: usize, const STEP: usize>(Block<'a>);

impl<const R: usize, const P: usize, const STEP: usize> WithSimd for Tiles<'_, R, P, STEP> {
    type Output = ();

    /// Tiles at the end of a row, or of the rows, are moved back to end with them.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tiles(mut block) = self;
        let [height, width] = block.layer.output;
        for y in (0..height).step_by(R) {
            for x in (0..width).step_by(P) {
                block.tile::<S, R, P, STEP>(simd, y.min(height - R), x.min(width - P));
            }
        }
    }
}

impl Block<'_> {
    /// R rows of P pixels from (y, x) on, `STEP` input pixels apart.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize, const STEP: usize>(&mut self, simd: S, y: usize, x: usize) {
        let Layer { stride, .. } = *self.layer;
        let [_, padded_width] = self.layer.padded();
        let image = &self.image[y * stride[0] * padded_width + x * stride[1]..];
        let row_step = stride[0] * padded_width;
        let (weights, _) = S::as_simd_f32s(self.weights);
        let [bias, weights @ ..] = weights else { return };
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
        let zero = simd.splat_f32s(0.0);
        // A copy, so that the sums themselves need no address and stay in registers.
        let mut stored = [[zero; P]; R];
        unroll!(r in 0..R, up to 4 => {
            unroll!(p in 0..P, up to 28 => {
                stored[r][p] = if self.relu { rectify(simd, sums[r][p]) } else { sums[r][p] };
            });
        });
        unroll!(r in 0..R, up to 4 => { self.store(simd, &stored[r], y + r, x); });
    }

    /// Stores P pixels of a row, channel by channel.
    #[inline(always)]
    fn store<S: Simd, const P: usize>(&mut self, simd: S, sums: &[S::f32s; P], y: usize, x: usize) {
        let values: &[f32] = pulp::bytemuck::cast_slice(sums);
        let (pixels, width) = (self.layer.out_pixels(), self.layer.output[1]);
        let start = y * width + x;
        if S::F32_LANES != TILE {
            for (channel, out) in self.out.chunks_exact_mut(pixels).enumerate() {
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
            for (out, row) in self.out.chunks_exact_mut(pixels).zip(&tile) {
                out[start + first..][..count].copy_from_slice(&row[..count]);
            }
        });
    }
}
