//! Max-pooling of values in registers.

use pulp::Simd;

use crate::ops::cpu::unroll::unroll;

/// The largest of four vectors lane by lane, and the bits of its place. The first maximum stays; a NaN wins over
/// everything, as in PyTorch.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, values: [S::f32s; 4], places: [S::f32s; 4]) -> (S::f32s, S::f32s) {
    let (mut max, mut place) = (values[0], places[0]);
    unroll!(next in 0..3, up to 4 => {
        let (value, at) = (values[next + 1], places[next + 1]);
        let is_none = simd.not_m32s(simd.equal_f32s(value, value));
        let is_taken = simd.or_m32s(simd.greater_than_f32s(value, max), is_none);
        (max, place) = (simd.select_f32s(is_taken, value, max), simd.select_f32s(is_taken, at, place));
    });
    (max, place)
}
