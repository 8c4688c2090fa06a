//! What a model is made of, layer by layer: output shapes, parameters, operations, memory. Read off the graph that the
//! model builds, so that it holds for any model; nothing is computed.

use std::collections::HashSet;

use serde::Serialize;

use super::{Mode, Model};
use crate::graph::{Graph, NodeKind, StateKind, Value};
use crate::ops::{Op, Operation};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

/// A model's layers and their sums, for a batch in training (forward only).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The shape of a batch of images (N, C, H, W).
    pub input: Vec<usize>,
    /// The layers, in the order they run.
    pub layers: Vec<LayerSummary>,
    /// Learned numbers.
    pub num_parameters: usize,
    /// Numbers that are saved with the model but not learned, such as running statistics.
    pub num_buffers: usize,
    /// Floating-point operations of one forward pass over the batch; a multiply-add counts as 2.
    pub flops: u64,
    /// Bytes of the batch of images, as 32-bit floats.
    pub input_bytes: usize,
    /// Bytes of the outputs of all layers together: what a backward pass may find kept, before any sharing.
    pub activation_bytes: usize,
    /// Bytes of parameters and buffers.
    pub parameter_bytes: usize,
}

/// What one layer is. Values of its own name (`fc1`) are one layer; ops outside of any are layers called by the op.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LayerSummary {
    /// The layer's name; empty for an op outside of any.
    pub name: String,
    /// The ops it is made of.
    pub ops: Vec<&'static str>,
    /// The shape of what it gives.
    pub output: Vec<usize>,
    /// Learned numbers that no layer before it has.
    pub num_parameters: usize,
    /// Other numbers saved with the model that no layer before it has.
    pub num_buffers: usize,
    /// Floating-point operations over the batch; a multiply-add counts as 2.
    pub flops: u64,
    /// Bytes of its ops' outputs.
    pub activation_bytes: usize,
}

impl Summary {
    /// Builds the model's training graph for `batch_size` images of `shape` (C, H, W) and reads it off.
    ///
    /// # Errors
    /// [`Error::Setting`] for a batch of 0 images; what [`Model::logits`] returns.
    pub fn of(model: &dyn Model, shape: [usize; 3], batch_size: usize) -> Result<Summary> {
        if batch_size == 0 {
            return Err(Error::setting("batch_size", "at least 1", 0));
        }
        let [channels, height, width] = shape;
        let input = TensorType::f32([batch_size, channels, height, width]);
        let mut graph = Graph::new("summary");
        let images = graph.input("images", input.clone())?;
        let step = graph.scalar("step", DType::U32)?;
        let logits = model.logits(&mut graph, images, Mode::Train { seed: 0, step })?;

        let layers = layers(&graph, logits);
        let sum = |count: fn(&LayerSummary) -> usize| layers.iter().map(count).sum::<usize>();
        let (num_parameters, num_buffers) = (sum(|layer| layer.num_parameters), sum(|layer| layer.num_buffers));
        Ok(Summary {
            input: input.shape.dims().to_vec(),
            num_parameters,
            num_buffers,
            flops: layers.iter().map(|layer| layer.flops).sum(),
            input_bytes: input.size_bytes(),
            activation_bytes: sum(|layer| layer.activation_bytes),
            // Both are kept as 32-bit floats.
            parameter_bytes: 4 * (num_parameters + num_buffers),
            layers,
        })
    }
}

fn layers(graph: &Graph, logits: Value) -> Vec<LayerSummary> {
    let mut layers: Vec<LayerSummary> = Vec::new();
    let mut counted = HashSet::new();
    let needed = needed_for(graph, logits);
    for (index, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Op(op) = &node.kind else { continue };
        // What only updates statistics is not on the way from images to logits.
        if !op.updates().is_empty() && !needed.contains(&index) {
            continue;
        }
        let inputs: Vec<TensorType> = node.inputs.iter().map(|&input| graph.ty(input).clone()).collect();
        if op.is_alias() && node.types[0].shape == inputs[0].shape {
            continue;
        }
        let continues = layers.last().is_some_and(|layer| !node.scope.is_empty() && layer.name == node.scope);
        if !continues {
            layers.push(LayerSummary { name: node.scope.clone(), ..LayerSummary::default() });
        }
        let layer = layers.last_mut().expect("one was just there, or was just added");
        // A reshape within a layer says nothing, unless it is all that the layer does.
        if !op.is_alias() && layer.ops == ["reshape"] && !node.scope.is_empty() {
            layer.ops.clear();
        }
        if !op.is_alias() || layer.ops.is_empty() {
            layer.ops.push(op.name());
        }
        layer.output = node.types[0].shape.dims().to_vec();
        layer.flops += op.cost(&inputs, &node.types).flops;
        if !op.is_alias() {
            layer.activation_bytes += kept(op, &node.types).iter().map(TensorType::size_bytes).sum::<usize>();
        }
        for &input in &node.inputs {
            if let NodeKind::State(spec) = &graph.node(input).kind
                && counted.insert(input)
            {
                match spec.kind {
                    StateKind::Parameter => layer.num_parameters += spec.ty.shape.num_elems(),
                    StateKind::Buffer => layer.num_buffers += spec.ty.shape.num_elems(),
                    StateKind::Optimizer | StateKind::Input => {}
                }
            }
        }
    }
    layers
}

