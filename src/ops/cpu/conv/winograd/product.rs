//! The products of all tiles: for each of the points a matrix product of its own, over channels in the forward pass and
//! over tiles for the weight gradient. Matrices lie in blocks of as many channels as a vector has lanes.

use pulp::{Simd, WithSimd};

use super::points::Points;
use crate::ops::cpu::unroll::unroll;

/// Tiles whose sums stay in registers: as many as hide the latency of a product.
const MANY: usize = 16;
/// Tiles at a time at the end.
const FEW: usize = 4;

/// `products[p] = inputs[p] · weights[p]`, (tiles, C) · (C, O), for a number of tiles.
pub(super) struct Forward<'a> {
    pub num_tiles: usize,
    /// Of tiles and blocks of C. There is room for tiles up to a multiple of [`FEW`].
    pub inputs: (Points, &'a [f32]),
    /// Of C and all blocks of O.
    pub weights: (Points, &'a [f32]),
    /// The blocks of O that are computed.
    pub blocks: std::ops::Range<usize>,
    /// Of tiles and those blocks of O.
    pub products: (Points, &'a mut [f32]),
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let [tiles_len, block_len] = [self.inputs.0.rows, self.weights.0.rows].map(|rows| rows * lanes);
        let inputs = self.inputs.1.chunks_exact(self.inputs.0.stride() * lanes);
        let weights = self.weights.1.chunks_exact(self.weights.0.stride() * lanes);
        let products = self.products.1.chunks_exact_mut(self.products.0.stride() * lanes);
        for ((inputs, weights), products) in inputs.zip(weights).zip(products) {
            let weights = weights[self.blocks.start * block_len..self.blocks.end * block_len].chunks_exact(block_len);
            for (weights, products) in weights.zip(products.chunks_exact_mut(tiles_len)) {
                Block { inputs, block_len: tiles_len, weights, products }.all_tiles(simd, self.num_tiles);
            }
        }
    }
}

/// The products of one block of output channels at one point.
struct Block<'a> {
    /// (blocks of C, capacity, lanes).
    inputs: &'a [f32],
    block_len: usize,
    /// (C, lanes).
    weights: &'a [f32],
    /// (capacity, lanes).
    products: &'a mut [f32],
}

impl Block<'_> {
    #[inline(always)]
    fn all_tiles<S: Simd>(mut self, simd: S, num_tiles: usize) {
        let (many, few) = if S::REGISTER_COUNT >= 32 { (MANY, FEW) } else { (MANY / 2, FEW) };
        let mut first = 0;
        while first + many <= num_tiles {
            if S::REGISTER_COUNT >= 32 {
                self.tiles::<S, MANY>(simd, first);
            } else {
                self.tiles::<S, { MANY / 2 }>(simd, first);
            }
            first += many;
        }
        while first < num_tiles {
            self.tiles::<S, FEW>(simd, first);
            first += few;
        }
    }

    /// R tiles from `first` on.
    #[inline(always)]
    fn tiles<S: Simd, const R: usize>(&mut self, simd: S, first: usize) {
        let lanes = S::F32_LANES;
        let (weights, _) = S::as_simd_f32s(self.weights);
        let mut sums = [simd.splat_f32s(0.0); R];
        for (weights, inputs) in weights.chunks(lanes).zip(self.inputs.chunks_exact(self.block_len)) {
            let inputs = &inputs[first * lanes..][..R * lanes];
            for (channel, &weight) in weights.iter().enumerate() {
                let inputs = &inputs[channel..][..(R - 1) * lanes + 1];
                unroll!(r in 0..R, up to 16 => {
                    sums[r] = simd.mul_add_e_f32s(simd.splat_f32s(inputs[r * lanes]), weight, sums[r]);
                });
            }
        }
        let (products, _) = S::as_mut_simd_f32s(self.products);
        let products = &mut products[first..first + R];
        unroll!(r in 0..R, up to 16 => { products[r] = sums[r]; });
    }
}

/// `sums[p] += inputs[p]ᵀ · gradients[p]`, (C, tiles) · (tiles, O), for a number of tiles.
pub(super) struct Weight<'a> {
    pub num_tiles: usize,
    /// Of tiles and blocks of C.
    pub inputs: (Points, &'a [f32]),
    /// Of tiles and blocks of O.
    pub gradients: (Points, &'a [f32]),
    /// Of C up to whole blocks and blocks of O.
    pub sums: (Points, &'a mut [f32]),
}

impl WithSimd for Weight<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 16>(simd),
            8 => self.run::<S, 8>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 1>(simd),
        }
    }
}

impl Weight<'_> {
    /// R is the number of lanes.
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let [tiles_len, sums_len] = [self.inputs.0.rows, self.sums.0.rows].map(|rows| rows * R);
        let inputs = self.inputs.1.chunks_exact(self.inputs.0.stride() * R);
        let gradients = self.gradients.1.chunks_exact(self.gradients.0.stride() * R);
        let sums = self.sums.1.chunks_exact_mut(self.sums.0.stride() * R);
        for ((inputs, gradients), sums) in inputs.zip(gradients).zip(sums) {
            for (gradients, sums) in gradients.chunks_exact(tiles_len).zip(sums.chunks_exact_mut(sums_len)) {
                let gradients = &gradients[..self.num_tiles * R];
                for (inputs, sums) in inputs.chunks_exact(tiles_len).zip(sums.chunks_exact_mut(R * R)) {
                    add_products::<S, R>(simd, inputs, gradients, sums);
                }
            }
        }
    }
}

/// `sums += inputsᵀ · gradients`, (R, tiles) · (tiles, lanes).
#[inline(always)]
fn add_products<S: Simd, const R: usize>(simd: S, inputs: &[f32], gradients: &[f32], sums: &mut [f32]) {
    let ((gradients, _), (sums_out, _)) = (S::as_simd_f32s(gradients), S::as_mut_simd_f32s(sums));
    let sums_out = &mut sums_out[..R];
    let mut sums = [simd.splat_f32s(0.0); R];
    unroll!(r in 0..R, up to 16 => { sums[r] = sums_out[r]; });
    for (inputs, &gradient) in inputs.as_chunks::<R>().0.iter().zip(gradients) {
        unroll!(r in 0..R, up to 16 => {
            sums[r] = simd.mul_add_e_f32s(simd.splat_f32s(inputs[r]), gradient, sums[r]);
        });
    }
    unroll!(r in 0..R, up to 16 => { sums_out[r] = sums[r]; });
}
