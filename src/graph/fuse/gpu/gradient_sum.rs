//! Found: the sum of a convolution's gradient by its input, which nothing else reads, and another gradient, as where a
//! residual block begins. Becomes: conv2d_grad_input_add, which adds the other one as it stores. Where that one was spread
//! over every so many rows and columns, as the gradient of a slice with steps is, it is read as it was before, and so it is
//! before channels were cut out of it. Equal bit for bit: the zeros in between are added, too.

use std::collections::HashSet;

use super::super::replace::{Replacement, replace_most};
use super::Uses;
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::nn::conv2d::Added;
use crate::ops::nn::fused::{ConvGradSum, FusedKernel};
use crate::ops::tensor::copy::Copy;
use crate::ops::{Op, SliceRange};

pub(super) fn fuse(graph: &Graph) -> Graph {
    let uses = Uses::of(graph);
    let mut found: Vec<Replacement> = Vec::new();
    let mut taken = HashSet::new();
    for index in 0..graph.nodes.len() {
        let Some(replacement) = sum(graph, &uses, index) else { continue };
        // A sum of sums, of which one stays apart.
        if replacement.nodes.iter().all(|node| !taken.contains(node)) {
            taken.extend(replacement.nodes.iter().copied());
            found.push(replacement);
        }
    }
    replace_most(graph, found)
}

/// The sum at this node, if a convolution's gradient is part of it.
fn sum(graph: &Graph, uses: &Uses, index: usize) -> Option<Replacement> {
    let node = &graph.nodes[index];
    let NodeKind::Op(Op::Binary(binary)) = &node.kind else { return None };
    let &[a, b] = node.inputs.as_slice() else { return None };
    if !binary.is_add() || a == b || graph.shape(a) != graph.shape(b) {
        return None;
    }
    // Of two convolutions the later one adds the other's: by then that is there.
    let (later, earlier) = if a.node > b.node { (a, b) } else { (b, a) };
    let is_gradient = |value: &Value| {
        matches!(&graph.node(*value).kind, NodeKind::Op(Op::Conv2dGradInput(_))) && uses.is_single(*value)
    };
    let (gradient, other) = [(later, earlier), (earlier, later)].into_iter().find(|(side, _)| is_gradient(side))?;
    let NodeKind::Op(Op::Conv2dGradInput(op)) = &graph.node(gradient).kind else { return None };
    let mut nodes = vec![gradient.node as usize, index];
    let (other, added) = source(graph, uses, other, &mut nodes);
    let inputs = [&graph.node(gradient).inputs[..], &[other]].concat();
    let kernel = FusedKernel::ConvGradSum(ConvGradSum { op: op.clone(), added });
    Some(Replacement { kernel, inputs, outputs: vec![graph.value(index, 0)], nodes })
}

/// What a gradient of images was spread and cut out of, if it was and nothing else reads it, and how; the nodes that did so
/// are added to `nodes`.
fn source(graph: &Graph, uses: &Uses, value: Value, nodes: &mut Vec<usize>) -> (Value, Added) {
    let channels = graph.shape(value)[1];
    let (mut source, mut added) = (value, Added { channels, first: 0, step: [1, 1] });
    if let NodeKind::Op(Op::Pad(pad)) = &graph.node(value).kind
        && let [images, channels, rows, columns] = pad.ranges.as_slice()
        && let dims = pad.shape.dims()
        && is_whole(images, dims[0])
        && is_whole(channels, dims[1])
        && is_stepped(rows, dims[2])
        && is_stepped(columns, dims[3])
        && uses.is_single(value)
    {
        nodes.push(value.node as usize);
        source = graph.node(value).inputs[0];
        added.step = [rows.step, columns.step];
    }
    if let NodeKind::Op(Op::Copy(Copy::Slice(ranges))) = &graph.node(source).kind
        && let [images, channels, rows, columns] = ranges.as_slice()
        && let from = graph.node(source).inputs[0]
        && let dims = graph.shape(from).dims()
        && is_whole(images, dims[0])
        && channels.step == 1
        && is_whole(rows, dims[2])
        && is_whole(columns, dims[3])
        && uses.is_single(source)
    {
        nodes.push(source.node as usize);
        added = Added { channels: dims[1], first: channels.start, ..added };
        source = from;
    }
    (source, added)
}

/// Whether every index of an axis is in a range.
fn is_whole(range: &SliceRange, extent: usize) -> bool {
    range.step == 1 && is_stepped(range, extent)
}

/// Whether every so many indices of an axis are, from the first on and as many as there are.
fn is_stepped(range: &SliceRange, extent: usize) -> bool {
    range.start == 0 && range.len() == extent.div_ceil(range.step)
}
