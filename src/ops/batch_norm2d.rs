//! Batch normalisation over the channels of images (`torch.nn.BatchNorm2d`; Ioffe and Szegedy, "Batch
//! normalization", 2015). Training and evaluation are two ops, as they are two graphs: the first takes the statistics
//! of the batch and updates the running ones in place, the second reads the running ones.

use super::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use super::{Operation, check};
use crate::exec::cpu::{CpuContext, Float, parallel};
use crate::graph::{Graph, NodeKind, Value, Vjp};
use crate::tensor::TensorType;
use crate::{Error, Result};

params! {
    struct Params {
        num_images: u32,
        num_channels: u32,
        plane: u32,
        slice_elems: u32,
        num_slices: u32,
        training: u32,
        eps: f32,
        momentum: f32,
    }
}

pub(super) static SHADER: Shader = Shader {
    name: "batch_norm2d",
    source: concat!(include_str!("../../shaders/lib/index.wgsl"), include_str!("../../shaders/batch_norm2d.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Values of a channel that a workgroup reduces, unless that makes too many slices.
const SLICE_ELEMS: usize = 2048;

/// The most slices of a channel: one invocation merges them.
const MAX_SLICES: usize = 128;

/// Values in a piece of work on the CPU, rounded to whole planes.
const CPU_CHUNK_ELEMS: usize = 8192;

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
}

/// In evaluation: (x, weight, bias, running_mean, running_var) → y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNormEval {
    pub eps: f64,
}

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

    /// Computes `body(channel, images)` for slices of whole images of every channel, in parallel, and gives the
    /// results slice by slice, channel by channel within.
    fn map_slices<T: Send>(self, body: impl Fn(usize, std::ops::Range<usize>) -> T + Send + Sync) -> Vec<T> {
        let images = (CPU_CHUNK_ELEMS / self.plane.max(1)).max(1);
        parallel::map(self.num_images.div_ceil(images) * self.num_channels, |unit| {
            let first = unit / self.num_channels * images;
            body(unit % self.num_channels, first..self.num_images.min(first + images))
        })
    }

    /// Calls `body(channel, start, plane)` for every plane of `out`, which begins at element `start`.
    fn for_planes<F: Float>(self, out: &mut [F], body: impl Fn(usize, usize, &mut [F]) + Send + Sync) {
        let plane = self.plane.max(1);
        let planes_per_chunk = (CPU_CHUNK_ELEMS / plane).max(1);
        parallel::for_chunks(out, planes_per_chunk * plane, 1, |chunk_index, chunk| {
            for (i, out) in chunk.chunks_exact_mut(plane).enumerate() {
                let index = chunk_index * planes_per_chunk + i;
                body(index % self.num_channels, index * plane, out);
            }
        });
    }

    /// One plane of a channel.
    #[inline(always)]
    fn plane<F>(self, x: &[F], image: usize, channel: usize) -> &[F] {
        &x[(image * self.num_channels + channel) * self.plane..][..self.plane]
    }

    /// Values in a slice on the GPU, and the number of slices.
    fn gpu_slices(self) -> (usize, usize) {
        let slice_elems = SLICE_ELEMS.max(self.num_values().div_ceil(MAX_SLICES));
        (slice_elems, self.num_values().div_ceil(slice_elems))
    }

    fn launch(
        self,
        entry_point: &'static str,
        settings: Settings,
        bindings: impl Into<Vec<Binding>>,
        workgroups: [u32; 3],
    ) -> Dispatch {
        let (slice_elems, num_slices) = self.gpu_slices();
        let params = Params {
            num_images: to_u32(self.num_images),
            num_channels: to_u32(self.num_channels),
            plane: to_u32(self.plane),
            slice_elems: to_u32(slice_elems),
            num_slices: to_u32(num_slices),
            training: u32::from(settings.statistics == Statistics::Batch),
            // Kernels compute in f32.
            eps: settings.eps as f32,
            momentum: settings.momentum as f32,
        };
        // Two walks over a slice and their trees, or one over the slices; other kernels have no loops.
        let slice_rounds = 2 * (slice_elems.div_ceil(WORKGROUP_SIZE as usize) + WORKGROUP_SIZE as usize);
        Dispatch::new(&SHADER, entry_point, &params, bindings, workgroups)
            .loop_rounds(slice_rounds.max(num_slices))
            .constant("WG", WORKGROUP_SIZE)
    }
}

/// What all kernels are told of an op's attributes.
#[derive(Clone, Copy)]
struct Settings {
    statistics: Statistics,
    eps: f64,
    momentum: f64,
}

/// Mean and sum of squared distances from it, of `count` values.
#[derive(Clone, Copy)]
struct Moments<F> {
    count: usize,
    mean: F,
    squares: F,
}

