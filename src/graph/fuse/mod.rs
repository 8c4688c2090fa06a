//! Rewrites that give the same results, bit for bit, with less work. Each is a row of the table below; a plan is made
//! from the rewritten graph.
//!
//! | found | becomes |
//! | --- | --- |
//! | conv2d or matmul, then an activation that alone reads it | one op with the activation fused after its sum |
//! | gradient through max_pool2d, then through the activation before it | the activation's on the pooled gradient, which is smaller, then max_pool2d's |
//! | gradient through max_pool2d, then conv2d's by weight and input | one op that knows where the gradient is 0 (`pooled_conv.rs`) |
//! | conv2d, then max_pool2d of 2×2 windows, where a device has a kernel for both | one op (`conv_pool.rs`) |
//!
//! The third sums in another order where a device has a kernel for it, so it is equal up to rounding.
//!
//! The second holds because a gradient reaches only the maximum of a window, where the activation's output is the pooled
//! value, and every activation's derivative follows from its output. Elsewhere it is 0, as 0 times a derivative is. Windows
//! that overlap add up gradients first, which rounds differently, except under a ReLU, whose derivative is 0 or 1. Where a
//! window has more than one NaN, only the chosen one is passed back; 0 times a NaN would give the others, too.

mod conv_pool;
pub(super) mod gpu;
mod pooled_conv;
mod replace;

use std::collections::HashMap;

use super::{Graph, Node, NodeKind, Value};
use crate::ops::{Activation, Op};

/// The graph with every rewrite for a CPU applied, after those for every device.
pub(crate) fn fuse_for_cpu(graph: &Graph) -> Graph {
    conv_pool::fuse(&fuse(graph), None)
}

/// The graph with every rewrite for every device applied.
pub(crate) fn fuse(graph: &Graph) -> Graph {
    let uses = Uses::of(graph);
    let absorbed = absorbed_activations(graph, &uses);
    let swapped = pooled_gradients(graph, &uses);
    let mut fused = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut moved: HashMap<Value, Value> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some(&producer) = absorbed.activations.get(&index) {
            moved.insert(graph.value(index, 0), moved[&producer]);
            continue;
        }
        if swapped.pool_backwards.contains(&index) {
            // Appended in place of the activation's gradient, which is its only reader.
            continue;
        }
        if let Some(swap) = swapped.activation_backwards.get(&index) {
            let on_pooled = Node { inputs: vec![moved[&swap.grad], moved[&swap.pooled]], ..node.clone() };
            let types = vec![graph.ty(swap.pooled).clone()];
            let on_pooled = append(&mut fused, Node { types, ..on_pooled });
            let pool = &graph.nodes[swap.pool_backward];
            let result = append(&mut fused, Node { inputs: vec![on_pooled, moved[&swap.indices]], ..pool.clone() });
            moved.insert(graph.value(index, 0), result);
            continue;
        }
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|input| *input = moved[input]);
        if let (NodeKind::Op(op), Some(&activation)) = (&mut node.kind, absorbed.producers.get(&index)) {
            match op {
                Op::Conv2d(conv) => conv.activation = activation,
                Op::Matmul(matmul) => matmul.activation = activation,
                _ => panic!("only conv2d and matmul take an activation"),
            }
        }
        let num_outputs = node.types.len();
        append(&mut fused, node);
        for output in 0..num_outputs {
            moved.insert(graph.value(index, output), fused.value(fused.nodes.len() - 1, output));
        }
    }
    rename(&mut fused, &moved);
    pooled_conv::fuse(&fused)
}

/// Maps named values to their nodes in a rewritten graph.
fn rename(graph: &mut Graph, moved: &HashMap<Value, Value>) {
    graph.outputs.values_mut().chain(graph.named.values_mut()).for_each(|value| *value = moved[value]);
}

fn append(graph: &mut Graph, node: Node) -> Value {
    graph.nodes.push(node);
    graph.value(graph.nodes.len() - 1, 0)
}

/// How often each value is read; being an output of the graph counts.
struct Uses(HashMap<Value, usize>);

