//! The order of ops on a device that runs several at once: by level. Ops of one level need nothing of each other, so none
//! of them but the first has to wait.

use std::collections::HashMap;

use crate::graph::{Graph, NodeKind, Value};
use crate::ops::Operation;

/// The nodes in the order of their levels. Within a level those come first that read the most of what nobody has read
/// before: the first reader of a buffer waits for its writer, and whoever follows finds it done.
pub(super) fn sorted(graph: &Graph, live: &[usize]) -> Vec<usize> {
    let levels = levels(graph, live);
    let mut first_read: HashMap<Value, usize> = HashMap::new();
    for &node in live {
        for &input in &graph.nodes[node].inputs {
            let first = first_read.entry(graph.root(input)).or_insert(usize::MAX);
            *first = levels[&node].min(*first);
        }
    }
    let key = |&node: &usize| {
        let level = levels[&node];
        let mut roots: Vec<Value> = graph.nodes[node].inputs.iter().map(|&input| graph.root(input)).collect();
        roots.sort_by_key(|value| (value.node, value.output));
        roots.dedup();
        let num_fresh = roots.iter().filter(|root| first_read[root] == level).count();
        // A value under another shape follows the one that computes it.
        let is_alias = matches!(&graph.nodes[node].kind, NodeKind::Op(op) if op.is_alias());
        (level, is_alias, std::cmp::Reverse(num_fresh), node)
    };
    let mut sorted = live.to_vec();
    sorted.sort_by_key(key);
    sorted
}

/// The level of each node: 0 for leaves, else one more than the highest of what has to come before. An op that updates a
/// value in place comes after all that read what it was.
fn levels(graph: &Graph, live: &[usize]) -> HashMap<usize, usize> {
    let mut levels: HashMap<usize, usize> = HashMap::new();
    let (mut written, mut read): (HashMap<Value, usize>, HashMap<Value, usize>) = (HashMap::new(), HashMap::new());
    for &index in live {
        let node = &graph.nodes[index];
        let NodeKind::Op(op) = &node.kind else {
            levels.insert(index, 0);
            continue;
        };
        let writer = |written: &HashMap<Value, usize>, value: Value| {
            written.get(&value).copied().unwrap_or_else(|| levels[&(value.node as usize)])
        };
        if op.is_alias() {
            let level = writer(&written, graph.root(node.inputs[0]));
            levels.insert(index, level);
            continue;
        }
        let updates = op.updates();
        let mut level = 1;
        for (place, &input) in node.inputs.iter().enumerate() {
            let root = graph.root(input);
            level = level.max(writer(&written, root) + 1);
            if updates.contains(&place) {
                level = level.max(read.get(&root).copied().unwrap_or(0) + 1);
            }
        }
        levels.insert(index, level);
        for (place, &input) in node.inputs.iter().enumerate() {
            let uses = if updates.contains(&place) { &mut written } else { &mut read };
            let last = uses.entry(graph.root(input)).or_insert(level);
            *last = level.max(*last);
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::tensor::TensorType;

    /// Two chains beside each other, of two ops and of one, that meet: the graph has one chain after the other.
    #[test]
    fn chains_beside_each_other_are_taken_in_turn() -> Result<()> {
        let mut graph = Graph::new("chains");
        let x = graph.input("x", TensorType::f32([4]))?;
        let a = graph.exp(x)?;
        let b = graph.exp(a)?;
        let c = graph.square(x)?;
        let flat = graph.reshape(c, [2, 2])?;
        let d = graph.square(flat)?;
        let d = graph.reshape(d, [4])?;
        let sum = graph.add(b, d)?;
        let live: Vec<usize> = (0..graph.nodes.len()).collect();
        let order: Vec<usize> = sorted(&graph, &live);
        let nodes = [x, a, c, flat, b, graph.node(d).inputs[0], d, sum].map(|value| value.node as usize);
        assert_eq!(order, nodes);
        Ok(())
    }
}
