//! The direct kernel, for few output channels: sums of a few channels' cells stay in registers while all taps go by.

use pulp::{Simd, WithSimd};

use super::layout;
use crate::ops::cpu::conv::{Layer, by_lanes};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// A window is a tile.
pub(super) type Split = layout::Split<2>;
type Images<'a> = super::Images<'a, 2>;

/// Channels that are taken together, of those that are left: their cells take 24 accumulators, or 8 of 16 registers.
pub(super) fn group(left: usize) -> usize {
    match (left, isa::has_32_registers()) {
        (6.., true) => 6,
        (4.., true) => 4,
        (2.., _) => 2,
        _ => 1,
    }
}

/// What it takes, in products of one lane, as the cost of `columns`; with few registers, loads take twice as long.
pub(super) fn cost(layer: &Layer) -> usize {
    let windows = layer.output[0] / 2 * (layer.output[1] / 2);
    let cells = 4 * windows.next_multiple_of(isa::lanes());
    let products = cells * layer.out_channels * layer.num_taps();
    (products + products / 12 + 2 * layer.out_channels * cells) * by_lanes([1, 2])
}

pub(super) fn run(windows: Images<'_>) {
    let split = windows.split;
    scratch::with(split.num_elems(split.layer.in_channels), |image: &mut [f32]| {
        isa::dispatch(layout::LayOut { split, padded: windows.padded, image });
        isa::dispatch(Run { windows, image });
    });
}

struct Run<'a> {
    windows: Images<'a>,
    /// Laid out.
    image: &'a [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (mut first, channels) = (0, self.windows.split.layer.out_channels);
        while first < channels {
            let image = &mut self;
            first += match group(channels - first) {
                6 => simd.vectorize(Channels::<6> { image, first }),
                4 => simd.vectorize(Channels::<4> { image, first }),
                2 => simd.vectorize(Channels::<2> { image, first }),
                _ => simd.vectorize(Channels::<1> { image, first }),
            };
        }
    }
}

/// All windows of C channels from `first` on; gives C.
struct Channels<'i, 'a, const C: usize> {
    image: &'i mut Run<'a>,
    first: usize,
}

impl<const C: usize> WithSimd for Channels<'_, '_, C> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let Channels { image, first } = self;
        for position in image.windows.split.positions(S::F32_LANES) {
            let mut sums = [[simd.splat_f32s(0.0); 4]; C];
            add_taps::<S, C>(simd, image, [first, position], &mut sums);
            let places = image.windows.places(simd, position, 0);
            unroll!(c in 0..C, up to 8 => { image.windows.store(simd, [first + c, position], sums[c], places); });
        }
        C
    }
}

/// Adds the products of C channels' cells of a vector of windows.
#[inline(always)]
fn add_taps<S: Simd, const C: usize>(
    simd: S,
    image: &Run<'_>,
    [first, position]: [usize; 2],
    sums: &mut [[S::f32s; 4]; C],
) {
    let (split, layer) = (&image.windows.split, &image.windows.split.layer);
    let ([kernel_h, kernel_w], taps) = (layer.kernel, layer.num_taps());
    let mut weights = image.windows.weights[first * taps..][..C * taps].as_chunks::<C>().0.iter();
    let step = split.offset(0, 0, 1);
    let load = |row: &[f32]| S::as_simd_f32s(&row[..S::F32_LANES]).0[0];
    for channel in 0..layer.in_channels {
        for i in 0..kernel_h {
            // What the upper row of cells meets, and the lower one. A cell meets next what the one beside it met.
            let rows = [i, i + 1].map(|i| &image.image[split.offset(channel, i, 0) + position..]);
            let mut x = [load(rows[0]), load(rows[0]), load(rows[1]), load(rows[1])];
            for (j, weights) in (1..=kernel_w).zip(&mut weights) {
                (x[1], x[3]) = (load(&rows[0][j * step..]), load(&rows[1][j * step..]));
                unroll!(c in 0..C, up to 8 => {
                    let weight = simd.splat_f32s(weights[c]);
                    unroll!(cell in 0..4, up to 4 => {
                        sums[c][cell] = simd.mul_add_e_f32s(x[cell], weight, sums[c][cell]);
                    });
                });
                (x[0], x[2]) = (x[1], x[3]);
            }
        }
    }
}

impl Images<'_> {
    /// Stores the largest of each of a vector of windows, whose cells' sums these are, and where it is.
    #[inline(always)]
    fn store<S: Simd>(&mut self, simd: S, [channel, position]: [usize; 2], sums: [S::f32s; 4], places: [S::f32s; 4]) {
        let num_windows = self.split.num_tiles();
        let bias = simd.splat_f32s(self.finish.bias(channel));
        let (max, place) = self.largest(simd, bias, sums, places);
        let start = channel * num_windows + position;
        if num_windows >= S::F32_LANES {
            S::as_mut_simd_f32s(&mut self.values[start..][..S::F32_LANES]).0[0] = max;
            S::as_mut_simd_f32s(&mut self.indices[start..][..S::F32_LANES]).0[0] = place;
        } else {
            simd.partial_store_f32s(&mut self.values[start..][..num_windows], max);
            simd.partial_store_f32s(&mut self.indices[start..][..num_windows], place);
        }
    }
}
