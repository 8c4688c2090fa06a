//! Whole training steps through the fused kernels of GPUs: op by op against f64, and against the same steps unfused.

use wgrad::exec::verify::{verify, verify_kinds};
use wgrad::nn::{BatchNorm2d, Conv2d, Linear, Mode};
use wgrad::ops::kernel::GpuTraits;
use wgrad::ops::{Activation, CrossEntropy, MaxPool2d, SliceRange};
use wgrad::optim::{Optimizer, Update, UpdateOptions};
use wgrad::{DType, Device, Graph, Plan, Program, StateDict, StepTable, Tensor, TensorType, Value};

use crate::cases::{Fill, input};
use crate::harness::{gpu, portable};

/// A training step, and which fused ops a GPU's plan of it has.
pub struct Step {
    pub name: &'static str,
    pub graph: Graph,
    pub states: StateDict,
    update: Update,
    kernels: &'static [&'static str],
    /// Whether a row has so many inputs that several threads of mlp_chain share its sum.
    splits_rows: bool,
}

impl Step {
    /// Scalars of `count` steps.
    pub fn table(&self, count: usize) -> StepTable {
        self.update.steps(count, 0.1).constant("row", 1.0)
    }
}

struct Recipe {
    name: &'static str,
    images: [usize; 4],
    optimizer: Optimizer,
    attributes: CrossEntropy,
    class_weights: bool,
    kernels: &'static [&'static str],
    splits_rows: bool,
}

const CLASSES: usize = 5;

fn step(recipe: Recipe, network: impl Fn(&mut Graph, Value) -> wgrad::Result<Value>) -> Step {
    let Recipe { name, images, optimizer, attributes, class_weights, kernels, splits_rows } = recipe;
    let mut graph = Graph::new("train");
    let update = Update::new(optimizer, UpdateOptions::default()).unwrap();
    let mut build = || -> wgrad::Result<()> {
        let x = graph.input("x", TensorType::f32(images))?;
        let labels = graph.input("labels", TensorType::u32([images[0]]))?;
        let logits = network(&mut graph, x)?;
        let weights = match class_weights {
            true => Some(graph.constant(Tensor::f32([CLASSES], vec![0.5, 1.0, 2.0, 1.5, 0.25])?)),
            false => None,
        };
        let loss = graph.cross_entropy(logits, labels, weights, attributes)?;
        let loss = update.minimize(&mut graph, loss)?;
        let row = graph.scalar("row", DType::U32)?;
        graph.metrics("table", 3, row, loss, logits, labels)
    };
    build().unwrap();
    let mut states = StateDict::new();
    states.insert("x".to_owned(), input(images, Fill::Uniform).tensor(1));
    // One class more than there is: such a row does not count.
    states.insert("labels".to_owned(), input([images[0]], Fill::Index(CLASSES as u32 + 1)).tensor(2));
    Step { name, graph, states, update, kernels, splits_rows }
}

fn conv(graph: &mut Graph, x: Value, layer: &Conv2d, activation: Activation) -> wgrad::Result<Value> {
    let y = layer.forward(graph, x)?;
    let y = graph.activation(y, activation)?;
    graph.max_pool2d(y, MaxPool2d::new([2, 2]))
}

fn linear(graph: &mut Graph, x: Value, layer: &Linear, activation: Activation) -> wgrad::Result<Value> {
    let y = layer.forward(graph, x)?;
    graph.activation(y, activation)
}

