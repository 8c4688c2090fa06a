//! Layers, named and laid out as PyTorch's. A layer is a plain value that appends nodes to a graph under its name, which
//! is a [`scope`](Graph::scope): within a scope `layer1.0`, the weight of `conv1` is `layer1.0.conv1.weight`. A layer
//! without a name declares its states in the scope it is used in.
//!
//! ```
//! use wgrad::nn::{BatchNorm2d, Conv2d, Mode};
//! use wgrad::{Graph, TensorType};
//!
//! # fn main() -> wgrad::Result<()> {
//! let mut graph = Graph::new("example");
//! let images = graph.input("images", TensorType::f32([1, 3, 32, 32]))?;
//! let x = Conv2d::new("conv1", 16, 3).padding(1).bias(false).forward(&mut graph, images)?;
//! let x = BatchNorm2d::new("bn1").forward(&mut graph, x, Mode::Eval)?;
//! assert_eq!(graph.shape(x).dims(), [1, 16, 32, 32]);
//! # Ok(())
//! # }
//! ```

use serde::{Deserialize, Serialize};

use super::settings::{is_false, is_one, is_ones, is_true, is_zeros, one, ones, pair, yes};
use super::{Init, Mode};
use crate::graph::{Graph, StateKind, StateSpec, Value};
use crate::ops::{self, BatchNormTensors};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// A fully connected layer (`torch.nn.Linear`): `weight` (out, in) and, unless left out, `bias` (out). Both start
/// uniform within 1/√in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The layer's name.
    pub name: String,
    /// Features of the output.
    pub out_features: usize,
    /// Whether a bias is added. Default true.
    pub bias: bool,
}

impl Linear {
    /// A layer of the given name and width; the width of the input follows from the input (`torch.nn.LazyLinear`).
    pub fn new(name: &str, out_features: usize) -> Self {
        Linear { name: name.to_owned(), out_features, bias: true }
    }

    /// The same with or without a bias.
    pub fn bias(self, bias: bool) -> Self {
        Linear { bias, ..self }
    }

