//! Transposes between channels that lie across a vector's lanes and pixels that lie side by side in memory.

use pulp::Simd;

#[cfg(target_arch = "x86_64")]
use crate::ops::cpu::unroll::unroll;

/// Rows and columns of a tile.
pub(crate) const TILE: usize = 16;

/// The transpose of a tile.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn transpose_tile<S: Simd>(simd: S, tile: &mut [[f32; TILE]; TILE]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        return transpose_avx512(simd, tile);
    }
    #[expect(clippy::needless_range_loop, reason = "both indices are a row and a column")]
    for i in 0..TILE {
        for j in 0..i {
            (tile[i][j], tile[j][i]) = (tile[j][i], tile[i][j]);
        }
    }
}

/// Exchanges elements in pairs, then pairs, then quarters of the vectors: 64 shuffles. (What the compiler makes of the
/// loops above takes several times as long.)
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_avx512(simd: pulp::x86::V4, tile: &mut [[f32; TILE]; TILE]) {
    use std::arch::x86_64::{__m512, __m512d};
    let avx = simd.avx512f;
    macro_rules! unpack {
        ($unpack:ident, $a:expr, $b:expr) => {
            pulp::cast(avx.$unpack(pulp::cast::<_, __m512d>($a), pulp::cast($b)))
        };
    }
    let mut rows: [__m512; TILE] = [avx._mm512_setzero_ps(); TILE];
    unroll!(i in 0..16, up to 16 => { rows[i] = pulp::cast(tile[i]); });
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
        tile[j] = pulp::cast(avx._mm512_shuffle_f32x4::<0x88>(turned[j], turned[8 + j]));
        tile[4 + j] = pulp::cast(avx._mm512_shuffle_f32x4::<0x88>(turned[4 + j], turned[12 + j]));
        tile[8 + j] = pulp::cast(avx._mm512_shuffle_f32x4::<0xdd>(turned[j], turned[8 + j]));
        tile[12 + j] = pulp::cast(avx._mm512_shuffle_f32x4::<0xdd>(turned[4 + j], turned[12 + j]));
    });
}

/// Rows of a tile of few channels.
pub(crate) const FEW: usize = TILE / 2;

/// The transpose of a tile of few columns.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn few_to_first<S: Simd>(simd: S, pixels: &[[f32; FEW]; TILE]) -> [[f32; TILE]; FEW] {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        return few_avx512::to_first(simd, pixels);
    }
    std::array::from_fn(|channel| std::array::from_fn(|pixel| pixels[pixel][channel]))
}

/// The transpose of a tile of few rows.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn few_to_last<S: Simd>(simd: S, rows: &[[f32; TILE]; FEW]) -> [[f32; FEW]; TILE] {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        return few_avx512::to_last(simd, rows);
    }
    std::array::from_fn(|pixel| std::array::from_fn(|channel| rows[channel][pixel]))
}

/// A tile of few channels in 24 shuffles instead of the 64 of a whole one. Quarter q of a vector has pixels 4q to 4q + 3.
#[cfg(target_arch = "x86_64")]
mod few_avx512 {
    use std::arch::x86_64::{__m512, __m512d, __m512i};

    use pulp::cast;
    use pulp::x86::V4;

    use super::{FEW, TILE, unroll};

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
    pub fn to_last(simd: V4, rows: &[[f32; TILE]; FEW]) -> [[f32; FEW]; TILE] {
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
    pub fn to_first(simd: V4, pixels: &[[f32; FEW]; TILE]) -> [[f32; TILE]; FEW] {
        let zero = simd.avx512f._mm512_setzero_ps();
        let (mut first, mut second) = ([zero; 4], [zero; 4]);
        unroll!(j in 0..4, up to 4 => {
            let (a, b) = (cast([pixels[j], pixels[4 + j]]), cast([pixels[8 + j], pixels[12 + j]]));
            (first[j], second[j]) = (select(simd, a, EVEN, b), select(simd, a, ODD, b));
        });
        cast([transpose_quarters(simd, first), transpose_quarters(simd, second)])
    }
}

/// Elements that [`every_second`] takes its own from.
pub(crate) const PAIRS: usize = 2 * TILE;

/// Calls `store(first, …)` for each `first` in `0..count` with the elements `first`, `first` + 2 and so on, of which those
/// beyond the row are of no meaning.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn every_second<S: Simd>(
    simd: S,
    row: &[f32; PAIRS],
    count: usize,
    mut store: impl FnMut(usize, &[f32; TILE]),
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        use std::arch::x86_64::__m512;
        let [lower, upper]: [__m512; 2] = pulp::cast(*row);
        let mut indices = [0u32; TILE];
        for first in 0..count {
            unroll!(i in 0..16, up to 16 => { indices[i] = (2 * i + first) as u32; });
            store(first, &pulp::cast(simd.avx512f._mm512_permutex2var_ps(lower, pulp::cast(indices), upper)));
        }
        return;
    }
    for first in 0..count {
        let mut elems = [0.0; TILE];
        for (to, from) in elems.iter_mut().zip(row[first..].iter().step_by(2)) {
            *to = *from;
        }
        store(first, &elems);
    }
}

