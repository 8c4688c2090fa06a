//! A multilayer perceptron: fully connected layers only.

use serde::{Deserialize, Serialize};

use super::{Architecture, check_dropout, check_widths, dropout_words};
use crate::nn::{Dropout, Linear, Mode};
use crate::ops::Activation;
use crate::registry::{Described, Setting, Takes};
use crate::{Graph, Result, Value};

/// Flattens the images; then a layer `fc1`, `fc2`, … for each hidden width, each with activation and dropout, and one
/// for the classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mlp {
    /// The widths of the hidden layers. Default 128 and 64.
    pub hidden: Vec<usize>,
    /// What follows each hidden layer. Default ReLU.
    pub activation: Activation,
    /// The probability of dropout after each activation; 0, the default, leaves it out.
    pub dropout: f64,
}

const ACTIVATIONS: &[&str] = &["relu", "sigmoid", "tanh", "none"];

impl Default for Mlp {
    fn default() -> Self {
        Mlp { hidden: vec![128, 64], activation: Activation::Relu, dropout: 0.0 }
    }
}

impl Described for Mlp {
    const NAME: &'static str = "mlp";
    const ABOUT: &'static str = "Multilayer perceptron";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("hidden", Takes::Counts, "Widths of the hidden layers"),
        Setting::new("activation", Takes::Word(ACTIVATIONS), "Activation of the hidden layers"),
        Setting::new("dropout", Takes::Number, "Probability of dropout"),
    ];
}

impl Architecture for Mlp {
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value> {
        let mut x = graph.flatten(images, 1)?;
        for (index, &width) in self.hidden.iter().enumerate() {
            x = Linear::new(&format!("fc{}", index + 1), width).forward(graph, x)?;
            x = graph.activation(x, self.activation)?;
            x = Dropout::new(self.dropout).forward(graph, x, mode)?;
        }
        Linear::new(&format!("fc{}", self.hidden.len() + 1), num_classes).forward(graph, x)
    }

    fn validate(&self) -> Result<()> {
        check_widths("network.hidden", &self.hidden)?;
        check_dropout(self.dropout)
    }

    fn title(&self) -> String {
        let widths: Vec<String> = self.hidden.iter().map(usize::to_string).collect();
        let activation = match self.activation {
            Activation::Relu => String::new(),
            Activation::None => ", no activation".to_owned(),
            other => format!(", {}", other.describe()),
        };
        format!("MLP {}{activation}{}", widths.join("-"), dropout_words(self.dropout))
    }
}
