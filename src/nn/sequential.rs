//! A network as a list of layers.

use super::{BatchNorm2dLayer, Conv2dLayer, Linear, Mode, Model};
use crate::ops::{Activation, Conv2d, Dropout, MaxPool2d};
use crate::{Graph, Result, Value};

/// One layer after another (`torch.nn.Sequential`). Layers with parameters are called by their place in the list, as
/// PyTorch calls them ("0.weight", "2.bias"), so that its files fit; [`Sequential::named`] gives one another name.
///
/// ```
/// use wgrad::nn::Sequential;
///
/// let mlp = Sequential::new().flatten().linear(128).relu().linear(64).relu().linear(10).log_softmax();
/// let conv = Sequential::new().conv2d(6, 5).named("conv1").relu().max_pool2d(2).flatten().linear(10);
/// # let _ = (mlp, conv);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequential {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Layer {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Linear { out_features: usize },
    Conv2d { out_channels: usize, kernel_size: usize, conv: Conv2d },
    BatchNorm2d,
    Activation(Activation),
    LogSoftmax,
    MaxPool2d { kernel_size: usize },
    Flatten,
    Dropout { p: f64 },
}

impl Sequential {
    /// No layers yet: what goes in comes out.
    pub fn new() -> Self {
        Sequential::default()
    }

    /// A fully connected layer; the width of its input follows from the input (`torch.nn.LazyLinear`).
    pub fn linear(self, out_features: usize) -> Self {
        self.with(Kind::Linear { out_features })
    }

    /// A convolution with a square kernel, stride 1 and no padding.
    pub fn conv2d(self, out_channels: usize, kernel_size: usize) -> Self {
        self.conv2d_with(out_channels, kernel_size, Conv2d::default())
    }

    /// A convolution with a square kernel and given stride, padding, dilation and groups.
    pub fn conv2d_with(self, out_channels: usize, kernel_size: usize, conv: Conv2d) -> Self {
        self.with(Kind::Conv2d { out_channels, kernel_size, conv })
    }

    /// Batch normalisation of channels, with PyTorch's defaults.
    pub fn batch_norm2d(self) -> Self {
        self.with(Kind::BatchNorm2d)
    }

    /// max(x, 0).
    pub fn relu(self) -> Self {
        self.with(Kind::Activation(Activation::Relu))
    }

    /// 1/(1 + e⁻ˣ).
    pub fn sigmoid(self) -> Self {
        self.with(Kind::Activation(Activation::Sigmoid))
    }

    /// Hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.with(Kind::Activation(Activation::Tanh))
    }

    /// Logarithms of probabilities, over the last axis; goes with [`Graph::nll_loss`].
    pub fn log_softmax(self) -> Self {
        self.with(Kind::LogSoftmax)
    }

    /// Maximum pooling over squares, which do not overlap.
    pub fn max_pool2d(self, kernel_size: usize) -> Self {
        self.with(Kind::MaxPool2d { kernel_size })
    }

    /// (N, C, H, W) to (N, C·H·W).
    pub fn flatten(self) -> Self {
        self.with(Kind::Flatten)
    }

    /// Dropout with probability `p`, in training only.
    pub fn dropout(self, p: f64) -> Self {
        self.with(Kind::Dropout { p })
    }

    /// Gives the layer added last another name than its place: "fc1" for "fc1.weight" and "fc1.bias".
    pub fn named(mut self, name: &str) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            name.clone_into(&mut layer.name);
        }
        self
    }

    /// Appends the layers to a graph, each under its name.
    ///
    /// # Errors
    /// [`crate::Error::Operand`] where a layer does not take what the one before it gives.
    pub fn forward(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        self.layers.iter().enumerate().try_fold(x, |x, (place, layer)| layer.forward(graph, x, mode, place))
    }

    fn with(mut self, kind: Kind) -> Self {
        let name = self.layers.len().to_string();
        self.layers.push(Layer { name, kind });
        self
    }
}

impl Layer {
    fn forward(&self, graph: &mut Graph, x: Value, mode: Mode, place: usize) -> Result<Value> {
        match &self.kind {
            Kind::Linear { out_features } => Linear::new(&self.name, *out_features).forward(graph, x),
            Kind::Conv2d { out_channels, kernel_size, conv } => {
                let layer = Conv2dLayer::new(&self.name, *out_channels, *kernel_size);
                Conv2dLayer { conv: *conv, ..layer }.forward(graph, x)
            }
            Kind::BatchNorm2d => BatchNorm2dLayer::new(&self.name).forward(graph, x, mode),
            Kind::Activation(activation) => graph.activation(x, *activation),
            Kind::LogSoftmax => {
                let rank = graph.shape(x).rank();
                graph.log_softmax(x, rank.saturating_sub(1))
            }
            Kind::MaxPool2d { kernel_size } => graph.max_pool2d(x, MaxPool2d::new([*kernel_size; 2])),
            Kind::Flatten => graph.flatten(x, 1),
            Kind::Dropout { p } => match mode {
                Mode::Train { seed, step } if *p > 0.0 => {
                    // Every layer draws numbers of its own; no network has 2^32 layers.
                    graph.dropout(x, Dropout { p: *p, seed, layer: place as u32 }, step)
                }
                _ => Ok(x),
            },
        }
    }
}

impl Model for Sequential {
    fn logits(&self, graph: &mut Graph, images: Value, mode: Mode) -> Result<Value> {
        self.forward(graph, images, mode)
    }
}
