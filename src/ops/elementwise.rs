//! Elementwise functions of one and two operands, with NumPy's broadcasting, and their derivatives. Activations are
//! among them. Semantics are PyTorch's functions of the same names, subgradients at kinks included.

use super::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use super::strided::{MAX_RANK, Strided};
use super::{Operation, check};
use crate::exec::cpu::{CpuContext, Float, parallel};
use crate::graph::{Graph, Value, Vjp};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        shape: dims,
        a_strides: dims,
        b_strides: dims,
        c_strides: dims,
        rank: u32,
        num_elems: u32,
        alpha: f32,
        beta: f32,
    }
}

pub(super) static SHADER: Shader = Shader {
    name: "elementwise",
    source: concat!(include_str!("../../shaders/lib/index.wgsl"), include_str!("../../shaders/elementwise.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// A function of one operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum UnaryFunction {
    Neg,
    Exp,
    Log,
    Sqrt,
    Abs,
    Square,
    Reciprocal,
    Relu,
    LeakyRelu { negative_slope: f64 },
    Sigmoid,
    Tanh,
    Gelu,
    GeluTanh,
    Silu,
    Softplus,
    Clamp { min: f64, max: f64 },
    AddScalar(f64),
    MulScalar(f64),
    PowScalar(f64),
    Sign,
}

use UnaryFunction::*;

impl UnaryFunction {
    /// The number of the function in the shader.
    fn code(self) -> u32 {
        match self {
            Neg => 0,
            Exp => 1,
            Log => 2,
            Sqrt => 3,
            Abs => 4,
            Square => 5,
            Reciprocal => 6,
            Relu => 7,
            LeakyRelu { .. } => 8,
            Sigmoid => 9,
            Tanh => 10,
            Gelu => 11,
            GeluTanh => 12,
            Silu => 13,
            Softplus => 14,
            Clamp { .. } => 15,
            AddScalar(_) => 16,
            MulScalar(_) => 17,
            PowScalar(_) => 18,
            Sign => 19,
        }
    }

    /// The function's constants, as the shader takes them.
    fn constants(self) -> (f64, f64) {
        match self {
            LeakyRelu { negative_slope } => (negative_slope, 0.0),
            Clamp { min, max } => (min, max),
            AddScalar(value) | MulScalar(value) | PowScalar(value) => (value, 0.0),
            _ => (0.0, 0.0),
        }
    }

    /// Whether the derivative is written in terms of the output, which then is all that the backward needs.
    pub fn differentiates_by_output(self) -> bool {
        match self {
            Exp | Sqrt | Reciprocal | Relu | Sigmoid | Tanh => true,
            // With a negative slope below 0 the output's sign no longer tells the input's.
            LeakyRelu { negative_slope } => negative_slope >= 0.0,
            _ => false,
        }
    }

    pub fn value<F: Float>(self, x: F) -> F {
        match self {
            Neg => -x,
            Exp => x.exp(),
            Log => x.ln(),
            Sqrt => x.sqrt(),
            Abs => x.abs(),
            Square => x * x,
            Reciprocal => F::ONE / x,
            Relu if x.is_nan() => x,
            Relu => x.max(F::ZERO),
            LeakyRelu { negative_slope } => {
                if x > F::ZERO {
                    x
                } else {
                    F::from_f64(negative_slope) * x
                }
            }
            Sigmoid => sigmoid(x),
            Tanh => x.tanh(),
            Gelu => x * normal_cdf(x),
            GeluTanh => x * gelu_tanh_share(x),
            Silu => x * sigmoid(x),
            Softplus => x.max(F::ZERO) + (-x.abs()).exp().ln_1p(),
            Clamp { min, max } => {
                if x.is_nan() {
                    x
                } else {
                    x.max(F::from_f64(min)).min(F::from_f64(max))
                }
            }
            AddScalar(value) => x + F::from_f64(value),
            MulScalar(value) => x * F::from_f64(value),
            PowScalar(2.0) => x * x,
            PowScalar(exponent) => x.powf(F::from_f64(exponent)),
            Sign => sign(x),
        }
    }

    /// The derivative at `v`: the input, or the output where [`Self::differentiates_by_output`].
    #[inline(always)]
    fn derivative<F: Float>(self, v: F) -> F {
        let (half, one) = (F::from_f64(0.5), F::ONE);
        match self {
            Neg => -one,
            Exp => v,
            Log => one / v,
            Sqrt => half / v,
            Abs => sign(v),
            Square => v + v,
            Reciprocal => -(v * v),
            Relu => step(v > F::ZERO),
            LeakyRelu { negative_slope } => {
                if v > F::ZERO {
                    one
                } else {
                    F::from_f64(negative_slope)
                }
            }
            Sigmoid => v * (one - v),
            // Not 1 − v², which near ±1 loses the digits that the difference keeps.
            Tanh => (one - v) * (one + v),
            Gelu => normal_cdf(v) + v * F::from_f64(INV_SQRT_2PI) * (-(half * v * v)).exp(),
            GeluTanh => {
                let s = gelu_tanh_share(v);
                let inner = F::from_f64(SQRT_2_OVER_PI) * (one + F::from_f64(3.0 * GELU_CUBIC) * v * v);
                s + F::from_f64(2.0) * v * s * (one - s) * inner
            }
            Silu => {
                let s = sigmoid(v);
                s * (one + v * (one - s))
            }
            Softplus => sigmoid(v),
            Clamp { min, max } => step(v > F::from_f64(min) && v < F::from_f64(max)),
            AddScalar(_) => one,
            MulScalar(value) => F::from_f64(value),
            PowScalar(0.0) | Sign => F::ZERO,
            PowScalar(exponent) => F::from_f64(exponent) * v.powf(F::from_f64(exponent - 1.0)),
        }
    }
}

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const INV_SQRT_2PI: f64 = 0.398_942_280_401_432_7;
/// The cubic coefficient of GELU's tanh form (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
const GELU_CUBIC: f64 = 0.044_715;

fn step<F: Float>(condition: bool) -> F {
    if condition { F::ONE } else { F::ZERO }
}

fn sign<F: Float>(x: F) -> F {
    step::<F>(x > F::ZERO) - step::<F>(x < F::ZERO)
}

/// Never exponentiates a positive number, so nothing overflows.
fn sigmoid<F: Float>(x: F) -> F {
    let e = (-x.abs()).exp();
    (if x >= F::ZERO { F::ONE } else { e }) / (F::ONE + e)
}

fn normal_cdf<F: Float>(x: F) -> F {
    F::from_f64(0.5) * (F::ONE + (x * F::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// (1 + tanh u)/2 as sigmoid(2u), which keeps its digits where tanh has rounded to −1.
fn gelu_tanh_share<F: Float>(x: F) -> F {
    sigmoid(F::from_f64(2.0 * SQRT_2_OVER_PI) * (x + F::from_f64(GELU_CUBIC) * x * x * x))
}

/// A function of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryFunction {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// 1 where the operands are equal, else 0.
    Equal,
    /// 1 where the first is greater, else 0.
    Greater,
}

use BinaryFunction::*;

impl BinaryFunction {
    /// The number of the function in the shader.
    fn code(self) -> u32 {
        match self {
            Add => 0,
            Sub => 1,
            Mul => 2,
            Div => 3,
            Pow => 4,
            Min => 5,
            Max => 6,
            Equal => 7,
            Greater => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Add => "add",
            Sub => "sub",
            Mul => "mul",
            Div => "div",
            Pow => "pow",
            Min => "minimum",
            Max => "maximum",
            Equal => "equal",
            Greater => "greater",
        }
    }

    fn value<F: Float>(self, x: F, y: F) -> F {
        match self {
            Add => x + y,
            Sub => x - y,
            Mul => x * y,
            Div => x / y,
            Pow => x.powf(y),
            Min => x.min(y),
            Max => x.max(y),
            Equal => step(x == y),
            Greater => step(x > y),
        }
    }

    fn derivative<F: Float>(self, by: Side, x: F, y: F) -> F {
        let second = by == Side::Second;
        // All, half in a tie, or none.
        let share = |won: bool| if x == y { F::from_f64(0.5) } else { step(won) };
        match self {
            Add => F::ONE,
            Sub => {
                if second {
                    -F::ONE
                } else {
                    F::ONE
                }
            }
            Mul => {
                if second {
                    x
                } else {
                    y
                }
            }
            Div => {
                if second {
                    -x / (y * y)
                } else {
                    F::ONE / y
                }
            }
            // At a base of 0 the power is constant in the exponent.
            Pow if second && x == F::ZERO && y >= F::ZERO => F::ZERO,
            Pow if second => x.powf(y) * x.ln(),
            Pow if y == F::ZERO => F::ZERO,
            Pow => y * x.powf(y - F::ONE),
            Min => share((x < y) != second),
            Max => share((x > y) != second),
            Equal | Greater => F::ZERO,
        }
    }
}

/// One of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    First,
    Second,
}

/// `y = f(x)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unary(pub UnaryFunction);

/// `grad_x = grad_y · f'`, from (grad_y, x) or (grad_y, y).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UnaryBackward(pub UnaryFunction);

/// `y = f(a, b)`, broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binary(pub BinaryFunction);

/// `grad_y · ∂f/∂a` or `∂f/∂b` under y's shape, from (grad_y, a, b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BinaryBackward {
    pub function: BinaryFunction,
    pub by: Side,
}

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
        let (x, y) = (ctx.float(0), ctx.output(0));
        let function = self.0;
        parallel::for_pieces(y, |start, piece| {
            for (y, &x) in piece.iter_mut().zip(&x[start..]) {
                *y = function.value(x);
            }
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape]);
        let bindings = [Binding::Input(0), Binding::Output(0)];
        Ok(launch("unary", self.0.code(), self.0.constants(), &walk, &bindings).into())
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
            // The shader's erf is a polynomial with an absolute error of 1.5e-7, about 3 ulps of 1.
            Gelu => 8.0,
            // Powers are exp(y · log x): the error grows with the size of the exponent's argument.
            PowScalar(_) => 64.0,
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

/// `out = grad · derivative(at)`, element by element.
fn times_derivative<F: Float>((grad, at, out): (&[F], &[F], &mut [F]), derivative: impl Fn(F) -> F + Send + Sync) {
    parallel::for_pieces(out, |start, piece| {
        for ((out, &grad), &at) in piece.iter_mut().zip(&grad[start..]).zip(&at[start..]) {
            *out = grad * derivative(at);
        }
    });
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
            // The one in every training step gets a loop of its own, without a choice of function in it.
            Relu => times_derivative(operands, |at| Relu.derivative(at)),
            function => times_derivative(operands, |at| function.derivative(at)),
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape]);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        Ok(launch("unary_backward", self.0.code(), self.0.constants(), &walk, &bindings).into())
    }

    fn ulps(&self) -> f64 {
        Unary(self.0).ulps() + 4.0
    }

    fn describe(&self) -> String {
        Unary(self.0).name().to_owned()
    }
}

