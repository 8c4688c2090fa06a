//! A convolution followed by max-pooling of 2×2 windows side by side, with windows in a vector's lanes: of as many windows
//! as it has lanes, a vector holds one cell. All four cells of a window are in registers once their sums are there, so the
//! largest is found where they are, and the result of full size is never stored.
//!
//! Images are laid out so that what a tap meets in the same cell of all windows is contiguous ([`layout`]). The kernel whose
//! tiles are of two windows also serves where nothing is pooled.

mod direct;
mod layout;
#[cfg(test)]
mod tests;
mod tiles;

use pulp::Simd;

use super::largest::largest;
use super::{Finish, Layer, by_lanes, columns, rectify};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{parallel, scratch};
use layout::Split;
pub(super) use tiles::Rows;

/// What laying out takes for an element, in products of one lane, by lanes.
const LAY_OUT: [usize; 2] = [8, 14];

/// A kernel for windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Direct,
    Tiles(tiles::Rows),
}

impl Kernel {
    pub const ALL: [Kernel; 3] =
        [Kernel::Direct, Kernel::Tiles(tiles::Rows::Direct), Kernel::Tiles(tiles::Rows::Winograd)];

    /// What it takes for an image, in products of one lane; `None` where it does not serve a layer.
    pub fn cost(self, layer: &Layer) -> Option<usize> {
        let has_windows = layer.output.iter().all(|&extent| extent >= 2);
        let is_wide = layer.kernel[1] > layout::MOST_COLUMNS;
        if !has_windows || is_wide || layer.stride != [1, 1] || layer.dilation != [1, 1] {
            return None;
        }
        let cost = match self {
            Kernel::Direct => direct::cost(layer),
            Kernel::Tiles(rows) => tiles::cost(layer, rows, true)?,
        };
        let images = self.images(layer);
        let laid_out = match self {
            Kernel::Direct => direct::Split::pooled(layer, images).num_elems(layer.in_channels),
            Kernel::Tiles(_) => tiles::Split::pooled(layer, images).num_elems(layer.in_channels),
        };
        Some(cost + by_lanes(LAY_OUT) * laid_out / images)
    }

    /// Images that are worked on together.
    fn images(self, layer: &Layer) -> usize {
        match self {
            Kernel::Direct => 1,
            Kernel::Tiles(_) => tiles::images(layer),
        }
    }
}

/// The largest of each window of `finish(input ⋆ weight)` (images, O, windows), and which cell of the output's plane it is.
pub(super) fn forward_pooled(
    layer: &Layer,
    kernel: Kernel,
    [input, weight]: [&[f32]; 2],
    finish: Finish<'_>,
    (maxima, indices): (&mut [f32], &mut [u32]),
) {
    let (together, windows) = (kernel.images(layer), layer.output[0] / 2 * (layer.output[1] / 2));
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * windows);
    let (cost, chunk) = (4 * layer.num_taps(), together * image_out);
    let mut body = |weights: &[f32]| {
        parallel::for_chunk_pairs((maxima, chunk), (indices, chunk), cost, |index, maxima, indices| {
            let images = maxima.len() / image_out;
            let input = &input[index * together * image_in..][..images * image_in];
            let outputs = (maxima, bytemuck::cast_slice_mut(indices));
            match kernel {
                Kernel::Direct => {
                    run(direct::Split::pooled(layer, images), [input, weights], finish, outputs, direct::run)
                }
                Kernel::Tiles(rows) => {
                    run(tiles::Split::pooled(layer, images), [input, weights], finish, outputs, |images| {
                        tiles::run(images, rows);
                    });
                }
            }
        });
    };
    match kernel {
        Kernel::Direct => scratch::with(weight.len(), |weights: &mut [f32]| {
            columns::pack(layer.out_channels, direct::group, weight, weights);
            body(weights);
        }),
        Kernel::Tiles(rows) => tiles::with_packed(layer, rows, weight, body),
    }
}

