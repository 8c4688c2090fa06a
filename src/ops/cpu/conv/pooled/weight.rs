//! The gradient by the weight of a pooled convolution: the sums of some vectors of a kernel stay in registers while the
//! gradients of a channel go by.

use pulp::{Simd, WithSimd};

use super::Pooled;
use super::layout::{ChannelsLast, Rows};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Rows of a kernel that a pass takes at a time, where the kernel has as many: else they are taken one by one.
fn rows_of_pass(layer: &Layer) -> usize {
    match layer.kernel[0] {
        rows @ (3 | 5 | 7) => rows,
        _ => 1,
    }
}

/// Rows in vectors of as many lanes as a short row needs; long ones in as few passes, and as little beyond their end, as
/// there are registers for.
fn rows(layer: &Layer) -> Rows {
    let narrow = isa::narrow_lanes();
    if Rows::vectors(layer, narrow) == 1 {
        return Rows::new(layer, narrow, 1);
    }
    let (lanes, height) = (isa::lanes(), rows_of_pass(layer));
    let (vectors, most) = (Rows::vectors(layer, lanes), if isa::has_32_registers() { 24 } else { 12 });
    // A pass costs a product for each vector, and to find each row and the next gradient.
    let cost = |width: usize| vectors.div_ceil(width) * (height * (2 * width + 1) + 4);
    let widths = (1..=4usize).rev().filter(|width| *width == 1 || height * width <= most);
    Rows::new(layer, lanes, widths.min_by_key(|&width| cost(width)).unwrap_or(1))
}

/// Adds the weight gradient of images side by side to `total` (O, C, KH, KW), on the calling thread.
pub(crate) fn grad_weight(layer: &Layer, pooled: Pooled<'_>, input: &[f32], total: &mut [f32]) {
    let rows = rows(layer);
    let windows = pooled.windows();
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * windows);
    let kernel_elems = rows.kernel_elems();
    scratch::with(layer.num_taps() + 4 * windows, |table: &mut [u32]| {
        let (slots, table) = table.split_at_mut(layer.num_taps());
        let (cells, table) = table.split_at_mut(windows);
        let (origins, places) = table.split_at_mut(windows);
        rows.write_slots(slots);
        rows.write_origins(&pooled, cells, origins);
        let num_sums = layer.out_channels * kernel_elems;
        scratch::with(num_sums + rows.image_elems() + windows, |memory: &mut [f32]| {
            let (sums, memory) = memory.split_at_mut(num_sums);
            let (image, grads) = memory.split_at_mut(rows.image_elems());
            sums.fill(0.0);
            image.fill(0.0);
            let outputs = pooled.grad.chunks_exact(image_out).zip(pooled.indices.chunks_exact(image_out));
            for (planes, (grad, indices)) in input.chunks_exact(image_in).zip(outputs) {
                let (cells, origins) = (&*cells, &*origins);
                let image = Image { rows, pooled, planes, image, grad, indices, cells, origins, grads, places, sums };
                if rows.lanes == isa::lanes() { isa::dispatch(image) } else { isa::dispatch_narrow(image) }
            }
            for (weights, sums) in total.chunks_exact_mut(slots.len()).zip(sums.chunks_exact(kernel_elems)) {
                weights.iter_mut().zip(&*slots).for_each(|(weight, &slot)| *weight += sums[slot as usize]);
            }
        });
    });
}

/// One image's part of the gradient.
struct Image<'a> {
    rows: Rows,
    pooled: Pooled<'a>,
    /// The image as it is, (C, pixels).
    planes: &'a [f32],
    /// Room for it with its channels last. What is padding is 0 and stays so.
    image: &'a mut [f32],
    grad: &'a [f32],
    indices: &'a [u32],
    /// Of each window, its first cell and where that begins in the image.
    cells: &'a [u32],
    origins: &'a [u32],
    /// Room for the gradients of a channel that are not 0.
    grads: &'a mut [f32],
    /// Room for where the windows of two channels begin.
    places: &'a mut [u32],
    /// (O, vectors, lanes).
    sums: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Image { rows, planes, .. } = self;
        simd.vectorize(ChannelsLast { rows, planes, image: &mut *self.image });
        let many = S::REGISTER_COUNT >= 32;
        match (rows_of_pass(&rows.layer), rows.width) {
            (7, 3) if many => simd.vectorize(Passes::<1, 7, 3>(self)),
            (7, 2) if many => simd.vectorize(Passes::<1, 7, 2>(self)),
            (7, _) => simd.vectorize(Passes::<2, 7, 1>(self)),
            (5, 4) if many => simd.vectorize(Passes::<1, 5, 4>(self)),
            (5, 3) if many => simd.vectorize(Passes::<1, 5, 3>(self)),
            (5, 2) => simd.vectorize(Passes::<1, 5, 2>(self)),
            (5, _) => simd.vectorize(Passes::<2, 5, 1>(self)),
            (3, 4) => simd.vectorize(Passes::<1, 3, 4>(self)),
            (3, 3) => simd.vectorize(Passes::<1, 3, 3>(self)),
            (3, 2) => simd.vectorize(Passes::<1, 3, 2>(self)),
            (3, _) => simd.vectorize(Passes::<2, 3, 1>(self)),
            (_, 4) => simd.vectorize(Passes::<1, 1, 4>(self)),
            (_, 3) => simd.vectorize(Passes::<1, 1, 3>(self)),
            (_, 2) => simd.vectorize(Passes::<1, 1, 2>(self)),
            _ => simd.vectorize(Passes::<2, 1, 1>(self)),
        }
    }
}

