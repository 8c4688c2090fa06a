//! What the gradient of a batch normalization sums, over tiles of each channel instead of the whole batch. No dispatch makes
//! it: a convolution's gradient does, whose tiles they are ([`ConvGradSums`](crate::ops::nn::fused::ConvGradSums)).

use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::nn::conv2d::Tiles;
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// (grad (N, C, H, W), x, mean (C)) → (C, tiles, 4), of which a tile has the sum of grad, that of grad·(x − mean), the number
/// of its values, and the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileSums {
    pub tiles: Tiles,
}

impl Operation for TileSums {
    fn name(&self) -> &'static str {
        "tile_sums"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, x, mean] = check::arity(self.name(), inputs)?;
        let [images, channels, height, width] = check::rank(self.name(), grad, "(N, C, H, W)")?;
        if x != grad || *mean != TensorType::f32([channels]) {
            let expected = format!("x like {grad} and a mean for each channel");
            return Err(Error::operand(self.name(), expected, format!("{x} and {mean}")));
        }
        Ok(vec![TensorType::f32([channels, self.tiles.count(images, [height, width]), 4])])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let dims = ctx.inputs[0].shape.dims();
        let (images, channels, extent) = (dims[0], dims[1], [dims[2], dims[3]]);
        let (grad, x, mean) = (ctx.float(0), ctx.float(1), ctx.float(2));
        let (num_tiles, plane) = (self.tiles.count(images, extent), extent[0] * extent[1]);
        parallel::for_chunks(ctx.output(0), 4, images * plane / num_tiles, |index, sums| {
            let (channel, tile) = (index / num_tiles, index % num_tiles);
            let mut all = [F::ZERO; 3];
            for (image, pixel) in self.tiles.pixels(images, extent, tile) {
                let at = (image * channels + channel) * plane + pixel;
                all[0] += grad[at];
                all[1] += grad[at] * (x[at] - mean[channel]);
                all[2] += F::ONE;
            }
            sums.copy_from_slice(&[all[0], all[1], all[2], mean[channel]]);
        });
    }

    fn dispatches(&self, _ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Err(Error::operand(self.name(), "to be part of a convolution's gradient", "a dispatch of its own"))
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        // A sum; a difference, a product and a sum.
        4 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let dims = inputs[0].shape.dims();
        (dims[0] * dims[2] * dims[3]).div_ceil(self.tiles.count(dims[0], [dims[2], dims[3]]))
    }
}
