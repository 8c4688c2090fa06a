//! The networks of the registry, and those of files of layers: held to PyTorch's, to finite differences, and to
//! themselves on other devices and in other graphs.

mod agree;
mod files;
mod golden;
mod scopes;

use wgrad::graph::Gradients;
use wgrad::nn::{AllConv, Classifier, Layers, LeNet5, Mlp, Mode, Model, Network, ResNet, Shortcut, Vgg};
use wgrad::ops::CrossEntropy;
use wgrad::{DType, Device, Graph, Plan, Program, Result, Tensor, TensorType, Value};

pub const NUM_CLASSES: usize = 5;
pub const BATCH: usize = 3;

/// A small one of each, which fits images of 1 to 3 channels from 8×8 on but for LeNet-5, with the shape it is tried on.
pub fn small() -> Vec<(Network, [usize; 3])> {
    let layers = "layers = [{ kind = \"conv2d\", out_channels = 4, kernel_size = 3, stride = 2 }, \
        { kind = \"residual\", layers = [{ kind = \"batch_norm2d\" }, { kind = \"silu\" }] }, \
        { kind = \"avg_pool2d\", kernel_size = 2 }, { kind = \"flatten\" }, { kind = \"dropout\", p = 0.25 }, { kind = \"linear\" }]";
    vec![
        (LeNet5 { batch_norm: true, dropout: 0.25 }.into(), [1, 16, 16]),
        (Mlp { hidden: vec![12, 7], dropout: 0.25, ..Mlp::default() }.into(), [2, 5, 4]),
        (Vgg { widths: vec![4, 6], convolutions: vec![1, 2], dropout: 0.25, ..Vgg::default() }.into(), [3, 9, 8]),
        (ResNet { depth: 8, width: 4, shortcut: Shortcut::A }.into(), [3, 9, 8]),
        (ResNet { depth: 8, width: 4, shortcut: Shortcut::B }.into(), [1, 8, 8]),
        (AllConv { width: 4, dropout: 0.25, ..AllConv::default() }.into(), [3, 9, 8]),
        (toml::from_str::<Layers>(layers).unwrap().into(), [3, 9, 8]),
    ]
}

/// Numbers from −1/2 to 1/2 that f32 holds; `tests/golden/network_cases.py` has the same.
pub fn fill(index: u64, num_elems: usize) -> Vec<f64> {
    let number = |place: u64| {
        let mixed = (place * 2_654_435_761 + index * 40_503 + 12_345) % (1 << 32);
        let mixed = (mixed ^ (mixed >> 15)) * 2_246_822_519 % (1 << 32);
        (mixed >> 12) as f64 / f64::from(1 << 20) - 0.5
    };
    (0..num_elems as u64).map(number).collect()
}

pub fn images([channels, height, width]: [usize; 3]) -> Tensor {
    let shape = [BATCH, channels, height, width];
    Tensor::f64(shape, fill(0, shape.iter().product())).unwrap()
}

pub fn labels() -> Tensor {
    Tensor::u32([BATCH], (0..BATCH as u32).map(|image| image % NUM_CLASSES as u32).collect()).unwrap()
}

/// A training graph up to the loss, which is its output.
pub fn training(model: &dyn Model, [channels, height, width]: [usize; 3]) -> Result<(Graph, Value)> {
    let mut graph = Graph::new("train");
    let images = graph.input("images", TensorType::f32([BATCH, channels, height, width]))?;
    let labels = graph.input("labels", TensorType::u32([BATCH]))?;
    let step = graph.scalar("step", DType::U32)?;
    let logits = model.logits(&mut graph, images, Mode::Train { seed: 11, step })?;
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    graph.output("loss", loss)?;
    Ok((graph, loss))
}

/// An evaluation graph up to the logits, which are its output.
pub fn evaluation(model: &dyn Model, [channels, height, width]: [usize; 3]) -> Result<Graph> {
    let mut graph = Graph::new("eval");
    let images = graph.input("images", TensorType::f32([BATCH, channels, height, width]))?;
    let logits = model.logits(&mut graph, images, Mode::Eval)?;
    graph.output("logits", logits)?;
    Ok(graph)
}

