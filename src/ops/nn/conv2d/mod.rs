//! Two-dimensional convolution (cross-correlation, as `torch.nn.functional.conv2d`), its gradients by input and by
//! weight and bias, with bias and activation fused into the forward.

mod added;
mod choice;
mod cpu;
mod depthwise;
mod gemm;
mod gemm_weight;
mod geometry;
mod gpu;
mod grad_weight;
mod moments;
mod pooled;
mod rounds;
mod slices;
mod staged;
mod staged_weight;
mod strided;
mod tiles;

pub(crate) use added::Added;
pub(super) use cpu::{forward, forward_pooled, is_pooled as is_pooled_on_cpu};
pub(super) use geometry::Geometry;
pub(crate) use gpu::SHADERS;
pub(super) use gpu::{CHANNELS, MAX_VEC4_KERNEL, pairs_per_thread, strips_per_group};
pub(super) use gpu::{Params, with_constants, with_tile_rows};
pub(crate) use moments::Conv2dMoments;
pub(crate) use pooled::Conv2dPooledBackward;
pub(crate) use slices::Conv2dGradSlices;
pub(crate) use tiles::Tiles;

use super::activation::Activation;
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{DispatchContext, Dispatches, GpuTraits};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};
use choice::Summing;
use gpu::Gradient;

/// How a convolution is taken; pairs are (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// From one output to the next, in input pixels.
    pub stride: [usize; 2],
    /// Zeros around the input on each side.
    pub padding: [usize; 2],
    /// From one kernel element to the next, in input pixels.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved apart.
    pub groups: usize,
    /// The activation fused after the bias.
    pub activation: Activation,
}

impl Default for Conv2d {
    fn default() -> Self {
        Conv2d { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, activation: Activation::None }
    }
}

/// The gradient by the input, from (grad_output, weight).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conv2dGradInput {
    pub conv: Conv2d,
    pub input: Shape,
}

/// The gradients by weight and, where there is one, bias, from (grad_output, input).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conv2dGradWeight {
    pub conv: Conv2d,
    pub weight: Shape,
    pub has_bias: bool,
}

impl Operation for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (x, weight, bias) = match inputs {
            [x, weight] => (x, weight, None),
            [x, weight, bias] => (x, weight, Some(bias)),
            _ => return Err(Error::operand(self.name(), "an input, a weight and a bias", inputs.len().to_string())),
        };
        for ty in inputs {
            check::float(self.name(), ty)?;
        }
        let geometry = self.geometry(&x.shape, &weight.shape)?;
        if let Some(bias) = bias
            && bias.shape.dims() != [geometry.out_channels]
        {
            let expected = format!("a bias of shape ({})", geometry.out_channels);
            return Err(Error::operand(self.name(), expected, bias.shape.to_string()));
        }
        let [h, w] = geometry.output;
        Ok(vec![TensorType::f32([geometry.batch, geometry.out_channels, h, w])])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry = self.checked(&ctx.inputs[0].shape, &ctx.inputs[1].shape);
        let bias = (ctx.inputs.len() == 3).then(|| ctx.float(2));
        cpu::forward(&geometry, ctx.float(0), ctx.float(1), bias, ctx.output(0));
    }

    fn batch_form(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        let along = [Along::Rows, Along::Whole, Along::Whole];
        BatchForm::new(&along[..inputs.len()], [Along::Rows])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.checked(&ctx.inputs[0].shape, &ctx.inputs[1].shape);
        Ok(gpu::forward(&geometry, ctx.inputs.len() == 3, ctx.gpu))
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = self.activation.vjp(vjp)?;
        let conv = Conv2d { activation: Activation::None, ..*self };
        let (x, weight) = (vjp.inputs[0], vjp.inputs[1]);
        let has_bias = vjp.inputs.len() == 3 && vjp.needs(2);
        let mut grads = vec![None; vjp.inputs.len()];
        if vjp.needs(0) {
            let input = vjp.graph.shape(x).clone();
            grads[0] = Some(vjp.graph.push1(Conv2dGradInput { conv, input }, &[grad, weight])?);
        }
        if vjp.needs(1) || has_bias {
            let weight = vjp.graph.shape(weight).clone();
            let outputs = vjp.graph.push(Conv2dGradWeight { conv, weight, has_bias }, &[grad, x])?;
            grads[1] = Some(outputs[0]);
            if has_bias {
                grads[2] = Some(outputs[1]);
            }
        }
        Ok(grads)
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        self.checked(&inputs[0].shape, &inputs[1].shape).flops()
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let geometry = self.checked(&inputs[0].shape, &inputs[1].shape);
        geometry.error_terms(geometry.patch_elems())
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        largest[0] * largest[1]
    }

    fn describe(&self) -> String {
        let defaults = Conv2d::default();
        let mut parts = Vec::new();
        let pairs = [
            ("stride", self.stride, defaults.stride),
            ("padding", self.padding, defaults.padding),
            ("dilation", self.dilation, defaults.dilation),
        ];
        for (name, pair, default) in pairs {
            if pair != default {
                parts.push(format!("{name} {}×{}", pair[0], pair[1]));
            }
        }
        if self.groups != 1 {
            parts.push(format!("groups {}", self.groups));
        }
        if self.activation != Activation::None {
            parts.push(self.activation.describe().to_owned());
        }
        parts.join(", ")
    }
}

