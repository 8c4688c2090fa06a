//! Matrix products of few rows, in f32: a batch of images by the weights of a layer. Packing an operand, as `gemm` does,
//! takes as long as the product there, so these kernels read both as they are stored.
//!
//! Where the second operand is stored (K, N), a vector holds columns of the result and elements of the first operand go
//! to all lanes. Where it is stored (N, K), as PyTorch stores weights, a vector holds rows of the result (images), for
//! which a few rows of the first operand are transposed; fewer rows are a list of dot products.

use pulp::{Simd, WithSimd};

use super::transpose::{TILE, transpose_tile, turn};
use super::unroll::unroll;
use super::{isa, scratch};

/// Elements of the second operand up to which it stays in a second-level cache from one block of rows to the next.
const MOST_ELEMS: usize = 128 * 1024;

/// A product `(m, k) · (k, n)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skinny<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// (M, K) with `a_stride` from row to row, or (K, M) where it is transposed.
    pub a: &'a [f32],
    pub a_stride: usize,
    pub trans_a: bool,
    /// (K, N), or (N, K) where it is transposed; nothing between its rows.
    pub b: &'a [f32],
    pub trans_b: bool,
}

/// Whether a product of these sizes is one for the kernels here.
pub(crate) fn applies([n, k]: [usize; 2], trans_a: bool, trans_b: bool) -> bool {
    let lanes = isa::lanes();
    lanes > 1 && n * k <= MOST_ELEMS && if trans_b { !trans_a && k >= lanes } else { n >= lanes }
}

/// Writes the product to `out` (M, N).
pub(crate) fn product(sizes: Skinny<'_>, out: &mut [f32]) {
    let Skinny { m, n, k, a, a_stride, trans_a, b, trans_b } = sizes;
    assert!(out.len() == m * n && b.len() >= k * n && k > 0, "the operands hold (k, n) and (m, n)");
    if !trans_b {
        let a_rows = if trans_a { k } else { m };
        assert!(a.len() >= (a_rows - 1) * a_stride + if trans_a { m } else { k }, "the operand holds (m, k)");
        return isa::dispatch(Columns { sizes, out });
    }
    let lanes = isa::lanes();
    // Up to half a vector of rows takes longer in one than row by row.
    let whole = if m % lanes > lanes / 2 { m } else { m - m % lanes };
    scratch::with(k * lanes + lanes * n, |memory: &mut [f32]| {
        let (turned, columns) = memory.split_at_mut(k * lanes);
        for first in (0..whole).step_by(lanes) {
            let rows = lanes.min(m - first);
            let block = &a[first * a_stride..];
            let out = &mut out[first * n..(first + rows) * n];
            isa::dispatch(Rows { rows, n, k, block, a_stride, b, turned, columns, out });
        }
    });
    if whole < m {
        isa::dispatch(Dots { k, a: &a[whole * a_stride..], a_stride, b, out: &mut out[whole * n..] });
    }
}

/// A vector holds columns of the result.
struct Columns<'a> {
    sizes: Skinny<'a>,
    out: &'a mut [f32],
}

impl WithSimd for Columns<'_> {
    type Output = ();

    /// Six rows of four vectors are 24 accumulators, eight of three as many, and eight of two enough to hide the latency
    /// of a product: of these the one that computes least twice. Three rows of three are nine, for 16 registers.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Skinny { m, n, .. } = self.sizes;
        let vectors = n / S::F32_LANES;
        let many = S::REGISTER_COUNT >= 32;
        let computed =
            |rows: usize, width: usize| m.next_multiple_of(rows) * n.div_ceil(S::F32_LANES).next_multiple_of(width);
        let best = computed(6, 4).min(computed(8, 3)).min(computed(8, 2));
        match vectors {
            4.. if many && m >= 6 && computed(6, 4) == best => simd.vectorize(Tiles::<6, 4>(self)),
            3.. if many && m >= 8 && computed(8, 3) == best => simd.vectorize(Tiles::<8, 3>(self)),
            2.. if many && m >= 8 => simd.vectorize(Tiles::<8, 2>(self)),
            2.. if many && m >= 6 => simd.vectorize(Tiles::<6, 2>(self)),
            4.. if many && m >= 4 => simd.vectorize(Tiles::<4, 4>(self)),
            4.. if many && m >= 2 => simd.vectorize(Tiles::<2, 4>(self)),
            4.. if many => simd.vectorize(Tiles::<1, 4>(self)),
            3.. if self.sizes.m >= 3 => simd.vectorize(Tiles::<3, 3>(self)),
            _ if self.sizes.m >= 6 => simd.vectorize(Tiles::<6, 1>(self)),
            2.. => simd.vectorize(Tiles::<1, 2>(self)),
            _ => simd.vectorize(Tiles::<1, 1>(self)),
        }
    }
}

