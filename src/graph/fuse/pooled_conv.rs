//! Found: a max_pool2d_backward over windows that do not overlap, whose result only conv2d_grad_weight and, maybe,
//! conv2d_grad_input read. Becomes: conv2d_pooled_backward, which gets the pooled gradient and where its cells are, and
//! need not visit those whose gradient is 0. Equal up to rounding: the skipped products are 0, because the op first
//! checks for factors that are not finite, and the rest is summed in another order.

use std::collections::HashMap;

use super::{Uses, append, rename};
use crate::graph::{Graph, Node, NodeKind, Value};
use crate::ops::nn::conv2d::{Conv2dGradInput, Conv2dGradWeight, Conv2dPooledBackward};
use crate::ops::{Op, Operation};

/// The nodes that become one.
struct Match {
    pool_backward: usize,
    grad_weight: usize,
    grad_input: Option<usize>,
}

/// The graph with the rewrite applied.
pub(super) fn fuse(graph: &Graph) -> Graph {
    let matches = find(graph);
    if matches.is_empty() {
        return graph.clone();
    }
    let by_node = |pick: fn(&Match) -> Option<usize>| -> HashMap<usize, &Match> {
        matches.iter().filter_map(|found| Some((pick(found)?, found))).collect()
    };
    let pools = by_node(|found| Some(found.pool_backward));
    let mut convs = by_node(|found| Some(found.grad_weight));
    convs.extend(by_node(|found| found.grad_input));
    let mut fused = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut moved: HashMap<Value, Value> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if pools.contains_key(&index) {
            continue;
        }
        if let Some(found) = convs.get(&index) {
            // The first of the two makes the op, where all that it reads is there.
            if !moved.contains_key(&graph.value(index, 0)) {
                replace(graph, found, &mut fused, &mut moved);
            }
            continue;
        }
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|input| *input = moved[input]);
        let num_outputs = node.types.len();
        append(&mut fused, node);
        for output in 0..num_outputs {
            moved.insert(graph.value(index, output), fused.value(fused.nodes.len() - 1, output));
        }
    }
    rename(&mut fused, &moved);
    fused
}

fn find(graph: &Graph) -> Vec<Match> {
    let uses = Uses::of(graph);
    let mut readers: HashMap<Value, Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| readers.entry(input).or_default().push(index));
    }
    let mut matches = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Op(Op::MaxPool2dBackward(pool)) = &node.kind else { continue };
        let value = graph.value(index, 0);
        let (mut grad_weight, mut grad_input) = (None, None);
        let readers = readers.get(&value).map_or(&[][..], Vec::as_slice);
        for &reader in readers {
            let node = &graph.nodes[reader];
            match &node.kind {
                _ if node.inputs[0] != value || node.inputs.get(1) == Some(&value) => {}
                NodeKind::Op(Op::Conv2dGradWeight(Conv2dGradWeight { conv, .. })) => {
                    grad_weight = Some((reader, *conv))
                }
                NodeKind::Op(Op::Conv2dGradInput(Conv2dGradInput { conv, .. })) => grad_input = Some((reader, *conv)),
                _ => {}
            }
        }
        let Some((grad_weight, conv)) = grad_weight else { continue };
        let is_same = grad_input.is_none_or(|(_, other)| other == conv);
        let num_found = 1 + usize::from(grad_input.is_some());
        // Everything that reads the value was found: it is no output of the graph either.
        let is_whole = uses.count(value) == num_found && readers.len() == num_found;
        if is_same && is_whole && Conv2dPooledBackward::applies(&conv, pool) {
            let grad_input = grad_input.map(|(node, _)| node);
            matches.push(Match { pool_backward: index, grad_weight, grad_input });
        }
    }
    matches
}

fn replace(graph: &Graph, found: &Match, fused: &mut Graph, moved: &mut HashMap<Value, Value>) {
    let (pool_node, weight_node) = (&graph.nodes[found.pool_backward], &graph.nodes[found.grad_weight]);
    let (NodeKind::Op(Op::MaxPool2dBackward(pool)), NodeKind::Op(Op::Conv2dGradWeight(by_weight))) =
        (&pool_node.kind, &weight_node.kind)
    else {
        panic!("find() saw these nodes");
    };
    let op = Conv2dPooledBackward {
        conv: by_weight.conv,
        pool: *pool,
        weight: by_weight.weight.clone(),
        has_bias: by_weight.has_bias,
        has_input: found.grad_input.is_some(),
    };
    let mut inputs = vec![moved[&pool_node.inputs[0]], moved[&pool_node.inputs[1]], moved[&weight_node.inputs[1]]];
    inputs.extend(found.grad_input.map(|node| moved[&graph.nodes[node].inputs[1]]));
    let input_types: Vec<_> = inputs.iter().map(|&input| fused.ty(input).clone()).collect();
    let types = op.infer(&input_types).expect("the ops that it stands for were inferred");
    let input_output = types.len() - 1;
    append(fused, Node { kind: NodeKind::Op(op.into()), inputs, types, ..weight_node.clone() });
    let node = fused.nodes.len() - 1;
    for output in 0..weight_node.types.len() {
        moved.insert(graph.value(found.grad_weight, output), fused.value(node, output));
    }
    if let Some(grad_input) = found.grad_input {
        moved.insert(graph.value(grad_input, 0), fused.value(node, input_output));
    }
}

