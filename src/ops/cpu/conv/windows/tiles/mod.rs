//! 5×5 kernels by tiles of 4×2 cells, which are two windows, one above the other. Along columns, Winograd's F(4, 5) takes
//! 8 products instead of 20 for each row of the kernel. Along rows, F(2, 5) takes 6 of those instead of 10, unless there
//! are too few channels for its transforms to pay.
//!
//! A vector holds the same value of as many tiles as it has lanes, so no lane is idle where channels are few.

mod products;
mod store;
mod weights;

use pulp::{Simd, WithSimd};

use super::layout;
use crate::ops::cpu::conv::lines::transform;
use crate::ops::cpu::conv::winograd::{self, Transform};
use crate::ops::cpu::conv::{Layer, by_lanes};
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};
use products::Products;
pub(super) use weights::with_packed;

/// Rows and columns of cells of a tile.
const TILE: [usize; 2] = [transform::TILE, 2];

pub(super) type Split = layout::Split<{ TILE[0] }>;
type Images<'a> = super::Images<'a, { TILE[0] }>;

/// Rows and columns of elements that a tile's cells meet.
const MET: [usize; 2] = [transform::POINTS, winograd::POINTS];

/// Vectors of what a tile has for a channel.
const VALUES: usize = MET[0] * MET[1];

/// What is done along rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Rows {
    /// Each cell's sum as it is defined.
    Direct,
    /// F(2, 5).
    Winograd,
}

impl Rows {
    /// Weights of each row of points for a pair of channels.
    fn num_weights(self) -> usize {
        match self {
            Rows::Direct => transform::KERNEL,
            Rows::Winograd => winograd::POINTS,
        }
    }
}

/// Images that are worked on together: their tiles fill vectors, and what there is to do once for images pays.
pub(super) fn images(layer: &Layer) -> usize {
    if Split::pooled(layer, 1).num_tiles() > 4 * isa::lanes() { 2 } else { 4 }
}

/// What it takes for an image beside laying it out, in products of one lane; `None` where no tile serves it.
pub(super) fn cost(layer: &Layer, rows: Rows, is_pooled: bool) -> Option<usize> {
    if layer.kernel != [transform::KERNEL; 2] {
        return None;
    }
    let images = images(layer);
    let split = if is_pooled { Split::pooled(layer, images) } else { Split::whole(layer, images) };
    let lanes = split.num_tiles().next_multiple_of(isa::lanes()) / split.images;
    let (inputs, outputs) = (layer.in_channels, layer.out_channels);
    // Values are loaded once for a group of outputs, which takes as long as the products of one.
    let products = inputs * outputs.max(2);
    let tile = match rows {
        Rows::Direct => by_lanes([88, 100]) * products + 220 * inputs + 80 * outputs,
        // Weights are loaded for each product, two of which take as long as a load with short vectors.
        Rows::Winograd => by_lanes([53, 160]) * products + 300 * inputs + 130 * outputs,
    };
    // All cells are to be stored, and not just maxima.
    let stored = if is_pooled { 0 } else { 100 * outputs };
    Some(lanes * (tile + stored))
}

/// What a tile gives for an output channel: maxima of two windows and their places, or cells.
fn num_outputs(split: &Split) -> usize {
    if split.is_pooled { 4 } else { TILE[0] * TILE[1] }
}

pub(super) fn run(images: Images<'_>, rows: Rows) {
    let split = images.split;
    // Products of half a vector take half as long.
    let is_half = isa::lanes() == LANES && split.num_tiles() <= LANES / 2;
    let lanes = if is_half { LANES / 2 } else { isa::lanes() };
    let Layer { in_channels, out_channels, .. } = split.layer;
    let row_len = split.num_tiles().next_multiple_of(lanes);
    let lens = [
        in_channels * VALUES * lanes,
        split.num_elems(in_channels),
        out_channels * num_outputs(&split) * row_len,
        products::MOST_OUTPUTS * TILE[1] * MET[0] * lanes,
    ];
    scratch::with(lens.iter().sum(), |memory: &mut [f32]| {
        let (values, memory) = memory.split_at_mut(lens[0]);
        let (laid_out, memory) = memory.split_at_mut(lens[1]);
        let (outputs, sums) = memory.split_at_mut(lens[2]);
        isa::dispatch(layout::LayOut { split, padded: images.padded, image: laid_out });
        let run = Run { images, rows, laid_out, values, outputs, sums };
        if is_half { isa::dispatch_half(run) } else { isa::dispatch(run) }
    });
}

struct Run<'a> {
    images: Images<'a>,
    rows: Rows,
    laid_out: &'a [f32],
    /// Room for what a vector of tiles has: (C, row points, column points, lanes).
    values: &'a mut [f32],
    /// Room for what tiles give: (O, upper and lower window, maxima and places, tiles), or (O, rows of cells, tiles,
    /// columns of cells).
    outputs: &'a mut [f32],
    /// Room for sums at the row points: (O of a group, columns of cells, row points, lanes).
    sums: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run { mut images, rows, laid_out, values, outputs, sums } = self;
        for position in images.split.positions(S::F32_LANES) {
            let (split, values) = (images.split, &mut *values);
            match rows {
                Rows::Direct => TransformInput::<false> { split, position, laid_out, values }.with_simd(simd),
                Rows::Winograd => TransformInput::<true> { split, position, laid_out, values }.with_simd(simd),
            }
            products::run(
                simd,
                rows,
                Products { images: &images, position, values: &*values, outputs: &mut *outputs, sums: &mut *sums },
            );
        }
        store::Store { images: &mut images, outputs }.with_simd(simd);
    }
}

struct TransformInput<'a, const BOTH_AXES: bool> {
    split: Split,
    position: usize,
    laid_out: &'a [f32],
    values: &'a mut [f32],
}

impl<const BOTH_AXES: bool> WithSimd for TransformInput<'_, BOTH_AXES> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let TransformInput { split, position, laid_out, values } = self;
        let (values, zero) = (S::as_mut_simd_f32s(values).0.as_chunks_mut::<VALUES>().0, simd.splat_f32s(0.0));
        for (channel, values) in values.iter_mut().enumerate() {
            let laid_out = &laid_out[split.offset(channel, 0, 0) + position..];
            for j in 0..MET[1] {
                let mut column = [zero; MET[0]];
                unroll!(i in 0..MET[0], up to 8 => {
                    column[i] = S::as_simd_f32s(&laid_out[split.offset(0, i, j)..][..S::F32_LANES]).0[0];
                });
                let column = transform::Input.apply(simd, column);
                unroll!(i in 0..MET[0], up to 8 => { values[i * MET[1] + j] = column[i]; });
            }
            if BOTH_AXES {
                for row in values.as_chunks_mut::<{ MET[1] }>().0 {
                    *row = winograd::Input.apply(simd, *row);
                }
            }
        }
    }
}
