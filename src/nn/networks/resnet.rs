//! The residual networks for small images of He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
//! 2016, section 4.2: three stages of basic blocks of two 3×3 convolutions. Named as torchvision's ResNets.

use serde::{Deserialize, Serialize};

use super::{Architecture, MAX_LAYERS};
use crate::nn::{BatchNorm2d, Conv2d, Linear, Mode, WeightInit};
use crate::ops::SliceRange;
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Graph, Result, Value};

/// `conv1`, `bn1`, ReLU; stages `layer1` to `layer3` of (depth − 2)/6 blocks each, with `width`, 2·`width` and 4·`width`
/// channels, the second and third at half the extents of the one before; the mean of each channel; `fc`. Convolutions
/// have no bias. With option A and ten classes, depth 20 has 269,722 parameters, as in the paper's table 6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNet {
    /// Layers with weights on the longest way through: 8, 14, 20, 32, 44, 56, 110, …. Default 20.
    pub depth: usize,
    /// Channels of the first stage. Default 16.
    pub width: usize,
    /// What the way around a block that changes the shape does. Default A.
    pub shortcut: Shortcut,
}

/// The way around a block that changes the shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shortcut {
    /// Every second pixel of every second row, and zeros for the channels that are new, half of them before and half
    /// after the others. It has no weights. What the paper takes for CIFAR-10.
    #[default]
    A,
    /// A 1×1 convolution with stride 2 and a batch normalization, `downsample.0` and `downsample.1`. What torchvision
    /// has.
    B,
}

impl Default for ResNet {
    fn default() -> Self {
        ResNet { depth: 20, width: 16, shortcut: Shortcut::A }
    }
}

impl Described for ResNet {
    const NAME: &'static str = "resnet";
    const ABOUT: &'static str = "Residual network for small images (He et al., 2016)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("depth", Takes::Count, "Layers with weights, 6n + 2: 8, 14, 20, 32, ..."),
        Setting::new("width", Takes::Count, "Channels of the first stage"),
        Setting::new("shortcut", Takes::Word(&["A", "B"]), "Where a block changes the shape: A pads, B projects"),
    ];
}

impl Architecture for ResNet {
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value> {
        let mut x = conv("conv1", self.width, 3, 1).forward(graph, images)?;
        x = BatchNorm2d::new("bn1").forward(graph, x, mode)?;
        x = graph.scope("relu", |graph| graph.relu(x))?;
        for stage in 0..3 {
            for block in 0..self.blocks() {
                let name = format!("layer{}.{block}", stage + 1);
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let block = Block { channels: self.width.saturating_mul(1 << stage), stride, shortcut: self.shortcut };
                x = graph.scope(&name, |graph| block.forward(graph, x, mode))?;
            }
        }
        x = graph.global_avg_pool2d(x)?;
        x = graph.flatten(x, 1)?;
        Linear::new("fc", num_classes).forward(graph, x)
    }

    fn validate(&self) -> Result<()> {
        if !(8..=MAX_LAYERS).contains(&self.depth) || self.depth % 6 != 2 {
            let expected = format!("6n + 2, such as 8, 14, 20 or 32, and at most {MAX_LAYERS}");
            return Err(Error::setting("network.depth", expected, self.depth));
        }
        if self.width == 0 {
            return Err(Error::setting("network.width", "at least 1", 0));
        }
        Ok(())
    }

    fn title(&self) -> String {
        let default = ResNet::default();
        let width = if self.width == default.width { String::new() } else { format!(", width {}", self.width) };
        let shortcut = if self.shortcut == default.shortcut { "" } else { ", projection shortcuts" };
        format!("ResNet-{}{width}{shortcut}", self.depth)
    }
}

impl ResNet {
    /// Blocks of a stage.
    fn blocks(&self) -> usize {
        (self.depth - 2) / 6
    }
}

/// A basic block.
struct Block {
    channels: usize,
    stride: usize,
    shortcut: Shortcut,
}

impl Block {
    /// relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x)))))).
    fn forward(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        let Block { channels, stride, .. } = *self;
        let mut y = conv("conv1", channels, 3, stride).forward(graph, x)?;
        y = BatchNorm2d::new("bn1").forward(graph, y, mode)?;
        y = graph.scope("relu", |graph| graph.relu(y))?;
        y = conv("conv2", channels, 3, 1).forward(graph, y)?;
        y = BatchNorm2d::new("bn2").forward(graph, y, mode)?;
        let shortcut = if graph.shape(x) == graph.shape(y) { x } else { self.shortcut(graph, x, mode)? };
        let sum = graph.add(y, shortcut)?;
        graph.scope("relu", |graph| graph.relu(sum))
    }

    /// `x` with the block's channels at half the extents.
    fn shortcut(&self, graph: &mut Graph, x: Value, mode: Mode) -> Result<Value> {
        let &[batch, in_channels, height, width] = graph.shape(x).dims() else {
            return Err(Error::operand(ResNet::NAME, "an input (N, C, H, W)", graph.shape(x).to_string()));
        };
        let Block { channels, stride, .. } = *self;
        graph.scope("downsample", |graph| match self.shortcut {
            Shortcut::A => {
                let all = |stop| SliceRange { start: 0, stop, step: 1 };
                let strided = |stop| SliceRange { start: 0, stop, step: stride };
                let ranges = [all(batch), all(in_channels), strided(height), strided(width)];
                let small = graph.slice(x, &ranges)?;
                let before = (channels - in_channels) / 2;
                graph.pad(small, &[(0, 0), (before, channels - in_channels - before), (0, 0), (0, 0)])
            }
            Shortcut::B => {
                let projection = Conv2d { padding: [0; 2], ..conv("0", channels, 1, stride) };
                let projected = projection.forward(graph, x)?;
                BatchNorm2d::new("1").forward(graph, projected, mode)
            }
        })
    }
}

fn conv(name: &str, channels: usize, kernel_size: usize, stride: usize) -> Conv2d {
    let conv = Conv2d::new(name, channels, kernel_size).stride(stride).padding(1);
    conv.bias(false).init(WeightInit::KaimingNormal)
}
