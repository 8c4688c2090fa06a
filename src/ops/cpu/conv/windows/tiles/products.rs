//! The sums of products at the points of a vector of tiles, and what becomes of them.

use pulp::{Simd, WithSimd};

use super::{Images, MET, Rows, TILE, VALUES, num_outputs, transform};
use crate::ops::cpu::conv::winograd::{self, Transform};
use crate::ops::cpu::isa;
use crate::ops::cpu::transpose::store_in_turn;
use crate::ops::cpu::unroll::unroll;

/// The most output channels that are taken together.
pub(super) const MOST_OUTPUTS: usize = 6;

/// Output channels that are taken together, of those that are left of a block: at a row of points they take 12 accumulators
/// or 24, or 8 or 12 of 16 registers.
pub(super) fn group(rows: Rows, left: usize) -> usize {
    match (rows, left, isa::has_32_registers()) {
        (Rows::Direct, 6.., true) | (Rows::Direct, 6, false) => 6,
        (_, 4.., true) | (Rows::Direct, 4.., _) => 4,
        (_, 2.., _) => 2,
        _ => 1,
    }
}

/// A vector of tiles.
pub(super) struct Products<'i, 'a> {
    pub images: &'i Images<'a>,
    pub position: usize,
    /// (C, row points, column points, lanes).
    pub values: &'i [f32],
    pub outputs: &'i mut [f32],
    pub sums: &'i mut [f32],
}

/// All output channels.
#[inline(always)]
pub(super) fn run<S: Simd>(simd: S, rows: Rows, mut tiles: Products<'_, '_>) {
    let (mut first, channels) = (0, tiles.images.split.layer.out_channels);
    while first < channels {
        let left = (channels - first).min(isa::lanes() - first % isa::lanes());
        let tiles = &mut tiles;
        first += match (rows, group(rows, left)) {
            (Rows::Direct, 6) => Direct::<6> { tiles, first }.with_simd(simd),
            (Rows::Direct, 4) => Direct::<4> { tiles, first }.with_simd(simd),
            (Rows::Direct, 2) => Direct::<2> { tiles, first }.with_simd(simd),
            (Rows::Direct, _) => Direct::<1> { tiles, first }.with_simd(simd),
            (Rows::Winograd, 4) => Winograd::<4> { tiles, first }.with_simd(simd),
            (Rows::Winograd, 2) => Winograd::<2> { tiles, first }.with_simd(simd),
            (Rows::Winograd, _) => Winograd::<1> { tiles, first }.with_simd(simd),
        };
    }
}

/// O channels from `first` on, their sums along rows as they are defined; gives O.
struct Direct<'t, 'i, 'a, const O: usize> {
    tiles: &'t mut Products<'i, 'a>,
    first: usize,
}

impl<const O: usize> WithSimd for Direct<'_, '_, '_, O> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        const K: usize = transform::KERNEL;
        let Direct { tiles, first } = self;
        let values = S::as_simd_f32s(tiles.values).0.as_chunks::<VALUES>().0;
        let sums_at = S::as_mut_simd_f32s(tiles.sums).0.as_chunks_mut::<{ MET[0] }>().0.as_chunks_mut::<2>().0;
        let sums_at = &mut sums_at[..O];
        for i in 0..MET[0] {
            let mut sums = [[simd.splat_f32s(0.0); 2]; O];
            for (channel, values) in values.iter().enumerate() {
                let values = &values[i * MET[1]..][..MET[1]];
                let weights = weights::<O, K>(tiles.images, [i, channel], first);
                unroll!(j in 0..K, up to 8 => {
                    unroll!(o in 0..O, up to 8 => {
                        let weight = simd.splat_f32s(weights[j][o]);
                        sums[o][0] = simd.mul_add_e_f32s(weight, values[j], sums[o][0]);
                        sums[o][1] = simd.mul_add_e_f32s(weight, values[j + 1], sums[o][1]);
                    });
                });
            }
            unroll!(o in 0..O, up to 8 => {
                (sums_at[o][0][i], sums_at[o][1][i]) = (sums[o][0], sums[o][1]);
            });
        }
        finish::<S, O>(simd, tiles, first)
    }
}