impl Uses {
    fn of(graph: &Graph) -> Uses {
        let mut uses = HashMap::new();
        let read = graph.nodes.iter().flat_map(|node| &node.inputs).chain(graph.outputs.values());
        read.for_each(|&value| *uses.entry(value).or_insert(0) += 1);
        Uses(uses)
    }

    fn is_single(&self, value: Value) -> bool {
        self.count(value) == 1
    }

    fn count(&self, value: Value) -> usize {
        self.0.get(&value).copied().unwrap_or(0)
    }
}

#[derive(Default)]
struct Absorbed {
    /// For each activation that goes, the value it is applied to.
    activations: HashMap<usize, Value>,
    /// For each op that takes one over, which.
    producers: HashMap<usize, Activation>,
}

fn absorbed_activations(graph: &Graph, uses: &Uses) -> Absorbed {
    let mut absorbed = Absorbed::default();
    for (index, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Op(Op::Unary(unary)) = &node.kind else { continue };
        let Some(activation) = Activation::from_function(unary.0) else { continue };
        let x = node.inputs[0];
        let producer = match &graph.node(x).kind {
            NodeKind::Op(Op::Conv2d(conv)) => conv.activation,
            NodeKind::Op(Op::Matmul(matmul)) => matmul.activation,
            _ => continue,
        };
        if producer == Activation::None && uses.is_single(x) {
            absorbed.activations.insert(index, x);
            absorbed.producers.insert(x.node as usize, activation);
        }
    }
    absorbed
}

/// An activation's gradient that moves in front of the pooling's.
struct Swap {
    grad: Value,
    pooled: Value,
    indices: Value,
    pool_backward: usize,
}

#[derive(Default)]
struct Swapped {
    activation_backwards: HashMap<usize, Swap>,
    pool_backwards: Vec<usize>,
}

