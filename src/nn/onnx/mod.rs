//! Export to ONNX: the evaluation graph with its weights, from raw pixels to logits. Normalisation is part of the
//! graph, so the file is complete, and the batch size is free.
//!
//! The ops of image networks are supported. A graph with any other op is an error that names the op.

mod attributes;
mod ops;
mod proto;
mod shapes;

use prost::Message;

use self::proto::{
    DimensionProto, FLOAT, GraphProto, INT64, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{Mode, Model};
use crate::data::ChannelStats;
use crate::exec::StateDict;
use crate::graph::{Graph, NodeKind, StateKind, Value};
use crate::ops::Operation;
use crate::tensor::{Tensor, TensorType};
use crate::{Error, Result};

/// The name of the input: pixels (N, C, H, W) from 0 to 255, as 32-bit floats.
pub const INPUT: &str = "pixels";
/// The name of the output: logits (N, classes).
pub const OUTPUT: &str = "logits";

/// The version of ONNX's operators; runtimes since 2024 know it (ONNX 1.16), and later ones keep knowing it.
const OPSET: i64 = 21;
/// The version of the file format that came with it.
const IR_VERSION: i64 = 10;

/// What is exported.
#[derive(Clone, Copy)]
pub struct OnnxOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// Its parameters and running statistics.
    pub weights: &'a StateDict,
    /// What was subtracted from pixels scaled to 0..1 in training, and what they were divided by.
    pub normalize: &'a ChannelStats,
    /// C, H and W of the images.
    pub shape: [usize; 3],
    /// Words to keep with the file, such as the names of classes.
    pub metadata: &'a [(&'a str, String)],
}

/// The bytes of the file.
///
/// # Errors
/// [`Error::Unsupported`] naming an op that has no counterpart here; [`Error::State`] where the weights are not the
/// model's; what [`Model::logits`] returns.
pub fn onnx(options: &OnnxOptions<'_>) -> Result<Vec<u8>> {
    let OnnxOptions { model, weights, normalize, shape, metadata } = *options;
    // Two graphs that differ in the number of images tell which extents depend on it.
    let (one, logits) = eval_graph(model, shape, 1)?;
    let (two, _) = eval_graph(model, shape, 2)?;
    if one.nodes.len() != two.nodes.len() {
        return Err(unsupported("the model", "it is another network for another number of images"));
    }
    let mut writer = Writer { one: &one, two: &two, nodes: Vec::new(), initializers: Vec::new() };
    writer.normalize(normalize, shape);
    writer.weights(weights)?;
    for index in live_nodes(&one, logits) {
        if let NodeKind::Op(op) = &one.nodes[index].kind {
            ops::write(&mut writer, index, op)?;
        }
    }
    writer.node("Identity", &[&writer.name(logits)], OUTPUT, vec![]);

    let dims = |ty: &TensorType| ty.shape.dims()[1..].to_vec();
    let graph = GraphProto {
        name: "network".to_owned(),
        input: vec![batch_of(INPUT, &shape)],
        output: vec![batch_of(OUTPUT, &dims(one.ty(logits)))],
        node: writer.nodes,
        initializer: writer.initializers,
    };
    let entry = |(key, value): &(&str, String)| StringStringEntryProto { key: (*key).to_owned(), value: value.clone() };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "wgrad".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: format!(
            "{INPUT}: (N, C, H, W), 0 to 255, 0 is black; normalisation is inside. {OUTPUT}: (N, classes), before the softmax."
        ),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(entry).collect(),
    };
    Ok(model.encode_to_vec())
}

const IMAGES: &str = "onnx.images";
/// What the network's first layer takes.
const NORMALIZED: &str = "normalized";

fn eval_graph(model: &dyn Model, [channels, height, width]: [usize; 3], batch_size: usize) -> Result<(Graph, Value)> {
    let mut graph = Graph::new("onnx");
    let images = graph.input(IMAGES, TensorType::f32([batch_size, channels, height, width]))?;
    let logits = model.logits(&mut graph, images, Mode::Eval)?;
    Ok((graph, logits))
}

/// The nodes that a value is computed from, in the order they run.
fn live_nodes(graph: &Graph, value: Value) -> Vec<usize> {
    let mut is_live = vec![false; graph.nodes.len()];
    is_live[value.node as usize] = true;
    for index in (0..graph.nodes.len()).rev().filter(|&index| index <= value.node as usize) {
        if is_live[index] {
            graph.nodes[index].inputs.iter().for_each(|input| is_live[input.node as usize] = true);
        }
    }
    (0..graph.nodes.len()).filter(|&index| is_live[index]).collect()
}

