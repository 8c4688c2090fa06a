//! The metrics of a batch beyond their cases: ties, scores that are not numbers, rows of the table.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use crate::cases;
use crate::harness::{check, gpu};
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;
use wgrad::{DType, Device, Graph, Plan, Program, StepTable, Tensor, TensorType};

#[test]
fn cases_hold() {
    check(cases::metrics::cases());
}

const LOGITS: [[f32; 3]; 5] = [
    // Two that tie for the largest: the first counts.
    [2.0, 5.0, 5.0],
    [5.0, 2.0, 5.0],
    // A NaN, with which a row predicts nothing; an infinity, which is the largest.
    [1.0, f32::NAN, 3.0],
    [1.0, f32::INFINITY, 3.0],
    [f32::NEG_INFINITY; 3],
];

/// The table after writing rows 2 and 0 of three, and one that is not there.
fn table(device: &Device, labels: [u32; 5]) -> Vec<f64> {
    let mut graph = Graph::new("metrics");
    let logits = graph.input("logits", TensorType::f32([5, 3])).unwrap();
    let labels_in = graph.input("labels", TensorType::u32([5])).unwrap();
    let loss = graph.input("loss", TensorType::f32([])).unwrap();
    let row = graph.scalar("row", DType::U32).unwrap();
    graph.metrics("table", 3, row, loss, logits, labels_in).unwrap();
    let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
    program.write("logits", &Tensor::f32([5, 3], LOGITS.as_flattened().to_vec()).unwrap()).unwrap();
    program.write("labels", &Tensor::u32([5], labels.to_vec()).unwrap()).unwrap();
    program.write("loss", &Tensor::scalar(0.5)).unwrap();
    program.run("metrics", &StepTable::new(3).column("row", |step| [2.0, 3.0, 0.0][step])).unwrap();
    program.read("table").unwrap().to_f64_vec()
}

#[test]
fn ties_and_scores_that_are_no_numbers_are_counted_alike_everywhere() {
    for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
        // Loss · 5, correct, non-finite, 5; row 1 was never written.
        let want = |correct: f64| [[2.5, correct, 5.0, 5.0], [0.0; 4], [2.5, correct, 5.0, 5.0]].concat();
        assert_eq!(table(device, [1, 0, 2, 1, 0]), want(4.0), "{device}");
        assert_eq!(table(device, [1, 0, 1, 1, 0]), want(4.0), "{device}");
        assert_eq!(table(device, [2, 2, 0, 0, 1]), want(0.0), "{device}");
        // A label that is no class is never right.
        assert_eq!(table(device, [3, 0, 2, 1, 0]), want(3.0), "{device}");
    }
}

#[test]
fn a_loss_that_is_no_number_is_passed_on() {
    for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
        let mut graph = Graph::new("metrics");
        let logits = graph.constant(Tensor::f32([1, 2], vec![1.0, 0.0]).unwrap());
        let labels = graph.constant(Tensor::u32([1], vec![0]).unwrap());
        let loss = graph
            .state(StateSpec {
                name: "loss".to_owned(),
                ty: TensorType::f32([1]),
                kind: StateKind::Input,
                init: Init::Values(Tensor::f32([1], vec![f32::NAN]).unwrap()),
            })
            .unwrap();
        let row = graph.scalar("row", DType::U32).unwrap();
        graph.metrics("table", 1, row, loss, logits, labels).unwrap();
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
        program.run("metrics", &StepTable::new(1).constant("row", 0.0)).unwrap();
        let row = program.read("table").unwrap().to_f64_vec();
        assert!(row[0].is_nan() && row[1..] == [1.0, 0.0, 1.0], "{device}: {row:?}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let mut graph = Graph::new("metrics");
    let logits = graph.input("logits", TensorType::f32([5, 3])).unwrap();
    let labels = graph.input("labels", TensorType::u32([4])).unwrap();
    let loss = graph.input("loss", TensorType::f32([])).unwrap();
    let row = graph.scalar("row", DType::U32).unwrap();
    let error = graph.metrics("table", 3, row, loss, logits, labels).unwrap_err().to_string();
    assert!(error.contains("labels (5)") && error.contains("(4)"), "{error}");
}
