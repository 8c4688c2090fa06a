//! LeNet-5 (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998) as
//! courses build it today: ReLU and maximum pooling, no padding.

use serde::{Deserialize, Serialize};

use super::{Architecture, check_dropout, dropout_words};
use crate::nn::{BatchNorm2d, Conv2d, Dropout, Linear, Mode};
use crate::ops::MaxPool2d;
use crate::registry::{Described, Setting, Takes};
use crate::{Graph, Result, Value};

/// conv 6@5×5, ReLU, pool 2, conv 16@5×5, ReLU, pool 2, then fully connected 120, 84 and the classes. For ten classes
/// that is 44,426 parameters on 28×28 images of one channel, and 62,006 on 32×32 of three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeNet5 {
    /// Whether `bn1` normalizes between the first convolution and its ReLU. Default false.
    pub batch_norm: bool,
    /// The probability of dropout after the first pooling and after the ReLU of `fc1`; 0, the default, leaves it out.
    pub dropout: f64,
}

impl Described for LeNet5 {
    const NAME: &'static str = "lenet5";
    const ABOUT: &'static str = "LeNet-5 with ReLU and maximum pooling (LeCun et al., 1998)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("batch_norm", Takes::Switch, "Normalize batches after the first convolution (BatchNorm2d)"),
        Setting::new("dropout", Takes::Number, "Probability of dropout"),
    ];
}

impl Architecture for LeNet5 {
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value> {
        let (dropout, pool) = (Dropout::new(self.dropout), MaxPool2d::new([2, 2]));
        let mut x = Conv2d::new("conv1", 6, 5).forward(graph, images)?;
        if self.batch_norm {
            x = BatchNorm2d::new("bn1").forward(graph, x, mode)?;
        }
        x = graph.relu(x)?;
        x = graph.max_pool2d(x, pool)?;
        x = dropout.forward(graph, x, mode)?;
        x = Conv2d::new("conv2", 16, 5).forward(graph, x)?;
        x = graph.relu(x)?;
        x = graph.max_pool2d(x, pool)?;
        x = graph.flatten(x, 1)?;
        x = Linear::new("fc1", 120).forward(graph, x)?;
        x = graph.relu(x)?;
        x = dropout.forward(graph, x, mode)?;
        x = Linear::new("fc2", 84).forward(graph, x)?;
        x = graph.relu(x)?;
        Linear::new("fc3", num_classes).forward(graph, x)
    }

    fn validate(&self) -> Result<()> {
        check_dropout(self.dropout)
    }

    fn title(&self) -> String {
        let batch_norm = if self.batch_norm { ", batch normalization" } else { "" };
        format!("LeNet-5{batch_norm}{}", dropout_words(self.dropout))
    }
}
