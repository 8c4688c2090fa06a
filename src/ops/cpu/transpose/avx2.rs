//! Shuffles of AVX2.

use std::arch::x86_64::{__m256, __m256d};

use pulp::cast;
use pulp::x86::V3;

use super::{FEW, PAIRS, TILE};
use crate::ops::cpu::unroll::unroll;

/// The transpose of eight vectors: exchanges elements in pairs, then pairs, then halves of the vectors, 24 shuffles.
#[inline(always)]
pub(super) fn transpose_few(simd: V3, rows: &[[f32; FEW]; FEW]) -> [[f32; FEW]; FEW] {
    let avx = simd.avx;
    macro_rules! unpack {
        ($unpack:ident, $a:expr, $b:expr) => {
            cast(avx.$unpack(cast::<_, __m256d>($a), cast($b)))
        };
    }
    let zero = avx._mm256_setzero_ps();
    let (mut pairs, mut quads, mut turned) = ([zero; FEW], [zero; FEW], [[0.0; FEW]; FEW]);
    unroll!(i in 0..4, up to 4 => {
        let (a, b) = (cast(rows[2 * i]), cast(rows[2 * i + 1]));
        pairs[2 * i] = avx._mm256_unpacklo_ps(a, b);
        pairs[2 * i + 1] = avx._mm256_unpackhi_ps(a, b);
    });
    unroll!(i in 0..2, up to 4 => {
        quads[4 * i] = unpack!(_mm256_unpacklo_pd, pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 1] = unpack!(_mm256_unpackhi_pd, pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 2] = unpack!(_mm256_unpacklo_pd, pairs[4 * i + 1], pairs[4 * i + 3]);
        quads[4 * i + 3] = unpack!(_mm256_unpackhi_pd, pairs[4 * i + 1], pairs[4 * i + 3]);
    });
    unroll!(j in 0..4, up to 4 => {
        turned[j] = cast(avx._mm256_permute2f128_ps::<0x20>(quads[j], quads[4 + j]));
        turned[4 + j] = cast(avx._mm256_permute2f128_ps::<0x31>(quads[j], quads[4 + j]));
    });
    turned
}

/// The transpose of a tile, which is four of them.
#[inline(always)]
pub(super) fn transpose(simd: V3, tile: &mut [[f32; TILE]; TILE]) {
    let rows = *tile;
    for (i, j) in [(0, 0), (0, FEW), (FEW, 0), (FEW, FEW)] {
        let mut part = [[0.0; FEW]; FEW];
        unroll!(row in 0..8, up to 8 => { part[row] = half(&rows[i + row], j); });
        let part = transpose_few(simd, &part);
        unroll!(row in 0..8, up to 8 => { tile[j + row][i..i + FEW].copy_from_slice(&part[row]); });
    }
}

#[inline(always)]
pub(super) fn few_to_first(simd: V3, pixels: &[[f32; FEW]; TILE]) -> [[f32; TILE]; FEW] {
    let [first, second] = pixels.as_chunks().0 else { panic!("a tile is two halves") };
    let (first, second) = (transpose_few(simd, first), transpose_few(simd, second));
    let mut rows = [[0.0; TILE]; FEW];
    unroll!(channel in 0..8, up to 8 => { rows[channel] = cast([first[channel], second[channel]]); });
    rows
}

#[inline(always)]
pub(super) fn few_to_last(simd: V3, rows: &[[f32; TILE]; FEW]) -> [[f32; FEW]; TILE] {
    let (mut first, mut second) = ([[0.0; FEW]; FEW], [[0.0; FEW]; FEW]);
    unroll!(channel in 0..8, up to 8 => {
        (first[channel], second[channel]) = (half(&rows[channel], 0), half(&rows[channel], FEW));
    });
    cast([transpose_few(simd, &first), transpose_few(simd, &second)])
}

/// The vector from an element of a row on.
#[inline(always)]
fn half(row: &[f32], first: usize) -> [f32; FEW] {
    *row[first..].first_chunk().expect("rows have two vectors")
}

/// The elements of even places of two vectors, or those of odd ones.
#[inline(always)]
fn pick<const ODD: bool>(simd: V3, a: [f32; FEW], b: [f32; FEW]) -> __m256 {
    let (a, b) = (cast(a), cast(b));
    // Pairs of the one and the other in turn.
    let pairs: __m256d = cast(if ODD {
        simd.avx._mm256_shuffle_ps::<0b11_01_11_01>(a, b)
    } else {
        simd.avx._mm256_shuffle_ps::<0b10_00_10_00>(a, b)
    });
    cast(simd.avx2._mm256_permute4x64_pd::<0b11_01_10_00>(pairs))
}

/// [`super::every_second`].
#[inline(always)]
pub(super) fn every_second(simd: V3, row: &[f32; PAIRS], count: usize, mut store: impl FnMut(usize, &[f32; TILE])) {
    /// Places from which three vectors are within the row.
    const WITHIN: usize = PAIRS - 3 * FEW;
    // The last vector, to take from it what is left: its elements turn so that those of even places begin it.
    let last = cast(half(row, PAIRS - FEW));
    for first in 0..count {
        let start = first / 2 * 2;
        let vector = |index: usize| half(row, start.min(WITHIN) + index * FEW);
        let pick = |a, b| if first % 2 == 0 { pick::<false>(simd, a, b) } else { pick::<true>(simd, a, b) };
        let mut indices = [0u32; FEW];
        unroll!(i in 0..8, up to 8 => { indices[i] = (first + 2 * i) as u32; });
        // Indices count modulo eight.
        let ends = simd.avx2._mm256_permutevar8x32_ps(last, cast(indices));
        let upper = pick(vector(2), vector(2));
        let upper = simd.avx._mm256_permute2f128_ps::<0x20>(upper, ends);
        let lower = pick(vector(0), vector(1));
        store(first, &cast([lower, upper]));
    }
}

/// [`super::every_second_of_four`].
#[inline(always)]
pub(super) fn every_second_of_four(
    simd: V3,
    rows: [&[f32; TILE]; 4],
    count: usize,
    mut store: impl FnMut(usize, &[f32; TILE]),
) {
    for first in 0..count {
        let start = (first / 2 * 2).min(TILE - FEW);
        let row = |index: usize| half(rows[index], start);
        let pick = |a, b| if first % 2 == 0 { pick::<false>(simd, a, b) } else { pick::<true>(simd, a, b) };
        store(first, &cast([pick(row(0), row(1)), pick(row(2), row(3))]));
    }
}

/// Elements of two vectors in turn.
#[inline(always)]
pub(super) fn in_turn(simd: V3, even: __m256, odd: __m256) -> [__m256; 2] {
    let avx = simd.avx;
    let (lower, upper) = (avx._mm256_unpacklo_ps(even, odd), avx._mm256_unpackhi_ps(even, odd));
    [avx._mm256_permute2f128_ps::<0x20>(lower, upper), avx._mm256_permute2f128_ps::<0x31>(lower, upper)]
}
