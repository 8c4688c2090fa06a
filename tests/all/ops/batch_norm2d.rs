//! Batch normalisation beyond its cases: its running statistics over several batches, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use crate::cases;
use crate::harness::{check_every_kernel, gpu, plan_with_gradients};
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;
use wgrad::ops::kernel::GpuTraits;
use wgrad::ops::{BatchNorm2d, BatchNormTensors};
use wgrad::{Device, Graph, Plan, Program, Tensor, TensorType};

#[test]
fn cases_hold() {
    check_every_kernel(cases::batch_norm2d::cases());
}

#[test]
fn moments_of_convolutions_are_those_of_the_batch() {
    for case in cases::batch_norm2d::after_conv() {
        assert_eq!(
            takes(&case, "conv2d_staged_moments.convolution", "batch_norm2d_merged.slices"),
            (1, 0),
            "{}",
            case.name
        );
    }
    check_every_kernel(cases::batch_norm2d::after_conv());
}

#[test]
fn moments_of_products_in_slices_are_those_of_the_batch() {
    for case in cases::batch_norm2d::after_slices() {
        let counts = takes(&case, "conv2d_gemm.add_slices_moments", "batch_norm2d_merged.slices");
        assert_eq!(counts, (1, 0), "{}", case.name);
    }
    check_every_kernel(cases::batch_norm2d::after_slices());
}

#[test]
fn sums_of_convolutions_are_those_of_the_gradient() {
    for case in cases::batch_norm2d::before_conv() {
        assert_eq!(
            takes(&case, "conv2d_staged_moments.gradient", "batch_norm2d_merged.grad_slices"),
            (1, 0),
            "{}",
            case.name
        );
    }
    check_every_kernel(cases::batch_norm2d::before_conv());
}

#[test]
fn sums_of_gradients_with_strides_are_those_of_the_gradient() {
    for case in cases::batch_norm2d::before_strides() {
        let counts = takes(&case, "conv2d_strided.strided_sums", "batch_norm2d_merged.grad_slices");
        assert_eq!(counts, (1, 0), "{}", case.name);
    }
    check_every_kernel(cases::batch_norm2d::before_strides());
}

#[test]
fn sums_of_products_in_slices_are_those_of_the_gradient() {
    for case in cases::batch_norm2d::before_slices() {
        let counts = takes(&case, "conv2d_gemm.add_slices_sums", "batch_norm2d_merged.grad_slices");
        assert_eq!(counts, (1, 0), "{}", case.name);
    }
    check_every_kernel(cases::batch_norm2d::before_slices());
}

/// How many kernels of a GPU's plan of a case begin with each name.
fn takes(case: &cases::Case, first: &str, second: &str) -> (usize, usize) {
    let dispatches = plan_with_gradients(case).unwrap().dispatches(GpuTraits::GPU).unwrap();
    let labels: Vec<String> =
        dispatches.iter().flat_map(|step| &step.list).map(|dispatch| dispatch.kernel.label()).collect();
    let count = |name: &str| labels.iter().filter(|label| label.starts_with(name)).count();
    (count(first), count(second))
}

/// A layer of `num_channels` channels under PyTorch's names and initial values.
fn layer(graph: &mut Graph, num_channels: usize) -> BatchNormTensors {
    let mut state = |name: &str, ty: TensorType, kind, init: f64| {
        graph.state(StateSpec { name: name.to_owned(), ty, kind, init: Init::Constant(init) }).unwrap()
    };
    let ty = || TensorType::f32([num_channels]);
    BatchNormTensors {
        weight: state("weight", ty(), StateKind::Parameter, 1.0),
        bias: state("bias", ty(), StateKind::Parameter, 0.0),
        running_mean: state("running_mean", ty(), StateKind::Buffer, 0.0),
        running_var: state("running_var", ty(), StateKind::Buffer, 1.0),
        num_batches_tracked: Some(state("num_batches_tracked", TensorType::f32([]), StateKind::Buffer, 0.0)),
    }
}