/// The outputs that take memory: all of them, but for states that are updated in place.
fn kept<'a>(op: &Op, types: &'a [TensorType]) -> &'a [TensorType] {
    if op.updates().is_empty() { types } else { &types[..1] }
}

/// The nodes that a value needs.
fn needed_for(graph: &Graph, value: Value) -> HashSet<usize> {
    let (mut open, mut needed) = (vec![value], HashSet::new());
    while let Some(value) = open.pop() {
        if needed.insert(value.node as usize) {
            open.extend(&graph.node(value).inputs);
        }
    }
    needed
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::nn::{Classifier, LeNet5, Sequential};

    #[test]
    fn lenet_is_summed_up_as_by_hand() {
        let model = Classifier::new(LeNet5 { batch_norm: true, dropout: 0.5 }, 10);
        let summary = Summary::of(&model, [1, 28, 28], 3).unwrap();
        let layer = |name: &str| summary.layers.iter().find(|layer| layer.name == name).unwrap();
        let (conv1, bn1, fc1) = (layer("conv1"), layer("bn1"), layer("fc1"));
        assert_eq!((&conv1.output[..], conv1.num_parameters), (&[3, 6, 24, 24][..], 6 * 25 + 6));
        assert_eq!(conv1.flops, 3 * 6 * 24 * 24 * 25 * 2);
        assert_eq!(conv1.activation_bytes, 3 * 6 * 24 * 24 * 4);
        assert_eq!((&bn1.output[..], bn1.num_parameters, bn1.num_buffers), (&[3, 6, 24, 24][..], 12, 12));
        assert_eq!((&fc1.ops[..], &fc1.output[..]), (&["matmul"][..], &[3, 120][..]));
        assert_eq!((fc1.num_parameters, fc1.flops), (256 * 120 + 120, 3 * 256 * 120 * 2));
        let ops: Vec<&str> = summary.layers.iter().flat_map(|layer| layer.ops.iter().copied()).collect();
        let wanted = [
            "conv2d",
            "batch_norm2d",
            "relu",
            "max_pool2d",
            "dropout",
            "conv2d",
            "relu",
            "max_pool2d",
            "reshape",
            "matmul",
            "relu",
            "dropout",
            "matmul",
            "relu",
            "matmul",
        ];
        assert_eq!(ops, wanted, "{summary:?}");
        assert_eq!((summary.num_parameters, summary.num_buffers), (44_426 + 12, 12));
        assert_eq!(summary.parameter_bytes, 4 * (44_426 + 24));
        assert_eq!(summary.input_bytes, 3 * 28 * 28 * 4);
        assert_eq!(summary.flops, summary.layers.iter().map(|layer| layer.flops).sum::<u64>());
        let lenet = Classifier::new(LeNet5::default(), 10);
        let plain = Summary::of(&lenet, [3, 32, 32], 1).unwrap();
        assert_eq!(plain.num_parameters, 62_006);
        assert!(Summary::of(&lenet, [1, 28, 28], 0).unwrap_err().is_usage());
        assert!(Summary::of(&lenet, [1, 2, 2], 1).is_err());
    }

    #[test]
    fn any_model_has_a_summary_and_shared_weights_count_once() {
        let model = Sequential::new().flatten().linear(16).relu().linear(4);
        let summary = Summary::of(&model, [1, 4, 4], 2).unwrap();
        assert_eq!(summary.num_parameters, 16 * 16 + 16 + 16 * 4 + 4);
        let tied = |graph: &mut Graph, images: Value, _: Mode| -> Result<Value> {
            let x = graph.flatten(images, 1)?;
            let weight = graph.parameter("w", [16, 16], crate::graph::Init::Zeros)?;
            let x = graph.linear(x, weight, None)?;
            graph.linear(x, weight, None)
        };
        assert_eq!(Summary::of(&tied, [1, 4, 4], 2).unwrap().num_parameters, 256);
    }
}
