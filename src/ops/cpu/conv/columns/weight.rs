//! The weight gradient for few output channels and stride 1: a vector holds pixels side by side, as in the forward kernel,
//! and the sums of a few channels and taps stay in registers while all pixels of an image go by.

use pulp::{Simd, WithSimd};

use super::{Layer, SLACK, lay_out, moved_elems, write_offsets};
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Channels that are taken together, of those that are left.
fn group(left: usize) -> usize {
    match (left, isa::has_32_registers()) {
        (1, _) => 1,
        (2, _) | (_, false) => 2,
        (4, _) => 4,
        _ => 3,
    }
}

/// Taps that are taken together: rows of the most frequent kernels are one such run.
fn run(taps: usize) -> usize {
    match taps {
        taps if taps % 5 == 0 => 5,
        taps if taps % 3 == 0 => 3,
        4.. => 4,
        _ => 1,
    }
}

/// What it takes for an image, in products of one lane, fitted to times on a Zen 4 core with AVX-512; `None` where it does
/// not serve a layer.
pub(in super::super) fn cost(layer: &Layer) -> Option<usize> {
    let (lanes, sums) = (isa::lanes(), layer.out_channels * layer.num_taps().next_multiple_of(run(layer.num_taps())));
    let pixels = layer.out_pixels().next_multiple_of(lanes);
    // Beside products sums are loaded and stored once for an image.
    (layer.stride == [1, 1]).then(|| sums * pixels + sums * pixels / 8 + 2 * sums * lanes + 10 * moved_elems(layer))
}

/// Adds the weight gradient of images side by side to `total` (O, C, KH, KW), on the calling thread.
pub(in super::super) fn grad_weight(layer: &Layer, grad: &[f32], input: &[f32], total: &mut [f32]) {
    let (taps, lanes) = (layer.num_taps(), isa::lanes());
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    scratch::with(taps, |offsets: &mut [u32]| {
        write_offsets(layer, offsets);
        scratch::with(total.len() * lanes + moved_elems(layer) + SLACK, |memory: &mut [f32]| {
            let (sums, image) = memory.split_at_mut(total.len() * lanes);
            sums.fill(0.0);
            for (planes, grad) in input.chunks_exact(image_in).zip(grad.chunks_exact(image_out)) {
                layer.with_padded(planes, LANES, |padded| {
                    isa::dispatch(Image { layer, offsets, padded, image, grad, sums });
                });
            }
            isa::dispatch(AddLanes { sums, total });
        });
    });
}

/// One image's part of the sums.
struct Image<'a> {
    layer: &'a Layer,
    offsets: &'a [u32],
    /// Padded, with room for a vector after it.
    padded: &'a [f32],
    /// Room for the image laid out for each column of the kernel, with slack.
    image: &'a mut [f32],
    /// (O, pixels).
    grad: &'a [f32],
    /// (O, taps, lanes).
    sums: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        lay_out(self.layer, self.padded, self.image);
        let image = &mut self;
        match run(image.offsets.len()) {
            5 => simd.vectorize(Runs::<5> { image }),
            3 => simd.vectorize(Runs::<3> { image }),
            4 => simd.vectorize(Runs::<4> { image }),
            _ => simd.vectorize(Runs::<1> { image }),
        }
    }
}

/// All channels and taps, T taps at a time.
struct Runs<'i, 'a, const T: usize> {
    image: &'i mut Image<'a>,
}

impl<const T: usize> WithSimd for Runs<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Runs { image } = self;
        let (mut first, channels) = (0, image.layer.out_channels);
        while first < channels {
            let count = group(channels - first);
            match count {
                4 => image.channels::<S, 4, T>(simd, first),
                3 => image.channels::<S, 3, T>(simd, first),
                2 => image.channels::<S, 2, T>(simd, first),
                _ => image.channels::<S, 1, T>(simd, first),
            }
            first += count;
        }
    }
}

impl Image<'_> {
    /// Adds to the sums of C channels from `first` on. The last run of taps is moved back to end with them, and adds only to
    /// those that none before it had.
    #[inline(always)]
    fn channels<S: Simd, const C: usize, const T: usize>(&mut self, simd: S, first: usize) {
        let (pixels, taps) = (self.layer.out_pixels(), self.offsets.len());
        let grad = &self.grad[first * pixels..][..C * pixels];
        let whole = pixels / S::F32_LANES * S::F32_LANES;
        for next in (0..taps).step_by(T) {
            let tap = next.min(taps - T);
            let offsets: &[u32; T] = self.offsets[tap..].first_chunk().expect("there are as many taps as a run has");
            let mut sums = [[simd.splat_f32s(0.0); T]; C];
            for position in (0..whole).step_by(S::F32_LANES) {
                let mut x = [simd.splat_f32s(0.0); T];
                unroll!(t in 0..T, up to 8 => {
                    x[t] = S::as_simd_f32s(&self.image[offsets[t] as usize + position..][..S::F32_LANES]).0[0];
                });
                unroll!(c in 0..C, up to 4 => {
                    let grad = S::as_simd_f32s(&grad[c * pixels + position..][..S::F32_LANES]).0[0];
                    unroll!(t in 0..T, up to 8 => { sums[c][t] = simd.mul_add_e_f32s(grad, x[t], sums[c][t]); });
                });
            }
            if whole < pixels {
                unroll!(t in 0..T, up to 8 => {
                    // What lies beyond is of no meaning, and need not be a number.
                    let x = simd.partial_load_f32s(&self.image[offsets[t] as usize + whole..][..pixels - whole]);
                    unroll!(c in 0..C, up to 4 => {
                        let grad = simd.partial_load_f32s(&grad[c * pixels + whole..][..pixels - whole]);
                        sums[c][t] = simd.mul_add_e_f32s(grad, x, sums[c][t]);
                    });
                });
            }
            unroll!(c in 0..C, up to 4 => {
                let start = ((first + c) * taps + tap) * S::F32_LANES;
                let to = S::as_mut_simd_f32s(&mut self.sums[start..][..T * S::F32_LANES]).0;
                unroll!(t in 0..T, up to 8 => {
                    if tap + t >= next {
                        to[t] = simd.add_f32s(to[t], sums[c][t]);
                    }
                });
            });
        }
    }
}

/// Adds the sum of each vector's lanes.
struct AddLanes<'a> {
    sums: &'a [f32],
    total: &'a mut [f32],
}

impl WithSimd for AddLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (total, &sums) in self.total.iter_mut().zip(S::as_simd_f32s(self.sums).0) {
            *total += simd.reduce_sum_f32s(sums);
        }
    }
}
