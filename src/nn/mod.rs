//! Layers and networks: plain descriptions that append nodes to a graph. A layer holds no weights; it declares them by
//! name, so that a training graph and an evaluation graph share them, and a safetensors file from PyTorch fits.
//!
//! A [`Model`] is anything that turns images into logits: a closure, a [`Sequential`], or a [`Classifier`], which is a
//! [`Network`] chosen by name (or a file of layers) for a number of classes.

mod layers;
mod layers_file;
pub mod networks;
#[cfg(feature = "onnx")]
pub mod onnx;
mod sequential;
mod settings;
mod summary;
pub mod weights;

pub use crate::graph::Init;
pub use layers::{BatchNorm2d, Conv2d, Dropout, Linear, WeightInit};
pub use networks::{AllConv, Architecture, Classifier, Layers, LeNet5, Mlp, Network, ResNet, Shortcut, Vgg};
pub use sequential::{AnyLayer, Sequential};
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

/// What turns images into logits. A closure of the same arguments is one too.
pub trait Model {
    /// Appends the logits (N, classes) of images (N, C, H, W).
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
