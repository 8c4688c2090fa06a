//! A network that is a list of layers, as a file has it.

use serde::{Deserialize, Serialize};

use super::Architecture;
use crate::nn::sequential::Pass;
use crate::nn::{Mode, Sequential};
use crate::registry::{Described, Setting};
use crate::{Error, Graph, Result, Value};

/// A list of layers. In a file:
///
/// ```toml
/// layers = [
///   { kind = "conv2d", out_channels = 8, kernel_size = 3, padding = 1, bias = false },
///   { kind = "batch_norm2d" },
///   { kind = "relu" },
///   { kind = "residual", layers = [{ kind = "conv2d", out_channels = 8, kernel_size = 3, padding = 1 }] },
///   { kind = "global_avg_pool2d" },
///   { kind = "flatten" },
///   { kind = "linear", name = "fc" },
/// ]
/// ```
///
/// The kinds are `conv2d`, `linear`, `batch_norm2d`, `relu`, `sigmoid`, `tanh`, `gelu`, `silu`, `leaky_relu`,
/// `log_softmax`, `max_pool2d`, `avg_pool2d`, `global_avg_pool2d`, `flatten`, `dropout` and `residual`; settings have
/// the names and defaults that they have in PyTorch. A `linear` without `out_features` has the number of classes.
/// Weights are named by position in the list, as in `torch.nn.Sequential`, or by a layer's `name`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// The layers, in the order they run.
    #[serde(default)]
    pub layers: Sequential,
}

impl Described for Layers {
    const NAME: &'static str = "layers";
    const ABOUT: &'static str = "A list of layers from a file";
    const SETTINGS: &'static [Setting] = &[];
}

impl Architecture for Layers {
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value> {
        self.layers.append(graph, images, Pass { mode, num_classes: Some(num_classes) }, "layers")
    }

    fn validate(&self) -> Result<()> {
        if self.layers.layers.is_empty() {
            return Err(Error::setting("layers", "at least one layer", "none"));
        }
        self.layers.check("layers")
    }

    fn title(&self) -> String {
        format!("a network of {} layers", self.layers.layers.len())
    }
}
