//! The gradients of a convolution whose output was pooled by maximum: of every window only the cell that was chosen has
//! a gradient, so only those are visited, each with one window of the image. Images lie with their channels last here,
//! where the elements that a row of the kernel meets are contiguous.
//!
//! The skipped products have a gradient of 0. They are 0 unless the other factor is infinite or NaN, which callers
//! check first.

use pulp::{Simd, WithSimd};

use super::Layer;
use crate::ops::cpu::transpose::{TILE, transpose_tile};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// The most cells of a window.
pub(crate) const MOST_CELLS: usize = 16;

/// Channels whose gradients are sorted by cell at a time.
const MASK_BITS: usize = 64;

/// Vectors of a kernel from which on gradients of 0 are left out of its own gradient.
const FEW_VECTORS: usize = 20;

/// Where pooled gradients come from: windows of a plane that do not overlap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooled<'a> {
    /// (images, O, windows).
    pub grad: &'a [f32],
    /// For each gradient, the cell of the convolution's output plane that it belongs to.
    pub indices: &'a [u32],
    /// Windows of a plane.
    pub windows: usize,
    /// Height and width of a window, and from one to the next.
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
}

/// A layer with images whose channels lie last.
#[derive(Clone, Copy)]
struct Rows {
    layer: Layer,
    /// Elements of a row of the padded image.
    row_elems: usize,
    /// Vectors that hold a row of the kernel, the last with unused elements.
    row_vectors: usize,
    lanes: usize,
}

impl Rows {
    fn new(layer: &Layer, lanes: usize) -> Rows {
        let row_elems = layer.padded()[1] * layer.in_channels;
        Rows { layer: *layer, row_elems, row_vectors: (layer.kernel[1] * layer.in_channels).div_ceil(lanes), lanes }
    }

    /// Vectors that hold a kernel.
    fn num_vectors(&self) -> usize {
        self.layer.kernel[0] * self.row_vectors
    }

    /// Elements of a kernel's vectors.
    fn kernel_elems(&self) -> usize {
        self.num_vectors() * self.lanes
    }

    /// Elements of an image, with room for the last vector of the last row.
    fn image_elems(&self) -> usize {
        self.layer.padded()[0] * self.row_elems + TILE.max(self.lanes) * (TILE + 1)
    }

    /// Rows of pixels that are contiguous in the padded image, and their pixels.
    fn strips(&self) -> [usize; 2] {
        if self.layer.padding == [0, 0] { [1, self.layer.in_pixels()] } else { self.layer.input }
    }

    /// Writes where each vector of a kernel begins in an image.
    fn write_starts(&self, starts: &mut [u32]) {
        for (vector, start) in starts.iter_mut().enumerate() {
            let (row, place) = (vector / self.row_vectors, vector % self.row_vectors);
            *start = (row * self.row_elems + place * self.lanes) as u32;
        }
    }

    /// Writes where the window of each cell of the output plane begins in an image.
    fn write_windows(&self, windows: &mut [u32]) {
        let width = self.layer.output[1];
        for (cell, window) in windows.iter_mut().enumerate() {
            *window = (cell / width * self.row_elems + cell % width * self.layer.in_channels) as u32;
        }
    }
}

/// Adds the weight gradient of images side by side to `total` (O, C, KH, KW), on the calling thread.
pub(crate) fn grad_weight(layer: &Layer, pooled: Pooled<'_>, input: &[f32], total: &mut [f32]) {
    let rows = Rows::new(layer, isa::narrow_lanes());
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * pooled.windows);
    let kernel_elems = rows.kernel_elems();
    scratch::with(layer.out_channels * kernel_elems, |sums: &mut [f32]| {
        sums.fill(0.0);
        scratch::with(rows.num_vectors() + layer.out_pixels(), |starts: &mut [u32]| {
            let (starts, windows) = starts.split_at_mut(rows.num_vectors());
            rows.write_starts(starts);
            rows.write_windows(windows);
            scratch::with(rows.image_elems(), |image: &mut [f32]| {
                image.fill(0.0);
                scratch::with(pooled.windows, |grads: &mut [f32]| {
                    scratch::with(pooled.windows, |places: &mut [u32]| {
                        let outputs = pooled.grad.chunks_exact(image_out).zip(pooled.indices.chunks_exact(image_out));
                        for (planes, (grad, indices)) in input.chunks_exact(image_in).zip(outputs) {
                            let (starts, windows) = (&*starts, &*windows);
                            isa::dispatch_narrow(GradWeight {
                                rows,
                                planes,
                                image,
                                grad,
                                indices,
                                starts,
                                windows,
                                grads,
                                places,
                                sums,
                            });
                        }
                    });
                });
            });
        });
        let channels = layer.in_channels;
        let [kernel_h, kernel_w] = layer.kernel;
        for (weights, sums) in total.chunks_exact_mut(layer.num_taps()).zip(sums.chunks_exact(kernel_elems)) {
            for (i, row) in sums.chunks_exact(rows.row_vectors * rows.lanes).enumerate() {
                for (j, sums) in row[..kernel_w * channels].chunks_exact(channels).enumerate() {
                    let weights = weights[i * kernel_w + j..].iter_mut().step_by(kernel_h * kernel_w);
                    weights.zip(sums).for_each(|(weight, &sum)| *weight += sum);
                }
            }
        }
    });
}

