//! Building, differentiating, planning and running graphs: what is refused and in which words, what gradients flow, what
//! a plan holds, and what a program keeps from run to run.

mod programs;
mod refused;

use std::ops::ControlFlow;

use wgrad::exec::MODEL_KINDS;
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;
use wgrad::ops::{AvgPool2d, Conv2d, CrossEntropy, MaxPool2d, NllLoss, Reduction, SliceRange};
use wgrad::optim::Optimizer;
use wgrad::{DType, Device, Error, Graph, Plan, Program, Result, StepTable, Tensor, TensorType, Value};

use crate::harness::gpu;

fn devices() -> [Device; 3] {
    [Device::Cpu, Device::CpuF64, gpu().clone()]
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn compile(device: &Device, graphs: &[&Graph]) -> Program {
    let plans = graphs.iter().map(|graph| Plan::new(graph).expect("the graph is sound")).collect();
    Program::compile(device, plans, 0).expect("the device takes the plans")
}

fn vector(data: &[f32]) -> Tensor {
    Tensor::f32([data.len()], data.to_vec()).expect("one number for each element")
}

/// The gradients of `build(x)` summed, at `x`, on the f64 device; `None` where there are none.
fn gradient(x: &[f32], build: impl FnOnce(&mut Graph, Value) -> Result<Value>) -> Option<Vec<f64>> {
    let mut graph = Graph::new("gradient");
    let value = graph.parameter("x", [x.len()], Init::Values(vector(x))).expect("a new name");
    let y = build(&mut graph, value).expect("sound operands");
    let loss = graph.sum_all(y).expect("there are elements");
    let gradient = graph.backward(loss).expect("a differentiable loss").get(value)?;
    graph.output("gradient", gradient).expect("a new name");
    let mut program = compile(&Device::CpuF64, &[&graph]);
    program.run_once("gradient").expect("the entry exists");
    Some(program.output("gradient", "gradient").expect("the output exists").to_f64_vec())
}

#[test]
fn gradients_of_several_uses_add_up() {
    let x = [1.0, -2.0, 0.5];
    let twice_plus_one: Vec<f64> = x.iter().map(|&x| 2.0 * f64::from(x) + 1.0).collect();
    // Twice in one op, and once more next to it.
    let got = gradient(&x, |g, x| {
        let square = g.mul(x, x)?;
        g.add(square, x)
    });
    assert_eq!(got, Some(twice_plus_one.clone()));
    // Through two paths that meet again: x² + x from (x + 1)·x.
    let got = gradient(&x, |g, x| {
        let left = g.add_scalar(x, 1.0)?;
        let right = g.reshape(x, [3])?;
        g.mul(left, right)
    });
    assert_eq!(got, Some(twice_plus_one));
    // A chain of doublings: the sum is taken before a node's own rule, not after.
    let got = gradient(&x, |g, x| (0..5).try_fold(x, |y, _| g.add(y, y)));
    assert_eq!(got, Some(vec![32.0; 3]));
}

#[test]
fn detach_and_no_grad_cut_gradients() {
    let x = [3.0, -1.0];
    // x·stop(x): only the first factor counts.
    let got = gradient(&x, |g, x| {
        let stopped = g.detach(x)?;
        g.mul(x, stopped)
    });
    assert_eq!(got, Some(vec![3.0, -1.0]));
    let got = gradient(&x, |g, x| {
        let square = g.no_grad(|g| g.square(x))?;
        assert!(!g.requires_grad(square));
        g.add(x, square)
    });
    assert_eq!(got, Some(vec![1.0, 1.0]));
    // Within no_grad there is no way back to gradients but to leave it.
    let got = gradient(&x, |g, x| {
        g.no_grad(|g| g.no_grad(|g| g.square(x)).map(drop))?;
        g.square(x)
    });
    assert_eq!(got, Some(vec![6.0, -2.0]));
}

#[test]
fn a_value_off_the_path_has_no_gradient() {
    let mut graph = Graph::new("g");
    let x = graph.parameter("x", [2], Init::Zeros).expect("a new name");
    let unused = graph.parameter("unused", [2], Init::Zeros).expect("a new name");
    let data = graph.input("data", TensorType::f32([2])).expect("a new name");
    let y = graph.mul(x, data).expect("equal shapes");
    let loss = graph.sum_all(y).expect("there are elements");
    let gradients = graph.backward(loss).expect("a differentiable loss");
    assert!(gradients.get(x).is_some() && gradients.get(unused).is_none() && gradients.get(data).is_none());
    assert_eq!(graph.parameters().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "unused"]);
}

#[test]
fn what_nothing_reads_is_not_in_the_plan() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([4])).expect("a new name");
    let unused = graph.input("unused", TensorType::f32([4])).expect("a new name");
    let y = graph.relu(x).expect("a float");
    let lost = graph.exp(unused).expect("a float");
    graph.add(lost, y).expect("equal shapes");
    graph.output("y", y).expect("a new name");
    let plan = Plan::new(&graph).expect("the graph is sound");
    assert_eq!(plan.states().iter().map(|state| state.name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert!(plan.to_string().starts_with("plan \"g\": 1 steps,"), "{plan}");
    assert_eq!(plan.cost().flops, 4, "only relu runs");
    // One output of 16 bytes.
    assert_eq!(plan.slot_bytes(), 16);
}

#[test]
fn a_plan_prints_as_a_table() {
    let mut graph = Graph::new("train");
    let x = graph.input("x", TensorType::f32([32, 4])).expect("a new name");
    let y = graph
        .scope("block", |g| {
            let weight = g.parameter("weight", [4], Init::Zeros)?;
            let y = g.mul(x, weight)?;
            g.leaky_relu(y, 0.1)
        })
        .expect("sound operands");
    let loss = graph.mean_all(y).expect("there are elements");
    graph.output("loss", loss).expect("a new name");
    let plan = Plan::new(&graph).expect("the graph is sound");
    let expected = "\
plan \"train\": 3 steps, 0.00 MFLOP
#  op                attributes          output       MFLOP  stored in
0  block.mul                             f32 (32, 4)  0.000  slot 0
1  block.leaky_relu  negative_slope 0.1  f32 (32, 4)  0.000  slot 1
2  mean              axes [0, 1]         f32 ()       0.000  slot 0
states 528 B in 2 tensors; 2 slots of 1.0 KiB in all, where 1.0 KiB would be needed without sharing";
    assert_eq!(plan.to_string(), expected);
}

/// States and constants can be outputs, as themselves and under another shape.
#[test]
fn leaves_can_be_outputs() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([4])).expect("a new name");
    let fixed = graph.constant(vector(&[5.0, 6.0]));
    let square = graph.reshape(x, [2, 2]).expect("as many elements");
    for (name, value) in [("x", x), ("square", square), ("fixed", fixed)] {
        graph.output(name, value).expect("a new name");
    }
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        program.write("x", &vector(&[1.0, 2.0, 3.0, 4.0])).expect("the input exists");
        program.run_once("g").expect("the entry exists");
        let mut read = |name| program.output("g", name).expect("the output exists");
        assert_eq!(read("x").to_f64_vec(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!((read("square").shape().dims(), read("square").to_f64_vec()), (&[2, 2][..], read("x").to_f64_vec()));
        assert_eq!(read("fixed").to_f64_vec(), [5.0, 6.0]);
    }
}
