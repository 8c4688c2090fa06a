//! Exponentials of rows, which softmax and cross-entropy spend their time in: in f32 by blocks of a fixed length, with the
//! instructions that plain arithmetic does not reach where the CPU has them. Their results do not depend on the length of
//! its vectors.

use pulp::{Simd, WithSimd};

use super::parallel::{self, LANES, map_row, sum_lanes};
use super::unroll::unroll;
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
    if let (Some(x), Some(y)) = (in_vectors(x), F::as_f32_mut(&mut *y)) {
        return isa::dispatch(Blocks(Row { x, y })).convert();
    }
    let max = parallel::max_of(x);
    map_row(x, y, |x| (x - max).exp());
    RowScale { max, sum: parallel::sum([&*y], |[y]| y) }
}

/// `y` = softmax of each of the rows of `len` elements, of which there is at least one.
#[inline(always)]
pub(crate) fn softmax_rows<F: Float>(len: usize, x: &[F], y: &mut [F]) {
    if let (Some(x), Some(y)) = (in_vectors(x), F::as_f32_mut(&mut *y)) {
        return isa::dispatch(Blocks(SoftmaxRows { len, x, y }));
    }
    for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(len)) {
        let inverse = F::ONE / exp_row(x, y).sum;
        y.iter_mut().for_each(|y| *y *= inverse);
    }
}

/// The scale of a row whose exponentials are not kept.
#[inline(always)]
pub(crate) fn exp_sum<F: Float>(x: &[F]) -> RowScale<F> {
    if let Some(x) = in_vectors(x) {
        return isa::dispatch(Blocks(Sum { x })).convert();
    }
    let max = parallel::max_of(x);
    RowScale { max, sum: parallel::sum([x], |[x]| (x - max).exp()) }
}

/// The row in f32 where that is what it is, and where there are vectors.
#[inline(always)]
fn in_vectors<F: Float>(x: &[F]) -> Option<&[f32]> {
    F::as_f32(x).filter(|_| isa::lanes() > 1)
}

impl RowScale<f32> {
    /// The same in the type that it is computed for, which is f32.
    fn convert<F: Float>(self) -> RowScale<F> {
        RowScale { max: F::from_f64(f64::from(self.max)), sum: F::from_f64(f64::from(self.sum)) }
    }
}

/// [`LANES`] elements as V vectors.
type Block<S, const V: usize> = [<S as Simd>::f32s; V];

/// A kernel that goes by blocks of V vectors.
trait ByBlocks {
    type Output;
    fn run<S: Simd, const V: usize>(self, simd: S) -> Self::Output;
}

/// Runs a kernel on blocks of [`LANES`] elements.
struct Blocks<K>(K);

impl<K: ByBlocks> WithSimd for Blocks<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        match LANES / S::F32_LANES {
            1 => self.0.run::<S, 1>(simd),
            2 => self.0.run::<S, 2>(simd),
            // Of NEON; without vectors nothing comes here.
            _ => self.0.run::<S, 4>(simd),
        }
    }
}

struct Row<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl ByBlocks for Row<'_> {
    type Output = RowScale<f32>;

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> RowScale<f32> {
        let Row { x, y } = self;
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
        let rest = load_rest::<S, V>(simd, x_rest);
        let max = max_of_blocks::<S, V>(simd, x, rest);
        let mut sums = [simd.splat_f32s(0.0); V];
        for (y, x) in y.iter_mut().zip(x) {
            let block = exp_block(simd, load::<S, V>(x), max);
            add(simd, &mut sums, block);
            store::<S, V>(block, y);
        }
        if !y_rest.is_empty() {
            let block = exp_block(simd, rest, max);
            add(simd, &mut sums, block);
            store_rest::<S, V>(simd, block, y_rest);
        }
        RowScale { max, sum: sum_lanes(lanes::<S, V>(sums)) }
    }
}

