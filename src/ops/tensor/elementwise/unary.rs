//! Ops of one operand.

use super::UnaryFunction::{self, *};
use super::{WORKGROUP_SIZE, dispatch};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, DispatchContext, Dispatches, Grid, grid};
use crate::ops::tensor::strided::Strided;
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// Elements that an invocation of unary_backward_vec4 computes.
const ELEMS_AT_ONCE: usize = 4;

/// `y = f(x)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unary(pub UnaryFunction);

/// `grad_x = grad_y · f'`, from (grad_y, x) or (grad_y, y).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UnaryBackward(pub UnaryFunction);

impl Operation for Unary {
    fn name(&self) -> &'static str {
        match self.0 {
            Neg => "neg",
            Exp => "exp",
            Log => "log",
            Sqrt => "sqrt",
            Abs => "abs",
            Square => "square",
            Reciprocal => "reciprocal",
            Relu => "relu",
            LeakyRelu { .. } => "leaky_relu",
            Sigmoid => "sigmoid",
            Tanh => "tanh",
            Gelu | GeluTanh => "gelu",
            Silu => "silu",
            Softplus => "softplus",
            Clamp { .. } => "clamp",
            AddScalar(_) => "add_scalar",
            MulScalar(_) => "mul_scalar",
            PowScalar(_) => "pow_scalar",
            Sign => "sign",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity(self.name(), inputs)?;
        check::float(self.name(), x)?;
        Ok(vec![x.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let operands = (ctx.float(0), ctx.output(0));
        // Those of most models get loops of their own, without a choice of function in it.
        match self.0 {
            Relu => for_values(operands, |x| Relu.value(x)),
            LeakyRelu { negative_slope } => for_values(operands, |x| LeakyRelu { negative_slope }.value(x)),
            Sigmoid => for_values(operands, |x| Sigmoid.value(x)),
            Tanh => for_values(operands, |x| Tanh.value(x)),
            Silu => for_values(operands, |x| Silu.value(x)),
            GeluTanh => for_values(operands, |x| GeluTanh.value(x)),
            Exp => for_values(operands, |x| Exp.value(x)),
            Square => for_values(operands, |x| Square.value(x)),
            Neg => for_values(operands, |x| Neg.value(x)),
            Abs => for_values(operands, |x| Abs.value(x)),
            Sqrt => for_values(operands, |x| Sqrt.value(x)),
            Reciprocal => for_values(operands, |x| Reciprocal.value(x)),
            Clamp { min, max } => for_values(operands, |x| Clamp { min, max }.value(x)),
            AddScalar(value) => for_values(operands, |x| AddScalar(value).value(x)),
            MulScalar(value) => for_values(operands, |x| MulScalar(value).value(x)),
            function => for_values(operands, |x| function.value(x)),
        }
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::rows(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape]);
        let bindings = [Binding::Input(0), Binding::Output(0)];
        Ok(dispatch("unary", self.0.code(), self.0.constants(), &walk, &bindings).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = vjp.grad_output();
        let grad_input = match self.0 {
            Neg => vjp.graph.neg(grad)?,
            AddScalar(_) => grad,
            MulScalar(value) => vjp.graph.mul_scalar(grad, value)?,
            function => {
                let at = if function.differentiates_by_output() { vjp.outputs[0] } else { vjp.inputs[0] };
                vjp.graph.push1(UnaryBackward(function), &[grad, at])?
            }
        };
        Ok(vec![Some(grad_input)])
    }

    fn ulps(&self) -> f64 {
        match self.0 {
            // Powers are exp(y · log x), with log x in two numbers.
            PowScalar(_) => 8.0,
            _ => 4.0,
        }
    }

    fn describe(&self) -> String {
        match self.0 {
            LeakyRelu { negative_slope } => format!("negative_slope {negative_slope}"),
            GeluTanh => "tanh".to_owned(),
            Clamp { min, max } => format!("{min} to {max}"),
            AddScalar(value) | MulScalar(value) | PowScalar(value) => value.to_string(),
            _ => String::new(),
        }
    }
}

/// `y = value(x)`, element by element.
#[inline(always)]
fn for_values<F: Float>((x, y): (&[F], &mut [F]), value: impl Fn(F) -> F + Send + Sync) {
    parallel::for_pieces(
        y,
        #[inline(always)]
        |start, piece| {
            for (y, &x) in piece.iter_mut().zip(&x[start..]) {
                *y = value(x);
            }
        },
    );
}

/// `out = gradient(grad, at)`, element by element.
#[inline(always)]
fn for_gradients<F: Float>((grad, at, out): (&[F], &[F], &mut [F]), gradient: impl Fn(F, F) -> F + Send + Sync) {
    parallel::for_pieces(
        out,
        #[inline(always)]
        |start, piece| {
            for ((out, &grad), &at) in piece.iter_mut().zip(&grad[start..]).zip(&at[start..]) {
                *out = gradient(grad, at);
            }
        },
    );
}

impl Operation for UnaryBackward {
    fn name(&self) -> &'static str {
        "unary_backward"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, at] = check::arity(self.name(), inputs)?;
        if grad != at {
            return Err(Error::operand(self.name(), grad.to_string(), at.to_string()));
        }
        Ok(vec![at.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let operands = (ctx.float(0), ctx.float(1), ctx.output(0));
        match self.0 {
            Relu => for_gradients(operands, |grad, at| Relu.gradient(grad, at)),
            LeakyRelu { negative_slope } => {
                for_gradients(operands, |grad, at| LeakyRelu { negative_slope }.gradient(grad, at));
            }
            Sigmoid => for_gradients(operands, |grad, at| Sigmoid.gradient(grad, at)),
            Tanh => for_gradients(operands, |grad, at| Tanh.gradient(grad, at)),
            Silu => for_gradients(operands, |grad, at| Silu.gradient(grad, at)),
            GeluTanh => for_gradients(operands, |grad, at| GeluTanh.gradient(grad, at)),
            Square => for_gradients(operands, |grad, at| Square.gradient(grad, at)),
            function => for_gradients(operands, |grad, at| function.gradient(grad, at)),
        }
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::rows(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape]);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        // A software adapter loads lane by lane: four elements at once are cheaper than one at a time.
        let is_vec4 = ctx.gpu.is_software && ctx.outputs[0].shape.num_elems().is_multiple_of(ELEMS_AT_ONCE);
        let entry_point = if is_vec4 { "unary_backward_vec4" } else { "unary_backward" };
        let mut dispatch = dispatch(entry_point, self.0.code(), self.0.constants(), &walk, &bindings);
        if is_vec4 {
            let Grid(workgroups) = grid(ctx.outputs[0].shape.num_elems() / ELEMS_AT_ONCE, WORKGROUP_SIZE);
            dispatch.workgroups = workgroups;
        }
        Ok(dispatch.into())
    }

    /// The slopes of these are sums and differences of terms of about 1, which cancel where a slope is small.
    fn term_size(&self, largest: &[f64]) -> f64 {
        match self.0 {
            Sigmoid | Tanh | Silu | Gelu | GeluTanh => largest[0],
            _ => 0.0,
        }
    }

    fn ulps(&self) -> f64 {
        Unary(self.0).ulps() + 4.0
    }

    fn describe(&self) -> String {
        Unary(self.0).name().to_owned()
    }
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),*) => $function:expr),* $(,)?) => {
        impl Graph {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error::Operand`] where `x` is not a float.
                pub fn $name(&mut self, x: Value, $($arg: f64),*) -> Result<Value> {
                    self.push1(Unary($function), &[x])
                }
            )*
        }
    };
}

unary_methods! {
    /// −x.
    neg() => Neg,
    /// eˣ, within 1 ulp on the CPU and 2 on a GPU.
    exp() => Exp,
    /// Natural logarithm, within 1 ulp on the CPU and 2 on a GPU.
    log() => Log,
    /// Square root.
    sqrt() => Sqrt,
    /// |x|; its gradient at 0 is 0.
    abs() => Abs,
    /// x².
    square() => Square,
    /// 1/x.
    reciprocal() => Reciprocal,
    /// max(x, 0); its gradient at 0 is 0 (`torch.relu`). A NaN stays one, and its gradient passes.
    relu() => Relu,
    /// x where positive, else `negative_slope`·x (`torch.nn.functional.leaky_relu`).
    leaky_relu(negative_slope) => LeakyRelu { negative_slope },
    /// 1/(1 + e⁻ˣ), within 3 ulps on the CPU and 4 on a GPU.
    sigmoid() => Sigmoid,
    /// Hyperbolic tangent, within 2 ulps.
    tanh() => Tanh,
    /// x·Φ(x) with the normal distribution function Φ (`torch.nn.functional.gelu`). Within 6 ulps on
    /// a GPU; on the CPU within about x² of them for negative x, as the rounding of x/√2 before an exponential has it.
    gelu() => Gelu,
    /// GELU by its tanh approximation (`gelu(approximate="tanh")`), within 64 ulps: for large negative x the rounding of
    /// the cubic before an exponential shows.
    gelu_tanh() => GeluTanh,
    /// x·sigmoid(x), also known as swish, within 5 ulps.
    silu() => Silu,
    /// ln(1 + eˣ), without overflow and within 3 ulps, small values too.
    softplus() => Softplus,
    /// x within [min, max], a NaN as it is; the gradient at the bounds is 0 (`torch.clamp` since 2.15).
    clamp(min, max) => Clamp { min, max },
    /// x + value.
    add_scalar(value) => AddScalar(value),
    /// x·value.
    mul_scalar(value) => MulScalar(value),
    /// x to a power. Exponents of ±½, ±1, ±2 and 3 are roots and products, as in PyTorch; others are within 1 ulp on the
    /// CPU and 8 on a GPU.
    pow_scalar(exponent) => PowScalar(exponent),
    /// −1, 0 or 1 by the sign of x, 0 for a NaN as in PyTorch; its gradient is 0.
    sign() => Sign,
}