/// Makes the gradient of every parameter an output, `grad.<name>`.
pub fn output_gradients(graph: &mut Graph, gradients: &Gradients) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, value) in graph.parameters() {
        let gradient = gradients.get(value).expect("every parameter of a network has a gradient");
        graph.output(&format!("grad.{name}"), gradient)?;
        names.push(name);
    }
    Ok(names)
}

pub fn classifier(network: &Network) -> Classifier {
    Classifier::new(network.clone(), NUM_CLASSES)
}

pub fn compile(device: &Device, graph: &Graph) -> Result<Program> {
    Program::compile(device, vec![Plan::new(graph)?], 7)
}

#[test]
fn every_network_of_the_registry_is_tried_here() {
    let tried: Vec<&str> = small().iter().map(|(network, _)| network.name()).collect();
    for entry in Network::ENTRIES {
        assert!(tried.contains(&entry.name), "{} is missing in small()", entry.name);
    }
}

#[test]
fn the_table_has_parameters_and_operations_of_each() {
    let table = wgrad::nn::networks::table([3, 32, 32], 10);
    let found: Vec<(&str, usize)> = table.iter().map(|row| (row.name, row.num_parameters)).collect();
    let mlp = 3072 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10;
    assert_eq!(found, [("lenet5", 62_006), ("mlp", mlp), ("vgg", 289_194), ("resnet", 269_722), ("all_conv", 154_314)]);
    // He et al. count 41 million multiply-adds or so for ResNet-20; one of ours is two operations.
    let resnet = &table[3];
    assert!((80_000_000..84_000_000).contains(&resnet.flops), "{}", resnet.flops);
    assert_eq!(table[1].flops, 2 * (3072 * 128 + 128 * 64 + 64 * 10) as u64 + 128 + 64, "products and ReLUs");
    let of_tiny: Vec<&str> = wgrad::nn::networks::table([1, 4, 4], 10).iter().map(|row| row.name).collect();
    // A batch of one image of 1×1 has no variance that ResNet's last batch norms could divide by.
    assert_eq!(of_tiny, ["mlp"], "those that fit");
}

#[test]
fn settings_out_of_range_are_named() {
    let mlp = Mlp::default;
    let vgg = Vgg::default;
    let cases: [(Network, &str); 13] = [
        (LeNet5 { dropout: 1.0, ..LeNet5::default() }.into(), "network.dropout: expected a number from 0 to below 1"),
        (Mlp { hidden: vec![], ..mlp() }.into(), "network.hidden: expected at least one width, got none"),
        (Mlp { hidden: vec![3, 0], ..mlp() }.into(), "network.hidden: expected widths of at least 1"),
        (Mlp { dropout: f64::NAN, ..mlp() }.into(), "network.dropout"),
        (Vgg { widths: vec![4], ..vgg() }.into(), "network.convolutions: expected a number for each of the 1 stages"),
        (Vgg { convolutions: vec![1, 1, 0], ..vgg() }.into(), "network.convolutions"),
        (ResNet { depth: 18, ..ResNet::default() }.into(), "network.depth: expected 6n + 2"),
        // What would take minutes to plan, and hours to run.
        (
            ResNet { depth: 60_002, ..ResNet::default() }.into(),
            "network.depth: expected 6n + 2, such as 8, 14, 20 or 32, and at most 2000",
        ),
        (
            Vgg { widths: vec![8; 2], convolutions: vec![100_000, 1], ..Vgg::default() }.into(),
            "network.convolutions: expected at most 2000 in all stages, got 100001",
        ),
        (
            Vgg { widths: vec![8; 2], convolutions: vec![usize::MAX; 2], ..Vgg::default() }.into(),
            "network.convolutions: expected at most 2000",
        ),
        (
            Mlp { hidden: vec![8; 2001], ..Mlp::default() }.into(),
            "network.hidden: expected at most 2000 widths, got 2001",
        ),
        (ResNet { width: 0, ..ResNet::default() }.into(), "network.width: expected at least 1"),
        (Layers::default().into(), "layers: expected at least one layer"),
    ];
    for (network, wanted) in cases {
        let error = network.validate().unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(wanted), "{wanted}: {error}");
    }
    for (network, _) in small() {
        network.validate().unwrap();
    }
}
