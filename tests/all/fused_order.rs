//! Fusing keeps the order in which nodes read and update states.

use wgrad::graph::{Init, StateKind, StateSpec};
use wgrad::ops::{BatchNorm2d, BatchNormTensors, Conv2d, MaxPool2d};
use wgrad::optim::Optimizer;
use wgrad::{Device, Graph, Plan, Program, Result, Tensor, TensorType};

use crate::harness::{gpu, portable};

fn devices() -> [&'static Device; 4] {
    let [like_gpu, like_software] = portable();
    [&Device::Cpu, gpu(), like_gpu, like_software]
}

/// The optimizer adds up the gradients of the convolution, whose slices a constant describes that is made last.
#[test]
fn what_comes_after_an_update_reads_the_new_weights() -> Result<()> {
    let optimizer = Optimizer::sgd(0.0);
    let mut graph = Graph::new("step");
    let x = graph.input("x", TensorType::f32([4, 1, 8, 8]))?;
    let init = Init::Uniform { bound: 0.5 };
    let weight = graph.parameter("weight", [2, 1, 3, 3], init.clone())?;
    let last = graph.parameter("last", [3, 18], init)?;
    let y = graph.conv2d(x, weight, None, Conv2d::default())?;
    let y = graph.relu(y)?;
    let y = graph.max_pool2d(y, MaxPool2d::new([2, 2]))?;
    let y = graph.flatten(y, 1)?;
    let y = graph.linear(y, last, None)?;
    let y = graph.square(y)?;
    let loss = graph.mean_all(y)?;
    let before = graph.square(last)?;
    graph.output("before", before)?;
    optimizer.minimize(&mut graph, loss)?;
    let after = graph.square(last)?;
    graph.output("after", after)?;
    for device in devices() {
        for plan in [Plan::unfused(&graph)?, Plan::new(&graph)?] {
            let mut program = Program::compile(device, vec![plan], 3)?;
            program.write("x", &Tensor::f32([4, 1, 8, 8], (0..256).map(|i| (i % 17) as f32 / 17.0).collect())?)?;
            let old = program.read("last")?;
            program.run("step", &optimizer.steps(1, 0.5))?;
            let new = program.read("last")?;
            assert!(old != new);
            for (name, weights) in [("before", old), ("after", new)] {
                let want: Vec<f32> = weights.to_f32_vec().iter().map(|weight| weight * weight).collect();
                assert_eq!(program.output("step", name)?.to_f32_vec(), want, "{name} on {device}");
            }
        }
    }
    Ok(())
}

/// The first of two normalizations with the same running statistics is added to what follows from the second.
#[test]
fn two_normalizations_update_statistics_in_turn() -> Result<()> {
    let mut graph = Graph::new("step");
    let [first, second] = ["first", "second"].map(|name| graph.input(name, TensorType::f32([2, 2, 3, 3])));
    let mut state = |name: &str, value: f32, kind: StateKind| {
        let init = Init::Values(Tensor::f32([2], vec![value; 2])?);
        graph.state(StateSpec { name: name.to_owned(), ty: TensorType::f32([2]), kind, init })
    };
    let tensors = BatchNormTensors {
        weight: state("weight", 1.0, StateKind::Parameter)?,
        bias: state("bias", 0.0, StateKind::Parameter)?,
        running_mean: state("running_mean", 0.0, StateKind::Buffer)?,
        running_var: state("running_var", 1.0, StateKind::Buffer)?,
        num_batches_tracked: None,
    };
    let added = graph.batch_norm2d(first?, tensors, BatchNorm2d::default())?;
    let y = graph.batch_norm2d(second?, tensors, BatchNorm2d::default())?;
    let y = graph.tanh(y)?;
    let y = graph.square(y)?;
    let y = graph.add(added, y)?;
    let y = graph.relu(y)?;
    graph.output("y", y)?;
    // The means of the first are 13 and 22.
    let numbers = |scale: f32| Tensor::f32([2, 2, 3, 3], (0..36).map(|i| scale * i as f32).collect());
    for device in devices() {
        let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
        program.write("first", &numbers(1.0)?)?;
        program.write("second", &numbers(-10.0)?)?;
        program.run_once("step")?;
        let means = program.read("running_mean")?.to_f32_vec();
        for (got, mean) in means.into_iter().zip([13.0, 22.0]) {
            let want = 0.9 * (0.1 * mean) + 0.1 * (-10.0 * mean);
            // Some roundings of numbers of that size.
            assert!((got - want).abs() < 1e-4, "{got} for {want} on {device}");
        }
    }
    Ok(())
}
