//! VGG (Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015): stages of
//! 3×3 convolutions, each stage ending in a pooling. Named as torchvision's `vgg11_bn` and its kin; instead of their
//! three fully connected layers, which have most of the weights, the mean of each channel goes to one.

use serde::{Deserialize, Serialize};

use super::{Architecture, MAX_LAYERS, check_dropout, check_widths, dropout_words};
use crate::nn::{BatchNorm2d, Conv2d, Dropout, Linear, Mode, WeightInit};
use crate::ops::MaxPool2d;
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Graph, Result, Value};

/// Stages of convolutions `features.0`, `features.3`, … as torchvision numbers them (convolution, batch normalization
/// and ReLU each count, and so does the pooling), then the mean of each channel, dropout, and `classifier`. The default
/// has 289,194 parameters for three channels and ten classes. With widths 64, 128, 256, 512, 512 and convolutions
/// 1, 1, 2, 2, 2 the features are those of `vgg11_bn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vgg {
    /// The channels of each stage. Default 32, 64, 128.
    pub widths: Vec<usize>,
    /// The convolutions of each stage. Default 2, 2, 2.
    pub convolutions: Vec<usize>,
    /// Whether batch normalization follows each convolution. Default true.
    pub batch_norm: bool,
    /// The probability of dropout before the classifier; 0, the default, leaves it out.
    pub dropout: f64,
}

impl Default for Vgg {
    fn default() -> Self {
        Vgg { widths: vec![32, 64, 128], convolutions: vec![2, 2, 2], batch_norm: true, dropout: 0.0 }
    }
}

impl Described for Vgg {
    const NAME: &'static str = "vgg";
    const ABOUT: &'static str =
        "VGG with batch normalization and one fully connected layer (Simonyan and Zisserman, 2015)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("widths", Takes::Counts, "Channels of each stage"),
        Setting::new("convolutions", Takes::Counts, "Convolutions of each stage"),
        Setting::new("batch_norm", Takes::Switch, "Normalize batches after each convolution (BatchNorm2d)"),
        Setting::new("dropout", Takes::Number, "Probability of dropout"),
    ];
}

impl Architecture for Vgg {
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value> {
        let mut x = graph.scope("features", |graph| self.features(graph, images, mode))?;
        x = graph.global_avg_pool2d(x)?;
        x = graph.flatten(x, 1)?;
        x = Dropout::new(self.dropout).forward(graph, x, mode)?;
        Linear::new("classifier", num_classes).forward(graph, x)
    }

    fn validate(&self) -> Result<()> {
        check_widths("network.widths", &self.widths)?;
        check_widths("network.convolutions", &self.convolutions)?;
        if self.widths.len() != self.convolutions.len() {
            let expected = format!("a number for each of the {} stages that network.widths has", self.widths.len());
            return Err(Error::setting("network.convolutions", expected, self.convolutions.len()));
        }
        let num_convolutions = self.convolutions.iter().fold(0, |sum: usize, &count| sum.saturating_add(count));
        if num_convolutions > MAX_LAYERS {
            let expected = format!("at most {MAX_LAYERS} in all stages");
            return Err(Error::setting("network.convolutions", expected, num_convolutions));
        }
        check_dropout(self.dropout)
    }

    fn title(&self) -> String {
        // As the paper counts: layers with weights.
        let depth = self.convolutions.iter().sum::<usize>() + 1;
        let batch_norm = if self.batch_norm { "" } else { ", no batch normalization" };
        format!("VGG-{depth}{batch_norm}{}", dropout_words(self.dropout))
    }
}

impl Vgg {
    fn features(&self, graph: &mut Graph, mut x: Value, mode: Mode) -> Result<Value> {
        let mut place = 0;
        let mut next = || {
            place += 1;
            (place - 1).to_string()
        };
        for (&width, &convolutions) in self.widths.iter().zip(&self.convolutions) {
            for _ in 0..convolutions {
                x = Conv2d::new(&next(), width, 3).padding(1).init(WeightInit::KaimingNormal).forward(graph, x)?;
                if self.batch_norm {
                    x = BatchNorm2d::new(&next()).forward(graph, x, mode)?;
                }
                x = graph.scope(&next(), |graph| graph.relu(x))?;
            }
            x = graph.scope(&next(), |graph| graph.max_pool2d(x, MaxPool2d::new([2, 2])))?;
        }
        Ok(x)
    }
}
