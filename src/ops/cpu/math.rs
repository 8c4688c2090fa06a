//! exp and tanh in f32 as plain arithmetic without branches, so that loops over them become vector loops; the standard
//! library's are calls, element by element. Every element is computed in the same way wherever it lies in a vector.
//! Multiplication and addition are kept apart, since a fused one is a function call on CPUs without the instruction.
//!
//! The polynomials and the split of ln 2 are those of Cephes (`expf.c`, `tanhf.c`); errors are at most 2 units in the
//! last place, which the tests below go over.

/// log₂ e.
pub(super) const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The first nine bits of ln 2, so that products with small whole numbers are exact, and the rest.
pub(super) const LN_2_HIGH: f32 = 0.693_359_4;
pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 · 2²³: adding it rounds to a whole number, which then stands in the lowest bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Beyond these eˣ is 0 or infinite all the same.
pub(super) const EXP_LOWEST: f32 = -105.0;
pub(super) const EXP_HIGHEST: f32 = 90.0;
/// (eʳ − 1 − r) / r² for |r| up to half of ln 2, the highest power first.
pub(super) const EXP_TERMS: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// eˣ: infinite beyond f32's range, down to 0 through subnormal numbers, not-a-number for itself.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Written so that not-a-number stays.
    let x = if x > EXP_HIGHEST { EXP_HIGHEST } else { x };
    let x = if x < EXP_LOWEST { EXP_LOWEST } else { x };
    // x = n · ln 2 + r, with |r| at most half of ln 2.
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = EXP_TERMS[0];
    for term in &EXP_TERMS[1..] {
        p = p * r + term;
    }
    let p = p * (r * r) + r + 1.0;
    // 2ⁿ as two factors, each in range. Of not-a-number any factors will do.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_2(half) * power_of_2(n.wrapping_sub(half))
}

/// 2ⁿ for a normal result.
#[inline(always)]
fn power_of_2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The hyperbolic tangent; its sign is that of x.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let mut p = -5.704_988_7e-3;
    p = p * square + 2.063_909e-2;
    p = p * square - 5.373_971_6e-2;
    p = p * square + 1.333_144_2e-1;
    p = p * square - 3.333_328e-1;
    let near = p * square * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    (if size < 0.625 { near } else { far }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::parallel::simd;

    /// The largest error in units in the last place of the true value over every `step`th float between two.
    fn worst(
        function: impl Fn(f32) -> f32,
        truth: impl Fn(f64) -> f64,
        step: usize,
        keep: impl Fn(f32) -> bool,
    ) -> f64 {
        let mut worst = 0.0f64;
        for bits in (0..u32::MAX).step_by(step) {
            let x = f32::from_bits(bits);
            let want = truth(f64::from(x));
            if !keep(x) || want.abs() < f64::from(f32::MIN_POSITIVE) || want > f64::from(f32::MAX) {
                continue;
            }
            let exponent = want.abs().log2().floor() as i32;
            worst = worst.max((f64::from(function(x)) - want).abs() / 2f64.powi(exponent - 23));
        }
        worst
    }

    #[test]
    fn errors_are_at_most_two_units_in_the_last_place() {
        let of_exp = worst(exp, f64::exp, 4001, |x| x.is_finite());
        let of_tanh = worst(tanh, f64::tanh, 4001, |x| x.is_finite());
        assert!((0.5..=2.0).contains(&of_exp) && (0.5..=2.0).contains(&of_tanh), "exp {of_exp}, tanh {of_tanh}");
    }

    #[test]
    fn special_values_are_those_of_the_functions() {
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && tanh(-f32::NAN).is_nan());
        assert_eq!([exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(0.0), exp(-0.0)], [f32::INFINITY, 0.0, 1.0, 1.0]);
        assert_eq!([exp(88.8), exp(-104.5), exp(f32::MAX), exp(f32::MIN)], [f32::INFINITY, 0.0, f32::INFINITY, 0.0]);
        assert!(exp(88.7) < f32::INFINITY && exp(-100.0) > 0.0);
        assert_eq!([tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(20.0)], [1.0, -1.0, 1.0]);
        assert_eq!([tanh(0.0).to_bits(), tanh(-0.0).to_bits()], [0.0f32.to_bits(), (-0.0f32).to_bits()]);
    }

    #[test]
    fn every_place_in_a_vector_gives_the_same_bits() {
        let values: Vec<f32> = (0..2000).map(|i| (i as f32 - 1000.0) * 0.11).collect();
        for first in 0..17 {
            let mut out = values[first..].to_vec();
            simd(|| out.iter_mut().for_each(|x| *x = exp(*x) + tanh(*x)));
            let alone = |x: f32| simd(|| std::hint::black_box(exp(x) + tanh(x)));
            assert!(out.iter().zip(&values[first..]).all(|(got, &x)| got.to_bits() == alone(x).to_bits()));
        }
    }
}