/// The result in tiles of R rows and V vectors; the last ones are moved back to end with it.
struct Tiles<'a, const R: usize, const V: usize>(Columns<'a>);

impl<const R: usize, const V: usize> WithSimd for Tiles<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Columns { sizes, out } = self.0;
        let Skinny { m, n, .. } = sizes;
        let width = V * S::F32_LANES;
        for j in (0..n).step_by(width) {
            let j = j.min(n - width);
            for i in (0..m).step_by(R) {
                let i = i.min(m - R);
                if sizes.trans_a {
                    tile_of_columns::<S, R, V>(simd, &sizes, [i, j], &mut out[i * n + j..]);
                } else {
                    tile_of_rows::<S, R, V>(simd, &sizes, [i, j], &mut out[i * n + j..]);
                }
            }
        }
    }
}

/// A tile of a first operand stored (M, K).
#[inline(always)]
fn tile_of_rows<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sizes: &Skinny<'_>,
    [i, j]: [usize; 2],
    out: &mut [f32],
) {
    let Skinny { n, k, a, a_stride, b, .. } = *sizes;
    let mut rows: [&[f32]; R] = [&[]; R];
    unroll!(r in 0..R, up to 8 => { rows[r] = &a[(i + r) * a_stride..][..k]; });
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (at, b) in b.chunks_exact(n).take(k).enumerate() {
        let (loaded, _) = S::as_simd_f32s(&b[j..][..V * S::F32_LANES]);
        let mut x = [simd.splat_f32s(0.0); V];
        unroll!(v in 0..V, up to 4 => { x[v] = loaded[v]; });
        unroll!(r in 0..R, up to 8 => {
            let factor = simd.splat_f32s(rows[r][at]);
            unroll!(v in 0..V, up to 4 => { sums[r][v] = simd.mul_add_e_f32s(factor, x[v], sums[r][v]); });
        });
    }
    unroll!(r in 0..R, up to 8 => {
        let (out, _) = S::as_mut_simd_f32s(&mut out[r * n..][..V * S::F32_LANES]);
        unroll!(v in 0..V, up to 4 => { out[v] = sums[r][v]; });
    });
}

/// A tile of a first operand stored (K, M).
#[inline(always)]
fn tile_of_columns<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sizes: &Skinny<'_>,
    [i, j]: [usize; 2],
    out: &mut [f32],
) {
    let Skinny { n, k, a, a_stride, b, .. } = *sizes;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (at, b) in b.chunks_exact(n).take(k).enumerate() {
        let (loaded, _) = S::as_simd_f32s(&b[j..][..V * S::F32_LANES]);
        let factors = &a[at * a_stride + i..][..R];
        let mut x = [simd.splat_f32s(0.0); V];
        unroll!(v in 0..V, up to 4 => { x[v] = loaded[v]; });
        unroll!(r in 0..R, up to 8 => {
            let factor = simd.splat_f32s(factors[r]);
            unroll!(v in 0..V, up to 4 => { sums[r][v] = simd.mul_add_e_f32s(factor, x[v], sums[r][v]); });
        });
    }
    unroll!(r in 0..R, up to 8 => {
        let (out, _) = S::as_mut_simd_f32s(&mut out[r * n..][..V * S::F32_LANES]);
        unroll!(v in 0..V, up to 4 => { out[v] = sums[r][v]; });
    });
}

