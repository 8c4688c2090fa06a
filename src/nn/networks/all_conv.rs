//! The all convolutional network (Springenberg et al., "Striving for simplicity: the all convolutional net", 2015,
//! All-CNN-C): convolutions with stride 2 in place of pooling, and the mean over the image in place of fully connected
//! layers.

use serde::{Deserialize, Serialize};

use super::{Architecture, check_dropout, dropout_words};
use crate::nn::{BatchNorm2d, Conv2d, Dropout, Mode, WeightInit};
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Graph, Result, Value};

/// Two stages of three 3×3 convolutions, the third of each with stride 2, then one 3×3 and one 1×1 convolution, each
/// with ReLU, and a 1×1 convolution `classifier` to the classes, whose outputs are averaged over the image. Layers are
/// `features.0`, `features.1`, … as a `torch.nn.Sequential` of convolution, batch normalization and ReLU numbers them.
/// The default has 154,314 parameters for three channels and ten classes; the paper's has a width of 96 and no batch
/// normalization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllConv {
    /// The channels of the first stage; the rest has twice as many. Default 32.
    pub width: usize,
    /// Whether batch normalization follows each convolution but the last. Default true.
    pub batch_norm: bool,
    /// The probability of dropout after each stage; 0, the default, leaves it out.
    pub dropout: f64,
}

/// Channels in widths, kernel size and stride of each convolution before the classifier.
const CONVOLUTIONS: [(usize, usize, usize); 8] =
    [(1, 3, 1), (1, 3, 1), (1, 3, 2), (2, 3, 1), (2, 3, 1), (2, 3, 2), (2, 3, 1), (2, 1, 1)];

impl Default for AllConv {
    fn default() -> Self {
        AllConv { width: 32, batch_norm: true, dropout: 0.0 }
    }
}

impl Described for AllConv {
    const NAME: &'static str = "all_conv";
    const ABOUT: &'static str = "Convolutions alone, with stride 2 in place of pooling (Springenberg et al., 2015)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("width", Takes::Count, "Channels of the first convolutions"),
        Setting::new("batch_norm", Takes::Switch, "Normalize batches after each convolution (BatchNorm2d)"),
        Setting::new("dropout", Takes::Number, "Probability of dropout"),
    ];
}

impl Architecture for AllConv {
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value> {
        let x = graph.scope("features", |graph| self.features(graph, images, mode))?;
        let x = Conv2d::new("classifier", num_classes, 1).forward(graph, x)?;
        let x = graph.global_avg_pool2d(x)?;
        graph.flatten(x, 1)
    }

    fn validate(&self) -> Result<()> {
        if self.width == 0 {
            return Err(Error::setting("network.width", "at least 1", 0));
        }
        check_dropout(self.dropout)
    }

    fn title(&self) -> String {
        let batch_norm = if self.batch_norm { "" } else { ", no batch normalization" };
        format!("All-CNN of width {}{batch_norm}{}", self.width, dropout_words(self.dropout))
    }
}

impl AllConv {
    fn features(&self, graph: &mut Graph, mut x: Value, mode: Mode) -> Result<Value> {
        let mut place = 0;
        let mut next = || {
            place += 1;
            (place - 1).to_string()
        };
        for (widths, kernel, stride) in CONVOLUTIONS {
            let conv =
                Conv2d::new(&next(), self.width.saturating_mul(widths), kernel).padding(kernel / 2).stride(stride);
            x = conv.init(WeightInit::KaimingNormal).forward(graph, x)?;
            if self.batch_norm {
                x = BatchNorm2d::new(&next()).forward(graph, x, mode)?;
            }
            x = graph.scope(&next(), |graph| graph.relu(x))?;
            if stride > 1 && self.dropout > 0.0 {
                x = graph.scope(&next(), |graph| Dropout::new(self.dropout).forward(graph, x, mode))?;
            }
        }
        Ok(x)
    }
}