/// The running mean, variance and count after each of two batches.
fn running(device: &Device, momentum: Option<f64>) -> Vec<[f64; 3]> {
    let mut graph = Graph::new("train");
    let x = graph.input("x", TensorType::f32([2, 1, 1, 2])).unwrap();
    let tensors = layer(&mut graph, 1);
    let y = graph.batch_norm2d(x, tensors, BatchNorm2d { momentum, ..BatchNorm2d::default() }).unwrap();
    graph.output("y", y).unwrap();
    let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
    // Means 2.5 and 10, unbiased variances 5/3 and 0.
    [[1.0, 2.0, 3.0, 4.0], [10.0; 4]]
        .map(|batch: [f32; 4]| {
            program.write("x", &Tensor::f32([2, 1, 1, 2], batch.to_vec()).unwrap()).unwrap();
            program.run_once("train").unwrap();
            ["running_mean", "running_var", "num_batches_tracked"]
                .map(|name| program.read(name).unwrap().item().unwrap())
        })
        .to_vec()
}

#[test]
fn running_statistics_follow_the_batches() {
    let want_fixed = [[0.25, 0.9 + 0.1 * 5.0 / 3.0, 1.0], [0.225 + 1.0, 0.9 * (0.9 + 0.1 * 5.0 / 3.0), 2.0]];
    // The first batch replaces the initial values, the second counts a half.
    let want_cumulative = [[2.5, 5.0 / 3.0, 1.0], [6.25, 5.0 / 6.0, 2.0]];
    for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
        for (momentum, want) in [(Some(0.1), want_fixed), (None, want_cumulative)] {
            let got = running(device, momentum);
            for (got, want) in got.as_flattened().iter().zip(want.as_flattened()) {
                assert!((got - want).abs() < 1e-6, "{device}, {momentum:?}: {got} for {want}");
            }
        }
    }
}

/// E[x²] − E[x]² in f32 would leave nothing of this variance.
#[test]
fn variance_survives_a_large_mean() {
    let mut graph = Graph::new("train");
    let values: Vec<f32> = (0..4096).map(|i| 10_000.0 + (i % 2) as f32).collect();
    let x = graph.constant(Tensor::f32([4, 1, 32, 32], values).unwrap());
    let tensors = layer(&mut graph, 1);
    let y = graph.batch_norm2d(x, tensors, BatchNorm2d { momentum: Some(1.0), ..BatchNorm2d::default() }).unwrap();
    graph.output("y", y).unwrap();
    for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
        program.run_once("train").unwrap();
        let var = program.read("running_var").unwrap().item().unwrap();
        assert!((var - 0.25 * 4096.0 / 4095.0).abs() < 1e-5, "{device}: {var}");
    }
}

#[test]
fn wrong_operands_are_refused() {
    let mut graph = Graph::new("train");
    let tensors = layer(&mut graph, 3);
    let mut input = |name: &str, shape: &[usize]| graph.input(name, TensorType::f32(shape)).unwrap();
    let one = input("one", &[1, 3, 1, 1]);
    let flat = input("flat", &[4, 3]);
    let four = input("four", &[2, 4, 2, 2]);
    let good = input("good", &[2, 3, 2, 2]);
    let default = BatchNorm2d::default();
    let computed = graph.neg(tensors.running_mean).unwrap();
    let errors = [
        (graph.batch_norm2d(one, tensors, default), "more than one value"),
        (graph.batch_norm2d(flat, tensors, default), "(N, C, H, W)"),
        (graph.batch_norm2d(four, tensors, default), "(4)"),
        (graph.batch_norm2d_eval(four, tensors, 1e-5), "(4)"),
        (graph.batch_norm2d(good, tensors, BatchNorm2d { eps: -1.0, ..default }), "eps"),
        (graph.batch_norm2d(good, tensors, BatchNorm2d { momentum: Some(1.5), ..default }), "momentum"),
        (
            graph.batch_norm2d(
                good,
                BatchNormTensors { num_batches_tracked: None, ..tensors },
                BatchNorm2d { momentum: None, ..default },
            ),
            "num_batches_tracked",
        ),
        (graph.batch_norm2d(good, BatchNormTensors { running_mean: computed, ..tensors }, default), "states"),
    ];
    for (result, part) in errors {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(graph.batch_norm2d_eval(one, tensors, 1e-5).is_ok(), "one value is fine in evaluation");
}
