//! The side of wgrad in the day on a GPU that `benches/gpu/run` makes; see `turns`. A work is held to the f64 reference the
//! first time. The device is the first argument, `gpu` by default.
#![allow(missing_docs, reason = "a program of one file")]

#[path = "../lenet.rs"]
mod lenet;
#[path = "../peers/turns.rs"]
mod turns;

use std::thread;
use std::time::Duration;

use wgrad::exec::verify::verify;
use wgrad::exec::{MODEL_KINDS, SideBySide};
use wgrad::graph::{Init, StateKind, StateSpec};
use wgrad::nn::{Classifier, LeNet5, Mode, Model, ResNet};
use wgrad::ops::{Conv2d, CrossEntropy};
use wgrad::optim::{Optimizer, Update, UpdateOptions};
use wgrad::{DType, Device, Graph, Plan, Program, StateDict, StepTable, TensorType, Value};

use lenet::Trainer;
use turns::Work;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Images that training goes over.
const NUM_IMAGES: usize = 8192;

/// Steps after which models side by side are compared with each alone.
const STEPS_COMPARED: usize = 3;

/// Work up to this many operations is held to the reference; more would take it minutes, and is of the same kernels.
const MAX_CHECKED_FLOPS: u64 = 1 << 31;

fn main() -> Outcome<()> {
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let device = Device::select(&wanted.unwrap_or_else(|| "gpu".to_owned()))?;
    println!("{device}");
    // A wait for the device costs more than some works.
    turns::take(Duration::from_millis(20), |line| work(&device, line))
}

fn work(device: &Device, line: &str) -> Outcome<Work> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let sizes: Vec<usize> = words.map(str::parse).collect::<Result<_, _>>()?;
    match (name, sizes.as_slice()) {
        // A chain of dispatches of one workgroup, each of which waits for the one before, and as many that do not.
        ("chain", &[count]) => program(device, |graph| {
            let mut x = input(graph, "x", &[64])?;
            for _ in 0..count {
                x = graph.neg(x)?;
            }
            Ok(vec![x])
        }),
        ("independent", &[count]) => program(device, |graph| {
            let x = input(graph, "x", &[64])?;
            (0..count).map(|_| graph.neg(x)).collect()
        }),
        // One thread that adds up so many numbers: whether the driver lets loads overtake each other.
        ("serial", &[len]) => program(device, |graph| {
            let x = input(graph, "x", &[len, 1])?;
            Ok(vec![graph.sum(x, &[0], false)?])
        }),
        ("matmul", &[n]) => product(device, [n, n, n]),
        ("gemm", &[m, n, k]) => product(device, [m, n, k]),
        ("softmax", &[rows, columns]) => program(device, |graph| {
            let x = input(graph, "x", &[rows, columns])?;
            Ok(vec![graph.softmax(x, 1)?])
        }),
        ("conv", &[batch, from, to, extent, kernel, stride]) => program(device, |graph| {
            let x = graph.parameter("x", [batch, from, extent, extent], Init::Uniform { bound: 1.0 })?;
            let weight = graph.parameter("weight", [to, from, kernel, kernel], Init::Uniform { bound: 1.0 })?;
            let conv = Conv2d { padding: [kernel / 2; 2], stride: [stride; 2], ..Conv2d::default() };
            let y = graph.conv2d(x, weight, None, conv)?;
            let square = graph.square(y)?;
            let loss = graph.sum_all(square)?;
            let grads = graph.backward(loss)?;
            Ok([x, weight].into_iter().filter_map(|operand| grads.get(operand)).collect())
        }),
        ("lenet", &[batch]) => training_step(device, batch, None),
        // The same in submissions of so many steps.
        ("submitted", &[batch, steps]) => training_step(device, batch, Some(steps)),
        // One step each of so many models, in the same dispatches.
        ("beside", &[batch, count]) => beside(device, batch, count),
        ("unfused", &[batch]) => step(device, training(batch, [1, 28, 28], LeNet5::default())?, Plan::unfused),
        ("fused", &[batch]) => step(device, training(batch, [1, 28, 28], LeNet5::default())?, Plan::new),
        ("encode", &[batch]) => encode(device, training(batch, [1, 28, 28], LeNet5::default())?),
        ("resnet", &[batch]) => step(device, training(batch, [3, 32, 32], ResNet::default())?, Plan::new),
        _ => Err(format!("there is no work {line}").into()),
    }
}

/// An operand that has no gradient.
fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> wgrad::Result<Value> {
    let (ty, kind) = (TensorType::f32(dims), StateKind::Input);
    graph.state(StateSpec { name: name.to_owned(), ty, kind, init: Init::Uniform { bound: 1.0 } })
}

fn check(device: &Device, plan: &Plan, table: &StepTable) -> Outcome<()> {
    if plan.cost().flops > MAX_CHECKED_FLOPS {
        return Ok(());
    }
    match verify(device, plan, &StateDict::new(), table, 0)?.difference {
        Some(difference) => Err(difference.to_string().into()),
        None => Ok(()),
    }
}

