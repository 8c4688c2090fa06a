use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::nn::{Classifier, Layers, LeNet5, Network, Sequential};
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

/// Every input is there before it is used, and nothing is made twice.
fn assert_straight_line(graph: &GraphProto) {
    let mut known: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(known.len(), graph.initializer.len());
    assert!(known.insert(INPUT));
    for node in &graph.node {
        assert!(node.input.iter().all(|input| known.contains(input.as_str())), "{node:?}");
        assert!(node.output.iter().all(|output| known.insert(output)), "{node:?}");
    }
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

    assert_straight_line(&graph);
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

#[test]
fn every_network_has_its_operators() {
    for entry in Network::ENTRIES {
        let network = match entry.name {
            "layers" => toml::from_str::<Layers>(include_str!("../../../examples/my_network.toml")).unwrap().into(),
            name => Network::named(name).unwrap(),
        };
        let graph = export(&Classifier::new(network, 10), [3, 32, 32]).unwrap().graph.unwrap();
        assert_straight_line(&graph);
        let count = |op: &str| graph.node.iter().filter(|node| node.op_type == op).count();
        let wanted: &[(&str, usize)] = match entry.name {
            "lenet5" => &[("Conv", 2), ("MaxPool", 2), ("Gemm", 3)],
            "mlp" => &[("Reshape", 1), ("Gemm", 3), ("Relu", 2)],
            "vgg" => &[("Conv", 6), ("BatchNormalization", 6), ("MaxPool", 3), ("GlobalAveragePool", 1), ("Gemm", 1)],
            "resnet" => &[("Conv", 19), ("Add", 9), ("Slice", 2), ("Pad", 2), ("GlobalAveragePool", 1), ("Gemm", 1)],
            "all_conv" => &[("Conv", 9), ("BatchNormalization", 8), ("GlobalAveragePool", 1), ("Gemm", 0)],
            "layers" => &[("Conv", 4), ("Add", 1), ("GlobalAveragePool", 1)],
            name => panic!("{name}: which operators?"),
        };
        for &(op, times) in wanted {
            assert_eq!(count(op), times, "{}: {op}", entry.name);
        }
    }
}

#[test]
fn shapes_leave_the_number_of_images_free() {
    let with = |build: fn(&mut Graph, Value) -> Result<Value>| {
        let model = move |graph: &mut Graph, images: Value, _: Mode| build(graph, images);
        export(&model, [2, 6, 6])
    };
    let graph = with(|graph, x| {
        let x = graph.avg_pool2d(x, crate::ops::AvgPool2d { padding: [1, 0], ..crate::ops::AvgPool2d::new([3, 2]) })?;
        let x = graph.concat(&[x, x], 1)?;
        let x = graph.permute(x, &[0, 1, 3, 2])?;
        let x = graph.adaptive_avg_pool2d(x, [1, 2])?;
        graph.amax(x, &[3], false)
    });
    let graph = graph.unwrap().graph.unwrap();
    assert_straight_line(&graph);
    let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    let wanted = ["Sub", "Div", "AveragePool", "Concat", "Transpose", "AveragePool", "ReduceMax", "Identity"];
    assert_eq!(ops, wanted);
    let attribute = |node: usize, name: &str| {
        let found = graph.node[node].attribute.iter().find(|attribute| attribute.name == name);
        found.map(|attribute| (attribute.ints.clone(), attribute.i)).unwrap()
    };
    assert_eq!(attribute(2, "pads").0, [1, 0, 1, 0]);
    assert_eq!(attribute(5, "kernel_shape").0, [3, 1]);

    // Half of the images cannot be said with a free number of them.
    let error = with(|graph, x| {
        let batch = graph.shape(x).dims()[0];
        let whole = |stop| crate::ops::SliceRange { start: 0, stop, step: 1 };
        graph.slice(x, &[whole(batch.div_ceil(2)), whole(2), whole(6), whole(6)])
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("slice") && error.contains("number of images"), "{error}");
}
