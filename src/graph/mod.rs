//! The graph: a straight-line program in single-assignment form. Nodes are appended by the builder methods that each
//! op's file adds to [`Graph`], run in the order they were appended, and know their shapes at once, so that every
//! mistake is an error at the line that makes it.
//!
//! States (parameters, running statistics, optimizer moments, inputs) are the only values that outlive a run. A few
//! ops update states in place; since nodes run in order, a node that was appended before the update sees the old
//! value. The graph computes nothing itself: [`plan`] orders it and lays out memory, `exec` runs it.

pub(crate) mod autodiff;
mod fuse;
mod init;
pub mod plan;
mod scope;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

pub use autodiff::Gradients;
pub(crate) use autodiff::Vjp;
pub use init::Init;

use scope::Scope;

use crate::ops::nn::batch_norm2d::Deferred;
use crate::ops::{Op, Operation};
use crate::tensor::{DType, MAX_ELEMS, Shape, Tensor, TensorType};
use crate::{Error, Result};

/// A value in a graph: an output of one of its nodes. It is only a handle; the numbers exist in a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    graph: u32,
    pub(crate) node: u32,
    pub(crate) output: u32,
}

/// What a state is for, which decides what files it goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// Learned: has a gradient, is saved with the model.
    Parameter,
    /// Part of the model but not learned, such as running statistics; saved with the model.
    Buffer,
    /// Kept by an optimizer; saved in checkpoints only.
    Optimizer,
    /// Written by the host (a batch, a data set) or read by it (metrics); never saved.
    Input,
}

/// A state as a graph declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpec {
    /// The name that graphs of one program share it under.
    pub name: String,
    /// Shape and element type.
    pub ty: TensorType,
    /// What it is for.
    pub kind: StateKind,
    /// How it starts.
    pub init: Init,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    State(StateSpec),
    /// A number that the host gives for every step: a learning rate, a batch's start.
    Scalar(String),
    Constant(Tensor),
    Op(Op),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub kind: NodeKind,
    pub inputs: Vec<Value>,
    pub types: Vec<TensorType>,
    pub requires_grad: bool,
    /// The layer this belongs to, for plans and messages.
    pub scope: String,
    /// The scalar of [`Graph::only_if`].
    pub guard: Option<String>,
}

/// A computation under construction; see the [module](self).
#[derive(Clone, Debug)]
pub struct Graph {
    id: u32,
    name: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: BTreeMap<String, Value>,
    named: BTreeMap<String, Value>,
    scope: Vec<Scope>,
    shares: bool,
    num_streams: u32,
    grad_enabled: bool,
    guard: Option<String>,
    pub(crate) updated_by: Option<UpdatedBy>,
    /// The running statistics that do not follow their batches at once; `None` where all do.
    pub(crate) deferred: Option<Vec<Deferred>>,
}

/// The optimizer that a graph's parameters are updated by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpdatedBy {
    /// The optimizer with its settings, as messages and step tables name it.
    pub optimizer: String,
    /// The names of the parameters.
    pub parameters: Vec<String>,
}

impl AsRef<Graph> for Graph {
    fn as_ref(&self) -> &Graph {
        self
    }
}

impl Graph {
    /// An empty graph. The name is how a program with several entries tells them apart.
    pub fn new(name: impl Into<String>) -> Self {
        static NEXT_ID: AtomicU32 = AtomicU32::new(0);
        Graph {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            nodes: Vec::new(),
            outputs: BTreeMap::new(),
            named: BTreeMap::new(),
            scope: Vec::new(),
            shares: false,
            num_streams: 0,
            grad_enabled: true,
            guard: None,
            updated_by: None,
            deferred: None,
        }
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A learned tensor: [`Graph::backward`] gives its gradient, and it starts as `init` says. Its name is `name`
    /// within the [`scope`](Graph::scope). Graphs of one program share parameters by name; within a graph each is
    /// declared once, so that two layers of one name do not share weights unnoticed. [`Graph::share`] is for those that
    /// should.
    ///
    /// # Errors
    /// [`Error::NameClash`] where the name is taken.
    pub fn parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Value> {
        self.state(StateSpec { name: name.to_owned(), ty: TensorType::f32(shape), kind: StateKind::Parameter, init })
    }

    /// A tensor that the host writes before a run and that stays until it is written again. It starts as zeros, which a
    /// run takes without a word where the host has written nothing. Asking again for the same name, shape and element type
    /// gives the same value.
    ///
    /// # Errors
    /// [`Error::NameClash`] where the name means something else already.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Result<Value> {
        self.state(StateSpec { name: name.to_owned(), ty, kind: StateKind::Input, init: Init::Zeros })
    }

