//! Found: fully connected layers up to the logits of a cross-entropy, with the gradient of that, the gradients back through
//! the layers and those of their weights, where nothing else reads what is in between. Becomes: mlp_chain, which takes the
//! rows of the batch through all layers forward and back, and layer_gradients. Equal bit for bit in layers of up to 32 inputs
//! and 16 outputs, where each sum has one accumulator and the order that the matmul kernels of real GPUs have; in wider
//! ones equal up to rounding, because several threads share a sum and what each has is added up in order.

use super::super::replace::{Replacement, replace};
use super::readers::Readers;
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::nn::cross_entropy::{CrossEntropy, Scores};
use crate::ops::nn::fused::{ChainLayer, FusedKernel, LayerGradients, MAX_LAYERS, MlpChain};
use crate::ops::tensor::matmul::Matmul;
use crate::ops::tensor::reduce::{Reduce, ReduceFunction};
use crate::ops::{Activation, Op, Operation};

/// A layer forward: the node of its matmul.
#[derive(Clone, Debug)]
struct Layer {
    node: usize,
    weight: Value,
    bias: Option<Value>,
    activation: Activation,
    input: Value,
    output: Value,
}

/// A layer's gradients.
#[derive(Clone, Debug)]
struct Back {
    /// The gradient before the activation of the layer.
    grad: Value,
    weight: usize,
    bias: Option<usize>,
    /// The gradient by the layer's input, after the activation that this came out of.
    by_input: Option<Value>,
    /// All nodes.
    nodes: Vec<usize>,
}

/// A chain: its layers from the first to the last.
struct Chain {
    attributes: CrossEntropy,
    labels: Value,
    class_weights: Value,
    layers: Vec<(Layer, Back)>,
    by_input: Option<Activation>,
    params: Vec<Value>,
    loss_gradient: usize,
}

pub(super) fn fuse(graph: &Graph) -> Graph {
    let found = (0..graph.nodes.len()).find_map(|index| find(graph, index));
    let Some(chain) = found else { return graph.clone() };
    let (columns, replacements) = with_columns(graph, &chain);
    replace(&columns, &replacements).unwrap_or_else(|| graph.clone())
}

/// The chain that ends at the gradient of a cross-entropy: as many layers as belong to it.
fn find(graph: &Graph, loss_gradient: usize) -> Option<Chain> {
    let node = &graph.nodes[loss_gradient];
    let NodeKind::Op(Op::ClassLossBackward(op)) = &node.kind else { return None };
    let [logits, labels, class_weights, grad] = *node.inputs.get(..4)? else { return None };
    let NodeKind::Constant(seed) = &graph.node(grad).kind else { return None };
    if op.0.scores != Scores::Logits || seed.to_f64_vec() != [1.0] {
        return None;
    }
    let readers = Readers::new(graph);
    let forward = layers(graph, &readers, logits);
    (1..=forward.len()).rev().find_map(|count| {
        let layers = &forward[forward.len() - count..];
        let mut widths: Vec<usize> = layers.iter().map(|layer| graph.shape(layer.weight)[1]).collect();
        widths.push(graph.shape(layers.last()?.weight)[0]);
        if !MlpChain::fits(graph.shape(logits)[0], &widths, &op.0.attributes) {
            return None;
        }
        let (back, by_input) = gradients(graph, &readers, layers, graph.value(loss_gradient, 0))?;
        let params = pack_of(graph, layers)?;
        let layers = layers.iter().cloned().zip(back).collect();
        Some(Chain { attributes: op.0.attributes, labels, class_weights, layers, by_input, params, loss_gradient })
    })
}

/// The layers that lead to these logits, the first one first.
fn layers(graph: &Graph, readers: &Readers<'_>, logits: Value) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut output = readers.root(logits);
    while layers.len() < MAX_LAYERS {
        let node = graph.node(output);
        let NodeKind::Op(Op::Matmul(matmul)) = &node.kind else { break };
        let (weight, is_layer) = (node.inputs[1], !matmul.trans_a && matmul.trans_b);
        let is_state = |value: Value| matches!(graph.node(value).kind, NodeKind::State(_));
        let bias = node.inputs.get(2).copied();
        let is_plain = graph.shape(output).rank() == 2 && graph.shape(weight).rank() == 2;
        if !is_layer || !is_plain || !is_state(weight) || !bias.is_none_or(is_state) {
            break;
        }
        let input = readers.root(node.inputs[0]);
        let activation = matmul.activation;
        layers.push(Layer { node: output.node as usize, weight, bias, activation, input, output });
        output = input;
    }
    layers.reverse();
    layers
}

