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
    let lanes = S::F32_LANES;
    let channels = planes.len() / pixels;
    let mut first = 0;
    while lanes == TILE && first + TILE <= pixels {
        let mut tile = [[0.0; TILE]; TILE];
        for (row, plane) in tile.iter_mut().zip(planes.chunks_exact(pixels)) {
            row.copy_from_slice(&plane[first..first + TILE]);
        }
        transpose_tile(simd, &mut tile);
        to[first * TILE..(first + TILE) * TILE].copy_from_slice(tile.as_flattened());
        first += TILE;
    }
    for pixel in first..pixels {
        let to = &mut to[pixel * lanes..(pixel + 1) * lanes];
        to[channels..].fill(0.0);
        for (to, plane) in to.iter_mut().zip(planes.chunks_exact(pixels)) {
            *to = plane[pixel];
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

    struct ChannelsLast<'a>(&'a [f32], usize, &'a mut [f32]);
    impl WithSimd for ChannelsLast<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            channels_last(simd, self.0, self.1, self.2);
        }
    }

    #[test]
    fn tiles_and_ragged_ends_are_transposed() {
        let mut tile: [[f32; TILE]; TILE] = std::array::from_fn(|i| std::array::from_fn(|j| (i * TILE + j) as f32));
        let before = tile;
        isa::dispatch(Transpose(&mut tile));
        assert!((0..TILE * TILE).all(|at| tile[at / TILE][at % TILE] == before[at % TILE][at / TILE]));
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
        }
    }
}
