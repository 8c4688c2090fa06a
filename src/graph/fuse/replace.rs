//! Nodes for others.

use std::collections::{HashMap, HashSet};

use crate::graph::{Graph, Node, NodeKind, Value};
use crate::ops::Operation;
use crate::ops::nn::fused::{Composition, Ends, Fused, FusedKernel};

/// A fused op in place of nodes.
pub(super) struct Replacement {
    pub kernel: FusedKernel,
    /// The values that it reads.
    pub inputs: Vec<Value>,
    /// The values that it makes: all of its nodes' that others read, and no more than its kernel stores. None where the
    /// last of the nodes updates a state.
    pub outputs: Vec<Value>,
    /// The nodes that go, those of the outputs among them.
    pub nodes: Vec<usize>,
}

/// The graph with a fused op in place of each list of nodes, and every node after those that it reads. The composition is
/// what led from inputs to outputs. `None` if something between nodes that are replaced depends on them and they on it.
pub(super) fn replace(graph: &Graph, replacements: &[Replacement]) -> Option<Graph> {
    let fused_node = |replacement: &Replacement| {
        let last = replacement.nodes.iter().copied().max().expect("a replacement is of nodes");
        let (ends, like) = match replacement.outputs.first() {
            Some(&first) => (Ends::Values(&replacement.outputs), first.node as usize),
            None => (Ends::Update(last), last),
        };
        let parts = Composition::between(graph, &replacement.inputs, ends);
        let types = parts.output_types();
        let op = Fused { kernel: replacement.kernel.clone(), parts };
        let like = graph.nodes[like].clone();
        // The layer whose convolution is fused with a pooling that belongs to none.
        let scopes = replacement.nodes.iter().map(|&node| &graph.nodes[node].scope);
        let scope = std::iter::once(&like.scope).chain(scopes).find(|scope| !scope.is_empty());
        let scope = scope.cloned().unwrap_or_default();
        Node { kind: NodeKind::Op(op.into()), inputs: replacement.inputs.clone(), types, scope, ..like }
    };
    let gone: HashSet<usize> = replacements.iter().flat_map(|replacement| replacement.nodes.iter().copied()).collect();
    let mut first: HashMap<usize, &Replacement> = HashMap::new();
    for replacement in replacements {
        let place = replacement.nodes.iter().copied().min().expect("a replacement is of nodes");
        first.insert(place, replacement);
    }
    let mut waiting = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some(replacement) = first.get(&index) {
            waiting.push((fused_node(replacement), replacement.outputs.clone()));
        }
        if !gone.contains(&index) {
            let outputs = (0..node.types.len()).map(|output| graph.value(index, output)).collect();
            waiting.push((node.clone(), outputs));
        }
    }
    drop_unused(&mut waiting, graph, &gone, replacements);
    let mut fused = Graph { nodes: Vec::with_capacity(waiting.len()), ..graph.clone() };
    let mut moved: HashMap<Value, Value> = HashMap::new();
    // A fused op stands where the first of its nodes stood, so that some of what it reads may come later: the first of
    // the nodes that has all it reads is next.
    while !waiting.is_empty() {
        let is_ready = |(node, _): &(Node, Vec<Value>)| node.inputs.iter().all(|input| moved.contains_key(input));
        let next = waiting.iter().position(is_ready)?;
        let (mut node, outputs) = waiting.remove(next);
        node.inputs.iter_mut().for_each(|input| *input = moved[input]);
        fused.nodes.push(node);
        for (output, value) in outputs.into_iter().enumerate() {
            moved.insert(value, fused.value(fused.nodes.len() - 1, output));
        }
    }
    super::rename(&mut fused, &moved);
    Some(fused)
}

/// Drops nodes that read what goes and is made by no replacement: other shapes of it, which nobody reads.
fn drop_unused(
    waiting: &mut Vec<(Node, Vec<Value>)>,
    graph: &Graph,
    gone: &HashSet<usize>,
    replacements: &[Replacement],
) {
    let made: HashSet<Value> =
        replacements.iter().flat_map(|replacement| replacement.outputs.iter().copied()).collect();
    let of = |&node: &usize| (0..graph.nodes[node].types.len()).map(move |output| graph.value(node, output));
    let mut lost: HashSet<Value> = gone.iter().flat_map(of).filter(|value| !made.contains(value)).collect();
    loop {
        let before = waiting.len();
        waiting.retain(|(node, outputs)| {
            let is_lost = node.inputs.iter().any(|input| lost.contains(input));
            if is_lost {
                let is_free = matches!(&node.kind, NodeKind::Op(op) if op.updates().is_empty());
                assert!(is_free, "a state's update reads what a fused op does not give");
                lost.extend(outputs);
            }
            !is_lost
        });
        if waiting.len() == before {
            return;
        }
    }
}
