//! Weights as vectors of kernels' rows with their channels last, and back.

use pulp::{Simd, WithSimd};

use super::layout::Rows;
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::transpose::{FEW, TILE, few_to_first, few_to_last};
use crate::ops::cpu::{isa, scratch};

/// Elements after the last kernel's vectors that may be read and written.
const SLACK: usize = FEW;

/// Elements of the vectors of all kernels.
pub(in super::super) fn num_elems(rows: &Rows) -> usize {
    rows.layer.out_channels * rows.kernel_elems() + SLACK
}

/// Writes weights (O, C, KH, KW) to vectors, with zeros where there is none.
pub(in super::super) fn to_vectors(rows: &Rows, weights: &[f32], vectors: &mut [f32]) {
    vectors.fill(0.0);
    if rows.num_passes == 1 && rows.layer.in_channels <= FEW {
        return with_places(rows, |places| isa::dispatch(FewToVectors { rows, places, weights, vectors }));
    }
    with_slots(rows, |slots| {
        let kernels = weights.chunks_exact(slots.len()).zip(vectors.chunks_exact_mut(rows.kernel_elems()));
        for (weights, vectors) in kernels {
            weights.iter().zip(slots).for_each(|(&weight, &slot)| vectors[slot as usize] = weight);
        }
    });
}

/// Adds what lies in vectors to weights (O, C, KH, KW).
pub(in super::super) fn add_vectors(rows: &Rows, vectors: &[f32], weights: &mut [f32]) {
    if rows.num_passes == 1 && rows.layer.in_channels <= FEW {
        return with_places(rows, |places| isa::dispatch(AddFew { rows, places, vectors, weights }));
    }
    with_slots(rows, |slots| {
        let kernels = weights.chunks_exact_mut(slots.len()).zip(vectors.chunks_exact(rows.kernel_elems()));
        for (weights, vectors) in kernels {
            weights.iter_mut().zip(slots).for_each(|(weight, &slot)| *weight += vectors[slot as usize]);
        }
    });
}

/// Calls `body` with where each weight of a kernel (C, KH, KW) lies in its vectors.
fn with_slots(rows: &Rows, body: impl FnOnce(&[u32])) {
    let Layer { in_channels, kernel: [kernel_h, kernel_w], .. } = rows.layer;
    let pass_elems = rows.width * rows.lanes;
    scratch::with(rows.layer.num_taps(), |slots: &mut [u32]| {
        for i in 0..kernel_h {
            // The pass that an element of the row is in, and its place there.
            let (mut pass, mut place) = (0, 0);
            for j in 0..kernel_w {
                for channel in 0..in_channels {
                    let slot = (pass * kernel_h + i) * pass_elems + place;
                    slots[(channel * kernel_h + i) * kernel_w + j] = slot as u32;
                    place += 1;
                    if place == pass_elems {
                        (pass, place) = (pass + 1, 0);
                    }
                }
            }
        }
        body(slots);
    });
}

/// Calls `body` with the place in a kernel's vectors where each of its pixels begins.
fn with_places(rows: &Rows, body: impl FnOnce(&[u32])) {
    let Layer { in_channels, kernel: [kernel_h, kernel_w], .. } = rows.layer;
    scratch::with(kernel_h * kernel_w, |places: &mut [u32]| {
        for (i, places) in places.chunks_exact_mut(kernel_w).enumerate() {
            for (j, place) in places.iter_mut().enumerate() {
                *place = (i * rows.width * rows.lanes + j * in_channels) as u32;
            }
        }
        body(places);
    });
}

/// [`to_vectors`] for few channels.
struct FewToVectors<'a> {
    rows: &'a Rows,
    places: &'a [u32],
    weights: &'a [f32],
    vectors: &'a mut [f32],
}

impl WithSimd for FewToVectors<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FewToVectors { rows, places, weights, vectors } = self;
        let (pixels, kernel_elems) = (places.len(), rows.kernel_elems());
        for (kernel, weights) in weights.chunks_exact(rows.layer.num_taps()).enumerate() {
            for (first, places) in (0..pixels).step_by(TILE).zip(places.chunks(TILE)) {
                let mut tile = [[0.0; TILE]; FEW];
                for (row, weights) in tile.iter_mut().zip(weights.chunks_exact(pixels)) {
                    let weights = &weights[first..];
                    match weights.first_chunk::<TILE>() {
                        Some(weights) => *row = *weights,
                        None => row.iter_mut().zip(weights).for_each(|(to, from)| *to = *from),
                    }
                }
                for (&place, pixel) in places.iter().zip(&few_to_last(simd, &tile)) {
                    // The zeros after the channels are where the next pixel goes, or no weight is.
                    vectors[kernel * kernel_elems + place as usize..][..FEW].copy_from_slice(pixel);
                }
            }
        }
    }
}

/// [`add_vectors`] for few channels.
struct AddFew<'a> {
    rows: &'a Rows,
    places: &'a [u32],
    vectors: &'a [f32],
    weights: &'a mut [f32],
}

impl WithSimd for AddFew<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddFew { rows, places, vectors, weights } = self;
        let (pixels, kernel_elems) = (places.len(), rows.kernel_elems());
        for (kernel, weights) in weights.chunks_exact_mut(rows.layer.num_taps()).enumerate() {
            for (first, places) in (0..pixels).step_by(TILE).zip(places.chunks(TILE)) {
                let mut tile = [[0.0; FEW]; TILE];
                for (pixel, &place) in tile.iter_mut().zip(places) {
                    pixel.copy_from_slice(&vectors[kernel * kernel_elems + place as usize..][..FEW]);
                }
                for (weights, row) in weights.chunks_exact_mut(pixels).zip(&few_to_first(simd, &tile)) {
                    let weights = &mut weights[first..];
                    match weights.first_chunk_mut::<TILE>() {
                        Some(weights) => weights.iter_mut().zip(row).for_each(|(weight, x)| *weight += x),
                        None => weights.iter_mut().zip(row).for_each(|(weight, x)| *weight += x),
                    }
                }
            }
        }
    }
}
