//! The gradient by the weight of a pooled convolution: the sums of some vectors of a kernel stay in registers while the
//! gradients of a channel go by.

use pulp::{Simd, WithSimd};

use super::Pooled;
use super::layout::{ChannelsLast, Rows};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::parallel::LANES;
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
    let num_words = windows.div_ceil(LIVE_BITS);
    scratch::with(layer.num_taps() + 4 * windows + num_words, |table: &mut [u32]| {
        let (slots, table) = table.split_at_mut(layer.num_taps());
        let (live, table) = table.split_at_mut(num_words);
        let (cells, table) = table.split_at_mut(windows);
        let (origins, places) = table.split_at_mut(windows);
        rows.write_slots(slots);
        rows.write_origins(&pooled, cells, origins);
        let num_sums = layer.out_channels * kernel_elems;
        scratch::with(num_sums + rows.image_elems(), |memory: &mut [f32]| {
            let (sums, image) = memory.split_at_mut(num_sums);
            sums.fill(0.0);
            image.fill(0.0);
            let outputs = pooled.grad.chunks_exact(image_out).zip(pooled.indices.chunks_exact(image_out));
            for (planes, (grad, indices)) in input.chunks_exact(image_in).zip(outputs) {
                let (cells, origins) = (&*cells, &*origins);
                let image = Image { rows, pooled, planes, image, grad, indices, cells, origins, live, places, sums };
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
    /// Room for which gradients of a channel are not 0.
    live: &'a mut [u32],
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
        if G == 1 {
            write_live(grad, self.live);
        }
        let (live, mut lists): (_, [(&[f32], &[u32]); G]) = (&*self.live, [(&[], &[]); G]);
        let places = self.places.chunks_exact(windows);
        lists.iter_mut().zip(grad.chunks_exact(windows).zip(places)).for_each(|(list, channel)| *list = channel);
        let (height, passes, row_elems) = (self.rows.layer.kernel[0], self.rows.num_passes, self.rows.row_elems);
        let kernel_elems = self.rows.kernel_elems();
        let sums = &mut self.sums[first * kernel_elems..][..G * kernel_elems];
        for pass in 0..passes {
            for row in (0..height).step_by(R) {
                let image = &self.image[row * row_elems + pass * V * S::F32_LANES..];
                let out = &mut sums[(pass * height + row) * V * S::F32_LANES..];
                let mut sums = Sums::<S, G, R, V>::new(simd, (image, row_elems), lists);
                if G == 1 {
                    sums.add_live(live)
                } else {
                    sums.add_all()
                }
                sums.store((out, kernel_elems));
            }
        }
    }
}

/// Gradients that a word of [`write_live`] has a bit for.
const LIVE_BITS: usize = u32::BITS as usize;

/// Writes which gradients are not 0. Found by vectors and skipped by bits, since a branch on each would be mispredicted
/// every other time.
#[inline(always)]
fn write_live(grad: &[f32], live: &mut [u32]) {
    for (grad, live) in grad.chunks(LIVE_BITS).zip(live) {
        *live = 0;
        for (index, grad) in grad.chunks(LANES).enumerate() {
            let mut bits = 0;
            if let Some(grad) = grad.first_chunk::<LANES>() {
                for (at, &grad) in grad.iter().enumerate() {
                    bits |= u32::from(grad != 0.0) << at;
                }
            } else {
                grad.iter().enumerate().for_each(|(at, &grad)| bits |= u32::from(grad != 0.0) << at);
            }
            *live |= bits << (index * LANES);
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

/// The sums of R rows of V vectors of G channels' kernels.
struct Sums<'a, S: Simd, const G: usize, const R: usize, const V: usize> {
    simd: S,
    /// The image from the elements on that each row of the kernel meets, all of one length, so that a window's place is
    /// checked once and not for each row.
    rows: [&'a [f32]; R],
    grads: [&'a [f32]; G],
    places: [&'a [u32]; G],
    sums: [[[S::f32s; V]; R]; G],
}

impl<'a, S: Simd, const G: usize, const R: usize, const V: usize> Sums<'a, S, G, R, V> {
    /// A row of the kernel begins `row_elems` after the one before it in the image.
    #[inline(always)]
    fn new(simd: S, (image, row_elems): (&'a [f32], usize), lists: [(&'a [f32], &'a [u32]); G]) -> Self {
        let (len, count) = (image.len() - (R - 1) * row_elems, lists[0].0.len());
        let (mut rows, mut grads): ([&[f32]; R], [&[f32]; G]) = ([&[]; R], [&[]; G]);
        let mut places: [&[u32]; G] = [&[]; G];
        unroll!(r in 0..R, up to 8 => { rows[r] = &image[r * row_elems..][..len]; });
        unroll!(g in 0..G, up to 4 => { (grads[g], places[g]) = (&lists[g].0[..count], &lists[g].1[..count]); });
        Sums { simd, rows, grads, places, sums: [[[simd.splat_f32s(0.0); V]; R]; G] }
    }

    /// Adds the windows of all gradients.
    #[inline(always)]
    fn add_all(&mut self) {
        for at in 0..self.grads[0].len() {
            self.add(at);
        }
    }

    /// Adds the windows of those gradients whose bits are set.
    #[inline(always)]
    fn add_live(&mut self, live: &[u32]) {
        for (word, &live) in live.iter().enumerate() {
            let mut live = live;
            while live != 0 {
                self.add(word * LIVE_BITS + live.trailing_zeros() as usize);
                live &= live - 1;
            }
        }
    }

    #[inline(always)]
    fn add(&mut self, at: usize) {
        unroll!(g in 0..G, up to 4 => {
            let (grad, place) = (self.simd.splat_f32s(self.grads[g][at]), self.places[g][at] as usize);
            unroll!(r in 0..R, up to 8 => {
                let (x, _) = S::as_simd_f32s(&self.rows[r][place..][..V * S::F32_LANES]);
                unroll!(v in 0..V, up to 4 => {
                    self.sums[g][r][v] = self.simd.mul_add_e_f32s(grad, x[v], self.sums[g][r][v]);
                });
            });
        });
    }

    /// Adds the sums to those of kernels that lie `stride` elements apart.
    #[inline(always)]
    fn store(self, (out, stride): (&mut [f32], usize)) {
        unroll!(g in 0..G, up to 4 => {
            let (out, _) = S::as_mut_simd_f32s(&mut out[g * stride..][..R * V * S::F32_LANES]);
            unroll!(r in 0..R, up to 8 => {
                unroll!(v in 0..V, up to 4 => { out[r * V + v] = self.simd.add_f32s(out[r * V + v], self.sums[g][r][v]); });
            });
        });
    }
}
