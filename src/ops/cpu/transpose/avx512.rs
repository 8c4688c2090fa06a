//! Shuffles of AVX-512.

use std::arch::x86_64::{__m512, __m512d, __m512i};

use pulp::cast;
use pulp::x86::V4;

use super::{FEW, PAIRS, TILE};
use crate::ops::cpu::unroll::unroll;

/// The transpose of a tile: exchanges elements in pairs, then pairs, then quarters of the vectors, 64 shuffles. (What the
/// compiler makes of loops takes several times as long.)
#[inline(always)]
pub(super) fn transpose(simd: V4, tile: &mut [[f32; TILE]; TILE]) {
    let avx = simd.avx512f;
    macro_rules! unpack {
        ($unpack:ident, $a:expr, $b:expr) => {
            cast(avx.$unpack(cast::<_, __m512d>($a), cast($b)))
        };
    }
    let mut rows: [__m512; TILE] = [avx._mm512_setzero_ps(); TILE];
    unroll!(i in 0..16, up to 16 => { rows[i] = cast(tile[i]); });
    let mut turned = rows;
    unroll!(i in 0..8, up to 8 => {
        turned[2 * i] = avx._mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        turned[2 * i + 1] = avx._mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    });
    unroll!(i in 0..4, up to 4 => {
        rows[4 * i] = unpack!(_mm512_unpacklo_pd, turned[4 * i], turned[4 * i + 2]);
        rows[4 * i + 1] = unpack!(_mm512_unpackhi_pd, turned[4 * i], turned[4 * i + 2]);
        rows[4 * i + 2] = unpack!(_mm512_unpacklo_pd, turned[4 * i + 1], turned[4 * i + 3]);
        rows[4 * i + 3] = unpack!(_mm512_unpackhi_pd, turned[4 * i + 1], turned[4 * i + 3]);
    });
    // Quarters 0 and 2 of two vectors side by side, or 1 and 3.
    unroll!(j in 0..4, up to 4 => {
        turned[j] = avx._mm512_shuffle_f32x4::<0x88>(rows[j], rows[4 + j]);
        turned[4 + j] = avx._mm512_shuffle_f32x4::<0xdd>(rows[j], rows[4 + j]);
        turned[8 + j] = avx._mm512_shuffle_f32x4::<0x88>(rows[8 + j], rows[12 + j]);
        turned[12 + j] = avx._mm512_shuffle_f32x4::<0xdd>(rows[8 + j], rows[12 + j]);
    });
    unroll!(j in 0..4, up to 4 => {
        tile[j] = cast(avx._mm512_shuffle_f32x4::<0x88>(turned[j], turned[8 + j]));
        tile[4 + j] = cast(avx._mm512_shuffle_f32x4::<0x88>(turned[4 + j], turned[12 + j]));
        tile[8 + j] = cast(avx._mm512_shuffle_f32x4::<0xdd>(turned[j], turned[8 + j]));
        tile[12 + j] = cast(avx._mm512_shuffle_f32x4::<0xdd>(turned[4 + j], turned[12 + j]));
    });
}

/// Pairs of elements: quarters of two vectors in turn, from the lower half of each or from the upper one.
const LOWER: [u64; 8] = [0, 1, 8, 9, 2, 3, 10, 11];
const UPPER: [u64; 8] = [4, 5, 12, 13, 6, 7, 14, 15];
/// The even quarters of two vectors, or the odd ones.
const EVEN: [u64; 8] = [0, 1, 4, 5, 8, 9, 12, 13];
const ODD: [u64; 8] = [2, 3, 6, 7, 10, 11, 14, 15];

#[inline(always)]
fn select(simd: V4, a: __m512, indices: [u64; 8], b: __m512) -> __m512 {
    let indices: __m512i = cast(indices);
    cast(simd.avx512f._mm512_permutex2var_pd(cast(a), indices, cast(b)))
}

