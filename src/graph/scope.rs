//! What nodes are appended under: names, shared parameters, no gradient, a condition. Each holds for the nodes that a
//! closure appends, and what held before it holds again after it.

use super::Graph;
use crate::tensor::DType;
use crate::{Error, Result};

/// A part of a graph that has a name.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) name: String,
    /// Whether it is part of the names of states.
    pub(super) names_states: bool,
}

impl Graph {
    /// Appends a layer or block: the names of states declared in `build` begin with `name` and a dot, and plans and
    /// messages show the name. Scopes nest: `conv1.weight` in `0` in `layer1` is `layer1.0.conv1.weight`. An empty name
    /// adds nothing.
    ///
    /// ```
    /// use wgrad::{Graph, TensorType, nn::Linear};
    ///
    /// # fn main() -> wgrad::Result<()> {
    /// let mut graph = Graph::new("example");
    /// let x = graph.input("x", TensorType::f32([2, 3]))?;
    /// graph.scope("block", |graph| Linear::new("fc", 4).bias(false).forward(graph, x))?;
    /// assert_eq!(graph.parameters()[0].0, "block.fc.weight");
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<T>(&mut self, name: &str, build: impl FnOnce(&mut Graph) -> T) -> T {
        self.within(Scope { name: name.to_owned(), names_states: true }, build)
    }

    /// Appends nodes under a name that plans and messages show and that is no part of the names of states.
    pub fn label<T>(&mut self, name: &str, build: impl FnOnce(&mut Graph) -> T) -> T {
        self.within(Scope { name: name.to_owned(), names_states: false }, build)
    }

    fn within<T>(&mut self, scope: Scope, build: impl FnOnce(&mut Graph) -> T) -> T {
        if scope.name.is_empty() {
            return build(self);
        }
        self.scope.push(scope);
        let result = build(self);
        self.scope.pop();
        result
    }

    /// Appends nodes that may use parameters which the graph has already: declaring one again, with the same shape and
    /// initial value, gives the one that is there, so that two layers have the same weights.
    pub fn share<T>(&mut self, build: impl FnOnce(&mut Graph) -> T) -> T {
        let before = std::mem::replace(&mut self.shares, true);
        let result = build(self);
        self.shares = before;
        result
    }

    /// A number that no other part of this graph has been given, from 1: what [`Dropout::layer`](crate::ops::Dropout)
    /// takes so that every dropout draws masks of its own. Graphs that are built alike number alike.
    pub fn next_stream(&mut self) -> u32 {
        // No network has 2^32 layers.
        self.num_streams += 1;
        self.num_streams
    }

    /// Appends nodes that no gradient flows through (PyTorch's `torch.no_grad`).
    pub fn no_grad<T>(&mut self, build: impl FnOnce(&mut Graph) -> T) -> T {
        let before = std::mem::replace(&mut self.grad_enabled, false);
        let result = build(self);
        self.grad_enabled = before;
        result
    }

    /// Appends nodes that run only in steps where `scalar`, a u32 of the step table, is not 0; in others they are
    /// left out, and states that they update stay as they are. Nothing outside may read what they compute, since it
    /// is not computed in every step.
    ///
    /// # Errors
    /// As [`Graph::scalar`]; [`Error::NameClash`] within nodes that depend on another scalar; what `build` returns.
    pub fn only_if<T>(&mut self, scalar: &str, build: impl FnOnce(&mut Graph) -> Result<T>) -> Result<T> {
        self.scalar(scalar, DType::U32)?;
        if let Some(first) = self.guard.as_ref().filter(|first| *first != scalar) {
            let second = "the condition of nodes within it".to_owned();
            return Err(Error::NameClash {
                name: scalar.to_owned(),
                first: format!("nodes that run if {first}"),
                second,
            });
        }
        let before = self.guard.replace(scalar.to_owned());
        let result = build(self);
        self.guard = before;
        result
    }

    pub(super) fn scope_path(&self) -> String {
        self.scope.iter().map(|scope| scope.name.as_str()).collect::<Vec<_>>().join(".")
    }

    pub(super) fn scoped_name(&self, name: &str) -> String {
        let scopes = self.scope.iter().filter(|scope| scope.names_states).map(|scope| scope.name.as_str());
        scopes.chain([name]).collect::<Vec<_>>().join(".")
    }
}
