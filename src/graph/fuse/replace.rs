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

/// The graph with as many of these replacements as can be made together.
pub(super) fn replace_most(graph: &Graph, mut replacements: Vec<Replacement>) -> Graph {
    loop {
        match try_replace(graph, &replacements) {
            Ok(fused) => return fused,
            Err(Stuck { replacement }) => replacements.swap_remove(replacement),
        };
    }
}

/// The graph with a fused op in place of each list of nodes, and every node after those that it reads. The composition is
/// what led from inputs to outputs. `None` if something between nodes that are replaced depends on them and they on it.
pub(super) fn replace(graph: &Graph, replacements: &[Replacement]) -> Option<Graph> {
    try_replace(graph, replacements).ok()
}

/// A node that waits for its place.
struct Waiting {
    node: Node,
    /// What stands for its outputs in the graph before.
    outputs: Vec<Value>,
    /// The nodes of the graph before that it is or replaces.
    of: Vec<usize>,
    replacement: Option<usize>,
}

/// One of the replacements that wait for each other.
struct Stuck {
    replacement: usize,
}

fn try_replace(graph: &Graph, replacements: &[Replacement]) -> Result<Graph, Stuck> {
    let gone: HashSet<usize> = replacements.iter().flat_map(|replacement| replacement.nodes.iter().copied()).collect();
    let mut first: HashMap<usize, usize> = HashMap::new();
    for (index, replacement) in replacements.iter().enumerate() {
        let place = replacement.nodes.iter().copied().min().expect("a replacement is of nodes");
        first.insert(place, index);
    }
    let mut waiting = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some(&place) = first.get(&index) {
            let replacement = &replacements[place];
            let outputs = replacement.outputs.clone();
            let of = replacement.nodes.clone();
            waiting.push(Waiting { node: fused_node(graph, replacement), outputs, of, replacement: Some(place) });
        }
        if !gone.contains(&index) {
            let outputs = (0..node.types.len()).map(|output| graph.value(index, output)).collect();
            waiting.push(Waiting { node: node.clone(), outputs, of: vec![index], replacement: None });
        }
    }
    drop_unused(&mut waiting, graph, &gone, replacements);
    let turns = turns(graph);
    let mut is_waiting = vec![false; graph.nodes.len()];
    waiting.iter().flat_map(|waiting| &waiting.of).for_each(|&node| is_waiting[node] = true);
    let mut fused = Graph { nodes: Vec::with_capacity(waiting.len()), ..graph.clone() };
    let mut moved: HashMap<Value, Value> = HashMap::new();
    // A fused op stands where the first of its nodes stood, so that some of what it reads may come later: the first of
    // the nodes that has all it reads, and whose turn it is, is next.
    while !waiting.is_empty() {
        let is_ready = |Waiting { node, of, .. }: &Waiting| {
            let mut before = of.iter().flat_map(|&node| &turns[node]);
            node.inputs.iter().all(|input| moved.contains_key(input))
                && before.all(|node| !is_waiting[*node] || of.contains(node))
        };
        let Some(next) = waiting.iter().position(is_ready) else {
            let replacement = waiting.iter().find_map(|waiting| waiting.replacement);
            return Err(Stuck { replacement: replacement.expect("a graph without fused ops is in order") });
        };
        let Waiting { mut node, outputs, of, .. } = waiting.remove(next);
        node.inputs.iter_mut().for_each(|input| *input = moved[input]);
        fused.nodes.push(node);
        of.into_iter().for_each(|node| is_waiting[node] = false);
        for (output, value) in outputs.into_iter().enumerate() {
            moved.insert(value, fused.value(fused.nodes.len() - 1, output));
        }
    }
    super::rename(&mut fused, &moved);
    Ok(fused)
}

fn fused_node(graph: &Graph, replacement: &Replacement) -> Node {
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
}

/// For each node, those that it comes after although it may read nothing of theirs: who updates a value in place comes
/// after who read or updated it before, and who reads it after who updated it.
fn turns(graph: &Graph) -> Vec<Vec<usize>> {
    /// Who updated a value last, and who has read it since.
    #[derive(Default)]
    struct Use {
        writer: Option<usize>,
        readers: Vec<usize>,
    }
    let mut uses: HashMap<Value, Use> = HashMap::new();
    let mut turns = vec![Vec::new(); graph.nodes.len()];
    for index in in_turn(graph) {
        let node = &graph.nodes[index];
        let NodeKind::Op(op) = &node.kind else { continue };
        if op.is_alias() {
            continue;
        }
        let updates = op.updates();
        for (place, &input) in node.inputs.iter().enumerate() {
            let used = uses.entry(graph.root(input)).or_default();
            turns[index].extend(used.writer);
            if updates.contains(&place) {
                turns[index].append(&mut used.readers);
                used.writer = Some(index);
            } else {
                used.readers.push(index);
            }
        }
        turns[index].retain(|&before| before != index);
    }
    turns
}

/// The nodes in the order in which they take their turns: as they stand, but for those that a rewrite appended for others
/// before them, which come just before the first of these.
fn in_turn(graph: &Graph) -> Vec<usize> {
    let mut places: Vec<usize> = (0..graph.nodes.len()).collect();
    loop {
        let before = places.clone();
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            for input in &node.inputs {
                let place = &mut places[input.node as usize];
                *place = before[index].min(*place);
            }
        }
        if places == before {
            break;
        }
    }
    let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
    // One that stays where it is comes last of those in its place.
    order.sort_by_key(|&index| (places[index], places[index] == index, index));
    order
}

/// Drops nodes that read what goes and is made by no replacement: other shapes of it, which nobody reads.
fn drop_unused(waiting: &mut Vec<Waiting>, graph: &Graph, gone: &HashSet<usize>, replacements: &[Replacement]) {
    let made: HashSet<Value> =
        replacements.iter().flat_map(|replacement| replacement.outputs.iter().copied()).collect();
    let of = |&node: &usize| (0..graph.nodes[node].types.len()).map(move |output| graph.value(node, output));
    let mut lost: HashSet<Value> = gone.iter().flat_map(of).filter(|value| !made.contains(value)).collect();
    loop {
        let before = waiting.len();
        waiting.retain(|Waiting { node, outputs, .. }| {
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
