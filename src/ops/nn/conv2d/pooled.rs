//! The gradients of a convolution whose output goes straight into max-pooling, as one op: of every window only the cell
//! that was chosen has a gradient, and a kernel that knows of it visits a quarter of the cells or fewer. `graph/fuse`
//! makes it from max_pool2d's gradient and conv2d's. In f32 on the CPU the kernels of `ops/cpu/conv/pooled.rs` compute
//! it; elsewhere the pooled gradient is scattered over its plane first and then handled as without pooling.

use super::gpu::Gradient;
use super::grad_weight;
use super::{Conv2d, Geometry, check_grad, cpu, gpu};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::conv::pooled::{self, MOST_CELLS, MOST_CELLS_OF_PLANE, Pooled};
use crate::ops::cpu::{CpuContext, Float, parallel, scratch};
use crate::ops::kernel::{Binding, DispatchContext, Dispatches};
use crate::ops::nn::max_pool2d::{MaxPool2d, MaxPool2dBackward};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

/// The gradients by weight, by bias and by input, those that are wanted, from (gradient of the pooled output, indices,
/// input) and, where the gradient by the input is wanted, weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conv2dPooledBackward {
    pub conv: Conv2d,
    pub pool: MaxPool2dBackward,
    pub weight: Shape,
    pub has_bias: bool,
    pub has_input: bool,
}

const GRAD: usize = 0;
const INDICES: usize = 1;
const INPUT: usize = 2;
const WEIGHT: usize = 3;

impl Conv2dPooledBackward {
    /// Whether a convolution followed by this pooling is one for the op: windows that do not overlap, so that a cell
    /// has the gradient of one window, and a convolution whose windows lie side by side in memory.
    pub fn applies(conv: &Conv2d, pool: &MaxPool2dBackward) -> bool {
        let pool = &pool.pool;
        let is_apart = [0, 1].iter().all(|&axis| pool.kernel_size[axis] <= pool.stride[axis]);
        let is_small = pool.kernel_size[0] * pool.kernel_size[1] <= MOST_CELLS;
        let is_plain = conv.stride == [1, 1] && conv.dilation == [1, 1] && conv.groups == 1;
        is_apart && is_small && is_plain && pool.dilation == [1, 1]
    }

    fn geometry(&self, input: &Shape) -> Geometry {
        self.conv.geometry(input, &self.weight).expect("infer checked the shapes")
    }

    /// The index of the gradient by the input among the outputs.
    fn input_output(&self) -> usize {
        1 + usize::from(self.has_bias)
    }

    /// The convolution's dispatches from the gradient at this binding. A pooled one has its cells at input 2 of each.
    fn dispatches_from(
        &self,
        geometry: &Geometry,
        grad: Binding,
        gradient: Gradient,
        ctx: &DispatchContext<'_>,
    ) -> Dispatches {
        // Scratch memory before that of the kernels here.
        let num_scratch = usize::from(gradient == Gradient::Whole);
        let mut all = Dispatches { list: Vec::new(), scratch_elems: vec![0; num_scratch] };
        let by_weight = grad_weight::dispatches(geometry, self.has_bias, gradient, ctx.gpu);
        let outputs = [Binding::Output(0), Binding::Output(1)];
        append(&mut all, by_weight, &[grad, Binding::Input(INPUT), Binding::Input(INDICES)], &outputs);
        if self.has_input {
            let by_input = gpu::grad_input(geometry, gradient, None, ctx.gpu);
            let output = [Binding::Output(self.input_output())];
            append(&mut all, by_input, &[grad, Binding::Input(WEIGHT), Binding::Input(INDICES)], &output);
        }
        all.scratch_elems.drain(..num_scratch);
        all
    }

    /// The type of the gradient before pooling.
    fn unpooled(&self, geometry: &Geometry) -> TensorType {
        let [height, width] = geometry.output;
        TensorType::f32([geometry.batch, geometry.out_channels, height, width])
    }
}

