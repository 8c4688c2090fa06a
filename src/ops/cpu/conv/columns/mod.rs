//! The forward kernel for few output channels and stride 1: a vector holds pixels side by side, and a few vectors of
//! every channel stay in registers while all taps go by.
//!
//! The image is first laid out once for each column of the kernel, moved by that column's place and as wide as the output:
//! then what a tap meets is as contiguous as the output itself, rows and all, and no vector reaches beyond a row.

#[cfg(test)]
mod tests;
mod weight;

pub(super) use weight::{cost as grad_weight_cost, grad_weight};

use pulp::{Simd, WithSimd};

use super::{Finish, Layer, rectify};
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, parallel, scratch};

/// Elements that a tile may reach beyond the last pixel: the most vectors of a tile of the most lanes.
const SLACK: usize = 8 * LANES;

/// Channels that a tile has at most.
const MOST_CHANNELS: usize = 6;

/// `out = finish(input ⋆ weight)` for images side by side; weights are (O, C, KH, KW), the stride is 1.
pub(crate) fn forward(layer: &Layer, input: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let taps = layer.num_taps();
    scratch::with(taps, |offsets: &mut [u32]| {
        write_offsets(layer, offsets);
        scratch::with(layer.out_channels * taps, |packed: &mut [f32]| {
            pack(layer.out_channels, group, weight, packed);
            let (offsets, weight) = (&*offsets, &*packed);
            parallel::for_chunks(out, image_out, taps, |index, out| {
                layer.with_padded(&input[index * image_in..][..image_in], LANES, |padded| {
                    scratch::with(moved_elems(layer) + SLACK, |image: &mut [f32]| {
                        isa::dispatch(Image { layer, offsets, padded, image, weight, finish, out });
                    });
                });
            });
        });
    });
}

/// What it takes, in products of one lane, fitted to times on a Zen 4 core with AVX-512: those that it computes, also beyond the last pixel, laying an image
/// out, and storing outputs.
pub(super) fn cost(layer: &Layer) -> usize {
    let (lanes, mut left, mut products) = (isa::lanes(), layer.out_channels, 0);
    while left > 0 {
        let channels = group(left);
        let step = vectors(channels, layer.out_pixels()) * lanes;
        products += channels * layer.out_pixels().next_multiple_of(step) * layer.num_taps();
        left -= channels;
    }
    // Loads that cross a line of the cache cost a twelfth.
    products + products / 12 + 10 * moved_elems(layer) + 2 * layer.out_channels * layer.out_pixels()
}

/// Elements of an image that is laid out for each column of the kernel: (C, KW, rows, columns of the output).
fn moved_elems(layer: &Layer) -> usize {
    layer.in_channels * layer.kernel[1] * layer.padded()[0] * layer.output[1]
}

/// Writes where the elements begin that each tap meets.
fn write_offsets(layer: &Layer, offsets: &mut [u32]) {
    let ([height, _], [kernel_h, kernel_w], width) = (layer.padded(), layer.kernel, layer.output[1]);
    for (row, offsets) in offsets.chunks_exact_mut(kernel_w).enumerate() {
        let (channel, i) = (row / kernel_h, row % kernel_h);
        for (j, offset) in offsets.iter_mut().enumerate() {
            // An image has far fewer than 2^32 elements.
            *offset = (((channel * kernel_w + j) * height + i * layer.dilation[0]) * width) as u32;
        }
    }
}

/// Channels that are taken together, of those that are left.
fn group(left: usize) -> usize {
    match left {
        6.. => MOST_CHANNELS,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Vectors of each channel of a group at a time: as many as give 24 accumulators, or 12 where there are 16 registers; fewer
/// where those would reach further beyond the last pixel.
fn vectors(channels: usize, pixels: usize) -> usize {
    let [wide, narrow] = match (channels, isa::has_32_registers()) {
        (6.., true) => [4, 2],
        (4.., true) => [6, 4],
        (2.., true) => [8, 4],
        (6.., false) => [2, 2],
        (4.., false) => [3, 2],
        (2.., false) => [4, 2],
        _ => [8, 4],
    };
    let computed = |vectors: usize| pixels.next_multiple_of(vectors * isa::lanes());
    if computed(wide) <= computed(narrow) { wide } else { narrow }
}

/// Weights (O, taps) as (taps, C) for each group of C channels: as many as `group` takes of those that are left.
pub(super) fn pack(channels: usize, group: impl Fn(usize) -> usize, weight: &[f32], packed: &mut [f32]) {
    let (mut first, taps) = (0, weight.len() / channels);
    while first < channels {
        let count = group(channels - first);
        let (weight, packed) = (&weight[first * taps..], &mut packed[first * taps..][..count * taps]);
        for (tap, packed) in packed.chunks_exact_mut(count).enumerate() {
            packed.iter_mut().enumerate().for_each(|(channel, packed)| *packed = weight[channel * taps + tap]);
        }
        first += count;
    }
}

struct Image<'a> {
    layer: &'a Layer,
    offsets: &'a [u32],
    /// Padded, with room for a vector after it.
    padded: &'a [f32],
    /// Room for the image laid out for each column of the kernel, with slack.
    image: &'a mut [f32],
    /// As [`pack`] arranges them.
    weight: &'a [f32],
    finish: Finish<'a>,
    out: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        lay_out(self.layer, self.padded, self.image);
        let (mut first, pixels) = (0, self.layer.out_pixels());
        while first < self.layer.out_channels {
            let image = &mut self;
            let channels = group(image.layer.out_channels - first);
            first += match (channels, vectors(channels, pixels)) {
                (6, 4) => simd.vectorize(Channels::<6, 4> { image, first }),
                (6, _) => simd.vectorize(Channels::<6, 2> { image, first }),
                (4, 6) => simd.vectorize(Channels::<4, 6> { image, first }),
                (4, 4) => simd.vectorize(Channels::<4, 4> { image, first }),
                (4, 3) => simd.vectorize(Channels::<4, 3> { image, first }),
                (4, _) => simd.vectorize(Channels::<4, 2> { image, first }),
                (2, 8) => simd.vectorize(Channels::<2, 8> { image, first }),
                (2, 4) => simd.vectorize(Channels::<2, 4> { image, first }),
                (2, _) => simd.vectorize(Channels::<2, 2> { image, first }),
                (_, 8) => simd.vectorize(Channels::<1, 8> { image, first }),
                _ => simd.vectorize(Channels::<1, 4> { image, first }),
            };
        }
    }
}

