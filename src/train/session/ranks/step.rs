//! A step of the optimizer on several ranks: each sums the gradients of its share, all exchange these sums, and each
//! updates its parameters by the sum of all. A bucket of gradients is on its way as soon as a rank's last batch has come to
//! it, on devices that tell (`exec::exchange::Watch`).

use std::ops::Range;
use web_time::Instant;

use super::super::graphs::FOLLOW;
use super::super::part::batches;
use super::super::{Rates, Session, fill};
use super::APPLY;
use super::exchange::{Exchange, SendWhenFinal};
use crate::Result;
use crate::exec::StepTable;
use crate::optim::tree::Node;
use crate::optim::{BatchOf, StepRates};

/// A step of an epoch: its first batch and how many it has.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub first: usize,
    pub num_batches: usize,
}

/// A run of the training entry within a node.
struct Piece {
    entry: String,
    table: StepTable,
}

impl Session {
    pub(super) fn batch_of(&self, batch: usize) -> BatchOf {
        let (batch_size, num_images) = (self.train.loader.batch_size() as usize, self.images_per_epoch());
        BatchOf { batch, batch_size, num_images }
    }

    /// One step of the optimizer. Gives rank 0's `stops`.
    pub(super) fn step_together(&mut self, epoch: u64, step: Step, rates: Rates<'_>, stops: bool) -> Result<bool> {
        let mut exchange = self.ranks.exchange.take().expect("there are other ranks, and no step within a step");
        let stops = self.step_with(&mut exchange, epoch, step, (rates, stops));
        self.ranks.exchange = Some(exchange);
        stops
    }

    fn step_with(
        &mut self,
        exchange: &mut Exchange,
        epoch: u64,
        step: Step,
        (rates, stops): (Rates<'_>, bool),
    ) -> Result<bool> {
        exchange.begin(step.num_batches, &self.ranks.exchanged().gradients);
        let mut statistics = Vec::new();
        let nodes = exchange.sums.nodes(self.ranks.comm.rank());
        for (index, &node) in nodes.iter().enumerate() {
            let pieces = self.pieces(epoch, step, node, rates);
            let is_last = index + 1 == nodes.len();
            self.sum_node(node, pieces, (&mut *exchange, is_last), &mut statistics)?;
        }
        let comm = self.ranks.comm.as_mut();
        if nodes.is_empty() {
            let num_buckets = self.ranks.exchanged.as_ref().map_or(0, |exchanged| exchanged.gradients.num_parts());
            (0..num_buckets).try_for_each(|bucket| exchange.sums.send(comm, bucket, None))?;
        }
        exchange.send_notes(comm, &statistics, stops)?;
        let started = Instant::now();
        exchange.finish(comm)?;
        self.ranks.waited += started.elapsed();
        exchange.statistics().try_for_each(|statistics| self.follow(statistics))?;
        self.apply(epoch, step, rates, exchange)?;
        Ok(exchange.stops())
    }

    /// The runs that sum the gradients of a node's batches.
    fn pieces(&self, epoch: u64, step: Step, node: Node, rates: Rates<'_>) -> Vec<Piece> {
        let wanted = node.batches(step.num_batches);
        let wanted = step.first + wanted.start..step.first + wanted.end;
        let mut pieces = Vec::new();
        for (entry, batch_size, first, count) in self.train.entries() {
            let of_entry = wanted.start.max(first)..wanted.end.min(first + count);
            // Statistics are read after each batch.
            let ranges: Vec<Range<usize>> = match self.ranks.exchanged().has_statistics() {
                true => of_entry.map(|batch| batch..batch + 1).collect(),
                false => vec![of_entry],
            };
            for range in ranges.into_iter().filter(|range| !range.is_empty()) {
                let table = batches(&self.train, batch_size, range.start, range.len());
                let table = self.training_table(epoch, rates, table, range.start).constant(FOLLOW, 0.0);
                let table = table.columns(&self.update.batch_columns(), |index, row| {
                    let batch = range.start + index;
                    let mut climb = Node::leaf(batch - step.first).climb(node, step.num_batches);
                    // The node's own sum is kept, to be read.
                    climb.keep = climb.keep.or(Some(node.level));
                    fill(row, self.update.values_of_batch(self.batch_of(batch), &climb).into_iter());
                });
                pieces.push(Piece { entry: entry.clone(), table });
            }
        }
        pieces
    }

    /// Sums the gradients of a node's batches, which go to the exchange, with this rank's last node also to the others, and
    /// appends the statistics of each batch.
    fn sum_node(
        &mut self,
        node: Node,
        pieces: Vec<Piece>,
        (exchange, is_last): (&mut Exchange, bool),
        statistics: &mut Vec<u8>,
    ) -> Result<()> {
        let Session { program, ranks, .. } = self;
        let exchanged = ranks.exchanged.as_ref().expect("there are other ranks");
        let sums = &exchanged.sums[node.level];
        let num_pieces = pieces.len();
        for (index, Piece { entry, table }) in pieces.into_iter().enumerate() {
            if is_last && index + 1 == num_pieces {
                let mut watch = SendWhenFinal { exchange: &mut *exchange, comm: ranks.comm.as_mut() };
                program.run_watched(&entry, &table, sums, &mut watch)?;
            } else {
                program.run(&entry, &table)?;
            }
            if exchanged.has_statistics() {
                program.read_group(&exchanged.statistics, statistics)?;
            }
        }
        if !is_last {
            // The next node may overwrite the sums, so that they are copied.
            let mut bytes = Vec::new();
            for part in 0..sums.num_parts() {
                if let Some(lent) = sums.lend(part) {
                    exchange.sums.add_node(part, &lent);
                    continue;
                }
                if bytes.is_empty() {
                    program.read_group(sums, &mut bytes)?;
                }
                exchange.sums.add_node(part, &bytes[sums.bytes_of(part)]);
            }
        }
        Ok(())
    }

    fn follow(&mut self, statistics: &[u8]) -> Result<()> {
        self.program.write_group(&self.ranks.exchanged().statistics, statistics)?;
        self.program.run_once(FOLLOW)
    }

    /// Updates the parameters by the sum of all batches.
    fn apply(&mut self, epoch: u64, step: Step, rates: Rates<'_>, exchange: &mut Exchange) -> Result<()> {
        let Session { program, ranks, .. } = self;
        let gradients = &ranks.exchanged().gradients;
        for bucket in 0..gradients.num_parts() {
            if let Some(total) = exchange.sums.total(bucket) {
                program.write_part(gradients, bucket, total)?;
            }
        }
        let number = epoch * self.steps_per_epoch() as u64 + (step.first / self.update.accumulate()) as u64;
        let (lr, momentum) = rates(number);
        let at = StepRates { step: number, lr, momentum };
        let table = StepTable::new(1).columns(&self.update.columns(), |_, row| fill(row, self.update.values(&at)));
        self.program.run(APPLY, &table)
    }
}
