//! Which values of a training step diagnostics inspect, and what they are called.

use super::{DiagnosticKind, DiagnosticsOptions};
use crate::Result;
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::{Activation, Op, Operation};
use crate::tensor::DType;
use crate::train::session::Forward;

/// The values to inspect, in the order of computation.
pub fn inspected(forward: &mut Forward, options: &DiagnosticsOptions) -> Result<Vec<(DiagnosticKind, String, Value)>> {
    let layers = layers(forward, options);
    let graph = &mut forward.graph;
    let parameters = graph.parameters();
    let grads = graph.backward(forward.loss)?;
    let mut inspected: Vec<(DiagnosticKind, String, Value)> =
        parameters.iter().map(|(name, value)| (DiagnosticKind::Parameter, name.clone(), *value)).collect();
    inspected.push((DiagnosticKind::Images, "images".to_owned(), forward.images));
    for (name, value) in layers {
        inspected.push((DiagnosticKind::Activation, name.clone(), value));
        if is_relu(graph, value) {
            // Over the batch and, in images, over pixels.
            let axes: Vec<usize> = (0..graph.shape(value).rank()).filter(|&axis| axis != 1).collect();
            let largest = graph.no_grad(|graph| graph.amax(value, &axes, false))?;
            inspected.push((DiagnosticKind::Unit, name, largest));
        }
    }
    inspected.push((DiagnosticKind::Loss, "loss".to_owned(), forward.loss));
    for (name, value) in parameters.into_iter().rev() {
        if let Some(grad) = grads.get(value) {
            inspected.push((DiagnosticKind::Gradient, name, grad));
        }
    }
    Ok(inspected)
}

/// The results of the network's layers, each with its name.
fn layers(forward: &Forward, options: &DiagnosticsOptions) -> Vec<(String, Value)> {
    let graph = &forward.graph;
    let mut layers: Vec<(String, Value)> = Vec::new();
    let mut scope = String::new();
    for index in forward.nodes.clone() {
        let node = &graph.nodes[index];
        let NodeKind::Op(op) = &node.kind else { continue };
        if op.is_alias() || node.types.first().is_none_or(|ty| ty.dtype != DType::F32) {
            continue;
        }
        let value = graph.value(index, 0);
        if activation(op).is_some() && !options.pre_activations {
            // What it is applied to stays one kernel with it.
            layers.retain(|&(_, before)| before != node.inputs[0] || !is_fusible(graph, before));
        }
        if node.scope.is_empty() {
            let base = if scope.is_empty() { op.name().to_owned() } else { format!("{scope}.{}", op.name()) };
            let repeats =
                layers.iter().filter(|(name, _)| *name == base || name.starts_with(&format!("{base}."))).count();
            let name = if repeats == 0 { base } else { format!("{base}.{}", repeats + 1) };
            layers.push((name, value));
        } else {
            // Of a layer of several ops the last counts.
            layers.retain(|(name, _)| *name != node.scope);
            layers.push((node.scope.clone(), value));
            scope.clone_from(&node.scope);
        }
    }
    layers
}

fn activation(op: &Op) -> Option<Activation> {
    match op {
        Op::Unary(unary) => Activation::from_function(unary.0),
        _ => None,
    }
}

fn is_relu(graph: &Graph, value: Value) -> bool {
    matches!(&graph.node(value).kind, NodeKind::Op(op) if activation(op) == Some(Activation::Relu))
        && graph.shape(value).rank() >= 2
}

fn is_fusible(graph: &Graph, value: Value) -> bool {
    matches!(graph.node(value).kind, NodeKind::Op(Op::Conv2d(_) | Op::Matmul(_)))
}
