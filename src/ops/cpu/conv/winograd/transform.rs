//! The transforms of F(4, 3), F(2, 5) and F(3, 4) along one axis, on vectors of channels, and their use on both axes.
//!
//! A polynomial product is computed at the points 0, −1, 1, 2, −1/2 and ∞, so sums of 4 outputs over 3 taps, of 2 over 5, or
//! of 3 over 4, take 6 products. The points are those of the smallest error that Barabasz et al., "Error analysis and
//! improving the accuracy of Winograd convolution for deep neural networks" (2018), search among: in f32, sums over 64
//! channels are off by less than three times what direct sums are, which a test holds.

use pulp::Simd;

use crate::ops::cpu::unroll::unroll;

/// Products along an axis.
pub(in super::super) const POINTS: usize = 6;
/// Elements along an axis of a kernel, and outputs of its tiles.
pub(super) const KERNEL: usize = 3;
pub(super) const TILE: usize = POINTS + 1 - KERNEL;
/// The same of a large kernel.
pub(in super::super) const LARGE_KERNEL: usize = 5;
pub(super) const LARGE_TILE: usize = POINTS + 1 - LARGE_KERNEL;
/// Products of a tile for each pair of channels.
pub(super) const PRODUCTS: usize = POINTS * POINTS;

/// A transform of N values into M. (A type and not a closure: only what is inlined is compiled for the instruction set.)
pub(in super::super) trait Transform<const N: usize, const M: usize>: Copy {
    fn apply<S: Simd>(self, simd: S, values: [S::f32s; N]) -> [S::f32s; M];
}

/// `factor · x + sum`.
#[inline(always)]
pub(in super::super) fn add_product<S: Simd>(simd: S, factor: f32, x: S::f32s, sum: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), x, sum)
}

/// `factor · x`.
#[inline(always)]
pub(in super::super) fn scale<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// Six inputs at the points.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Input;

impl Transform<POINTS, POINTS> for Input {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
        let (t, u) = (simd.sub_f32s(d1, d3), simd.sub_f32s(d4, d2));
        let at_minus_1 = add_product(simd, -2.5, d3, add_product(simd, 0.5, d2, simd.add_f32s(d1, d4)));
        let at_1 = add_product(simd, -2.5, d2, add_product(simd, -0.5, d3, simd.sub_f32s(d4, d1)));
        [
            add_product(simd, 1.5, t, simd.add_f32s(simd.sub_f32s(d0, d2), u)),
            at_minus_1,
            at_1,
            add_product(simd, -0.5, t, u),
            add_product(simd, 2.0, t, u),
            add_product(simd, -1.5, u, simd.add_f32s(simd.sub_f32s(d5, d3), t)),
        ]
    }
}

/// Three or five elements of a kernel at the points.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Kernel;

impl Transform<KERNEL, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [g0, g1, g2]: [S::f32s; KERNEL]) -> [S::f32s; POINTS] {
        let even = simd.add_f32s(g0, g2);
        [
            g0,
            scale(simd, 1.0 / 3.0, simd.sub_f32s(even, g1)),
            scale(simd, -1.0 / 3.0, simd.add_f32s(even, g1)),
            scale(simd, 1.0 / 15.0, add_product(simd, 4.0, g2, add_product(simd, 2.0, g1, g0))),
            scale(simd, -4.0 / 15.0, add_product(simd, 4.0, g0, add_product(simd, -2.0, g1, g2))),
            g2,
        ]
    }
}

impl Transform<LARGE_KERNEL, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [g0, g1, g2, g3, g4]: [S::f32s; LARGE_KERNEL]) -> [S::f32s; POINTS] {
        let (even, odd) = (simd.add_f32s(simd.add_f32s(g0, g2), g4), simd.add_f32s(g1, g3));
        // Powers of 2 from the lowest element on, and of −2 from the highest.
        let at_2 = add_product(
            simd,
            4.0,
            add_product(simd, 4.0, g4, add_product(simd, 2.0, g3, g2)),
            add_product(simd, 2.0, g1, g0),
        );
        let at_minus_half = add_product(
            simd,
            4.0,
            add_product(simd, 4.0, g0, add_product(simd, -2.0, g1, g2)),
            add_product(simd, -2.0, g3, g4),
        );
        [
            g0,
            scale(simd, 1.0 / 3.0, simd.sub_f32s(even, odd)),
            scale(simd, -1.0 / 3.0, simd.add_f32s(even, odd)),
            scale(simd, 1.0 / 15.0, at_2),
            scale(simd, -1.0 / 15.0, at_minus_half),
            g4,
        ]
    }
}

