//! Values at the points: a matrix for each of the 36 products of a tile.

use pulp::{Simd, WithSimd};

use super::band::Band;
use super::transform::{POINTS, PRODUCTS, Transform, both_axes};
use crate::ops::cpu::isa;

/// The shape of values at the points: (points, blocks of channels, rows, lanes), where rows are tiles or, of weights, the
/// other channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Points {
    pub blocks: usize,
    pub rows: usize,
}

impl Points {
    /// Of tiles of so many channels.
    pub fn tiles(channels: usize, rows: usize) -> Points {
        Points { blocks: channels.div_ceil(isa::lanes()), rows }
    }

    /// Vectors from one point to the next: an odd number, since what a tile has at all points would share few lines of a
    /// cache if those lay a power of two apart.
    pub fn stride(&self) -> usize {
        (self.blocks * self.rows) | 1
    }

    /// Floats of all points.
    pub fn num_elems(&self) -> usize {
        PRODUCTS * self.stride() * isa::lanes()
    }
}

/// Tiles of a band, from `column` on, transformed.
pub(super) struct TransformTiles<'a, T, const N: usize> {
    pub transform: T,
    pub band: Band,
    /// The band's values.
    pub from: &'a [f32],
    pub column: usize,
    pub count: usize,
    pub points: Points,
    /// The values at the points, from the first of the tiles on.
    pub to: &'a mut [f32],
}

impl<T: Transform<N, POINTS>, const N: usize> WithSimd for TransformTiles<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ((from, _), (to, _)) = (S::as_simd_f32s(self.from), S::as_mut_simd_f32s(self.to));
        let (stride, width) = (self.points.stride(), self.band.width);
        for (block, from) in from.chunks_exact(self.band.block_len()).enumerate() {
            for tile in 0..self.count {
                let from = &from[(self.column + tile) * self.band.step..];
                let to = &mut to[block * self.points.rows + tile..];
                both_axes(
                    simd,
                    self.transform,
                    #[inline(always)]
                    |i, j| from[i * width + j],
                    #[inline(always)]
                    |i, row| {
                        for (j, value) in row.into_iter().enumerate() {
                            to[(i * POINTS + j) * stride] = value;
                        }
                    },
                );
            }
        }
    }
}