    /// (…, in) to (…, out).
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` has no features; [`Error::NameClash`] where the name is taken.
    pub fn forward(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let Some(&in_features) = graph.shape(x).dims().last() else {
            return Err(Error::operand("linear", "an input of shape (…, in)", graph.shape(x).to_string()));
        };
        at_least_1("linear", "out_features", self.out_features)?;
        graph.scope(&self.name, |graph| {
            let init = Init::default_uniform(in_features);
            let weight = graph.parameter("weight", [self.out_features, in_features], init.clone())?;
            let bias = self.bias.then(|| graph.parameter("bias", [self.out_features], init)).transpose()?;
            graph.linear(x, weight, bias)
        })
    }
}

/// How the weights of a convolution start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightInit {
    /// Weights and biases uniform within 1/√fan_in, PyTorch's default.
    #[default]
    Uniform,
    /// Weights normal with variance 2/fan_out, biases 0: `kaiming_normal_(mode="fan_out", nonlinearity="relu")` (He,
    /// Zhang, Ren and Sun, "Delving deep into rectifiers", 2015), which torchvision's networks start from.
    KaimingNormal,
}

impl WeightInit {
    fn is_default(&self) -> bool {
        *self == WeightInit::default()
    }
}

/// A convolution (`torch.nn.Conv2d`): `weight` (out, in/groups, kh, kw) and, unless left out, `bias` (out). Pairs are
/// [height, width]; in a file one number stands for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// The layer's name.
    #[serde(skip)]
    pub name: String,
    /// Channels of the output.
    pub out_channels: usize,
    /// Extents of the kernel.
    #[serde(with = "pair")]
    pub kernel_size: [usize; 2],
    /// From one window to the next. Default 1.
    #[serde(default = "ones", with = "pair", skip_serializing_if = "is_ones")]
    pub stride: [usize; 2],
    /// Zeros on each side. Default 0.
    #[serde(default, with = "pair", skip_serializing_if = "is_zeros")]
    pub padding: [usize; 2],
    /// From one cell of a window to the next. Default 1.
    #[serde(default = "ones", with = "pair", skip_serializing_if = "is_ones")]
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Whether a bias is added. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub bias: bool,
    /// How the weights start.
    #[serde(default, skip_serializing_if = "WeightInit::is_default")]
    pub init: WeightInit,
}

impl Conv2d {
    /// A layer with a square kernel, stride 1, no padding and a bias.
    pub fn new(name: &str, out_channels: usize, kernel_size: usize) -> Self {
        Conv2d {
            name: name.to_owned(),
            out_channels,
            kernel_size: [kernel_size; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            bias: true,
            init: WeightInit::default(),
        }
    }

    /// The same with this stride in both directions.
    pub fn stride(self, stride: usize) -> Self {
        Conv2d { stride: [stride; 2], ..self }
    }

    /// The same with this many zeros on each side.
    pub fn padding(self, padding: usize) -> Self {
        Conv2d { padding: [padding; 2], ..self }
    }

    /// The same with this dilation in both directions.
    pub fn dilation(self, dilation: usize) -> Self {
        Conv2d { dilation: [dilation; 2], ..self }
    }

    /// The same in groups of channels.
    pub fn groups(self, groups: usize) -> Self {
        Conv2d { groups, ..self }
    }

    /// The same with or without a bias.
    pub fn bias(self, bias: bool) -> Self {
        Conv2d { bias, ..self }
    }

    /// The same with weights that start so.
    pub fn init(self, init: WeightInit) -> Self {
        Conv2d { init, ..self }
    }

    /// (N, in, H, W) to (N, out, H', W').
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` does not fit; [`Error::NameClash`] where the name is taken.
    pub fn forward(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let &[_, in_channels, _, _] = graph.shape(x).dims() else {
            return Err(Error::operand("conv2d", "an input (N, C, H, W)", graph.shape(x).to_string()));
        };
        let Conv2d { out_channels, kernel_size: [height, width], stride, padding, dilation, groups, .. } = *self;
        at_least_1("conv2d", "out_channels", out_channels)?;
        at_least_1("conv2d", "kernel_size", height.min(width))?;
        if groups == 0 || in_channels % groups != 0 {
            let got = format!("{groups} groups for an input of {}", graph.shape(x));
            return Err(Error::operand("conv2d", "groups that divide the input's channels", got));
        }
        let group_in = in_channels / groups;
        let (weight_init, bias_init) = match self.init {
            WeightInit::Uniform => {
                let init = Init::default_uniform(product([group_in, height, width]));
                (init.clone(), init)
            }
            WeightInit::KaimingNormal => {
                // PyTorch counts fan_out by the shape of the weight, whatever the groups.
                let fan_out = product([out_channels, height, width]) as f64;
                (Init::Normal { std: (2.0 / fan_out).sqrt() }, Init::Zeros)
            }
        };
        let conv = ops::Conv2d { stride, padding, dilation, groups, ..ops::Conv2d::default() };
        graph.scope(&self.name, |graph| {
            let weight = graph.parameter("weight", [out_channels, group_in, height, width], weight_init)?;
            let bias = self.bias.then(|| graph.parameter("bias", [out_channels], bias_init)).transpose()?;
            graph.conv2d(x, weight, bias, conv)
        })
    }
}

/// Batch normalization of channels (`torch.nn.BatchNorm2d`): `weight`, `bias`, `running_mean` and `running_var`, each
/// (C).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchNorm2d {
    /// The layer's name.
    #[serde(skip)]
    pub name: String,
    /// Added to the variance under the root. Default 1e-5.
    pub eps: f64,
    /// The share of the batch in the running statistics. Default 0.1.
    pub momentum: f64,
}

impl Default for BatchNorm2d {
    fn default() -> Self {
        BatchNorm2d { name: String::new(), eps: 1e-5, momentum: 0.1 }
    }
}

