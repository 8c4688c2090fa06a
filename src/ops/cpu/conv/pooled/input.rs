//! The gradient by the input of a pooled convolution. The channels that chose one cell of a window add to the same
//! elements, and so do neighbouring cells: where windows are 2×2, all that a window adds is summed in registers, and
//! memory is read and written once for a window instead of once for a gradient.

use pulp::{Simd, WithSimd};

use super::{MOST_CELLS, Pooled};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::conv::rows::kernels;
use crate::ops::cpu::conv::rows::layout::{ChannelsFirst, Rows};
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Channels that a mask has a bit for.
const MASK_BITS: usize = u32::BITS as usize;

/// Rows of two vectors where rows are so long.
fn rows(layer: &Layer) -> Rows {
    let lanes = isa::lanes();
    let is_wide = Rows::vectors(layer, lanes) > 1 && layer.kernel[0] != 7;
    Rows::new(layer, lanes, if is_wide { 2 } else { 1 })
}

/// The gradient by the input of images side by side, on the calling thread.
pub(crate) fn grad_input(layer: &Layer, pooled: Pooled<'_>, weight: &[f32], out: &mut [f32]) {
    let (rows, windows) = (rows(layer), pooled.windows());
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * windows);
    let num_cells = pooled.kernel[0] * pooled.kernel[1];
    let num_masks = layer.out_channels.div_ceil(MASK_BITS) * num_cells * windows.next_multiple_of(LANES);
    scratch::with(2 * windows + num_masks, |table: &mut [u32]| {
        let (cells, table) = table.split_at_mut(windows);
        let (origins, masks) = table.split_at_mut(windows);
        pooled.write_origins(&rows, cells, origins);
        let num_weights = kernels::num_elems(&rows);
        scratch::with(num_weights + 2 * rows.image_elems(), |memory: &mut [f32]| {
            let (weights, image) = memory.split_at_mut(num_weights);
            kernels::to_vectors(&rows, weight, weights);
            let outputs = pooled.grad.chunks_exact(image_out).zip(pooled.indices.chunks_exact(image_out));
            for (out, (grad, indices)) in out.chunks_exact_mut(image_in).zip(outputs) {
                let (weights, cells, origins) = (&*weights, &*cells, &*origins);
                isa::dispatch(Image { rows, pooled, grad, indices, weights, cells, origins, masks, image, out });
            }
        });
    });
}

/// One image's gradient.
struct Image<'a> {
    rows: Rows,
    pooled: Pooled<'a>,
    grad: &'a [f32],
    indices: &'a [u32],
    /// (O, vectors, lanes).
    weights: &'a [f32],
    /// Of each window, its first cell and where that begins in the image.
    cells: &'a [u32],
    origins: &'a [u32],
    /// Room for masks: (blocks of channels, blocks of windows, cells, windows of a block).
    masks: &'a mut [u32],
    /// Room for the gradient with its channels last: twice, the left columns of 2×2 windows adding to one and the right
    /// ones to the other, since what was just written and is read again a few elements further on would have to reach
    /// the cache first.
    image: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.write_masks();
        let (rows, is_wide) = (self.rows, self.rows.width == 2);
        let is_2x2 = self.pooled.is_plain_2x2(&rows.layer);
        let num_elems = if is_2x2 { self.image.len() } else { rows.image_elems() };
        self.image[..num_elems].fill(0.0);
        let image = &mut self;
        match (is_2x2, rows.layer.kernel[0]) {
            (true, 7) => simd.vectorize(Windows::<7, 8, 1> { image }),
            (true, 5) if is_wide => simd.vectorize(Windows::<5, 6, 2> { image }),
            (true, 5) => simd.vectorize(Windows::<5, 6, 1> { image }),
            (true, 3) if is_wide => simd.vectorize(Windows::<3, 4, 2> { image }),
            (true, 3) => simd.vectorize(Windows::<3, 4, 1> { image }),
            (true, _) if is_wide => simd.vectorize(Windows::<1, 2, 2> { image }),
            (true, _) => simd.vectorize(Windows::<1, 2, 1> { image }),
            (false, 5) if is_wide => simd.vectorize(Cells::<5, 2> { image }),
            (false, 3) if is_wide => simd.vectorize(Cells::<3, 2> { image }),
            (false, _) if is_wide => simd.vectorize(Cells::<1, 2> { image }),
            (false, _) => simd.vectorize(Cells::<1, 1> { image }),
        }
        let Image { image, out, .. } = self;
        let (image, right) = image.split_at_mut(rows.image_elems());
        if is_2x2 {
            image.iter_mut().zip(right).for_each(|(left, right)| *left += *right);
        }
        simd.vectorize(ChannelsFirst { rows, image, out });
    }
}

