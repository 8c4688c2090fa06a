//! The element type that CPU kernels are generic over: f32 on the CPU device, f64 on the reference device.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// A floating-point type with the functions that kernels call.
pub trait Float:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + MulAssign
    + Div<Output = Self>
    + Neg<Output = Self>
    + bytemuck::Pod
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The largest finite value.
    const LARGEST: Self;
    /// Infinity.
    const INFINITY: Self;

    /// The elements as f32 where that is what they are: the door to kernels that only f32 has.
    fn as_f32(slice: &[Self]) -> Option<&[f32]> {
        (size_of::<Self>() == size_of::<f32>()).then(|| bytemuck::cast_slice(slice))
    }
    /// [`Float::as_f32`] for elements to be written.
    fn as_f32_mut(slice: &mut [Self]) -> Option<&mut [f32]> {
        (size_of::<Self>() == size_of::<f32>()).then(|| bytemuck::cast_slice_mut(slice))
    }

    /// The nearest value to a double.
    fn from_f64(value: f64) -> Self;
    /// The value as a double, exactly.
    fn to_f64(self) -> f64;
    /// eˣ.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x), accurate near 0.
    fn ln_1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// 1 minus the error function, small values to their last digits.
    fn erfc(self) -> Self;
    /// Power.
    fn powf(self, exponent: Self) -> Self;
    /// The larger of two numbers; a NaN where either is one (`torch.maximum`).
    fn max(self, other: Self) -> Self;
    /// The smaller of two numbers; a NaN where either is one (`torch.minimum`).
    fn min(self, other: Self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// Whether it is neither infinite nor not a number.
    fn is_finite(self) -> bool;
}

macro_rules! impl_float {
    ($float:ident, $exp:path, $tanh:path, $erfc:path) => {
        impl Float for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LARGEST: Self = $float::MAX;
            const INFINITY: Self = $float::INFINITY;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                // The rounding is intentional.
                value as $float
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $float::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $float::ln_1p(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $float::abs(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn erfc(self) -> Self {
                $erfc(self)
            }
            #[inline(always)]
            fn powf(self, exponent: Self) -> Self {
                $float::powf(self, exponent)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if (self > other) | $float::is_nan(self) { self } else { other }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if (self < other) | $float::is_nan(self) { self } else { other }
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $float::is_nan(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $float::is_finite(self)
            }
        }
    };
}

impl_float!(f32, super::math::exp, super::math::tanh, libm::erfcf);
impl_float!(f64, f64::exp, f64::tanh, libm::erfc);
