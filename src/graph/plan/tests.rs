//! Slots against what values mean: a plan is run on formulas instead of numbers.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::*;
use crate::rng::Stream;

/// A value as a formula: the op that made it and the formulas of what it was made from. Two values have the same
/// one only if they hold the same numbers.
fn formula(op: &str, inputs: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (op, inputs).hash(&mut hasher);
    hasher.finish()
}

/// A graph of random ops over values of several sizes, some read many times and some never, with aliases of
/// aliases, and a few outputs. Two thirds of the graphs have gradients, whose reads reach far back.
fn random_graph(seed: u64) -> Graph {
    let mut stream = Stream::new(seed, 0);
    let mut graph = Graph::new("random");
    let mut values: Vec<Value> =
        (1..4).map(|index| graph.input_with_grad(&format!("input {index}"), [6, index]).expect("a new name")).collect();
    for _ in 0..5 + stream.next_below(25) {
        let mut pick = || values[stream.next_below(values.len() as u32) as usize];
        let (a, b) = (pick(), pick());
        let value = match stream.next_below(7) {
            0 => graph.tanh(a),
            1 => graph.add(a, b).or_else(|_| graph.exp(b)),
            2 => graph.mul(a, b).or_else(|_| graph.square(a)),
            3 => graph.flatten(a, 0),
            4 => graph.detach(a),
            5 if graph.shape(a).rank() == 2 => graph.transpose(a, 0, 1),
            5 => graph.copy(a),
            _ => {
                let axes: Vec<usize> = (1..graph.shape(a).rank()).collect();
                graph.sum(a, &axes, true)
            }
        };
        values.push(value.expect("operands were chosen to fit"));
    }
    for (index, &value) in values.iter().enumerate() {
        if index + 1 == values.len() || stream.next_below(6) == 0 {
            graph.output(&format!("output {index}"), value).expect("a new name");
        }
    }
    let last = *values.last().expect("there are inputs");
    if stream.next_below(3) > 0 && graph.requires_grad(last) {
        let loss = graph.sum_all(last).expect("there are elements");
        let grads = graph.backward(loss).expect("the loss depends on an input");
        for (index, &value) in values[..3].iter().enumerate() {
            if let Some(grad) = grads.get(value) {
                graph.output(&format!("grad {index}"), grad).expect("a new name");
            }
        }
    }
    graph
}

/// What every value of a graph is, without any plan.
fn formulas(graph: &Graph) -> HashMap<Value, u64> {
    let mut formulas = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<u64> = node.inputs.iter().map(|input| formulas[input]).collect();
        for output in 0..node.types.len() {
            let made = match &node.kind {
                NodeKind::Op(op) if op.is_alias() => inputs[0],
                NodeKind::Op(op) => formula(&format!("{op:?} {output}"), &inputs),
                NodeKind::State(spec) => formula(&spec.name, &[]),
                NodeKind::Scalar(name) => formula(name, &[]),
                NodeKind::Constant(tensor) => formula(&format!("{tensor:?}"), &[]),
            };
            formulas.insert(graph.value(index, output), made);
        }
    }
    formulas
}

/// Runs a plan on formulas instead of numbers and gives those of its outputs. A slot that is written while its
/// value still matters makes a formula downstream come out wrong.
fn run(plan: &Plan) -> BTreeMap<String, u64> {
    let mut memory: HashMap<Storage, u64> = HashMap::new();
    for (index, state) in plan.states.iter().enumerate() {
        memory.insert(Storage::State(index), formula(&state.name, &[]));
    }
    for (index, tensor) in plan.constants.iter().enumerate() {
        memory.insert(Storage::Constant(index), formula(&format!("{tensor:?}"), &[]));
    }
    for step in &plan.steps {
        let inputs: Vec<u64> = step.inputs.iter().map(|input| memory[&input.storage]).collect();
        let outputs: BTreeSet<String> = step.outputs.iter().map(|output| format!("{:?}", output.storage)).collect();
        assert_eq!(outputs.len(), step.outputs.len(), "outputs of one step lie apart");
        for (output, operand) in step.outputs.iter().enumerate() {
            // A device reads inputs while it writes outputs.
            assert!(
                step.inputs.iter().all(|input| input.storage != operand.storage),
                "{} writes over its input",
                step.label()
            );
            if let Storage::Slot(slot) = operand.storage {
                let slot = plan.slots[slot];
                assert!(slot.dtype == operand.ty.dtype && slot.num_elems >= operand.ty.shape.num_elems());
            }
            memory.insert(operand.storage, formula(&format!("{:?} {output}", step.op), &inputs));
        }
    }
    plan.outputs.iter().map(|(name, operand)| (name.clone(), memory[&operand.storage])).collect()
}

#[test]
fn slots_are_shared_only_between_values_that_never_live_together() {
    let mut num_shared = 0;
    for seed in 0..500 {
        let graph = random_graph(seed);
        let plan = Plan::new(&graph).expect("the graph is sound");
        let formulas = formulas(&graph);
        let want: BTreeMap<String, u64> =
            graph.outputs.iter().map(|(name, value)| (name.clone(), formulas[value])).collect();
        assert_eq!(run(&plan), want, "seed {seed}:\n{plan}");
        for gpu in [GpuTraits::GPU, GpuTraits::SOFTWARE] {
            let plan = plan.for_gpu(gpu).expect("the graph is sound");
            assert_eq!(run(&plan), want, "seed {seed}, {gpu:?}:\n{plan}");
        }
        num_shared += usize::from(plan.slot_bytes() < plan.unshared_bytes);
    }
    assert!(num_shared > 250, "slots are shared in {num_shared} of 500 graphs only");
}