    /// An input that [`Graph::backward`] gives a gradient for.
    ///
    /// # Errors
    /// As [`Graph::input`].
    pub fn input_with_grad(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Value> {
        let value = self.input(name, TensorType::f32(shape))?;
        self.nodes[value.node as usize].requires_grad = true;
        Ok(value)
    }

    /// A state of any kind; its name is `spec.name` within the [`scope`](Graph::scope). Asking again for the same state
    /// gives the same value, but for parameters, which [`Graph::share`] must allow.
    ///
    /// # Errors
    /// [`Error::NameClash`] where the name is taken.
    pub fn state(&mut self, mut spec: StateSpec) -> Result<Value> {
        spec.name = self.scoped_name(&spec.name);
        self.state_named(spec)
    }

    /// [`Graph::state`] under its full name, whatever the scope.
    pub(crate) fn state_named(&mut self, spec: StateSpec) -> Result<Value> {
        if let Some(&value) = self.named.get(&spec.name) {
            let may_share = self.shares || spec.kind != StateKind::Parameter;
            let describe = |spec: &StateSpec| format!("{:?} {} starting as {:?}", spec.kind, spec.ty, spec.init);
            let (first, mut second) = match &self.node(value).kind {
                NodeKind::State(first) if *first == spec && may_share => return Ok(value),
                NodeKind::State(first) => (describe(first), describe(&spec)),
                _ => ("a scalar".to_owned(), describe(&spec)),
            };
            if first == second {
                second = "the same again, which would share its values (Graph::share allows it)".to_owned();
            }
            return Err(Error::NameClash { name: spec.name, first, second });
        }
        if let Init::Values(tensor) = &spec.init
            && tensor.ty() != spec.ty
        {
            return Err(Error::State { name: spec.name, expected: spec.ty.to_string(), got: tensor.ty().to_string() });
        }
        if spec.ty.shape.num_elems() == 0 {
            let got = spec.ty.to_string();
            return Err(Error::State { name: spec.name, expected: "at least one element".to_owned(), got });
        }
        if spec.ty.is_too_large() {
            let (expected, got) = (format!("at most {MAX_ELEMS} elements"), spec.ty.to_string());
            return Err(Error::State { name: spec.name, expected, got });
        }
        let (name, ty) = (spec.name.clone(), spec.ty.clone());
        let requires_grad = spec.kind == StateKind::Parameter;
        let value = self.leaf(NodeKind::State(spec), ty, requires_grad);
        self.named.insert(name, value);
        Ok(value)
    }

    /// A number that the host gives for every step through a [`StepTable`](crate::StepTable); a value of shape ().
    ///
    /// # Errors
    /// [`Error::NameClash`] where the name means something else already.
    pub fn scalar(&mut self, name: &str, dtype: DType) -> Result<Value> {
        let ty = TensorType { shape: Shape::scalar(), dtype };
        if let Some(&value) = self.named.get(name) {
            let first = &self.node(value);
            if matches!(first.kind, NodeKind::Scalar(_)) && first.types[0] == ty {
                return Ok(value);
            }
            let first = first.types[0].to_string();
            return Err(Error::NameClash { name: name.to_owned(), first, second: format!("a scalar, {ty}") });
        }
        let value = self.leaf(NodeKind::Scalar(name.to_owned()), ty, false);
        self.named.insert(name.to_owned(), value);
        Ok(value)
    }

    /// A tensor fixed when the program is compiled.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        let ty = tensor.ty();
        self.leaf(NodeKind::Constant(tensor), ty, false)
    }