/// What [`forward`] takes for an image and the kernel that takes least, in products of one lane; `None` where none serves.
pub(super) fn cost(layer: &Layer) -> Option<(usize, tiles::Rows)> {
    // What lies beyond the end of a row must not reach cells.
    let is_even = layer.output[1].is_multiple_of(2);
    if !is_even || layer.stride != [1, 1] || layer.dilation != [1, 1] {
        return None;
    }
    let images = tiles::images(layer);
    let laid_out = tiles::Split::whole(layer, images).num_elems(layer.in_channels);
    let costs = [tiles::Rows::Direct, tiles::Rows::Winograd]
        .map(|rows| tiles::cost(layer, rows, false).map(|cost| (cost + by_lanes(LAY_OUT) * laid_out / images, rows)));
    costs.into_iter().flatten().min_by_key(|(cost, _)| *cost)
}

/// `out = finish(input ⋆ weight)` for images side by side.
pub(super) fn forward(
    layer: &Layer,
    rows: tiles::Rows,
    [input, weight]: [&[f32]; 2],
    finish: Finish<'_>,
    out: &mut [f32],
) {
    tiles::with_packed(layer, rows, weight, |weights| {
        let together = tiles::images(layer);
        let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
        parallel::for_chunks(out, together * image_out, layer.num_taps(), |index, out| {
            let images = out.len() / image_out;
            let input = &input[index * together * image_in..][..images * image_in];
            run(tiles::Split::whole(layer, images), [input, weights], finish, (out, &mut []), |images| {
                tiles::run(images, rows);
            });
        });
    });
}

/// Calls `body` with the padded images and where their tiles are.
#[inline(always)]
fn run<const HEIGHT: usize>(
    split: Split<HEIGHT>,
    [input, weights]: [&[f32]; 2],
    finish: Finish<'_>,
    (values, indices): (&mut [f32], &mut [f32]),
    body: impl FnOnce(Images<'_, HEIGHT>),
) {
    split.layer.with_padded(input, 0, |padded| {
        scratch::with(split.num_places(), |places: &mut [f32]| {
            split.write_places(places);
            body(Images { split, padded, weights, places, finish, values, indices });
        });
    });
}

/// Images that are worked on together.
struct Images<'a, const HEIGHT: usize> {
    split: Split<HEIGHT>,
    padded: &'a [f32],
    /// As [`columns::pack`] arranges them, or at the points.
    weights: &'a [f32],
    /// As [`Split::write_places`] writes them.
    places: &'a [f32],
    finish: Finish<'a>,
    /// The windows' maxima (images, O, windows), or all cells.
    values: &'a mut [f32],
    /// The bits of the places of the maxima.
    indices: &'a mut [f32],
}

impl<const HEIGHT: usize> Images<'_, HEIGHT> {
    /// Where the cells are of the windows in a row of those of a vector of tiles.
    #[inline(always)]
    fn places<S: Simd>(&self, simd: S, position: usize, row: usize) -> [S::f32s; 4] {
        let (first, width) =
            (S::as_simd_f32s(&self.places[position..][..S::F32_LANES]).0[0], self.split.layer.output[1]);
        let at = |offset: usize| {
            let place = simd.add_u32s(pulp::cast(first), simd.splat_u32s((2 * row * width + offset) as u32));
            pulp::cast(place)
        };
        [at(0), at(1), at(width), at(width + 1)]
    }

    /// The largest of each of a vector of windows of a channel, whose cells' sums before the bias these are, and where it is.
    /// (The bias is added to each: to the largest it would not do where it is infinite.)
    #[inline(always)]
    fn largest<S: Simd>(
        &self,
        simd: S,
        bias: S::f32s,
        mut sums: [S::f32s; 4],
        places: [S::f32s; 4],
    ) -> (S::f32s, S::f32s) {
        unroll!(cell in 0..4, up to 4 => { sums[cell] = simd.add_f32s(sums[cell], bias); });
        if self.finish.relu {
            // The others count only if they are larger than this.
            sums[0] = rectify(simd, sums[0]);
        }
        largest(simd, sums, places)
    }

    /// A vector of cells of a channel, whose sums before the bias these are.
    #[inline(always)]
    fn finished<S: Simd>(&self, simd: S, bias: S::f32s, sum: S::f32s) -> S::f32s {
        let sum = simd.add_f32s(sum, bias);
        if self.finish.relu { rectify(simd, sum) } else { sum }
    }
}
