//! The transforms of F(4, 5) along one axis: four outputs of five taps from eight products, at the points 0, ±1, ±2, ±1/2
//! and ∞. Where outputs are Aᵀ(Gw ∘ Bᵀx), the gradient by the input is B(Gw ∘ Ay) and that by the weight Gᵀ(Bᵀx ∘ Ay), so
//! that the transforms of gradients are those of outputs, inputs and kernels transposed.

use pulp::Simd;

use crate::ops::cpu::conv::winograd::{Transform, add_product, scale};

/// Products along an axis.
pub(in super::super) const POINTS: usize = 8;
/// Elements along an axis of a kernel.
pub(in super::super) const KERNEL: usize = 5;
/// Outputs along an axis of a tile.
pub(in super::super) const TILE: usize = POINTS + 1 - KERNEL;

/// `sum + factor · x` and `sum − factor · x`.
#[inline(always)]
fn both<S: Simd>(simd: S, factor: f32, x: S::f32s, sum: S::f32s) -> [S::f32s; 2] {
    [add_product(simd, factor, x, sum), add_product(simd, -factor, x, sum)]
}

/// Eight inputs at the points.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Input;

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
pub(in super::super) struct Kernel;

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
pub(in super::super) struct Output;

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

/// Four gradients at the points: the transpose of [`Output`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Gradient;

impl Transform<TILE, POINTS> for Gradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [g0, g1, g2, g3]: [S::f32s; TILE]) -> [S::f32s; POINTS] {
        let (even, odd) = (simd.add_f32s(g0, g2), simd.add_f32s(g1, g3));
        let even_2 = add_product(simd, 4.0, g2, g0);
        let [at_2, at_minus_2] = both(simd, 2.0, add_product(simd, 4.0, g3, g1), even_2);
        let even_half = add_product(simd, 0.25, g2, g0);
        let [at_half, at_minus_half] = both(simd, 0.5, add_product(simd, 0.25, g3, g1), even_half);
        [g0, simd.add_f32s(even, odd), simd.sub_f32s(even, odd), at_2, at_minus_2, at_half, at_minus_half, g3]
    }
}

/// `sum + a · x + b · y + c · z`.
#[inline(always)]
fn add_three<S: Simd>(simd: S, sum: S::f32s, [a, b, c]: [f32; 3], [x, y, z]: [S::f32s; 3]) -> S::f32s {
    add_product(simd, a, x, add_product(simd, b, y, add_product(simd, c, z, sum)))
}

/// The gradients by eight inputs from products at the points: the transpose of [`Input`].
#[derive(Clone, Copy, Debug)]
pub(super) struct InputGradient;

impl Transform<POINTS, POINTS> for InputGradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [m0, m1, m2, m3, m4, m5, m6, m7]: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
        let (even_1, odd_1) = (simd.add_f32s(m1, m2), simd.sub_f32s(m1, m2));
        let (even_2, odd_2) = (simd.add_f32s(m3, m4), scale(simd, 2.0, simd.sub_f32s(m3, m4)));
        let (even_half, odd_half) = (simd.add_f32s(m5, m6), scale(simd, 0.5, simd.sub_f32s(m5, m6)));
        let (even, odd) = ([even_1, even_2, even_half], [odd_1, odd_2, odd_half]);
        let (first, last) = (scale(simd, 5.25, m0), scale(simd, 5.25, m7));
        let zero = simd.splat_f32s(0.0);
        [
            m0,
            add_three(simd, simd.sub_f32s(zero, m7), [1.0, 0.25, 4.0], odd),
            add_three(simd, simd.sub_f32s(zero, first), [1.0, 0.25, 4.0], even),
            add_three(simd, last, [-4.25, -1.25, -5.0], odd),
            add_three(simd, first, [-4.25, -1.25, -5.0], even),
            add_three(simd, simd.sub_f32s(zero, last), [1.0, 1.0, 1.0], odd),
            add_three(simd, simd.sub_f32s(zero, m0), [1.0, 1.0, 1.0], even),
            m7,
        ]
    }
}

/// `even · (x + y)` and `odd · (x − y)`.
#[inline(always)]
fn halves<S: Simd>(simd: S, even: f32, odd: f32, x: S::f32s, y: S::f32s) -> (S::f32s, S::f32s) {
    (scale(simd, even, simd.add_f32s(x, y)), scale(simd, odd, simd.sub_f32s(x, y)))
}

/// The gradients by five elements of a kernel from sums at the points: the transpose of [`Kernel`].
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelGradient;

impl Transform<POINTS, KERNEL> for KernelGradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [m0, m1, m2, m3, m4, m5, m6, m7]: [S::f32s; POINTS]) -> [S::f32s; KERNEL] {
        let (even_1, odd_1) = halves(simd, -2.0 / 9.0, -2.0 / 9.0, m1, m2);
        let (even_2, odd_2) = halves(simd, 1.0 / 90.0, 1.0 / 45.0, m3, m4);
        let (even_half, odd_half) = halves(simd, 2.0 / 45.0, 4.0 / 45.0, m5, m6);
        let even = simd.add_f32s(even_1, even_2);
        [
            simd.add_f32s(m0, add_product(simd, 16.0, even_half, even)),
            add_product(simd, 4.0, odd_half, simd.add_f32s(odd_1, odd_2)),
            add_product(simd, 4.0, simd.add_f32s(even_2, even_half), even_1),
            add_product(simd, 4.0, odd_2, simd.add_f32s(odd_1, odd_half)),
            simd.add_f32s(m7, add_product(simd, 16.0, even_2, simd.add_f32s(even_1, even_half))),
        ]
    }
}