/// One image's part of the weight gradient.
struct GradWeight<'a> {
    rows: Rows,
    /// The image as it is, (C, pixels).
    planes: &'a [f32],
    /// Room for it with its channels last. What is padding is 0 and stays so.
    image: &'a mut [f32],
    grad: &'a [f32],
    indices: &'a [u32],
    starts: &'a [u32],
    windows: &'a [u32],
    /// Room for the gradients of one channel that are not 0, and where their windows begin.
    grads: &'a mut [f32],
    places: &'a mut [u32],
    /// (O, vectors, lanes).
    sums: &'a mut [f32],
}

impl WithSimd for GradWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let GradWeight { rows, planes, image, grad, indices, starts, windows, grads, places, sums } = self;
        simd.vectorize(ChannelsLast { rows, planes, image });
        let num_windows = grads.len();
        let channels = grad.chunks_exact(num_windows).zip(indices.chunks_exact(num_windows));
        for ((grad, indices), sums) in channels.zip(sums.chunks_exact_mut(rows.kernel_elems())) {
            // Gradients of 0 are skipped where that saves more than finding them costs.
            let skips_zeros = starts.len() >= FEW_VECTORS;
            let mut count = 0;
            for (&grad, &index) in grad.iter().zip(indices) {
                grads[count] = grad;
                places[count] = windows[index as usize];
                count += usize::from(grad != 0.0 || !skips_zeros);
            }
            let (sums, _) = S::as_mut_simd_f32s(sums);
            let mut first = 0;
            while first < starts.len() {
                let (starts, sums) = (&starts[first..], &mut sums[first..]);
                let list = (&grads[..count], &places[..count]);
                first += match starts.len() {
                    10.. => gather::<S, 10>(simd, image, list, starts, sums),
                    5.. => gather::<S, 5>(simd, image, list, starts, sums),
                    2.. => gather::<S, 2>(simd, image, list, starts, sums),
                    _ => gather::<S, 1>(simd, image, list, starts, sums),
                };
            }
        }
    }
}

/// Adds to V vectors of a kernel's gradient; gives V.
#[inline(always)]
fn gather<S: Simd, const V: usize>(
    simd: S,
    image: &[f32],
    (grads, places): (&[f32], &[u32]),
    starts: &[u32],
    out: &mut [S::f32s],
) -> usize {
    let starts: &[u32; V] = starts.first_chunk().expect("there are V vectors left");
    let out: &mut [S::f32s; V] = out.first_chunk_mut().expect("there are V vectors left");
    let mut sums = [simd.splat_f32s(0.0); V];
    unroll!(v in 0..V, up to 16 => { sums[v] = out[v]; });
    // So that only the window's position is checked for each gradient.
    let span = starts[V - 1] as usize + S::F32_LANES;
    assert!(starts.iter().all(|&start| start as usize + S::F32_LANES <= span), "vectors are in order");
    for (&grad, &place) in grads.iter().zip(places) {
        let (grad, window) = (simd.splat_f32s(grad), &image[place as usize..][..span]);
        unroll!(v in 0..V, up to 16 => {
            let (x, _) = S::as_simd_f32s(&window[starts[v] as usize..][..S::F32_LANES]);
            sums[v] = simd.mul_add_e_f32s(grad, x[0], sums[v]);
        });
    }
    unroll!(v in 0..V, up to 16 => { out[v] = sums[v]; });
    V
}

/// Lays an image out with its channels last, inside its padding.
struct ChannelsLast<'a> {
    rows: Rows,
    planes: &'a [f32],
    image: &'a mut [f32],
}