/// Lays a padded image out for each column of the kernel.
#[inline(always)]
fn lay_out(layer: &Layer, padded: &[f32], image: &mut [f32]) {
    let Layer { kernel, dilation, output: [_, width], .. } = *layer;
    let [height, padded_width] = layer.padded();
    let mut to = 0;
    for channel in 0..layer.in_channels {
        for j in 0..kernel[1] {
            let from = &padded[channel * height * padded_width + j * dilation[1]..];
            let rows = Rows { from, step: padded_width, height, width, to: &mut image[to..] };
            match width.div_ceil(PIECE) {
                1 => rows.copy::<1>(),
                2 => rows.copy::<2>(),
                3 => rows.copy::<3>(),
                4 => rows.copy::<4>(),
                _ => rows.copy_long(),
            }
            to += height * width;
        }
    }
}

/// Elements that rows are copied by: 32 bytes, since longer pieces would nearly always be stored across two lines of the
/// cache.
const PIECE: usize = 8;

/// Rows that lie `step` apart, to be copied so that they touch.
struct Rows<'a> {
    from: &'a [f32],
    step: usize,
    height: usize,
    width: usize,
    to: &'a mut [f32],
}

impl Rows<'_> {
    /// By N pieces a row. What they write after it is overwritten by the next one, or is slack.
    #[inline(always)]
    fn copy<const N: usize>(self) {
        for row in 0..self.height {
            let from = self.from[row * self.step..][..N * PIECE].as_chunks::<PIECE>().0;
            let to = self.to[row * self.width..][..N * PIECE].as_chunks_mut::<PIECE>().0;
            unroll!(piece in 0..N, up to 4 => { to[piece] = from[piece]; });
        }
    }

    #[inline(always)]
    fn copy_long(self) {
        for row in 0..self.height {
            self.to[row * self.width..][..self.width].copy_from_slice(&self.from[row * self.step..][..self.width]);
        }
    }
}

/// All pixels of C channels from `first` on, V vectors at a time; gives C.
struct Channels<'i, 'a, const C: usize, const V: usize> {
    image: &'i mut Image<'a>,
    first: usize,
}

impl<const C: usize, const V: usize> WithSimd for Channels<'_, '_, C, V> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let Channels { image, first } = self;
        let (taps, pixels, step) = (image.layer.num_taps(), image.layer.out_pixels(), V * S::F32_LANES);
        let weights = image.weight[first * taps..][..C * taps].as_chunks::<C>().0;
        let out = &mut image.out[first * pixels..][..C * pixels];
        let bias = std::array::from_fn(|channel| image.finish.bias(first + channel));
        let tile = Tile { simd, offsets: image.offsets, weights, bias, relu: image.finish.relu };
        let whole = pixels / step * step;
        for position in (0..whole).step_by(step) {
            tile.store::<V>(&image.image[position..], &mut out[position..], pixels);
        }
        if whole < pixels {
            let mut last = [[0.0; SLACK]; C];
            tile.store::<V>(&image.image[whole..], last.as_flattened_mut(), SLACK);
            for (out, last) in out.chunks_exact_mut(pixels).zip(&last) {
                out[whole..].copy_from_slice(&last[..pixels - whole]);
            }
        }
        C
    }
}

/// What all tiles of C channels have in common.
struct Tile<'a, S, const C: usize> {
    simd: S,
    offsets: &'a [u32],
    /// (taps, C).
    weights: &'a [[f32; C]],
    bias: [f32; C],
    relu: bool,
}

impl<S: Simd, const C: usize> Tile<'_, S, C> {
    /// Stores V vectors of the channels, whose pixels lie `stride` apart.
    #[inline(always)]
    fn store<const V: usize>(&self, image: &[f32], out: &mut [f32], stride: usize) {
        let simd = self.simd;
        let mut sums = [[simd.splat_f32s(0.0); V]; C];
        unroll!(c in 0..C, up to 8 => { sums[c] = [simd.splat_f32s(self.bias[c]); V]; });
        for (&offset, weights) in self.offsets.iter().zip(self.weights) {
            let (loaded, _) = S::as_simd_f32s(&image[offset as usize..][..V * S::F32_LANES]);
            let mut x = [simd.splat_f32s(0.0); V];
            unroll!(v in 0..V, up to 8 => { x[v] = loaded[v]; });
            unroll!(c in 0..C, up to 8 => {
                let weight = simd.splat_f32s(weights[c]);
                unroll!(v in 0..V, up to 8 => { sums[c][v] = simd.mul_add_e_f32s(x[v], weight, sums[c][v]); });
            });
        }
        unroll!(c in 0..C, up to 8 => {
            let (out, _) = S::as_mut_simd_f32s(&mut out[c * stride..][..V * S::F32_LANES]);
            unroll!(v in 0..V, up to 8 => {
                out[v] = if self.relu { rectify(simd, sums[c][v]) } else { sums[c][v] };
            });
        });
    }
}
