//! The forward kernel for few output channels and stride 1: a vector holds pixels side by side, and a few vectors of
//! every channel stay in registers while all taps go by. Pixels are walked over as they lie in the padded image, row
//! ends and all: what is computed between two rows of the output is left out when rows are copied to it.

use pulp::{Simd, WithSimd};

use super::{Finish, Layer};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, parallel, scratch};

/// Elements that a tile may reach beyond the last pixel: the most vectors of a tile of the most lanes.
const SLACK: usize = 8 * 16;

/// Channels that a tile has at most.
const MOST_CHANNELS: usize = 6;

/// `out = finish(input ⋆ weight)` for images side by side; weights are (O, C, KH, KW), the stride is 1.
pub(crate) fn forward(layer: &Layer, input: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let taps = layer.num_taps();
    layer.with_offsets(|offsets| {
        scratch::with(layer.out_channels * taps, |packed: &mut [f32]| {
            pack(layer.out_channels, weight, packed);
            let weight = &*packed;
            parallel::for_chunks(out, image_out, taps, |index, out| {
                layer.with_padded(&input[index * image_in..][..image_in], SLACK, |image| {
                    scratch::with(MOST_CHANNELS * (layer.plane_elems() + SLACK), |sums: &mut [f32]| {
                        isa::dispatch(Image { layer, offsets, image, weight, finish, sums, out });
                    });
                });
            });
        });
    });
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

/// Weights (O, taps) as (taps, C) for each group of C channels.
fn pack(channels: usize, weight: &[f32], packed: &mut [f32]) {
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
    /// Padded, with slack.
    image: &'a [f32],
    /// As [`pack`] arranges them.
    weight: &'a [f32],
    finish: Finish<'a>,
    /// Room for the sums of [`MOST_CHANNELS`].
    sums: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    /// Takes channels in turn, as many at a time as give 24 accumulators, or 12 where there are 16 registers.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let many = S::REGISTER_COUNT >= 32;
        let mut first = 0;
        while first < self.layer.out_channels {
            let image = &mut self;
            first += match group(image.layer.out_channels - first) {
                6 if many => simd.vectorize(Channels::<6, 4> { image, first }),
                6 => simd.vectorize(Channels::<6, 2> { image, first }),
                4 if many => simd.vectorize(Channels::<4, 6> { image, first }),
                4 => simd.vectorize(Channels::<4, 3> { image, first }),
                2 if many => simd.vectorize(Channels::<2, 8> { image, first }),
                2 => simd.vectorize(Channels::<2, 4> { image, first }),
                _ => simd.vectorize(Channels::<1, 8> { image, first }),
            };
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
        self.image.channels::<S, C, V>(simd, self.first)
    }
}

impl Image<'_> {
    /// All pixels of C channels from `first` on; gives C.
    #[inline(always)]
    fn channels<S: Simd, const C: usize, const V: usize>(&mut self, simd: S, first: usize) -> usize {
        let taps = self.layer.num_taps();
        let [height, width] = self.layer.output;
        let [_, padded_width] = self.layer.padded();
        let step = V * S::F32_LANES;
        let num_positions = ((height - 1) * padded_width + width).next_multiple_of(step);
        let (weights, sums) = (&self.weight[first * taps..][..C * taps], &mut *self.sums);
        for position in (0..num_positions).step_by(step) {
            let sums = &mut sums[position..];
            tile::<S, C, V>(simd, self.offsets, &self.image[position..], weights, (sums, num_positions));
        }
        let pixels = self.layer.out_pixels();
        for (channel, sums) in sums.chunks_exact(num_positions).take(C).enumerate() {
            let bias = self.finish.bias(first + channel);
            let out = &mut self.out[(first + channel) * pixels..][..pixels];
            for (out, sums) in out.chunks_exact_mut(width).zip(sums.chunks(padded_width)) {
                finish_row(self.finish.relu, bias, sums, out);
            }
        }
        C
    }
}

/// Adds the bias to the sums of a row and stores them. Rows are short: by arrays, since a loop of the compiler's would
/// take vectors only from a few dozen elements on.
#[inline(always)]
fn finish_row(relu: bool, bias: f32, sums: &[f32], out: &mut [f32]) {
    let sums = &sums[..out.len()];
    let ((sums, sums_rest), (out, out_rest)) = (sums.as_chunks::<8>(), out.as_chunks_mut::<8>());
    out.iter_mut().zip(sums).for_each(|(out, sums)| *out = finish(relu, bias, sums));
    let ((sums, sums_rest), (out, out_rest)) = (sums_rest.as_chunks::<4>(), out_rest.as_chunks_mut::<4>());
    out.iter_mut().zip(sums).for_each(|(out, sums)| *out = finish(relu, bias, sums));
    out_rest.iter_mut().zip(sums_rest).for_each(|(out, &sum)| [*out] = finish(relu, bias, &[sum]));
}

#[inline(always)]
fn finish<const N: usize>(relu: bool, bias: f32, sums: &[f32; N]) -> [f32; N] {
    let mut out = [0.0; N];
    out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = Finish::value(relu, sum + bias));
    out
}

/// V vectors of C channels at the image's start, from weights (taps, C), to sums that lie `stride` apart.
#[inline(always)]
fn tile<S: Simd, const C: usize, const V: usize>(
    simd: S,
    offsets: &[u32],
    image: &[f32],
    weights: &[f32],
    (out, stride): (&mut [f32], usize),
) {
    let mut sums = [[simd.splat_f32s(0.0); V]; C];
    for (&offset, weights) in offsets.iter().zip(weights.as_chunks::<C>().0) {
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
        unroll!(v in 0..V, up to 8 => { out[v] = sums[c][v]; });
    });
}
