//! Computing something once: a graph is built, run and thrown away. For trying things out and for exercises; training
//! compiles a [`Program`] once and runs it many times.

use super::gradcheck::declare_inputs;
use crate::exec::{Device, Program};
use crate::graph::plan::Plan;
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Computes what `build` appends to a graph, given a value for each of `inputs`, and gives the tensors it returns.
///
/// ```
/// # fn main() -> wgrad::Result<()> {
/// let x = wgrad::Tensor::f32([3], vec![1.0, 2.0, 3.0])?;
/// let y = wgrad::evaluate(&wgrad::Device::Cpu, &[x], |graph, inputs| Ok(vec![graph.square(inputs[0])?]))?;
/// assert_eq!(y[0].to_f32_vec(), [1.0, 4.0, 9.0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Whatever `build` returns; what [`Program::compile`] does.
pub fn evaluate(
    device: &Device,
    inputs: &[Tensor],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Vec<Value>>,
) -> Result<Vec<Tensor>> {
    let mut graph = Graph::new("evaluate");
    let values = declare_inputs(&mut graph, inputs)?;
    let outputs = build(&mut graph, &values)?;
    for (index, &output) in outputs.iter().enumerate() {
        graph.output(&format!("output {index}"), output)?;
    }
    let mut program = run(device, &graph, inputs)?;
    (0..outputs.len()).map(|index| program.output("evaluate", &format!("output {index}"))).collect()
}

/// A loss and its gradient by each input, as [`value_and_grad`] gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueAndGrad {
    /// The loss.
    pub value: f64,
    /// For each input its gradient, of the same shape; `None` where the loss does not depend on it.
    pub grads: Vec<Option<Tensor>>,
}

impl ValueAndGrad {
    /// The gradient by one input.
    ///
    /// # Errors
    /// [`Error::Operand`] where the loss does not depend on that input, or there is none.
    pub fn grad(&self, input: usize) -> Result<&Tensor> {
        let missing = || Error::operand("grad", "an input that the loss depends on", format!("input {input}"));
        self.grads.get(input).and_then(Option::as_ref).ok_or_else(missing)
    }
}

/// Computes the scalar that `build` appends to a graph, given a value for each of `inputs`, and its gradient by every
/// float among them (JAX's `value_and_grad`; PyTorch's `backward` on fresh tensors).
///
/// ```
/// # fn main() -> wgrad::Result<()> {
/// let x = wgrad::Tensor::scalar(3.0);
/// let result = wgrad::value_and_grad(&wgrad::Device::Cpu, &[x], |graph, inputs| graph.square(inputs[0]))?;
/// assert_eq!((result.value, result.grad(0)?.item()?), (9.0, 6.0));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Whatever `build` returns; [`Error::Operand`] where the result is not one float or depends on no float input.
pub fn value_and_grad(
    device: &Device,
    inputs: &[Tensor],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Value>,
) -> Result<ValueAndGrad> {
    let mut graph = Graph::new("evaluate");
    let values = declare_inputs(&mut graph, inputs)?;
    let loss = build(&mut graph, &values)?;
    let grads = graph.backward(loss)?;
    graph.output("loss", loss)?;
    for (index, &value) in values.iter().enumerate() {
        if let Some(grad) = grads.get(value) {
            graph.output(&format!("grad {index}"), grad)?;
        }
    }
    let mut program = run(device, &graph, inputs)?;
    let mut grad = |(index, &value): (usize, &Value)| {
        grads.get(value).map(|_| program.output("evaluate", &format!("grad {index}"))).transpose()
    };
    let grads = values.iter().enumerate().map(&mut grad).collect::<Result<_>>()?;
    Ok(ValueAndGrad { value: program.output("evaluate", "loss")?.item()?, grads })
}

fn run(device: &Device, graph: &Graph, inputs: &[Tensor]) -> Result<Program> {
    let plan = Plan::new(graph)?;
    // Inputs that nothing reads are not in the plan.
    let names: Vec<String> = plan.states().iter().map(|spec| spec.name.clone()).collect();
    let mut program = Program::compile(device, vec![plan], 0)?;
    for (index, tensor) in inputs.iter().enumerate() {
        let name = format!("input {index}");
        if names.contains(&name) {
            program.write(&name, tensor)?;
        }
    }
    program.run_once("evaluate")?;
    Ok(program)
}
