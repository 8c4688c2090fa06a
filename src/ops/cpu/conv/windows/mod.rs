//! A convolution followed by max-pooling of 2×2 windows side by side, with windows in a vector's lanes: of as many windows
//! as it has lanes, a vector holds one cell. All four cells of a window are in registers once their sums are there, so the
//! largest is found where they are, and the result of full size is never stored.
//!
//! The image is laid out so that what a tap meets in the same cell of all windows is contiguous ([`layout`]).

mod direct;
mod layout;
#[cfg(test)]
mod tests;
mod winograd;

use pulp::Simd;

use super::largest::largest;
use super::{Finish, Layer, columns, rectify};
use crate::ops::cpu::{parallel, scratch};
use layout::Split;

/// A kernel for windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Direct,
    Winograd,
}

impl Kernel {
    /// What it takes for an image, in products of one lane; `None` where it does not serve a layer.
    pub fn cost(self, layer: &Layer) -> Option<usize> {
        let has_windows = layer.output.iter().all(|&extent| extent >= 2);
        let is_wide = layer.kernel[1] > layout::MOST_COLUMNS;
        if !has_windows || is_wide || layer.stride != [1, 1] || layer.dilation != [1, 1] {
            return None;
        }
        let cost = match self {
            Kernel::Direct => direct::cost(layer),
            Kernel::Winograd => winograd::cost(layer)?,
        };
        // Laying the image out, fitted to times on a Zen 4 core with AVX-512 as all costs.
        Some(cost + 8 * Split::new(layer).num_elems(layer.in_channels))
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
    let (split, weights_len) = (
        Split::new(layer),
        match kernel {
            Kernel::Direct => weight.len(),
            Kernel::Winograd => winograd::num_weights(layer),
        },
    );
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * split.num_windows());
    scratch::with(weights_len + split.num_places(), |memory: &mut [f32]| {
        let (weights, places) = memory.split_at_mut(weights_len);
        split.write_places(places);
        match kernel {
            Kernel::Direct => columns::pack(layer.out_channels, direct::group, weight, weights),
            Kernel::Winograd => winograd::pack(layer, weight, weights),
        }
        let (weights, places) = (&*weights, &*places);
        let cost = 4 * layer.num_taps();
        parallel::for_chunk_pairs((maxima, image_out), (indices, image_out), cost, |index, maxima, indices| {
            let indices = bytemuck::cast_slice_mut(indices);
            layer.with_padded(&input[index * image_in..][..image_in], 0, |padded| {
                let image = Image { split, padded, weights, places, finish, maxima, indices };
                match kernel {
                    Kernel::Direct => direct::run(image),
                    Kernel::Winograd => winograd::run(image),
                }
            });
        });
    });
}

/// One image's windows.
struct Image<'a> {
    split: Split,
    padded: &'a [f32],
    /// As [`columns::pack`] arranges them, or at the points.
    weights: &'a [f32],
    /// As [`Split::write_places`] writes them.
    places: &'a [f32],
    finish: Finish<'a>,
    /// (O, windows).
    maxima: &'a mut [f32],
    /// The bits of the places of the maxima.
    indices: &'a mut [f32],
}

impl Image<'_> {
    /// Where vectors of so many windows begin: one after the other, the last moved back to end with the windows, unless
    /// there are fewer windows than it has lanes.
    #[inline(always)]
    fn positions(&self, step: usize) -> impl Iterator<Item = usize> + use<> {
        let num_windows = self.split.num_windows();
        (0..num_windows).step_by(step).map(move |position| position.min(num_windows.saturating_sub(step)))
    }

    /// Where the cells of a vector of windows are.
    #[inline(always)]
    fn places<S: Simd>(&self, simd: S, position: usize) -> [S::f32s; 4] {
        let first = S::as_simd_f32s(&self.places[position..][..S::F32_LANES]).0[0];
        let width = self.split.layer.output[1];
        let at = |offset: usize| {
            let place = simd.add_u32s(pulp::cast(first), simd.splat_u32s(offset as u32));
            pulp::cast(place)
        };
        [first, at(1), at(width), at(width + 1)]
    }

    /// Stores the largest of each of a vector of windows, whose cells' sums these are, and where it is.
    #[inline(always)]
    fn store<S: Simd>(
        &mut self,
        simd: S,
        [channel, position]: [usize; 2],
        mut sums: [S::f32s; 4],
        places: [S::f32s; 4],
    ) {
        let num_windows = self.split.num_windows();
        if self.finish.relu {
            // The others count only if they are larger than this.
            sums[0] = rectify(simd, sums[0]);
        }
        let (max, place) = largest(simd, sums, places);
        let start = channel * num_windows + position;
        if num_windows >= S::F32_LANES {
            S::as_mut_simd_f32s(&mut self.maxima[start..][..S::F32_LANES]).0[0] = max;
            S::as_mut_simd_f32s(&mut self.indices[start..][..S::F32_LANES]).0[0] = place;
        } else {
            simd.partial_store_f32s(&mut self.maxima[start..][..num_windows], max);
            simd.partial_store_f32s(&mut self.indices[start..][..num_windows], place);
        }
    }
}
