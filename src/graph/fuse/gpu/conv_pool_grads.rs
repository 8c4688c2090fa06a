//! Found: the gradients of a convolution whose output went into max-pooling (conv2d_pooled_backward), with windows of 2×2
//! side by side. Becomes: conv2d_pool_grad_input, which also takes the gradient of the activation before the convolution,
//! and conv2d_pool_grad_weight, whose sums over slices of images the optimizer adds up as it reads them
//! (`partial_gradients.rs`); so only where the optimizer alone reads those. Equal up to rounding: the gradient by the weight
//! is summed in another order; that by the input in the same.

use super::readers::Readers;
use super::replace::Replacement;
use crate::Result;
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::nn::conv2d::{Conv2dGradInput, Conv2dGradWeight, Conv2dPooledBackward};
use crate::ops::nn::fused::{ConvPoolGradInput, ConvPoolGradWeight, FusedKernel};
use crate::ops::nn::max_pool2d::MaxPool2d;
use crate::ops::{Activation, Op, SliceRange};

/// The gradients of a convolution.
pub(super) struct Found {
    node: usize,
    op: Conv2dPooledBackward,
    by_weight: ConvPoolGradWeight,
    /// The kernel, and the node of the activation's gradient, if it is part of it.
    by_input: Option<(ConvPoolGradInput, Option<usize>)>,
}

/// The gradients at a node, if nobody but the optimizer at `update` reads those of the weights.
pub(super) fn find(graph: &Graph, readers: &Readers<'_>, index: usize, update: usize) -> Option<Found> {
    let node = &graph.nodes[index];
    let NodeKind::Op(Op::Conv2dPooledBackward(op)) = &node.kind else { return None };
    let pool = op.pool.pool;
    let is_2x2 = pool == MaxPool2d { ceil_mode: pool.ceil_mode, ..MaxPool2d::new([2, 2]) };
    let has_odd = pool.ceil_mode && op.pool.input.iter().any(|extent| extent % 2 != 0);
    let num_whole = 1 + usize::from(op.has_bias);
    let is_own = |output: usize| readers.are_only(graph.value(index, output), &[update]);
    if !is_2x2 || has_odd || !(0..num_whole).all(is_own) {
        return None;
    }
    let x = graph.shape(node.inputs[2]);
    let by_weight = ConvPoolGradWeight::new(op.conv, x, &op.weight)?;
    let by_input = match op.has_input {
        false => None,
        true => {
            let masked = activation_gradient(graph, readers, graph.value(index, num_whole), node.inputs[2]);
            let activation = masked.map_or(Activation::None, |(_, activation)| activation);
            Some((ConvPoolGradInput::new(op.conv, x, &op.weight, activation)?, masked.map(|(node, _)| node)))
        }
    };
    Some(Found { node: index, op: op.clone(), by_weight, by_input })
}

/// The node that alone reads `grad` and takes it through the activation that `x` came out of.
fn activation_gradient(graph: &Graph, readers: &Readers<'_>, grad: Value, x: Value) -> Option<(usize, Activation)> {
    let &[node] = readers.of(grad) else { return None };
    let NodeKind::Op(Op::UnaryBackward(backward)) = &graph.nodes[node].kind else { return None };
    let is_of = graph.nodes[node].inputs == [grad, x] && !readers.is_output(grad);
    Activation::from_function(backward.0).filter(|_| is_of).map(|activation| (node, activation))
}

impl Found {
    /// The gradients, by weight and, where there is one, bias.
    pub fn gradients(&self, graph: &Graph) -> Vec<Value> {
        (0..1 + usize::from(self.op.has_bias)).map(|output| graph.value(self.node, output)).collect()
    }

    /// Where the gradient by the bias begins in a slice.
    pub fn bias_offset(&self) -> usize {
        self.by_weight.bias_offset()
    }
}

