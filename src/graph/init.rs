//! How states start.

use crate::rng::Stream;
use crate::tensor::{DType, Tensor, TensorData, TensorType};

/// A state's initial value: a pure function of the seed and the state's name, so that it depends neither on the order
/// of declarations nor on the device.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// All elements 0.
    Zeros,
    /// All elements the same.
    Constant(f64),
    /// Uniform in [−bound, bound).
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// Given values.
    Values(Tensor),
}

impl Init {
    /// PyTorch's default for weights and biases of `Linear` and `Conv2d`: uniform within 1/√fan_in, which is
    /// `kaiming_uniform_` with a = √5 (`torch.nn.Linear.reset_parameters`). `fan_in` is the number of inputs that one
    /// output sums over.
    pub fn default_uniform(fan_in: usize) -> Init {
        Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }

    /// The initial tensor; `None` where a byte state simply starts empty, until the host writes it.
    pub(crate) fn tensor(&self, name: &str, ty: &TensorType, seed: u64) -> Option<Tensor> {
        let num_elems = ty.shape.num_elems();
        let mut stream = Stream::named(seed, name);
        let data = match (self, ty.dtype) {
            (Init::Values(tensor), _) => return Some(tensor.clone()),
            (_, DType::U8) => return None,
            (_, DType::U32) => TensorData::U32(vec![0; num_elems]),
            (Init::Zeros, DType::F32) => TensorData::F32(vec![0.0; num_elems]),
            // Weights are kept in f32 on every device, so that all of them start from the same bits.
            (Init::Constant(value), DType::F32) => TensorData::F32(vec![*value as f32; num_elems]),
            (Init::Uniform { bound }, DType::F32) => {
                TensorData::F32((0..num_elems).map(|_| ((2.0 * stream.next_f64() - 1.0) * bound) as f32).collect())
            }
            (Init::Normal { std }, DType::F32) => {
                TensorData::F32((0..num_elems).map(|_| (stream.next_normal() * std) as f32).collect())
            }
        };
        Some(Tensor::new(ty.shape.clone(), data).expect("one number was drawn for each element"))
    }
}