fn batch_of(name: &str, dims: &[usize]) -> ValueInfoProto {
    let batch = DimensionProto { dim_value: None, dim_param: Some("N".to_owned()) };
    let fixed = |&dim: &usize| DimensionProto { dim_value: Some(to_i64(dim)), dim_param: None };
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(dims.iter().map(fixed)).collect() };
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn unsupported(op: &str, reason: &str) -> Error {
    Error::Unsupported { op: op.to_owned(), device: "an ONNX file".to_owned(), reason: reason.to_owned() }
}

/// An ONNX graph under construction.
struct Writer<'a> {
    /// The graph for one image, of which the file is written.
    one: &'a Graph,
    /// The same for two images.
    two: &'a Graph,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Writer<'_> {
    /// The name of a value in the file.
    fn name(&self, value: Value) -> String {
        let node = self.one.node(value);
        match &node.kind {
            NodeKind::State(spec) if spec.name == IMAGES => NORMALIZED.to_owned(),
            NodeKind::State(spec) => spec.name.clone(),
            NodeKind::Scalar(name) => name.clone(),
            NodeKind::Constant(_) => format!("constant_{}", value.node),
            NodeKind::Op(op) => {
                let scope = if node.scope.is_empty() { String::new() } else { format!("{}/", node.scope) };
                let output = if value.output == 0 { String::new() } else { format!(":{}", value.output) };
                format!("{scope}{}_{}{output}", op.name(), value.node)
            }
        }
    }

    /// The names of a node's first input and first output.
    fn ends(&self, node: usize) -> [String; 2] {
        [self.name(self.one.nodes[node].inputs[0]), self.name(self.one.value(node, 0))]
    }

    /// Appends an operator of one output, and gives the output's name.
    fn node(&mut self, op_type: &str, inputs: &[&str], output: &str, attribute: Vec<proto::AttributeProto>) -> String {
        let input = inputs.iter().map(|&input| input.to_owned()).collect();
        self.nodes.push(NodeProto {
            input,
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
        output.to_owned()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, dims, FLOAT, raw_data)
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, &[values.len()], INT64, raw_data)
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().copied().map(to_i64).collect();
        self.initializers.push(TensorProto { dims, data_type, name: name.to_owned(), raw_data });
        name.to_owned()
    }

    /// (pixel / 255 − mean) / std, as one subtraction and one division.
    fn normalize(&mut self, normalize: &ChannelStats, [channels, ..]: [usize; 3]) {
        // The constants are exact in f64 to far more digits than f32 keeps.
        let (mean, std): (Vec<f32>, Vec<f32>) =
            normalize.of_bytes().into_iter().map(|(mean, std)| (mean as f32, std as f32)).unzip();
        let mean = self.floats("mean", &[1, channels, 1, 1], &mean);
        let std = self.floats("std", &[1, channels, 1, 1], &std);
        let centered = self.node("Sub", &[INPUT, &mean], "centered", vec![]);
        self.node("Div", &[&centered, &std], NORMALIZED, vec![]);
    }

    /// The model's parameters and buffers, and constants of its graph.
    fn weights(&mut self, weights: &StateDict) -> Result<()> {
        let mut unknown: Vec<&String> = weights.keys().collect();
        for (index, node) in self.one.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::State(spec) if spec.kind == StateKind::Input => {}
                NodeKind::State(spec) => {
                    let state =
                        |got: String| Error::State { name: spec.name.clone(), expected: spec.ty.to_string(), got };
                    let tensor = weights.get(&spec.name).ok_or_else(|| state("nothing".to_owned()))?;
                    if tensor.ty() != spec.ty {
                        return Err(state(tensor.ty().to_string()));
                    }
                    unknown.retain(|name| **name != spec.name);
                    self.tensor(&spec.name, tensor);
                }
                NodeKind::Constant(tensor) => self.tensor(&format!("constant_{index}"), tensor),
                NodeKind::Scalar(_) | NodeKind::Op(_) => {}
            }
        }
        match unknown.first() {
            None => Ok(()),
            Some(name) => Err(Error::State {
                name: (*name).clone(),
                expected: "one of the model's".to_owned(),
                got: "one that it does not have".to_owned(),
            }),
        }
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) {
        self.floats(name, tensor.shape().dims(), &tensor.to_f32_vec());
    }
}

/// Extents and strides fit: they are of tensors in memory.
fn to_i64(number: usize) -> i64 {
    number as i64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests;
