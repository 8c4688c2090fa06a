//! What becomes of NaN, infinities, −0.0, subnormals and the largest floats: `golden` holds ops to PyTorch element by
//! element, `fused` activations to the ops they replace. That every case of every op has them alike on every device is
//! the harness's business.
//!
//! Policy for subnormals: the CPU computes with them; WGSL lets a GPU take an operand or a result for 0, and here that
//! is accepted of one.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

mod accuracy;
mod division;
mod fused;
mod golden;

use wgrad::{Device, Graph, Plan, Program, Tensor, Value};

/// Outputs and gradients of a computation.
struct Results {
    outputs: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

/// Runs an op on operands, with a gradient from above for each element of its output.
fn run(
    device: &Device,
    operands: &[Tensor],
    above: Option<&Tensor>,
    build: impl FnOnce(&mut Graph, &[Value]) -> wgrad::Result<Value>,
) -> Results {
    let mut graph = Graph::new("special");
    let values: Vec<Value> = operands
        .iter()
        .enumerate()
        .map(|(index, tensor)| match tensor.dtype() {
            wgrad::DType::F32 => graph.input_with_grad(&format!("input {index}"), tensor.shape()).unwrap(),
            _ => graph.constant(tensor.clone()),
        })
        .collect();
    let output = build(&mut graph, &values).unwrap();
    graph.output("output", output).unwrap();
    let mut num_gradients = 0;
    if let Some(above) = above {
        let shape = graph.shape(output).clone();
        let above = graph.constant(Tensor::f32(shape, above.to_f32_vec()).unwrap());
        let weighted = graph.mul(output, above).unwrap();
        let loss = graph.sum_all(weighted).unwrap();
        let grads = graph.backward(loss).unwrap();
        for (index, &value) in values.iter().enumerate() {
            if let Some(grad) = grads.get(value) {
                graph.output(&format!("grad {index}"), grad).unwrap();
                num_gradients += 1;
            }
        }
    }
    let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
    for (index, tensor) in operands.iter().enumerate().filter(|(_, tensor)| tensor.dtype() == wgrad::DType::F32) {
        program.write(&format!("input {index}"), tensor).unwrap();
    }
    program.run_once("special").unwrap();
    let mut read = |name: &str| program.output("special", name).unwrap().to_f64_vec();
    let outputs = read("output");
    Results { outputs, gradients: (0..num_gradients).map(|index| read(&format!("grad {index}"))).collect() }
}

/// Relative tolerance: these tests are of what is special; `accuracy` is of rounding.
const TOLERANCE: f64 = 1e-4;

/// Absolute tolerance: a factor of a result may have been flushed to 0, times an operand of up to a hundred.
const FLUSHED: f64 = 128.0 * f32::MIN_POSITIVE as f64;

/// Whether a result is the wanted one, as f32: both NaN, equal (0 and −0 are), or about as large.
fn is_close(got: f64, want: f32) -> bool {
    let got = got as f32;
    let (difference, want_size) = (f64::from(got) - f64::from(want), f64::from(want).abs());
    (got.is_nan() && want.is_nan())
        || got == want
        || (difference.is_finite() && difference.abs() <= TOLERANCE * want_size + FLUSHED)
}

fn is_subnormal(x: f32) -> bool {
    x.is_subnormal()
}