/// Appends the gradients of a convolution as ops apart, says what becomes of them, and gives the partial sums.
pub(super) fn apart(graph: &mut Graph, found: &Found, replacements: &mut Vec<Replacement>) -> Result<Value> {
    let Found { node, op, by_weight, by_input } = found;
    let inputs = graph.nodes[*node].inputs.clone();
    let scope = graph.nodes[*node].scope.clone();
    let before = graph.nodes.len();
    let unpooled = graph.push1(op.pool, &inputs[..2])?;
    let mut gone = vec![*node, unpooled.node as usize];
    if let Some((kernel, masked)) = by_input {
        let (x, weight) = (inputs[2], inputs[3]);
        let by_input = Conv2dGradInput { conv: op.conv, input: graph.shape(x).clone() };
        let product = graph.push1(by_input, &[unpooled, weight])?;
        let product_node = product.node as usize;
        let mut inputs = vec![inputs[0], inputs[1], weight];
        let (result, mut nodes) = match masked {
            None => {
                let output = 1 + usize::from(op.has_bias);
                redirect(graph, graph.value(*node, output), product);
                (product, vec![product_node])
            }
            Some(masked) => {
                graph.nodes[*masked].inputs[0] = product;
                inputs.push(x);
                (graph.value(*masked, 0), vec![*masked, product_node])
            }
        };
        nodes.append(&mut gone);
        let kernel = FusedKernel::ConvPoolGradInput(kernel.clone());
        replacements.push(Replacement { kernel, inputs, outputs: vec![result], nodes });
    }
    let partials = partial_sums(graph, found, unpooled, inputs[2])?;
    let mut nodes = vec![partials.node as usize];
    nodes.append(&mut gone);
    graph.nodes[before..].iter_mut().for_each(|node| node.scope.clone_from(&scope));
    let kernel = FusedKernel::ConvPoolGradWeight(by_weight.clone());
    replacements.push(Replacement {
        kernel,
        inputs: vec![inputs[0], inputs[1], inputs[2]],
        outputs: vec![partials],
        nodes,
    });
    Ok(partials)
}

/// The gradients by weight and bias of each slice of images: (slices, elements).
fn partial_sums(graph: &mut Graph, found: &Found, unpooled: Value, x: Value) -> Result<Value> {
    let Found { op, by_weight, .. } = found;
    let batch = graph.shape(x)[0];
    let images = |graph: &mut Graph, value: Value, range: std::ops::Range<usize>| {
        let dims = graph.shape(value).dims().to_vec();
        let whole = dims[1..].iter().map(|&extent| 0..extent);
        let ranges: Vec<SliceRange> = [range].into_iter().chain(whole).map(SliceRange::from).collect();
        graph.slice(value, &ranges)
    };
    let mut slices = Vec::new();
    for first in (0..batch).step_by(by_weight.images_per_slice) {
        let range = first..batch.min(first + by_weight.images_per_slice);
        let grad = images(graph, unpooled, range.clone())?;
        let part = images(graph, x, range)?;
        let gradient = Conv2dGradWeight { conv: op.conv, weight: op.weight.clone(), has_bias: true };
        let sums = graph.push(gradient, &[grad, part])?;
        let mut columns = Vec::new();
        for sum in sums {
            let len = graph.shape(sum).num_elems();
            let row = graph.reshape(sum, [1, len])?;
            columns.push(graph.pad(row, &[(0, 0), (0, len.next_multiple_of(4) - len)])?);
        }
        slices.push(graph.concat(&columns, 1)?);
    }
    graph.concat(&slices, 0)
}

/// Lets everything that reads one value read another.
fn redirect(graph: &mut Graph, from: Value, to: Value) {
    let inputs = graph.nodes.iter_mut().flat_map(|node| &mut node.inputs);
    let outputs = graph.outputs.values_mut();
    inputs.chain(outputs).filter(|value| **value == from).for_each(|value| *value = to);
}
