//! The functions and their derivatives as numbers, the same formulas as in the shader. All that loops over elements call
//! is `#[inline]`, since these loops stand in other modules.

use BinaryFunction::*;
use UnaryFunction::*;

use crate::ops::cpu::Float;

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

impl UnaryFunction {
    /// The number of the function in the shader.
    pub(super) fn code(self) -> u32 {
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
    pub(super) fn constants(self) -> (f64, f64) {
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

    #[inline]
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
    pub(super) fn derivative<F: Float>(self, v: F) -> F {
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

impl BinaryFunction {
    /// The number of the function in the shader.
    pub(super) fn code(self) -> u32 {
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

    pub(super) fn name(self) -> &'static str {
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

    #[inline]
    pub(super) fn value<F: Float>(self, x: F, y: F) -> F {
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

    #[inline]
    pub(super) fn derivative<F: Float>(self, by: Side, x: F, y: F) -> F {
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

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const INV_SQRT_2PI: f64 = 0.398_942_280_401_432_7;
/// The cubic coefficient of GELU's tanh form (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
const GELU_CUBIC: f64 = 0.044_715;

#[inline]
fn step<F: Float>(condition: bool) -> F {
    if condition { F::ONE } else { F::ZERO }
}

#[inline]
fn sign<F: Float>(x: F) -> F {
    step::<F>(x > F::ZERO) - step::<F>(x < F::ZERO)
}

/// Never exponentiates a positive number, so nothing overflows.
#[inline]
fn sigmoid<F: Float>(x: F) -> F {
    let e = (-x.abs()).exp();
    (if x >= F::ZERO { F::ONE } else { e }) / (F::ONE + e)
}

#[inline]
fn normal_cdf<F: Float>(x: F) -> F {
    F::from_f64(0.5) * (F::ONE + (x * F::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// (1 + tanh u)/2 as sigmoid(2u), which keeps its digits where tanh has rounded to −1.
#[inline]
fn gelu_tanh_share<F: Float>(x: F) -> F {
    sigmoid(F::from_f64(2.0 * SQRT_2_OVER_PI) * (x + F::from_f64(GELU_CUBIC) * x * x * x))
}
