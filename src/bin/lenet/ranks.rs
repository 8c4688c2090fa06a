//! The program as one of several ranks that `mpirun` started: rank 0 prints and writes, all must agree before they begin,
//! and an error of one ends all.

use std::path::Path;
use std::process::ExitCode;

use wgrad::dist::{self, Alone, Comm};
use wgrad::run::{RunConfig, Saved};
use wgrad::{Error, Result};

use crate::{exit_code, report};

/// This process among the others; rank 0 of one where nothing started it as one of several.
pub struct Ranks {
    #[cfg(feature = "mpi")]
    world: Option<dist::mpi::World>,
    rank: usize,
    size: usize,
    /// Whether the error that ends the program, if one does, is known to all ranks.
    is_shared: bool,
}

impl Ranks {
    /// Joins the ranks that the program was started as.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where they cannot reach each other: the program was built without MPI, or for another one.
    #[cfg(feature = "mpi")]
    pub fn join() -> Result<Ranks> {
        let world = dist::mpi::World::join()?;
        let comm = world.as_ref().map(dist::mpi::World::comm);
        let (rank, size) = comm.map_or((0, 1), |comm| (comm.rank(), comm.size()));
        if size > 1 {
            // Unwinding would shut MPI down in order, which waits for the others, which wait for this rank.
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                report(panic);
                std::process::abort();
            }));
        }
        Ok(Ranks { world, rank, size, is_shared: false })
    }

    /// Joins the ranks that the program was started as.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where they cannot reach each other: the program was built without MPI, or for another one.
    #[cfg(not(feature = "mpi"))]
    pub fn join() -> Result<Ranks> {
        match dist::launched_ranks() {
            Some(size @ 2..) => {
                let reason = "it is without MPI; build it with: cargo build --release --features mpi".to_owned();
                Err(dist::not_together(size, "this build", reason))
            }
            _ => Ok(Ranks { rank: 0, size: 1, is_shared: false }),
        }
    }

    /// This process by itself, whatever started it.
    pub fn alone() -> Ranks {
        Ranks {
            #[cfg(feature = "mpi")]
            world: None,
            rank: 0,
            size: 1,
            is_shared: false,
        }
    }

    /// A way to reach the others.
    pub fn comm(&self) -> Box<dyn Comm> {
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.world {
            return world.comm();
        }
        Box::new(Alone)
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the rank that prints and writes.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The first rank's text, on every rank.
    pub fn text_of_first(&self, mine: &str) -> Result<String> {
        dist::text_of_first(self.comm().as_mut(), mine)
    }

    /// Waits for the others; if any has an error, all have.
    pub fn all_ok<T>(&mut self, mine: Result<T>) -> Result<T> {
        let done = dist::all_ok(self.comm().as_mut(), mine);
        self.is_shared |= done.is_err() && self.size > 1;
        done
    }

    /// Checks that all ranks are the same build and have the same of each of these.
    pub fn agree(&mut self, facts: &[(&str, String)]) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let mut comm = self.comm();
        let agreed =
            dist::agree(comm.as_mut(), &[("build", build()?)]).and_then(|()| dist::agree(comm.as_mut(), facts));
        self.is_shared |= agreed.is_err();
        agreed
    }

    /// The run that was saved in a folder, which only the first rank has to see, and the settings to resume it with.
    pub fn saved(&mut self, folder: &Path) -> Result<(Saved, RunConfig)> {
        let read = || Ok((Saved::read_bytes(folder)?, Saved::read_settings(folder)?));
        let mine = if self.is_first() { read() } else { Ok(Default::default()) };
        let (bytes, settings) = self.all_ok(mine)?;
        let bytes = dist::bytes_of_first(self.comm().as_mut(), &bytes)?;
        let settings = self.text_of_first(&settings)?;
        let saved = self.all_ok(Saved::from_bytes(folder, &bytes))?;
        let config = self.all_ok(saved.config_from(&settings))?;
        Ok((saved, config))
    }

    /// Whether the ranks differ in this.
    pub fn differ(&mut self, what: &str, here: String) -> bool {
        dist::agree(self.comm().as_mut(), &[(what, here)]).is_err()
    }

    /// The end of the program: rank 0 reports an error that all share; one that a rank has for itself ends all at once.
    pub fn conclude(self, ended: Result<ExitCode>) -> Result<ExitCode> {
        let error = match ended {
            Err(error) if self.size > 1 => error,
            ended => return ended,
        };
        // What training comes to, it comes to on all ranks alike.
        let is_shared = self.is_shared || matches!(error, Error::NonFinite { .. } | Error::Interrupted { .. });
        // What another rank met, that one reports.
        let is_reported = (is_shared || matches!(error, Error::Rank { .. })) && !self.is_first();
        if is_reported {
            let was_stopped = matches!(error, Error::Interrupted { .. });
            return Ok(ExitCode::from(if was_stopped { 0 } else { exit_code(&error) }));
        }
        let who = if is_shared { "error".to_owned() } else { format!("error on rank {}", self.rank) };
        let code = report(error, &who);
        #[cfg(feature = "mpi")]
        if let Some(world) = self.world.as_ref().filter(|_| !is_shared) {
            world.abort(code);
        }
        Ok(ExitCode::from(code))
    }
}

/// What tells this build from others: the checksum of its file.
fn build() -> Result<String> {
    let path = std::env::current_exe().map_err(|source| io_error("the program's path", source))?;
    let bytes = std::fs::read(&path).map_err(|source| io_error("the program", source))?;
    Ok(format!("{} with checksum {:016x}", env!("CARGO_PKG_VERSION"), fnv(&bytes)))
}

fn io_error(what: &str, source: std::io::Error) -> Error {
    Error::Io { action: "read", path: what.into(), source }
}

/// FNV-1a over words of eight bytes: enough to tell builds apart.
fn fnv(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().map(|&word| u64::from_le_bytes(word));
    let all = words.chain(rest.iter().map(|&byte| u64::from(byte)));
    all.fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x100_0000_01b3))
}