impl BatchNorm2d {
    /// A layer with PyTorch's defaults.
    pub fn new(name: &str) -> Self {
        BatchNorm2d { name: name.to_owned(), ..BatchNorm2d::default() }
    }

    /// (N, C, H, W) to the same shape; in training by the batch's statistics, else by the running ones.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` does not fit; [`Error::NameClash`] where the name is taken.
    pub fn forward(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        let &[_, channels, _, _] = graph.shape(x).dims() else {
            return Err(Error::operand("batch_norm2d", "an input (N, C, H, W)", graph.shape(x).to_string()));
        };
        let statistic = |name: &str, init: f64| StateSpec {
            name: name.to_owned(),
            ty: TensorType::f32([channels]),
            kind: StateKind::Buffer,
            init: Init::Constant(init),
        };
        graph.scope(&self.name, |graph| {
            let weight = graph.parameter("weight", [channels], Init::Constant(1.0))?;
            let bias = graph.parameter("bias", [channels], Init::Zeros)?;
            let running_mean = graph.state(statistic("running_mean", 0.0))?;
            let running_var = graph.state(statistic("running_var", 1.0))?;
            let tensors = BatchNormTensors { weight, bias, running_mean, running_var, num_batches_tracked: None };
            match mode {
                Mode::Train { .. } => {
                    let attributes = ops::BatchNorm2d { eps: self.eps, momentum: Some(self.momentum) };
                    graph.batch_norm2d(x, tensors, attributes)
                }
                Mode::Eval => graph.batch_norm2d_eval(x, tensors, self.eps),
            }
        })
    }
}

/// Dropout (`torch.nn.Dropout`), in training only. Every layer of a graph draws masks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability that an element is dropped, from 0 to 1.
    pub p: f64,
}

impl Dropout {
    /// Dropout with this probability; 0 leaves it out.
    pub fn new(p: f64) -> Self {
        Dropout { p }
    }

    /// The same shape.
    ///
    /// # Errors
    /// [`Error::Operand`] where `p` is not a probability.
    pub fn forward(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        match mode {
            Mode::Train { seed, step } if self.p != 0.0 => {
                let layer = graph.next_stream();
                graph.dropout(x, ops::Dropout { p: self.p, seed, layer }, step)
            }
            _ => Ok(x),
        }
    }
}

/// Windows of a pooling (`torch.nn.MaxPool2d`, `AvgPool2d`). Pairs are [height, width].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Windows {
    #[serde(with = "pair")]
    pub kernel_size: [usize; 2],
    /// Without one the kernel's size: windows side by side.
    #[serde(default, with = "pair::optional", skip_serializing_if = "Option::is_none")]
    pub stride: Option<[usize; 2]>,
    #[serde(default, with = "pair", skip_serializing_if = "is_zeros")]
    pub padding: [usize; 2],
    #[serde(default, skip_serializing_if = "is_false")]
    pub ceil_mode: bool,
}

impl Windows {
    pub fn new(kernel_size: usize) -> Self {
        Windows { kernel_size: [kernel_size; 2], stride: None, padding: [0; 2], ceil_mode: false }
    }

    pub fn max(&self) -> ops::MaxPool2d {
        let Windows { kernel_size, stride, padding, ceil_mode } = *self;
        let stride = stride.unwrap_or(kernel_size);
        ops::MaxPool2d { stride, padding, ceil_mode, ..ops::MaxPool2d::new(kernel_size) }
    }

    pub fn avg(&self) -> ops::AvgPool2d {
        let Windows { kernel_size, stride, padding, ceil_mode } = *self;
        let stride = stride.unwrap_or(kernel_size);
        ops::AvgPool2d { stride, padding, ceil_mode, ..ops::AvgPool2d::new(kernel_size) }
    }
}

/// Beyond what can be counted, the weight is refused as too large.
fn product(extents: [usize; 3]) -> usize {
    extents.into_iter().fold(1, usize::saturating_mul)
}

fn at_least_1(layer: &str, name: &str, value: usize) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(Error::operand(layer, format!("{name} of at least 1"), "0")) }
}