    /// A value that the program keeps for reading after a run, under a name.
    ///
    /// # Errors
    /// [`Error::NameClash`] where another value has that name among the outputs.
    pub fn output(&mut self, name: &str, value: Value) -> Result<()> {
        self.check(value)?;
        if let Some(&first) = self.outputs.get(name).filter(|first| **first != value) {
            return Err(Error::NameClash {
                name: name.to_owned(),
                first: format!("output {}", self.ty(first)),
                second: format!("output {}", self.ty(value)),
            });
        }
        self.outputs.insert(name.to_owned(), value);
        Ok(())
    }

    /// Shape and element type of a value.
    ///
    /// # Panics
    /// If the value belongs to another graph.
    pub fn ty(&self, value: Value) -> &TensorType {
        assert_eq!(value.graph, self.id, "the value belongs to another graph");
        &self.node(value).types[value.output as usize]
    }

    /// Shape of a value. Panics as [`Graph::ty`].
    pub fn shape(&self, value: Value) -> &Shape {
        &self.ty(value).shape
    }

    /// Whether a gradient flows to this value.
    pub fn requires_grad(&self, value: Value) -> bool {
        self.node(value).requires_grad
    }

    /// The names and values of the learned parameters, in the order they were declared.
    pub fn parameters(&self) -> Vec<(String, Value)> {
        let parameter = |(index, node): (usize, &Node)| match &node.kind {
            NodeKind::State(spec) if spec.kind == StateKind::Parameter => {
                Some((spec.name.clone(), self.value(index, 0)))
            }
            _ => None,
        };
        self.nodes.iter().enumerate().filter_map(parameter).collect()
    }

    pub(crate) fn node(&self, value: Value) -> &Node {
        &self.nodes[value.node as usize]
    }

    /// The value whose memory this one uses: itself, or what it is another shape of.
    pub(crate) fn root(&self, mut value: Value) -> Value {
        while let NodeKind::Op(op) = &self.node(value).kind
            && op.is_alias()
        {
            value = self.node(value).inputs[0];
        }
        value
    }

    pub(crate) fn value(&self, node: usize, output: usize) -> Value {
        // A graph has far fewer than 2^32 nodes, each with a handful of outputs.
        Value { graph: self.id, node: node as u32, output: output as u32 }
    }

    pub(crate) fn check(&self, value: Value) -> Result<()> {
        if value.graph == self.id {
            Ok(())
        } else {
            Err(Error::operand("graph", format!("a value of graph \"{}\"", self.name), "a value of another graph"))
        }
    }

    /// Appends an op and gives its outputs.
    pub(crate) fn push(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Vec<Value>> {
        let op = op.into();
        for &input in inputs {
            self.check(input)?;
            let guard = &self.node(input).guard;
            if guard.is_some() && *guard != self.guard {
                let got = format!("one that is computed only if {}", guard.as_deref().unwrap_or_default());
                return Err(Error::operand(op.name(), "a value that every step computes", got));
            }
        }
        let input_types: Vec<TensorType> = inputs.iter().map(|&input| self.ty(input).clone()).collect();
        let types = op.infer(&input_types)?;
        if let Some(empty) = types.iter().find(|ty| ty.shape.num_elems() == 0) {
            return Err(Error::operand(op.name(), "operands that give at least one element", empty.to_string()));
        }
        if let Some(large) = types.iter().find(|ty| ty.is_too_large()) {
            let expected = format!("operands that give at most {MAX_ELEMS} elements");
            return Err(Error::operand(op.name(), expected, large.to_string()));
        }
        let requires_grad = self.grad_enabled && inputs.iter().any(|&input| self.requires_grad(input));
        let node = self.nodes.len();
        let num_outputs = types.len();
        let (scope, guard) = (self.scope_path(), self.guard.clone());
        self.nodes.push(Node { kind: NodeKind::Op(op), inputs: inputs.to_vec(), types, requires_grad, scope, guard });
        Ok((0..num_outputs).map(|output| self.value(node, output)).collect())
    }

    /// Appends an op of one output.
    pub(crate) fn push1(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Value> {
        Ok(self.push(op, inputs)?[0])
    }

    fn leaf(&mut self, kind: NodeKind, ty: TensorType, requires_grad: bool) -> Value {
        let scope = self.scope_path();
        self.nodes.push(Node { kind, inputs: Vec::new(), types: vec![ty], requires_grad, scope, guard: None });
        self.value(self.nodes.len() - 1, 0)
    }
}