/// Four or two outputs from products at the points.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Output;

impl Transform<POINTS, TILE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; POINTS]) -> [S::f32s; TILE] {
        let (even, odd) = (simd.add_f32s(m1, m2), simd.sub_f32s(m2, m1));
        [
            simd.add_f32s(simd.add_f32s(m0, even), simd.add_f32s(m3, m4)),
            add_product(simd, 2.0, m3, add_product(simd, -0.5, m4, odd)),
            add_product(simd, 4.0, m3, add_product(simd, 0.25, m4, even)),
            add_product(simd, 8.0, m3, add_product(simd, -0.125, m4, simd.add_f32s(odd, m5))),
        ]
    }
}

impl Transform<POINTS, LARGE_TILE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; POINTS]) -> [S::f32s; LARGE_TILE] {
        let (even, odd) = (simd.add_f32s(m1, m2), simd.sub_f32s(m2, m1));
        [
            simd.add_f32s(simd.add_f32s(m0, even), simd.add_f32s(m3, m4)),
            add_product(simd, 2.0, m3, add_product(simd, -0.5, m4, simd.add_f32s(odd, m5))),
        ]
    }
}

/// Four gradients at the points, without the factors that [`KernelGradient`] has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gradient;

impl Transform<TILE, POINTS> for Gradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [g0, g1, g2, g3]: [S::f32s; TILE]) -> [S::f32s; POINTS] {
        let (even, odd) = (simd.add_f32s(g0, g2), simd.add_f32s(g1, g3));
        let at_2 = add_product(simd, 8.0, g3, add_product(simd, 4.0, g2, add_product(simd, 2.0, g1, g0)));
        let at_minus_half = add_product(
            simd,
            8.0,
            g0,
            add_product(simd, -4.0, g1, add_product(simd, 2.0, g2, simd.sub_f32s(simd.splat_f32s(0.0), g3))),
        );
        [g0, simd.sub_f32s(even, odd), simd.add_f32s(even, odd), at_2, at_minus_half, g3]
    }
}

/// The gradients by three elements of a kernel from sums of products at the points.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelGradient;

impl Transform<POINTS, KERNEL> for KernelGradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; POINTS]) -> [S::f32s; KERNEL] {
        let (even, odd) =
            (scale(simd, 1.0 / 3.0, simd.sub_f32s(m1, m2)), scale(simd, -1.0 / 3.0, simd.add_f32s(m1, m2)));
        let (m3, m4) = (scale(simd, 1.0 / 15.0, m3), scale(simd, -2.0 / 15.0, m4));
        [
            simd.add_f32s(simd.add_f32s(m0, even), simd.add_f32s(m3, m4)),
            add_product(simd, 2.0, m3, add_product(simd, -0.5, m4, odd)),
            add_product(simd, 4.0, m3, add_product(simd, 0.25, m4, simd.add_f32s(even, m5))),
        ]
    }
}

/// A transform of each column of a matrix and then of each row of what that gives: `load(i, j)` reads an element,
/// `store(i, row)` takes a row.
#[inline(always)]
pub(super) fn both_axes<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    simd: S,
    transform: T,
    load: impl Fn(usize, usize) -> S::f32s,
    mut store: impl FnMut(usize, [S::f32s; M]),
) {
    let zero = simd.splat_f32s(0.0);
    let mut columns = [[zero; N]; M];
    unroll!(j in 0..N, up to 8 => {
        let mut column = [zero; N];
        unroll!(i in 0..N, up to 8 => { column[i] = load(i, j); });
        let column = transform.apply(simd, column);
        unroll!(i in 0..M, up to 8 => { columns[i][j] = column[i]; });
    });
    unroll!(i in 0..M, up to 8 => { store(i, transform.apply(simd, columns[i])); });
}