impl Operation for Binary {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [a, b] = check::arity(self.name(), inputs)?;
        check::float(self.name(), a)?;
        check::float(self.name(), b)?;
        broadcast(self.name(), &[&a.shape, &b.shape]).map(|shape| vec![TensorType::f32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (a, b, out) = (ctx.float(0), ctx.float(1), ctx.output(0));
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape, &ctx.inputs[1].shape]);
        let function = self.0;
        parallel::for_pieces(out, |start, piece| {
            walk.for_rows(start..start + piece.len(), |at, [a_at, b_at], [a_step, b_step], len| {
                let out = &mut piece[at - start..at - start + len];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = function.value(a[a_at + i * a_step], b[b_at + i * b_step]);
                }
            });
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape, &ctx.inputs[1].shape]);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        Ok(launch("binary", self.0.code(), (0.0, 0.0), &walk, &bindings).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = vjp.grad_output();
        let (a, b) = (vjp.inputs[0], vjp.inputs[1]);
        let mut grads = vec![None, None];
        for (input, by) in [Side::First, Side::Second].into_iter().enumerate() {
            if !vjp.needs(input) {
                continue;
            }
            let full = match (self.0, by) {
                (Add, _) | (Sub, Side::First) => grad,
                (Sub, Side::Second) => vjp.graph.neg(grad)?,
                (Mul, Side::First) => vjp.graph.mul(grad, b)?,
                (Mul, Side::Second) => vjp.graph.mul(grad, a)?,
                (function, by) => vjp.graph.push1(BinaryBackward { function, by }, &[grad, a, b])?,
            };
            let shape = vjp.graph.shape(vjp.inputs[input]).clone();
            grads[input] = Some(vjp.graph.sum_to(full, shape)?);
        }
        Ok(grads)
    }

    fn ulps(&self) -> f64 {
        // Powers are exp(y · log x): the error grows with the size of the exponent's argument.
        if self.0 == Pow { 64.0 } else { 4.0 }
    }
}

