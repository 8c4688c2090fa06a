//! Activations that matmul and conv2d apply to their results before storing them.

use serde::{Deserialize, Serialize};

use crate::graph::{Value, Vjp};
use crate::ops::cpu::Float;
use crate::ops::tensor::elementwise::{UnaryBackward, UnaryFunction};
use crate::{Graph, Result};

/// What is applied to an element before it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// max(x, 0).
    Relu,
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// The activation as a function of its own; `None` for none.
    pub(crate) fn function(self) -> Option<UnaryFunction> {
        match self {
            Activation::None => None,
            Activation::Relu => Some(UnaryFunction::Relu),
            Activation::Sigmoid => Some(UnaryFunction::Sigmoid),
            Activation::Tanh => Some(UnaryFunction::Tanh),
        }
    }

    /// The activation that is this function, if there is one.
    pub(crate) fn from_function(function: UnaryFunction) -> Option<Activation> {
        [Activation::Relu, Activation::Sigmoid, Activation::Tanh]
            .into_iter()
            .find(|activation| activation.function() == Some(function))
    }

    /// The number of the activation in `shaders/lib/activation.wgsl`.
    pub(crate) fn code(self) -> u32 {
        match self {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::Sigmoid => 2,
            Activation::Tanh => 3,
        }
    }

    /// Adds `bias` and applies the activation to a row.
    #[inline(always)]
    pub(crate) fn finish_row<F: Float>(self, row: &mut [F], bias: F) {
        match self.function() {
            None => row.iter_mut().for_each(|x| *x += bias),
            Some(UnaryFunction::Relu) => row.iter_mut().for_each(|x| *x = (*x + bias).max(F::ZERO)),
            Some(function) => row.iter_mut().for_each(|x| *x = function.value(*x + bias)),
        }
    }

    /// The gradient before the activation, from the gradient after it and the output.
    pub(crate) fn vjp(self, vjp: &mut Vjp<'_>) -> Result<Value> {
        let (grad, output) = (vjp.grad_output(), vjp.outputs[0]);
        match self.function() {
            None => Ok(grad),
            // All of these differentiate by their output.
            Some(function) => vjp.graph.push1(UnaryBackward(function), &[grad, output]),
        }
    }

    /// How plans show it.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Activation::None => "",
            Activation::Relu => "relu",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
        }
    }
}

impl Graph {
    /// Applies an activation.
    ///
    /// # Errors
    /// [`crate::Error::Operand`] where `x` is not a float.
    pub fn activation(&mut self, x: Value, activation: Activation) -> Result<Value> {
        match activation {
            Activation::None => Ok(x),
            Activation::Relu => self.relu(x),
            Activation::Sigmoid => self.sigmoid(x),
            Activation::Tanh => self.tanh(x),
        }
    }
}
