//! Layers with parameters, named and laid out as PyTorch's.

use super::{Init, Mode};
use crate::graph::{Graph, StateKind, StateSpec, Value};
use crate::ops::{BatchNorm2d, BatchNormTensors, Conv2d};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// A fully connected layer (`torch.nn.Linear`): `<name>.weight` (out, in) and `<name>.bias` (out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The layer's name.
    pub name: String,
    /// Features of the output.
    pub out_features: usize,
}

impl Linear {
    /// A layer of the given name and width; the width of the input follows from the input.
    pub fn new(name: &str, out_features: usize) -> Self {
        Linear { name: name.to_owned(), out_features }
    }

    /// (N, in) to (N, out).
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` has no features; [`Error::NameClash`] where the name is taken.
    pub fn forward(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let Some(&in_features) = graph.shape(x).dims().last() else {
            return Err(Error::operand("linear", "an input of shape (…, in)", graph.shape(x).to_string()));
        };
        graph.scoped(&self.name, |graph| {
            let init = Init::default_uniform(in_features);
            let weight =
                graph.parameter(&format!("{}.weight", self.name), [self.out_features, in_features], init.clone())?;
            let bias = graph.parameter(&format!("{}.bias", self.name), [self.out_features], init)?;
            graph.linear(x, weight, Some(bias))
        })
    }
}

/// A convolution (`torch.nn.Conv2d`): `<name>.weight` (out, in/groups, kh, kw) and `<name>.bias` (out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2dLayer {
    /// The layer's name.
    pub name: String,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Stride, padding, dilation, groups.
    pub conv: Conv2d,
}

impl Conv2dLayer {
    /// A layer with a square kernel, stride 1 and no padding.
    pub fn new(name: &str, out_channels: usize, kernel_size: usize) -> Self {
        Conv2dLayer { name: name.to_owned(), out_channels, kernel_size: [kernel_size; 2], conv: Conv2d::default() }
    }

    /// (N, in, H, W) to (N, out, H', W').
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` does not fit; [`Error::NameClash`] where the name is taken.
    pub fn forward(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let &[_, in_channels, _, _] = graph.shape(x).dims() else {
            return Err(Error::operand("conv2d", "an input (N, C, H, W)", graph.shape(x).to_string()));
        };
        let [kernel_h, kernel_w] = self.kernel_size;
        let group_in = in_channels / self.conv.groups.max(1);
        graph.scoped(&self.name, |graph| {
            let init = Init::default_uniform(group_in * kernel_h * kernel_w);
            let shape = [self.out_channels, group_in, kernel_h, kernel_w];
            let weight = graph.parameter(&format!("{}.weight", self.name), shape, init.clone())?;
            let bias = graph.parameter(&format!("{}.bias", self.name), [self.out_channels], init)?;
            graph.conv2d(x, weight, Some(bias), self.conv)
        })
    }
}

/// Batch normalisation of channels (`torch.nn.BatchNorm2d`): `<name>.weight`, `.bias`, `.running_mean` and
/// `.running_var`, each (C).
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm2dLayer {
    /// The layer's name.
    pub name: String,
    /// What is added to the variance, and how fast running statistics move.
    pub batch_norm: BatchNorm2d,
}

impl BatchNorm2dLayer {
    /// A layer with PyTorch's defaults.
    pub fn new(name: &str) -> Self {
        BatchNorm2dLayer { name: name.to_owned(), batch_norm: BatchNorm2d::default() }
    }

    /// (N, C, H, W) to the same shape; in training by the batch's statistics, else by the running ones.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` does not fit; [`Error::NameClash`] where the name is taken.
    pub fn forward(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        let &[_, channels, _, _] = graph.shape(x).dims() else {
            return Err(Error::operand("batch_norm2d", "an input (N, C, H, W)", graph.shape(x).to_string()));
        };
        let name = |part: &str| format!("{}.{part}", self.name);
        let statistic = |part: &str, init: f64| StateSpec {
            name: name(part),
            ty: TensorType::f32([channels]),
            kind: StateKind::Buffer,
            init: Init::Constant(init),
        };
        graph.scoped(&self.name, |graph| {
            let weight = graph.parameter(&name("weight"), [channels], Init::Constant(1.0))?;
            let bias = graph.parameter(&name("bias"), [channels], Init::Zeros)?;
            let mean = graph.state(statistic("running_mean", 0.0))?;
            let var = graph.state(statistic("running_var", 1.0))?;
            let tensors =
                BatchNormTensors { weight, bias, running_mean: mean, running_var: var, num_batches_tracked: None };
            match mode {
                Mode::Train { .. } => graph.batch_norm2d(x, tensors, self.batch_norm),
                Mode::Eval => graph.batch_norm2d_eval(x, tensors, self.batch_norm.eps),
            }
        })
    }
}