struct SoftmaxRows<'a> {
    len: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl ByBlocks for SoftmaxRows<'_> {
    type Output = ();

    /// The maximum of a row is taken along with the exponentials of the one before: what is not in the first-level cache
    /// yet comes in while there is something to compute.
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let SoftmaxRows { len, x, y } = self;
        let (first, first_rest) = x[..len].as_chunks::<LANES>();
        let mut max = max_of_blocks::<S, V>(simd, first, load_rest::<S, V>(simd, first_rest));
        for (row, y) in y.chunks_exact_mut(len).enumerate() {
            let (x, next) = x[row * len..].split_at(len);
            let (x, x_rest) = x.as_chunks::<LANES>();
            // After the last row, that row once more.
            let (next, next_rest) = if next.is_empty() { (x, x_rest) } else { next[..len].as_chunks::<LANES>() };
            let (y_blocks, y_rest) = y.as_chunks_mut::<LANES>();
            let (mut sums, mut maxima) = ([simd.splat_f32s(0.0); V], load_rest::<S, V>(simd, next_rest));
            for ((y, x), next) in y_blocks.iter_mut().zip(x).zip(next) {
                let block = exp_block(simd, load::<S, V>(x), max);
                add(simd, &mut sums, block);
                keep_larger(simd, &mut maxima, load::<S, V>(next));
                store::<S, V>(block, y);
            }
            if !y_rest.is_empty() {
                let block = exp_block(simd, load_rest::<S, V>(simd, x_rest), max);
                add(simd, &mut sums, block);
                store_rest::<S, V>(simd, block, y_rest);
            }
            let inverse = 1.0 / sum_lanes(lanes::<S, V>(sums));
            y.iter_mut().for_each(|y| *y *= inverse);
            max = largest::<S, V>(maxima);
        }
    }
}

struct Sum<'a> {
    x: &'a [f32],
}

impl ByBlocks for Sum<'_> {
    type Output = RowScale<f32>;

    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) -> RowScale<f32> {
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let rest = load_rest::<S, V>(simd, x_rest);
        let max = max_of_blocks::<S, V>(simd, x, rest);
        let mut sums = [simd.splat_f32s(0.0); V];
        for x in x {
            add(simd, &mut sums, exp_block(simd, load::<S, V>(x), max));
        }
        if !x_rest.is_empty() {
            add(simd, &mut sums, exp_block(simd, rest, max));
        }
        RowScale { max, sum: sum_lanes(lanes::<S, V>(sums)) }
    }
}

#[inline(always)]
fn load<S: Simd, const V: usize>(x: &[f32; LANES]) -> Block<S, V> {
    *S::as_simd_f32s(x).0.first_chunk().expect("V vectors are a block")
}

#[inline(always)]
fn store<S: Simd, const V: usize>(block: Block<S, V>, y: &mut [f32; LANES]) {
    *S::as_mut_simd_f32s(y).0.first_chunk_mut().expect("V vectors are a block") = block;
}

#[inline(always)]
fn lanes<S: Simd, const V: usize>(block: Block<S, V>) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    store::<S, V>(block, &mut lanes);
    lanes
}

/// The part of a block's end that is in its vector v.
#[inline(always)]
fn part<S: Simd>(rest: usize, v: usize) -> std::ops::Range<usize> {
    rest.min(v * S::F32_LANES)..rest.min((v + 1) * S::F32_LANES)
}

/// The end of a row, filled up with −∞, whose exponential is 0.
#[inline(always)]
fn load_rest<S: Simd, const V: usize>(simd: S, rest: &[f32]) -> Block<S, V> {
    let nothing = simd.splat_f32s(f32::NEG_INFINITY);
    let mut block = [nothing; V];
    unroll!(v in 0..V, up to 4 => {
        let part = part::<S>(rest.len(), v);
        let is_there = simd.mask_between_m32s(0, part.len() as u32).mask();
        block[v] = simd.select_f32s(is_there, simd.partial_load_f32s(&rest[part]), nothing);
    });
    block
}

/// The first elements of a block to the end of a row.
#[inline(always)]
fn store_rest<S: Simd, const V: usize>(simd: S, block: Block<S, V>, rest: &mut [f32]) {
    let len = rest.len();
    unroll!(v in 0..V, up to 4 => { simd.partial_store_f32s(&mut rest[part::<S>(len, v)], block[v]); });
}

#[inline(always)]
fn add<S: Simd, const V: usize>(simd: S, sums: &mut Block<S, V>, block: Block<S, V>) {
    unroll!(v in 0..V, up to 4 => { sums[v] = simd.add_f32s(sums[v], block[v]); });
}

