use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::nn::{Classifier, LeNet5, Sequential};
use crate::{Device, Plan, Program};

const SHAPE: [usize; 3] = [1, 28, 28];

/// The weights that a model starts with.
fn weights(model: &dyn Model, shape: [usize; 3]) -> StateDict {
    let (mut graph, logits) = eval_graph(model, shape, 1).unwrap();
    graph.output("logits", logits).unwrap();
    Program::compile(&Device::Cpu, vec![Plan::new(&graph).unwrap()], 3).unwrap().model().unwrap()
}

fn export(model: &dyn Model, shape: [usize; 3]) -> Result<ModelProto> {
    let stats = ChannelStats { mean: vec![0.5; shape[0]], std: vec![0.25; shape[0]] };
    let weights = weights(model, shape);
    let metadata = [("classes", "a, b".to_owned())];
    let options = OnnxOptions { model, weights: &weights, normalize: &stats, shape, metadata: &metadata };
    Ok(ModelProto::decode(&onnx(&options)?[..]).unwrap())
}

#[test]
fn a_network_reads_back_as_it_was_written() {
    let model = Classifier::new(LeNet5 { batch_norm: true, dropout: 0.5 }, 10);
    let file = export(&model, SHAPE).unwrap();
    assert_eq!((file.ir_version, file.opset_import[0].version, file.opset_import.len()), (10, 21, 1));
    assert_eq!((file.metadata_props[0].key.as_str(), file.metadata_props[0].value.as_str()), ("classes", "a, b"));
    let graph = file.graph.unwrap();
    let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    let wanted = [
        "Sub",
        "Div",
        "Conv",
        "BatchNormalization",
        "Relu",
        "MaxPool",
        "Conv",
        "Relu",
        "MaxPool",
        "Reshape",
        "Gemm",
        "Relu",
        "Gemm",
        "Relu",
        "Gemm",
        "Identity",
    ];
    assert_eq!(ops, wanted);

    // Straight-line: every input is there before it is used, and nothing is made twice.
    let mut known: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(known.len(), graph.initializer.len());
    assert!(known.insert(INPUT));
    for node in &graph.node {
        assert!(node.input.iter().all(|input| known.contains(input.as_str())), "{node:?}");
        assert!(node.output.iter().all(|output| known.insert(output)), "{node:?}");
    }
    let dims = |info: &ValueInfoProto| -> Vec<(Option<i64>, Option<String>)> {
        let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        assert_eq!(tensor.elem_type, FLOAT);
        let dims = &tensor.shape.as_ref().unwrap().dim;
        dims.iter().map(|dim| (dim.dim_value, dim.dim_param.clone())).collect()
    };
    let (batch, fixed) = ((None, Some("N".to_owned())), |value| (Some(value), None));
    assert_eq!((graph.input[0].name.as_str(), graph.output[0].name.as_str()), (INPUT, OUTPUT));
    assert_eq!(dims(&graph.input[0]), [batch.clone(), fixed(1), fixed(28), fixed(28)]);
    assert_eq!(dims(&graph.output[0]), [batch, fixed(10)]);

    let tensors: BTreeMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for (name, tensor) in weights(&model, SHAPE) {
        let written = tensors[name.as_str()];
        let values: Vec<f32> = written.raw_data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        assert_eq!(values, tensor.to_f32_vec(), "{name}");
        assert_eq!(written.dims, tensor.shape().dims().iter().map(|&dim| to_i64(dim)).collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(tensors["mean"].raw_data, 127.5_f32.to_le_bytes());
    assert_eq!(tensors["std"].raw_data, 63.75_f32.to_le_bytes());
    let shapes = graph.node.iter().filter(|node| node.op_type == "Reshape").map(|node| tensors[node.input[1].as_str()]);
    for shape in shapes {
        let extents: Vec<i64> = shape.raw_data.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect();
        assert_eq!((shape.data_type, extents[0]), (INT64, -1), "the number of images is free");
    }
    let conv = graph.node.iter().find(|node| node.op_type == "Conv").unwrap();
    let group = conv.attribute.iter().find(|attribute| attribute.name == "group").unwrap();
    assert_eq!((group.i, group.r#type()), (Some(1), proto::AttributeType::Int));
    let pool = graph.node.iter().find(|node| node.op_type == "MaxPool").unwrap();
    assert_eq!(pool.attribute[0].ints, [2, 2]);
}

#[test]
fn what_cannot_be_exported_is_named() {
    let with = |build: fn(&mut Graph, Value) -> Result<Value>| {
        let model = move |graph: &mut Graph, images: Value, _: Mode| build(graph, images);
        export(&model, SHAPE).unwrap_err().to_string()
    };
    let error = with(|graph, x| {
        let x = graph.flatten(x, 1)?;
        graph.argmax(x, 1)
    });
    assert!(error.contains("argmax cannot run on an ONNX file"), "{error}");
    let error = with(|graph, x| {
        let pool = crate::ops::MaxPool2d { ceil_mode: true, ..crate::ops::MaxPool2d::new([2, 2]) };
        graph.max_pool2d(x, pool)
    });
    assert!(error.contains("max_pool2d") && error.contains("ceil_mode"), "{error}");
    let error = with(|graph, x| graph.matmul(x, x));
    assert!(error.contains("matmul"), "{error}");
}

#[test]
fn weights_of_another_network_are_refused() {
    let model = Classifier::new(LeNet5::default(), 10);
    let normalize = ChannelStats { mean: vec![0.0], std: vec![1.0] };
    let refuse = |change: fn(&mut StateDict)| {
        let mut weights = weights(&model, SHAPE);
        change(&mut weights);
        let options =
            OnnxOptions { model: &model, weights: &weights, normalize: &normalize, shape: SHAPE, metadata: &[] };
        onnx(&options).unwrap_err().to_string()
    };
    let missing = refuse(|weights| drop(weights.remove("fc1.bias")));
    let other = refuse(|weights| drop(weights.insert("fc1.bias".to_owned(), Tensor::scalar(1.0))));
    let more = refuse(|weights| drop(weights.insert("bn1.bias".to_owned(), Tensor::scalar(1.0))));
    assert!(missing.contains("fc1.bias") && missing.contains("nothing"), "{missing}");
    assert!(other.contains("fc1.bias"), "{other}");
    assert!(more.contains("bn1.bias"), "{more}");
}

#[test]
fn other_layers_have_their_operators() {
    let model =
        Sequential::new().conv2d(2, 3).tanh().max_pool2d(2).flatten().linear(8).sigmoid().linear(4).log_softmax();
    let graph = export(&model, SHAPE).unwrap().graph.unwrap();
    let ops: BTreeSet<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    for op in ["Tanh", "Sigmoid", "LogSoftmax"] {
        assert!(ops.contains(op), "{op} in {ops:?}");
    }
}