impl Operation for BinaryBackward {
    fn name(&self) -> &'static str {
        "binary_backward"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, a, b] = check::arity(self.name(), inputs)?;
        let shape = broadcast(self.name(), &[&grad.shape, &a.shape, &b.shape])?;
        Ok(vec![TensorType::f32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (grad, a, b, out) = (ctx.float(0), ctx.float(1), ctx.float(2), ctx.output(0));
        let shapes = [&ctx.inputs[0].shape, &ctx.inputs[1].shape, &ctx.inputs[2].shape];
        let walk = Strided::broadcast(&ctx.outputs[0].shape, shapes);
        let BinaryBackward { function, by } = *self;
        parallel::for_pieces(out, |start, piece| {
            walk.for_rows(start..start + piece.len(), |at, [g_at, a_at, b_at], [g_step, a_step, b_step], len| {
                let out = &mut piece[at - start..at - start + len];
                for (i, out) in out.iter_mut().enumerate() {
                    *out =
                        grad[g_at + i * g_step] * function.derivative(by, a[a_at + i * a_step], b[b_at + i * b_step]);
                }
            });
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let shapes = [&ctx.inputs[0].shape, &ctx.inputs[1].shape, &ctx.inputs[2].shape];
        let walk = Strided::broadcast(&ctx.outputs[0].shape, shapes);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Input(2), Binding::Output(0)];
        let dispatch = launch("binary_backward", self.function.code(), (0.0, 0.0), &walk, &bindings);
        Ok(dispatch.constant("BY_SECOND", u32::from(self.by == Side::Second)).into())
    }

    fn ulps(&self) -> f64 {
        Binary(self.function).ulps() + 8.0
    }

    fn describe(&self) -> String {
        format!("{} by the {:?} operand", self.function.name(), self.by).to_lowercase()
    }
}

fn launch<const N: usize>(
    entry_point: &'static str,
    code: u32,
    (alpha, beta): (f64, f64),
    walk: &Strided<N>,
    bindings: &[Binding],
) -> Dispatch {
    let num_elems: usize = walk.shape.iter().product();
    let strides = |operand: usize| if operand < N { walk.stride_dims(operand) } else { [0; MAX_RANK] };
    let params = Params {
        shape: walk.shape_dims(),
        a_strides: strides(0),
        b_strides: strides(1),
        c_strides: strides(2),
        rank: to_u32(walk.rank()),
        num_elems: to_u32(num_elems),
        // Kernels compute in f32.
        alpha: alpha as f32,
        beta: beta as f32,
    };
    Dispatch::new(&SHADER, entry_point, &params, bindings, grid(num_elems, WORKGROUP_SIZE))
        .constant("WG", WORKGROUP_SIZE)
        .constant("FUNCTION", code)
        .constant("CONTIGUOUS", u32::from(walk.is_contiguous()))
}

/// The shape that all operands stretch to.
fn broadcast(op: &str, shapes: &[&Shape]) -> Result<Shape> {
    let mut all = Shape::scalar();
    for shape in shapes {
        all = all.broadcast(shape).ok_or_else(|| {
            let got: Vec<String> = shapes.iter().map(|shape| shape.to_string()).collect();
            Error::operand(op, "shapes that broadcast (equal extents, or 1)", got.join(" and "))
        })?;
    }
    if all.rank() > MAX_RANK {
        return Err(Error::operand(op, format!("at most {MAX_RANK} dimensions"), all.to_string()));
    }
    Ok(all)
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
    /// eˣ.
    exp() => Exp,
    /// Natural logarithm.
    log() => Log,
    /// Square root.
    sqrt() => Sqrt,
    /// |x|; its gradient at 0 is 0.
    abs() => Abs,
    /// x².
    square() => Square,
    /// 1/x.
    reciprocal() => Reciprocal,
    /// max(x, 0); its gradient at 0 is 0 (`torch.relu`).
    relu() => Relu,
    /// x where positive, else `negative_slope`·x (`torch.nn.functional.leaky_relu`).
    leaky_relu(negative_slope) => LeakyRelu { negative_slope },
    /// 1/(1 + e⁻ˣ).
    sigmoid() => Sigmoid,
    /// Hyperbolic tangent.
    tanh() => Tanh,
    /// x·Φ(x) with the normal distribution function Φ (`torch.nn.functional.gelu`).
    gelu() => Gelu,
    /// GELU by its tanh approximation (`gelu(approximate="tanh")`).
    gelu_tanh() => GeluTanh,
    /// x·sigmoid(x), also known as swish.
    silu() => Silu,
    /// ln(1 + eˣ), without overflow.
    softplus() => Softplus,
    /// x within [min, max]; the gradient at the bounds is 0 (`torch.clamp` since 2.15).
    clamp(min, max) => Clamp { min, max },
    /// x + value.
    add_scalar(value) => AddScalar(value),
    /// x·value.
    mul_scalar(value) => MulScalar(value),
    /// x to a power.
    pow_scalar(exponent) => PowScalar(exponent),
    /// −1, 0 or 1 by the sign of x; its gradient is 0.
    sign() => Sign,
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $name:ident => $function:expr),* $(,)?) => {
        impl Graph {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error::Operand`] where an operand is not a float or the shapes do not broadcast.
                pub fn $name(&mut self, a: Value, b: Value) -> Result<Value> {
                    self.push1(Binary($function), &[a, b])
                }
            )*
        }
    };
}

binary_methods! {
    /// a + b, broadcast.
    add => Add,
    /// a − b, broadcast.
    sub => Sub,
    /// a·b, broadcast.
    mul => Mul,
    /// a/b, broadcast.
    div => Div,
    /// a to the power b, broadcast.
    pow => Pow,
    /// The smaller of a and b, broadcast; in a tie each gets half the gradient (`torch.minimum`).
    minimum => Min,
    /// The larger of a and b, broadcast; in a tie each gets half the gradient (`torch.maximum`).
    maximum => Max,
    /// 1 where a = b, else 0, broadcast; no gradient.
    equal => Equal,
    /// 1 where a > b, else 0, broadcast; no gradient.
    greater => Greater,
}