/// A vector holds rows of the result: `rows` of them, at most as many as it has lanes.
struct Rows<'a> {
    rows: usize,
    n: usize,
    k: usize,
    block: &'a [f32],
    a_stride: usize,
    b: &'a [f32],
    /// Room for the block transposed, (K, lanes).
    turned: &'a mut [f32],
    /// Room for the result transposed, (N, lanes).
    columns: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows { rows, n, k, block, a_stride, b, turned, columns, out } = self;
        turn(simd, [rows, k], (block, a_stride), turned);
        let (x, _) = S::as_simd_f32s(turned);
        let (sums, _) = S::as_mut_simd_f32s(columns);
        let x = &x[..k];
        let mut j = 0;
        while j < n {
            let (b, sums) = (&b[j * k..], &mut sums[j..]);
            j += match n - j {
                24.. if S::REGISTER_COUNT >= 32 => features::<S, 24>(simd, x, b, sums),
                12.. => features::<S, 12>(simd, x, b, sums),
                4.. => features::<S, 4>(simd, x, b, sums),
                _ => features::<S, 1>(simd, x, b, sums),
            };
        }
        turn_back(simd, [rows, n], columns, out);
    }
}

/// The sums of F rows of the second operand; gives F.
#[inline(always)]
fn features<S: Simd, const F: usize>(simd: S, x: &[S::f32s], b: &[f32], out: &mut [S::f32s]) -> usize {
    let k = x.len();
    let mut rows: [&[f32]; F] = [&[]; F];
    unroll!(f in 0..F, up to 28 => { rows[f] = &b[f * k..][..k]; });
    let mut sums = [simd.splat_f32s(0.0); F];
    for (at, &x) in x.iter().enumerate() {
        unroll!(f in 0..F, up to 28 => {
            sums[f] = simd.mul_add_e_f32s(simd.splat_f32s(rows[f][at]), x, sums[f]);
        });
    }
    let out: &mut [S::f32s; F] = out.first_chunk_mut().expect("there are F columns left");
    unroll!(f in 0..F, up to 28 => { out[f] = sums[f]; });
    F
}

/// (n, lanes) as (rows, n).
#[inline(always)]
fn turn_back<S: Simd>(simd: S, [rows, n]: [usize; 2], from: &[f32], to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while lanes == TILE && first + TILE <= n {
        let mut tile = [[0.0; TILE]; TILE];
        tile.as_flattened_mut().copy_from_slice(&from[first * TILE..][..TILE * TILE]);
        transpose_tile(simd, &mut tile);
        for (row, tile) in tile[..rows].iter().enumerate() {
            to[row * n + first..][..TILE].copy_from_slice(tile);
        }
        first += TILE;
    }
    for (row, to) in to.chunks_exact_mut(n).take(rows).enumerate() {
        for (at, to) in to.iter_mut().enumerate().skip(first) {
            *to = from[at * lanes + row];
        }
    }
}

/// A few rows: the dot product of each with each row of the second operand.
struct Dots<'a> {
    k: usize,
    /// (M, K) with a stride.
    a: &'a [f32],
    a_stride: usize,
    /// (N, K).
    b: &'a [f32],
    /// (M, N).
    out: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (n, many) = (self.b.len() / self.k, S::REGISTER_COUNT >= 32);
        let (m, mut row) = (self.out.len() / n, 0);
        while row < m {
            let dots = &mut self;
            row += match m - row {
                4.. if many => simd.vectorize(RowsOfDots::<4> { dots, row }),
                2.. => simd.vectorize(RowsOfDots::<2> { dots, row }),
                _ => simd.vectorize(RowsOfDots::<1> { dots, row }),
            };
        }
    }
}

/// M rows of the first operand by all of the second; gives M.
struct RowsOfDots<'d, 'a, const M: usize> {
    dots: &'d mut Dots<'a>,
    row: usize,
}

impl<const M: usize> WithSimd for RowsOfDots<'_, '_, M> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let RowsOfDots { dots, row } = self;
        let Dots { k, a, a_stride, b, .. } = *dots;
        let n = b.len() / k;
        let mut rows: [&[f32]; M] = [&[]; M];
        unroll!(r in 0..M, up to 4 => { rows[r] = &a[(row + r) * a_stride..][..k]; });
        let out = &mut dots.out[row * n..][..M * n];
        let mut column = 0;
        while column < n {
            let (b, left) = (&b[column * k..], n - column);
            column += match left {
                4.. => products::<S, M, 4>(simd, &rows, b, (&mut out[column..], n)),
                _ => products::<S, M, 1>(simd, &rows, b, (&mut out[column..], n)),
            };
        }
        M
    }
}

