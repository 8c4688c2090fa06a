//! Checking gradients against finite differences.

use std::fmt;

use crate::exec::{Device, Program, StepTable};
use crate::graph::plan::Plan;
use crate::graph::{Graph, Value};
use crate::rng::Stream;
use crate::tensor::{DType, Tensor, TensorData};
use crate::{Error, Result};

/// Half the distance of the two points of a central difference: the cube root of f64's epsilon, near where truncation
/// and rounding errors are equal.
const STEP: f64 = 1e-6;
/// `|analytic − numeric| ≤ ATOL + RTOL·|numeric|`, as `torch.autograd.gradcheck` has it.
const ATOL: f64 = 1e-5;
const RTOL: f64 = 1e-3;

/// An element whose gradient is not what finite differences say.
#[derive(Clone, Debug, PartialEq)]
pub struct GradMismatch {
    /// The input's index among those given.
    pub input: usize,
    /// The flat index of the element.
    pub index: usize,
    /// The gradient by [`Graph::backward`].
    pub analytic: f64,
    /// The gradient by central differences.
    pub numeric: f64,
}

impl fmt::Display for GradMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GradMismatch { input, index, analytic, numeric } = self;
        write!(f, "element {index} of input {input}: the gradient is {analytic}, by finite differences {numeric}")
    }
}

/// Holds the gradients of any computation to central differences, in f64 on the CPU. `build` appends the computation
/// to a graph, given a value for each of `inputs`, and returns its float outputs, which are weighted by fixed random
/// numbers and summed to make a loss. Gives the first element that differs, or `None`. Float inputs are differentiated;
/// keep them away from kinks (0 of a ReLU, ties of a maximum).
///
/// ```
/// # fn main() -> wgrad::Result<()> {
/// let x = wgrad::Tensor::f64([3], vec![0.5, -1.0, 2.0])?;
/// let mismatch = wgrad::gradcheck(&[x], |graph, inputs| Ok(vec![graph.tanh(inputs[0])?]))?;
/// assert_eq!(mismatch, None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Whatever `build` returns; [`Error::Operand`] where no input is a float or no output depends on one.
pub fn gradcheck(
    inputs: &[Tensor],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Vec<Value>>,
) -> Result<Option<GradMismatch>> {
    let mut graph = Graph::new("gradcheck");
    let values = declare_inputs(&mut graph, inputs)?;
    let outputs = build(&mut graph, &values)?;
    let loss = weighted_sum(&mut graph, &outputs)?;
    let grads = graph.backward(loss)?;
    graph.output("loss", loss)?;
    for (index, &value) in values.iter().enumerate() {
        if let Some(grad) = grads.get(value) {
            graph.output(&format!("grad {index}"), grad)?;
        }
    }
    let plan = Plan::new(&graph)?;
    // Inputs that nothing reads are not in the plan.
    let is_read = |index: usize| plan.states().iter().any(|state| state.name == format!("input {index}"));
    let read: Vec<usize> = (0..inputs.len()).filter(|&index| is_read(index)).collect();
    let mut program = Program::compile(&Device::CpuF64, vec![plan], 0)?;
    let mut loss_at = |index: usize, tensor: &Tensor| -> Result<f64> {
        program.write(&format!("input {index}"), tensor)?;
        program.run("gradcheck", &StepTable::new(1))?;
        program.output("gradcheck", "loss")?.item()
    };
    for &index in &read {
        loss_at(index, &inputs[index])?;
    }
    let mut analytic = Vec::new();
    for (index, &value) in values.iter().enumerate() {
        if grads.get(value).is_some() {
            analytic.push((index, program.output("gradcheck", &format!("grad {index}"))?.to_f64_vec()));
        }
    }
    let mut loss_at = |index: usize, tensor: &Tensor| -> Result<f64> {
        program.write(&format!("input {index}"), tensor)?;
        program.run("gradcheck", &StepTable::new(1))?;
        program.output("gradcheck", "loss")?.item()
    };
    for (input, analytic) in analytic {
        let center = inputs[input].to_f64_vec();
        for (index, &analytic) in analytic.iter().enumerate() {
            let mut at = |offset: f64| {
                let mut moved = center.clone();
                moved[index] += offset;
                loss_at(input, &Tensor::f64(inputs[input].shape(), moved)?)
            };
            let numeric = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
            // False for a NaN.
            let is_close = (analytic - numeric).abs() <= ATOL + RTOL * numeric.abs();
            if !is_close {
                return Ok(Some(GradMismatch { input, index, analytic, numeric }));
            }
        }
        loss_at(input, &inputs[input])?;
    }
    Ok(None)
}

/// Declares `input 0`, `input 1`, … with a gradient for each float.
pub(crate) fn declare_inputs(graph: &mut Graph, inputs: &[Tensor]) -> Result<Vec<Value>> {
    let declare = |(index, tensor): (usize, &Tensor)| match tensor.dtype() {
        DType::F32 => graph.input_with_grad(&format!("input {index}"), tensor.shape()),
        _ => graph.input(&format!("input {index}"), tensor.ty()),
    };
    inputs.iter().enumerate().map(declare).collect()
}

/// A loss on which every element of every float output has its own influence.
fn weighted_sum(graph: &mut Graph, outputs: &[Value]) -> Result<Value> {
    let mut stream = Stream::new(0x6772_6164, 0);
    let mut total: Option<Value> = None;
    for &output in outputs {
        if graph.ty(output).dtype != DType::F32 || !graph.requires_grad(output) {
            continue;
        }
        let shape = graph.shape(output).clone();
        let weights = (0..shape.num_elems()).map(|_| (0.5 + stream.next_f64()) as f32).collect();
        let weights = graph.constant(Tensor::new(shape, TensorData::F32(weights))?);
        let weighted = graph.mul(output, weights)?;
        let sum = graph.sum_all(weighted)?;
        total = Some(match total {
            Some(total) => graph.add(total, sum)?,
            None => sum,
        });
    }
    total.ok_or_else(|| Error::operand("gradcheck", "an output that depends on a float input", "none"))
}
