//! Walking several operands under one shape, each by its own strides: broadcasting, permuting and reducing are all
//! this. Kernels get the shape with as few dimensions as will do.

use crate::ops::kernel::to_u32;
use crate::tensor::Shape;

/// The most dimensions that kernels walk over.
pub(crate) const MAX_RANK: usize = 8;

/// A shape and, for each operand, its strides in elements under that shape; 0 where the operand is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strided<const N: usize> {
    pub shape: Vec<usize>,
    pub strides: [Vec<usize>; N],
}

impl<const N: usize> Strided<N> {
    /// Operands stretched to `shape` by NumPy's broadcasting.
    pub fn broadcast(shape: &Shape, operands: [&Shape; N]) -> Self {
        Strided { shape: shape.dims().to_vec(), strides: operands.map(|operand| broadcast_strides(operand, shape)) }
            .collapse()
    }

    /// The same walk with neighbouring dimensions merged where every operand steps through both as through one, and
    /// dimensions of extent 1 left out.
    pub fn collapse(mut self) -> Self {
        let mut shape: Vec<usize> = Vec::new();
        let mut strides: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
        for axis in 0..self.shape.len() {
            let extent = self.shape[axis];
            if extent == 1 {
                continue;
            }
            let merges = |operand: usize| {
                strides[operand].last().is_some_and(|&outer| outer == self.strides[operand][axis] * extent)
            };
            if !shape.is_empty() && (0..N).all(merges) {
                *shape.last_mut().expect("not empty") *= extent;
                for (merged, all) in strides.iter_mut().zip(&self.strides) {
                    *merged.last_mut().expect("as long as shape") = all[axis];
                }
            } else {
                shape.push(extent);
                for (merged, all) in strides.iter_mut().zip(&self.strides) {
                    merged.push(all[axis]);
                }
            }
        }
        (self.shape, self.strides) = (shape, strides);
        self
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Whether every operand lies under the shape element by element.
    pub fn is_contiguous(&self) -> bool {
        self.shape.is_empty() || self.shape.len() == 1 && self.strides.iter().all(|strides| strides[0] == 1)
    }

    /// Calls `row(start, offsets, inner strides, len)` for each innermost row that meets `range` of the flat index.
    #[inline(always)]
    pub fn for_rows(&self, range: std::ops::Range<usize>, mut row: impl FnMut(usize, [usize; N], [usize; N], usize)) {
        let inner = self.shape.last().copied().unwrap_or(1);
        let inner_strides = std::array::from_fn(|operand| self.strides[operand].last().copied().unwrap_or(0));
        let mut index = range.start;
        while index < range.end {
            let column = index % inner;
            let len = (inner - column).min(range.end - index);
            row(index, self.offsets(index), inner_strides, len);
            index += len;
        }
    }

    /// Each operand's offset at a flat index.
    pub fn offsets(&self, mut index: usize) -> [usize; N] {
        let mut offsets = [0; N];
        for axis in (0..self.shape.len()).rev() {
            let position = index % self.shape[axis];
            index /= self.shape[axis];
            for (offset, strides) in offsets.iter_mut().zip(&self.strides) {
                *offset += position * strides[axis];
            }
        }
        offsets
    }

    pub fn shape_dims(&self) -> [u32; MAX_RANK] {
        dims(&self.shape)
    }

    pub fn stride_dims(&self, operand: usize) -> [u32; MAX_RANK] {
        dims(&self.strides[operand])
    }
}

/// Strides of `operand` under `shape`, which it broadcasts to.
pub(crate) fn broadcast_strides(operand: &Shape, shape: &Shape) -> Vec<usize> {
    let missing = shape.rank() - operand.rank();
    let own = operand.strides();
    (0..shape.rank())
        .map(|axis| if axis < missing || operand[axis - missing] == 1 { 0 } else { own[axis - missing] })
        .collect()
}

/// Extents or strides as a kernel takes them.
pub(crate) fn dims(values: &[usize]) -> [u32; MAX_RANK] {
    let mut dims = [0; MAX_RANK];
    for (dim, &value) in dims.iter_mut().zip(values) {
        *dim = to_u32(value);
    }
    dims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collapses_what_all_operands_step_through_alike() {
        let (full, row) = (Shape::from([4, 3, 5]), Shape::from([5]));
        let same = Strided::broadcast(&full, [&full, &full]);
        assert!(same.is_contiguous() && same.shape == [60]);
        let bias = Strided::broadcast(&full, [&full, &row]);
        assert_eq!((bias.shape.as_slice(), bias.strides[1].as_slice()), ([12, 5].as_slice(), [0, 1].as_slice()));
        assert_eq!(bias.offsets(58), [58, 3]);
    }

    #[test]
    fn rows_cover_a_range_once() {
        let (full, column) = (Shape::from([3, 4]), Shape::from([3, 1]));
        let walk = Strided::broadcast(&full, [&full, &column]);
        let mut seen = Vec::new();
        walk.for_rows(2..11, |start, [a, b], [step_a, step_b], len| {
            seen.extend((0..len).map(|i| (start + i, a + i * step_a, b + i * step_b)));
        });
        assert_eq!(seen, (2..11).map(|i| (i, i, i / 4)).collect::<Vec<_>>());
    }
}