#[cfg(test)]
mod tests {
    use crate::exec::StateDict;
    use crate::graph::{Graph, Init};
    use crate::ops::{Conv2d, MaxPool2d};
    use crate::tensor::{Tensor, TensorType};
    use crate::{Device, Plan, Program, Result};

    /// Two convolutions that are pooled, the first of an input without gradient.
    fn network(pool: MaxPool2d) -> Result<Graph> {
        let mut graph = Graph::new("network");
        let x = graph.input("x", TensorType::f32([9, 2, 14, 14]))?;
        let mut parameters = Vec::new();
        let mut y = x;
        for (layer, [from, to]) in [[2, 3], [3, 17]].into_iter().enumerate() {
            let init = Init::Uniform { bound: 0.5 };
            let weight = graph.parameter(&format!("{layer}.weight"), [to, from, 3, 3], init.clone())?;
            let bias = graph.parameter(&format!("{layer}.bias"), [to], init)?;
            y = graph.conv2d(y, weight, Some(bias), Conv2d::default())?;
            y = graph.relu(y)?;
            y = graph.max_pool2d(y, pool)?;
            parameters.extend([weight, bias]);
        }
        let y = graph.square(y)?;
        let loss = graph.mean_all(y)?;
        let grads = graph.backward(loss)?;
        for (index, parameter) in parameters.into_iter().enumerate() {
            graph.output(&format!("grad {index}"), grads.get(parameter).expect("the loss depends on it"))?;
        }
        Ok(graph)
    }

    fn run(plan: &Plan, x: &Tensor) -> Result<StateDict> {
        let mut program = Program::compile(&Device::Cpu, vec![plan.clone()], 7)?;
        program.write("x", x)?;
        program.run_once("network")?;
        plan.outputs.keys().map(|name| Ok((name.clone(), program.output("network", name)?))).collect()
    }

    fn names(plan: &Plan) -> Vec<&'static str> {
        use crate::ops::Operation;
        plan.steps.iter().map(|step| step.op.name()).collect()
    }

    #[test]
    fn gradients_are_those_of_the_ops_it_stands_for() -> Result<()> {
        let graph = network(MaxPool2d::new([2, 2]))?;
        let (plain, fused) = (Plan::unfused(&graph)?, Plan::new(&graph)?);
        let found = names(&fused).iter().filter(|name| **name == "conv2d_pooled_backward").count();
        assert_eq!((found, names(&fused).contains(&"max_pool2d_backward")), (2, false), "{fused}");
        let mut x = Init::Uniform { bound: 1.0 }.tensor("x", &TensorType::f32([9, 2, 14, 14]), 3)?.expect("drawn");
        let (want, got) = (run(&plain, &x)?, run(&fused, &x)?);
        for (name, want) in &want {
            let (want, got) = (want.to_f64_vec(), got[name].to_f64_vec());
            let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            assert!(largest > 0.0);
            // Sums of up to 324 terms in another order.
            assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() <= 4e-6 * largest), "{name}: {want:?} {got:?}");
        }
        // A product of 0 and infinity is no number, and is not left out.
        let mut values = x.to_f32_vec();
        values[5] = f32::INFINITY;
        x = Tensor::f32(x.shape(), values)?;
        let bits = |dict: StateDict| -> Vec<Vec<u32>> {
            dict.values().map(|t| t.to_f32_vec().iter().map(|x| x.to_bits()).collect()).collect()
        };
        let got = run(&fused, &x)?;
        assert!(got["grad 0"].to_f32_vec().iter().any(|x| x.is_nan()));
        assert_eq!(bits(run(&plain, &x)?), bits(got));
        Ok(())
    }

    #[test]
    fn windows_that_overlap_stay_as_they_are() -> Result<()> {
        let pool = MaxPool2d { stride: [1, 1], ..MaxPool2d::new([2, 2]) };
        assert!(!names(&Plan::new(&network(pool)?)?).contains(&"conv2d_pooled_backward"));
        Ok(())
    }
}
