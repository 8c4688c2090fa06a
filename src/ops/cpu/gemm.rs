//! Matrix products on the CPU: a safe interface to the `gemm` crate, which selects its kernel for the CPU.

use super::Float;

/// A matrix as a slice with strides in elements.
#[derive(Clone, Copy)]
pub struct Matrix<'a, F> {
    /// The elements.
    pub data: &'a [F],
    /// From one row to the next.
    pub row_stride: usize,
    /// From one column to the next.
    pub col_stride: usize,
}

impl<'a, F> Matrix<'a, F> {
    /// A row-major matrix of `cols` columns.
    pub fn new(data: &'a [F], cols: usize) -> Self {
        Matrix { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose of a row-major matrix of `cols` columns.
    pub fn transposed(data: &'a [F], cols: usize) -> Self {
        Matrix { data, row_stride: 1, col_stride: cols }
    }

    /// [`Matrix::new`] or [`Matrix::transposed`].
    pub fn maybe_transposed(data: &'a [F], cols: usize, transpose: bool) -> Self {
        if transpose { Matrix::transposed(data, cols) } else { Matrix::new(data, cols) }
    }

    /// Whether all of `rows` by `cols` lies within the slice.
    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }
}

/// What happens to the old contents of an output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// They are replaced.
    Overwrite,
    /// The product is added to them.
    Accumulate,
}

/// `out (m, n) = a (m, k) · b (k, n)`, row-major with `out_stride` from row to row. One thread: callers cut their work
/// into pieces of fixed size instead, so that the result does not depend on the number of threads.
pub fn gemm<F: Float>(
    [m, n, k]: [usize; 3],
    a: Matrix<'_, F>,
    b: Matrix<'_, F>,
    out: &mut [F],
    out_stride: usize,
    store: Store,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "gemm operands hold (m, k) and (k, n)");
    assert!(n <= out_stride && (m - 1) * out_stride + n <= out.len(), "gemm output holds (m, n)");
    // Strides of matrices in memory are far below isize::MAX.
    let stride = |elems: usize| elems as isize;
    #[expect(unsafe_code, reason = "the gemm crate takes raw pointers")]
    // SAFETY: the assertions above keep every element that gemm reads or writes, (m, k), (k, n) and (m, n) under these
    // strides, within its slice; `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(out_stride),
            store == Store::Accumulate,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            F::ONE,
            F::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
