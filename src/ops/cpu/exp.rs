//! Exponentials of rows, which softmax and cross-entropy spend their time in: in f32 by blocks of as many elements as a
//! vector has, with the instructions that plain arithmetic does not reach where the CPU has them.

use pulp::{Simd, WithSimd};

use super::parallel::{self, LANES, map_row, max_of_lanes, padded, sum_lanes};
use super::{Float, isa, math};

/// What the exponentials of a row are taken from, and what they add up to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowScale<F> {
    /// The largest element that is a number; −∞ of none.
    pub max: F,
    /// Of e to the power of `x − max`.
    pub sum: F,
}

/// `y` = e to the power of `x − max`, element by element.
#[inline(always)]
pub(crate) fn exp_row<F: Float>(x: &[F], y: &mut [F]) -> RowScale<F> {
    if let (Some(x), Some(y)) = (F::as_f32(x), F::as_f32_mut(&mut *y)) {
        return isa::dispatch(Row { x, y }).convert();
    }
    let max = parallel::max_of(x);
    map_row(x, y, |x| (x - max).exp());
    RowScale { max, sum: parallel::sum([&*y], |[y]| y) }
}

/// `y` = softmax of each of the rows of `len` elements, of which there is at least one.
#[inline(always)]
pub(crate) fn softmax_rows<F: Float>(len: usize, x: &[F], y: &mut [F]) {
    // On shorter vectors a block is several, for which there are too few registers.
    if let (LANES, Some(x), Some(y)) = (isa::lanes(), F::as_f32(x), F::as_f32_mut(&mut *y)) {
        return isa::dispatch(SoftmaxRows { len, x, y });
    }
    for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(len)) {
        let inverse = F::ONE / exp_row(x, y).sum;
        y.iter_mut().for_each(|y| *y *= inverse);
    }
}

/// The scale of a row whose exponentials are not kept.
#[inline(always)]
pub(crate) fn exp_sum<F: Float>(x: &[F]) -> RowScale<F> {
    if let Some(x) = F::as_f32(x) {
        return isa::dispatch(Sum { x }).convert();
    }
    let max = parallel::max_of(x);
    RowScale { max, sum: parallel::sum([x], |[x]| (x - max).exp()) }
}

impl RowScale<f32> {
    /// The same in the type that it is computed for, which is f32.
    fn convert<F: Float>(self) -> RowScale<F> {
        RowScale { max: F::from_f64(f64::from(self.max)), sum: F::from_f64(f64::from(self.sum)) }
    }
}

struct Row<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = RowScale<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> RowScale<f32> {
        let Row { x, y } = self;
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
        let rest = load_rest(simd, x_rest);
        let max = max_of_lanes(x, rest);
        let mut lanes = [0.0; LANES];
        for (y, x) in y.iter_mut().zip(x) {
            *y = exp_block(simd, *x, max);
            add(simd, &mut lanes, y);
        }
        if !y_rest.is_empty() {
            let block = exp_block(simd, rest, max);
            add(simd, &mut lanes, &block);
            store_rest(simd, block, y_rest);
        }
        RowScale { max, sum: sum_lanes(lanes) }
    }
}

struct SoftmaxRows<'a> {
    len: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for SoftmaxRows<'_> {
    type Output = ();

    /// The maximum of a row is taken along with the exponentials of the one before: what is not in the first-level cache
    /// yet comes in while there is something to compute.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let SoftmaxRows { len, x, y } = self;
        let (first, first_rest) = x[..len].as_chunks::<LANES>();
        let mut max = max_of_lanes(first, load_rest(simd, first_rest));
        for (row, y) in y.chunks_exact_mut(len).enumerate() {
            let (x, next) = x[row * len..].split_at(len);
            let (x, x_rest) = x.as_chunks::<LANES>();
            // After the last row, that row once more.
            let (next, next_rest) = if next.is_empty() { (x, x_rest) } else { next[..len].as_chunks::<LANES>() };
            let (y_blocks, y_rest) = y.as_chunks_mut::<LANES>();
            let (mut sums, mut maxima) = ([0.0; LANES], load_rest(simd, next_rest));
            for ((y, x), next) in y_blocks.iter_mut().zip(x).zip(next) {
                *y = exp_block(simd, *x, max);
                add(simd, &mut sums, y);
                keep_larger(simd, &mut maxima, next);
            }
            if !y_rest.is_empty() {
                let block = exp_block(simd, load_rest(simd, x_rest), max);
                add(simd, &mut sums, &block);
                store_rest(simd, block, y_rest);
            }
            let inverse = 1.0 / sum_lanes(sums);
            y.iter_mut().for_each(|y| *y *= inverse);
            max = max_of_lanes(&[], maxima);
        }
    }
}

