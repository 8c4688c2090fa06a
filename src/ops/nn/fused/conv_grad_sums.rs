//! A convolution's gradient by the input, the gradient of an activation before it, and what the gradient of the batch
//! normalization before that sums: the first is never stored by itself, and no pass over the second makes the sums.

use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::nn::activation::Activation;
use crate::ops::nn::conv2d::{Added, Conv2dGradInput};

/// Inputs: those of the convolution's gradient, what is added to it, where something is, what the activation gave, what was
/// normalized, and its mean. Outputs: the gradient before the activation, and the sums over tiles
/// ([`TileSums`](crate::ops::nn::batch_norm2d::TileSums)). Without an activation what was normalized stands for what it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvGradSums {
    pub op: Conv2dGradInput,
    pub added: Option<Added>,
    pub activation: Activation,
}

impl ConvGradSums {
    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Dispatches {
        self.op.dispatches_with_sums(self.added, self.activation, ctx)
    }

    /// The size of a term of the sums, given that of the gradient's own: products with distances from the mean.
    pub fn term_size(&self, of_gradient: f64, largest: &[f64]) -> f64 {
        let distance = largest[largest.len() - 2] + largest[largest.len() - 1];
        of_gradient * distance.max(1.0)
    }
}
