//! The weight gradient for many output channels: gradients are turned so that a vector holds one pixel of as many
//! channels as it has lanes, and the sums of some taps stay in registers while all pixels go by.

use pulp::{Simd, WithSimd};

use super::Layer;
use crate::ops::cpu::transpose::channels_last;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Adds the weight gradient of images side by side to `total` (O, C, KH, KW), on the calling thread.
pub(super) fn grad_weight(layer: &Layer, grad: &[f32], input: &[f32], total: &mut [f32]) {
    let (taps, lanes, pixels) = (layer.num_taps(), isa::lanes(), layer.out_pixels());
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * pixels);
    let num_blocks = layer.out_channels.div_ceil(lanes);
    scratch::with(num_blocks * taps * lanes, |sums: &mut [f32]| {
        sums.fill(0.0);
        layer.with_offsets(|offsets| {
            scratch::with(pixels * lanes, |turned: &mut [f32]| {
                for (image, grad) in input.chunks_exact(image_in).zip(grad.chunks_exact(image_out)) {
                    layer.with_padded(image, 0, |image| {
                        let blocks = grad.chunks(lanes * pixels).zip(sums.chunks_exact_mut(taps * lanes));
                        for (grad, sums) in blocks {
                            isa::dispatch(Block { layer, offsets, image, grad, turned, sums });
                        }
                    });
                }
            });
        });
        for (rows, sums) in total.chunks_mut(lanes * taps).zip(sums.chunks_exact(lanes * taps)) {
            for (channel, row) in rows.chunks_exact_mut(taps).enumerate() {
                row.iter_mut().zip(sums[channel..].iter().step_by(lanes)).for_each(|(row, &sum)| *row += sum);
            }
        }
    });
}

/// What it takes for an image, in products of one lane.
pub(super) fn cost(layer: &Layer) -> usize {
    let channels = layer.out_channels.next_multiple_of(isa::lanes());
    layer.out_pixels() * layer.num_taps() * channels
}

/// One image's part of the sums of one block of channels.
struct Block<'a> {
    layer: &'a Layer,
    offsets: &'a [u32],
    /// Padded.
    image: &'a [f32],
    /// (channels, pixels).
    grad: &'a [f32],
    /// Room for (pixels, lanes).
    turned: &'a mut [f32],
    /// (taps, lanes).
    sums: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    /// Taps side by side in a row of the kernel share a load's address; as many such runs go by at a time as there are
    /// registers for.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        channels_last(simd, self.grad, self.layer.out_pixels(), self.turned);
        let many = S::REGISTER_COUNT >= 32;
        let is_plain = self.layer.dilation[1] == 1 && self.layer.stride[1] == 1;
        match self.layer.kernel[1] {
            3 if is_plain && many => simd.vectorize(Runs::<3, 8>(self)),
            3 if is_plain => simd.vectorize(Runs::<3, 4>(self)),
            5 if is_plain && many => simd.vectorize(Runs::<5, 5>(self)),
            5 if is_plain => simd.vectorize(Runs::<5, 2>(self)),
            7 if is_plain && many => simd.vectorize(Runs::<7, 3>(self)),
            7 if is_plain => simd.vectorize(Runs::<7, 1>(self)),
            _ if many => simd.vectorize(Runs::<1, 16>(self)),
            _ => simd.vectorize(Runs::<1, 8>(self)),
        }
    }
}

/// All taps, `RUNS` runs of W taps at a time.
struct Runs<'a, const W: usize, const RUNS: usize>(Block<'a>);

impl<const W: usize, const RUNS: usize> WithSimd for Runs<'_, W, RUNS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.0.runs::<S, W, RUNS>(simd);
    }
}

impl Block<'_> {
    #[inline(always)]
    fn runs<S: Simd, const W: usize, const RUNS: usize>(&mut self, simd: S) {
        let taps = self.offsets.len();
        let mut first = 0;
        while first + W * RUNS <= taps {
            self.tile::<S, W, RUNS>(simd, first);
            first += W * RUNS;
        }
        while first < taps {
            self.tile::<S, W, 1>(simd, first);
            first += W;
        }
    }

    /// Adds to the sums of `RUNS` runs of W taps from tap `first` on.
    #[inline(always)]
    fn tile<S: Simd, const W: usize, const RUNS: usize>(&mut self, simd: S, first: usize) {
        let [height, width] = self.layer.output;
        let ([step_y, step_x], [_, padded_width]) = (self.layer.stride, self.layer.padded());
        let (grad, _) = S::as_simd_f32s(self.turned);
        let (sums_out, _) = S::as_mut_simd_f32s(self.sums);
        let sums_out = &mut sums_out[first..first + W * RUNS];
        let mut starts = [0; RUNS];
        unroll!(run in 0..RUNS, up to 16 => { starts[run] = self.offsets[first + run * W] as usize; });
        let mut sums = [[simd.splat_f32s(0.0); W]; RUNS];
        unroll!(run in 0..RUNS, up to 16 => { unroll!(j in 0..W, up to 8 => { sums[run][j] = sums_out[run * W + j]; }); });
        for (y, grad) in grad.chunks_exact(width).take(height).enumerate() {
            let at = y * step_y * padded_width;
            let len = (width - 1) * step_x + W;
            let mut rows: [&[f32]; RUNS] = [&[]; RUNS];
            unroll!(run in 0..RUNS, up to 16 => { rows[run] = &self.image[starts[run] + at..][..len]; });
            for (x, &grad) in grad.iter().enumerate() {
                unroll!(run in 0..RUNS, up to 16 => {
                    let row = &rows[run][x * step_x..][..W];
                    unroll!(j in 0..W, up to 8 => {
                        sums[run][j] = simd.mul_add_e_f32s(simd.splat_f32s(row[j]), grad, sums[run][j]);
                    });
                });
            }
        }
        unroll!(run in 0..RUNS, up to 16 => { unroll!(j in 0..W, up to 8 => { sums_out[run * W + j] = sums[run][j]; }); });
    }
}
