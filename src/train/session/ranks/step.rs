//! A step of the optimizer on several ranks: each sums the gradients of its share, all exchange these sums, and each takes
//! them on through the tree.

use std::ops::Range;
use web_time::Instant;

use super::super::graphs::FOLLOW;
use super::super::part::batches;
use super::super::{Rates, Session, fill};
use super::{APPLY, Ranks};
use crate::Result;
use crate::exec::StepTable;
use crate::optim::tree::{self, Node};
use crate::optim::{BatchOf, StepRates};

/// A step of an epoch: its first batch and how many it has.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub first: usize,
    pub num_batches: usize,
}

/// What one rank tells all others in a step: the sums of its nodes, the statistics of its batches, and whether it wants to
/// stop. It has the same length on every rank.
#[derive(Clone, Copy)]
struct Message {
    num_ranks: usize,
    num_batches: usize,
    sum_len: usize,
    statistics_len: usize,
    most_nodes: usize,
    most_batches: usize,
}

impl Message {
    fn share(&self, rank: usize) -> Range<usize> {
        tree::share(self.num_batches, rank, self.num_ranks)
    }

    /// The nodes of the tree that a rank sums.
    fn nodes(&self, rank: usize) -> Vec<Node> {
        tree::nodes(self.share(rank), self.num_batches)
    }

    fn sums_len(&self) -> usize {
        self.most_nodes * self.sum_len
    }

    fn len(&self) -> usize {
        self.sums_len() + self.most_batches * self.statistics_len + 1
    }

    /// A rank's message, given its sums.
    fn complete(&self, sums: &mut Vec<u8>, statistics: &[u8], stops: bool) {
        sums.resize(self.sums_len(), 0);
        sums.extend_from_slice(statistics);
        sums.resize(self.len() - 1, 0);
        sums.push(u8::from(stops));
    }

    fn of<'a>(&self, all: &'a [u8], rank: usize) -> &'a [u8] {
        &all[rank * self.len()..][..self.len()]
    }

    fn sums_of<'a>(&self, all: &'a [u8], rank: usize) -> impl Iterator<Item = (Node, &'a [u8])> + use<'a> {
        self.nodes(rank).into_iter().zip(self.of(all, rank).chunks_exact(self.sum_len))
    }

    fn statistics_of<'a>(&self, all: &'a [u8], rank: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let statistics = &self.of(all, rank)[self.sums_len()..self.len() - 1];
        statistics.chunks_exact(self.statistics_len.max(1)).take(self.share(rank).len())
    }

    /// Whether rank 0 wants to stop.
    fn stops(&self, all: &[u8]) -> bool {
        self.of(all, 0)[self.len() - 1] != 0
    }
}

impl Ranks {
    fn message(&self, step: Step) -> Message {
        let (num_ranks, num_batches) = (self.comm.size(), step.num_batches);
        let most = |of: &dyn Fn(Range<usize>) -> usize| {
            (0..num_ranks).map(|rank| of(tree::share(num_batches, rank, num_ranks))).max().unwrap_or(0)
        };
        Message {
            num_ranks,
            num_batches,
            sum_len: self.exchanged().gradients.num_bytes(),
            statistics_len: self.exchanged().statistics.num_bytes(),
            most_nodes: most(&|share| tree::nodes(share, num_batches).len()),
            most_batches: most(&|share| share.len()),
        }
    }
}

impl Session {
    pub(super) fn batch_of(&self, batch: usize) -> BatchOf {
        let (batch_size, num_images) = (self.train.loader.batch_size() as usize, self.images_per_epoch());
        BatchOf { batch, batch_size, num_images }
    }

