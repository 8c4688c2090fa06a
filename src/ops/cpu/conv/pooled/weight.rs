//! The gradient by the weight of a pooled convolution: the sums of some vectors of a kernel stay in registers while the
//! gradients of a channel go by, those of a few images at a time.

use pulp::{Simd, WithSimd};

use super::Pooled;
use super::live::Live;
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::conv::rows::kernels;
use crate::ops::cpu::conv::rows::layout::{ChannelsLast, Rows};
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

/// Elements of images with their channels last that are taken at a time: half a first-level cache.
const MOST_IMAGE_ELEMS: usize = 4096;

/// Adds the weight gradient of images side by side to `total` (O, C, KH, KW), on the calling thread.
pub(crate) fn grad_weight(layer: &Layer, pooled: Pooled<'_>, input: &[f32], total: &mut [f32]) {
    let rows = rows(layer);
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * pooled.windows());
    let image_elems = rows.image_elems();
    let images = (MOST_IMAGE_ELEMS / image_elems).clamp(1, input.len().div_ceil(image_in));
    let (num_sums, most_live) = (kernels::num_elems(&rows), Live::elems(images * pooled.windows()));
    scratch::with(most_live, |places: &mut [u32]| {
        scratch::with(num_sums + most_live + images * image_elems, |memory: &mut [f32]| {
            let (sums, memory) = memory.split_at_mut(num_sums);
            let (grads, laid_out) = memory.split_at_mut(most_live);
            sums.fill(0.0);
            if layer.padded() != layer.input {
                laid_out.fill(0.0);
            }
            let outputs = pooled.grad.chunks(images * image_out).zip(pooled.indices.chunks(images * image_out));
            for (input, (grad, indices)) in input.chunks(images * image_in).zip(outputs) {
                for (planes, image) in input.chunks_exact(image_in).zip(laid_out.chunks_exact_mut(image_elems)) {
                    isa::dispatch(ChannelsLast { rows, planes, image });
                }
                let (pooled, live) = (Pooled { grad, indices, ..pooled }, Live { grads, places });
                let images = Images { rows, images: laid_out, pooled, live, sums };
                if rows.lanes == isa::lanes() { isa::dispatch(images) } else { isa::dispatch_narrow(images) }
            }
            kernels::add_vectors(&rows, sums, total);
        });
    });
}

/// A few images' part of the gradient.
struct Images<'a> {
    rows: Rows,
    /// With their channels last, inside their padding.
    images: &'a [f32],
    pooled: Pooled<'a>,
    live: Live<'a>,
    /// (O, vectors, lanes).
    sums: &'a mut [f32],
}

impl WithSimd for Images<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let many = S::REGISTER_COUNT >= 32;
        match (rows_of_pass(&self.rows.layer), self.rows.width) {
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

/// Passes of R rows and V vectors, over G gradients at a time with sums of their own: where a pass is short, two keep
/// the vector units busy.
struct Passes<'a, const G: usize, const R: usize, const V: usize>(Images<'a>);

impl<const G: usize, const R: usize, const V: usize> WithSimd for Passes<'_, G, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Passes(Images { rows, images, pooled, mut live, sums }) = self;
        assert!(V == rows.width && S::F32_LANES == rows.lanes, "the layout is that of the passes");
        let (height, pass_elems) = (rows.layer.kernel[0], V * S::F32_LANES);
        // There may be more room than the kernels take.
        let kernels = sums.chunks_exact_mut(rows.kernel_elems()).take(rows.layer.out_channels);
        for (channel, sums) in kernels.enumerate() {
            let count = live.list(&pooled, &rows, channel, G);
            let (grads, places) = (&live.grads[..count], &live.places[..count]);
            let mut sums = sums.chunks_exact_mut(R * pass_elems);
            for pass in 0..rows.num_passes {
                for row in (0..height).step_by(R) {
                    let images = &images[row * rows.row_elems + pass * pass_elems..];
                    let mut part = Sums::<S, G, R, V>::new(simd, images, rows.row_elems);
                    part.add(grads, places);
                    part.store(sums.next().expect("a part for each pass and each of its rows"));
                }
            }
        }
    }
}

/// The sums of R rows of V vectors, over G gradients at a time.
struct Sums<'a, S: Simd, const G: usize, const R: usize, const V: usize> {
    simd: S,
    /// The images from the elements on that each row of the kernel meets, all of one length, so that a window's place is
    /// checked once and not for each row.
    rows: [&'a [f32]; R],
    sums: [[[S::f32s; V]; R]; G],
}

impl<'a, S: Simd, const G: usize, const R: usize, const V: usize> Sums<'a, S, G, R, V> {
    /// A row of the kernel begins `row_elems` after the one before it in the images.
    #[inline(always)]
    fn new(simd: S, images: &'a [f32], row_elems: usize) -> Self {
        let (len, mut rows): (_, [&[f32]; R]) = (images.len() - (R - 1) * row_elems, [&[]; R]);
        unroll!(r in 0..R, up to 8 => { rows[r] = &images[r * row_elems..][..len]; });
        Sums { simd, rows, sums: [[[simd.splat_f32s(0.0); V]; R]; G] }
    }

    /// Adds the windows of all gradients.
    #[inline(always)]
    fn add(&mut self, grads: &[f32], places: &[u32]) {
        for (grads, places) in grads.as_chunks::<G>().0.iter().zip(places.as_chunks::<G>().0) {
            unroll!(g in 0..G, up to 4 => {
                let (grad, place) = (self.simd.splat_f32s(grads[g]), places[g] as usize);
                unroll!(r in 0..R, up to 8 => {
                    let (x, _) = S::as_simd_f32s(&self.rows[r][place..][..V * S::F32_LANES]);
                    unroll!(v in 0..V, up to 4 => {
                        self.sums[g][r][v] = self.simd.mul_add_e_f32s(grad, x[v], self.sums[g][r][v]);
                    });
                });
            });
        }
    }

    /// Adds the sums to those of some rows of a kernel.
    #[inline(always)]
    fn store(self, out: &mut [f32]) {
        let (out, _) = S::as_mut_simd_f32s(&mut out[..R * V * S::F32_LANES]);
        unroll!(r in 0..R, up to 8 => {
            unroll!(v in 0..V, up to 4 => {
                let mut sum = out[r * V + v];
                unroll!(g in 0..G, up to 4 => { sum = self.simd.add_f32s(sum, self.sums[g][r][v]); });
                out[r * V + v] = sum;
            });
        });
    }
}
