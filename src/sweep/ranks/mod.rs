//! A sweep over ranks: rank 0 keeps ledger and search and hands out legs, the others train them, each several at a time if
//! told so. Run folders lie within the sweep's. A rank that does not see that folder, on a host with disks of its own,
//! trains in a folder of its own: rank 0 sends it what a trial has left so far, and collects what it leaves.
//!
//! Messages are JSON, some with a folder's files after it. Nobody waits in a receive, which would keep a core busy: a rank
//! without news sleeps a little. Large messages wait for their receiver, so none may wait for each other: files go to
//! rank 0, which always receives, or to a rank that has asked for them and sends nothing until they come.

mod hub;
mod work;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use web_time::{Duration, SystemTime, UNIX_EPOCH};

use super::config::SweepConfig;
use super::run::{Desk, Finish, SweepFolder, SweepObserver};
use super::trial::{News, Progress, Stop};
use crate::dist::{Comm, gather_all};
use crate::{Error, Result, files};
use hub::Hub;
pub use work::{WorkOptions, work};

/// How long a rank without news sleeps before it asks for some again: short beside a trial.
const PAUSE: Duration = Duration::from_millis(5);

/// A file in the sweep's folder while ranks work on it, by which they find out whether they see that folder.
const MARK: &str = ".ranks";

/// What rank 0 tells the others at the beginning.
#[derive(Serialize, Deserialize)]
struct Assignment {
    config: SweepConfig,
    folder: PathBuf,
    /// What [`MARK`] holds.
    mark: String,
}

/// What rank 0 sends.
#[derive(Serialize, Deserialize)]
enum Order {
    /// Train a trial up to so many epochs.
    Train { trial: usize, epochs: u64 },
    /// The files of a trial that [`Report::Wants`] asked for follow.
    Files,
    /// Save the running trials and say how far they are.
    Stop,
    /// There is nothing left to do.
    Quit,
}

/// What the others send. The last three may have the trial's files after them.
#[derive(Serialize, Deserialize)]
enum Report {
    /// There is room for so many trials; the sweep's folder is not to be seen here if `is_apart`.
    Ready {
        jobs: usize,
        is_apart: bool,
    },
    /// The rank waits for what the trial has left so far.
    Wants(usize),
    News(usize, News),
    /// The trial has saved what follows.
    Saved(usize),
    Ended(usize, Progress),
    /// The trial cannot be trained under its settings.
    Failed(usize, String),
    /// The rank cannot go on.
    Broken(usize, String),
}

impl SweepFolder {
    /// [`SweepFolder::run`] with the trials trained by the other ranks, which call [`work`]; for rank 0 of at least two.
    ///
    /// # Errors
    /// As [`SweepFolder::run`]; [`Error::Rank`] for what went wrong on another rank.
    pub fn run_among(
        &mut self,
        comm: &mut dyn Comm,
        stop: Stop<'_>,
        observer: &mut dyn SweepObserver,
    ) -> Result<Finish> {
        let folder = self.path.canonicalize().map_err(Error::io("read", &self.path))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mark = format!("{} {}", std::process::id(), since.as_nanos());
        files::write_whole(&folder.join(MARK), mark.as_bytes())?;
        let assignment = Assignment { config: self.sweep.config.clone(), folder, mark };
        gather_all(comm, &json(&assignment))?;
        let SweepFolder { sweep, ledger, .. } = self;
        let mut search = sweep.search()?;
        ledger.restore(&mut search, sweep.metric());
        let folder = &assignment.folder;
        let mut desk = Desk { sweep, ledger, search, observer };
        let outcome = Hub::new(comm, folder).serve(&mut desk, stop);
        for rank in 1..comm.size() {
            comm.send(rank, &json(&Order::Quit))?;
        }
        // It is of no use any more, and of no harm.
        files::remove(&folder.join(MARK));
        outcome?;
        Ok(desk.finish(stop()))
    }
}

/// What ends a message's JSON, which has none in it.
const END: u8 = b'\n';

fn json(header: &impl Serialize) -> Vec<u8> {
    message(header, &[])
}

fn message(header: &impl Serialize, parcel: &[u8]) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(header).expect("messages have string keys and JSON has a form for all their values");
    bytes.push(END);
    bytes.extend_from_slice(parcel);
    bytes
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == END).unwrap_or(bytes.len());
    let header = serde_json::from_slice(&bytes[..end]).map_err(|error| Error::Rank {
        rank: 0,
        message: format!("a message of another version of the program: {error}"),
    })?;
    Ok((header, bytes.get(end + 1..).unwrap_or_default()))
}
