//! The transforms of F(4, 5): four outputs of five taps from eight products, at the points 0, ±1, ±2, ±1/2 and ∞.

use pulp::Simd;

use crate::ops::cpu::conv::winograd::{Transform, add_product, scale};

/// Products along an axis.
pub(super) const POINTS: usize = 8;
/// Elements along an axis of a kernel.
pub(super) const KERNEL: usize = 5;
/// Outputs along an axis of a tile.
pub(super) const TILE: usize = POINTS + 1 - KERNEL;

/// `sum + factor · x` and `sum − factor · x`.
#[inline(always)]
fn both<S: Simd>(simd: S, factor: f32, x: S::f32s, sum: S::f32s) -> [S::f32s; 2] {
    [add_product(simd, factor, x, sum), add_product(simd, -factor, x, sum)]
}

/// Eight inputs at the points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input;

impl Transform<POINTS, POINTS> for Input {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [d0, d1, d2, d3, d4, d5, d6, d7]: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
        let odd = add_product(simd, -4.25, d3, simd.add_f32s(d1, d5));
        let even = add_product(simd, -4.25, d4, simd.add_f32s(d2, d6));
        let (at_1, at_minus_1) = (simd.add_f32s(even, odd), simd.sub_f32s(even, odd));
        let odd = add_product(simd, 0.25, d1, add_product(simd, -1.25, d3, d5));
        let even = add_product(simd, 0.25, d2, add_product(simd, -1.25, d4, d6));
        let [at_2, at_minus_2] = both(simd, 2.0, odd, even);
        let odd = add_product(simd, 4.0, d1, add_product(simd, -5.0, d3, d5));
        let even = add_product(simd, 4.0, d2, add_product(simd, -5.0, d4, d6));
        let [at_half, at_minus_half] = both(simd, 0.5, odd, even);
        [
            add_product(simd, 5.25, simd.sub_f32s(d4, d2), simd.sub_f32s(d0, d6)),
            at_1,
            at_minus_1,
            at_2,
            at_minus_2,
            at_half,
            at_minus_half,
            add_product(simd, 5.25, simd.sub_f32s(d3, d5), simd.sub_f32s(d7, d1)),
        ]
    }
}

/// Five elements of a kernel at the points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel;

impl Transform<KERNEL, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [g0, g1, g2, g3, g4]: [S::f32s; KERNEL]) -> [S::f32s; POINTS] {
        let (even, odd) = (simd.add_f32s(simd.add_f32s(g0, g2), g4), simd.add_f32s(g1, g3));
        let (at_1, at_minus_1) = (simd.add_f32s(even, odd), simd.sub_f32s(even, odd));
        let even = add_product(simd, 16.0, g4, add_product(simd, 4.0, g2, g0));
        let [at_2, at_minus_2] = both(simd, 2.0, add_product(simd, 4.0, g3, g1), even);
        // Powers of ±2 from the last element on: 16 times what they are at ±1/2.
        let even = add_product(simd, 16.0, g0, add_product(simd, 4.0, g2, g4));
        let [at_half, at_minus_half] = both(simd, 2.0, add_product(simd, 4.0, g1, g3), even);
        [
            g0,
            scale(simd, -2.0 / 9.0, at_1),
            scale(simd, -2.0 / 9.0, at_minus_1),
            scale(simd, 1.0 / 90.0, at_2),
            scale(simd, 1.0 / 90.0, at_minus_2),
            scale(simd, 2.0 / 45.0, at_half),
            scale(simd, 2.0 / 45.0, at_minus_half),
            g4,
        ]
    }
}

/// Four outputs from products at the points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output;

impl Transform<POINTS, TILE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [m0, m1, m2, m3, m4, m5, m6, m7]: [S::f32s; POINTS]) -> [S::f32s; TILE] {
        let (even_1, odd_1) = (simd.add_f32s(m1, m2), simd.sub_f32s(m1, m2));
        let (even_2, odd_2) = (simd.add_f32s(m3, m4), simd.sub_f32s(m3, m4));
        let (even_half, odd_half) = (simd.add_f32s(m5, m6), simd.sub_f32s(m5, m6));
        [
            simd.add_f32s(simd.add_f32s(m0, even_1), simd.add_f32s(even_2, even_half)),
            add_product(simd, 2.0, odd_2, add_product(simd, 0.5, odd_half, odd_1)),
            add_product(simd, 4.0, even_2, add_product(simd, 0.25, even_half, even_1)),
            add_product(simd, 8.0, odd_2, add_product(simd, 0.125, odd_half, simd.add_f32s(odd_1, m7))),
        ]
    }
}