/// Four vectors, each quarter of which is a matrix of 4 × 4 with them, transposed.
#[inline(always)]
fn transpose_quarters(simd: V4, [a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    let avx = simd.avx512f;
    let pairs: [__m512d; 4] = [
        cast(avx._mm512_unpacklo_ps(a, b)),
        cast(avx._mm512_unpacklo_ps(c, d)),
        cast(avx._mm512_unpackhi_ps(a, b)),
        cast(avx._mm512_unpackhi_ps(c, d)),
    ];
    [
        cast(avx._mm512_unpacklo_pd(pairs[0], pairs[1])),
        cast(avx._mm512_unpackhi_pd(pairs[0], pairs[1])),
        cast(avx._mm512_unpacklo_pd(pairs[2], pairs[3])),
        cast(avx._mm512_unpackhi_pd(pairs[2], pairs[3])),
    ]
}

#[inline(always)]
pub(super) fn few_to_last(simd: V4, rows: &[[f32; TILE]; FEW]) -> [[f32; FEW]; TILE] {
    let row = |channel: usize| cast(rows[channel]);
    let first = transpose_quarters(simd, [row(0), row(1), row(2), row(3)]);
    let second = transpose_quarters(simd, [row(4), row(5), row(6), row(7)]);
    let mut pixels = [[0.0; FEW]; TILE];
    unroll!(j in 0..4, up to 4 => {
        [pixels[j], pixels[4 + j]] = cast(select(simd, first[j], LOWER, second[j]));
        [pixels[8 + j], pixels[12 + j]] = cast(select(simd, first[j], UPPER, second[j]));
    });
    pixels
}

#[inline(always)]
pub(super) fn few_to_first(simd: V4, pixels: &[[f32; FEW]; TILE]) -> [[f32; TILE]; FEW] {
    let zero = simd.avx512f._mm512_setzero_ps();
    let (mut first, mut second) = ([zero; 4], [zero; 4]);
    unroll!(j in 0..4, up to 4 => {
        let (a, b) = (cast([pixels[j], pixels[4 + j]]), cast([pixels[8 + j], pixels[12 + j]]));
        (first[j], second[j]) = (select(simd, a, EVEN, b), select(simd, a, ODD, b));
    });
    cast([transpose_quarters(simd, first), transpose_quarters(simd, second)])
}

/// [`super::every_second`].
#[inline(always)]
pub(super) fn every_second(simd: V4, row: &[f32; PAIRS], count: usize, mut store: impl FnMut(usize, &[f32; TILE])) {
    let [lower, upper]: [__m512; 2] = cast(*row);
    let mut indices = [0u32; TILE];
    for first in 0..count {
        unroll!(i in 0..16, up to 16 => { indices[i] = (2 * i + first) as u32; });
        store(first, &cast(simd.avx512f._mm512_permutex2var_ps(lower, cast(indices), upper)));
    }
}

/// [`super::every_second_of_four`].
#[inline(always)]
pub(super) fn every_second_of_four(
    simd: V4,
    rows: [&[f32; TILE]; 4],
    count: usize,
    mut store: impl FnMut(usize, &[f32; TILE]),
) {
    let [a, b, c, d]: [__m512; 4] = [cast(*rows[0]), cast(*rows[1]), cast(*rows[2]), cast(*rows[3])];
    let mut indices = [0u32; TILE];
    for first in 0..count {
        unroll!(i in 0..8, up to 8 => { indices[i] = (i / 4 * TILE + 2 * (i % 4) + first) as u32; });
        let indices = cast(indices);
        let pick = |a, b| simd.avx512f._mm512_permutex2var_ps(a, indices, b);
        store(first, &cast(simd.avx512f._mm512_shuffle_f32x4::<0x44>(pick(a, b), pick(c, d))));
    }
}

/// Elements of two vectors in turn.
#[inline(always)]
pub(super) fn in_turn(simd: V4, even: __m512, odd: __m512) -> [__m512; 2] {
    const LOWER: [u32; TILE] = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
    const UPPER: [u32; TILE] = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];
    [LOWER, UPPER].map(|indices| simd.avx512f._mm512_permutex2var_ps(even, cast(indices), odd))
}