impl WithSimd for ChannelsLast<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Layer { in_channels, padding: [top, left], .. } = self.rows.layer;
        let [height, width] = self.rows.strips();
        if in_channels == 1 {
            for (y, row) in self.planes.chunks_exact(width).enumerate() {
                self.image[(y + top) * self.rows.row_elems + left..][..width].copy_from_slice(row);
            }
            return;
        }
        let pixels = height * width;
        for (part, planes) in self.planes.chunks(TILE * pixels).enumerate() {
            let channels = planes.len() / pixels;
            for y in 0..height {
                let to = &mut self.image[(y + top) * self.rows.row_elems + left * in_channels + part * TILE..];
                for x in (0..width).step_by(TILE) {
                    let count = TILE.min(width - x);
                    let mut tile = [[0.0; TILE]; TILE];
                    for (row, plane) in tile.iter_mut().zip(planes.chunks_exact(pixels)) {
                        let from = &plane[y * width + x..][..count];
                        if count == TILE { row.copy_from_slice(from) } else { row[..count].copy_from_slice(from) }
                    }
                    transpose_tile(simd, &mut tile);
                    for (pixel, values) in tile[..count].iter().enumerate() {
                        // Whole vectors are stored fastest. What reaches beyond the last channel is overwritten by the
                        // next pixel's, which there must be, and must not be what other channels left there.
                        let to = &mut to[(x + pixel) * in_channels..];
                        let is_alone = channels == TILE || in_channels <= TILE;
                        if is_alone && x + pixel + TILE < width {
                            to[..TILE].copy_from_slice(values);
                        } else {
                            to[..channels].copy_from_slice(&values[..channels]);
                        }
                    }
                }
            }
        }
    }
}

/// The gradient by the input of images side by side, on the calling thread.
pub(crate) fn grad_input(layer: &Layer, pooled: Pooled<'_>, weight: &[f32], out: &mut [f32]) {
    let rows = Rows::new(layer, isa::lanes());
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * pooled.windows);
    let kernel_elems = rows.kernel_elems();
    scratch::with(layer.out_channels * kernel_elems, |weights: &mut [f32]| {
        weights.fill(0.0);
        pack_rows(&rows, weight, weights);
        scratch::with(rows.num_vectors() + 2 * layer.out_pixels(), |starts: &mut [u32]| {
            let (starts, rest) = starts.split_at_mut(rows.num_vectors());
            let (windows, cells) = rest.split_at_mut(layer.out_pixels());
            rows.write_starts(starts);
            rows.write_windows(windows);
            write_cells(layer, &pooled, cells);
            let (starts, windows, cells) = (&*starts, &*windows, &*cells);
            scratch::with(rows.image_elems(), |image: &mut [f32]| {
                let outputs = pooled.grad.chunks_exact(image_out).zip(pooled.indices.chunks_exact(image_out));
                for (out, (grad, indices)) in out.chunks_exact_mut(image_in).zip(outputs) {
                    image.fill(0.0);
                    let weights = &*weights;
                    isa::dispatch(GradInput {
                        rows,
                        pooled,
                        grad,
                        indices,
                        weights,
                        starts,
                        windows,
                        cells,
                        image,
                        out,
                    });
                }
            });
        });
    });
}

/// Weights (O, C, KH, KW) as vectors of rows with the channels last.
fn pack_rows(rows: &Rows, weight: &[f32], packed: &mut [f32]) {
    let Layer { in_channels, kernel: [kernel_h, kernel_w], .. } = rows.layer;
    let kernels = weight.chunks_exact(rows.layer.num_taps()).zip(packed.chunks_exact_mut(rows.kernel_elems()));
    for (weight, packed) in kernels {
        for (i, row) in packed.chunks_exact_mut(rows.row_vectors * rows.lanes).enumerate() {
            for (j, packed) in row[..kernel_w * in_channels].chunks_exact_mut(in_channels).enumerate() {
                let weights = weight[i * kernel_w + j..].iter().step_by(kernel_h * kernel_w);
                packed.iter_mut().zip(weights).for_each(|(packed, &weight)| *packed = weight);
            }
        }
    }
}

/// Writes which cell of its window each cell of the output plane is.
fn write_cells(layer: &Layer, pooled: &Pooled<'_>, cells: &mut [u32]) {
    let width = layer.output[1];
    for (at, cell) in cells.iter_mut().enumerate() {
        let of = |axis: usize, at: usize| (at + pooled.padding[axis]) % pooled.stride[axis];
        // A cell between windows is chosen by none.
        *cell = (of(0, at / width) * pooled.kernel[1] + of(1, at % width)).min(MOST_CELLS - 1) as u32;
    }
}

