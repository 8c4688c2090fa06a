//! The ranks that `mpirun` started, over MPI (Open MPI, MPICH) through the crate `mpi`.

use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, MatchedReceiveVec, Source};

use super::{Comm, launched_ranks, not_together};
use crate::{Error, Result};

/// The bytes that one MPI call moves: counts are 32-bit signed integers.
const MAX_BYTES: usize = 1 << 30;

/// All ranks of the program. MPI is shut down when it is dropped.
pub struct World {
    world: SimpleCommunicator,
    _universe: Universe,
}

/// A way to reach them.
struct Ranks;

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
        let Some(universe) = mpi::initialize() else {
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
        Box::new(Ranks)
    }

    /// Ends all ranks at once with an exit code.
    pub fn abort(&self, code: u8) -> ! {
        self.world.abort(i32::from(code))
    }
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
        if size * mine.len() > MAX_BYTES {
            return Err(Error::Limit {
                what: format!("an exchange among {size} ranks"),
                needed: (size * mine.len()) as u64,
                limit: MAX_BYTES as u64,
                limit_name: "bytes in one call",
                device: "MPI".to_owned(),
                advice: "use fewer ranks",
            });
        }
        all.resize(size * mine.len(), 0);
        if !mine.is_empty() {
            world().all_gather_into(mine, &mut all[..]);
        }
        Ok(())
    }

    fn send(&mut self, to: usize, message: &[u8]) -> Result<()> {
        let to = i32::try_from(to).map_err(|_| Error::setting("rank", "less than 2^31", to))?;
        world().process_at_rank(to).send(message);
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        let Some(found) = world().any_process().immediate_matched_probe() else { return Ok(None) };
        let (bytes, status): (Vec<u8>, _) = found.matched_receive_vec();
        Ok(Some((status.source_rank() as usize, bytes)))
    }
}
