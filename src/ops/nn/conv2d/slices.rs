//! The gradients of a convolution by weight and bias as sums over slices of the batch's rows, which the optimizer adds up
//! as it reads them ([`PartialUpdate`](crate::ops::update::partial_update::PartialUpdate)): the first of the two passes of
//! [`Conv2dGradWeight`](super::Conv2dGradWeight) on a GPU. `graph/fuse/gpu` makes it; the CPU's kernel is the reference.

use super::gpu::Gradient;
use super::grad_weight::{self, MAX_PARTIALS, Slicing, slice_elems};
use super::{Conv2d, Geometry, check_grad};
use crate::Result;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, DispatchContext, Dispatches, GpuTraits};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};

/// From (grad_output, input): for each slice the gradient by the weight, then that by the bias, whether the convolution has
/// one or not. Shape (slices, elements).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conv2dGradSlices {
    pub conv: Conv2d,
    pub weight: Shape,
    /// Rows of the output, counted over all images.
    pub rows_per_slice: usize,
}

impl Conv2dGradSlices {
    /// The op in place of a convolution's gradient by the weight, on a GPU of this kind, if what it gives can be read by
    /// the vec4 and is not too much: a slice that is the only one is as much as the gradient itself.
    pub fn new(conv: Conv2d, input: &Shape, weight: &Shape, gpu: GpuTraits) -> Option<Self> {
        let geometry = conv.geometry(input, weight).ok()?;
        let Slicing { rows_per_slice, num_slices, .. } = Slicing::of(&geometry, gpu);
        let is_whole = weight.num_elems().is_multiple_of(4) && geometry.out_channels.is_multiple_of(4);
        let is_small = num_slices == 1 || num_slices * slice_elems(&geometry) <= MAX_PARTIALS;
        (is_whole && is_small).then(|| Conv2dGradSlices { conv, weight: weight.clone(), rows_per_slice })
    }

    /// Where the sums for the bias begin in a slice.
    pub fn bias_offset(&self) -> usize {
        self.weight.num_elems()
    }

    fn geometry(&self, inputs: &[TensorType]) -> Geometry {
        self.conv.checked(&inputs[1].shape, &self.weight)
    }

    fn num_rows(geometry: &Geometry) -> usize {
        geometry.batch * geometry.output[0]
    }
}

impl Operation for Conv2dGradSlices {
    fn name(&self) -> &'static str {
        "conv2d_grad_slices"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, x] = check::arity(self.name(), inputs)?;
        let geometry = self.conv.geometry(&x.shape, &self.weight)?;
        check_grad(self.name(), &geometry, grad)?;
        let num_slices = Self::num_rows(&geometry).div_ceil(self.rows_per_slice);
        Ok(vec![TensorType::f32([num_slices, slice_elems(&geometry)])])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry = self.geometry(ctx.inputs);
        let (grad, input) = (ctx.float(0), ctx.float(1));
        let row_products = geometry.out_channels * geometry.patch_elems() * geometry.output[1];
        let cost = self.rows_per_slice * row_products / slice_elems(&geometry);
        parallel::for_chunks(ctx.output(0), slice_elems(&geometry), cost, |slice, sums| {
            sums.fill(F::ZERO);
            let first = slice * self.rows_per_slice;
            for row in first..(first + self.rows_per_slice).min(Self::num_rows(&geometry)) {
                add_row(&geometry, row, (grad, input), sums);
            }
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.geometry(ctx.inputs);
        Ok(grad_weight::slices(&geometry, Gradient::Whole, Binding::Output(0), ctx.gpu).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        self.geometry(inputs).flops()
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        self.rows_per_slice * self.geometry(inputs).output[1]
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        // The weight's gradient sums products, the bias's the gradients themselves.
        largest[0] * largest[1].max(1.0)
    }

    fn describe(&self) -> String {
        self.conv.describe()
    }
}

/// Adds what a row of the output, counted over all images, gives to the sums for weight and bias.
fn add_row<F: Float>(geometry: &Geometry, row: usize, (grad, input): (&[F], &[F]), sums: &mut [F]) {
    let Geometry { in_channels, input: [in_h, in_w], out_channels, output: [out_h, out_w], kernel, conv, .. } =
        *geometry;
    let ([kernel_h, kernel_w], (image, y)) = (kernel, (row / out_h, row % out_h));
    let (of_weight, of_bias) = sums.split_at_mut(out_channels * geometry.patch_elems());
    for o in 0..out_channels {
        let grad = &grad[((image * out_channels + o) * out_h + y) * out_w..][..out_w];
        of_bias[o] = grad.iter().fold(of_bias[o], |sum, &grad| sum + grad);
        for patch_row in 0..geometry.group_in() * kernel_h {
            let (c, i) = (patch_row / kernel_h, patch_row % kernel_h);
            let input_y = y * conv.stride[0] + i * conv.dilation[0];
            if !(conv.padding[0]..conv.padding[0] + in_h).contains(&input_y) {
                continue;
            }
            let plane = image * in_channels + o / geometry.group_out() * geometry.group_in() + c;
            let input = &input[(plane * in_h + input_y - conv.padding[0]) * in_w..][..in_w];
            let sums = &mut of_weight[(o * geometry.group_in() * kernel_h + patch_row) * kernel_w..][..kernel_w];
            for (j, sum) in sums.iter_mut().enumerate() {
                for (x, &grad) in grad.iter().enumerate() {
                    let input_x = x * conv.stride[1] + j * conv.dilation[1];
                    if let Some(&input) = input_x.checked_sub(conv.padding[1]).and_then(|x| input.get(x)) {
                        *sum += grad * input;
                    }
                }
            }
        }
    }
}
