//! Layers and models: plain descriptions that append nodes to a graph. A layer holds no weights; it declares them by
//! name, so that a training graph and an evaluation graph share them, and a safetensors file from PyTorch fits.

mod layers;
mod lenet;
pub mod onnx;
mod sequential;
mod summary;
pub mod weights;

pub use crate::graph::Init;
pub use layers::{BatchNorm2dLayer, Conv2dLayer, Linear};
pub use lenet::LeNet5;
pub use sequential::Sequential;
pub use summary::{LayerSummary, Summary};

use crate::{Graph, Result, Value};

/// Whether a graph is built for training or for evaluation. There is no switch within a graph: the two are two
/// graphs that share parameters by name.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Batch statistics, and dropout under this seed.
    Train {
        /// The key of dropout's random numbers.
        seed: u64,
        /// The number of the step, a u32 scalar: every step drops others.
        step: Value,
    },
    /// Running statistics, no dropout.
    Eval,
}

/// A network that turns images into class scores.
pub trait Model {
    /// Appends the scores (N, classes) of images (N, C, H, W).
    ///
    /// # Errors
    /// [`crate::Error::Operand`] where the images do not fit the network.
    fn logits(&self, graph: &mut Graph, images: Value, mode: Mode) -> Result<Value>;
}

impl<F: Fn(&mut Graph, Value, Mode) -> Result<Value>> Model for F {
    fn logits(&self, graph: &mut Graph, images: Value, mode: Mode) -> Result<Value> {
        self(graph, images, mode)
    }
}