impl<F: Float> Moments<F> {
    /// Of one channel in some images, in two passes.
    #[inline(always)]
    fn of(planes: Planes, x: &[F], channel: usize, images: std::ops::Range<usize>) -> Self {
        let count = images.len() * planes.plane;
        let mut sum = F::ZERO;
        for image in images.clone() {
            let plane = planes.plane(x, image, channel);
            sum += parallel::sum(plane.len(), |i| plane[i]);
        }
        let mean = sum / F::from_f64(count as f64);
        let mut squares = F::ZERO;
        for image in images {
            let plane = planes.plane(x, image, channel);
            squares += parallel::sum(plane.len(), |i| (plane[i] - mean) * (plane[i] - mean));
        }
        Moments { count, mean, squares }
    }

    /// Of both sets of values (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    /// sample variances", 1979).
    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let share = F::from_f64(other.count as f64 / count as f64);
        let delta = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * share * F::from_f64(self.count as f64),
        }
    }
}

/// 1/√(var + eps).
fn inverse_std<F: Float>(var: F, eps: f64) -> F {
    F::ONE / (var + F::from_f64(eps)).sqrt()
}

/// `y = (x − mean)·invstd·weight + bias`, with the last four by channel.
fn normalize<F: Float>(planes: Planes, x: &[F], y: &mut [F], [mean, invstd, weight, bias]: [&[F]; 4]) {
    planes.for_planes(y, |channel, start, y| {
        let (mean, scale, bias) = (mean[channel], invstd[channel] * weight[channel], bias[channel]);
        for (y, &x) in y.iter_mut().zip(&x[start..start + planes.plane]) {
            *y = (x - mean) * scale + bias;
        }
    });
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
        let num_operands = 5 + usize::from(self.counts_batches);
        if inputs.len() != num_operands {
            return Err(Error::operand(self.name(), format!("{num_operands} operands"), inputs.len().to_string()));
        }
        let (x, count) = (&inputs[0], inputs.get(5));
        let BatchNorm2d { eps, momentum } = self.attributes;
        let (num_channels, num_values) = check_operands(self.name(), x, &inputs[1..5], eps)?;
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
        let (x, weight, bias) = (ctx.float(0), ctx.float(1), ctx.float(2));
        let (y, mean, invstd) = (ctx.output(0), ctx.output(1), ctx.output(2));
        let (running_mean, running_var) = (ctx.updated(3), ctx.updated(4));
        let planes = Planes::of(ctx.inputs[0]);
        let counter = self.counts_batches.then(|| &mut ctx.updated(5)[0]);
        let factor = match (self.attributes.momentum, &counter) {
            (Some(momentum), _) => F::from_f64(momentum),
            (None, Some(counter)) => F::ONE / (**counter + F::ONE),
            (None, None) => panic!("infer asks for a count where there is no momentum"),
        };
        let slices = planes.map_slices(|channel, images| Moments::of(planes, x, channel, images));
        let n = F::from_f64(planes.num_values() as f64);
        for channel in 0..planes.num_channels {
            let of_channel = slices.iter().skip(channel).step_by(planes.num_channels).copied();
            let moments = of_channel.reduce(Moments::merge).expect("infer asks for values");
            mean[channel] = moments.mean;
            invstd[channel] = inverse_std(moments.squares / n, self.attributes.eps);
            let follow = |running: &mut F, of_batch: F| *running = (F::ONE - factor) * *running + factor * of_batch;
            follow(&mut running_mean[channel], moments.mean);
            follow(&mut running_var[channel], moments.squares / (n - F::ONE));
        }
        if let Some(counter) = counter {
            *counter += F::ONE;
        }
        normalize(planes, x, y, [mean, invstd, weight, bias]);
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        use Binding::{Input, Output, Scalar, Scratch, ScratchMut, Updated};
        let planes = Planes::of(&ctx.inputs[0]);
        let (_, num_slices) = planes.gpu_slices();
        let BatchNorm2d { eps, momentum } = self.attributes;
        let settings = Settings { statistics: Statistics::Batch, eps, momentum: momentum.unwrap_or_default() };
        let channel_groups = grid(planes.num_channels, WORKGROUP_SIZE);
        let mut merge = vec![Scratch(0), Output(1), Output(2), Updated(3), Updated(4), ScratchMut(1), ScratchMut(2)];
        let entry_point = if momentum.is_none() {
            merge.push(Scalar(5));
            "merge_cumulative"
        } else {
            "merge"
        };
        let mut list = vec![
            planes.launch("slices", settings, [Input(0), ScratchMut(0)], grid(num_slices * planes.num_channels, 1)),
            planes.launch(entry_point, settings, merge, channel_groups),
            planes.launch(
                "normalize",
                settings,
                [Input(0), Scratch(1), Scratch(2), Input(1), Input(2), Output(0)],
                grid(planes.num_elems(), WORKGROUP_SIZE),
            ),
        ];
        if self.counts_batches {
            list.push(planes.launch("count", settings, [Updated(5)], [1, 1, 1]));
        }
        let channels = planes.num_channels;
        Ok(Dispatches { list, scratch_elems: vec![2 * num_slices * channels, channels, channels] })
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let operands = [vjp.grad_output(), vjp.inputs[0], vjp.inputs[1], vjp.outputs[1], vjp.outputs[2]];
        let backward = BatchNormBackward { statistics: Statistics::Batch, eps: self.attributes.eps };
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
        let (x, weight, bias, mean) = (ctx.float(0), ctx.float(1), ctx.float(2), ctx.float(3));
        let invstd: Vec<F> = ctx.float(4).iter().map(|&var| inverse_std(var, self.eps)).collect();
        normalize(Planes::of(ctx.inputs[0]), x, ctx.output(0), [mean, &invstd, weight, bias]);
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        use Binding::{Input, Output};
        let planes = Planes::of(&ctx.inputs[0]);
        let bindings = [Input(0), Input(3), Input(4), Input(1), Input(2), Output(0)];
        let settings = Settings { statistics: Statistics::Running, eps: self.eps, momentum: 0.0 };
        Ok(planes.launch("normalize", settings, bindings, grid(planes.num_elems(), WORKGROUP_SIZE)).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let operands = [vjp.grad_output(), vjp.inputs[0], vjp.inputs[1], vjp.inputs[3], vjp.inputs[4]];
        let backward = BatchNormBackward { statistics: Statistics::Running, eps: self.eps };
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

impl Operation for BatchNormBackward {
    fn name(&self) -> &'static str {
        match self.statistics {
            Statistics::Batch => "batch_norm2d_backward",
            Statistics::Running => "batch_norm2d_eval_backward",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [_, x, weight, ..] = check::arity::<5>(self.name(), inputs)?;
        Ok(vec![x.clone(), weight.clone(), weight.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (grad, x, weight, mean, spread) = (ctx.float(0), ctx.float(1), ctx.float(2), ctx.float(3), ctx.float(4));
        let (grad_x, grad_weight, grad_bias) = (ctx.output(0), ctx.output(1), ctx.output(2));
        let planes = Planes::of(ctx.inputs[1]);
        let slices = planes.map_slices(|channel, images| {
            let mut sums = [F::ZERO; 2];
            for image in images {
                let (grad, x) = (planes.plane(grad, image, channel), planes.plane(x, image, channel));
                let mean = mean[channel];
                sums[0] += parallel::sum(grad.len(), |i| grad[i]);
                sums[1] += parallel::sum(grad.len(), |i| grad[i] * (x[i] - mean));
            }
            sums
        });
        let n = F::from_f64(planes.num_values() as f64);
        // Of each channel: weight·invstd, grad_bias/n, invstd·grad_weight/n.
        let mut coefficients = Vec::with_capacity(planes.num_channels);
        for channel in 0..planes.num_channels {
            let of_channel = slices.iter().skip(channel).step_by(planes.num_channels);
            let sums = of_channel.fold([F::ZERO; 2], |sum, term| [sum[0] + term[0], sum[1] + term[1]]);
            let (invstd, share) = match self.statistics {
                Statistics::Batch => (spread[channel], F::ONE / n),
                Statistics::Running => (inverse_std(spread[channel], self.eps), F::ZERO),
            };
            grad_bias[channel] = sums[0];
            grad_weight[channel] = invstd * sums[1];
            coefficients.push([weight[channel] * invstd, share * sums[0], share * invstd * invstd * sums[1]]);
        }
        planes.for_planes(grad_x, |channel, start, grad_x| {
            let ([scale, of_bias, of_weight], mean) = (coefficients[channel], mean[channel]);
            let range = start..start + planes.plane;
            for (grad_x, (&grad, &x)) in grad_x.iter_mut().zip(grad[range.clone()].iter().zip(&x[range])) {
                *grad_x = scale * (grad - of_bias - (x - mean) * of_weight);
            }
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        use Binding::{Input, Output, Scratch, ScratchMut};
        let planes = Planes::of(&ctx.inputs[1]);
        let (_, num_slices) = planes.gpu_slices();
        let settings = Settings { statistics: self.statistics, eps: self.eps, momentum: 0.0 };
        let channels = planes.num_channels;
        let slices = [Input(1), Input(3), Input(0), ScratchMut(0)];
        let merge = [Scratch(0), Input(3), Input(4), Input(2), Output(1), Output(2), ScratchMut(1)];
        let input = [Input(1), Scratch(1), Input(0), Output(0)];
        let list = vec![
            planes.launch("grad_slices", settings, slices, grid(num_slices * channels, 1)),
            planes.launch("grad_merge", settings, merge, grid(channels, WORKGROUP_SIZE)),
            planes.launch("grad_input", settings, input, grid(planes.num_elems(), WORKGROUP_SIZE)),
        ];
        Ok(Dispatches { list, scratch_elems: vec![2 * num_slices * channels, 4 * channels] })
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
        let op = BatchNormTrain { attributes, counts_batches: num_batches_tracked.is_some() };
        for state in [running_mean, running_var].into_iter().chain(num_batches_tracked) {
            self.check(state)?;
            if !matches!(self.node(state).kind, NodeKind::State(_)) {
                let expected = "running statistics that are states, since they are updated in place";
                return Err(Error::operand(op.name(), expected, "a computed value"));
            }
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
