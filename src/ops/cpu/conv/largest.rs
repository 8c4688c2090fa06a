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
        let (is_larger, is_number) = (simd.greater_than_f32s(value, max), simd.equal_f32s(value, value));
        let take = |new, old| simd.select_f32s(is_number, simd.select_f32s(is_larger, new, old), new);
        (max, place) = (take(value, max), take(at, place));
    });
    (max, place)
}