/// The gradients of all layers, from the gradient of the logits, and the activation before the first layer if its gradient
/// is part of them. `None` where anything else reads what is in between.
fn gradients(
    graph: &Graph,
    readers: &Readers<'_>,
    layers: &[Layer],
    of_logits: Value,
) -> Option<(Vec<Back>, Option<Activation>)> {
    let mut back = Vec::new();
    let (mut grad, mut by_input) = (of_logits, None);
    for (index, layer) in layers.iter().enumerate().rev() {
        let mut found = layer_back(graph, readers, layer, grad)?;
        if let Some(product) = found.by_input {
            // Through the activation below, unless it is none or the input of the chain is something else.
            let below = index.checked_sub(1).map(|below| layers[below].activation);
            let activation = through_activation(graph, readers, product, layer.input);
            match (below, activation) {
                (Some(Activation::None), None) => {}
                (None, None) => by_input = Some(Activation::None),
                (below, Some((node, activation))) if below.is_none_or(|below| below == activation) => {
                    found.nodes.push(node);
                    found.by_input = Some(graph.value(node, 0));
                    by_input = by_input.or(below.is_none().then_some(activation));
                }
                _ => return None,
            }
        } else if index > 0 {
            return None;
        }
        if index > 0 {
            grad = found.by_input?;
            let own = [layer.node].into_iter().chain(found.nodes.iter().copied()).collect::<Vec<_>>();
            // What the layer below gives is read by this layer and its gradients alone.
            if !readers.are_only(layer.input, &own) {
                return None;
            }
        }
        back.push(found);
    }
    back.reverse();
    Some((back, by_input))
}

/// The node that takes the gradient of an activation with output `y` of `grad` alone.
fn through_activation(graph: &Graph, readers: &Readers<'_>, grad: Value, y: Value) -> Option<(usize, Activation)> {
    let &[node] = readers.of(grad) else { return None };
    let NodeKind::Op(Op::UnaryBackward(backward)) = &graph.nodes[node].kind else { return None };
    let [of, at] = [graph.nodes[node].inputs[0], graph.nodes[node].inputs[1]].map(|input| readers.root(input));
    let activation = Activation::from_function(backward.0)?;
    (of == readers.root(grad) && at == readers.root(y) && !readers.is_output(grad)).then_some((node, activation))
}

/// The nodes that read the gradient before the activation of a layer.
fn layer_back(graph: &Graph, readers: &Readers<'_>, layer: &Layer, grad: Value) -> Option<Back> {
    let (mut weight, mut bias, mut by_input) = (None, None, None);
    for &reader in readers.of(grad) {
        let node = &graph.nodes[reader];
        let input = |place: usize| readers.root(node.inputs[place]);
        let is_grad = input(0) == readers.root(grad);
        let plain = |trans_a: bool| Matmul { trans_a, trans_b: false, activation: Activation::None };
        let sum = Reduce { function: ReduceFunction::Sum, axes: vec![0], keep_dims: false };
        let place = match &node.kind {
            NodeKind::Op(Op::Matmul(matmul)) if *matmul == plain(true) && input(1) == layer.input => &mut weight,
            NodeKind::Op(Op::Matmul(matmul)) if *matmul == plain(false) && input(1) == layer.weight => &mut by_input,
            NodeKind::Op(Op::Reduce(reduce)) if *reduce == sum => &mut bias,
            _ => return None,
        };
        if !is_grad || node.inputs.len() > 2 || place.replace(reader).is_some() {
            return None;
        }
    }
    if readers.is_output(grad) || bias.is_some() != layer.bias.is_some() {
        return None;
    }
    let weight = weight?;
    let nodes = [Some(weight), bias, by_input].into_iter().flatten().collect();
    Some(Back { grad, weight, bias, by_input: by_input.map(|node| graph.value(node, 0)), nodes })
}