    /// One step of the optimizer. Gives rank 0's `stops`.
    pub(super) fn step_together(&mut self, epoch: u64, step: Step, rates: Rates<'_>, stops: bool) -> Result<bool> {
        let message = self.ranks.message(step);
        let mut mine = std::mem::take(&mut self.ranks.mine);
        let mut statistics = Vec::new();
        mine.clear();
        for node in message.nodes(self.ranks.comm.rank()) {
            self.sum_node(epoch, step, node, rates, &mut statistics)?;
            self.program.read_group(&self.ranks.exchanged().sums[node.level], &mut mine)?;
        }
        message.complete(&mut mine, &statistics, stops);
        let started = Instant::now();
        let all = self.ranks.all_gather(&mine)?;
        self.ranks.waited += started.elapsed();
        for rank in 0..message.num_ranks {
            message.statistics_of(&all, rank).try_for_each(|statistics| self.follow(statistics))?;
        }
        for rank in 0..message.num_ranks {
            message.sums_of(&all, rank).try_for_each(|(node, sum)| self.apply(epoch, step, node, (rates, sum)))?;
        }
        let stops = message.stops(&all);
        // Memory for the next step.
        (self.ranks.mine, self.ranks.all) = (mine, all);
        Ok(stops)
    }

    /// Sums the gradients of a node's batches, and appends the statistics of each.
    fn sum_node(
        &mut self,
        epoch: u64,
        step: Step,
        node: Node,
        rates: Rates<'_>,
        statistics: &mut Vec<u8>,
    ) -> Result<()> {
        let wanted = node.batches(step.num_batches);
        let wanted = step.first + wanted.start..step.first + wanted.end;
        let has_statistics = self.ranks.exchanged().statistics.num_bytes() > 0;
        for (entry, batch_size, first, count) in self.train.entries() {
            let of_entry = wanted.start.max(first)..wanted.end.min(first + count);
            // Statistics are read after each batch.
            let pieces: Vec<Range<usize>> = match has_statistics {
                true => of_entry.map(|batch| batch..batch + 1).collect(),
                false => vec![of_entry],
            };
            for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                let table = batches(&self.train, batch_size, piece.start, piece.len());
                let table = self.training_table(epoch, rates, table, piece.start).constant(FOLLOW, 0.0);
                let table = table.columns(&self.update.batch_columns(), |index, row| {
                    let batch = piece.start + index;
                    let mut climb = Node::leaf(batch - step.first).climb(node, step.num_batches);
                    // The node's own sum is kept, to be read.
                    climb.keep = climb.keep.or(Some(node.level));
                    fill(row, self.update.values_of_batch(self.batch_of(batch), &climb).into_iter());
                });
                self.program.run(&entry, &table)?;
                if has_statistics {
                    self.program.read_group(&self.ranks.exchanged().statistics, statistics)?;
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, statistics: &[u8]) -> Result<()> {
        let exchanged = self.ranks.exchanged();
        if exchanged.statistics.num_bytes() == 0 {
            return Ok(());
        }
        self.program.write_group(&exchanged.statistics, statistics)?;
        self.program.run_once(FOLLOW)
    }

    /// Takes a node's sum on through the tree; with the last one the parameters are updated.
    fn apply(&mut self, epoch: u64, step: Step, node: Node, (rates, sum): (Rates<'_>, &[u8])) -> Result<()> {
        let climb = node.climb(Node::root(step.num_batches), step.num_batches);
        let exchanged = self.ranks.exchanged();
        if let (true, Some(level)) = (climb.merges.is_empty(), climb.keep) {
            return self.program.write_group(&exchanged.sums[level], sum);
        }
        self.program.write_group(&exchanged.gradients, sum)?;
        let number = epoch * self.steps_per_epoch() as u64 + (step.first / self.update.accumulate()) as u64;
        let (lr, momentum) = rates(number);
        let values = self.update.values(&StepRates { step: number, lr, momentum });
        let values: Vec<f64> = values.chain(self.update.climb_values(&climb)).collect();
        let names: Vec<String> = self.update.columns().into_iter().chain(self.update.climb_columns()).collect();
        let table = StepTable::new(1).columns(&names, |_, row| row.copy_from_slice(&values));
        self.program.run(APPLY, &table)
    }
}
