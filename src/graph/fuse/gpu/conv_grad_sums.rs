//! Found: a convolution's gradient by its input, with what else is added to it or not, that goes through an activation or not
//! and then into the gradient of a batch normalization. Becomes: conv2d_grad_input_sums, which stores the gradient before the
//! activation and takes what the normalization's gradient sums from registers as it does so; that one reads these sums. One
//! dispatch that waits is gone, and with it a pass over the gradient, the activation and what was normalized. Equal up to
//! rounding: the sums are over other slices of the batch.

use std::collections::HashSet;

use super::super::replace::{Replacement, replace};
use super::Uses;
use crate::graph::{Graph, Node, NodeKind, Value};
use crate::ops::kernel::GpuTraits;
use crate::ops::nn::batch_norm2d::TileSums;
use crate::ops::nn::conv2d::{Added, Conv2dGradInput};
use crate::ops::nn::fused::{ConvGradSums, FusedKernel};
use crate::ops::{Activation, Op, Operation};

pub(super) fn fuse(graph: &Graph, gpu: GpuTraits) -> Graph {
    let uses = Uses::of(graph);
    // With the sums as nodes of their own.
    let mut with_sums = graph.clone();
    let mut found: Vec<Replacement> = Vec::new();
    let mut taken = HashSet::new();
    for index in 0..graph.nodes.len() {
        if let Some(replacement) = sums(&mut with_sums, &uses, &taken, index, gpu) {
            taken.extend(replacement.nodes.iter().copied());
            found.push(replacement);
        }
    }
    replace(&with_sums, &found).unwrap_or_else(|| graph.clone())
}

/// What becomes of the gradient that the gradient of a batch normalization at this node reads. The sums are added to the
/// graph, and to what the node reads.
fn sums(graph: &mut Graph, uses: &Uses, taken: &HashSet<usize>, index: usize, gpu: GpuTraits) -> Option<Replacement> {
    let NodeKind::Op(Op::BatchNormBackward(norm)) = &graph.nodes[index].kind else { return None };
    let &[through, x, _, mean, _] = graph.nodes[index].inputs.as_slice() else { return None };
    let mut nodes = vec![through.node as usize];
    let (grad, activation, activated) = match &graph.node(through).kind {
        NodeKind::Op(Op::UnaryBackward(unary)) => {
            let &[grad, activated] = graph.node(through).inputs.as_slice() else { return None };
            nodes.push(grad.node as usize);
            (grad, Activation::from_function(unary.0)?, activated)
        }
        _ => (through, Activation::None, x),
    };
    if nodes.iter().any(|node| taken.contains(node)) || (grad != through && !uses.is_single(grad)) {
        return None;
    }
    let (op, added) = gradient(graph, grad)?;
    let gradient_inputs = graph.node(grad).inputs.clone();
    let tiles = op.tiles(graph.shape(gradient_inputs[1]), gpu)?;
    let sums = TileSums { tiles };
    let types = [through, x, mean].map(|value| graph.ty(value).clone());
    let types = sums.infer(&types).ok()?;
    let norm = norm.with_sums(types[0].shape[1])?;
    nodes.push(graph.nodes.len());
    let node =
        Node { kind: NodeKind::Op(sums.into()), inputs: vec![through, x, mean], types, ..graph.nodes[index].clone() };
    graph.nodes.push(node);
    let sums = graph.value(graph.nodes.len() - 1, 0);
    graph.nodes[index].kind = NodeKind::Op(norm.into());
    graph.nodes[index].inputs.push(sums);
    let inputs = [&gradient_inputs[..], &[activated, x, mean]].concat();
    let kernel = FusedKernel::ConvGradSums(ConvGradSums { op, added, activation });
    Some(Replacement { kernel, inputs, outputs: vec![through, sums], nodes })
}

/// The convolution's gradient that makes a value, and what is added to it.
fn gradient(graph: &Graph, value: Value) -> Option<(Conv2dGradInput, Option<Added>)> {
    match &graph.node(value).kind {
        NodeKind::Op(Op::Conv2dGradInput(op)) => Some((op.clone(), None)),
        NodeKind::Op(Op::Fused(fused)) => match &fused.kernel {
            FusedKernel::ConvGradSum(kernel) => Some((kernel.op.clone(), Some(kernel.added))),
            _ => None,
        },
        _ => None,
    }
}
