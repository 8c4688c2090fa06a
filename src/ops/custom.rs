//! Operations of a user's own, with their own gradient: the counterpart of a hand-written `torch.autograd.Function`.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use super::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Kernel};
use super::{Operation, check};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::cpu::{CpuContext, Float};
use crate::tensor::{Shape, Tensor, TensorType};
use crate::{Error, Result};

/// An operation that a user writes: shapes, a forward and a backward, and WGSL for both if it is to run on a GPU.
///
/// Code for the CPU works in f64 whatever the device: it is written once, and in the precision that
/// [`gradcheck`](crate::gradcheck()) and the comparison with a GPU need. On [`Device::Cpu`](crate::Device::Cpu) values
/// are converted on the way in and out, which costs a copy; an op that this makes too slow belongs among the built-in
/// ones.
///
/// ```
/// use wgrad::ops::{Array, ArrayMut, CustomOp};
/// use wgrad::{Result, Shape, Tensor, gradcheck};
///
/// /// y = x³
/// #[derive(Debug)]
/// struct Cube;
///
/// impl CustomOp for Cube {
///     fn name(&self) -> &str {
///         "cube"
///     }
///     fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
///         Ok(inputs.to_vec())
///     }
///     fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
///         for (y, x) in outputs[0].data.iter_mut().zip(inputs[0].data) {
///             *y = x * x * x;
///         }
///     }
///     fn backward(
///         &self,
///         inputs: &[Array<'_>],
///         _outputs: &[Array<'_>],
///         grad_outputs: &[Array<'_>],
///         grad_inputs: &mut [ArrayMut<'_>],
///     ) {
///         let given = grad_outputs[0].data.iter().zip(inputs[0].data);
///         for (grad_x, (grad_y, x)) in grad_inputs[0].data.iter_mut().zip(given) {
///             *grad_x = grad_y * 3.0 * x * x;
///         }
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let x = Tensor::f64([3], vec![0.5, -1.0, 2.0])?;
/// assert_eq!(gradcheck(&[x], |graph, inputs| graph.custom(Cube, inputs))?, None);
/// # Ok(())
/// # }
/// ```
pub trait CustomOp: Send + Sync + Debug {
    /// The name that plans, messages and kernel labels show.
    fn name(&self) -> &str;

    /// The shapes of the outputs, or what is wrong with the inputs ([`Error::Operand`]).
    ///
    /// # Errors
    /// Where the op cannot take inputs of these shapes, or not that many.
    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>>;

    /// Computes the outputs, which are zero before.
    fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]);

    /// Computes the gradient of each input from those of the outputs; they are zero before.
    fn backward(
        &self,
        inputs: &[Array<'_>],
        outputs: &[Array<'_>],
        grad_outputs: &[Array<'_>],
        grad_inputs: &mut [ArrayMut<'_>],
    );

    /// The kernel that computes the outputs on a GPU. Its bindings from 1 on are the inputs (`read`), then the outputs
    /// (`read_write`), all `array<f32>`.
    fn forward_wgsl(&self, _inputs: &[Shape]) -> Option<CustomKernel> {
        None
    }

    /// The kernel that computes the gradients on a GPU. Its bindings from 1 on are the inputs, the outputs and the
    /// gradients of the outputs (`read`), then the gradients of the inputs (`read_write`), all `array<f32>`.
    fn backward_wgsl(&self, _inputs: &[Shape]) -> Option<CustomKernel> {
        None
    }
}

/// A tensor that a [`CustomOp`] reads, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    /// Its shape.
    pub shape: &'a Shape,
    /// Its elements.
    pub data: &'a [f64],
}

/// A tensor that a [`CustomOp`] writes, row-major.
#[derive(Debug)]
pub struct ArrayMut<'a> {
    /// Its shape.
    pub shape: &'a Shape,
    /// Its elements.
    pub data: &'a mut [f64],
}

/// One dispatch of a user-defined kernel.
#[derive(Clone, Debug)]
pub struct CustomKernel {
    /// A whole WGSL module. WGSL lets a compiler assume that neither infinities nor NaN occur and rearrange sums and
    /// products, so what these become is only certain where the kernel tests the bits of a number.
    pub source: Cow<'static, str>,
    /// The function in it that runs.
    pub entry_point: Cow<'static, str>,
    /// What `@group(0) @binding(0) var<uniform>` holds: words of 4 bytes, floats by `f32::to_bits`. Sizes belong here,
    /// since buffers may be longer than their tensors; without any, leave the binding out of the WGSL.
    pub params: Vec<u32>,
    /// Workgroups in x, y and z, at most 65,535 each.
    pub workgroups: [u32; 3],
}

/// A user's op.
#[derive(Clone, Debug)]
pub(crate) struct Custom(pub Arc<dyn CustomOp>);

/// The gradients of a user's op, from (inputs, outputs, gradients of the outputs).
#[derive(Clone, Debug)]
pub(crate) struct CustomBackward {
    pub op: Arc<dyn CustomOp>,
    pub num_inputs: usize,
    pub num_outputs: usize,
}

/// Inputs and outputs of a run in f64.
struct Arrays {
    inputs: Vec<Vec<f64>>,
    outputs: Vec<Vec<f64>>,
}

impl Arrays {
    fn new<F: Float>(ctx: &CpuContext<'_, F>) -> Self {
        let widen = |index: usize| ctx.float(index).iter().map(|x| x.to_f64()).collect();
        Arrays {
            inputs: (0..ctx.inputs.len()).map(widen).collect(),
            outputs: ctx.outputs.iter().map(|ty| vec![0.0; ty.shape.num_elems()]).collect(),
        }
    }

    /// What the user's function reads, and what it writes.
    fn views<'a>(
        &'a mut self,
        inputs: &'a [TensorType],
        outputs: &'a [TensorType],
    ) -> (Vec<Array<'a>>, Vec<ArrayMut<'a>>) {
        let read = self.inputs.iter().zip(inputs).map(|(data, ty)| Array { shape: &ty.shape, data }).collect();
        let write =
            self.outputs.iter_mut().zip(outputs).map(|(data, ty)| ArrayMut { shape: &ty.shape, data }).collect();
        (read, write)
    }

    fn store<F: Float>(self, ctx: &mut CpuContext<'_, F>) {
        for (index, values) in self.outputs.into_iter().enumerate() {
            for (out, value) in ctx.output(index).iter_mut().zip(values) {
                *out = F::from_f64(value);
            }
        }
    }
}