/// M × F dot products; gives F.
#[inline(always)]
fn products<S: Simd, const M: usize, const F: usize>(
    simd: S,
    a: &[&[f32]; M],
    b: &[f32],
    (out, stride): (&mut [f32], usize),
) -> usize {
    let k = a[0].len();
    let vectors = k / S::F32_LANES;
    let whole = vectors * S::F32_LANES;
    let mut rows: [&[S::f32s]; M] = [&[]; M];
    let mut columns: [&[S::f32s]; F] = [&[]; F];
    unroll!(r in 0..M, up to 4 => { rows[r] = &S::as_simd_f32s(&a[r][..whole]).0[..vectors]; });
    unroll!(f in 0..F, up to 4 => { columns[f] = &S::as_simd_f32s(&b[f * k..][..whole]).0[..vectors]; });
    let mut sums = [[simd.splat_f32s(0.0); F]; M];
    for at in 0..vectors {
        unroll!(f in 0..F, up to 4 => {
            let column = columns[f][at];
            unroll!(r in 0..M, up to 4 => { sums[r][f] = simd.mul_add_e_f32s(rows[r][at], column, sums[r][f]); });
        });
    }
    if whole < k {
        unroll!(f in 0..F, up to 4 => {
            let column = simd.partial_load_f32s(&b[f * k + whole..(f + 1) * k]);
            unroll!(r in 0..M, up to 4 => {
                sums[r][f] = simd.mul_add_e_f32s(simd.partial_load_f32s(&a[r][whole..]), column, sums[r][f]);
            });
        });
    }
    if S::F32_LANES == TILE && M * F == TILE {
        // All sums at once: row by row they would take as long as the products.
        let mut tile = [[0.0; TILE]; TILE];
        unroll!(r in 0..M, up to 4 => {
            unroll!(f in 0..F, up to 4 => { tile[r * F + f].copy_from_slice(bytemuck::cast_slice(&[sums[r][f]])) });
        });
        transpose_tile(simd, &mut tile);
        let mut all = [0.0; TILE];
        unroll!(i in 0..TILE, up to 16 => { all.iter_mut().zip(&tile[i]).for_each(|(sum, x)| *sum += x) });
        unroll!(r in 0..M, up to 4 => { out[r * stride..][..F].copy_from_slice(&all[r * F..(r + 1) * F]) });
        return F;
    }
    unroll!(r in 0..M, up to 4 => {
        unroll!(f in 0..F, up to 4 => { out[r * stride + f] = simd.reduce_sum_f32s(sums[r][f]); });
    });
    F
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_layouts_and_ragged_sizes() {
        let value = |at: usize, seed: usize| ((at * 37 + seed * 11) % 29) as f32 - 14.0;
        for [m, n, k] in
            [[1, 16, 16], [2, 10, 84], [5, 17, 33], [16, 24, 20], [31, 120, 64], [37, 65, 16], [8, 100, 40]]
        {
            for (trans_a, trans_b) in [(false, false), (true, false), (false, true)] {
                if !applies([n, k], trans_a, trans_b) {
                    continue;
                }
                let a: Vec<f32> = (0..m * k).map(|at| value(at, 1)).collect();
                let b: Vec<f32> = (0..k * n).map(|at| value(at, 2)).collect();
                let a_stride = if trans_a { m } else { k };
                let mut out = vec![f32::NAN; m * n];
                product(Skinny { m, n, k, a: &a, a_stride, trans_a, b: &b, trans_b }, &mut out);
                for i in 0..m {
                    for j in 0..n {
                        let at = |p: usize| {
                            let a = if trans_a { a[p * m + i] } else { a[i * k + p] };
                            a * if trans_b { b[j * k + p] } else { b[p * n + j] }
                        };
                        // Whole numbers below 2^24, so that the order of terms does not matter.
                        let want: f32 = (0..k).map(at).sum();
                        assert_eq!(out[i * n + j], want, "{m} {n} {k} {trans_a} {trans_b} ({i}, {j})");
                    }
                }
            }
        }
    }
}
