//! Processes that work together: what they exchange, and how they agree. A process of such a group is a *rank*, as MPI
//! calls it. [`train`](crate::train) divides batches among ranks, [`sweep`](crate::sweep) trials.
//!
//! [`Comm`] is all that the rest of the crate knows of it. A process by itself is [`Alone`], which costs nothing. With the
//! feature `mpi` there is `mpi::World`, the ranks that `mpirun` started. [`Threads`] are ranks within one process, for
//! tests.
//!
//! Nothing here survives the death of a rank: MPI ends the others, and a run resumes from its checkpoint, with any
//! number of ranks. What rank 0 cannot write is an error of all ([`all_ok`]); a program should end all ranks on any other
//! error of one (`mpi::World::abort`), since the others wait for it.

mod addition;
mod agree;
mod all_reduce;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "mpi")]
mod requests;
pub mod scaling;
mod sum;
mod threads;
mod transfer;

pub(crate) use addition::Addition;
pub use agree::{agree, all_ok};
pub use all_reduce::AllReduce;
pub(crate) use sum::TreeSum;
pub use threads::{Link, Threads};
pub use transfer::{Bytes, Message, Region, Transfer};

use std::ops::Range;

use crate::{Error, Result};

/// What one rank knows of the others, and the ways to reach them. [`Comm::all_gather`] is collective: every rank calls it, in
/// the same order.
pub trait Comm: Send {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Gives every rank the bytes of all, in the order of ranks: `all` has [`Comm::size`] times as many as `mine`, which
    /// has as many on every rank.
    ///
    /// # Errors
    /// [`Error::Rank`] where a rank is gone and the others live on; MPI ends them.
    fn all_gather(&mut self, mine: &[u8], all: &mut Vec<u8>) -> Result<()>;

    /// Sends a message to a rank, which finds it by [`Comm::poll`].
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    fn send(&mut self, to: usize, message: &[u8]) -> Result<()>;

    /// The next message that has come, with the rank it is from; `None` where there is none.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    fn poll(&mut self) -> Result<Option<(usize, Vec<u8>)>>;

    /// Starts a transfer and returns at once. Its messages move on when the transfers on their way are asked for.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    fn start(&mut self, transfer: Transfer) -> Result<()>;

    /// A transfer on its way whose messages have all been sent and have arrived; `None` where there is none yet.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    fn test(&mut self) -> Result<Option<Transfer>>;

    /// The same, waiting for one; `None` where none is on its way.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    fn wait(&mut self) -> Result<Option<Transfer>>;
}

/// A process by itself: rank 0 of 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Comm for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_gather(&mut self, mine: &[u8], all: &mut Vec<u8>) -> Result<()> {
        all.clear();
        all.extend_from_slice(mine);
        Ok(())
    }

    fn send(&mut self, to: usize, _message: &[u8]) -> Result<()> {
        Err(no_such_rank(to))
    }

    fn poll(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        Ok(None)
    }

    fn start(&mut self, transfer: Transfer) -> Result<()> {
        let partner = transfer.to.first().or(transfer.from.first());
        Err(no_such_rank(partner.map_or(0, |message| message.rank)))
    }

    fn test(&mut self) -> Result<Option<Transfer>> {
        Ok(None)
    }

    fn wait(&mut self) -> Result<Option<Transfer>> {
        Ok(None)
    }
}

fn no_such_rank(rank: usize) -> Error {
    Error::Rank { rank, message: "there is no such rank: this process is by itself".to_owned() }
}

/// Gives every rank the bytes of all, which may be of different lengths.
///
/// # Errors
/// As [`Comm::all_gather`].
pub(crate) fn gather_all(comm: &mut dyn Comm, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut lens = Vec::new();
    comm.all_gather(&(mine.len() as u64).to_le_bytes(), &mut lens)?;
    // Lengths of messages in memory.
    let lens: Vec<usize> = lens.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes) as usize).collect();
    let longest = lens.iter().copied().max().unwrap_or(0);
    let (mut padded, mut all) = (mine.to_vec(), Vec::new());
    padded.resize(longest, 0);
    comm.all_gather(&padded, &mut all)?;
    Ok(lens.iter().enumerate().map(|(rank, &len)| all[rank * longest..][..len].to_vec()).collect())
}

/// Rank 0's text, on every rank. Collective.
///
/// # Errors
/// As [`Comm::all_gather`].
pub fn text_of_first(comm: &mut dyn Comm, mine: &str) -> Result<String> {
    let first = bytes_of_first(comm, mine.as_bytes())?;
    Ok(String::from_utf8_lossy(&first).into_owned())
}

/// Rank 0's bytes, on every rank, such as a file's. Collective, and no transfer may be on its way.
///
/// # Errors
/// As [`Comm::all_gather`].
pub fn bytes_of_first(comm: &mut dyn Comm, mine: &[u8]) -> Result<Vec<u8>> {
    /// Bytes of a message: as few messages as memory for them allows.
    const MESSAGE: usize = 256 << 20;
    let (rank, size) = (comm.rank(), comm.size());
    if size == 1 {
        return Ok(mine.to_vec());
    }
    let mut lens = Vec::new();
    comm.all_gather(&(mine.len() as u64).to_le_bytes(), &mut lens)?;
    // The length of something in rank 0's memory.
    let len = lens.as_chunks().0.first().map_or(0, |&bytes| u64::from_le_bytes(bytes) as usize);
    let pieces = (0..len).step_by(MESSAGE).map(|start| start..(start + MESSAGE).min(len));
    let message = |rank: usize, bytes: Range<usize>| Message { rank, region: 0, bytes };
    let (mut transfer, mut memory) = (Transfer { tag: 0, ..Transfer::default() }, Bytes::default());
    if rank == 0 {
        memory.extend(mine);
        transfer.to = pieces.flat_map(|piece| (1..size).map(move |rank| message(rank, piece.clone()))).collect();
    } else {
        memory.resize(len);
        transfer.from = pieces.map(|piece| message(0, piece)).collect();
    }
    transfer.memory.push(Region::Own(memory));
    comm.start(transfer)?;
    let transfer = comm.wait()?.expect("the bytes are on their way");
    Ok(transfer.memory[0].to_vec())
}

/// Rank 0's answer, on every rank.
///
/// # Errors
/// As [`Comm::all_gather`].
pub(crate) fn answer_of_first(comm: &mut dyn Comm, mine: bool) -> Result<bool> {
    if comm.size() == 1 {
        return Ok(mine);
    }
    let mut all = Vec::new();
    comm.all_gather(&[u8::from(mine)], &mut all)?;
    Ok(all[0] != 0)
}

/// That processes which were started together cannot reach each other.
pub fn not_together(num_ranks: usize, place: &str, reason: String) -> Error {
    Error::Unsupported { op: format!("a program of {num_ranks} processes"), device: place.to_owned(), reason }
}

/// The number of ranks that the program was started as, as a launcher's variables tell it; `None` where none started it.
/// It does not depend on the feature `mpi`, nor on which MPI library the program was built with.
pub fn launched_ranks() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    // Open MPI; MPICH and those that descend from it, which is also what Slurm's own (`srun --mpi=pmi2`) looks like.
    let names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"];
    let launched = names.iter().find_map(|name| number(name));
    // The tasks of a step that Slurm's `srun` started; in a batch script, which is one process, it is not set. `srun` also
    // starts single programs, which may have no MPI.
    launched.or_else(|| number("SLURM_STEP_NUM_TASKS").filter(|&tasks| tasks > 1))
}
