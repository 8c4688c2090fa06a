//! A sweep over ranks: rank 0 keeps ledger and search and hands out legs, the others train them, each several at a time if
//! told so. Run folders lie within the sweep's, so all ranks need a file system in common.
//!
//! Messages are JSON. Nobody waits in a receive, which would keep a core busy: a rank without news sleeps a little.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use web_time::{Duration, Instant};

use super::config::{Sweep, SweepConfig};
use super::images::Images;
use super::ledger::trial_folder;
use super::run::{Desk, Finish, Message, SweepFolder, SweepObserver, is_the_trials_own};
use super::search::Leg;
use super::trial::{self, End, News, Progress, Stop, Task};
use crate::dist::{Comm, gather_all};
use crate::exec::{Device, Threads};
use crate::{Error, Result};

/// How long a rank without news sleeps before it asks for some again: short beside a trial.
const PAUSE: Duration = Duration::from_millis(5);

/// The least time between two messages of how far a rank's trials are.
const BETWEEN_PROGRESS: Duration = Duration::from_millis(100);

/// What rank 0 tells the others at the beginning.
#[derive(Serialize, Deserialize)]
struct Assignment {
    config: SweepConfig,
    folder: PathBuf,
}

/// What rank 0 sends.
#[derive(Serialize, Deserialize)]
enum Order {
    /// Train a trial up to so many epochs.
    Train { trial: usize, epochs: u64 },
    /// Save the running trials and say how far they are.
    Stop,
    /// There is nothing left to do.
    Quit,
}

/// What the others send.
#[derive(Serialize, Deserialize)]
enum Report {
    /// There is room for so many trials.
    Ready(usize),
    News(usize, News),
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
        gather_all(comm, &json(&Assignment { config: self.sweep.config.clone(), folder }))?;
        let SweepFolder { sweep, ledger, .. } = self;
        let mut search = sweep.search()?;
        ledger.restore(&mut search, sweep.metric());
        let mut desk = Desk { sweep, ledger, search, observer };
        let outcome = Hub { comm, free: Vec::new(), num_running: 0, is_halted: false }.serve(&mut desk, stop);
        for rank in 1..comm.size() {
            comm.send(rank, &json(&Order::Quit))?;
        }
        outcome?;
        Ok(desk.finish(stop()))
    }
}

/// Rank 0's view of the others.
struct Hub<'a> {
    comm: &'a mut dyn Comm,
    /// A rank for each trial that could be trained now.
    free: Vec<usize>,
    num_running: usize,
    is_halted: bool,
}

impl Hub<'_> {
    /// Hands out legs until none is left, or what is under way has been stopped.
    fn serve(mut self, desk: &mut Desk<'_>, stop: Stop<'_>) -> Result<()> {
        let (mut failure, mut num_silent) = (None, self.comm.size() - 1);
        loop {
            if (stop() || failure.is_some()) && !self.is_halted {
                self.is_halted = true;
                for rank in 1..self.comm.size() {
                    self.comm.send(rank, &json(&Order::Stop))?;
                }
            }
            let is_idle = self.hand_out(desk)?;
            if is_idle && self.num_running == 0 && num_silent == 0 {
                return failure.map_or(Ok(()), Err);
            }
            let Some((rank, bytes)) = self.comm.poll()? else {
                thread::sleep(PAUSE);
                continue;
            };
            let report: Report = parse(&bytes)?;
            num_silent -= usize::from(matches!(report, Report::Ready(_)));
            if let Err(error) = self.take(desk, rank, report) {
                failure.get_or_insert(error);
            }
        }
    }

    /// Gives free ranks legs; whether there is nothing to give or nobody to take it.
    fn hand_out(&mut self, desk: &mut Desk<'_>) -> Result<bool> {
        while !self.is_halted && !self.free.is_empty() {
            let Some(Leg { trial, epochs, .. }) = desk.start_leg()? else { return Ok(true) };
            // The one that has waited longest.
            let rank = self.free.remove(0);
            self.comm.send(rank, &json(&Order::Train { trial, epochs }))?;
            self.num_running += 1;
        }
        Ok(self.is_halted || self.num_running == 0)
    }

    fn take(&mut self, desk: &mut Desk<'_>, rank: usize, report: Report) -> Result<()> {
        if !matches!(report, Report::Ready(_) | Report::News(..)) {
            self.num_running -= 1;
            self.free.push(rank);
        }
        match report {
            Report::Ready(jobs) => self.free.extend(std::iter::repeat_n(rank, jobs)),
            Report::News(trial, news) => desk.take(Message::News(trial, news))?,
            Report::Ended(trial, progress) => desk.take(Message::Ended(trial, Ok(progress)))?,
            Report::Failed(trial, reason) => desk.failed(trial, reason)?,
            Report::Broken(trial, message) => {
                return Err(Error::Rank { rank, message: format!("trial {}: {message}", trial + 1) });
            }
        }
        Ok(())
    }
}

