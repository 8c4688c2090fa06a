//! Batch normalization with the activation after it, and a residual added in between; its gradient with the activation's.
//! What is in between is never stored.

use crate::Result;
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::nn::activation::Activation;
use crate::ops::nn::batch_norm2d::{
    BatchNormBackward, BatchNormEval, BatchNormTrain, Finish, backward_dispatches, eval_dispatches, train_dispatches,
};

/// Whose statistics normalize.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Normalization {
    Train(BatchNormTrain),
    Eval(BatchNormEval),
}

/// Inputs: those of the normalization, and the residual last, where there is one. Outputs: the activation's, and those of
/// the normalization after its first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNormActivation {
    pub normalization: Normalization,
    pub has_residual: bool,
    pub activation: Activation,
}

impl BatchNormActivation {
    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let residual = self.has_residual.then(|| ctx.inputs.len() - 1);
        let finish = Finish { residual, activation: self.activation };
        Ok(match &self.normalization {
            Normalization::Train(op) => train_dispatches(op, finish, ctx),
            Normalization::Eval(op) => eval_dispatches(op, finish, ctx),
        })
    }
}

/// Inputs: the gradient of what the activation gave, then those of the normalization's gradient after its first, then
/// what the activation gave. Outputs: the normalization's gradients, then, where others read it, the activation's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNormActivationBackward {
    pub op: BatchNormBackward,
    pub activation: Activation,
}

impl BatchNormActivationBackward {
    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(backward_dispatches(&self.op, self.activation, ctx))
    }
}