/// Steps of all forms that the kernels take.
pub fn steps() -> Vec<Step> {
    use Activation::{None, Relu, Sigmoid, Tanh};
    let momentum = || Optimizer::sgd(0.9);
    let plain = CrossEntropy::default();
    let smooth = CrossEntropy { label_smoothing: 0.1, ignore_index: Some(3), ..plain };
    let recipe = |name, images, kernels| Recipe {
        name,
        images,
        optimizer: momentum(),
        attributes: plain,
        class_weights: false,
        kernels,
        splits_rows: false,
    };
    let batch_norm: &[&str] = &[
        "conv2d_moments",
        "conv2d_grad_input_sums",
        "batch_norm2d_activation",
        "batch_norm2d_activation_backward",
        "loss_metrics",
    ];
    let chain: &[&str] = &["mlp_chain", "layer_gradients", "loss_metrics"];
    let all: &[&str] = &[
        "conv2d_pool",
        "mlp_chain",
        "layer_gradients",
        "conv2d_pool_grad_input",
        "conv2d_pool_grad_weight",
        "loss_metrics",
    ];
    vec![
        step(recipe("as LeNet", [9, 1, 16, 16], all), |graph, x| {
            let x = conv(graph, x, &Conv2d::new("c1", 3, 5), Relu)?;
            let x = conv(graph, x, &Conv2d::new("c2", 4, 3).padding(1), Relu)?;
            let x = graph.flatten(x, 1)?;
            let x = linear(graph, x, &Linear::new("f1", 11), Relu)?;
            let x = linear(graph, x, &Linear::new("f2", 7), Relu)?;
            Linear::new("f3", CLASSES).forward(graph, x)
        }),
        // So many images that threads have two channels each, and rows that labels are read for in rounds.
        step(recipe("many images", [530, 1, 10, 10], all), |graph, x| {
            let x = conv(graph, x, &Conv2d::new("c1", 3, 3), Relu)?;
            let x = conv(graph, x, &Conv2d::new("c2", 4, 3).padding(1), Relu)?;
            let x = graph.flatten(x, 1)?;
            Linear::new("f", CLASSES).forward(graph, x)
        }),
        // Activations that saturate.
        step(recipe("saturating", [5, 2, 12, 12], all), |graph, x| {
            let x = conv(graph, x, &Conv2d::new("c1", 6, 3), Tanh)?;
            let x = conv(graph, x, &Conv2d::new("c2", 4, 2), Sigmoid)?;
            let x = graph.flatten(x, 1)?;
            Linear::new("f", CLASSES).forward(graph, x)
        }),
        // An odd row and column that no window has, no bias, a kernel that is no square, several chunks of channels.
        step(
            Recipe {
                optimizer: Optimizer::named("adam").unwrap(),
                attributes: smooth,
                class_weights: true,
                ..recipe("odd", [3, 70, 9, 13], all)
            },
            |graph, x| {
                let wide = Conv2d { kernel_size: [2, 4], ..Conv2d::new("c1", 10, 1) };
                let x = conv(graph, x, &wide.bias(false), Relu)?;
                let x = conv(graph, x, &Conv2d::new("c2", 9, 1), Relu)?;
                let x = graph.flatten(x, 1)?;
                let x = linear(graph, x, &Linear::new("f1", 6).bias(false), Tanh)?;
                Linear::new("f2", CLASSES).forward(graph, x)
            },
        ),
        // More layers than one dispatch takes, more rows than one step of it, an activation that is none.
        step(Recipe { splits_rows: true, ..recipe("deep", [70, 1, 3, 3], chain) }, |graph, x| {
            let mut x = graph.flatten(x, 1)?;
            for (index, activation) in [Relu, Sigmoid, None, Tanh].into_iter().enumerate() {
                x = linear(graph, x, &Linear::new(&format!("f{index}"), 34 - 8 * index), activation)?;
            }
            Linear::new("last", CLASSES).bias(false).forward(graph, x)
        }),
        // Rows that are whole vec4s, more outputs and inputs than one step takes.
        step(Recipe { splits_rows: true, ..recipe("wide layers", [3, 2, 12, 12], chain) }, |graph, x| {
            let x = graph.square(x)?;
            let x = graph.flatten(x, 1)?;
            let x = linear(graph, x, &Linear::new("f1", 132), Relu)?;
            let x = linear(graph, x, &Linear::new("f2", 40), Tanh)?;
            Linear::new("f3", CLASSES).forward(graph, x)
        }),
        // A layer whose gradient nobody wants below, after something that is no layer.
        step(recipe("one layer", [6, 2, 4, 4], chain), |graph, x| {
            let x = graph.square(x)?;
            let x = graph.flatten(x, 1)?;
            Linear::new("f", CLASSES).forward(graph, x)
        }),
        // Wide strips for software adapters, and several tiles for others.
        step(recipe("wide", [2, 2, 20, 36], all), |graph, x| {
            let x = conv(graph, x, &Conv2d::new("c1", 19, 5).padding(2), Relu)?;
            let x = conv(graph, x, &Conv2d::new("c2", 5, 3), None)?;
            let x = graph.flatten(x, 1)?;
            Linear::new("f", CLASSES).forward(graph, x)
        }),
        // Convolutions without pooling whose gradients the optimizer adds up: with a bias and without, with a stride, a
        // dilation, groups, a kernel that is no square; and one whose sums are no whole vec4s.
        step(recipe("slices", [5, 3, 12, 16], &["conv2d_grad_slices", "conv2d_grad_weight"]), |graph, x| {
            let x = Conv2d::new("c1", 8, 3).padding(1).forward(graph, x)?;
            let strided = Conv2d { stride: [2, 1], kernel_size: [2, 4], ..Conv2d::new("c2", 12, 1).padding(1) };
            let x = strided.bias(false).forward(graph, x)?;
            let grouped = Conv2d { groups: 2, dilation: [1, 2], ..Conv2d::new("c3", 8, 3) };
            let x = grouped.forward(graph, x)?;
            let x = Conv2d::new("c4", 7, 1).forward(graph, x)?;
            let x = graph.global_avg_pool2d(x)?;
            let x = graph.flatten(x, 1)?;
            Linear::new("f", CLASSES).forward(graph, x)
        }),
        // Gradients that meet where a block begins, in rows that end within a strip.
        step(recipe("residual", [3, 3, 9, 10], &["conv2d_grad_input_add"]), residuals),
        step(recipe("residual, rows of vec4s", [2, 3, 8, 16], &["conv2d_grad_input_add"]), residuals),
        // Each activation; the second normalization's gradient is that of a block with a residual, on both of whose sides
        // there is one.
        step(recipe("batch norm", [3, 2, 7, 9], batch_norm), |graph, x| {
            let x = normalized(graph, x, "1", 5)?;
            let x = graph.tanh(x)?;
            let inner = normalized(graph, x, "2", 5)?;
            let inner = graph.relu(inner)?;
            let inner = normalized(graph, inner, "3", 5)?;
            let shortcut = normalized(graph, x, "4", 5)?;
            let x = graph.add(inner, shortcut)?;
            let x = graph.relu(x)?;
            let inner = normalized(graph, x, "5", 5)?;
            let x = graph.add(x, inner)?;
            let x = graph.sigmoid(x)?;
            let x = graph.global_avg_pool2d(x)?;
            let x = graph.flatten(x, 1)?;
            Linear::new("f", CLASSES).forward(graph, x)
        }),
    ]
}