/// Trains what rank 0 hands out, `jobs` trials at a time, until there is nothing left; for all ranks but the first.
///
/// # Errors
/// [`Error::Data`] where rank 0 is of another version; as [`Comm::all_gather`]. Errors of trials go to rank 0.
pub fn work(comm: &mut dyn Comm, device: &Device, jobs: usize) -> Result<()> {
    let first = gather_all(comm, &[])?.swap_remove(0);
    let Assignment { config, folder } = parse(&first)?;
    let sweep = Sweep::new(config)?;
    let (jobs, halt) = (jobs.max(1), AtomicBool::new(false));
    let threads = (Threads::current().num_threads() / jobs).max(1);
    let crew = Crew { sweep: &sweep, folder: &folder, device, threads, halt: &halt };
    let (sender, reports) = mpsc::channel();
    comm.send(0, &json(&Report::Ready(jobs)))?;
    let (mut images, mut told_at) = (Images::default(), Instant::now());
    thread::scope(|scope| {
        let done = (|| {
            loop {
                let order = comm.poll()?;
                let (has_order, mut has_report) = (order.is_some(), false);
                match order.map(|(_, bytes)| parse(&bytes)).transpose()? {
                    Some(Order::Train { trial, epochs }) => {
                        let sender = sender.clone();
                        match images.of(&sweep.trials[trial].config) {
                            Ok(data) => {
                                let crew = &crew;
                                scope.spawn(move || crew.train(trial, epochs, &data, &sender));
                            }
                            // Nobody is left to hear of it if the receiver is gone.
                            Err(error) => drop(sender.send(Report::Broken(trial, error.to_string()))),
                        }
                    }
                    Some(Order::Stop) => halt.store(true, Ordering::Relaxed),
                    Some(Order::Quit) => return Ok(()),
                    None => {}
                }
                while let Ok(report) = reports.try_recv() {
                    has_report = true;
                    // A small network takes thousands of steps a second, which nobody can follow.
                    if matches!(report, Report::News(_, News::Progress { .. })) {
                        if told_at.elapsed() < BETWEEN_PROGRESS {
                            continue;
                        }
                        told_at = Instant::now();
                    }
                    comm.send(0, &json(&report))?;
                }
                if !has_order && !has_report {
                    thread::sleep(PAUSE);
                }
            }
        })();
        halt.store(true, Ordering::Relaxed);
        done
    })
}

/// What trials on one rank share.
struct Crew<'a> {
    sweep: &'a Sweep,
    folder: &'a Path,
    device: &'a Device,
    threads: usize,
    halt: &'a AtomicBool,
}

impl Crew<'_> {
    fn train(&self, trial: usize, epochs: u64, data: &crate::run::RunData, sender: &mpsc::Sender<Report>) {
        let tell = |report: Report| {
            // The receiver lives as long as the threads' scope.
            let _ = sender.send(report);
        };
        let task = Task {
            config: &self.sweep.trials[trial].config,
            data,
            device: self.device,
            folder: &self.folder.join(trial_folder(trial)),
            epochs,
            stop: &|| self.halt.load(Ordering::Relaxed),
        };
        let ended =
            Threads::new(self.threads).install(|| trial::train(&task, &mut |news| tell(Report::News(trial, news))));
        tell(match ended {
            // Logits stay here; nothing is decided by them.
            Ok(Progress { epochs, best, end }) => {
                Report::Ended(trial, Progress { epochs, best, end: without_logits(end) })
            }
            Err(error) if is_the_trials_own(&error) => Report::Failed(trial, error.to_string()),
            Err(error) => Report::Broken(trial, error.to_string()),
        });
    }
}

fn without_logits(mut end: End) -> End {
    if let End::Complete(outcome) = &mut end {
        outcome.test = None;
    }
    end
}

fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys and JSON has a form for all their values")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Rank {
        rank: 0,
        message: format!("a message of another version of the program: {error}"),
    })
}