/// O channels from `first` on, their sums along rows by F(2, 5); gives O.
struct Winograd<'t, 'i, 'a, const O: usize> {
    tiles: &'t mut Products<'i, 'a>,
    first: usize,
}

impl<const O: usize> WithSimd for Winograd<'_, '_, '_, O> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        const POINTS: usize = winograd::POINTS;
        let Winograd { tiles, first } = self;
        let values = S::as_simd_f32s(tiles.values).0.as_chunks::<VALUES>().0;
        let sums_at = S::as_mut_simd_f32s(tiles.sums).0.as_chunks_mut::<{ MET[0] }>().0.as_chunks_mut::<2>().0;
        let sums_at = &mut sums_at[..O];
        for i in 0..MET[0] {
            let mut sums = [[simd.splat_f32s(0.0); POINTS]; O];
            for (channel, values) in values.iter().enumerate() {
                let values = &values[i * POINTS..][..POINTS];
                let weights = weights::<O, POINTS>(tiles.images, [i, channel], first);
                unroll!(j in 0..POINTS, up to 8 => {
                    unroll!(o in 0..O, up to 4 => {
                        let weight = simd.splat_f32s(weights[j][o]);
                        sums[o][j] = simd.mul_add_e_f32s(weight, values[j], sums[o][j]);
                    });
                });
            }
            unroll!(o in 0..O, up to 4 => {
                let cells: [S::f32s; 2] = winograd::Output.apply(simd, sums[o]);
                (sums_at[o][0][i], sums_at[o][1][i]) = (cells[0], cells[1]);
            });
        }
        finish::<S, O>(simd, tiles, first)
    }
}

/// What an input channel's values at a row of points are multiplied with, for a group of outputs.
#[inline(always)]
fn weights<'a, const O: usize, const N: usize>(
    images: &Images<'a>,
    [row, channel]: [usize; 2],
    first: usize,
) -> &'a [[f32; O]; N] {
    let channels = images.split.layer.in_channels;
    let start = (first * MET[0] * channels + (row * channels + channel) * O) * N;
    images.weights[start..].as_chunks::<O>().0.first_chunk().expect("all groups are packed")
}

/// What tiles give for O channels from `first` on, whose sums at the row points these are; gives O.
#[inline(always)]
fn finish<S: Simd, const O: usize>(simd: S, tiles: &mut Products<'_, '_>, first: usize) -> usize {
    let (sums, split) =
        (S::as_simd_f32s(tiles.sums).0.as_chunks::<{ MET[0] }>().0.as_chunks::<2>().0, tiles.images.split);
    let (row_len, num_outputs) = (split.num_tiles().next_multiple_of(S::F32_LANES), num_outputs(&split));
    let upper = tiles.images.places(simd, tiles.position, 0);
    let lower = tiles.images.places(simd, tiles.position, 1);
    for (o, [left, right]) in sums[..O].iter().enumerate() {
        let bias = simd.splat_f32s(tiles.images.finish.bias(first + o));
        let left = transform::Output.apply(simd, *left);
        let right = transform::Output.apply(simd, *right);
        let outputs = &mut tiles.outputs[(first + o) * num_outputs * row_len..][..num_outputs * row_len];
        if split.is_pooled {
            let mut store = |index: usize, value: S::f32s| {
                let to = &mut outputs[index * row_len + tiles.position..][..S::F32_LANES];
                S::as_mut_simd_f32s(to).0[0] = value;
            };
            let (max, place) = tiles.images.largest(simd, bias, [left[0], right[0], left[1], right[1]], upper);
            store(0, max);
            store(1, place);
            let (max, place) = tiles.images.largest(simd, bias, [left[2], right[2], left[3], right[3]], lower);
            store(2, max);
            store(3, place);
        } else {
            unroll!(i in 0..TILE[0], up to 4 => {
                let cells = [tiles.images.finished(simd, bias, left[i]), tiles.images.finished(simd, bias, right[i])];
                store_in_turn(simd, cells, &mut outputs[2 * (i * row_len + tiles.position)..]);
            });
        }
    }
    O
}
