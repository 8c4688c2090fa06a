//! Values under another shape or detached from gradients. Both share their input's memory and compute nothing.

use crate::graph::{Graph, Value, Vjp};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

/// The same elements under another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reshape {
    pub shape: Shape,
}

/// The same value, with no gradient flowing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Detach;

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity(self.name(), inputs)?;
        if x.shape.num_elems() != self.shape.num_elems() {
            let expected = format!("a shape of {} elements for {}", x.shape.num_elems(), x.shape);
            return Err(Error::operand(self.name(), expected, self.shape.to_string()));
        }
        Ok(vec![TensorType { shape: self.shape.clone(), dtype: x.dtype }])
    }

    fn run<F: Float>(&self, _ctx: &mut CpuContext<'_, F>) {}

    fn dispatches(&self, _ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(Dispatches::default())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let shape = vjp.graph.shape(vjp.inputs[0]).clone();
        Ok(vec![Some(vjp.graph.reshape(vjp.grad_output(), shape)?)])
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn is_alias(&self) -> bool {
        true
    }
}

impl Operation for Detach {
    fn name(&self) -> &'static str {
        "detach"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity(self.name(), inputs)?;
        Ok(vec![x.clone()])
    }

    fn run<F: Float>(&self, _ctx: &mut CpuContext<'_, F>) {}

    fn dispatches(&self, _ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        Ok(Dispatches::default())
    }

    fn vjp(&self, _vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![None])
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn is_alias(&self) -> bool {
        true
    }
}

impl Graph {
    /// The same elements, in row-major order, under another shape (`torch.reshape`).
    ///
    /// # Errors
    /// [`Error::Operand`] where the numbers of elements differ.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.check(x)?;
        let shape = shape.into();
        if *self.shape(x) == shape {
            return Ok(x);
        }
        self.push1(Reshape { shape }, &[x])
    }

    /// All dimensions from `start` on as one: (N, C, H, W) with `start` 1 gives (N, C·H·W) (`torch.flatten`).
    ///
    /// # Errors
    /// [`Error::Operand`] where `start` is beyond the rank.
    pub fn flatten(&mut self, x: Value, start: usize) -> Result<Value> {
        self.check(x)?;
        let dims = self.shape(x).dims().to_vec();
        if start > dims.len() {
            return Err(Error::operand(
                "flatten",
                format!("a first axis of at most {}", dims.len()),
                start.to_string(),
            ));
        }
        let mut shape = dims[..start].to_vec();
        shape.push(dims[start..].iter().product());
        self.reshape(x, shape)
    }

    /// The same value, detached from gradients (`torch.Tensor.detach`).
    ///
    /// # Errors
    /// [`Error::Operand`] where the value belongs to another graph.
    pub fn detach(&mut self, x: Value) -> Result<Value> {
        self.no_grad(|graph| graph.push1(Detach, &[x]))
    }
}