fn pooled_gradients(graph: &Graph, uses: &Uses) -> Swapped {
    let mut swapped = Swapped::default();
    for (index, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Op(Op::UnaryBackward(backward)) = &node.kind else { continue };
        let &[unpooled, activated] = node.inputs.as_slice() else { continue };
        let NodeKind::Op(Op::MaxPool2dBackward(_)) = &graph.node(unpooled).kind else { continue };
        let &[grad, indices] = graph.node(unpooled).inputs.as_slice() else { continue };
        let pool_node = graph.node(indices);
        let NodeKind::Op(Op::MaxPool2d(pool)) = &pool_node.kind else { continue };
        let is_equal = match Activation::from_function(backward.0) {
            Some(Activation::Relu) => true,
            Some(_) => !pool.overlaps(),
            None => false,
        };
        if is_equal && pool_node.inputs[0] == activated && uses.is_single(unpooled) {
            let pooled = graph.value(indices.node as usize, 0);
            let pool_backward = unpooled.node as usize;
            swapped.activation_backwards.insert(index, Swap { grad, pooled, indices, pool_backward });
            swapped.pool_backwards.push(pool_backward);
        }
    }
    swapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::StateDict;
    use crate::graph::Init;
    use crate::ops::{Conv2d, MaxPool2d};
    use crate::tensor::{Tensor, TensorType};
    use crate::{Device, Plan, Program, Result};

    /// conv, ReLU, overlapping pooling, flatten, linear, tanh, with the gradient by everything.
    fn network() -> Result<Graph> {
        let mut graph = Graph::new("network");
        let x = graph.input_with_grad("x", [3, 2, 9, 9])?;
        let weight = graph.parameter("conv.weight", [4, 2, 3, 3], Init::Uniform { bound: 0.5 })?;
        let bias = graph.parameter("conv.bias", [4], Init::Uniform { bound: 0.5 })?;
        let y = graph.conv2d(x, weight, Some(bias), Conv2d::default())?;
        let y = graph.relu(y)?;
        let y = graph.max_pool2d(y, MaxPool2d { stride: [2, 2], ..MaxPool2d::new([3, 3]) })?;
        let y = graph.flatten(y, 1)?;
        let fc = graph.parameter("fc.weight", [5, 36], Init::Uniform { bound: 0.5 })?;
        let y = graph.linear(y, fc, None)?;
        let y = graph.tanh(y)?;
        let loss = graph.mean_all(y)?;
        let grads = graph.backward(loss)?;
        graph.output("loss", loss)?;
        for (name, value) in [("x", x), ("conv.weight", weight), ("conv.bias", bias), ("fc.weight", fc)] {
            graph.output(name, grads.get(value).expect("the loss depends on it"))?;
        }
        Ok(graph)
    }

    fn run(plan: Plan, x: &Tensor) -> Result<StateDict> {
        let names: Vec<String> = plan.outputs.keys().cloned().collect();
        let mut program = Program::compile(&Device::Cpu, vec![plan], 7)?;
        program.write("x", x)?;
        program.run_once("network")?;
        names.into_iter().map(|name| Ok((name.clone(), program.output("network", &name)?))).collect()
    }

    #[test]
    fn fused_equals_unfused_bit_for_bit_with_fewer_steps() -> Result<()> {
        let graph = network()?;
        let x = Init::Uniform { bound: 1.0 }.tensor("x", &TensorType::f32([3, 2, 9, 9]), 3)?.expect("drawn");
        let (plain, fused) = (Plan::unfused(&graph)?, Plan::new(&graph)?);
        assert_eq!(plain.steps.len() - fused.steps.len(), 2, "{plain}\n{fused}");
        let (plain, fused) = (run(plain, &x)?, run(fused, &x)?);
        assert!(plain["x"].to_f64_vec().iter().any(|&grad| grad != 0.0));
        assert_eq!(plain, fused);
        Ok(())
    }

    /// The pooled gradient of an activation, by whether its windows overlap.
    fn pooled_activation(activation: Activation, pool: MaxPool2d) -> Result<Graph> {
        let mut graph = Graph::new("network");
        let x = graph.input_with_grad("x", [3, 2, 9, 9])?;
        let y = graph.activation(x, activation)?;
        let y = graph.max_pool2d(y, pool)?;
        let y = graph.square(y)?;
        let loss = graph.mean_all(y)?;
        let grads = graph.backward(loss)?;
        graph.output("loss", loss)?;
        graph.output("x", grads.get(x).expect("the loss depends on it"))?;
        Ok(graph)
    }

    #[test]
    fn the_gradient_of_an_activation_is_taken_of_the_pooled_one() -> Result<()> {
        let x = Init::Uniform { bound: 2.0 }.tensor("x", &TensorType::f32([3, 2, 9, 9]), 3)?.expect("drawn");
        let overlapping = MaxPool2d { stride: [2, 2], ..MaxPool2d::new([3, 3]) };
        for activation in [Activation::Relu, Activation::Sigmoid, Activation::Tanh] {
            for pool in [MaxPool2d::new([2, 2]), overlapping] {
                let graph = pooled_activation(activation, pool)?;
                let fused = Plan::new(&graph)?;
                let pooled =
                    |plan: &Plan| plan.steps.last().is_some_and(|step| step.label().ends_with("max_pool2d_backward"));
                // Only a ReLU's gradient is a factor that does not round.
                assert_eq!(pooled(&fused), pool != overlapping || activation == Activation::Relu, "{fused}");
                let (plain, fused) = (run(Plan::unfused(&graph)?, &x)?, run(fused, &x)?);
                assert!(plain["x"].to_f64_vec().iter().any(|&grad| grad != 0.0));
                assert_eq!(plain, fused, "{activation:?} {pool:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_value_that_is_read_elsewhere_stays() -> Result<()> {
        let mut graph = Graph::new("shared");
        let x = graph.input("x", TensorType::f32([2, 3]))?;
        let weight = graph.parameter("weight", [4, 3], Init::Uniform { bound: 0.5 })?;
        let before = graph.linear(x, weight, None)?;
        let after = graph.relu(before)?;
        graph.output("before", before)?;
        graph.output("after", after)?;
        assert_eq!(Plan::new(&graph)?.steps.len(), 2);
        Ok(())
    }
}