/// Residual blocks: with a plain convolution, with groups, with a dilation; and one of half the size and more channels.
fn residuals(graph: &mut Graph, x: Value) -> wgrad::Result<Value> {
    let mut x = Conv2d::new("c0", 6, 3).padding(1).forward(graph, x)?;
    let grouped = Conv2d { groups: 2, ..Conv2d::new("c2", 6, 3).padding(1) };
    let dilated = Conv2d { dilation: [2, 2], ..Conv2d::new("c3", 6, 3).padding(2) };
    for layer in [Conv2d::new("c1", 6, 3).padding(1), grouped, dilated] {
        let inner = layer.forward(graph, x)?;
        x = graph.add(inner, x)?;
    }
    let halved = Conv2d { stride: [2, 2], ..Conv2d::new("c4", 10, 3).padding(1) };
    let inner = halved.forward(graph, x)?;
    let dims = graph.shape(x).dims().to_vec();
    let every = |stop: usize, step: usize| SliceRange { start: 0, stop, step };
    let shortcut = graph.slice(x, &[every(dims[0], 1), every(dims[1], 1), every(dims[2], 2), every(dims[3], 2)])?;
    let shortcut = graph.pad(shortcut, &[(0, 0), (2, 2), (0, 0), (0, 0)])?;
    let x = graph.add(inner, shortcut)?;
    // A gradient that differs from pixel to pixel.
    let x = graph.mul(x, x)?;
    let x = graph.global_avg_pool2d(x)?;
    let x = graph.flatten(x, 1)?;
    Linear::new("f", CLASSES).forward(graph, x)
}

fn normalized(graph: &mut Graph, x: Value, name: &str, channels: usize) -> wgrad::Result<Value> {
    let x = Conv2d::new(&format!("c{name}"), channels, 3).padding(1).bias(false).forward(graph, x)?;
    let step = graph.scalar("step", DType::U32)?;
    BatchNorm2d::new(&format!("n{name}")).forward(graph, x, Mode::Train { seed: 0, step })
}

