//! The side of wgrad in the comparison with PyTorch on the CPU that `benches/peers/run` makes; see `turns`.
#![allow(missing_docs, reason = "a program of one file")]

#[path = "../steps.rs"]
mod steps;
mod turns;

use std::time::Duration;

use turns::Work;
use wgrad::data::{self, Dataset, FashionMnist, Normalize};
use wgrad::graph::Init;
use wgrad::nn::{Classifier, LeNet5, Mode, Model, Network, ResNet, Vgg};
use wgrad::ops::{BatchNorm2d, BatchNormTensors, Conv2d, MaxPool2d};
use wgrad::optim::Optimizer;
use wgrad::train::{Session, SessionOptions};
use wgrad::{Device, Graph, Plan, Program, Result, StepTable, TensorType, Value};

/// Images that training goes over.
const NUM_IMAGES: usize = 8192;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    println!("{}", Device::Cpu);
    turns::take(Duration::from_millis(2), work)
}

fn work(line: &str) -> std::result::Result<Work, Box<dyn std::error::Error>> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let sizes: Vec<usize> = words.map(str::parse).collect::<std::result::Result<_, _>>()?;
    let work = match (name, sizes.as_slice()) {
        ("train", &[batch]) => training(LeNet5::default().into(), fashion()?, batch)?,
        ("train_regularized", &[batch]) => {
            training(LeNet5 { batch_norm: true, dropout: 0.25 }.into(), fashion()?, batch)?
        }
        ("train_cifar", &[batch]) => training(LeNet5::default().into(), noise()?, batch)?,
        ("train_vgg", &[batch]) => training(Vgg::default().into(), noise()?, batch)?,
        ("train_resnet", &[batch]) => training(ResNet::default().into(), noise()?, batch)?,
        ("infer", &[batch]) => program(|graph| {
            let images = input(graph, "images", &[batch, 1, 28, 28])?;
            Classifier::new(LeNet5::default(), 10).logits(graph, images, Mode::Eval)
        })?,
        ("matmul", &[n]) => program(|graph| {
            let (a, b) = (input(graph, "a", &[n, n])?, input(graph, "b", &[n, n])?);
            graph.matmul(a, b)
        })?,
        ("conv", &[batch, from, to, extent, kernel, padding]) => program(|graph| {
            let x = state(graph, "x", &[batch, from, extent, extent])?;
            let weight = state(graph, "weight", &[to, from, kernel, kernel])?;
            let bias = state(graph, "bias", &[to])?;
            let conv = Conv2d { padding: [padding; 2], ..Conv2d::default() };
            let y = graph.conv2d(x, weight, Some(bias), conv)?;
            backward(graph, y, &[x, weight, bias])
        })?,
        ("softmax", &[rows, columns]) => program(|graph| {
            let x = input(graph, "x", &[rows, columns])?;
            graph.softmax(x, 1)
        })?,
        ("batch_norm", &[batch, channels, extent]) => program(|graph| {
            let x = state(graph, "x", &[batch, channels, extent, extent])?;
            let mut channel = |name: &str| state(graph, name, &[channels]);
            let (weight, bias) = (channel("weight")?, channel("bias")?);
            let (running_mean, running_var) = (channel("running_mean")?, channel("running_var")?);
            let tensors = BatchNormTensors { weight, bias, running_mean, running_var, num_batches_tracked: None };
            let y = graph.batch_norm2d(x, tensors, BatchNorm2d::default())?;
            backward(graph, y, &[x, weight, bias])
        })?,
        ("max_pool", &[batch, channels, extent]) => program(|graph| {
            let x = state(graph, "x", &[batch, channels, extent, extent])?;
            let y = graph.max_pool2d(x, MaxPool2d::new([2, 2]))?;
            backward(graph, y, &[x])
        })?,
        _ => return Err(format!("no such work: {line}").into()),
    };
    Ok(work)
}

/// An operand that has no gradient.
fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> Result<Value> {
    let ty = TensorType::f32(dims);
    let kind = wgrad::graph::StateKind::Input;
    graph.state(wgrad::graph::StateSpec { name: name.to_owned(), ty, kind, init: Init::Uniform { bound: 1.0 } })
}

/// An operand with a gradient.
fn state(graph: &mut Graph, name: &str, dims: &[usize]) -> Result<Value> {
    graph.parameter(name, dims, Init::Uniform { bound: 1.0 })
}

/// The gradients of some operands under a given gradient of `y`, as outputs; gives `y`.
fn backward(graph: &mut Graph, y: Value, operands: &[Value]) -> Result<Value> {
    let dims = graph.shape(y).dims().to_vec();
    let grad = input(graph, "grad", &dims)?;
    let grads = graph.backward_from(y, grad)?;
    for (index, &operand) in operands.iter().enumerate() {
        if let Some(grad) = grads.get(operand) {
            graph.output(&format!("grad {index}"), grad)?;
        }
    }
    Ok(y)
}

fn program(build: impl FnOnce(&mut Graph) -> Result<Value>) -> Result<Work> {
    let mut graph = Graph::new("work");
    let y = build(&mut graph)?;
    graph.output("y", y)?;
    let mut program = Program::compile(&Device::Cpu, vec![Plan::new(&graph)?], 0)?;
    Ok(Box::new(move |runs| program.run("work", &StepTable::new(runs))))
}

fn fashion() -> Result<Dataset> {
    let mut train = data::load(&FashionMnist {}.into(), None)?.train;
    train.limit(NUM_IMAGES);
    Ok(train)
}

/// Images of CIFAR-10's shape, of random pixels and labels.
fn noise() -> Result<Dataset> {
    let shape = [3, 32, 32];
    let mut state = 1u64;
    // Knuth's linear congruential generator; its upper bits will do.
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let pixels = (0..NUM_IMAGES * shape.iter().product::<usize>()).map(|_| next()).collect();
    let labels = (0..NUM_IMAGES).map(|_| u16::from(next()) % 10).collect();
    Dataset::from_arrays(pixels, labels, ('a'..='j').map(String::from), shape)
}

/// A training step by SGD with momentum, gather and normalisation included.
fn training(network: Network, train: Dataset, batch_size: usize) -> Result<Work> {
    let mut test = train.clone();
    test.limit(batch_size);
    let options = SessionOptions {
        model: &Classifier::new(network, 10),
        train: &train,
        validation: None,
        test: &test,
        batch_size,
        eval_batch_size: batch_size,
        normalize: Normalize::Dataset.stats(&train)?,
        optimizer: Optimizer::sgd(0.9),
        update: wgrad::optim::UpdateOptions::default(),
        label_smoothing: 0.0,
        shuffle: true,
        seed: 0,
        augment: None,
        diagnostics: None,
    };
    let mut session = Session::new(&Device::Cpu, &options)?;
    let batches = NUM_IMAGES / batch_size;
    let mut first = 0;
    Ok(Box::new(move |runs| {
        let table = steps::table(runs, first, batches, batch_size);
        // Every run sees other images than the one before: branches that a repeated batch would teach are not learned.
        first += runs;
        session.program().run("train", &table)
    }))
}
