//! Losses over class indices: cross-entropy, which fuses the logarithm of the softmax with the choice of the class
//! (`torch.nn.functional.cross_entropy`), and the same from log-probabilities (`nll_loss`). One op computes both; an
//! attribute says whether its input is logits or log-probabilities.
//!
//! Labels are checked where data is loaded, not here: a row whose label is no class counts as ignored, on every
//! device, and nothing is read out of bounds.

mod cpu;
mod gpu;

pub(crate) use gpu::SHADER;
pub(in crate::ops::nn) use gpu::row_threads;

use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm, Part, PartInput};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::{Operation, check};
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Error, Result};

/// How the losses of single rows, or elements, become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean. Over rows, each counts by the weight of its class.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay apart.
    None,
}

/// How [`Graph::cross_entropy`] computes; by default the plain mean over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// What becomes of the rows' losses.
    pub reduction: Reduction,
    /// A label whose rows do not count.
    pub ignore_index: Option<u32>,
    /// The share ε of the target distributed uniformly over all classes, in [0, 1].
    pub label_smoothing: f64,
}

/// How [`Graph::nll_loss`] computes; by default the plain mean over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NllLoss {
    /// What becomes of the rows' losses.
    pub reduction: Reduction,
    /// A label whose rows do not count.
    pub ignore_index: Option<u32>,
}

/// What the input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scores {
    Logits,
    LogProbs,
}

/// The loss of (input (N, C), labels (N), class weights (C)): the loss, of shape () or (N), and unless each row's loss
/// stays apart, the sum of the rows' weights, which the gradient of the mean needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassLoss {
    pub scores: Scores,
    pub attributes: CrossEntropy,
}

/// The gradient by the input, from (input, labels, class weights, grad) and, for the mean, the sum of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassLossBackward(pub ClassLoss);

impl ClassLoss {
    fn is_mean(&self) -> bool {
        self.attributes.reduction == Reduction::Mean
    }
}

/// N and C.
fn dims(scores: &TensorType) -> [usize; 2] {
    scores.shape.dims().try_into().expect("infer checked the rank")
}

impl Operation for ClassLoss {
    fn name(&self) -> &'static str {
        match self.scores {
            Scores::Logits => "cross_entropy",
            Scores::LogProbs => "nll_loss",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let name = self.name();
        let [scores, labels, weights] = check::arity(name, inputs)?;
        let wanted = "(N, C), one row of class scores for each label; permute and reshape other layouts to it";
        let [num_rows, num_classes] = check::rank(name, scores, wanted)?;
        check::dtype(name, labels, DType::U32)?;
        check::float(name, weights)?;
        if num_classes == 0 {
            return Err(Error::operand(name, "at least one class", scores.to_string()));
        }
        if labels.shape.dims() != [num_rows] {
            let expected = format!("labels of shape ({num_rows}), one for each row of {scores}");
            return Err(Error::operand(name, expected, labels.to_string()));
        }
        if weights.shape.dims() != [num_classes] {
            let expected = format!("weights of shape ({num_classes}), one for each class of {scores}");
            return Err(Error::operand(name, expected, weights.to_string()));
        }
        let smoothing = self.attributes.label_smoothing;
        if !(0.0..=1.0).contains(&smoothing) {
            return Err(Error::operand(name, "label_smoothing in [0, 1]", smoothing.to_string()));
        }
        Ok(match self.attributes.reduction {
            Reduction::None => vec![TensorType::f32([num_rows])],
            Reduction::Sum | Reduction::Mean => vec![TensorType::f32([]), TensorType::f32([])],
        })
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        cpu::forward(self, ctx);
    }

    fn batch_form(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let inputs = [Along::Rows, Along::Rows, Along::Whole];
        match self.attributes.reduction {
            Reduction::None => BatchForm::new(inputs, [Along::Rows]),
            Reduction::Sum => BatchForm::new(inputs, vec![Along::Sum; outputs.len()]),
            // Divides by what is known when all labels have been seen.
            Reduction::Mean => None,
        }
    }