/// Keeps the larger number of each lane.
#[inline(always)]
fn keep_larger<S: Simd, const V: usize>(simd: S, maxima: &mut Block<S, V>, block: Block<S, V>) {
    unroll!(v in 0..V, up to 4 => {
        maxima[v] = if cfg!(target_arch = "x86_64") {
            // The second operand stays where one is not a number.
            simd.max_f32s(block[v], maxima[v])
        } else {
            simd.select_f32s(simd.less_than_f32s(maxima[v], block[v]), block[v], maxima[v])
        };
    });
}

/// The largest number of blocks; −∞ of none.
#[inline(always)]
fn max_of_blocks<S: Simd, const V: usize>(simd: S, blocks: &[[f32; LANES]], rest: Block<S, V>) -> f32 {
    let mut maxima = [simd.splat_f32s(f32::NEG_INFINITY); V];
    keep_larger(simd, &mut maxima, rest);
    // Two at a time, so that one does not wait for the other.
    let (pairs, single) = blocks.as_chunks::<2>();
    if !pairs.is_empty() {
        let mut others = [simd.splat_f32s(f32::NEG_INFINITY); V];
        for [a, b] in pairs {
            keep_larger(simd, &mut maxima, load::<S, V>(a));
            keep_larger(simd, &mut others, load::<S, V>(b));
        }
        keep_larger(simd, &mut maxima, others);
    }
    single.iter().for_each(|block| keep_larger(simd, &mut maxima, load::<S, V>(block)));
    largest::<S, V>(maxima)
}

#[inline(always)]
fn largest<S: Simd, const V: usize>(maxima: Block<S, V>) -> f32 {
    parallel::largest_lane(lanes::<S, V>(maxima))
}

/// (eʳ − 1 − r) / r² for |r| up to half of ln 2, the highest power first: within 4·10⁻⁹ of eʳ, a twentieth of a rounding.
const TERMS: [f32; 5] = [1.381_443_3e-3, 8.368_797e-3, 4.166_839_6e-2, 1.666_652e-1, 4.999_999_4e-1];

/// e to the power of `x − max` of each lane. As [`math::exp`], with fused multiplications: half the instructions. No x is
/// above the maximum, so that only the lower bound is looked at.
#[inline(always)]
fn exp_block<S: Simd, const V: usize>(simd: S, mut block: Block<S, V>, max: f32) -> Block<S, V> {
    let all = |x: f32| simd.splat_f32s(x);
    unroll!(v in 0..V, up to 4 => {
        let x = simd.sub_f32s(block[v], all(max));
        // Not a number stays: on x86 as the second operand.
        let x = simd.max_f32s(all(math::EXP_LOWEST), x);
        let rounded = simd.mul_add_f32s(x, all(math::LOG2_E), all(ROUND));
        let n = simd.sub_f32s(rounded, all(ROUND));
        let r = simd.negate_mul_add_f32s(n, all(math::LN_2_HIGH), x);
        let r = simd.negate_mul_add_f32s(n, all(math::LN_2_LOW), r);
        let mut p = all(TERMS[0]);
        for term in [TERMS[1], TERMS[2], TERMS[3], TERMS[4], 1.0, 1.0] {
            p = simd.mul_add_f32s(p, r, all(term));
        }
        block[v] = scale(simd, p, [n, rounded]);
    });
    block
}

/// [`math::ROUND`] and the exponent of 2^UP: in the lowest bits of a sum with it stands the exponent of 2^(n + UP).
const ROUND: f32 = math::ROUND + (127 + UP) as f32;

/// With it n, from −152 up, is the exponent of a normal number. Even together with 127, since halves are rounded to even.
const UP: i32 = 65;

/// p · 2ⁿ, a subnormal result rounded once.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "n is for AVX-512's instruction"))]
fn scale<S: Simd>(simd: S, p: S::f32s, [n, rounded]: [S::f32s; 2]) -> S::f32s {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        let [p, n] = [p, n].map(|x| pulp::cast(bytemuck::cast::<_, pulp::f32x16>(x)));
        return bytemuck::cast::<pulp::f32x16, _>(pulp::cast(simd.avx512f._mm512_scalef_ps(p, n)));
    }
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let p = simd.mul_f32s(p, simd.transmute_f32s_u32s(bits));
    simd.mul_f32s(p, simd.splat_f32s(f32::from_bits(((127 - UP) as u32) << 23)))
}

#[cfg(test)]
mod tests;