/// [`every_second`] with four elements of each of four rows.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn every_second_of_four<S: Simd>(
    simd: S,
    rows: [&[f32; TILE]; 4],
    count: usize,
    mut store: impl FnMut(usize, &[f32; TILE]),
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        use std::arch::x86_64::__m512;
        let [a, b, c, d]: [__m512; 4] =
            [pulp::cast(*rows[0]), pulp::cast(*rows[1]), pulp::cast(*rows[2]), pulp::cast(*rows[3])];
        let mut indices = [0u32; TILE];
        for first in 0..count {
            unroll!(i in 0..8, up to 8 => { indices[i] = (i / 4 * TILE + 2 * (i % 4) + first) as u32; });
            let indices = pulp::cast(indices);
            let pick = |a, b| simd.avx512f._mm512_permutex2var_ps(a, indices, b);
            store(first, &pulp::cast(simd.avx512f._mm512_shuffle_f32x4::<0x44>(pick(a, b), pick(c, d))));
        }
        return;
    }
    for first in 0..count {
        let mut elems = [0.0; TILE];
        for (to, row) in elems.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            to.iter_mut().zip(row[first..].iter().step_by(2)).for_each(|(to, from)| *to = *from);
        }
        store(first, &elems);
    }
}

/// Stores elements of two vectors in turn.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn store_in_turn<S: Simd>(simd: S, [even, odd]: [S::f32s; 2], to: &mut [f32]) {
    let [even, odd]: [&[f32]; 2] =
        [bytemuck::cast_slice(std::slice::from_ref(&even)), bytemuck::cast_slice(std::slice::from_ref(&odd))];
    #[cfg(target_arch = "x86_64")]
    if let (Some(&simd), Some(&even), Some(&odd)) = (
        (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>(),
        even.first_chunk::<TILE>(),
        odd.first_chunk::<TILE>(),
    ) {
        const LOWER: [u32; TILE] = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
        const UPPER: [u32; TILE] = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];
        let pick =
            |indices| simd.avx512f._mm512_permutex2var_ps(pulp::cast(even), pulp::cast(indices), pulp::cast(odd));
        let both: [f32; 2 * TILE] = pulp::cast([pick(LOWER), pick(UPPER)]);
        to[..2 * TILE].copy_from_slice(&both);
        return;
    }
    for (to, (&even, &odd)) in to.as_chunks_mut().0.iter_mut().zip(even.iter().zip(odd)) {
        *to = [even, odd];
    }
}

/// (rows, k) with a stride as (k, lanes); lanes beyond the rows are 0.
#[inline(always)]
pub(crate) fn turn<S: Simd>(simd: S, [rows, k]: [usize; 2], (from, stride): (&[f32], usize), to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while lanes == TILE && first + TILE <= k {
        let mut tile = [[0.0; TILE]; TILE];
        for (row, tile) in tile[..rows].iter_mut().enumerate() {
            tile.copy_from_slice(&from[row * stride + first..][..TILE]);
        }
        transpose_tile(simd, &mut tile);
        to[first * TILE..][..TILE * TILE].copy_from_slice(tile.as_flattened());
        first += TILE;
    }
    for at in first..k {
        let to = &mut to[at * lanes..(at + 1) * lanes];
        to[rows..].fill(0.0);
        for (row, to) in to[..rows].iter_mut().enumerate() {
            *to = from[row * stride + at];
        }
    }
}

