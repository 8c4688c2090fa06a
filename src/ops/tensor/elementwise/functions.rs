//! The functions and their derivatives as numbers, the same formulas as in the shader. All that loops over elements call
//! is `#[inline(always)]`: what is not inlined into a loop is not compiled for the loop's instruction set.

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

    #[inline(always)]
    pub fn value<F: Float>(self, x: F) -> F {
        match self {
            Neg => -x,
            Exp => x.exp(),
            Log => x.ln(),
            Sqrt => x.sqrt(),
            Abs => x.abs(),
            Square => x * x,
            Reciprocal => F::ONE / x,
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
            Softplus => softplus(x),
            Clamp { min, max } => x.max(F::from_f64(min)).min(F::from_f64(max)),
            AddScalar(value) => x + F::from_f64(value),
            MulScalar(value) => x * F::from_f64(value),
            PowScalar(exponent) => power(x, exponent),
            Sign => sign(x),
        }
    }

    /// `grad` times the derivative at `v`: the input, or the output where [`Self::differentiates_by_output`]. Where the
    /// function is flat the gradient is 0 whatever comes from above, as in PyTorch.
    #[inline(always)]
    pub(super) fn gradient<F: Float>(self, grad: F, v: F) -> F {
        let pass = |passes: bool| if passes { grad } else { F::ZERO };
        match self {
            Neg => -grad,
            Log => grad / v,
            Sqrt => grad / (v + v),
            // A NaN passes: nothing is known of which side it is on.
            Relu => pass((v > F::ZERO) | v.is_nan()),
            LeakyRelu { .. } if v > F::ZERO => grad,
            LeakyRelu { negative_slope } => grad * F::from_f64(negative_slope),
            Clamp { min, max } => pass((v > F::from_f64(min)) & (v < F::from_f64(max))),
            AddScalar(_) => grad,
            PowScalar(0.0) | Sign => F::ZERO,
            _ => grad * self.derivative(v),
        }
    }

    /// The derivative, for those functions whose gradient is a product with it.
    #[inline(always)]
    fn derivative<F: Float>(self, v: F) -> F {
        let (half, one) = (F::from_f64(0.5), F::ONE);
        match self {
            Exp => v,
            Abs => sign(v),
            Square => v + v,
            Reciprocal => -(v * v),
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
            MulScalar(value) => F::from_f64(value),
            PowScalar(exponent) => F::from_f64(exponent) * power(v, exponent - 1.0),
            Neg | Log | Sqrt | Relu | LeakyRelu { .. } | Clamp { .. } | AddScalar(_) | Sign => {
                panic!("its gradient is no product with a derivative")
            }
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
    /// The binary cross-entropy of the sigmoid of the first, a logit, against the second, a target.
    BceWithLogits,
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
            BceWithLogits => 9,
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
            BceWithLogits => "bce_with_logits",
        }
    }

    #[inline(always)]
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
            BceWithLogits => bce_with_logits(x, y),
        }
    }

    /// `grad` times the derivative by one operand; 0 where the other operand alone counts, whatever comes from above.
    #[inline(always)]
    pub(super) fn gradient<F: Float>(self, by: Side, grad: F, x: F, y: F) -> F {
        let second = by == Side::Second;
        // Half in a tie, nothing for the one that lost. A NaN neither ties nor loses, and both operands get all.
        let share = |lost: bool| {
            if x == y {
                grad * F::from_f64(0.5)
            } else if lost {
                F::ZERO
            } else {
                grad
            }
        };
        match self {
            Sub if second => -grad,
            Add | Sub => grad,
            Mul => grad * if second { x } else { y },
            // In this order neither y² overflows nor does it vanish.
            Div if second => -grad * ((x / y) / y),
            Div => grad / y,
            // At a base of 0 the power is constant in the exponent.
            Pow if second && x == F::ZERO && y >= F::ZERO => grad * F::ZERO,
            Pow if second => grad * (x.powf(y) * x.ln()),
            Pow if y == F::ZERO => F::ZERO,
            Pow => grad * (y * x.powf(y - F::ONE)),
            Min => share(if second { y > x } else { x > y }),
            Max => share(if second { y < x } else { x < y }),
            Equal | Greater => F::ZERO,
            BceWithLogits if second => -grad * x,
            // σ(x) − y, for targets as they should be as a sum in which nothing cancels at 0 and 1.
            BceWithLogits if y >= F::ZERO && y <= F::ONE => grad * ((F::ONE - y) * sigmoid(x) - y * sigmoid(-x)),
            BceWithLogits => grad * (sigmoid(x) - y),
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

#[inline(always)]
fn step<F: Float>(condition: bool) -> F {
    if condition { F::ONE } else { F::ZERO }
}

#[inline(always)]
fn sign<F: Float>(x: F) -> F {
    step::<F>(x > F::ZERO) - step::<F>(x < F::ZERO)
}

/// Never exponentiates a positive number, so nothing overflows.
#[inline(always)]
fn sigmoid<F: Float>(x: F) -> F {
    let e = (-x.abs()).exp();
    (if x >= F::ZERO { F::ONE } else { e }) / (F::ONE + e)
}

#[inline(always)]
fn softplus<F: Float>(x: F) -> F {
    x.max(F::ZERO) + (-x.abs()).exp().ln_1p()
}

/// x to a power, by products and roots where PyTorch has it so; that is also more accurate on a GPU.
#[inline(always)]
fn power<F: Float>(x: F, exponent: f64) -> F {
    match exponent {
        0.5 => x.sqrt(),
        -0.5 => F::ONE / x.sqrt(),
        1.0 => x,
        -1.0 => F::ONE / x,
        2.0 => x * x,
        -2.0 => F::ONE / (x * x),
        3.0 => x * x * x,
        _ => x.powf(F::from_f64(exponent)),
    }
}

/// max(x, 0) − x·y + ln(1 + e^−|x|) with the first two in one, so that nothing cancels for targets in [0, 1]. Infinite
/// logits go by PyTorch's formula, whose terms cancel to NaN.
#[inline(always)]
fn bce_with_logits<F: Float>(x: F, y: F) -> F {
    if x.abs() == F::INFINITY {
        return (F::ONE - y) * x + softplus(-x);
    }
    let linear = if x > F::ZERO { (F::ONE - y) * x } else { -(y * x) };
    linear + (-x.abs()).exp().ln_1p()
}

/// By the complementary error function, since 1 + erf cancels for negative x.
#[inline(always)]
fn normal_cdf<F: Float>(x: F) -> F {
    F::from_f64(0.5) * (-x * F::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erfc()
}

/// (1 + tanh u)/2 as sigmoid(2u), which keeps its digits where tanh has rounded to −1.
#[inline(always)]
fn gelu_tanh_share<F: Float>(x: F) -> F {
    sigmoid(F::from_f64(2.0 * SQRT_2_OVER_PI) * (x + F::from_f64(GELU_CUBIC) * x * x * x))
}
