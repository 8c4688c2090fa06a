//! Found: the gradients of a convolution whose output went into max-pooling (conv2d_pooled_backward), with windows of 2×2
//! side by side. Becomes: conv2d_pool_grad_input, which also takes the gradient of the activation before the convolution,
//! and conv2d_pool_grad_weight, whose sums over slices of images the optimizer adds up as it reads them; so only where the
//! optimizer alone reads those. Equal up to rounding: the gradient by the weight is summed in another order; that by the
//! input in the same.

use super::readers::Readers;
use super::replace::{Replacement, replace};
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::nn::conv2d::{Conv2dGradInput, Conv2dGradWeight, Conv2dPooledBackward};
use crate::ops::nn::fused::{ConvPoolGradInput, ConvPoolGradWeight, FusedKernel};
use crate::ops::nn::max_pool2d::MaxPool2d;
use crate::ops::update::partial_update::{GradientSource, PartialUpdate};
use crate::ops::{Activation, Op, Operation, SliceRange};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// The gradients of a convolution.
struct Found {
    node: usize,
    op: Conv2dPooledBackward,
    by_weight: ConvPoolGradWeight,
    /// The kernel, and the node of the activation's gradient, if it is part of it.
    by_input: Option<(ConvPoolGradInput, Option<usize>)>,
}

pub(super) fn fuse(graph: &Graph) -> Graph {
    let readers = Readers::new(graph);
    for (update, node) in graph.nodes.iter().enumerate() {
        if !matches!(node.kind, NodeKind::Op(Op::PackedUpdate(_))) {
            continue;
        }
        let found: Vec<Found> = (0..graph.nodes.len()).filter_map(|node| find(graph, &readers, node, update)).collect();
        if let Ok(rewritten) = rewrite(graph, update, &found) {
            // One optimizer at a time: places move.
            return rewritten;
        }
    }
    graph.clone()
}

/// The gradients at a node, if nobody but the optimizer at `update` reads those of the weights.
fn find(graph: &Graph, readers: &Readers<'_>, index: usize, update: usize) -> Option<Found> {
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

/// The graph with the gradients apart, and the update reading sums over slices.
fn rewrite(graph: &Graph, update: usize, found: &[Found]) -> Result<Graph> {
    let NodeKind::Op(Op::PackedUpdate(op)) = &graph.nodes[update].kind else { panic!("fuse() saw the node") };
    let (num_scalars, num_params) = (op.rule.num_scalars, op.num_params);
    let inputs = graph.nodes[update].inputs.clone();
    let (params, rest) = inputs[num_scalars..].split_at(num_params);
    let (grads, states) = rest.split_at(num_params);
    let mut graph = graph.clone();
    let (mut replacements, mut partials) = (Vec::new(), Vec::new());
    let mut sources = vec![GradientSource::Whole; num_params];
    for found in found {
        let of = |output: usize| {
            let value = graph.value(found.node, output);
            grads.iter().position(|&grad| grad == value)
        };
        let (weight, bias) = (of(0), if found.op.has_bias { of(1) } else { None });
        let (Some(weight), true) = (weight, !found.op.has_bias || bias.is_some()) else { continue };
        sources[weight] = GradientSource::Partial { tensor: partials.len(), offset: 0 };
        if let Some(bias) = bias {
            let offset = found.by_weight.bias_offset();
            sources[bias] = GradientSource::Partial { tensor: partials.len(), offset };
        }
        partials.push(apart(&mut graph, found, &mut replacements)?);
    }
    let whole: Vec<Value> = grads
        .iter()
        .zip(&sources)
        .filter(|(_, source)| **source == GradientSource::Whole)
        .map(|(&grad, _)| grad)
        .collect();
    if partials.is_empty() || whole.is_empty() {
        // A pack has members.
        return Err(Error::operand("optimizer", "gradients of both kinds", "one"));
    }
    let types = |graph: &Graph, values: &[Value]| -> Vec<TensorType> {
        values.iter().map(|&value| graph.ty(value).clone()).collect()
    };
    let table = PartialUpdate::table(&types(&graph, params), &sources, &types(&graph, &partials))?;
    let table = graph.constant(table);
    let NodeKind::Op(Op::PackedUpdate(op)) = &graph.nodes[update].kind else { panic!("fuse() saw the node") };
    let op = PartialUpdate { update: op.clone(), sources, num_partials: partials.len() };
    let inputs: Vec<Value> = [&inputs[..num_scalars], params, &whole, states, &partials, &[table]].concat();
    op.infer(&types(&graph, &inputs))?;
    graph.nodes[update].kind = NodeKind::Op(op.into());
    graph.nodes[update].inputs = inputs;
    let cyclic = || Error::operand("optimizer", "gradients that do not depend on one another", "some that do");
    replace(&graph, &replacements).ok_or_else(cyclic)
}

/// Appends the gradients of a convolution as ops apart, says what becomes of them, and gives the partial sums.
fn apart(graph: &mut Graph, found: &Found, replacements: &mut Vec<Replacement>) -> Result<Value> {
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