/// `planes` (C, pixels) as (pixels, lanes), channels beyond C being 0: `to` holds `lanes` values for each pixel.
#[inline(always)]
pub(crate) fn channels_last<S: Simd>(simd: S, planes: &[f32], pixels: usize, to: &mut [f32]) {
    turn(simd, [planes.len() / pixels, pixels], (planes, pixels), to);
}

/// (pixels, lanes) as rows (C, pixels) with a stride, of as many channels as there are: what [`turn`] turned.
#[inline(always)]
pub(crate) fn channels_first<S: Simd>(
    simd: S,
    [channels, pixels]: [usize; 2],
    from: &[f32],
    (to, stride): (&mut [f32], usize),
) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while lanes == TILE && first + TILE <= pixels {
        let mut tile = [[0.0; TILE]; TILE];
        tile.as_flattened_mut().copy_from_slice(&from[first * TILE..][..TILE * TILE]);
        transpose_tile(simd, &mut tile);
        for (channel, row) in tile[..channels].iter().enumerate() {
            to[channel * stride + first..][..TILE].copy_from_slice(row);
        }
        first += TILE;
    }
    for channel in 0..channels {
        let to = &mut to[channel * stride..][..pixels];
        for (to, from) in to[first..].iter_mut().zip(from[first * lanes..].chunks_exact(lanes)) {
            *to = from[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::isa;
    use pulp::WithSimd;

    struct Transpose<'a>(&'a mut [[f32; TILE]; TILE]);
    impl WithSimd for Transpose<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            transpose_tile(simd, self.0);
        }
    }

    struct Few([[f32; TILE]; FEW]);
    impl WithSimd for Few {
        type Output = [[f32; FEW]; TILE];
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            few_to_last(simd, &self.0)
        }
    }

    struct FewBack([[f32; FEW]; TILE]);
    impl WithSimd for FewBack {
        type Output = [[f32; TILE]; FEW];
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            few_to_first(simd, &self.0)
        }
    }

    struct ChannelsLast<'a>(&'a [f32], usize, &'a mut [f32]);
    impl WithSimd for ChannelsLast<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            channels_last(simd, self.0, self.1, self.2);
        }
    }

    struct ChannelsFirst<'a>([usize; 2], &'a [f32], &'a mut [f32]);
    impl WithSimd for ChannelsFirst<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            channels_first(simd, self.0, self.1, (self.2, self.0[1]));
        }
    }

    #[test]
    fn tiles_and_ragged_ends_are_transposed() {
        let mut tile: [[f32; TILE]; TILE] = std::array::from_fn(|i| std::array::from_fn(|j| (i * TILE + j) as f32));
        let before = tile;
        isa::dispatch(Transpose(&mut tile));
        assert!((0..TILE * TILE).all(|at| tile[at / TILE][at % TILE] == before[at % TILE][at / TILE]));
        let few: [[f32; TILE]; FEW] = std::array::from_fn(|i| std::array::from_fn(|j| (i * TILE + j) as f32));
        let last = isa::dispatch(Few(few));
        assert!((0..TILE * FEW).all(|at| last[at % TILE][at / TILE] == few[at / TILE][at % TILE]));
        assert_eq!(isa::dispatch(FewBack(last)), few);
        let lanes = isa::lanes();
        for (channels, pixels) in [(1, 37), (lanes, 16), (lanes.min(3), 10), (1, 3)] {
            let planes: Vec<f32> = (0..channels * pixels).map(|i| i as f32 + 1.0).collect();
            let mut to = vec![-1.0; pixels * lanes];
            isa::dispatch(ChannelsLast(&planes, pixels, &mut to));
            for (at, &value) in to.iter().enumerate() {
                let (pixel, channel) = (at / lanes, at % lanes);
                let want = if channel < channels { planes[channel * pixels + pixel] } else { 0.0 };
                assert_eq!(value, want, "{channels} {pixels} {lanes} {at}");
            }
            let mut back = vec![-1.0; planes.len()];
            isa::dispatch(ChannelsFirst([channels, pixels], &to, &mut back));
            assert_eq!(back, planes, "{channels} {pixels}");
        }
    }
}
