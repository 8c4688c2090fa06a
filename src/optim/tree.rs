//! The tree in which the gradients of a step's batches are summed: always the same one, whoever sums which part of it.
//!
//! Floating-point addition is not associative, so a sum has the same bits everywhere only if it is rounded in the same
//! order. Batches 0 to n − 1 of a step are the leaves of a binary tree, aligned as in a segment tree: a node at level l
//! covers batches i·2^l up to (i + 1)·2^l, those of them that exist, and is the sum of its left half and its right half,
//! or the left half alone where the right one is empty. One process climbs it leaf by leaf, keeping one sum a level.
//! Several processes sum nodes that lie within their share of the batches, exchange these, and climb from them on.

use std::ops::Range;

/// Batches `index << level` up to `(index + 1) << level` of a step, as far as the step has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub level: usize,
    pub index: usize,
}

/// What becomes of a node's sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Climb {
    /// The levels at which it is merged with the sum of the sibling to its left, in ascending order.
    pub merges: Vec<usize>,
    /// The level at which it is kept until the sibling to its right is there; `None` where it has arrived.
    pub keep: Option<usize>,
}

impl Node {
    pub fn leaf(batch: usize) -> Node {
        Node { level: 0, index: batch }
    }

    /// The sum of all batches of a step.
    pub fn root(num_batches: usize) -> Node {
        Node { level: num_levels(num_batches), index: 0 }
    }

    fn parent(self) -> Node {
        Node { level: self.level + 1, index: self.index / 2 }
    }

    /// The batches that it is the sum of, in a step of `num_batches`.
    pub fn batches(self, num_batches: usize) -> Range<usize> {
        let end = (self.index + 1) << self.level;
        (self.index << self.level).min(num_batches)..end.min(num_batches)
    }

    /// The way of this node's sum up to `target`, which it lies within.
    pub fn climb(self, target: Node, num_batches: usize) -> Climb {
        let (mut node, mut merges) = (self, Vec::new());
        while node != target {
            let is_left = node.index.is_multiple_of(2);
            if is_left && (node.index + 1) << node.level < num_batches {
                return Climb { merges, keep: Some(node.level) };
            }
            if !is_left {
                merges.push(node.level);
            }
            node = node.parent();
        }
        Climb { merges, keep: None }
    }
}

/// Levels of sums that are kept while a step of so many batches is summed: ⌈log₂ n⌉.
pub(crate) fn num_levels(num_batches: usize) -> usize {
    num_batches.next_power_of_two().trailing_zeros() as usize
}

/// The batches of one of `num_ranks` processes in a step of `num_batches`: consecutive, and as many as the others' up to
/// one.
pub(crate) fn share(num_batches: usize, rank: usize, num_ranks: usize) -> Range<usize> {
    let start = |rank: usize| (num_batches * rank).div_ceil(num_ranks);
    start(rank)..start(rank + 1)
}

/// The largest nodes that together are these batches of a step, in order.
pub(crate) fn nodes(batches: Range<usize>, num_batches: usize) -> Vec<Node> {
    let (mut start, mut nodes) = (batches.start, Vec::new());
    while start < batches.end {
        let fits = |&level: &usize| {
            let node = Node { level, index: start >> level };
            start.is_multiple_of(1 << level) && node.batches(num_batches).end <= batches.end
        };
        let level = (0..=num_levels(num_batches)).rev().find(fits).unwrap_or(0);
        let node = Node { level, index: start >> level };
        start = node.batches(num_batches).end;
        nodes.push(node);
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums leaves as a program does, with one kept sum a level; texts in place of numbers show the order.
    fn sum(sums: &mut [Option<String>], value: String, climb: &Climb) -> Option<String> {
        let add = |value: String, level: &usize| format!("({}+{value})", sums[*level].clone().expect("a kept sum"));
        let value = climb.merges.iter().fold(value, add);
        match climb.keep {
            Some(level) => {
                sums[level] = Some(value);
                None
            }
            None => Some(value),
        }
    }

    /// A step by one process.
    fn alone(num_batches: usize) -> String {
        let mut sums = vec![None; num_levels(num_batches)];
        let mut results = (0..num_batches).filter_map(|batch| {
            sum(&mut sums, batch.to_string(), &Node::leaf(batch).climb(Node::root(num_batches), num_batches))
        });
        let result = results.next().expect("the last batch completes the sum");
        assert!(results.next().is_none(), "only the last batch does");
        result
    }

    /// A step by several: each sums the nodes of its share, then one climbs on from all of them.
    fn together(num_batches: usize, num_ranks: usize) -> String {
        let mut sums = vec![None; num_levels(num_batches)];
        let mut result = None;
        for rank in 0..num_ranks {
            for node in nodes(share(num_batches, rank, num_ranks), num_batches) {
                let mut own = vec![None; num_levels(num_batches)];
                let done = node
                    .batches(num_batches)
                    .filter_map(|batch| sum(&mut own, batch.to_string(), &Node::leaf(batch).climb(node, num_batches)));
                let done: Vec<String> = done.collect();
                assert_eq!(done.len(), 1, "a node is complete once");
                assert!(result.is_none(), "nothing comes after the last node");
                result = sum(&mut sums, done[0].clone(), &node.climb(Node::root(num_batches), num_batches));
            }
        }
        result.expect("the last node completes the sum")
    }

    #[test]
    fn the_tree_is_balanced_and_aligned_to_the_left() {
        assert_eq!(alone(1), "0");
        assert_eq!(alone(2), "(0+1)");
        assert_eq!(alone(3), "((0+1)+2)");
        assert_eq!(alone(5), "(((0+1)+(2+3))+4)");
        assert_eq!(alone(7), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn any_number_of_ranks_sums_in_the_same_tree() {
        for num_batches in 1..=33 {
            let expected = alone(num_batches);
            for num_ranks in 1..=num_batches + 2 {
                assert_eq!(together(num_batches, num_ranks), expected, "{num_batches} batches on {num_ranks} ranks");
            }
        }
    }

    #[test]
    fn shares_differ_by_one_batch_at_most_and_are_few_nodes() {
        for (num_batches, num_ranks) in [(8, 3), (8, 8), (5, 2), (3, 8), (64, 6)] {
            let shares: Vec<Range<usize>> = (0..num_ranks).map(|rank| share(num_batches, rank, num_ranks)).collect();
            assert_eq!((shares[0].start, shares[num_ranks - 1].end), (0, num_batches));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sizes: Vec<usize> = shares.iter().map(Range::len).collect();
            assert!(sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0) <= 1, "{sizes:?}");
            let most = 2 * num_levels(num_batches);
            assert!(shares.iter().all(|share| nodes(share.clone(), num_batches).len() <= most.max(1)));
        }
        assert_eq!(nodes(0..4, 8), [Node { level: 2, index: 0 }]);
        assert_eq!(nodes(3..6, 8), [Node { level: 0, index: 3 }, Node { level: 1, index: 2 }]);
    }
}