/// The values of the pack that all weights and biases lie in.
fn pack_of(graph: &Graph, layers: &[Layer]) -> Option<Vec<Value>> {
    let wanted: Vec<Value> = layers.iter().flat_map(|layer| [Some(layer.weight), layer.bias]).flatten().collect();
    graph.nodes.iter().find_map(|node| {
        let NodeKind::Op(op) = &node.kind else { return None };
        let mut packs = op.packs(node.inputs.len()).into_iter().map(|range| &node.inputs[range]);
        packs.find(|pack| wanted.iter().all(|value| pack.contains(value))).map(<[Value]>::to_vec)
    })
}

/// The graph with the values between the layers side by side as columns of one, from which the gradients of the weights
/// read, and what becomes of the nodes.
fn with_columns(graph: &Graph, chain: &Chain) -> (Graph, Vec<Replacement>) {
    let mut graph = graph.clone();
    let last = &chain.layers.last().expect("a chain has layers").0;
    let x = chain.layers[0].0.input;
    let hidden = chain.layers[1..].iter().map(|(layer, _)| layer.input);
    let columns: Vec<Value> = hidden.chain(chain.layers.iter().map(|(_, back)| back.grad)).collect();
    let sound = "the operands are those of the layers";
    let rows = graph.shape(last.output)[0];
    let columns: Vec<Value> = columns
        .into_iter()
        .map(|value| {
            let width = graph.shape(value).num_elems() / rows;
            graph.reshape(value, [rows, width]).expect(sound)
        })
        .collect();
    let all = graph.concat(&columns, 1).expect(sound);
    let mut parts = Vec::new();
    let mut start = 0;
    for &column in &columns {
        let width = graph.shape(column)[1];
        parts.push(graph.slice(all, &[(0..rows).into(), (start..start + width).into()]).expect(sound));
        start += width;
    }
    let num_hidden = chain.layers.len() - 1;
    let mut gradients = Vec::new();
    for (index, (_, back)) in chain.layers.iter().enumerate() {
        let grad = parts[num_hidden + index];
        graph.nodes[back.weight].inputs[0] = grad;
        if index > 0 {
            graph.nodes[back.weight].inputs[1] = parts[index - 1];
        }
        gradients.push(graph.value(back.weight, 0));
        if let Some(bias) = back.bias {
            graph.nodes[bias].inputs[0] = grad;
            gradients.push(graph.value(bias, 0));
        }
    }
    let own: Vec<usize> = gradients.iter().map(|value| value.node as usize).collect();
    let place = |value: Value| chain.params.iter().position(|&param| param == value).expect("they are of one pack");
    let layers = chain.layers.iter().map(|(layer, _)| ChainLayer {
        weight: place(layer.weight),
        bias: layer.bias.map(place),
        activation: layer.activation,
    });
    let kernel = MlpChain {
        layers: layers.collect(),
        attributes: chain.attributes,
        by_input: chain.by_input,
        num_params: chain.params.len(),
    };
    let mut outputs = vec![all, last.output];
    outputs.extend(chain.layers[0].1.by_input);
    let mut nodes: Vec<usize> = vec![chain.loss_gradient, all.node as usize];
    nodes.extend(chain.layers.iter().map(|(layer, _)| layer.node));
    nodes.extend(chain.layers.iter().flat_map(|(_, back)| back.nodes.iter().copied()).filter(|n| !own.contains(n)));
    let inputs = [x, chain.labels, chain.class_weights].into_iter().chain(chain.params.iter().copied()).collect();
    let rows = Replacement { kernel: FusedKernel::MlpChain(kernel), inputs, outputs, nodes };
    let mut widths: Vec<usize> = chain.layers.iter().map(|(layer, _)| graph.shape(layer.weight)[1]).collect();
    widths.push(graph.shape(last.weight)[0]);
    let has_bias = chain.layers.iter().map(|(layer, _)| layer.bias.is_some()).collect();
    let mut nodes = own;
    nodes.extend(parts.iter().map(|part| part.node as usize));
    let kernel = FusedKernel::LayerGradients(LayerGradients { widths, has_bias });
    let weights = Replacement { kernel, inputs: vec![x, all], outputs: gradients, nodes };
    (graph, vec![rows, weights])
}
