//! Found: a batch normalization whose result only an activation reads, or an addition to something else that only an
//! activation reads. Becomes: batch_norm2d_activation. And the gradient of an activation that the gradient of a batch
//! normalization reads: batch_norm2d_activation_backward, which stores it where others read it, too, as past a residual
//! block. Equal bit for bit: what was stored in between is kept in a register.

use std::collections::HashSet;

use super::super::replace::{Replacement, replace_most};
use super::Uses;
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::nn::fused::{BatchNormActivation, BatchNormActivationBackward, FusedKernel, Normalization};
use crate::ops::{Activation, Op};

pub(super) fn fuse(graph: &Graph) -> Graph {
    let uses = Uses::of(graph);
    let mut found = Vec::new();
    let mut taken = HashSet::new();
    for index in 0..graph.nodes.len() {
        let replacement = activation(graph, &uses, index).or_else(|| gradient(graph, &uses, index));
        // A normalization may be on both sides of an addition; one of them stays apart.
        let Some(replacement) = replacement.filter(|found| found.nodes.iter().all(|node| !taken.contains(node))) else {
            continue;
        };
        taken.extend(replacement.nodes.iter().copied());
        found.push(replacement);
    }
    replace_most(graph, found)
}

/// The normalization of this value, if it is the result of one that is read once.
fn normalization(graph: &Graph, uses: &Uses, value: Value) -> Option<Normalization> {
    let normalization = match &graph.node(value).kind {
        NodeKind::Op(Op::BatchNormTrain(op)) => Normalization::Train(*op),
        NodeKind::Op(Op::BatchNormEval(op)) => Normalization::Eval(*op),
        _ => return None,
    };
    (value.output == 0 && uses.is_single(value)).then_some(normalization)
}

/// An activation of a normalization, or of one with a residual added, at this node.
fn activation(graph: &Graph, uses: &Uses, index: usize) -> Option<Replacement> {
    let NodeKind::Op(Op::Unary(unary)) = &graph.nodes[index].kind else { return None };
    let activation = Activation::from_function(unary.0)?;
    let x = graph.nodes[index].inputs[0];
    let mut nodes = vec![index];
    let (normalized, residual) = match normalization(graph, uses, x) {
        Some(_) => (x, None),
        None => {
            let (normalized, residual) = addition(graph, uses, x)?;
            nodes.push(x.node as usize);
            (normalized, Some(residual))
        }
    };
    let producer = normalized.node as usize;
    nodes.push(producer);
    let mut inputs = graph.nodes[producer].inputs.clone();
    inputs.extend(residual);
    let mut outputs = vec![graph.value(index, 0)];
    outputs.extend((1..graph.nodes[producer].types.len()).map(|output| graph.value(producer, output)));
    let normalization = normalization(graph, uses, normalized)?;
    let kernel = BatchNormActivation { normalization, has_residual: residual.is_some(), activation };
    Some(Replacement { kernel: FusedKernel::BatchNormActivation(kernel), inputs, outputs, nodes })
}

/// The normalized operand and the other one of a sum of two tensors of one shape that is read once.
fn addition(graph: &Graph, uses: &Uses, sum: Value) -> Option<(Value, Value)> {
    let node = graph.node(sum);
    let NodeKind::Op(Op::Binary(binary)) = &node.kind else { return None };
    let &[a, b] = node.inputs.as_slice() else { return None };
    let is_plain = binary.is_add() && graph.shape(a) == graph.shape(b) && uses.is_single(sum);
    // The later of the two: by then what the other is made of is there.
    let (later, earlier) = if a.node > b.node { (a, b) } else { (b, a) };
    let sides = [(later, earlier), (earlier, later)];
    sides.into_iter().find(|(side, _)| is_plain && normalization(graph, uses, *side).is_some())
}

/// The gradient of a normalization at this node, of a gradient that went through an activation.
fn gradient(graph: &Graph, uses: &Uses, index: usize) -> Option<Replacement> {
    let node = &graph.nodes[index];
    let NodeKind::Op(Op::BatchNormBackward(op)) = &node.kind else { return None };
    let masked = node.inputs[0];
    let NodeKind::Op(Op::UnaryBackward(unary)) = &graph.node(masked).kind else { return None };
    let activation = Activation::from_function(unary.0)?;
    let &[grad, activated] = graph.node(masked).inputs.as_slice() else { return None };
    let mut inputs = vec![grad];
    inputs.extend(&node.inputs[1..]);
    inputs.push(activated);
    let mut outputs: Vec<Value> = (0..node.types.len()).map(|output| graph.value(index, output)).collect();
    if !uses.is_single(masked) {
        outputs.push(masked);
    }
    let kernel = BatchNormActivationBackward { op: *op, activation };
    Some(Replacement {
        kernel: FusedKernel::BatchNormActivationBackward(kernel),
        inputs,
        outputs,
        nodes: vec![masked.node as usize, index],
    })
}
