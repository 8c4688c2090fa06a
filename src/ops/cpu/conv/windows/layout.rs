//! The layout of an image: for each channel and each column of a kernel or the one after it, moved by that column's place,
//! the even rows and then the odd ones, of which every second element is there. The elements that a tap meets in one cell
//! of all windows are contiguous then, rows of windows and all.

use pulp::{Simd, WithSimd};

use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::transpose::{PAIRS, TILE, every_second, every_second_of_four};
use crate::ops::cpu::unroll::unroll;

/// The sizes of a layer's windows and of its image laid out for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub layer: Layer,
    /// Rows and columns of windows.
    pub windows: [usize; 2],
    /// Even rows of a plane, or odd ones.
    rows: usize,
}

/// The widest kernel: what a piece of windows meets are few enough elements then.
pub(super) const MOST_COLUMNS: usize = 9;

/// Elements that vectors may reach beyond the last window.
const SLACK: usize = 2 * LANES;

/// Elements that a piece of a row may reach beyond the end of a half.
const HALF_SLACK: usize = 16;

impl Split {
    pub fn new(layer: &Layer) -> Split {
        let windows = layer.output.map(|extent| extent / 2);
        Split { layer: *layer, windows, rows: windows[0] + layer.kernel[0] / 2 }
    }

    pub fn num_windows(&self) -> usize {
        self.windows[0] * self.windows[1]
    }

    /// Elements of the even rows of a moved plane, or of the odd ones.
    fn half(&self) -> usize {
        self.rows * self.windows[1] + HALF_SLACK
    }

    /// Elements of a channel.
    pub fn channel_elems(&self) -> usize {
        (self.layer.kernel[1] + 1) * 2 * self.half()
    }

    /// Elements of an image, or of a channel of it.
    pub fn num_elems(&self, channels: usize) -> usize {
        channels * self.channel_elems() + SLACK
    }

    /// Where the first window's element lies that is `i` rows and `j` columns from the window's first.
    #[inline(always)]
    pub fn offset(&self, channel: usize, i: usize, j: usize) -> usize {
        channel * self.channel_elems() + (2 * j + i % 2) * self.half() + i / 2 * self.windows[1]
    }

    /// Elements of the places of windows.
    pub fn num_places(&self) -> usize {
        self.num_windows() + SLACK
    }

    /// Writes where each window's first cell lies in the output's plane, as bits.
    pub fn write_places(&self, places: &mut [f32]) {
        for (row, places) in places.chunks_exact_mut(self.windows[1]).take(self.windows[0]).enumerate() {
            let first = 2 * row * self.layer.output[1];
            for (column, place) in places.iter_mut().enumerate() {
                *place = f32::from_bits((first + 2 * column) as u32);
            }
        }
    }
}

/// Lays an image out.
pub(super) struct LayOut<'a> {
    pub split: Split,
    pub padded: &'a [f32],
    pub image: &'a mut [f32],
}

impl WithSimd for LayOut<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channel_elems = self.split.channel_elems();
        for channel in 0..self.split.layer.in_channels {
            self.split.lay_out(simd, self.padded, channel, &mut self.image[channel * channel_elems..]);
        }
    }
}

impl Split {
    /// Lays a channel of a padded image out.
    #[inline(always)]
    pub fn lay_out<S: Simd>(&self, simd: S, padded: &[f32], channel: usize, to: &mut [f32]) {
        let plane = &padded[channel * self.layer.plane_elems()..];
        // A row of windows is one piece, or several, and a short one a quarter of one.
        match self.windows[1] {
            4 if self.laid_out_rows()[1] >= 4 => self.by_four_rows(simd, plane, to),
            ..=4 => self.by_pieces::<S, 4>(simd, plane, to),
            9..=12 => self.by_pieces::<S, 12>(simd, plane, to),
            13..=14 if self.layer.kernel[1] <= PAIRS - 27 => self.by_pieces::<S, 16>(simd, plane, to),
            _ => self.by_pieces::<S, 8>(simd, plane, to),
        }
    }

    /// Rows of a plane that windows meet, even ones and odd ones.
    #[inline(always)]
    fn laid_out_rows(&self) -> [usize; 2] {
        let height = self.layer.padded()[0].min(2 * self.rows);
        [height.div_ceil(2), height / 2]
    }

    /// Four rows of four windows at a time; the last four end with the plane.
    #[inline(always)]
    fn by_four_rows<S: Simd>(&self, simd: S, plane: &[f32], to: &mut [f32]) {
        let (width, step) = (self.layer.padded()[1], self.offset(0, 0, 1));
        for (parity, count) in self.laid_out_rows().into_iter().enumerate() {
            for first in (0..count).step_by(4) {
                let first = first.min(count - 4);
                let row = |index: usize| &plane[(2 * (first + index) + parity) * width..];
                // The end of an image.
                let mut tails = [[0.0; TILE]; 4];
                unroll!(index in 0..4, up to 4 => {
                    if row(index).len() < TILE {
                        tails[index][..row(index).len()].copy_from_slice(row(index));
                    }
                });
                let mut rows = tails.each_ref();
                unroll!(index in 0..4, up to 4 => {
                    rows[index] = row(index).first_chunk().unwrap_or(rows[index]);
                });
                let to = &mut to[self.offset(0, parity, 0) + 4 * first..];
                for j in 0..self.layer.kernel[1] + 1 {
                    to[j * step..][..TILE].copy_from_slice(&every_second_of_four(simd, rows, j));
                }
            }
        }
    }

    /// By pieces of N windows. What a piece writes beyond the end of a row is overwritten by the next one, or is slack.
    #[inline(always)]
    fn by_pieces<S: Simd, const N: usize>(&self, simd: S, plane: &[f32], to: &mut [f32]) {
        let ([height, width], [_, columns], step) = (self.layer.padded(), self.windows, self.offset(0, 0, 1));
        let kernel_w = self.layer.kernel[1];
        for y in 0..height.min(2 * self.rows) {
            let to = &mut to[self.offset(0, y, 0)..];
            for at in (0..columns).step_by(N) {
                let row = &plane[y * width + 2 * at..];
                let mut last = [0.0; PAIRS];
                let row = row.first_chunk().unwrap_or_else(|| {
                    last[..row.len()].copy_from_slice(row);
                    &last
                });
                for j in 0..kernel_w + 1 {
                    to[j * step + at..][..N].copy_from_slice(&every_second(simd, row, j)[..N]);
                }
            }
        }
    }
}
