//! The other ranks of a sweep: train what rank 0 hands out, one thread a trial, and one that speaks with rank 0.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use web_time::{Duration, Instant};

use super::super::beside::Placement;
use super::super::config::Sweep;
use super::super::images::Images;
use super::super::ledger::trial_folder;
use super::super::parcel::{pack, unpack};
use super::super::run::is_the_trials_own;
use super::super::trial::{self, End, News, Progress, Task};
use super::{Assignment, MARK, Order, PAUSE, Report, json, message, parse};
use crate::dist::{Comm, gather_all};
use crate::exec::{Device, Threads};
use crate::run::RunData;
use crate::{Result, files};

/// The least time between two messages of how far a rank's trials are.
const BETWEEN_PROGRESS: Duration = Duration::from_millis(100);

/// How a rank trains what rank 0 hands out.
#[derive(Clone, Copy, Debug)]
pub struct WorkOptions<'a> {
    /// What to train on.
    pub device: &'a Device,
    /// Trials in parallel.
    pub jobs: usize,
    /// Trials side by side on a GPU, in the same dispatches ([`SideBySide`](crate::exec::SideBySide)), for one job; `None` for
    /// as many as the sweep's file says. A trial whose steps are other kernels trains meanwhile by itself.
    pub side_by_side: Option<usize>,
    /// Where to make a folder for trials if the sweep's is not to be seen here. It is removed at the end.
    pub out: &'a Path,
    /// How often rank 0 then gets what a trial has saved so far. What a killed sweep has not collected is trained again.
    pub collect_every: Duration,
}

impl<'a> WorkOptions<'a> {
    /// One trial at a time on a device; below `out` where need be, and collected once a minute.
    pub fn new(device: &'a Device, out: &'a Path) -> Self {
        WorkOptions { device, jobs: 1, side_by_side: None, out, collect_every: Duration::from_secs(60) }
    }
}

/// Trains what rank 0 hands out until there is nothing left; for all ranks but the first.
///
/// # Errors
/// [`crate::Error::Rank`] where rank 0 is of another version; as [`Comm::all_gather`]. Errors of trials go to rank 0.
pub fn work(comm: &mut dyn Comm, options: WorkOptions<'_>) -> Result<()> {
    let first = gather_all(comm, &[])?.swap_remove(0);
    let (Assignment { config, folder, mark }, _) = parse(&first)?;
    let found = files::read_to_string(folder.join(MARK).as_path());
    let sees_it = found.is_ok_and(|found| found == mark);
    let own = if sees_it { None } else { Some(OwnFolder::new(options.out, &folder, comm.rank())) };
    let sweep = Sweep::new(config)?;
    let (jobs, halt) = (options.jobs.max(1), AtomicBool::new(false));
    let side_by_side = options.side_by_side.or(sweep.config.search.side_by_side).unwrap_or(1);
    let placement = Placement::new(&sweep, options.device, jobs, Some(side_by_side));
    let crew = Crew {
        sweep: &sweep,
        folder: own.as_ref().map_or(&folder, |own| &own.0),
        threads: (Threads::current().num_threads() / jobs).max(1),
        halt: &halt,
        collect_every: own.as_ref().map(|_| options.collect_every),
    };
    let jobs = placement.most_at_a_time();
    comm.send(0, &json(&Report::Ready { jobs, is_apart: own.is_some() }))?;
    Worker { comm, crew: &crew, orders: VecDeque::new(), placement, placed: HashSet::new() }.serve()
}

/// A folder in which a rank trains that does not see the sweep's.
struct OwnFolder(PathBuf);

impl OwnFolder {
    fn new(out: &Path, sweep: &Path, rank: usize) -> OwnFolder {
        let name = sweep.file_name().map_or("sweep".into(), |name| name.to_string_lossy());
        let own = OwnFolder(out.join(format!("{name}-rank-{rank}")));
        // What a killed rank of this number left; rank 0 has what counts.
        files::remove(&own.0);
        own
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        // It may not be there: not every rank gets a trial.
        files::remove(&self.0);
    }
}

/// The thread that speaks with rank 0.
struct Worker<'a> {
    comm: &'a mut dyn Comm,
    crew: &'a Crew<'a>,
    /// Orders that came while it waited for files.
    orders: VecDeque<Order>,
    placement: Placement<'a>,
    /// The trials that train where the placement said.
    placed: HashSet<usize>,
}

