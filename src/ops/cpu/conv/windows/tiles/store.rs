//! From the order of tiles to that of outputs.

use pulp::{Simd, WithSimd};

use super::{Images, TILE, num_outputs};
use crate::ops::cpu::parallel::LANES;

/// Stores what tiles gave where it belongs.
pub(super) struct Store<'i, 'a> {
    pub images: &'i mut Images<'a>,
    pub outputs: &'i [f32],
}

impl WithSimd for Store<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Store { images, outputs } = self;
        match (images.split.is_pooled, images.split.tiles[1]) {
            (true, ..=4) => windows::<S, 4>(images, outputs),
            (true, 5..=8) => windows::<S, 8>(images, outputs),
            (true, 9..=12) => windows::<S, 12>(images, outputs),
            (true, _) => windows::<S, LANES>(images, outputs),
            (false, ..=4) => cells::<S, 8>(images, outputs),
            (false, _) => cells::<S, LANES>(images, outputs),
        }
    }
}

/// By pieces of N windows. What a piece writes beyond the end of a row is overwritten by the next one.
#[inline(always)]
fn windows<S: Simd, const N: usize>(images: &mut Images<'_>, outputs: &[f32]) {
    let (split, columns) = (images.split, images.split.tiles[1]);
    let (row_len, rows) = (split.num_tiles().next_multiple_of(S::F32_LANES), split.layer.output[0] / 2);
    let mut start = 0;
    for image in 0..split.images {
        for outputs in outputs.chunks_exact(num_outputs(&split) * row_len) {
            let (upper, lower) = outputs.split_at(2 * row_len);
            for row in 0..rows {
                let from = if row % 2 == 0 { upper } else { lower };
                let at = row / 2 * split.row() + image * columns;
                copy_row::<N>(columns, &from[at..], &mut images.values[start..]);
                copy_row::<N>(columns, &from[row_len + at..], &mut images.indices[start..]);
                start += columns;
            }
        }
    }
}

#[inline(always)]
fn copy_row<const N: usize>(len: usize, from: &[f32], to: &mut [f32]) {
    for at in (0..len).step_by(N) {
        match (from[at..].first_chunk::<N>(), to[at..].first_chunk_mut()) {
            (Some(from), Some(to)) => *to = *from,
            _ => to[at..len].copy_from_slice(&from[at..len]),
        }
    }
}

/// By pieces of N cells. What a piece writes beyond the end of a row is overwritten by the next one.
#[inline(always)]
fn cells<S: Simd, const N: usize>(images: &mut Images<'_>, outputs: &[f32]) {
    let (split, columns) = (images.split, images.split.layer.output[1]);
    let row_len = 2 * split.num_tiles().next_multiple_of(S::F32_LANES);
    let mut start = 0;
    for image in 0..split.images {
        for outputs in outputs.chunks_exact(TILE[0] * row_len) {
            for row in 0..split.layer.output[0] {
                let at = row % TILE[0] * row_len + 2 * (row / TILE[0] * split.row()) + image * columns;
                copy_row::<N>(columns, &outputs[at..], &mut images.values[start..]);
                start += columns;
            }
        }
    }
}
