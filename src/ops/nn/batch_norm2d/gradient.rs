//! The gradient of batch normalization, in training and evaluation.

use super::{Planes, cpu, gpu};
use crate::ops::batch::{Along, BatchForm, Part, PartInput};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::nn::activation::Activation;
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// Whose statistics normalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistics {
    /// The batch's: the gradient goes through them, and the spread is 1/√(var + eps).
    Batch,
    /// The running ones, which do not depend on x: the spread is the variance.
    Running,
}

/// (grad_y, x, weight, mean, spread) → (grad_x, grad_weight, grad_bias).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNormBackward {
    pub statistics: Statistics,
    pub eps: f64,
    /// Whether there is a last operand, sums over tiles that a GPU takes instead of going over grad_y and x for them:
    /// (C, tiles, 4), as [`TileSums`](super::TileSums) has them.
    pub takes_sums: bool,
}

impl BatchNormBackward {
    /// The operand that has the sums.
    pub(super) fn sums(&self) -> Option<usize> {
        self.takes_sums.then_some(5)
    }

    /// This op with that operand, if so many tiles are not too many.
    pub fn with_sums(self, num_tiles: usize) -> Option<BatchNormBackward> {
        (num_tiles <= gpu::MAX_MERGED_SLICES).then_some(BatchNormBackward { takes_sums: true, ..self })
    }
}

impl Operation for BatchNormBackward {
    fn name(&self) -> &'static str {
        match self.statistics {
            Statistics::Batch => "batch_norm2d_backward",
            Statistics::Running => "batch_norm2d_eval_backward",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [_, x, weight, ..] = check::arity::<5>(self.name(), &inputs[..inputs.len().min(5)])?;
        let num_operands = 5 + usize::from(self.takes_sums);
        if inputs.len() != num_operands {
            return Err(Error::operand(self.name(), format!("{num_operands} operands"), inputs.len().to_string()));
        }
        Ok(vec![x.clone(), weight.clone(), weight.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        cpu::backward(self, ctx);
    }

    fn batch_form(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        let mut along = vec![Along::Whole; inputs.len()];
        along[..2].fill(Along::Rows);
        match self.statistics {
            // The gradient by an image needs sums over all.
            Statistics::Batch => None,
            Statistics::Running => BatchForm::new(along, [Along::Rows, Along::Sum, Along::Sum]),
        }
    }

    /// The sums over the batch, then the gradient by x, image by image.
    fn parts(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Vec<Part> {
        let sums = [0, 1, 3, 4].map(PartInput::Input).to_vec();
        let mut by_x = (0..5).map(PartInput::Input).collect::<Vec<_>>();
        by_x.extend([PartInput::Output(1), PartInput::Output(2)]);
        let mut along = [Along::Whole; 7];
        along[..2].fill(Along::Rows);
        match self.statistics {
            Statistics::Running => Vec::new(),
            Statistics::Batch => vec![
                Part { inputs: sums, outputs: vec![1, 2], updates: Vec::new(), form: None },
                Part {
                    inputs: by_x,
                    outputs: vec![0],
                    updates: Vec::new(),
                    form: BatchForm::new(along, [Along::Rows]),
                },
            ],
        }
    }

    fn run_part<F: Float>(&self, part: usize, ctx: &mut CpuContext<'_, F>) {
        match part {
            0 => cpu::gradient_sums(self, ctx),
            _ => cpu::gradient_by_x(self, ctx),
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(gpu::backward(self, Activation::None, ctx))
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        // Two sums, the second of products with a difference; then five operations for each element.
        9 * inputs[1].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        Planes::of(&inputs[1]).num_values()
    }

    fn ulps(&self) -> f64 {
        8.0
    }

    fn describe(&self) -> String {
        format!("eps {:e}", self.eps)
    }
}
