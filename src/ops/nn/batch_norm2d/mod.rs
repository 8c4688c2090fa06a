//! Batch normalisation over the channels of images (`torch.nn.BatchNorm2d`; Ioffe and Szegedy, "Batch
//! normalization", 2015). Training and evaluation are two ops, as they are two graphs: the first takes the statistics
//! of the batch and updates the running ones in place, the second reads the running ones.

mod cpu;
mod deferred;
mod gpu;
mod gradient;
mod tile_sums;

pub(crate) use deferred::Deferred;
pub(crate) use gpu::SHADERS;
pub(super) use gpu::{Finish, backward as backward_dispatches, eval as eval_dispatches, train as train_dispatches};
pub(crate) use gradient::{BatchNormBackward, Statistics};
pub(crate) use tile_sums::TileSums;

use crate::graph::{Graph, NodeKind, Value, Vjp};
use crate::ops::batch::{Along, BatchForm, Part, PartInput};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// How [`Graph::batch_norm2d`] computes; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm2d {
    /// Added to the variance under the root.
    pub eps: f64,
    /// The share of the batch in the running statistics; `None` for the plain average over all batches so far, which
    /// needs [`BatchNormTensors::num_batches_tracked`].
    pub momentum: Option<f64>,
}

impl Default for BatchNorm2d {
    fn default() -> Self {
        BatchNorm2d { eps: 1e-5, momentum: Some(0.1) }
    }
}

/// What a layer of batch normalisation keeps. All are floats of shape (C), except where noted.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormTensors {
    /// The factor γ of each channel.
    pub weight: Value,
    /// The offset β of each channel.
    pub bias: Value,
    /// The running mean, a state; starts at 0.
    pub running_mean: Value,
    /// The running variance, a state; starts at 1.
    pub running_var: Value,
    /// The number of batches seen, a float state of shape () that training counts up; starts at 0. Exact up to 2²⁴.
    pub num_batches_tracked: Option<Value>,
}

/// In training: (x, weight, bias, running_mean, running_var, and num_batches_tracked where counted) → (y, mean,
/// 1/√(var + eps)), updating the running statistics and the count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNormTrain {
    pub attributes: BatchNorm2d,
    pub counts_batches: bool,
    /// Whether there is a last operand, the moments of slices of each channel, that a GPU takes instead of looking at x for
    /// them: (C, slices, 4), as [`Conv2dMoments`](crate::ops::nn::conv2d::Conv2dMoments) makes them.
    pub takes_moments: bool,
}

impl BatchNormTrain {
    fn num_operands(&self) -> usize {
        5 + usize::from(self.counts_batches)
    }

    /// The operand that has the moments.
    fn moments(&self) -> Option<usize> {
        self.takes_moments.then_some(self.num_operands())
    }

    /// This op with that operand, if so many slices are not too many.
    pub fn with_moments(self, num_slices: usize) -> Option<BatchNormTrain> {
        (num_slices <= gpu::MAX_MERGED_SLICES).then_some(BatchNormTrain { takes_moments: true, ..self })
    }
}

/// In evaluation: (x, weight, bias, running_mean, running_var) → y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNormEval {
    pub eps: f64,
}

/// The shape of x as channels of planes.
#[derive(Clone, Copy)]
struct Planes {
    num_images: usize,
    num_channels: usize,
    plane: usize,
}

impl Planes {
    fn of(x: &TensorType) -> Planes {
        let dims = x.shape.dims();
        Planes { num_images: dims[0], num_channels: dims[1], plane: dims[2] * dims[3] }
    }

    /// Values of one channel.
    fn num_values(self) -> usize {
        self.num_images * self.plane
    }

    fn num_elems(self) -> usize {
        self.num_values() * self.num_channels
    }
}

/// Checks x (N, C, H, W), what each channel has, and eps; gives C and the number of values of a channel.
fn check_operands(name: &str, x: &TensorType, of_channels: &[TensorType], eps: f64) -> Result<(usize, usize)> {
    let [num_images, num_channels, height, width] = check::rank(name, x, "(N, C, H, W)")?;
    for ty in of_channels {
        if *ty != TensorType::f32([num_channels]) {
            let expected =
                format!("weight, bias and statistics of shape ({num_channels}), one for each channel of {x}");
            return Err(Error::operand(name, expected, ty.to_string()));
        }
    }
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(Error::operand(name, "eps of at least 0", eps.to_string()));
    }
    Ok((num_channels, num_images * height * width))
}