impl Image<'_> {
    /// Where a cell of a window lies after its first.
    fn cell(&self, cell: usize, row_elems: usize, elems: usize) -> usize {
        let width = self.pooled.kernel[1];
        cell / width * row_elems + cell % width * elems
    }

    fn num_cells(&self) -> usize {
        self.pooled.kernel[0] * self.pooled.kernel[1]
    }

    /// Writes for each window and cell which channels chose it with a gradient other than 0.
    #[inline(always)]
    fn write_masks(&mut self) {
        /// Cells that the channels are gone through for at a time.
        const CELLS: usize = 4;
        let (windows, num_cells) = (self.cells.len(), self.num_cells());
        // No index is so large.
        let mut offsets = [u32::MAX; MOST_CELLS];
        for (cell, offset) in offsets[..num_cells].iter_mut().enumerate() {
            *offset = self.cell(cell, self.rows.layer.output[1], 1) as u32;
        }
        let channels = self.grad.chunks(MASK_BITS * windows).zip(self.indices.chunks(MASK_BITS * windows));
        let mut all_masks = self.masks.as_chunks_mut::<LANES>().0.chunks_exact_mut(num_cells);
        for (grad, indices) in channels {
            for first in (0..windows).step_by(LANES) {
                let cells = block(&self.cells[first..]);
                let masks = all_masks.next().expect("masks for each block of windows");
                for (masks, offsets) in masks.chunks_mut(CELLS).zip(offsets.as_chunks::<CELLS>().0) {
                    let mut bits = [[0; LANES]; CELLS];
                    let planes = grad.chunks_exact(windows).zip(indices.chunks_exact(windows));
                    for (channel, (grad, indices)) in planes.enumerate() {
                        let (grad, indices) = (block(&grad[first..]), block(&indices[first..]));
                        for at in 0..LANES {
                            let bit = if grad[at] != 0.0 { 1 << channel } else { 0 };
                            let chosen = indices[at].wrapping_sub(cells[at]);
                            unroll!(cell in 0..CELLS, up to 4 => {
                                bits[cell][at] |= if chosen == offsets[cell] { bit } else { 0 };
                            });
                        }
                    }
                    masks.copy_from_slice(&bits[..masks.len()]);
                }
            }
        }
    }

    /// Calls `body(self, window, block of channels)` where there is a gradient.
    #[inline(always)]
    fn for_windows(&mut self, mut body: impl FnMut(&mut Self, usize, usize)) {
        for window in 0..self.cells.len() {
            for block in 0..self.rows.layer.out_channels.div_ceil(MASK_BITS) {
                body(self, window, block);
            }
        }
    }

    /// Adds to the images what a row of a window's left cells adds, or of its right ones.
    #[inline(always)]
    fn add_row<S: Simd, const V: usize>(&mut self, simd: S, place: usize, side: usize, sums: &[S::f32s; V]) {
        let start = side * (self.rows.image_elems() + self.rows.layer.in_channels);
        add::<S, V>(simd, &mut self.image[start + place..], sums);
    }

    /// The channels of a block that chose a cell of a window.
    #[inline(always)]
    fn mask(&self, window: usize, block: usize, cell: usize) -> u32 {
        let blocks = self.cells.len().div_ceil(LANES);
        self.masks[((block * blocks + window / LANES) * self.num_cells() + cell) * LANES + window % LANES]
    }

    /// Calls `body(gradient, R · V vectors)` for the channels of a mask, the vectors being those from `first` on.
    #[inline(always)]
    fn for_channels<S: Simd>(
        &self,
        mut mask: u32,
        (window, block): (usize, usize),
        vectors: std::ops::Range<usize>,
        mut body: impl FnMut(f32, &[S::f32s]),
    ) {
        let (windows, kernel_vectors) = (self.cells.len(), self.rows.kernel_vectors());
        let grad = &self.grad[block * MASK_BITS * windows + window..];
        let weights = &S::as_simd_f32s(self.weights).0[block * MASK_BITS * kernel_vectors + vectors.start..];
        while mask != 0 {
            let channel = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            body(grad[channel * windows], &weights[channel * kernel_vectors..][..vectors.len()]);
        }
    }
}

/// The first elements, zeros where there are fewer.
#[inline(always)]
fn block<T: Copy + Default>(from: &[T]) -> [T; LANES] {
    from.first_chunk().copied().unwrap_or_else(|| {
        let mut block = [T::default(); LANES];
        block[..from.len()].copy_from_slice(from);
        block
    })
}

/// Adds V vectors to an image.
#[inline(always)]
fn add<S: Simd, const V: usize>(simd: S, image: &mut [f32], sums: &[S::f32s; V]) {
    let (out, _) = S::as_mut_simd_f32s(&mut image[..V * S::F32_LANES]);
    unroll!(v in 0..V, up to 4 => { out[v] = simd.add_f32s(out[v], sums[v]); });
}

/// Windows of 2×2 cells, R rows of a kernel and V vectors at a time: `ROWS` = R + 1 rows of the image meet a window. Those
/// that it shares with the window below stay in registers.
struct Windows<'i, 'a, const R: usize, const ROWS: usize, const V: usize> {
    image: &'i mut Image<'a>,
}