    /// Of a mean, the sum of the weights, then the rows' losses.
    fn parts(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Vec<Part> {
        if !self.is_mean() {
            return Vec::new();
        }
        let total = [1, 2].map(PartInput::Input).to_vec();
        let mut all = [0, 1, 2].map(PartInput::Input).to_vec();
        all.push(PartInput::Output(1));
        let along = [Along::Rows, Along::Rows, Along::Whole, Along::Whole];
        vec![
            Part { inputs: total, outputs: vec![1], updates: Vec::new(), form: None },
            Part { inputs: all, outputs: vec![0], updates: Vec::new(), form: BatchForm::new(along, [Along::Sum]) },
        ]
    }

    fn run_part<F: Float>(&self, part: usize, ctx: &mut CpuContext<'_, F>) {
        if part == 0 { cpu::total_weight(self, ctx) } else { cpu::mean_of_rows(self, ctx) }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(gpu::forward(self, ctx))
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let mut operands = vjp.inputs.to_vec();
        operands.push(vjp.grad_output());
        if self.is_mean() {
            operands.push(vjp.outputs[1]);
        }
        let grad = vjp.graph.push1(ClassLossBackward(*self), &operands)?;
        // Labels and class weights are constants, as in PyTorch.
        Ok(vec![Some(grad), None, None])
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        // Maximum, difference, exponential, sum.
        4 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let [num_rows, num_classes] = dims(&inputs[0]);
        if self.attributes.reduction == Reduction::None { num_classes } else { num_rows + num_classes }
    }

    fn ulps(&self) -> f64 {
        // exp and log, each a few ulps in WGSL.
        8.0
    }

    fn describe(&self) -> String {
        let CrossEntropy { reduction, ignore_index, label_smoothing } = self.attributes;
        let mut text = format!("{reduction:?}").to_lowercase();
        if let Some(index) = ignore_index {
            text += &format!(", ignore {index}");
        }
        if label_smoothing != 0.0 {
            text += &format!(", label_smoothing {label_smoothing}");
        }
        text
    }
}

impl Operation for ClassLossBackward {
    fn name(&self) -> &'static str {
        match self.0.scores {
            Scores::Logits => "cross_entropy_backward",
            Scores::LogProbs => "nll_loss_backward",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![inputs[0].clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        cpu::backward(&self.0, ctx);
    }

    fn batch_form(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        let grad = if self.0.attributes.reduction == Reduction::None { Along::Rows } else { Along::Whole };
        let along = [Along::Rows, Along::Rows, Along::Whole, grad, Along::Whole];
        BatchForm::new(&along[..inputs.len()], [Along::Rows])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(gpu::backward(&self.0, ctx))
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        7 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        dims(&inputs[0])[1]
    }

    fn ulps(&self) -> f64 {
        // As the forward, and the difference of softmax and target.
        16.0
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl Graph {
    /// The cross-entropy of `logits` (N, C) against `labels` (N) of u32, with a weight for each class where `weights`
    /// (C) is given: −log softmax(logits)\[label\], a float of shape (), or (N) under [`Reduction::None`]
    /// (`torch.nn.functional.cross_entropy` with class indices).
    ///
    /// The mean divides by the sum of the weights of the labels, or their count, both leaving out ignored rows; where
    /// all are ignored it is NaN. Label smoothing ε makes a row's loss (1 − ε)·nll + (ε/C)·Σ_c w_c·nll_c, under the
    /// same divisor. Labels must be below C: check them when data is loaded, since a kernel cannot fail; a row with
    /// any other label counts as ignored.
    ///
    /// Labels and weights get no gradient.
    ///
    /// # Errors
    /// [`Error::Operand`] where `logits` is not a float of shape (N, C) with at least one class (PyTorch's (N, C, d…)
    /// is not supported), `labels` not u32 of shape (N), `weights` not a float of shape (C), or `label_smoothing` not
    /// in [0, 1].
    pub fn cross_entropy(
        &mut self,
        logits: Value,
        labels: Value,
        weights: Option<Value>,
        attributes: CrossEntropy,
    ) -> Result<Value> {
        self.class_loss(ClassLoss { scores: Scores::Logits, attributes }, logits, labels, weights)
    }

    /// The negative log-likelihood of `labels` (N) under `log_probs` (N, C), which [`Graph::log_softmax`] gives
    /// (`torch.nn.functional.nll_loss`); otherwise as [`Graph::cross_entropy`].
    ///
    /// # Errors
    /// As [`Graph::cross_entropy`].
    pub fn nll_loss(
        &mut self,
        log_probs: Value,
        labels: Value,
        weights: Option<Value>,
        attributes: NllLoss,
    ) -> Result<Value> {
        let NllLoss { reduction, ignore_index } = attributes;
        let attributes = CrossEntropy { reduction, ignore_index, label_smoothing: 0.0 };
        self.class_loss(ClassLoss { scores: Scores::LogProbs, attributes }, log_probs, labels, weights)
    }

    fn class_loss(&mut self, op: ClassLoss, scores: Value, labels: Value, weights: Option<Value>) -> Result<Value> {
        self.check(scores)?;
        let weights = match weights {
            Some(weights) => weights,
            None => {
                // Weights of 1 change no bit of the result and spare every kernel a second form.
                let num_classes = self.shape(scores).dims().get(1).copied().unwrap_or_default();
                self.constant(Tensor::f32([num_classes], vec![1.0; num_classes])?)
            }
        };
        Ok(self.push(op, &[scores, labels, weights])?[0])
    }
}
