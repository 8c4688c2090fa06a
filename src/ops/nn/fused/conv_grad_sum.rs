//! A convolution's gradient by the input, and another gradient added to it: the first is never stored by itself.

use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::nn::conv2d::{Added, Conv2dGradInput};

/// Inputs: those of the convolution's gradient, and what is added. Output: the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvGradSum {
    pub op: Conv2dGradInput,
    pub added: Added,
}

impl ConvGradSum {
    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Dispatches {
        self.op.dispatches_with(Some(self.added), ctx)
    }
}