/// Passes of R rows and V vectors, over G channels at a time: where a pass is short, two keep the vector units busy.
struct Passes<'a, const G: usize, const R: usize, const V: usize>(Image<'a>);

impl<const G: usize, const R: usize, const V: usize> WithSimd for Passes<'_, G, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Passes(mut image) = self;
        assert!(V == image.rows.width && S::F32_LANES == image.rows.lanes, "the layout is that of the passes");
        let channels = image.rows.layer.out_channels;
        for first in (0..channels).step_by(G) {
            if first + G <= channels {
                image.channels::<S, G, R, V>(simd, first)
            } else {
                image.channels::<S, 1, R, V>(simd, first)
            }
        }
    }
}

impl Image<'_> {
    /// The sums of G channels from `first` on.
    #[inline(always)]
    fn channels<S: Simd, const G: usize, const R: usize, const V: usize>(&mut self, simd: S, first: usize) {
        let windows = self.cells.len();
        for (channel, places) in self.places.chunks_exact_mut(windows).take(G).enumerate() {
            let indices = &self.indices[(first + channel) * windows..][..windows];
            write_places(&self.rows, &self.pooled, (self.cells, self.origins), indices, places);
        }
        let grad = &self.grad[first * windows..][..G * windows];
        let mut lists: [(&[f32], &[u32]); G] = [(&[], &[]); G];
        if G == 1 {
            // A gradient of 0 is skipped without a branch that is mispredicted every other time.
            let mut count = 0;
            for (at, &grad) in grad.iter().enumerate() {
                (self.grads[count], self.places[count]) = (grad, self.places[at]);
                count += usize::from(grad != 0.0);
            }
            lists[0] = (&self.grads[..count], &self.places[..count]);
        } else {
            let places = self.places.chunks_exact(windows);
            lists.iter_mut().zip(grad.chunks_exact(windows).zip(places)).for_each(|(list, channel)| *list = channel);
        }
        let (height, passes) = (self.rows.layer.kernel[0], self.rows.num_passes);
        let kernel_elems = self.rows.kernel_elems();
        let sums = &mut self.sums[first * kernel_elems..][..G * kernel_elems];
        for pass in 0..passes {
            for row in (0..height).step_by(R) {
                let start = row * self.rows.row_elems + pass * V * S::F32_LANES;
                let at = (pass * height + row) * V * S::F32_LANES;
                add::<S, G, R, V>(
                    simd,
                    (&self.image[start..], self.rows.row_elems),
                    lists,
                    (&mut sums[at..], kernel_elems),
                );
            }
        }
    }
}

/// Writes where the window of each gradient begins in the image.
#[inline(always)]
fn write_places(
    rows: &Rows,
    pooled: &Pooled<'_>,
    (cells, origins): (&[u32], &[u32]),
    indices: &[u32],
    places: &mut [u32],
) {
    let (width, channels) = (rows.layer.output[1] as u32, rows.layer.in_channels as u32);
    // From the end of a row of cells to the next one's start, in the image.
    let skip = rows.row_elems as u32 - width * channels;
    let windows = cells.iter().zip(origins).zip(indices);
    for (place, ((&cell, &origin), &index)) in places.iter_mut().zip(windows) {
        *place = origin.wrapping_add(index.wrapping_sub(cell).wrapping_mul(channels));
    }
    // Rows below the window's first one are counted: a division for each gradient would take far longer.
    for row in 1..pooled.kernel[0] as u32 {
        for (place, (&cell, &index)) in places.iter_mut().zip(cells.iter().zip(indices)) {
            *place = place.wrapping_add(if index.wrapping_sub(cell) >= row * width { skip } else { 0 });
        }
    }
}

/// Adds to R rows of V vectors of G kernels' gradients, which lie `stride` elements apart; a row of the kernel begins
/// `row_elems` after the one before it in the image.
#[inline(always)]
fn add<S: Simd, const G: usize, const R: usize, const V: usize>(
    simd: S,
    (image, row_elems): (&[f32], usize),
    lists: [(&[f32], &[u32]); G],
    (out, stride): (&mut [f32], usize),
) {
    // Rows of one length, so that a window's place is checked once and not for each row.
    let len = image.len() - (R - 1) * row_elems;
    let mut rows: [&[f32]; R] = [&[]; R];
    unroll!(r in 0..R, up to 8 => { rows[r] = &image[r * row_elems..][..len]; });
    let mut sums = [[[simd.splat_f32s(0.0); V]; R]; G];
    let count = lists[0].0.len();
    let mut grads: [&[f32]; G] = [&[]; G];
    let mut places: [&[u32]; G] = [&[]; G];
    unroll!(g in 0..G, up to 4 => { (grads[g], places[g]) = (&lists[g].0[..count], &lists[g].1[..count]); });
    for at in 0..count {
        unroll!(g in 0..G, up to 4 => {
            let (grad, place) = (simd.splat_f32s(grads[g][at]), places[g][at] as usize);
            unroll!(r in 0..R, up to 8 => {
                let (x, _) = S::as_simd_f32s(&rows[r][place..][..V * S::F32_LANES]);
                unroll!(v in 0..V, up to 4 => { sums[g][r][v] = simd.mul_add_e_f32s(grad, x[v], sums[g][r][v]); });
            });
        });
    }
    unroll!(g in 0..G, up to 4 => {
        let (out, _) = S::as_mut_simd_f32s(&mut out[g * stride..][..R * V * S::F32_LANES]);
        unroll!(r in 0..R, up to 8 => {
            unroll!(v in 0..V, up to 4 => { out[r * V + v] = simd.add_f32s(out[r * V + v], sums[g][r][v]); });
        });
    });
}
