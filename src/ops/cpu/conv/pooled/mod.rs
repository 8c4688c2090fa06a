//! The gradients of a convolution whose output was pooled by maximum: of every window only the cell that was chosen has
//! a gradient, so only those are visited, each with one window of the image. Images lie with their channels last here,
//! where the elements that a row of the kernel meets are contiguous.
//!
//! The skipped products have a gradient of 0. They are 0 unless the other factor is infinite or NaN, which callers
//! check first; they check the gradients as well, since vectors reach beyond the end of a kernel's row, where a weight
//! of 0 stands.

mod input;
mod live;
mod weight;

pub(crate) use input::grad_input;
pub(crate) use live::MOST_CELLS_OF_PLANE;
pub(crate) use weight::grad_weight;

use super::Layer;
use super::rows::layout::Rows;
use crate::ops::cpu::parallel::{self, LANES};

/// The most cells of a window.
pub(crate) const MOST_CELLS: usize = 16;

/// Where pooled gradients come from: windows of a plane that do not overlap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooled<'a> {
    /// (images, O, windows).
    pub grad: &'a [f32],
    /// For each gradient, the cell of the convolution's output plane that it belongs to.
    pub indices: &'a [u32],
    /// Rows and columns of windows.
    pub output: [usize; 2],
    /// Height and width of a window, and from one to the next.
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
}

impl Pooled<'_> {
    /// Windows of a plane.
    pub fn windows(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Writes the first cell of each window in the plane, and where the image's elements begin that this cell meets.
    /// Both may lie before the start, where windows begin in the padding, so they count modulo 2³².
    fn write_origins(&self, rows: &Rows, cells: &mut [u32], places: &mut [u32]) {
        let Pooled { output: [_, columns], stride, padding, .. } = *self;
        let at = |row: usize, column: usize, row_elems: usize, elems: usize| {
            let place = |axis: usize, index: usize, elems: usize| {
                (index * stride[axis]).wrapping_sub(padding[axis]).wrapping_mul(elems)
            };
            place(0, row, row_elems).wrapping_add(place(1, column, elems)) as u32
        };
        let window_rows = cells.chunks_exact_mut(columns).zip(places.chunks_exact_mut(columns));
        for (row, (cells, places)) in window_rows.enumerate() {
            for (column, (cell, place)) in cells.iter_mut().zip(places).enumerate() {
                *cell = at(row, column, rows.layer.output[1], 1);
                *place = at(row, column, rows.row_elems, rows.layer.in_channels);
            }
        }
    }

    /// Whether windows are 2×2 side by side, all of them within the plane.
    fn is_plain_2x2(&self, layer: &Layer) -> bool {
        let fits = [0, 1].iter().all(|&axis| 2 * self.output[axis] <= layer.output[axis]);
        self.kernel == [2, 2] && self.stride == [2, 2] && self.padding == [0, 0] && fits
    }
}

/// Writes the sums of the gradients of each channel of images side by side.
pub(crate) fn grad_bias(pooled: Pooled<'_>, sums: &mut [f32]) {
    let (windows, num_channels) = (pooled.windows(), sums.len());
    parallel::simd(
        #[inline(always)]
        || {
            for (channel, sum) in sums.iter_mut().enumerate() {
                let mut lanes = [0.0; LANES];
                for plane in pooled.grad.chunks_exact(windows).skip(channel).step_by(num_channels) {
                    parallel::for_blocks(
                        plane,
                        0.0,
                        #[inline(always)]
                        |block| lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane += x),
                    );
                }
                *sum = parallel::sum_lanes(lanes);
            }
        },
    );
}
