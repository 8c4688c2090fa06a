//! wgrad

pub mod data;
pub mod exec;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod rng;
pub mod train;

mod error;
mod files;
mod tensor;

pub use error::{Error, Result};
pub use exec::{Device, Program, StateDict, StepTable};
pub use graph::gradcheck::gradcheck;
pub use graph::plan::Plan;
pub use graph::{Graph, Value, ValueAndGrad, evaluate, value_and_grad};
pub use tensor::{DType, Shape, Tensor, TensorData, TensorType};