/// One image's gradient.
struct GradInput<'a> {
    rows: Rows,
    pooled: Pooled<'a>,
    grad: &'a [f32],
    indices: &'a [u32],
    /// (O, vectors, lanes).
    weights: &'a [f32],
    starts: &'a [u32],
    windows: &'a [u32],
    cells: &'a [u32],
    /// Room for the gradient with its channels last, all 0.
    image: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for GradInput<'_> {
    type Output = ();

    /// Channels that chose the same cell of a window add to the same address, so they are summed in registers first.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let GradInput { rows, pooled, grad, indices, weights, starts, windows, cells, image, out } = self;
        let (num_channels, num_windows) = (rows.layer.out_channels, pooled.windows);
        let num_cells = (pooled.kernel[0] * pooled.kernel[1]).min(MOST_CELLS);
        let (weights, _) = S::as_simd_f32s(weights);
        for window in 0..num_windows {
            for first in (0..num_channels).step_by(MASK_BITS) {
                let (mut masks, mut places) = ([0u64; MOST_CELLS], [0u32; MOST_CELLS]);
                for channel in first..num_channels.min(first + MASK_BITS) {
                    let at = channel * num_windows + window;
                    let index = indices[at] as usize;
                    let cell = cells[index] as usize % MOST_CELLS;
                    masks[cell] |= u64::from(grad[at] != 0.0) << (channel - first);
                    places[cell] = windows[index];
                }
                let weights = &weights[first * starts.len()..];
                let grad = &grad[first * num_windows + window..];
                for (&mask, &place) in masks[..num_cells].iter().zip(&places) {
                    let image = &mut image[place as usize..];
                    let mut at = 0;
                    while mask != 0 && at < starts.len() {
                        at += match starts.len() - at {
                            10.. => scatter::<S, 10>(simd, mask, (grad, num_windows), (weights, at), starts, image),
                            5.. => scatter::<S, 5>(simd, mask, (grad, num_windows), (weights, at), starts, image),
                            2.. => scatter::<S, 2>(simd, mask, (grad, num_windows), (weights, at), starts, image),
                            _ => scatter::<S, 1>(simd, mask, (grad, num_windows), (weights, at), starts, image),
                        };
                    }
                }
            }
        }
        simd.vectorize(ChannelsFirst { rows, image, out });
    }
}

/// Adds V vectors of a window's gradient, from vector `at` on, from the channels of a mask; gives V.
#[inline(always)]
fn scatter<S: Simd, const V: usize>(
    simd: S,
    mut mask: u64,
    (grad, num_windows): (&[f32], usize),
    (weights, at): (&[S::f32s], usize),
    starts: &[u32],
    image: &mut [f32],
) -> usize {
    let num_vectors = starts.len();
    let starts: &[u32; V] = starts[at..].first_chunk().expect("there are V vectors left");
    let mut sums = [simd.splat_f32s(0.0); V];
    while mask != 0 {
        let channel = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        let grad = simd.splat_f32s(grad[channel * num_windows]);
        let weights = &weights[channel * num_vectors + at..][..V];
        unroll!(v in 0..V, up to 16 => { sums[v] = simd.mul_add_e_f32s(grad, weights[v], sums[v]); });
    }
    unroll!(v in 0..V, up to 16 => {
        let (out, _) = S::as_mut_simd_f32s(&mut image[starts[v] as usize..][..S::F32_LANES]);
        out[0] = simd.add_f32s(out[0], sums[v]);
    });
    V
}

/// Lays an image whose channels are last out plane by plane, without its padding.
struct ChannelsFirst<'a> {
    rows: Rows,
    image: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for ChannelsFirst<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Layer { in_channels, padding: [top, left], .. } = self.rows.layer;
        let [height, width] = self.rows.strips();
        let pixels = height * width;
        for (part, planes) in self.out.chunks_mut(TILE * pixels).enumerate() {
            for y in 0..height {
                let from = &self.image[(y + top) * self.rows.row_elems + left * in_channels + part * TILE..];
                for x in (0..width).step_by(TILE) {
                    let count = TILE.min(width - x);
                    let mut tile = [[0.0; TILE]; TILE];
                    for (pixel, values) in tile[..count].iter_mut().enumerate() {
                        // There is room for a whole vector after the last pixel.
                        values.copy_from_slice(&from[(x + pixel) * in_channels..][..TILE]);
                    }
                    transpose_tile(simd, &mut tile);
                    for (plane, row) in planes.chunks_exact_mut(pixels).zip(&tile) {
                        let to = &mut plane[y * width + x..][..count];
                        if count == TILE { to.copy_from_slice(row) } else { to.copy_from_slice(&row[..count]) }
                    }
                }
            }
        }
    }
}
