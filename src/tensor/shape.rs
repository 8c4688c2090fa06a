//! The shape of a tensor.

use std::fmt;

/// The extents of a tensor's dimensions, outermost first; row-major. A scalar has none.
///
/// Functions that take a shape accept an array: `Tensor::zeros([2, 3])`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// A shape of these extents: `Shape::new([2, 3])`, the same as `Shape::from([2, 3])`.
    pub fn new(dims: impl Into<Shape>) -> Self {
        dims.into()
    }

    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Shape(Vec::new())
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements; 1 for a scalar. `usize::MAX` where they are more than that: no tensor has such a shape.
    pub fn num_elems(&self) -> usize {
        self.0.iter().fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }

    /// Row-major strides in elements; `usize::MAX` where one is more than that.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1_usize; self.rank()];
        for axis in (0..self.rank().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1].saturating_mul(self.0[axis + 1]);
        }
        strides
    }

    /// The shape both operands stretch to under NumPy's broadcasting, or `None` where they do not fit.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let extent = |shape: &Shape, axis: usize| {
            let missing = rank - shape.rank();
            if axis < missing { 1 } else { shape.0[axis - missing] }
        };
        (0..rank)
            .map(|axis| match (extent(self, axis), extent(other, axis)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Shape)
    }
}

impl std::ops::Index<usize> for Shape {
    type Output = usize;
    fn index(&self, axis: usize) -> &usize {
        &self.0[axis]
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape(dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(dims.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(dims.to_vec())
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        shape.clone()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(usize::to_string).collect();
        write!(f, "({})", dims.join(", "))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_count_does_not_wrap() {
        let quarter = 1 << (usize::BITS - 2);
        let shape = Shape::from([4, quarter + 1]);
        assert_eq!(shape.num_elems(), usize::MAX, "and not 4");
        assert_eq!(Shape::from([2, 4, quarter]).strides(), [usize::MAX, quarter, 1]);
        assert_eq!(Shape::from([4, quarter, 0]).num_elems(), 0);
        assert_eq!(Shape::from([0, 4, quarter]).num_elems(), 0);
    }
}