impl<const R: usize, const ROWS: usize, const V: usize> WithSimd for Windows<'_, '_, R, ROWS, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Windows { image } = self;
        let Rows { layer, num_passes, .. } = image.rows;
        // The sums of both columns of cells are in registers where there are so many.
        let is_one_sided = V > 1 && S::REGISTER_COUNT < 32;
        for block in 0..layer.out_channels.div_ceil(MASK_BITS) {
            for pass in 0..num_passes {
                for row in (0..layer.kernel[0]).step_by(R) {
                    for column in 0..image.pooled.output[1] {
                        if is_one_sided {
                            Self::column::<S, 0, 1>(simd, image, (block, column), (pass, row));
                            Self::column::<S, 1, 1>(simd, image, (block, column), (pass, row));
                        } else {
                            Self::column::<S, 0, 2>(simd, image, (block, column), (pass, row));
                        }
                    }
                }
            }
        }
    }
}

impl<const R: usize, const ROWS: usize, const V: usize> Windows<'_, '_, R, ROWS, V> {
    /// The part of a column of windows that channels of a block have, from a row of the kernel on, in its left column of
    /// cells, its right one, or both.
    #[inline(always)]
    fn column<S: Simd, const FIRST: usize, const SIDES: usize>(
        simd: S,
        image: &mut Image<'_>,
        (block, column): (usize, usize),
        (pass, row): (usize, usize),
    ) {
        let (rows, [window_rows, columns]) = (image.rows, image.pooled.output);
        let first = pass * rows.layer.kernel[0] + row;
        let vectors = first * V..(first + R) * V;
        let mut sums = [[[simd.splat_f32s(0.0); V]; ROWS]; SIDES];
        let mut place = image.origins[column] as usize + row * rows.row_elems + pass * V * S::F32_LANES;
        for window in (column..window_rows * columns).step_by(columns) {
            unroll!(row in 0..2, up to 4 => {
                unroll!(side in 0..SIDES, up to 4 => {
                    let mask = image.mask(window, block, 2 * row + FIRST + side);
                    image.for_channels::<S>(mask, (window, block), vectors.clone(), #[inline(always)] |grad, weights| {
                        let grad = simd.splat_f32s(grad);
                        unroll!(r in 0..R, up to 8 => {
                            unroll!(v in 0..V, up to 4 => {
                                let sum = &mut sums[side][r + row][v];
                                *sum = simd.mul_add_e_f32s(grad, weights[r * V + v], *sum);
                            });
                        });
                    });
                });
            });
            unroll!(side in 0..SIDES, up to 4 => {
                unroll!(r in 0..2, up to 4 => {
                    image.add_row(simd, place + r * rows.row_elems, FIRST + side, &sums[side][r]);
                });
            });
            unroll!(r in 0..ROWS, up to 8 => {
                unroll!(side in 0..SIDES, up to 4 => {
                    sums[side][r] = if r + 2 < ROWS { sums[side][(r + 2) % ROWS] } else { [simd.splat_f32s(0.0); V] };
                });
            });
            place += 2 * rows.row_elems;
        }
        unroll!(r in 0..ROWS, up to 8 => {
            if r + 2 < ROWS {
                unroll!(side in 0..SIDES, up to 4 => {
                    image.add_row(simd, place + r * rows.row_elems, FIRST + side, &sums[side][r]);
                });
            }
        });
    }
}

/// Windows of any kind, cell by cell, R rows of a kernel and V vectors at a time.
struct Cells<'i, 'a, const R: usize, const V: usize> {
    image: &'i mut Image<'a>,
}

impl<const R: usize, const V: usize> WithSimd for Cells<'_, '_, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.image.rows;
        let (height, passes, num_cells) = (rows.layer.kernel[0], rows.num_passes, self.image.num_cells());
        self.image.for_windows(
            #[inline(always)]
            |image, window, block| {
                for cell in 0..num_cells {
                    let mask = image.mask(window, block, cell);
                    let offset = image.cell(cell, rows.row_elems, rows.layer.in_channels) as u32;
                    for pass in 0..if mask == 0 { 0 } else { passes } {
                        for row in (0..height).step_by(R) {
                            let vectors = (pass * height + row) * V..(pass * height + row + R) * V;
                            let mut sums = [[simd.splat_f32s(0.0); V]; R];
                            image.for_channels::<S>(mask, (window, block), vectors, #[inline(always)] |grad, weights| {
                                let grad = simd.splat_f32s(grad);
                                unroll!(r in 0..R, up to 8 => {
                                    unroll!(v in 0..V, up to 4 => {
                                        sums[r][v] = simd.mul_add_e_f32s(grad, weights[r * V + v], sums[r][v]);
                                    });
                                });
                            });
                            // A cell that was chosen lies in the plane.
                            let place = image.origins[window].wrapping_add(offset) as usize;
                            let out = &mut image.image[place + row * rows.row_elems + pass * V * S::F32_LANES..];
                            unroll!(r in 0..R, up to 8 => { add::<S, V>(simd, &mut out[r * rows.row_elems..], &sums[r]); });
                        }
                    }
                }
            },
        );
    }
}
