//! A network as a list of layers.

use super::layers::Windows;
use super::layers_file::Kind;
use super::{BatchNorm2d, Conv2d, Dropout, Linear, Mode, Model};
use crate::ops::Activation;
use crate::{Error, Graph, Result, Value};

/// One layer after another (`torch.nn.Sequential`). Layers are named by their position in the list, as in PyTorch
/// ("0.weight", "2.bias"), so that its files fit; [`Sequential::named`] gives one another name. A list can also be
/// [read from a file](super::Network::from_file).
///
/// ```
/// use wgrad::nn::{Conv2d, Sequential};
///
/// let mlp = Sequential::new().flatten().linear(128).relu().linear(64).relu().linear(10).log_softmax();
/// let block = Sequential::new().add(Conv2d::new("", 6, 3).padding(1).bias(false)).batch_norm2d();
/// let conv = Sequential::new().conv2d(6, 5).named("conv1").relu().residual(block).global_avg_pool2d().flatten().linear(10);
/// # let _ = (mlp, conv);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequential {
    pub(super) layers: Vec<Layer>,
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    /// Replaces its position in the list.
    pub name: Option<String>,
    pub kind: Kind,
}

/// How a list is walked through.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub mode: Mode,
    /// The width of a linear layer that gives none.
    pub num_classes: Option<usize>,
}

impl Sequential {
    /// No layers yet: what goes in comes out.
    pub fn new() -> Self {
        Sequential::default()
    }

    /// A fully connected layer with a bias; the width of its input follows from the input (`torch.nn.LazyLinear`).
    pub fn linear(self, out_features: usize) -> Self {
        self.with(Kind::Linear { out_features: Some(out_features), bias: true })
    }

    /// A convolution with a square kernel, stride 1, no padding and a bias. For another, [`add`](Sequential::add) a
    /// [`Conv2d`].
    pub fn conv2d(self, out_channels: usize, kernel_size: usize) -> Self {
        self.add(Conv2d::new("", out_channels, kernel_size))
    }

    /// Batch normalization of channels, with PyTorch's defaults.
    pub fn batch_norm2d(self) -> Self {
        self.add(BatchNorm2d::default())
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

    /// Maximum pooling over squares that do not overlap.
    pub fn max_pool2d(self, kernel_size: usize) -> Self {
        self.with(Kind::MaxPool2d(Windows::new(kernel_size)))
    }

    /// Average pooling over squares that do not overlap.
    pub fn avg_pool2d(self, kernel_size: usize) -> Self {
        self.with(Kind::AvgPool2d(Windows::new(kernel_size)))
    }

    /// The mean of each channel: (N, C, H, W) to (N, C, 1, 1).
    pub fn global_avg_pool2d(self) -> Self {
        self.with(Kind::GlobalAvgPool2d)
    }

    /// (N, C, H, W) to (N, C·H·W).
    pub fn flatten(self) -> Self {
        self.with(Kind::Flatten)
    }

    /// Dropout with probability `p`, in training only.
    pub fn dropout(self, p: f64) -> Self {
        self.add(Dropout::new(p))
    }

    /// `x + layers(x)` (He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015). States are under
    /// `layers`: "3.layers.0.weight".
    pub fn residual(self, layers: Sequential) -> Self {
        self.residual_with(layers, Sequential::new())
    }

    /// `shortcut(x) + layers(x)`: for layers that change the shape. States are under `layers` and `shortcut`.
    pub fn residual_with(self, layers: Sequential, shortcut: Sequential) -> Self {
        self.with(Kind::Residual { layers, shortcut })
    }

    /// A layer with options of its own. Its name, if it has one, replaces its number.
    #[expect(clippy::should_implement_trait, reason = "a layer is added to a list, not to a number")]
    pub fn add(mut self, layer: impl Into<AnyLayer>) -> Self {
        self.layers.push(layer.into().0);
        self
    }

    /// The layers of another list after these, numbered on from them: a block that a function makes.
    pub fn extend(mut self, layers: Sequential) -> Self {
        self.layers.extend(layers.layers);
        self
    }

    /// Names the layer added last, instead of numbering it: "fc1" for "fc1.weight" and "fc1.bias".
    pub fn named(mut self, name: &str) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            layer.name = Some(name.to_owned());
        }
        self
    }

    /// Appends the layers to a graph, each under its name.
    ///
    /// # Errors
    /// [`Error::Operand`] naming the layer (`layers[3].layers[0] (conv2d)`) that does not take what the one before it
    /// gives.
    pub fn forward(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        self.append(graph, x, Pass { mode, num_classes: None }, "layers")
    }

    /// [`Sequential::forward`] of a list that is at `path`.
    pub(super) fn append(&self, graph: &mut Graph, mut x: Value, pass: Pass, path: &str) -> Result<Value> {
        for (place, layer) in self.layers.iter().enumerate() {
            let path = format!("{path}[{place}]");
            let name = layer.name.clone().unwrap_or_else(|| place.to_string());
            let input = graph.shape(x).clone();
            x = graph.scope(&name, |graph| layer.kind.append(graph, x, pass, &path)).map_err(|error| match error {
                // One of a list within names itself.
                Error::Operand { op, expected, got } if !op.starts_with(&path) => {
                    let got = format!("{got}; its input is {input}");
                    Error::Operand { op: format!("{path} ({})", layer.kind.name()), expected, got }
                }
                other => other,
            })?;
        }
        Ok(x)
    }

    fn with(mut self, kind: Kind) -> Self {
        self.layers.push(Layer { name: None, kind });
        self
    }
}

