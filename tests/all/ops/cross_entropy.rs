//! Losses over class indices beyond their cases: the identities and conventions that hold on every device.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use crate::cases;
use crate::harness::{check, gpu};
use wgrad::ops::{CrossEntropy, NllLoss, Reduction};
use wgrad::{Device, Graph, Plan, Program, Result, Tensor, TensorType, Value};

#[test]
fn cases_hold() {
    check(cases::cross_entropy::cases());
}

/// Output 0 and the gradient by the first value that `build` gives, on each kind of device.
fn loss_and_grad(build: impl Fn(&mut Graph) -> Result<(Value, Value)>) -> Vec<(Vec<f64>, Vec<f64>)> {
    let mut graph = Graph::new("loss");
    let (loss, x) = build(&mut graph).unwrap();
    let total = graph.sum_all(loss).unwrap();
    let grad = graph.backward(total).unwrap().get(x).unwrap();
    graph.output("loss", loss).unwrap();
    graph.output("grad", grad).unwrap();
    let on = |device: &Device| {
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
        program.run_once("loss").unwrap();
        let mut read = |name| program.output("loss", name).unwrap().to_f64_vec();
        (read("loss"), read("grad"))
    };
    [&Device::Cpu, &Device::CpuF64, gpu()].map(on).to_vec()
}

fn logits(graph: &mut Graph) -> Value {
    let x = Tensor::f32([2, 3], vec![0.5, -1.0, 2.0, 1.0, 0.0, -0.25]).unwrap();
    graph.parameter("x", [2, 3], wgrad::nn::Init::Values(x)).unwrap()
}

#[test]
fn fused_equals_log_softmax_and_nll() {
    let labels = |graph: &mut Graph| graph.constant(Tensor::u32([2], vec![2, 1]).unwrap());
    let fused = loss_and_grad(|graph| {
        let (x, labels) = (logits(graph), labels(graph));
        Ok((graph.cross_entropy(x, labels, None, CrossEntropy::default())?, x))
    });
    let parts = loss_and_grad(|graph| {
        let (x, labels) = (logits(graph), labels(graph));
        let log_probs = graph.log_softmax(x, 1)?;
        Ok((graph.nll_loss(log_probs, labels, None, NllLoss::default())?, x))
    });
    for ((loss, grad), (loss_of_parts, grad_of_parts)) in fused.iter().zip(&parts) {
        assert!((loss[0] - loss_of_parts[0]).abs() < 1e-6);
        assert!(grad.iter().any(|&g| g.abs() > 0.1), "the gradient is not vacuous");
        assert!(grad.iter().zip(grad_of_parts).all(|(a, b)| (a - b).abs() < 1e-6), "{grad:?} {grad_of_parts:?}");
    }
}

#[test]
fn mean_over_ignored_rows_alone_is_nan_with_gradient_zero() {
    // The second label is no class at all.
    let results = loss_and_grad(|graph| {
        let x = logits(graph);
        let labels = graph.constant(Tensor::u32([2], vec![1, 3_000_000_000])?);
        let attributes = CrossEntropy { ignore_index: Some(1), ..CrossEntropy::default() };
        Ok((graph.cross_entropy(x, labels, None, attributes)?, x))
    });
    for (loss, grad) in results {
        assert!(loss[0].is_nan());
        assert_eq!(grad, [0.0; 6]);
    }
}

#[test]
fn a_class_of_probability_zero_costs_nothing_unless_it_is_the_label() {
    let results = loss_and_grad(|graph| {
        let x = Tensor::f32([1, 3], vec![0.0, f32::NEG_INFINITY, 0.0])?;
        let x = graph.parameter("x", [1, 3], wgrad::nn::Init::Values(x))?;
        let labels = graph.constant(Tensor::u32([1], vec![0])?);
        let attributes = CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() };
        Ok((graph.cross_entropy(x, labels, None, attributes)?, x))
    });
    for (loss, grad) in results {
        assert!((loss[0] - std::f64::consts::LN_2).abs() < 1e-6, "{loss:?}");
        assert!(grad.iter().zip([-0.5, 0.0, 0.5]).all(|(a, b)| (a - b).abs() < 1e-6), "{grad:?}");
    }
}

#[test]
fn wrong_operands_are_refused() {
    let mut graph = Graph::new("loss");
    let x = graph.input("x", TensorType::f32([2, 3])).unwrap();
    let image = graph.input("image", TensorType::f32([2, 3, 4])).unwrap();
    let labels = graph.input("labels", TensorType::u32([2])).unwrap();
    let three = graph.input("three", TensorType::u32([3])).unwrap();
    let weights = graph.input("weights", TensorType::f32([2])).unwrap();
    let plain = CrossEntropy::default();
    let smooth = CrossEntropy { label_smoothing: 1.5, ..plain };
    let errors = [
        (graph.cross_entropy(image, labels, None, plain), "(N, C)"),
        (graph.cross_entropy(x, x, None, plain), "u32"),
        (graph.cross_entropy(x, three, None, plain), "(2)"),
        (graph.cross_entropy(x, labels, Some(weights), plain), "(3)"),
        (graph.cross_entropy(x, labels, None, smooth), "label_smoothing"),
        (graph.mse_loss(x, weights, Reduction::Mean), "shape"),
    ];
    for (result, part) in errors {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