fn shapes(types: &[TensorType]) -> Vec<Shape> {
    types.iter().map(|ty| ty.shape.clone()).collect()
}

/// The dispatch of a user-defined kernel over all inputs and outputs.
fn dispatch(
    op: &dyn CustomOp,
    kernel: Option<CustomKernel>,
    method: &str,
    ctx: &DispatchContext<'_>,
) -> Result<Dispatches> {
    let Some(CustomKernel { source, entry_point, mut params, workgroups }) = kernel else {
        return Err(Error::Unsupported {
            op: op.name().to_owned(),
            device: "a GPU".to_owned(),
            reason: format!("it has no WGSL; implement CustomOp::{method}, or use the CPU"),
        });
    };
    // A binding cannot be empty.
    if params.is_empty() {
        params.push(0);
    }
    let inputs = (0..ctx.inputs.len()).map(Binding::Input);
    let outputs = (0..ctx.outputs.len()).map(Binding::Output);
    let dispatch = Dispatch {
        kernel: Kernel::custom(op.name(), source, entry_point),
        params: bytemuck::cast_slice(&params).to_vec(),
        bindings: inputs.chain(outputs).collect(),
        workgroups,
        // The author of the kernel knows how long its loops may be.
        loop_iterations: None,
    };
    Ok(dispatch.into())
}

/// Nothing is known of what the op sums, so every element of every input counts.
fn num_terms(inputs: &[TensorType]) -> usize {
    inputs.iter().map(|ty| ty.shape.num_elems()).sum::<usize>().max(1)
}

/// Nothing is known of the functions that the op calls either: room for a few approximated ones.
const ULPS: f64 = 16.0;

impl Operation for Custom {
    fn name(&self) -> &'static str {
        "custom"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        for input in inputs {
            check::float(self.0.name(), input)?;
        }
        Ok(self.0.output_shapes(&shapes(inputs))?.into_iter().map(TensorType::f32).collect())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let mut arrays = Arrays::new(ctx);
        let (inputs, mut outputs) = arrays.views(ctx.inputs, ctx.outputs);
        self.0.forward(&inputs, &mut outputs);
        arrays.store(ctx);
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        dispatch(&*self.0, self.0.forward_wgsl(&shapes(ctx.inputs)), "forward_wgsl", ctx)
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let mut operands = [vjp.inputs, vjp.outputs].concat();
        for (&output, &grad) in vjp.outputs.iter().zip(vjp.grad_outputs) {
            let grad = match grad {
                Some(grad) => grad,
                // The loss does not depend on this output.
                None => {
                    let shape = vjp.graph.shape(output).clone();
                    let zero = vjp.graph.constant(Tensor::scalar(0.0));
                    vjp.graph.broadcast_to(zero, shape)?
                }
            };
            operands.push(grad);
        }
        let (num_inputs, num_outputs) = (vjp.inputs.len(), vjp.outputs.len());
        let backward = CustomBackward { op: Arc::clone(&self.0), num_inputs, num_outputs };
        Ok(vjp.graph.push(backward, &operands)?.into_iter().map(Some).collect())
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        num_terms(inputs)
    }

    fn ulps(&self) -> f64 {
        ULPS
    }

    fn describe(&self) -> String {
        self.0.name().to_owned()
    }
}

impl Operation for CustomBackward {
    fn name(&self) -> &'static str {
        "custom_backward"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(inputs[..self.num_inputs].to_vec())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let mut arrays = Arrays::new(ctx);
        let (given, mut grad_inputs) = arrays.views(ctx.inputs, ctx.outputs);
        let (inputs, given) = given.split_at(self.num_inputs);
        let (outputs, grad_outputs) = given.split_at(self.num_outputs);
        self.op.backward(inputs, outputs, grad_outputs, &mut grad_inputs);
        arrays.store(ctx);
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let kernel = self.op.backward_wgsl(&shapes(&ctx.inputs[..self.num_inputs]));
        dispatch(&*self.op, kernel, "backward_wgsl", ctx)
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        num_terms(inputs)
    }

    fn ulps(&self) -> f64 {
        ULPS
    }

    fn describe(&self) -> String {
        self.op.name().to_owned()
    }
}

impl Graph {
    /// The outputs of a user's own op over float inputs (`torch.autograd.Function.apply`).
    ///
    /// # Errors
    /// What [`CustomOp::output_shapes`] returns; [`Error::Operand`] where an input is not a float. Compiling for a GPU
    /// gives [`Error::Unsupported`] where the op has no WGSL.
    pub fn custom(&mut self, op: impl CustomOp + 'static, inputs: &[Value]) -> Result<Vec<Value>> {
        self.push(Custom(Arc::new(op)), inputs)
    }
}
