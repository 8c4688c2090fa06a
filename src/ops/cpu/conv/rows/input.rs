//! The gradient by the input for few input channels: what a pixel of the output adds to the image is a few vectors for each
//! row of the kernel, summed over output channels in registers. The convolution under turned weights that gives the same
//! computes with the zeros around the output as well, more than half of all where planes are small.

use pulp::{Simd, WithSimd};

use super::kernels;
use super::layout::{ChannelsFirst, Rows};
use crate::ops::cpu::conv::{Layer, by_lanes};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, parallel, scratch};

/// Pixels of a row that are taken together, half a row apart, so that vectors of weights are loaded for both.
const PIXELS: usize = 2;

/// Rows of pixels that are taken together where one row of a kernel is summed at a time: no two add to the same elements.
const PIXEL_ROWS: usize = 8;

/// Rows in passes of at most two vectors a row, of which 3 or 5 rows are summed at a time.
fn rows(layer: &Layer) -> Rows {
    let lanes = isa::lanes();
    let width = if Rows::vectors(layer, lanes) > 1 && isa::has_32_registers() { 2 } else { 1 };
    Rows::new(layer, lanes, width)
}

/// Rows of a kernel that are summed at a time.
fn rows_of_pass(layer: &Layer) -> usize {
    match layer.kernel[0] {
        rows @ (3 | 5) => rows,
        _ => 1,
    }
}

/// What it takes for an image, in products of one lane; `None` where it does
/// not serve a layer.
pub(in super::super) fn cost(layer: &Layer) -> Option<usize> {
    if layer.stride != [1, 1] || layer.dilation != [1, 1] {
        return None;
    }
    let rows = rows(layer);
    // Beside products, sums are added to the image.
    let added = match rows_of_pass(layer) {
        1 => 12,
        passed => 2 * layer.kernel[0] / passed,
    };
    let products = rows.kernel_elems() * (layer.out_channels + added);
    // With few sums at a time, products wait for each other.
    let slower = if layer.kernel[0] == 5 { by_lanes([20, 29]) } else { by_lanes([20, 60]) };
    Some((layer.out_pixels() * products + 6 * rows.image_elems()) * slower / 20)
}

/// The gradient by the input of images side by side.
pub(in super::super) fn grad_input(layer: &Layer, grad: &[f32], weight: &[f32], out: &mut [f32]) {
    let rows = rows(layer);
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    scratch::with(kernels::num_elems(&rows), |weights: &mut [f32]| {
        kernels::to_vectors(&rows, weight, weights);
        let weights = &*weights;
        parallel::for_chunks(out, image_in, layer.out_channels * layer.kernel[0] * layer.kernel[1], |index, out| {
            let grad = &grad[index * image_out..][..image_out];
            scratch::with(rows.image_elems(), |image: &mut [f32]| {
                isa::dispatch(Image { rows, grad, weights, image, out })
            });
        });
    });
}

/// One image's gradient.
struct Image<'a> {
    rows: Rows,
    grad: &'a [f32],
    /// (O, vectors, lanes).
    weights: &'a [f32],
    /// Room for the gradient with its channels last.
    image: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.image.fill(0.0);
        let rows = self.rows;
        let image = &mut self;
        match (rows_of_pass(&rows.layer), rows.width) {
            (5, 2) => simd.vectorize(Passes::<5, 2> { image }),
            (5, _) => simd.vectorize(Passes::<5, 1> { image }),
            (3, 2) => simd.vectorize(Passes::<3, 2> { image }),
            (3, _) => simd.vectorize(Passes::<3, 1> { image }),
            (_, 2) => simd.vectorize(Passes::<1, 2> { image }),
            _ => simd.vectorize(Passes::<1, 1> { image }),
        }
        let Image { image, out, .. } = self;
        simd.vectorize(ChannelsFirst { rows, image, out });
    }
}

/// All of an image, R rows of a kernel and V vectors at a time.
struct Passes<'i, 'a, const R: usize, const V: usize> {
    image: &'i mut Image<'a>,
}

impl<const R: usize, const V: usize> WithSimd for Passes<'_, '_, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Passes { image } = self;
        let Rows { layer, num_passes, .. } = image.rows;
        let columns = layer.output[1];
        let half = columns.div_ceil(PIXELS);
        for pass in 0..num_passes {
            for row in (0..layer.kernel[0]).step_by(R) {
                if R == 1 {
                    image.column_by_column::<S, V>(simd, (pass, row));
                    continue;
                }
                for column in 0..half {
                    if column + half < columns {
                        image.columns::<S, R, V, PIXELS>(simd, column, half, (pass, row));
                    } else {
                        image.columns::<S, R, V, 1>(simd, column, half, (pass, row));
                    }
                }
            }
        }
    }
}

