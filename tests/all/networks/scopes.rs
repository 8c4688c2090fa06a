//! Layers compose: names, dropout and weights of one do not meet those of another, unless asked to.

use wgrad::nn::{BatchNorm2d, Conv2d, Dropout, Init, Linear, Mode, Model, Sequential};
use wgrad::{DType, Device, Error, Graph, Plan, Program, Result, StepTable, Tensor, TensorType};

fn names(graph: &Graph) -> Vec<String> {
    graph.parameters().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn scopes_nest_in_the_names_of_states() -> Result<()> {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([2, 3, 5, 5]))?;
    let y = graph.scope("layer1.0", |graph| {
        let y = Conv2d::new("conv1", 4, 3).bias(false).forward(graph, x)?;
        let y = BatchNorm2d::new("bn1").forward(graph, y, Mode::Eval)?;
        graph.scope("down", |graph| Conv2d::new("0", 2, 1).groups(2).forward(graph, y))
    })?;
    let wanted = [
        "layer1.0.conv1.weight",
        "layer1.0.bn1.weight",
        "layer1.0.bn1.bias",
        "layer1.0.down.0.weight",
        "layer1.0.down.0.bias",
    ];
    assert_eq!(names(&graph), wanted);
    assert_eq!(graph.shape(y).dims(), [2, 2, 3, 3]);
    // Scalars are given by the host by name, and labels are for reading only.
    let step = graph.scope("a", |graph| graph.scalar("step", DType::U32))?;
    assert_eq!(graph.scalar("step", DType::U32)?, step);
    graph.label("optimizer", |graph| graph.parameter("w", [1], Init::Zeros))?;
    assert_eq!(names(&graph).last().unwrap(), "w");
    Ok(())
}

#[test]
fn two_layers_of_one_name_share_weights_only_where_asked() -> Result<()> {
    let build = |share: bool| -> Result<Graph> {
        let mut graph = Graph::new("g");
        let x = graph.input("x", TensorType::f32([2, 3]))?;
        let layer = Linear::new("fc", 3);
        let y = layer.forward(&mut graph, x)?;
        if share {
            graph.share(|graph| layer.forward(graph, y))?
        } else {
            layer.forward(&mut graph, y)?
        };
        Ok(graph)
    };
    assert_eq!(names(&build(true)?), ["fc.weight", "fc.bias"]);
    let error = build(false).unwrap_err();
    assert!(matches!(&error, Error::NameClash { name, .. } if name == "fc.weight"), "{error}");
    assert!(error.to_string().contains("share"), "{error}");

    // Two models in one graph clash as well, and live in scopes.
    let model = Sequential::new().linear(3);
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([2, 3]))?;
    let y = graph.scope("first", |graph| model.forward(graph, x, Mode::Eval))?;
    graph.scope("second", |graph| model.forward(graph, y, Mode::Eval))?;
    assert_eq!(names(&graph), ["first.0.weight", "first.0.bias", "second.0.weight", "second.0.bias"]);
    Ok(())
}

#[test]
fn composed_models_draw_masks_of_their_own_and_the_same_in_every_graph() -> Result<()> {
    let masks = || -> Result<Vec<Vec<f32>>> {
        let mut graph = Graph::new("g");
        let x = graph.input("x", TensorType::f32([64]))?;
        let step = graph.scalar("step", DType::U32)?;
        let mode = Mode::Train { seed: 5, step };
        let model = Sequential::new().dropout(0.5);
        let values = [
            graph.scope("a", |graph| model.logits(graph, x, mode))?,
            graph.scope("b", |graph| model.logits(graph, x, mode))?,
            Dropout::new(0.5).forward(&mut graph, x, mode)?,
        ];
        for (index, value) in values.into_iter().enumerate() {
            graph.output(&index.to_string(), value)?;
        }
        let mut program = Program::compile(&Device::Cpu, vec![Plan::new(&graph)?], 0)?;
        program.write("x", &Tensor::f32([64], vec![1.0; 64])?)?;
        program.run("g", &StepTable::new(1).constant("step", 2.0))?;
        (0..3).map(|index| Ok(program.output("g", &index.to_string())?.to_f32_vec())).collect()
    };
    let first = masks()?;
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    assert_eq!(first, masks()?, "a graph built alike drops alike");
    Ok(())
}

#[test]
fn layers_by_hand_say_what_does_not_fit() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([2, 3, 5, 5])).unwrap();
    let flat = graph.input("flat", TensorType::f32([2, 3])).unwrap();
    let errors = [
        (Conv2d::new("a", 4, 3).forward(&mut graph, flat), "conv2d: expected an input (N, C, H, W), got (2, 3)"),
        (Conv2d::new("b", 4, 3).groups(2).forward(&mut graph, x), "conv2d: expected groups that divide the input's"),
        (Conv2d::new("c", 0, 3).forward(&mut graph, x), "conv2d: expected out_channels of at least 1"),
        (Conv2d::new("d", 4, 9).forward(&mut graph, x), "conv2d: expected a kernel"),
        (Linear::new("e", 0).forward(&mut graph, flat), "linear: expected out_features of at least 1"),
        (BatchNorm2d::new("f").forward(&mut graph, flat, Mode::Eval), "batch_norm2d: expected an input (N, C, H, W)"),
    ];
    for (result, wanted) in errors {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{wanted}: {error}");
    }
}