fn program(device: &Device, build: impl FnOnce(&mut Graph) -> wgrad::Result<Vec<Value>>) -> Outcome<Work> {
    let mut graph = Graph::new("work");
    for (index, output) in build(&mut graph)?.into_iter().enumerate() {
        graph.output(&format!("output {index}"), output)?;
    }
    let plan = Plan::new(&graph)?;
    check(device, &plan, &StepTable::new(1))?;
    let mut program = Program::compile(device, vec![plan], 0)?;
    Ok(Box::new(move |runs| program.run("work", &StepTable::new(runs))))
}

fn product(device: &Device, [m, n, k]: [usize; 3]) -> Outcome<Work> {
    program(device, |graph| {
        let (a, b) = (input(graph, "a", &[m, k])?, input(graph, "b", &[k, n])?);
        Ok(vec![graph.matmul(a, b)?])
    })
}

/// A training step by SGD with momentum on one batch that stays on the device.
fn training(batch: usize, image: [usize; 3], network: impl Into<wgrad::nn::Network>) -> Outcome<(Graph, Update)> {
    let mut graph = Graph::new("step");
    let update = Update::new(Optimizer::sgd(0.9), UpdateOptions::default())?;
    let images = input(&mut graph, "images", &[&[batch], &image[..]].concat())?;
    let labels = graph.input("labels", TensorType::u32([batch]))?;
    let step = graph.scalar("step", DType::U32)?;
    let logits = Classifier::new(network, 10).logits(&mut graph, images, Mode::Train { seed: 0, step })?;
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    let loss = update.minimize(&mut graph, loss)?;
    let row = graph.scalar("row", DType::U32)?;
    graph.metrics("table", 1, row, loss, logits, labels)?;
    Ok((graph, update))
}

/// Scalars of so many steps. A small rate, so that the weights stay finite however often the batch is learned.
fn scalars(update: &Update, steps: usize) -> StepTable {
    update.steps(steps, 1e-4).constant("step", 0.0).constant("row", 0.0)
}

fn step(device: &Device, (graph, update): (Graph, Update), plan: fn(&Graph) -> wgrad::Result<Plan>) -> Outcome<Work> {
    let plan = plan(&graph)?;
    check(device, &plan, &scalars(&update, 1))?;
    let mut program = Program::compile(device, vec![plan], 0)?;
    Ok(Box::new(move |runs| program.run("step", &scalars(&update, runs))))
}

/// What the host does for a step: recording it.
fn encode(device: &Device, (graph, update): (Graph, Update)) -> Outcome<Work> {
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    let table = scalars(&update, 1);
    Ok(Box::new(move |runs| program.profile_encoding("step", &table, runs).map(|_| ())))
}

/// A training step of LeNet-5 as `lenet train` takes it, gather and normalization included.
fn training_step(device: &Device, batch_size: usize, steps_per_submission: Option<usize>) -> Outcome<Work> {
    hold_to_reference(device, batch_size)?;
    let mut trainer = Trainer::new(device, NUM_IMAGES, batch_size, 0)?;
    trainer.session.program().set_steps_per_submission(steps_per_submission);
    Ok(Box::new(move |runs| trainer.run(runs)))
}

fn hold_to_reference(device: &Device, batch_size: usize) -> Outcome<()> {
    match lenet::verify(device, NUM_IMAGES, batch_size)?.difference {
        Some(difference) => Err(difference.to_string().into()),
        None => Ok(()),
    }
}

/// The same of several models, which the same dispatches train. Each is held to the one that trains alone, bit for bit.
fn beside(device: &Device, batch_size: usize, count: usize) -> Outcome<Work> {
    hold_to_reference(device, batch_size)?;
    let group = SideBySide::new(device, count, is_image_data)?;
    // All places first: each waits for those that are taken.
    let mut trainers = Vec::new();
    for seed in 0..count {
        let place = group.take().ok_or("a group has as many places as it was made with")?;
        trainers.push(Trainer::new(&place, NUM_IMAGES, batch_size, seed as u64)?);
    }
    run_all(&mut trainers, STEPS_COMPARED)?;
    for (seed, trainer) in trainers.iter_mut().enumerate() {
        let mut alone = Trainer::new(device, NUM_IMAGES, batch_size, seed as u64)?;
        alone.run(STEPS_COMPARED)?;
        if weights(&mut alone)? != weights(trainer)? {
            return Err(
                format!("model {seed} of {count} has other weights after {STEPS_COMPARED} steps than alone").into()
            );
        }
    }
    Ok(Box::new(move |runs| run_all(&mut trainers, runs)))
}

fn weights(trainer: &mut Trainer) -> wgrad::Result<StateDict> {
    trainer.session.program().state_dict(&MODEL_KINDS)
}

fn run_all(trainers: &mut [Trainer], runs: usize) -> wgrad::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = trainers.iter_mut().map(|trainer| scope.spawn(move || trainer.run(runs))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a step does not panic"))
    })
}

fn is_image_data(spec: &StateSpec) -> bool {
    spec.kind == StateKind::Input && (spec.name.contains(".images.") || spec.name.ends_with(".labels"))
}
