//! LeNet-5 (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998) as
//! courses build it today: ReLU and maximum pooling, no padding.

use super::{BatchNorm2dLayer, Conv2dLayer, Linear, Mode, Model};
use crate::ops::{Dropout, MaxPool2d};
use crate::{Graph, Result, Value};

/// conv 6@5×5, ReLU, pool 2, conv 16@5×5, ReLU, pool 2, then fully connected 120, 84 and the classes. On 28×28 images
/// of one channel that is 44,426 parameters, on 32×32 of three 62,006.
#[derive(Clone, Debug, PartialEq)]
pub struct LeNet5 {
    /// The number of classes.
    pub num_classes: usize,
    /// Whether `bn1` normalises between the first convolution and its ReLU.
    pub batch_norm: bool,
    /// The probability of dropout behind the first pooling and behind the ReLU of `fc1`; 0 leaves it out.
    pub dropout: f64,
}

impl LeNet5 {
    /// The plain network.
    pub fn new(num_classes: usize) -> Self {
        LeNet5 { num_classes, batch_norm: false, dropout: 0.0 }
    }

    fn dropout(&self, graph: &mut Graph, x: Value, mode: Mode, layer: u32) -> Result<Value> {
        match mode {
            Mode::Train { seed, step } if self.dropout > 0.0 => {
                graph.dropout(x, Dropout { p: self.dropout, seed, layer }, step)
            }
            _ => Ok(x),
        }
    }
}

impl Model for LeNet5 {
    fn logits(&self, graph: &mut Graph, images: Value, mode: Mode) -> Result<Value> {
        let mut x = Conv2dLayer::new("conv1", 6, 5).forward(graph, images)?;
        if self.batch_norm {
            x = BatchNorm2dLayer::new("bn1").forward(graph, x, mode)?;
        }
        x = graph.relu(x)?;
        x = graph.max_pool2d(x, MaxPool2d::new([2, 2]))?;
        x = self.dropout(graph, x, mode, 1)?;
        x = Conv2dLayer::new("conv2", 16, 5).forward(graph, x)?;
        x = graph.relu(x)?;
        x = graph.max_pool2d(x, MaxPool2d::new([2, 2]))?;
        x = graph.flatten(x, 1)?;
        x = Linear::new("fc1", 120).forward(graph, x)?;
        x = graph.relu(x)?;
        x = self.dropout(graph, x, mode, 2)?;
        x = Linear::new("fc2", 84).forward(graph, x)?;
        x = graph.relu(x)?;
        Linear::new("fc3", self.num_classes).forward(graph, x)
    }
}