impl Image<'_> {
    /// What all pixels add to the image by one row of a kernel.
    #[inline(always)]
    fn column_by_column<S: Simd, const V: usize>(&mut self, simd: S, (pass, row): (usize, usize)) {
        let [height, width] = self.rows.layer.output;
        for column in 0..width {
            let mut y = 0;
            while y < height {
                y += match height - y {
                    PIXEL_ROWS.. if isa::has_32_registers() => {
                        self.column::<S, V, PIXEL_ROWS>(simd, [y, column], (pass, row))
                    }
                    4.. => self.column::<S, V, 4>(simd, [y, column], (pass, row)),
                    _ => self.column::<S, V, 1>(simd, [y, column], (pass, row)),
                };
            }
        }
    }

    /// What P pixels, one below the other, add to the image by one row of a kernel; gives P.
    #[inline(always)]
    fn column<S: Simd, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        [y, x]: [usize; 2],
        (pass, row): (usize, usize),
    ) -> usize {
        let Rows { layer, row_elems, .. } = self.rows;
        let ([_, width], pixels) = (layer.output, layer.out_pixels());
        let (weights, kernel_vectors) = (S::as_simd_f32s(self.weights).0, self.rows.kernel_vectors());
        let weights = &weights[(pass * layer.kernel[0] + row) * V..];
        let grads = &self.grad[y * width + x..];
        let mut sums = [[simd.splat_f32s(0.0); V]; P];
        for (channel, grads) in (0..layer.out_channels).zip(grads.chunks(pixels)) {
            let (weights, grads) = (&weights[channel * kernel_vectors..][..V], &grads[..(P - 1) * width + 1]);
            unroll!(p in 0..P, up to 8 => {
                let grad = simd.splat_f32s(grads[p * width]);
                unroll!(v in 0..V, up to 4 => { sums[p][v] = simd.mul_add_e_f32s(grad, weights[v], sums[p][v]); });
            });
        }
        let place = (y + row) * row_elems + pass * V * S::F32_LANES + x * layer.in_channels;
        unroll!(p in 0..P, up to 8 => { self.add::<S, V>(simd, place + p * row_elems, &sums[p]); });
        P
    }

    /// What P columns of pixels, `step` apart, add to the image by the rows of a kernel from `row` on. Rows that the next
    /// pixel of a column adds to as well stay in registers.
    #[inline(always)]
    fn columns<S: Simd, const R: usize, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        column: usize,
        step: usize,
        (pass, row): (usize, usize),
    ) {
        let Rows { layer, row_elems, .. } = self.rows;
        let ([height, width], pixels) = (layer.output, layer.out_pixels());
        let (weights, kernel_vectors) = (S::as_simd_f32s(self.weights).0, self.rows.kernel_vectors());
        let weights = &weights[(pass * layer.kernel[0] + row) * V..];
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[[zero; V]; R]; P];
        let mut place = row * row_elems + pass * V * S::F32_LANES + column * layer.in_channels;
        for y in 0..height {
            let grads = &self.grad[y * width + column..];
            for (channel, grads) in (0..layer.out_channels).zip(grads.chunks(pixels)) {
                let weights = &weights[channel * kernel_vectors..][..R * V];
                let mut grad = [zero; P];
                unroll!(p in 0..P, up to 4 => { grad[p] = simd.splat_f32s(grads[p * step]); });
                unroll!(r in 0..R, up to 8 => {
                    unroll!(v in 0..V, up to 4 => {
                        let weight = weights[r * V + v];
                        unroll!(p in 0..P, up to 4 => {
                            sums[p][r][v] = simd.mul_add_e_f32s(grad[p], weight, sums[p][r][v]);
                        });
                    });
                });
            }
            unroll!(p in 0..P, up to 4 => {
                self.add::<S, V>(simd, place + p * step * layer.in_channels, &sums[p][0]);
                unroll!(r in 0..R, up to 8 => { sums[p][r] = if r + 1 < R { sums[p][(r + 1) % R] } else { [zero; V] }; });
            });
            place += row_elems;
        }
        unroll!(r in 0..R, up to 8 => {
            if r + 1 < R {
                unroll!(p in 0..P, up to 4 => {
                    self.add::<S, V>(simd, place + r * row_elems + p * step * layer.in_channels, &sums[p][r]);
                });
            }
        });
    }

    /// Adds V vectors to the image.
    #[inline(always)]
    fn add<S: Simd, const V: usize>(&mut self, simd: S, place: usize, sums: &[S::f32s; V]) {
        let (out, _) = S::as_mut_simd_f32s(&mut self.image[place..][..V * S::F32_LANES]);
        unroll!(v in 0..V, up to 4 => { out[v] = simd.add_f32s(out[v], sums[v]); });
    }
}
