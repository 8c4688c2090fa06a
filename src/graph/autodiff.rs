//! Reverse-mode differentiation as a walk over the graph: gradients are ordinary nodes, appended after the nodes
//! they belong to. Each op's rule stands in its own file (`vjp`, a vector-Jacobian product); this module only walks,
//! checks shapes and adds up where a value was used more than once.

use std::collections::HashMap;

use super::{Graph, NodeKind, Scope, Value};
use crate::ops::Operation;
use crate::tensor::{DType, Tensor, TensorData, TensorType};
use crate::{Error, Result};

/// What an op's gradient rule is given.
pub(crate) struct Vjp<'a> {
    /// The graph to append to.
    pub graph: &'a mut Graph,
    /// The op's inputs.
    pub inputs: &'a [Value],
    /// The op's outputs.
    pub outputs: &'a [Value],
    /// The gradient of each output; `None` where nothing depends on it.
    pub grad_outputs: &'a [Option<Value>],
}

impl Vjp<'_> {
    /// The gradient of output 0, for ops in which the other outputs carry none.
    pub fn grad_output(&self) -> Value {
        self.grad_outputs[0].expect("the walk visits a node only when one of its outputs has a gradient")
    }

    /// Whether anything depends on the gradient of an input.
    pub fn needs(&self, input: usize) -> bool {
        self.graph.requires_grad(self.inputs[input])
    }
}

/// The gradients that [`Graph::backward`] appended.
#[derive(Clone, Debug)]
pub struct Gradients {
    of: HashMap<Value, Value>,
}

impl Gradients {
    /// The gradient of a value, of the same shape; `None` where the loss does not depend on it, or not differentiably.
    pub fn get(&self, value: Value) -> Option<Value> {
        self.of.get(&value).copied()
    }
}

impl Graph {
    /// Appends the gradients of a scalar `loss` by every parameter, and every input that asks for one, that the loss
    /// depends on. A value used several times gets the sum of its gradients (PyTorch's `Tensor.backward` on zeroed
    /// gradients).
    ///
    /// # Errors
    /// [`Error::Operand`] where the loss is not a single float or depends on nothing that has a gradient.
    pub fn backward(&mut self, loss: Value) -> Result<Gradients> {
        self.check(loss)?;
        let ty = self.ty(loss).clone();
        if ty.dtype != DType::F32 || ty.shape.num_elems() != 1 {
            let advice = "a float loss of one element; reduce it first, for example with mean";
            return Err(Error::operand("backward", advice, ty.to_string()));
        }
        if !self.requires_grad(loss) {
            return Err(Error::operand("backward", "a loss that depends on a parameter", "one that depends on none"));
        }
        let seed = self.constant(Tensor::new(ty.shape, TensorData::F32(vec![1.0]))?);
        self.no_grad(|graph| graph.walk_back(loss, seed))
    }

    /// [`Graph::backward`] from a value of any shape, given the gradient of some loss by it (PyTorch's
    /// `Tensor.backward(gradient)`).
    ///
    /// # Errors
    /// [`Error::Operand`] where the value is no float or depends on nothing that has a gradient, or where `grad` is of
    /// another type.
    pub fn backward_from(&mut self, value: Value, grad: Value) -> Result<Gradients> {
        self.check(value)?;
        self.check(grad)?;
        let (want, got) = (self.ty(value).clone(), self.ty(grad).clone());
        if want.dtype != DType::F32 || want != got {
            return Err(Error::operand(
                "backward_from",
                format!("a float and a gradient like {want}"),
                got.to_string(),
            ));
        }
        if !self.requires_grad(value) {
            let got = "one that depends on none";
            return Err(Error::operand("backward_from", "a value that depends on a parameter", got));
        }
        self.no_grad(|graph| graph.walk_back(value, grad))
    }

    fn walk_back(&mut self, loss: Value, seed: Value) -> Result<Gradients> {
        let mut of = HashMap::from([(loss, seed)]);
        for index in (0..=loss.node as usize).rev() {
            let node = self.nodes[index].clone();
            let NodeKind::Op(op) = &node.kind else { continue };
            if !node.requires_grad {
                continue;
            }
            let outputs: Vec<Value> = (0..node.types.len()).map(|output| self.value(index, output)).collect();
            let grad_outputs: Vec<Option<Value>> = outputs.iter().map(|output| of.get(output).copied()).collect();
            if grad_outputs.iter().all(Option::is_none) {
                continue;
            }
            let scope = if node.scope.is_empty() { "backward".to_owned() } else { format!("{}.backward", node.scope) };
            let outer = std::mem::replace(&mut self.scope, vec![Scope { name: scope, names_states: false }]);
            let grads =
                op.vjp(&mut Vjp { graph: self, inputs: &node.inputs, outputs: &outputs, grad_outputs: &grad_outputs })?;
            assert_eq!(grads.len(), node.inputs.len(), "{} gives one gradient for each input", op.name());
            for (&input, grad) in node.inputs.iter().zip(grads) {
                let Some(grad) = grad else { continue };
                if !self.requires_grad(input) {
                    continue;
                }
                let (want, got): (&TensorType, &TensorType) = (self.ty(input), self.ty(grad));
                assert_eq!(want, got, "{}: a gradient has the shape of its input", op.name());
                let sum = match of.get(&input) {
                    Some(&earlier) => self.add(earlier, grad)?,
                    None => grad,
                };
                of.insert(input, sum);
            }
            self.scope = outer;
        }
        Ok(Gradients { of })
    }
}
