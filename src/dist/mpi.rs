//! The ranks that `mpirun` started, over MPI (Open MPI, MPICH) through the crate `mpi`.

use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, MatchedReceiveVec, Source};

use super::requests::InFlight;
use super::{Comm, Transfer, launched_ranks, not_together};
use crate::{Error, Result};

/// The bytes that one MPI call moves: counts are 32-bit signed integers.
pub(super) const MAX_BYTES: usize = 1 << 30;

/// The largest tag that every MPI library takes.
pub(super) const MAX_TAG: u16 = 32_767;

/// All ranks of the program. MPI is shut down when it is dropped.
pub struct World {
    world: SimpleCommunicator,
    _universe: Universe,
}

/// The tag of messages. Those of transfers come after it.
const MESSAGE_TAG: i32 = 0;

/// A way to reach them.
#[derive(Default)]
struct Ranks {
    in_flight: Vec<InFlight>,
}

fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

impl World {
    /// Joins the ranks that the program was started with; `None` where nothing started it as one of several.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the launcher is that of another MPI library, so that every rank would be alone.
    pub fn join() -> Result<Option<World>> {
        let Some(launched) = launched_ranks() else { return Ok(None) };
        // Other threads compute, and do not call MPI. A library that gives less than that knows of no threads at all, and
        // is not in their way either.
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(not_together(launched, "this process", "MPI can be started once only".to_owned()));
        };
        let world = universe.world();
        // A number of ranks, which is not negative.
        let size = world.size() as usize;
        if size != launched {
            let library = mpi::environment::library_version().unwrap_or_default();
            let library = library.split([',', '\n', '\0']).next().unwrap_or_default().to_owned();
            let reason = format!(
                "each of them is alone; use the mpirun of the MPI library that the program was built with ({library})"
            );
            return Err(not_together(launched, "this launcher", reason));
        }
        Ok(Some(World { world, _universe: universe }))
    }

    /// A way to reach the other ranks.
    pub fn comm(&self) -> Box<dyn Comm> {
        Box::new(Ranks::default())
    }

    /// Ends all ranks at once with an exit code.
    pub fn abort(&self, code: u8) -> ! {
        self.world.abort(i32::from(code))
    }
}

/// Checks a number against what MPI takes.
pub(super) fn check_limit(what: &str, needed: usize, (limit, limit_name): (usize, &'static str)) -> Result<()> {
    if needed <= limit {
        return Ok(());
    }
    Err(Error::Limit {
        what: what.to_owned(),
        needed: needed as u64,
        limit: limit as u64,
        limit_name,
        device: "MPI".to_owned(),
        advice: "use fewer ranks, or a smaller network",
    })
}

impl Comm for Ranks {
    fn rank(&self) -> usize {
        // Ranks and sizes are not negative.
        world().rank() as usize
    }

    fn size(&self) -> usize {
        world().size() as usize
    }

    fn all_gather(&mut self, mine: &[u8], all: &mut Vec<u8>) -> Result<()> {
        let size = self.size();
        check_limit(&format!("an exchange among {size} ranks"), size * mine.len(), (MAX_BYTES, "bytes in one call"))?;
        all.resize(size * mine.len(), 0);
        if !mine.is_empty() {
            world().all_gather_into(mine, &mut all[..]);
        }
        Ok(())
    }

    fn send(&mut self, to: usize, message: &[u8]) -> Result<()> {
        let to = i32::try_from(to).map_err(|_| Error::setting("rank", "less than 2^31", to))?;
        world().process_at_rank(to).send_with_tag(message, MESSAGE_TAG);
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        let probed = world().any_process().immediate_matched_probe_with_tag(MESSAGE_TAG);
        let Some(found) = probed else { return Ok(None) };
        let (bytes, status): (Vec<u8>, _) = found.matched_receive_vec();
        Ok(Some((status.source_rank() as usize, bytes)))
    }

    fn start(&mut self, transfer: Transfer) -> Result<()> {
        self.in_flight.push(InFlight::start(transfer)?);
        Ok(())
    }

    fn test(&mut self) -> Result<Option<Transfer>> {
        let complete = self.in_flight.iter_mut().position(InFlight::is_complete);
        Ok(complete.map(|index| self.in_flight.remove(index).into_transfer()))
    }

    fn wait(&mut self) -> Result<Option<Transfer>> {
        while !self.in_flight.is_empty() {
            if let Some(transfer) = self.test()? {
                return Ok(Some(transfer));
            }
            // MPI libraries wait by asking again and again; there may be more ranks than cores. Where another process wants
            // the core this loses a time slice now and then, some 4 ms, and `MPI_Allreduce`, which keeps it, then looks
            // several times as fast. But a rank that keeps its core may keep it from the very rank that it waits for: LeNet
            // on two ranks of a busy machine of two cores then spent nine tenths of its time waiting.
            std::thread::yield_now();
        }
        Ok(None)
    }
}