/// A layer that [`Sequential::add`] takes.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyLayer(Layer);

impl AnyLayer {
    fn new(name: String, kind: Kind) -> Self {
        AnyLayer(Layer { name: (!name.is_empty()).then_some(name), kind })
    }
}

impl From<Conv2d> for AnyLayer {
    fn from(mut layer: Conv2d) -> Self {
        AnyLayer::new(std::mem::take(&mut layer.name), Kind::Conv2d(layer))
    }
}

impl From<Linear> for AnyLayer {
    fn from(Linear { name, out_features, bias }: Linear) -> Self {
        AnyLayer::new(name, Kind::Linear { out_features: Some(out_features), bias })
    }
}

impl From<BatchNorm2d> for AnyLayer {
    fn from(mut layer: BatchNorm2d) -> Self {
        AnyLayer::new(std::mem::take(&mut layer.name), Kind::BatchNorm2d(layer))
    }
}

impl From<Dropout> for AnyLayer {
    fn from(layer: Dropout) -> Self {
        AnyLayer::new(String::new(), Kind::Dropout(layer))
    }
}

impl Kind {
    fn append(&self, graph: &mut Graph, x: Value, pass: Pass, path: &str) -> Result<Value> {
        match self {
            Kind::Linear { out_features, bias } => {
                let Some(out_features) = out_features.or(pass.num_classes) else {
                    let got = "none, and no number of classes to take instead";
                    return Err(Error::operand("linear", "out_features", got));
                };
                Linear::new("", out_features).bias(*bias).forward(graph, x)
            }
            Kind::Conv2d(layer) => layer.forward(graph, x),
            Kind::BatchNorm2d(layer) => layer.forward(graph, x, pass.mode),
            Kind::Activation(activation) => graph.activation(x, *activation),
            Kind::Gelu => graph.gelu(x),
            Kind::Silu => graph.silu(x),
            Kind::LeakyRelu { negative_slope } => graph.leaky_relu(x, *negative_slope),
            Kind::LogSoftmax => {
                let rank = graph.shape(x).rank();
                graph.log_softmax(x, rank.saturating_sub(1))
            }
            Kind::MaxPool2d(windows) => graph.max_pool2d(x, windows.max()),
            Kind::AvgPool2d(windows) => graph.avg_pool2d(x, windows.avg()),
            Kind::GlobalAvgPool2d => graph.global_avg_pool2d(x),
            Kind::Flatten => graph.flatten(x, 1),
            Kind::Dropout(layer) => layer.forward(graph, x, pass.mode),
            Kind::Residual { layers, shortcut } => {
                let inner = format!("{path}.layers");
                let y = graph.scope("layers", |graph| layers.append(graph, x, pass, &inner))?;
                let inner = format!("{path}.shortcut");
                let x = graph.scope("shortcut", |graph| shortcut.append(graph, x, pass, &inner))?;
                if graph.shape(x) != graph.shape(y) {
                    let expected = format!("layers that give {} as the shortcut does", graph.shape(x));
                    return Err(Error::operand("residual", expected, graph.shape(y).to_string()));
                }
                graph.add(x, y)
            }
        }
    }
}

impl Model for Sequential {
    fn logits(&self, graph: &mut Graph, images: Value, mode: Mode) -> Result<Value> {
        self.forward(graph, images, mode)
    }
}
