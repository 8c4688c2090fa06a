//! How states start.

use crate::rng::Stream;
use crate::tensor::{DType, Tensor, TensorData, TensorType};
use crate::{Error, Result};

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
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn tensor(&self, name: &str, ty: &TensorType, seed: u64) -> Result<Option<Tensor>> {
        let num_elems = ty.shape.num_elems();
        let mut stream = Stream::named(seed, name);
        let elems = 0..num_elems;
        let floats = match (self, ty.dtype) {
            (Init::Values(tensor), _) => return Ok(Some(tensor.clone())),
            (_, DType::U8) => return Ok(None),
            (_, DType::U32) => {
                let zeros = TensorData::U32(gathered(name, elems.map(|_| 0))?);
                return Tensor::new(ty.shape.clone(), zeros).map(Some);
            }
            (Init::Zeros, DType::F32) => gathered(name, elems.map(|_| 0.0)),
            // Weights are kept in f32 on every device, so that all of them start from the same bits.
            (Init::Constant(value), DType::F32) => gathered(name, elems.map(|_| *value as f32)),
            (Init::Uniform { bound }, DType::F32) => {
                gathered(name, elems.map(|_| ((2.0 * stream.next_f64() - 1.0) * bound) as f32))
            }
            (Init::Normal { std }, DType::F32) => gathered(name, elems.map(|_| (stream.next_normal() * std) as f32)),
        };
        Tensor::new(ty.shape.clone(), TensorData::F32(floats?)).map(Some)
    }
}

/// The elements of a state, if there is memory for them.
fn gathered<T>(name: &str, elems: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let needed = elems.len().saturating_mul(size_of::<T>());
    all.try_reserve_exact(elems.len()).map_err(|_| Error::memory(format!("the initial value of {name}"), needed))?;
    all.extend(elems);
    Ok(all)
}