struct Sum<'a> {
    x: &'a [f32],
}

impl WithSimd for Sum<'_> {
    type Output = RowScale<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> RowScale<f32> {
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let rest = load_rest(simd, x_rest);
        let max = max_of_lanes(x, rest);
        let mut lanes = [0.0; LANES];
        for x in x {
            add(simd, &mut lanes, &exp_block(simd, *x, max));
        }
        if !x_rest.is_empty() {
            add(simd, &mut lanes, &exp_block(simd, rest, max));
        }
        RowScale { max, sum: sum_lanes(lanes) }
    }
}

/// Adds a block, as one vector where it is one: the compiler may cut a loop up as the sum of all lanes would have it.
#[inline(always)]
fn add<S: Simd>(simd: S, lanes: &mut [f32; LANES], block: &[f32; LANES]) {
    if S::F32_LANES == LANES {
        *lanes = bytemuck::cast(simd.add_f32s(bytemuck::cast(*lanes), bytemuck::cast(*block)));
    } else {
        lanes.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
    }
}

/// Keeps the larger number of each lane, as [`add`].
#[inline(always)]
fn keep_larger<S: Simd>(simd: S, lanes: &mut [f32; LANES], block: &[f32; LANES]) {
    if S::F32_LANES == LANES {
        // The second operand stays where one is not a number.
        *lanes = bytemuck::cast(simd.max_f32s(bytemuck::cast(*block), bytemuck::cast(*lanes)));
    } else {
        parallel::keep_larger(lanes, block);
    }
}

/// The end of a row, filled up with −∞, whose exponential is 0.
#[inline(always)]
fn load_rest<S: Simd>(simd: S, rest: &[f32]) -> [f32; LANES] {
    if S::F32_LANES != LANES {
        return padded(rest, f32::NEG_INFINITY);
    }
    let is_there = simd.mask_between_m32s(0, rest.len() as u32).mask();
    let block = simd.select_f32s(is_there, simd.partial_load_f32s(rest), simd.splat_f32s(f32::NEG_INFINITY));
    bytemuck::cast(block)
}

