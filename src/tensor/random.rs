//! Tensors of random numbers.

use super::{Shape, Tensor, TensorData};
use crate::rng::Stream;

impl Tensor {
    /// Floats uniform in [0, 1) (`torch.rand`): the next numbers of a stream, row by row, each
    /// [`Stream::next_f64`] rounded to the nearest f32 below 1. See [`Tensor::randn`].
    pub fn rand(shape: impl Into<Shape>, stream: &mut Stream) -> Self {
        Tensor::drawn(shape.into(), || below_1(stream.next_f64()))
    }

    /// Standard normal floats (`torch.randn`): the next numbers of a stream, row by row, each
    /// [`Stream::next_normal`] rounded to f32.
    ///
    /// The stream stands where PyTorch has its global generator: it is made from a seed and a name, and tensors drawn
    /// from it one after the other differ. The numbers are Philox's and the same on every machine; they are not
    /// PyTorch's.
    ///
    /// ```
    /// use wgrad::Tensor;
    /// use wgrad::rng::Stream;
    ///
    /// let mut stream = Stream::named(42, "data");
    /// let x = Tensor::randn([50, 13], &mut stream);
    /// let y = Tensor::randn([50, 13], &mut stream);
    /// assert_ne!(x, y);
    /// assert_eq!(x, Tensor::randn([50, 13], &mut Stream::named(42, "data")));
    /// ```
    pub fn randn(shape: impl Into<Shape>, stream: &mut Stream) -> Self {
        // Rounding is what the element type asks for.
        Tensor::drawn(shape.into(), || stream.next_normal() as f32)
    }

    fn drawn(shape: Shape, draw: impl FnMut() -> f32) -> Self {
        let data = TensorData::F32(std::iter::repeat_with(draw).take(shape.num_elems()).collect());
        Tensor { shape, data }
    }
}

/// The nearest f32, but not 1, to which numbers just below it would be rounded.
fn below_1(number: f64) -> f32 {
    (number as f32).min(1.0 - f32::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_streams_in_order() {
        let (mut one, mut other) = (Stream::named(1, "x"), Stream::named(1, "x"));
        let normal = Tensor::randn([2, 3], &mut one);
        let wanted: Vec<f32> = (0..6).map(|_| other.next_normal() as f32).collect();
        assert_eq!((normal.shape().dims(), normal.to_f32_vec()), (&[2, 3][..], wanted));
        let uniform = Tensor::rand([1000], &mut one).to_f32_vec();
        assert_eq!(f64::from(uniform[0]), f64::from(other.next_f64() as f32));
        assert!(uniform.iter().all(|x| (0.0..1.0).contains(x)));
    }

    #[test]
    fn no_uniform_number_is_rounded_to_1() {
        assert_eq!((below_1(0.25), below_1(1.0 - 1e-16)), (0.25, 0.999_999_94));
    }
}
