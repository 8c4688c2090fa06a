//! Exponentials of rows, which softmax and cross-entropy spend their time in: in f32 by blocks of as many elements as a
//! vector has, with the instructions that plain arithmetic does not reach where the CPU has them.

use pulp::{Simd, WithSimd};

use super::parallel::{self, LANES, for_blocks, map_row, sum_lanes};
use super::{Float, isa, math};

/// `y` = e to the power of `x − max`, element by element; gives the sum.
#[inline(always)]
pub(crate) fn exp_row<F: Float>(x: &[F], max: F, y: &mut [F]) -> F {
    if let (Some(x), Some(&[max]), Some(y)) = (F::as_f32(x), F::as_f32(&[max]), F::as_f32_mut(&mut *y)) {
        return F::from_f64(f64::from(isa::dispatch(Row { x, max, y })));
    }
    map_row(x, y, |x| (x - max).exp());
    parallel::sum([&*y], |[y]| y)
}

/// The sum of e to the power of `x − max`.
#[inline(always)]
pub(crate) fn exp_sum<F: Float>(x: &[F], max: F) -> F {
    if let (Some(x), Some(&[max])) = (F::as_f32(x), F::as_f32(&[max])) {
        return F::from_f64(f64::from(isa::dispatch(Sum { x, max })));
    }
    let mut lanes = [F::ZERO; LANES];
    for_blocks(x, -F::INFINITY, |block| lanes.iter_mut().zip(block).for_each(|(sum, x)| *sum += (x - max).exp()));
    sum_lanes(lanes)
}

struct Row<'a> {
    x: &'a [f32],
    max: f32,
    y: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Row { x, max, y } = self;
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
        let mut lanes = [0.0; LANES];
        for (y, x) in y.iter_mut().zip(x) {
            *y = exp_block(simd, *x, max);
            lanes.iter_mut().zip(*y).for_each(|(sum, y)| *sum += y);
        }
        if !y_rest.is_empty() {
            let mut block = [0.0; LANES];
            block[..x_rest.len()].copy_from_slice(x_rest);
            y_rest.copy_from_slice(&exp_block(simd, block, max)[..x_rest.len()]);
            lanes.iter_mut().zip(&*y_rest).for_each(|(sum, &y)| *sum += y);
        }
        sum_lanes(lanes)
    }
}

struct Sum<'a> {
    x: &'a [f32],
    max: f32,
}

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let mut lanes = [0.0; LANES];
        for_blocks(
            self.x,
            f32::NEG_INFINITY,
            #[inline(always)]
            |block| {
                let block = exp_block(simd, block, self.max);
                lanes.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
            },
        );
        sum_lanes(lanes)
    }
}

/// e to the power of `x − max` of each lane.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
fn exp_block<S: Simd>(simd: S, mut block: [f32; LANES], max: f32) -> [f32; LANES] {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        return exp_avx512(simd, block, max);
    }
    block.iter_mut().for_each(|x| *x = math::exp(*x - max));
    block
}

/// As [`math::exp`], with fused multiplications and one instruction for the power of 2, subnormal results included: half the
/// instructions.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn exp_avx512(simd: pulp::x86::V4, block: [f32; LANES], max: f32) -> [f32; LANES] {
    use std::arch::x86_64::__m512;
    let avx = simd.avx512f;
    let all = |x: f32| avx._mm512_set1_ps(x);
    let x = avx._mm512_sub_ps(pulp::cast(block), all(max));
    // The second operand stays where one is not a number.
    let x = avx._mm512_max_ps(all(math::EXP_LOWEST), avx._mm512_min_ps(all(math::EXP_HIGHEST), x));
    let rounded = avx._mm512_fmadd_ps(x, all(math::LOG2_E), all(math::ROUND));
    let n = avx._mm512_sub_ps(rounded, all(math::ROUND));
    let r = avx._mm512_fnmadd_ps(n, all(math::LN_2_HIGH), x);
    let r = avx._mm512_fnmadd_ps(n, all(math::LN_2_LOW), r);
    let mut p: __m512 = all(math::EXP_TERMS[0]);
    for term in &math::EXP_TERMS[1..] {
        p = avx._mm512_fmadd_ps(p, r, all(*term));
    }
    let p = avx._mm512_fmadd_ps(p, avx._mm512_mul_ps(r, r), avx._mm512_add_ps(r, all(1.0)));
    pulp::cast(avx._mm512_scalef_ps(p, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_exponentials_wherever_they_begin_and_end() {
        let x: Vec<f32> = (0..4000).map(|i| (i as f32 - 3600.0) * 0.03).collect();
        for (first, len) in [(0, 4000), (1, 33), (5, 3), (3999, 1), (7, 0)] {
            let x = &x[first..first + len];
            let mut y = vec![f32::NAN; len];
            let row_sum = exp_row(x, 0.5, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                // The difference is rounded before.
                let want = f64::from(x - 0.5).exp();
                // Two units in the last place, of a subnormal result of the least.
                let bound = (want * 2.0 * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
                assert!((f64::from(y) - want).abs() <= bound, "exp({x} - 0.5) = {y}, not {want}");
            }
            let (sum, want) = (exp_sum(x, 0.5), y.iter().map(|&y| f64::from(y)).sum::<f64>());
            // Thousands of roundings, half of them up.
            assert!((f64::from(sum) - want).abs() <= 1e-5 * want, "{sum}, not {want}");
            assert!((f64::from(row_sum) - want).abs() <= 1e-5 * want, "{row_sum}, not {want}");
        }
    }

    #[test]
    fn special_values_are_those_of_the_function() {
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 200.0, -200.0, 88.8, -104.5];
        let mut y = [0.0; 8];
        exp_row(&x, 0.0, &mut y);
        assert!(y[0].is_nan());
        assert_eq!(y[1..], [f32::INFINITY, 0.0, 1.0, f32::INFINITY, 0.0, f32::INFINITY, 0.0]);
        assert!(exp_sum(&x, 0.0).is_nan());
    }

    #[test]
    fn every_place_in_a_row_gives_the_same_bits() {
        let x: Vec<f32> = (0..50).map(|i| 1.7 - i as f32 * 0.31).collect();
        let mut whole = vec![0.0; 50];
        exp_row(&x, 0.2, &mut whole);
        for first in 1..34 {
            let mut part = vec![0.0; 50 - first];
            exp_row(&x[first..], 0.2, &mut part);
            assert_eq!(part, whole[first..]);
        }
    }
}