impl Operation for Conv2dPooledBackward {
    fn name(&self) -> &'static str {
        "conv2d_pooled_backward"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let expected = if self.has_input { 4 } else { 3 };
        if inputs.len() != expected {
            return Err(Error::operand(self.name(), format!("{expected} operands"), inputs.len().to_string()));
        }
        check::float(self.name(), &inputs[INPUT])?;
        let geometry = self.conv.geometry(&inputs[INPUT].shape, &self.weight)?;
        let unpooled = self.pool.infer(&inputs[..INPUT])?;
        check_grad(self.name(), &geometry, &unpooled[0])?;
        let mut outputs = vec![TensorType::f32(self.weight.clone())];
        if self.has_bias {
            outputs.push(TensorType::f32([geometry.out_channels]));
        }
        if self.has_input {
            if inputs[WEIGHT] != outputs[0] {
                return Err(Error::operand(self.name(), outputs[0].to_string(), inputs[WEIGHT].to_string()));
            }
            outputs.push(inputs[INPUT].clone());
        }
        Ok(outputs)
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry = self.geometry(&ctx.inputs[INPUT].shape);
        let (grad, indices, input) = (ctx.float(GRAD), ctx.u32(INDICES), ctx.float(INPUT));
        let [_, _, rows, columns] = ctx.dims(GRAD);
        let grad_weight = ctx.output(0);
        let grad_bias = self.has_bias.then(|| ctx.output(1));
        let by_input = self.has_input.then(|| (ctx.float(WEIGHT), ctx.output(self.input_output())));
        let factors = [grad, input, by_input.as_ref().map_or(&[], |(weight, _)| *weight)];
        let pool = self.pool.pool;
        // A window that is wider than the plane has cells of two rows side by side.
        let is_plain = pool.kernel_size[1] <= geometry.output[1] && geometry.out_pixels() <= MOST_CELLS_OF_PLANE;
        let is_sparse = is_plain && factors.iter().all(|factors| all_finite(factors));
        if let Some(grad) = F::as_f32(grad).filter(|_| is_sparse) {
            let (kernel, stride, padding) = (pool.kernel_size, pool.stride, pool.padding);
            let pooled = Pooled { grad, indices, output: [rows, columns], kernel, stride, padding };
            return sparse(&geometry, pooled, input, grad_weight, grad_bias, by_input);
        }
        let unpooled = self.unpooled(&geometry).shape.num_elems();
        scratch::with(unpooled, |full: &mut [F]| {
            self.pool.spread(grad, indices, rows * columns, full);
            cpu::grad_weight(&geometry, full, input, grad_weight, grad_bias);
            if let Some((weight, grad_input)) = by_input {
                cpu::grad_input(&geometry, full, weight, grad_input);
            }
        });
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let along = [Along::Rows, Along::Rows, Along::Rows, Along::Whole];
        let mut by_output = vec![Along::Sum; outputs.len()];
        if self.has_input {
            by_output[self.input_output()] = Along::Rows;
        }
        BatchForm::new(&along[..inputs.len()], by_output)
    }

    /// The convolution's dispatches if they take a pooled gradient; else the pooling's into scratch, then the
    /// convolution's from there.
    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.geometry(&ctx.inputs[INPUT].shape);
        if Gradient::is_taken(&geometry, ctx.gpu) && self.pool.pool == MaxPool2d::new([2, 2]) {
            return Ok(self.dispatches_from(&geometry, Binding::Input(GRAD), Gradient::Pooled(Binding::Input(2)), ctx));
        }
        let unpooled = [self.unpooled(&geometry)];
        let inputs = [Binding::Input(GRAD), Binding::Input(INDICES)];
        let spread = DispatchContext { inputs: &ctx.inputs[..INPUT], outputs: &unpooled, gpu: ctx.gpu };
        let mut all = Dispatches { list: Vec::new(), scratch_elems: vec![unpooled[0].shape.num_elems()] };
        append(&mut all, self.pool.dispatches(&spread)?, &inputs, &[Binding::ScratchMut(0)]);
        let more = self.dispatches_from(&geometry, Binding::Scratch(0), Gradient::Whole, ctx);
        all.list.extend(more.list);
        all.scratch_elems.extend(more.scratch_elems);
        Ok(all)
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        let geometry = self.geometry(&inputs[INPUT].shape);
        let share = inputs[GRAD].shape.num_elems() as u64;
        let products = share * geometry.patch_elems() as u64;
        2 * products * if self.has_input { 2 } else { 1 }
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let geometry = self.geometry(&inputs[INPUT].shape);
        let by_input = geometry.out_channels * geometry.kernel[0] * geometry.kernel[1];
        geometry.error_terms((geometry.batch * geometry.out_pixels()).max(by_input))
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        // The weight's gradient sums products, the bias's the gradients themselves.
        let factor = largest[INPUT..].iter().copied().fold(0.0, f64::max);
        largest[GRAD] * if self.has_bias { factor.max(1.0) } else { factor }
    }

    fn describe(&self) -> String {
        let parts = [self.conv.describe(), format!("pooled {}", self.pool.describe())];
        parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ")
    }
}