impl Operation for Conv2dGradInput {
    fn name(&self) -> &'static str {
        "conv2d_grad_input"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, weight] = check::arity(self.name(), inputs)?;
        check_grad(self.name(), &self.conv.geometry(&self.input, &weight.shape)?, grad)?;
        Ok(vec![TensorType::f32(self.input.clone())])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry = self.conv.checked(&ctx.outputs[0].shape, &ctx.inputs[1].shape);
        cpu::grad_input(&geometry, ctx.float(0), ctx.float(1), ctx.output(0));
    }

    fn batch_form(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::new([Along::Rows, Along::Whole], [Along::Rows])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(self.dispatches_with(None, ctx))
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        self.conv.checked(&self.input, &inputs[1].shape).flops()
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let geometry = self.conv.checked(&self.input, &inputs[1].shape);
        geometry.error_terms(geometry.group_out() * geometry.kernel[0] * geometry.kernel[1])
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        largest[0] * largest[1]
    }

    fn describe(&self) -> String {
        self.conv.describe()
    }
}

impl Operation for Conv2dGradWeight {
    fn name(&self) -> &'static str {
        "conv2d_grad_weight"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, x] = check::arity(self.name(), inputs)?;
        let geometry = self.conv.geometry(&x.shape, &self.weight)?;
        check_grad(self.name(), &geometry, grad)?;
        let mut outputs = vec![TensorType::f32(self.weight.clone())];
        if self.has_bias {
            outputs.push(TensorType::f32([geometry.out_channels]));
        }
        Ok(outputs)
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry = self.conv.checked(&ctx.inputs[1].shape, &self.weight);
        let grad_bias = self.has_bias.then(|| ctx.output(1));
        cpu::grad_weight(&geometry, ctx.float(0), ctx.float(1), ctx.output(0), grad_bias);
    }

    fn batch_form(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::new([Along::Rows; 2], vec![Along::Sum; outputs.len()])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.conv.checked(&ctx.inputs[1].shape, &self.weight);
        Ok(grad_weight::dispatches(&geometry, self.has_bias, Gradient::Whole, ctx.gpu))
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        self.conv.checked(&inputs[1].shape, &self.weight).flops()
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let geometry = self.conv.checked(&inputs[1].shape, &self.weight);
        geometry.error_terms(geometry.batch * geometry.out_pixels())
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        // The weight's gradient sums products, the bias's the gradients themselves.
        largest[0] * if self.has_bias { largest[1].max(1.0) } else { largest[1] }
    }

    fn describe(&self) -> String {
        self.conv.describe()
    }
}

impl Conv2dGradInput {
    /// The dispatches, with what operand 2 adds as the gradient is stored.
    pub fn dispatches_with(&self, added: Option<Added>, ctx: &DispatchContext<'_>) -> Dispatches {
        let geometry = self.conv.checked(&self.input, &ctx.inputs[1].shape);
        gpu::grad_input(&geometry, Gradient::Whole, added, ctx.gpu)
    }

    /// The tiles of the gradient, on a GPU of this kind whose kernel can sum over them for a batch normalization's gradient.
    pub fn tiles(&self, weight: &Shape, gpu: GpuTraits) -> Option<Tiles> {
        let geometry = self.conv.geometry(&self.input, weight).ok()?;
        Summing::of(&geometry, gpu).map(|kernel| kernel.tiles(&geometry))
    }

    /// The dispatches by that kernel, which read what is added, where something is, what an activation gave, what was
    /// normalized, and its mean, as operands 2 and on.
    pub fn dispatches_with_sums(
        &self,
        added: Option<Added>,
        activation: Activation,
        ctx: &DispatchContext<'_>,
    ) -> Dispatches {
        let geometry = self.conv.checked(&self.input, &ctx.inputs[1].shape);
        let kernel = Summing::of(&geometry, ctx.gpu).expect("made for a GPU of this kind");
        kernel.dispatches(&geometry, added, activation)
    }
}

fn check_grad(op: &str, geometry: &Geometry, grad: &TensorType) -> Result<()> {
    let [h, w] = geometry.output;
    let expected = TensorType::f32([geometry.batch, geometry.out_channels, h, w]);
    if *grad == expected { Ok(()) } else { Err(Error::operand(op, expected.to_string(), grad.to_string())) }
}

impl Graph {
    /// Convolves `x` (N, C, H, W) with `weight` (O, C/groups, KH, KW) and adds `bias` (O):
    /// shape (N, O, ⌊(H + 2·padding − dilation·(KH − 1) − 1)/stride⌋ + 1, …) (`torch.nn.functional.conv2d`).
    ///
    /// The CPU computes 3×3 and 5×5 kernels by Winograd's algorithm in tiles of a few rows and columns: a value that is not
    /// finite, or above 1e36, makes all results of the tiles that meet it NaN.
    ///
    /// # Errors
    /// [`Error::Operand`] where the shapes do not fit each other or the attributes.
    pub fn conv2d(&mut self, x: Value, weight: Value, bias: Option<Value>, conv: Conv2d) -> Result<Value> {
        let inputs: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        self.push1(conv, &inputs)
    }
}
