//! What ranks exchange in a step of the optimizer: the sums of gradients, bucket by bucket as they are complete, and at the
//! end notes from each rank: the statistics of its batches, and rank 0's whether to stop.

use std::ops::Range;

use crate::Result;
use crate::dist::{Addition, Bytes, Comm, Message, Region, Transfer, TreeSum};
use crate::exec::exchange::{Final, StateGroup, Watch};
use crate::optim::tree;

/// The tags of transfers.
const NOTES_TAG: u16 = 1;
const FIRST_SUM_TAG: u16 = 2;

/// The exchange of one step after the other.
pub(super) struct Exchange {
    pub sums: TreeSum,
    notes: Notes,
}

/// A note from every rank, one after the other.
struct Notes {
    rank: usize,
    num_ranks: usize,
    num_batches: usize,
    /// Bytes of the statistics of a batch.
    statistics_len: usize,
    /// Empty while they are on their way.
    all: Bytes,
    is_done: bool,
}

/// Sends off each bucket of this rank's last node when it is complete.
pub(super) struct SendWhenFinal<'a> {
    pub exchange: &'a mut Exchange,
    pub comm: &'a mut dyn Comm,
}

impl Exchange {
    /// For gradients in buckets, the parts of a group.
    pub fn new(comm: &dyn Comm, addition: Addition, gradients: &StateGroup, statistics_len: usize) -> Exchange {
        let lens = (0..gradients.num_parts()).map(|bucket| gradients.bytes_of(bucket).len());
        let (rank, num_ranks) = (comm.rank(), comm.size());
        Exchange {
            sums: TreeSum::new(comm, addition, lens, FIRST_SUM_TAG),
            notes: Notes { rank, num_ranks, num_batches: 0, statistics_len, all: Bytes::default(), is_done: false },
        }
    }

    /// Begins a step of so many batches. Sums of gradients go to the memory of `gradients`, where it can be lent.
    pub fn begin(&mut self, num_batches: usize, gradients: &StateGroup) {
        self.sums.begin(num_batches, |bucket| gradients.lend(bucket));
        (self.notes.num_batches, self.notes.is_done) = (num_batches, false);
    }

    /// The statistics of this rank's batches, one after the other, and whether it wants to stop.
    pub fn send_notes(&mut self, comm: &mut dyn Comm, statistics: &[u8], stops: bool) -> Result<()> {
        let transfer = self.notes.transfer(statistics, stops);
        comm.start(transfer)
    }

    /// Takes what has arrived, without waiting.
    pub fn progress(&mut self, comm: &mut dyn Comm) -> Result<()> {
        while let Some(transfer) = comm.test()? {
            self.take(comm, transfer)?;
        }
        Ok(())
    }

    /// Waits until everything has arrived.
    pub fn finish(&mut self, comm: &mut dyn Comm) -> Result<()> {
        while !(self.notes.is_done && self.sums.is_done()) {
            let transfer = comm.wait()?.expect("what is missing is on its way");
            self.take(comm, transfer)?;
        }
        Ok(())
    }

    fn take(&mut self, comm: &mut dyn Comm, mut transfer: Transfer) -> Result<()> {
        if transfer.tag != NOTES_TAG {
            return self.sums.take(comm, transfer);
        }
        if let Some(Region::Own(all)) = transfer.memory.pop() {
            (self.notes.all, self.notes.is_done) = (all, true);
        }
        Ok(())
    }

    /// The statistics of all batches in their order.
    pub fn statistics(&self) -> impl Iterator<Item = &[u8]> {
        let of_rank =
            |rank| self.notes.all[self.notes.statistics_of(rank)].chunks_exact(self.notes.statistics_len.max(1));
        (0..self.notes.num_ranks).flat_map(of_rank)
    }

    /// Whether rank 0 wants to stop.
    pub fn stops(&self) -> bool {
        self.notes.all[self.notes.note_of(0).end - 1] != 0
    }
}

impl Notes {
    fn statistics_of(&self, rank: usize) -> Range<usize> {
        let start = self.start(rank);
        start..start + tree::share(self.num_batches, rank, self.num_ranks).len() * self.statistics_len
    }

    /// What a rank says: its statistics, and rank 0 whether to stop.
    fn note_of(&self, rank: usize) -> Range<usize> {
        let Range { start, end } = self.statistics_of(rank);
        start..end + usize::from(rank == 0)
    }

    fn start(&self, rank: usize) -> usize {
        tree::share(self.num_batches, rank, self.num_ranks).start * self.statistics_len + usize::from(rank > 0)
    }

    fn transfer(&mut self, statistics: &[u8], stops: bool) -> Transfer {
        let mut memory = std::mem::take(&mut self.all);
        memory.resize(self.note_of(self.num_ranks - 1).end);
        memory[self.statistics_of(self.rank)].copy_from_slice(statistics);
        let own = self.note_of(self.rank);
        if self.rank == 0 {
            memory[own.end - 1] = u8::from(stops);
        }
        let messages = |note: &dyn Fn(usize) -> Range<usize>| {
            let others = (0..self.num_ranks).filter(|&rank| rank != self.rank);
            let messages = others.map(|rank| Message { rank, region: 0, bytes: note(rank) });
            messages.filter(|message| !message.bytes.is_empty()).collect()
        };
        let (to, from) = (messages(&|_| own.clone()), messages(&|rank| self.note_of(rank)));
        Transfer { tag: NOTES_TAG, memory: vec![Region::Own(memory)], to, from }
    }
}

impl Watch for SendWhenFinal<'_> {
    fn is_final(&mut self, part: usize, states: Final<'_>) -> Result<()> {
        self.exchange.sums.send(self.comm, part, Some(states))
    }

    fn stage_done(&mut self) -> Result<()> {
        self.exchange.progress(self.comm)
    }
}