/// The first elements of a block to the end of a row.
#[inline(always)]
fn store_rest<S: Simd>(simd: S, block: [f32; LANES], rest: &mut [f32]) {
    if S::F32_LANES != LANES {
        rest.copy_from_slice(&block[..rest.len()]);
    } else {
        simd.partial_store_f32s(rest, bytemuck::cast(block));
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

/// (eʳ − 1 − r) / r² for |r| up to half of ln 2, the highest power first: within 4·10⁻⁹ of eʳ, a twentieth of a rounding.
#[cfg(target_arch = "x86_64")]
const TERMS: [f32; 5] = [1.381_443_3e-3, 8.368_797e-3, 4.166_839_6e-2, 1.666_652e-1, 4.999_999_4e-1];

/// As [`math::exp`], with fused multiplications and one instruction for the power of 2, subnormal results included: half the
/// instructions. No x is above the maximum, so that only the lower bound is looked at.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn exp_avx512(simd: pulp::x86::V4, block: [f32; LANES], max: f32) -> [f32; LANES] {
    let avx = simd.avx512f;
    let all = |x: f32| avx._mm512_set1_ps(x);
    let x = avx._mm512_sub_ps(pulp::cast(block), all(max));
    // The second operand stays where one is not a number.
    let x = avx._mm512_max_ps(all(math::EXP_LOWEST), x);
    let rounded = avx._mm512_fmadd_ps(x, all(math::LOG2_E), all(math::ROUND));
    let n = avx._mm512_sub_ps(rounded, all(math::ROUND));
    let r = avx._mm512_fnmadd_ps(n, all(math::LN_2_HIGH), x);
    let r = avx._mm512_fnmadd_ps(n, all(math::LN_2_LOW), r);
    let mut p = all(TERMS[0]);
    for term in [TERMS[1], TERMS[2], TERMS[3], TERMS[4], 1.0, 1.0] {
        p = avx._mm512_fmadd_ps(p, r, all(term));
    }
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
            let of_row = exp_row(x, &mut y);
            let max = x.last().copied().unwrap_or(f32::NEG_INFINITY);
            for (&x, &y) in x.iter().zip(&y) {
                // The difference is rounded before.
                let want = f64::from(x - max).exp();
                // Two units in the last place, of a subnormal result of the least.
                let bound = (want * 2.0 * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
                assert!((f64::from(y) - want).abs() <= bound, "exp({x} - {max}) = {y}, not {want}");
            }
            let want = y.iter().map(|&y| f64::from(y)).sum::<f64>();
            for scale in [of_row, exp_sum(x)] {
                assert_eq!(scale.max, max);
                // Thousands of roundings, half of them up.
                assert!((f64::from(scale.sum) - want).abs() <= 1e-5 * want, "{}, not {want}", scale.sum);
            }
        }
    }

    #[test]
    fn errors_are_at_most_two_units_in_the_last_place() {
        let (mut worst, mut y) = (0.0f64, [0.0; 16]);
        for first in (0..0x42ae_0000u32).step_by(16 * 997) {
            let mut x = [0.0; 16];
            x.iter_mut().zip(0..).skip(1).for_each(|(x, at)| *x = -f32::from_bits(first + 997 * at));
            exp_row(&x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).exp();
                worst = worst.max((f64::from(y) - want).abs() / 2f64.powi(want.log2().floor() as i32 - 23));
            }
        }
        assert!((0.5..=2.0).contains(&worst), "{worst}");
    }

    #[test]
    fn special_values_are_those_of_the_function() {
        let x = [f32::NAN, f32::NEG_INFINITY, 0.0, -200.0, f32::MIN, -104.5, -0.0];
        let mut y = [0.0; 7];
        assert!(exp_row(&x, &mut y).sum.is_nan() && y[0].is_nan());
        assert_eq!(y[1..], [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(exp_sum(&x).sum.is_nan());
        assert_eq!(exp_sum(&x[1..]).sum, 2.0);
        for x in [[f32::INFINITY; 20], [f32::NEG_INFINITY; 20], [f32::NAN; 20]] {
            assert!(exp_sum(&x[..3]).sum.is_nan() && exp_sum(&x).sum.is_nan());
        }
    }

    #[test]
    fn every_place_in_a_row_gives_the_same_bits() {
        let x: Vec<f32> = (0..50).map(|i| i as f32 * 0.31 - 17.0).collect();
        let mut whole = vec![0.0; 50];
        exp_row(&x, &mut whole);
        for first in 1..34 {
            let mut part = vec![0.0; 50 - first];
            exp_row(&x[first..], &mut part);
            assert_eq!(part, whole[first..]);
        }
    }

    #[test]
    fn rows_side_by_side_are_as_each_alone() {
        for len in [1, 10, 16, 47] {
            let x: Vec<f32> = (0..5 * len).map(|i| ((i * 7919) % 101) as f32 * 0.1).collect();
            let (mut all, mut one) = (vec![f32::NAN; 5 * len], vec![f32::NAN; len]);
            softmax_rows(len, &x, &mut all);
            for (x, all) in x.chunks_exact(len).zip(all.chunks_exact(len)) {
                softmax_rows(len, x, &mut one);
                assert_eq!(all, one);
                let inverse = 1.0 / exp_row(x, &mut one).sum;
                assert!(all.iter().zip(&one).all(|(&y, exp)| y == exp * inverse), "rows of {len}");
            }
        }
    }
}
