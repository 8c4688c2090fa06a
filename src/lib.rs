//! wgrad

pub mod data;
mod error;
pub mod rng;
mod tensor;
pub mod train;

pub use error::{Error, Result};
pub use tensor::{DType, Shape, Tensor, TensorData, TensorType};
