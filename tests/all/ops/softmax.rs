//! Softmax beyond its cases: what holds for every input, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use crate::cases;
use crate::harness::check_every_kernel;
use wgrad::{Device, Graph, Plan, Program, Tensor, TensorType};

#[test]
fn cases_hold() {
    check_every_kernel(cases::softmax::cases());
}

#[test]
fn rows_sum_to_one_under_large_inputs() {
    let mut graph = Graph::new("softmax");
    let x = graph.constant(Tensor::f32([2, 3], vec![1e30, 1e30, -1e30, -3e38, -3e38, -3e38]).unwrap());
    let y = graph.softmax(x, 1).unwrap();
    graph.output("y", y).unwrap();
    for device in [&Device::Cpu, &Device::CpuF64, crate::harness::gpu()] {
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
        program.run_once("softmax").unwrap();
        let y = program.output("softmax", "y").unwrap().to_f64_vec();
        let third = 1.0 / 3.0;
        for (got, want) in y.iter().zip([0.5, 0.5, 0.0, third, third, third]) {
            assert!((got - want).abs() < 1e-6, "{device}: {y:?}");
        }
    }
}

#[test]
fn wrong_operands_are_refused() {
    let mut graph = Graph::new("softmax");
    let x = graph.input("x", TensorType::f32([2, 3])).unwrap();
    let labels = graph.input("labels", TensorType::u32([2])).unwrap();
    assert!(graph.softmax(x, 2).unwrap_err().to_string().contains("axis 2"));
    assert!(graph.log_softmax(labels, 0).unwrap_err().to_string().contains("f32"));
    // No value without elements gets as far as the op.
    let empty = graph.input("empty", TensorType::f32([2, 0]));
    assert!(empty.unwrap_err().to_string().contains("at least one element"));
}
