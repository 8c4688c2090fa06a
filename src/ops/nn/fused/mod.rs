//! Ops that stand for several others, with kernels of their own: what is between the parts never leaves a workgroup of a
//! GPU or the registers of a CPU. `graph/fuse/` makes them of nodes that it finds; each file here says what its kernels
//! need.
//!
//! A fused op has no gradient: it is made after autodiff.

mod batch_norm;
mod composition;
mod conv_grad_sum;
mod conv_grad_sums;
mod conv_pool;
mod conv_pool_grads;
mod loss_metrics;
mod mlp_chain;

pub(crate) use batch_norm::{BatchNormActivation, BatchNormActivationBackward, Normalization};
pub(crate) use composition::{Composition, Ends};
pub(crate) use conv_grad_sum::ConvGradSum;
pub(crate) use conv_grad_sums::ConvGradSums;
pub(crate) use conv_pool::ConvPool;
pub(crate) use conv_pool_grads::{ConvPoolGradInput, ConvPoolGradWeight};
pub(crate) use loss_metrics::LossMetrics;
pub(crate) use mlp_chain::{ChainLayer, LayerGradients, MAX_LAYERS, MlpChain};

use std::ops::Range;

use crate::ops::Operation;
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{DispatchContext, Dispatches, Shader};
use crate::tensor::{Tensor, TensorType};
use crate::{Error, Result};

pub(crate) static SHADERS: &[&[&Shader]] =
    &[conv_pool::SHADERS, conv_pool_grads::SHADERS, loss_metrics::SHADERS, mlp_chain::SHADERS];

/// How the parts are computed together.
#[derive(Clone, Debug)]
pub(crate) enum FusedKernel {
    BatchNormActivation(BatchNormActivation),
    BatchNormActivationBackward(BatchNormActivationBackward),
    ConvGradSum(ConvGradSum),
    ConvGradSums(ConvGradSums),
    ConvPool(ConvPool),
    ConvPoolGradInput(ConvPoolGradInput),
    ConvPoolGradWeight(ConvPoolGradWeight),
    LayerGradients(LayerGradients),
    LossMetrics(LossMetrics),
    MlpChain(MlpChain),
}

/// Several ops as one, from the inputs of its composition to the outputs.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    pub kernel: FusedKernel,
    pub parts: Composition,
}

impl Fused {
    /// What lies at the place that an element of an integer output names, computed from the operands: the reference may
    /// choose another of values that are equal up to rounding. `None` for an output that chooses nothing.
    pub fn chosen(&self, output: usize, inputs: &[Tensor], index: usize, choice: u32) -> Option<f64> {
        match &self.kernel {
            FusedKernel::ConvPool(kernel) => kernel.chosen(output, inputs, index, choice),
            _ => None,
        }
    }
}

impl Operation for Fused {
    fn name(&self) -> &'static str {
        match &self.kernel {
            FusedKernel::BatchNormActivation(_) => "batch_norm2d_activation",
            FusedKernel::BatchNormActivationBackward(_) => "batch_norm2d_activation_backward",
            FusedKernel::ConvGradSum(_) => "conv2d_grad_input_add",
            FusedKernel::ConvGradSums(_) => "conv2d_grad_input_sums",
            FusedKernel::ConvPool(_) => "conv2d_pool",
            FusedKernel::ConvPoolGradInput(_) => "conv2d_pool_grad_input",
            FusedKernel::ConvPoolGradWeight(_) => "conv2d_pool_grad_weight",
            FusedKernel::LayerGradients(_) => "layer_gradients",
            FusedKernel::LossMetrics(_) => "loss_metrics",
            FusedKernel::MlpChain(_) => "mlp_chain",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        if inputs != self.parts.input_types() {
            let expected = format!("the operands {:?}", self.parts.input_types());
            return Err(Error::operand(self.name(), expected, format!("{inputs:?}")));
        }
        Ok(self.parts.output_types())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        match &self.kernel {
            FusedKernel::ConvPool(kernel) => kernel.run(ctx),
            _ => self.parts.run(ctx),
        }
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let FusedKernel::ConvPool(_) = &self.kernel else { return None };
        let weights = vec![Along::Whole; inputs.len() - 1];
        BatchForm::new([vec![Along::Rows], weights].concat(), vec![Along::Rows; outputs.len()])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        match &self.kernel {
            FusedKernel::BatchNormActivation(kernel) => kernel.dispatches(ctx),
            FusedKernel::BatchNormActivationBackward(kernel) => kernel.dispatches(ctx),
            FusedKernel::ConvGradSum(kernel) => Ok(kernel.dispatches(ctx)),
            FusedKernel::ConvGradSums(kernel) => Ok(kernel.dispatches(ctx)),
            FusedKernel::ConvPool(kernel) => kernel.dispatches(ctx),
            FusedKernel::ConvPoolGradInput(kernel) => kernel.dispatches(ctx),
            FusedKernel::ConvPoolGradWeight(kernel) => kernel.dispatches(ctx),
            FusedKernel::LayerGradients(kernel) => kernel.dispatches(ctx),
            FusedKernel::LossMetrics(kernel) => kernel.dispatches(ctx),
            FusedKernel::MlpChain(kernel) => kernel.dispatches(ctx),
        }
    }

    fn updates(&self) -> Vec<usize> {
        self.parts.updates()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        match &self.kernel {
            FusedKernel::MlpChain(kernel) => Vec::from([kernel.pack()]),
            _ => Vec::new(),
        }
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        self.parts.flops()
    }

    fn num_terms(&self, _inputs: &[TensorType]) -> usize {
        let terms = self.parts.ops().map(|(op, inputs)| op.num_terms(&inputs));
        match &self.kernel {
            // Sums of sums.
            FusedKernel::ConvGradSums(_) => terms.product(),
            _ => terms.max().unwrap_or(1),
        }
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        let size = self.parts.term_size(largest);
        match &self.kernel {
            FusedKernel::ConvGradSums(kernel) => kernel.term_size(size, largest),
            _ => size,
        }
    }

    fn ulps(&self) -> f64 {
        // Errors of one part are operands of the next.
        self.parts.ops().map(|(op, _)| op.ulps()).sum()
    }

    fn describe(&self) -> String {
        // Each kind of op once: some stand for the same on every slice of a batch.
        let mut names: Vec<&str> = Vec::new();
        for (op, _) in self.parts.ops() {
            if !op.is_alias() && !names.contains(&op.name()) {
                names.push(op.name());
            }
        }
        names.join(", ")
    }
}