impl Worker<'_> {
    fn serve(mut self) -> Result<()> {
        let (sender, reports) = mpsc::channel();
        let (mut images, mut told_at) = (Images::default(), Instant::now());
        let crew = self.crew;
        thread::scope(|scope| {
            let done = (|| {
                loop {
                    let order = self.next_order()?;
                    let (has_order, mut has_report) = (order.is_some(), false);
                    match order {
                        Some(Order::Train { trial, epochs }) => {
                            let sender = sender.clone();
                            let ready = self
                                .fetch(trial)
                                .and_then(|()| Ok((images.of(&crew.sweep.trials[trial].config)?, self.place(trial)?)));
                            match ready {
                                Ok((data, device)) => {
                                    scope.spawn(move || crew.train((trial, epochs), &data, device, &sender));
                                }
                                // Nobody is left to hear of it if the receiver is gone.
                                Err(error) => drop(sender.send((Report::Broken(trial, error.to_string()), Vec::new()))),
                            }
                        }
                        Some(Order::Stop) => crew.halt.store(true, Ordering::Relaxed),
                        Some(Order::Quit) => return Ok(()),
                        Some(Order::Files) | None => {}
                    }
                    while let Ok((report, parcel)) = reports.try_recv() {
                        has_report = true;
                        // A small network takes thousands of steps a second, which nobody can follow.
                        if matches!(report, Report::News(_, News::Progress { .. })) {
                            if told_at.elapsed() < BETWEEN_PROGRESS {
                                continue;
                            }
                            told_at = Instant::now();
                        }
                        if let Report::Ended(trial, _) | Report::Failed(trial, _) | Report::Broken(trial, _) = report
                            && self.placed.remove(&trial)
                        {
                            self.placement.ended();
                        }
                        self.comm.send(0, &message(&report, &parcel))?;
                    }
                    if !has_order && !has_report {
                        thread::sleep(PAUSE);
                    }
                }
            })();
            // The trials' threads end, and with them the scope.
            crew.halt.store(true, Ordering::Relaxed);
            done
        })
    }

    /// The device for a trial: a place beside those that run, if its steps are the same dispatches.
    fn place(&mut self, trial: usize) -> Result<Device> {
        if !self.placement.fits(trial) {
            return Ok(self.placement.device().clone());
        }
        // Rank 0 alone knows which others are left.
        let device = self.placement.start(trial, &|_| true)?;
        self.placed.insert(trial);
        Ok(device)
    }

    fn next_order(&mut self) -> Result<Option<Order>> {
        if let Some(order) = self.orders.pop_front() {
            return Ok(Some(order));
        }
        self.comm.poll()?.map(|(_, bytes)| Ok(parse(&bytes)?.0)).transpose()
    }

    /// Brings what a trial has left so far into this rank's own folder, if it has one.
    fn fetch(&mut self, trial: usize) -> Result<()> {
        if self.crew.collect_every.is_none() {
            return Ok(());
        }
        self.comm.send(0, &json(&Report::Wants(trial)))?;
        loop {
            let Some((_, bytes)) = self.comm.poll()? else {
                thread::sleep(PAUSE);
                continue;
            };
            match parse(&bytes)? {
                // It could not be read, and rank 0 has stopped all.
                (Order::Files, []) => return Ok(()),
                (Order::Files, parcel) => return unpack(parcel, &self.crew.folder.join(trial_folder(trial))),
                (order, _) => self.orders.push_back(order),
            }
        }
    }
}

/// What a trial's thread sends: a report, and the trial's files or nothing.
type Sent = (Report, Vec<u8>);

/// What trials on one rank share.
struct Crew<'a> {
    sweep: &'a Sweep,
    folder: &'a Path,
    threads: usize,
    halt: &'a AtomicBool,
    /// How often a trial's files go to rank 0; `None` where it sees them.
    collect_every: Option<Duration>,
}

impl Crew<'_> {
    fn train(&self, (trial, epochs): (usize, u64), data: &RunData, device: Device, sender: &mpsc::Sender<Sent>) {
        let folder = self.folder.join(trial_folder(trial));
        let tell = |report: Report, parcel: Vec<u8>| {
            // The receiver lives as long as the threads' scope.
            let _ = sender.send((report, parcel));
        };
        let task = Task {
            config: &self.sweep.trials[trial].config,
            data,
            device: &device,
            folder: &folder,
            epochs,
            stop: &|| self.halt.load(Ordering::Relaxed),
        };
        let mut collected_at = Instant::now();
        let mut follow = |news: News| {
            let is_due = matches!(news, News::Epoch(_))
                && self.collect_every.is_some_and(|every| collected_at.elapsed() >= every);
            tell(Report::News(trial, news), Vec::new());
            // What cannot be read now is an error at the end.
            if let (true, Ok(parcel)) = (is_due, pack(&folder)) {
                tell(Report::Saved(trial), parcel);
                collected_at = Instant::now();
            }
        };
        let ended = Threads::new(self.threads).install(|| trial::train(&task, &mut follow));
        // Its place beside others is free before rank 0 hears of it.
        drop(device);
        let report = match ended {
            // Logits stay here; nothing is decided by them.
            Ok(Progress { epochs, best, end }) => {
                Report::Ended(trial, Progress { epochs, best, end: without_logits(end) })
            }
            Err(error) if is_the_trials_own(&error) => Report::Failed(trial, error.to_string()),
            Err(error) => Report::Broken(trial, error.to_string()),
        };
        match self.collect(&folder) {
            Ok(parcel) => tell(report, parcel),
            Err(error) => tell(Report::Broken(trial, error.to_string()), Vec::new()),
        }
    }

    /// Takes the files of a leg that has ended out of this rank's own folder.
    fn collect(&self, folder: &Path) -> Result<Vec<u8>> {
        if self.collect_every.is_none() {
            return Ok(Vec::new());
        }
        let parcel = pack(folder)?;
        // It is of use to nobody here.
        files::remove(folder);
        Ok(parcel)
    }
}

fn without_logits(mut end: End) -> End {
    if let End::Complete(outcome) = &mut end {
        outcome.test = None;
    }
    end
}
