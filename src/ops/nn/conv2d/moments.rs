//! A convolution that hands on the moments of its result: of each channel in each tile that a workgroup of a GPU computes, so
//! that the batch normalization after it ([`BatchNormTrain`](crate::ops::nn::batch_norm2d::BatchNormTrain)) does not go over
//! the result for them. `graph/fuse/gpu` makes it; the CPU's kernel is the reference.

use super::choice::Tiled;
use super::tiles::Tiles;
use super::{Conv2d, Geometry, cpu};
use crate::Result;
use crate::ops::Operation;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{DispatchContext, Dispatches, GpuTraits};
use crate::tensor::{Shape, TensorType};

/// (x, weight, and a bias where there is one) → (y, the moments of each tile: (C, tiles, 4), of which a tile has its mean,
/// the squared distances from that, the number of its values, and 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conv2dMoments {
    pub conv: Conv2d,
    pub tiles: Tiles,
}

impl Conv2dMoments {
    /// The op in place of a convolution, where this kind of GPU has a kernel for it, and how many tiles there are.
    pub fn new(conv: Conv2d, input: &Shape, weight: &Shape, has_bias: bool, gpu: GpuTraits) -> Option<(Self, usize)> {
        let geometry = conv.geometry(input, weight).ok()?;
        let tiles = Tiled::of(&geometry, has_bias, gpu)?.tiles();
        Some((Conv2dMoments { conv, tiles }, tiles.count(geometry.batch, geometry.output)))
    }

    fn geometry(&self, inputs: &[TensorType]) -> Geometry {
        self.conv.checked(&inputs[0].shape, &inputs[1].shape)
    }
}

impl Operation for Conv2dMoments {
    fn name(&self) -> &'static str {
        "conv2d_moments"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let mut types = self.conv.infer(inputs)?;
        let geometry = self.geometry(inputs);
        types.push(TensorType::f32([geometry.out_channels, self.tiles.count(geometry.batch, geometry.output), 4]));
        Ok(types)
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry = self.geometry(ctx.inputs);
        let bias = (ctx.inputs.len() == 3).then(|| ctx.float(2));
        let y = ctx.output(0);
        cpu::forward(&geometry, ctx.float(0), ctx.float(1), bias, y);
        let num_tiles = self.tiles.count(geometry.batch, geometry.output);
        let (channels, plane) = (geometry.out_channels, geometry.out_pixels());
        parallel::for_chunks(ctx.output(1), 4, 2 * geometry.batch * plane / num_tiles, |index, moments| {
            let (channel, tile) = (index / num_tiles, index % num_tiles);
            let values = || {
                let pixels = self.tiles.pixels(geometry.batch, geometry.output, tile);
                pixels.map(|(image, pixel)| y[(image * channels + channel) * plane + pixel])
            };
            let count = F::from_f64(values().count() as f64);
            let mean = values().fold(F::ZERO, |sum, value| sum + value) / count;
            let squares = values().fold(F::ZERO, |sum, value| sum + (value - mean) * (value - mean));
            moments.copy_from_slice(&[mean, squares, count, F::ZERO]);
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (geometry, has_bias) = (self.geometry(ctx.inputs), ctx.inputs.len() == 3);
        let tiled = Tiled::of(&geometry, has_bias, ctx.gpu).expect("made for a GPU of this kind");
        Ok(tiled.dispatches(&geometry))
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        // A sum; a difference, a square and a sum.
        self.conv.flops(inputs, &outputs[..1]) + 4 * outputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        // Each of a tile's values is a sum itself.
        let geometry = self.geometry(inputs);
        let of_tile =
            (geometry.batch * geometry.out_pixels()).div_ceil(self.tiles.count(geometry.batch, geometry.output));
        self.conv.num_terms(inputs) * of_tile
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        // Those of the squares of such sums are squares.
        let of_conv = self.conv.term_size(largest);
        of_conv.max(of_conv * of_conv)
    }

    fn ulps(&self) -> f64 {
        self.conv.ulps()
    }

    fn describe(&self) -> String {
        self.conv.describe()
    }
}
