//! Losses over class indices: cross-entropy, which fuses the logarithm of the softmax with the choice of the class
//! (`torch.nn.functional.cross_entropy`), and the same from log-probabilities (`nll_loss`). One op computes both; an
//! attribute says what its scores are.
//!
//! Labels are checked where data is loaded, not here: a row whose label is no class counts as ignored, on every
//! device, and nothing is read out of bounds.

use super::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use super::{Operation, check};
use crate::exec::cpu::{CpuContext, Float, parallel};
use crate::graph::{Graph, Value, Vjp};
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        num_rows: u32,
        num_classes: u32,
        ignore_index: u32,
        slice_rows: u32,
        label_smoothing: f32,
    }
}

pub(super) static SHADER: Shader = Shader {
    name: "cross_entropy",
    source: concat!(include_str!("../../shaders/lib/index.wgsl"), include_str!("../../shaders/cross_entropy.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Rows that a workgroup reduces, if they have few enough classes; up to as many it does everything in one launch.
const SLICE_ROWS: usize = 1024;

/// With more classes than this a workgroup takes one row for each invocation: there is work enough, and the walks over
/// classes stay short enough for llvmpipe, which ends loops that go on too long.
const MANY_CLASSES: usize = 512;

/// Scores that a piece of work on the CPU reads, rounded up to whole rows.
const CPU_CHUNK_ELEMS: usize = 4096;

/// Roughly what an exponential costs in simple operations.
const EXP_COST: usize = 16;

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
    /// The share ε of the target that is spread evenly over all classes, in [0, 1].
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

/// What the scores of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scores {
    Logits,
    LogProbs,
}

/// The loss of (scores (N, C), labels (N), class weights (C)): the loss, of shape () or (N), and unless each row's loss
/// stays apart, the sum of the rows' weights, which the gradient of the mean needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassLoss {
    pub scores: Scores,
    pub attributes: CrossEntropy,
}

/// The gradient by the scores, from (scores, labels, class weights, grad) and, for the mean, the sum of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassLossBackward(pub ClassLoss);

/// A row's scores s give log-probabilities `s − max − ln(sum)`.
#[derive(Clone, Copy)]
struct RowScale<F> {
    max: F,
    sum: F,
}

impl ClassLoss {
    fn is_mean(&self) -> bool {
        self.attributes.reduction == Reduction::Mean
    }

    /// The label as an index; `None` where the row does not count.
    #[inline(always)]
    fn class(&self, label: u32, num_classes: usize) -> Option<usize> {
        let class = label as usize;
        (class < num_classes && Some(label) != self.attributes.ignore_index).then_some(class)
    }

    /// What the target gives to its own class and, times the class's weight, to every class.
    fn shares<F: Float>(&self, num_classes: usize) -> (F, F) {
        let smoothing = self.attributes.label_smoothing;
        (F::from_f64(1.0 - smoothing), F::from_f64(smoothing / num_classes as f64))
    }

    #[inline(always)]
    fn row_scale<F: Float>(&self, row: &[F]) -> RowScale<F> {
        match self.scores {
            Scores::LogProbs => RowScale { max: F::ZERO, sum: F::ONE },
            Scores::Logits => {
                let max = row.iter().fold(F::LOWEST, |max, &x| x.max(max));
                RowScale { max, sum: parallel::sum(row.len(), |c| (row[c] - max).exp()) }
            }
        }
    }

    /// Loss and weight of a row.
    #[inline(always)]
    fn row_loss<F: Float>(&self, row: &[F], label: u32, weights: &[F]) -> [F; 2] {
        let Some(class) = self.class(label, row.len()) else { return [F::ZERO; 2] };
        let scale = self.row_scale(row);
        let log_sum = scale.sum.ln();
        let nll = -(weights[class] * (row[class] - scale.max - log_sum));
        // Without smoothing the sum is left out: a class of probability 0 must not make the loss infinite.
        if self.attributes.label_smoothing == 0.0 {
            return [nll, weights[class]];
        }
        let (own, each) = self.shares::<F>(row.len());
        let smooth = parallel::sum(row.len(), |c| weights[c] * (row[c] - scale.max - log_sum));
        [own * nll - each * smooth, weights[class]]
    }

    #[inline(always)]
    fn row_grad<F: Float>(&self, row: &[F], label: u32, weights: &[F], grad: F, out: &mut [F]) {
        let Some(class) = self.class(label, row.len()) else { return out.fill(F::ZERO) };
        let (own, each) = self.shares::<F>(row.len());
        let of_label = own * weights[class];
        match self.scores {
            Scores::LogProbs => {
                for (out, &weight) in out.iter_mut().zip(weights) {
                    *out = -(grad * (each * weight));
                }
            }
            Scores::Logits => {
                let scale = self.row_scale(row);
                let of_all = of_label + parallel::sum(row.len(), |c| each * weights[c]);
                for ((out, &x), &weight) in out.iter_mut().zip(row).zip(weights) {
                    *out = grad * ((x - scale.max).exp() / scale.sum * of_all - each * weight);
                }
            }
        }
        out[class] += -(grad * of_label);
    }

    fn params(&self, [num_rows, num_classes]: [usize; 2]) -> Params {
        Params {
            num_rows: to_u32(num_rows),
            num_classes: to_u32(num_classes),
            // No class has this index, so it ignores nothing that is not ignored anyway.
            ignore_index: self.attributes.ignore_index.unwrap_or(u32::MAX),
            slice_rows: to_u32(slice_rows(num_classes)),
            // Kernels compute in f32.
            label_smoothing: self.attributes.label_smoothing as f32,
        }
    }

    fn launch(
        &self,
        entry_point: &'static str,
        dims: [usize; 2],
        bindings: impl Into<Vec<Binding>>,
        workgroups: [u32; 3],
    ) -> Dispatch {
        let reduction: u32 = match self.attributes.reduction {
            Reduction::None => 0,
            Reduction::Sum => 1,
            Reduction::Mean => 2,
        };
        let workgroup_size = WORKGROUP_SIZE as usize;
        // Up to four walks over a row's classes: maximum, sum, weights, gradient.
        let row_rounds = 1 + 4 * dims[1];
        let loop_rounds = match entry_point {
            "merge" => dims[0].div_ceil(slice_rows(dims[1])).div_ceil(workgroup_size),
            "whole" | "slices" => slice_rows(dims[1]).min(dims[0]).div_ceil(workgroup_size) * row_rounds,
            _ => row_rounds,
        };
        Dispatch::new(&SHADER, entry_point, &self.params(dims), bindings, workgroups)
            .loop_rounds(loop_rounds + workgroup_size)
            .constant("WG", WORKGROUP_SIZE)
            .constant("LOG_PROBS", u32::from(self.scores == Scores::LogProbs))
            .constant("REDUCTION", reduction)
    }
}

fn dims(scores: &TensorType) -> [usize; 2] {
    scores.shape.dims().try_into().expect("infer checked the rank")
}

/// Rows in a piece of work on the CPU.
fn rows_per_chunk(num_classes: usize) -> usize {
    CPU_CHUNK_ELEMS.div_ceil(num_classes.max(1))
}

/// Rows that a workgroup reduces.
fn slice_rows(num_classes: usize) -> usize {
    if num_classes > MANY_CLASSES { WORKGROUP_SIZE as usize } else { SLICE_ROWS }
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
        let (x, labels, weights, loss) = (ctx.float(0), ctx.u32(1), ctx.float(2), ctx.output(0));
        let [num_rows, num_classes] = ctx.dims(0);
        let row_loss = |row: usize| self.row_loss(&x[row * num_classes..][..num_classes], labels[row], weights);
        let rows = rows_per_chunk(num_classes);
        if self.attributes.reduction == Reduction::None {
            parallel::for_chunks(loss, rows, num_classes * EXP_COST, |index, chunk| {
                chunk.iter_mut().enumerate().for_each(|(i, loss)| *loss = row_loss(index * rows + i)[0]);
            });
            return;
        }
        let add = |sum: [F; 2], term: [F; 2]| [sum[0] + term[0], sum[1] + term[1]];
        let partials = parallel::map(num_rows.div_ceil(rows), |chunk| {
            (chunk * rows..num_rows.min((chunk + 1) * rows)).map(row_loss).fold([F::ZERO; 2], add)
        });
        let [sum, total_weight] = partials.into_iter().fold([F::ZERO; 2], add);
        loss[0] = if self.is_mean() { sum / total_weight } else { sum };
        ctx.output(1)[0] = total_weight;
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        use Binding::{Input, Output, Scratch, ScratchMut};
        let dims @ [num_rows, num_classes] = dims(&ctx.inputs[0]);
        if self.attributes.reduction == Reduction::None {
            let bindings = [Input(0), Input(1), Input(2), Output(0)];
            return Ok(self.launch("each", dims, bindings, grid(num_rows, WORKGROUP_SIZE)).into());
        }
        let slice_rows = slice_rows(num_classes);
        if num_rows <= slice_rows {
            let bindings = [Input(0), Input(1), Input(2), Output(0), Output(1)];
            return Ok(self.launch("whole", dims, bindings, [1, 1, 1]).into());
        }
        let num_slices = num_rows.div_ceil(slice_rows);
        let slices = [Input(0), Input(1), Input(2), ScratchMut(0)];
        let merge = [Scratch(0), Output(0), Output(1)];
        let list = vec![
            self.launch("slices", dims, slices, grid(num_slices, 1)),
            self.launch("merge", dims, merge, [1, 1, 1]),
        ];
        Ok(Dispatches { list, scratch_elems: vec![2 * num_slices] })
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
        let (x, labels, weights, grad) = (ctx.float(0), ctx.u32(1), ctx.float(2), ctx.float(3));
        let [_, num_classes] = ctx.dims(0);
        let scale = if self.0.is_mean() { F::ONE / ctx.float(4)[0] } else { F::ONE };
        let is_per_row = self.0.attributes.reduction == Reduction::None;
        let rows = rows_per_chunk(num_classes);
        parallel::for_chunks(ctx.output(0), rows * num_classes, EXP_COST, |index, chunk| {
            for (i, out) in chunk.chunks_exact_mut(num_classes).enumerate() {
                let row = index * rows + i;
                let grad = grad[if is_per_row { row } else { 0 }] * scale;
                self.0.row_grad(&x[row * num_classes..][..num_classes], labels[row], weights, grad, out);
            }
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        use Binding::{Input, Output};
        let dims = dims(&ctx.inputs[0]);
        // The kernel reads the sum of the weights for the mean alone; else another input fills its place.
        let total_weight = if self.0.is_mean() { Input(4) } else { Input(3) };
        let bindings = [Input(0), Input(1), Input(2), Input(3), total_weight, Output(0)];
        Ok(self.0.launch("backward", dims, bindings, grid(dims[0], WORKGROUP_SIZE)).into())
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