impl Operation for BatchNormTrain {
    fn name(&self) -> &'static str {
        "batch_norm2d"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let num_operands = self.num_operands() + usize::from(self.takes_moments);
        if inputs.len() != num_operands {
            return Err(Error::operand(self.name(), format!("{num_operands} operands"), inputs.len().to_string()));
        }
        let (x, count) = (&inputs[0], self.counts_batches.then(|| &inputs[5]));
        let BatchNorm2d { eps, momentum } = self.attributes;
        let (num_channels, num_values) = check_operands(self.name(), x, &inputs[1..5], eps)?;
        if let Some(moments) = self.moments().map(|operand| &inputs[operand])
            && !matches!(moments.shape.dims(), &[channels, _, 4] if channels == num_channels)
        {
            return Err(Error::operand(
                self.name(),
                format!("moments ({num_channels}, slices, 4)"),
                moments.to_string(),
            ));
        }
        if num_values < 2 {
            let expected = "more than one value in each channel, since one has no variance; use a larger batch, or \
                            evaluation mode";
            return Err(Error::operand(self.name(), expected, x.to_string()));
        }
        if let Some(momentum) = momentum
            && !(0.0..=1.0).contains(&momentum)
        {
            return Err(Error::operand(self.name(), "momentum in [0, 1]", momentum.to_string()));
        }
        match count {
            Some(count) if *count != TensorType::f32([]) => {
                Err(Error::operand(self.name(), "num_batches_tracked, a float of shape ()", count.to_string()))
            }
            None if momentum.is_none() => {
                Err(Error::operand(self.name(), "num_batches_tracked for the cumulative average", "none"))
            }
            _ => {
                let of_channel = TensorType::f32([num_channels]);
                Ok(vec![x.clone(), of_channel.clone(), of_channel])
            }
        }
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        cpu::train(self, ctx);
    }

    /// The statistics of the batch, then the normalization, image by image.
    fn parts(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Vec<Part> {
        let mut statistics = vec![PartInput::Input(0)];
        statistics.extend((3..self.num_operands()).map(PartInput::Input));
        let mut along = [Along::Whole; 5];
        along[0] = Along::Rows;
        vec![
            Part { updates: (1..statistics.len()).collect(), inputs: statistics, outputs: vec![1, 2], form: None },
            Part {
                inputs: vec![
                    PartInput::Input(0),
                    PartInput::Output(1),
                    PartInput::Output(2),
                    PartInput::Input(1),
                    PartInput::Input(2),
                ],
                outputs: vec![0],
                updates: Vec::new(),
                form: BatchForm::new(along, [Along::Rows]),
            },
        ]
    }

    fn run_part<F: Float>(&self, part: usize, ctx: &mut CpuContext<'_, F>) {
        match part {
            0 => cpu::statistics(self, ctx),
            _ => cpu::normalize_part(ctx),
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(gpu::train(self, Finish::default(), ctx))
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let operands = [vjp.grad_output(), vjp.inputs[0], vjp.inputs[1], vjp.outputs[1], vjp.outputs[2]];
        let backward = BatchNormBackward { statistics: Statistics::Batch, eps: self.attributes.eps, takes_sums: false };
        let grads = vjp.graph.push(backward, &operands)?;
        let mut grads: Vec<Option<Value>> = grads.into_iter().map(Some).collect();
        // None flows into the running statistics.
        grads.resize(vjp.inputs.len(), None);
        Ok(grads)
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        // Sum; difference, square and sum; difference, product and sum.
        7 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        Planes::of(&inputs[0]).num_values()
    }

    fn ulps(&self) -> f64 {
        // The mean's error enters every element divided by the standard deviation.
        8.0
    }

    fn updates(&self) -> Vec<usize> {
        if self.counts_batches { vec![3, 4, 5] } else { vec![3, 4] }
    }

    fn describe(&self) -> String {
        match self.attributes.momentum {
            Some(momentum) => format!("eps {:e}, momentum {momentum}", self.attributes.eps),
            None => format!("eps {:e}, cumulative average", self.attributes.eps),
        }
    }
}

impl Operation for BatchNormEval {
    fn name(&self) -> &'static str {
        "batch_norm2d_eval"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x, ..] = check::arity::<5>(self.name(), inputs)?;
        check_operands(self.name(), x, &inputs[1..], self.eps)?;
        Ok(vec![x.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        cpu::eval(self, ctx);
    }

    fn batch_form(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        let mut along = vec![Along::Whole; inputs.len()];
        along[0] = Along::Rows;
        BatchForm::new(along, [Along::Rows])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(gpu::eval(self, Finish::default(), ctx))
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let operands = [vjp.grad_output(), vjp.inputs[0], vjp.inputs[1], vjp.inputs[3], vjp.inputs[4]];
        let backward = BatchNormBackward { statistics: Statistics::Running, eps: self.eps, takes_sums: false };
        let grads = vjp.graph.push(backward, &operands)?;
        let mut grads: Vec<Option<Value>> = grads.into_iter().map(Some).collect();
        grads.resize(vjp.inputs.len(), None);
        Ok(grads)
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        3 * inputs[0].shape.num_elems() as u64
    }

    fn ulps(&self) -> f64 {
        // An inverse square root and four roundings.
        8.0
    }

    fn describe(&self) -> String {
        format!("eps {:e}", self.eps)
    }
}

impl Graph {
    /// Normalises `x` (N, C, H, W) by the mean and the biased variance that each channel has in it, then scales and
    /// shifts: (x − mean)/√(var + eps)·weight + bias, of the shape of `x`. A run also moves the running statistics
    /// towards those of the batch, by `momentum`; the running variance takes the unbiased one. PyTorch's
    /// `BatchNorm2d` in training mode. Gradients flow to `x`, `weight` and `bias`.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float of shape (N, C, H, W) with more than one value in each channel, the
    /// tensors are not floats of shape (C), the running ones and the count not states, the count missing for the
    /// cumulative average, or an attribute out of range.
    pub fn batch_norm2d(&mut self, x: Value, tensors: BatchNormTensors, attributes: BatchNorm2d) -> Result<Value> {
        let BatchNormTensors { weight, bias, running_mean, running_var, num_batches_tracked } = tensors;
        let op = BatchNormTrain { attributes, counts_batches: num_batches_tracked.is_some(), takes_moments: false };
        for state in [running_mean, running_var].into_iter().chain(num_batches_tracked) {
            self.check(state)?;
            if !matches!(self.node(state).kind, NodeKind::State(_)) {
                let expected = "running statistics that are states, since they are updated in place";
                return Err(Error::operand(op.name(), expected, "a computed value"));
            }
        }
        if let (Some(momentum), None, true) = (attributes.momentum, num_batches_tracked, self.deferred.is_some()) {
            // With a momentum of 1 what "follows" is the batch's statistic itself.
            let (mean, var) = (self.defer(running_mean, momentum)?, self.defer(running_var, momentum)?);
            let op = BatchNormTrain { attributes: BatchNorm2d { momentum: Some(1.0), ..attributes }, ..op };
            return Ok(self.push(op, &[x, weight, bias, mean, var])?[0]);
        }
        let operands: Vec<Value> =
            [x, weight, bias, running_mean, running_var].into_iter().chain(num_batches_tracked).collect();
        Ok(self.push(op, &operands)?[0])
    }

    /// Normalises `x` (N, C, H, W) by the running statistics, which stay as they are, then scales and shifts; of the
    /// shape of `x`. PyTorch's `BatchNorm2d` in evaluation mode. Gradients flow to `x`, `weight` and `bias`; the count
    /// in `tensors` is not used.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float of shape (N, C, H, W), the tensors are not floats of shape (C), or
    /// `eps` is negative.
    pub fn batch_norm2d_eval(&mut self, x: Value, tensors: BatchNormTensors, eps: f64) -> Result<Value> {
        let BatchNormTensors { weight, bias, running_mean, running_var, .. } = tensors;
        self.push1(BatchNormEval { eps }, &[x, weight, bias, running_mean, running_var])
    }
}