/// Appends an op's dispatches with its operands replaced and its scratch buffers after those that are there.
fn append(all: &mut Dispatches, more: Dispatches, inputs: &[Binding], outputs: &[Binding]) {
    let first = all.scratch_elems.len();
    for mut dispatch in more.list {
        for binding in &mut dispatch.bindings {
            *binding = match *binding {
                Binding::Input(index) => inputs[index],
                Binding::Output(index) => outputs[index],
                Binding::Scratch(index) => Binding::Scratch(first + index),
                Binding::ScratchMut(index) => Binding::ScratchMut(first + index),
                other => other,
            };
        }
        all.list.push(dispatch);
    }
    all.scratch_elems.extend(more.scratch_elems);
}

/// Whether products with 0 are 0. Checks all elements, because a loop without an early exit vectorises.
fn all_finite<F: Float>(values: &[F]) -> bool {
    parallel::simd(
        #[inline(always)]
        || values.iter().fold(true, |all, x| all & x.is_finite()),
    )
}

type ByInput<'a, F> = Option<(&'a [F], &'a mut [F])>;

/// The gradients from those of the chosen cells alone, over groups of images in order.
fn sparse<F: Float>(
    geometry: &Geometry,
    pooled: Pooled<'_>,
    input: &[F],
    grad_weight: &mut [F],
    grad_bias: Option<&mut [F]>,
    by_input: ByInput<'_, F>,
) {
    let layer = cpu::direct_layer(geometry).expect("the op is for convolutions without groups");
    let (image_in, image_out) = (geometry.in_channels * geometry.in_pixels(), geometry.out_channels * pooled.windows());
    let part = |index: usize| {
        let images = cpu::images(geometry, index);
        let outputs = images.start * image_out..images.end * image_out;
        (images, Pooled { grad: &pooled.grad[outputs.clone()], indices: &pooled.indices[outputs], ..pooled })
    };
    let f32s = "the gradient is f32, and all operands are of one type";
    let input = F::as_f32(input).expect(f32s);
    parallel::sum_partials(F::as_f32_mut(grad_weight).expect(f32s), cpu::num_groups(geometry), |index, partial| {
        let (images, pooled) = part(index);
        pooled::grad_weight(&layer, pooled, &input[images.start * image_in..images.end * image_in], partial);
    });
    if let Some(grad_bias) = grad_bias {
        pooled::grad_bias(pooled, F::as_f32_mut(grad_bias).expect(f32s));
    }
    if let Some((weight, grad_input)) = by_input {
        let weight = F::as_f32(weight).expect(f32s);
        let group = cpu::IMAGES_PER_GROUP * image_in;
        parallel::for_chunks(F::as_f32_mut(grad_input).expect(f32s), group, geometry.patch_elems(), |index, out| {
            pooled::grad_input(&layer, part(index).1, weight, out);
        });
    }
}
