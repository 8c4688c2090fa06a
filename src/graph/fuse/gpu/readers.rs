//! Who reads what, whatever shape it is read under.

use std::collections::{HashMap, HashSet};

use crate::graph::{Graph, NodeKind, Value};
use crate::ops::Operation;

/// The readers of each value.
pub(super) struct Readers<'a> {
    graph: &'a Graph,
    of: HashMap<Value, Vec<usize>>,
    outputs: HashSet<Value>,
}

impl<'a> Readers<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        let mut readers = Readers { graph, of: HashMap::new(), outputs: HashSet::new() };
        for (index, node) in graph.nodes.iter().enumerate() {
            if matches!(&node.kind, NodeKind::Op(op) if op.is_alias()) {
                continue;
            }
            for &input in &node.inputs {
                let of = readers.of.entry(graph.root(input)).or_default();
                // A node that reads a value twice is one reader.
                if of.last() != Some(&index) {
                    of.push(index);
                }
            }
        }
        readers.outputs = graph.outputs.values().map(|&output| graph.root(output)).collect();
        readers
    }

    /// The value whose memory this one has.
    pub fn root(&self, value: Value) -> Value {
        self.graph.root(value)
    }

    /// The nodes that read a value under any shape, in order.
    pub fn of(&self, value: Value) -> &[usize] {
        self.of.get(&self.root(value)).map_or(&[], Vec::as_slice)
    }

    /// Whether only these nodes read a value, which is no output of the graph.
    pub fn are_only(&self, value: Value, nodes: &[usize]) -> bool {
        !self.is_output(value) && self.of(value).iter().all(|reader| nodes.contains(reader))
    }

    /// Whether the graph keeps a value for reading.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.contains(&self.root(value))
    }
}