/// A small step with each optimizer, whose update adds up gradients that come in slices.
pub fn optimizer_steps() -> Vec<Step> {
    let recipe = |name: &'static str| Recipe {
        name,
        images: [3, 1, 6, 6],
        optimizer: Optimizer::named(name).unwrap(),
        attributes: CrossEntropy::default(),
        class_weights: false,
        kernels: &["conv2d_pool_grad_weight"],
        splits_rows: false,
    };
    let network = |graph: &mut Graph, x: Value| {
        let x = conv(graph, x, &Conv2d::new("c", 2, 3), Activation::Relu)?;
        let x = graph.flatten(x, 1)?;
        Linear::new("f", CLASSES).forward(graph, x)
    };
    Optimizer::ENTRIES.iter().map(|entry| step(recipe(entry.name), network)).collect()
}

/// A real GPU's plan has the kernels that a step is there for.
#[test]
fn steps_have_the_fused_ops_that_they_are_there_for() {
    for step in steps().into_iter().chain(optimizer_steps()) {
        let plan = Plan::new(&step.graph).unwrap().for_gpu(GpuTraits::GPU).unwrap();
        let text = plan.to_string();
        for kernel in step.kernels {
            assert!(text.contains(kernel), "{}: no {kernel} in\n{text}", step.name);
        }
        let mut ops = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        assert!(!ops.any(|op| op.ends_with("unary_backward")), "{}: {text}", step.name);
    }
}

#[test]
fn fused_ops_agree_with_the_reference() {
    let [like_gpu, like_software] = portable();
    for step in steps() {
        let plan = Plan::new(&step.graph).unwrap();
        for device in [gpu(), like_gpu, like_software] {
            let report = verify(device, &plan, &step.states, &step.table(1), 5).unwrap();
            assert!(report.difference.is_none(), "{} on {device}: {}", step.name, report.difference.unwrap());
            assert!(report.ops.len() > 2);
        }
    }
}

/// What is not a number, or infinite, comes out where it does in the reference.
#[test]
fn fused_ops_pass_on_what_is_not_finite() {
    let [like_gpu, like_software] = portable();
    for step in steps() {
        let plan = Plan::new(&step.graph).unwrap();
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut states = step.states.clone();
            let mut values = states["x"].to_f32_vec();
            values[7] = special;
            states.insert("x".to_owned(), Tensor::f32(states["x"].shape(), values).unwrap());
            for device in [gpu(), like_gpu, like_software] {
                let report = verify_kinds(device, &plan, &states, &step.table(1), 5).unwrap();
                assert!(report.difference.is_none(), "{} on {device}: {}", step.name, report.difference.unwrap());
            }
        }
    }
}

fn train(device: &Device, plan: Plan, step: &Step) -> StateDict {
    let mut program = Program::compile(device, vec![plan], 5).unwrap();
    for (name, tensor) in &step.states {
        program.write(name, tensor).unwrap();
    }
    program.run("train", &step.table(3)).unwrap();
    let names: Vec<String> = program.plans()[0].states().iter().map(|spec| spec.name.clone()).collect();
    names.into_iter().map(|name| (name.clone(), program.read(&name).unwrap())).collect()
}

#[test]
fn fused_steps_are_the_unfused_ones() {
    let [like_gpu, like_software] = portable();
    for step in steps() {
        let [fused, plain] = [Plan::new(&step.graph).unwrap(), Plan::unfused(&step.graph).unwrap()];
        for device in [gpu(), like_gpu, like_software] {
            let first = train(device, fused.clone(), &step);
            assert_eq!(first, train(device, fused.clone(), &step), "{} on {device}: not the same twice", step.name);
            let want = train(device, plain.clone(), &step);
            // But for these every sum has the order of the unfused ops.
            let adds_otherwise = ["conv2d_pool_grad_weight", "conv2d_moments"];
            let is_exact = !step.splits_rows && !step.kernels.iter().any(|kernel| adds_otherwise.contains(kernel));
            for (name, want) in &want {
                let (got, want) = (first[name].to_f64_vec(), want.to_f64_vec());
                let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
                // Sums of some hundred terms in another order, over three steps.
                let tolerance =
                    if is_exact && device.to_string() == like_gpu.to_string() { 0.0 } else { 2e-5 * largest };
                let is_close = got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= tolerance);
                assert!(is_close, "{} on {device}, {name}:\n{got:?}\n{want:?}", step.name);
            }
            let row = &want["table"].to_f64_vec()[4..8];
            assert!(row[0] > 0.0 && row[3] > 0.0, "{}: {row:?}", step.name);
        }
    }
}
