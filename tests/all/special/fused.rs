//! Activations within conv2d and matmul give for special values what they give as ops of their own.

use wgrad::ops::{Activation, Conv2d};
use wgrad::{Device, Graph, Plan, Program, Tensor, Value};

use crate::harness::{gpu, portable};

const SPECIAL: [f32; 12] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN, 1.0, -1.0, 25.0, -25.0, 0.375];

/// A product with ones and zeros, so that each result is an operand: by every kernel of matmul and of conv2d.
fn products(graph: &mut Graph, x: Value) -> wgrad::Result<Vec<(&'static str, Value)>> {
    let count = graph.shape(x).num_elems();
    let ones = |shape: &[usize]| Tensor::f32(shape, vec![1.0; shape.iter().product()]);
    let one = graph.constant(ones(&[1, 1])?);
    let column = graph.reshape(x, [count, 1])?;
    let many = graph.broadcast_to(column, [count, 64])?;
    let many = graph.reshape(many, [count * 64, 1])?;
    let row = graph.constant(ones(&[4, 4])?);
    let padded = graph.pad(column, &[(0, 0), (0, 3)])?;
    let padded = graph.concat(&[padded; 16], 0)?;
    let image = graph.reshape(x, [1, 1, 3, count / 3])?;
    let filter = graph.constant(ones(&[1, 1, 1, 1])?);
    Ok(vec![
        ("plain", graph.linear(column, one, None)?),
        ("registers, tiled", graph.linear(many, one, None)?),
        ("registers_vec4, tiled", graph.linear(padded, row, None)?),
        ("conv2d", graph.conv2d(image, filter, None, Conv2d::default())?),
    ])
}

fn outputs(device: &Device, activation: Activation, fuse: bool) -> Vec<(&'static str, Vec<f64>)> {
    let mut graph = Graph::new("fused");
    let x = graph.constant(Tensor::f32([SPECIAL.len()], SPECIAL.to_vec()).unwrap());
    let products = products(&mut graph, x).unwrap();
    for &(name, value) in &products {
        let y = graph.activation(value, activation).unwrap();
        graph.output(name, y).unwrap();
    }
    let plan = if fuse { Plan::new(&graph) } else { Plan::unfused(&graph) }.unwrap();
    let mut program = Program::compile(device, vec![plan], 0).unwrap();
    program.run_once("fused").unwrap();
    products.iter().map(|&(name, _)| (name, program.output("fused", name).unwrap().to_f64_vec())).collect()
}

#[test]
fn fused_activations_of_special_values_are_the_unfused_ones() {
    let [like_gpu, like_software] = portable();
    for device in [&Device::Cpu, &Device::CpuF64, gpu(), like_gpu, like_software] {
        for activation in [Activation::Relu, Activation::Sigmoid, Activation::Tanh] {
            let (fused, plain) = (outputs(device, activation, true), outputs(device, activation, false));
            for ((name, fused), (_, plain)) in fused.iter().zip(&plain) {
                assert!(fused.iter().any(|y| y.is_nan()), "{device}, {activation:?} in {name}: no NaN in {fused:?}");
                let same = fused.iter().zip(plain).all(|(a, b)| (a.is_nan() && b.is_nan()) || a == b);
                assert!(same, "{device}, {activation:?} in {name}: {fused:?} fused, {plain:?} unfused");
            }
        }
    }
}
