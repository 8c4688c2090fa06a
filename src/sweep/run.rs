//! Runs a sweep in its folder: one thread decides and writes the ledger, and one thread per trial trains. The files are
//! enough to resume after a kill.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::beside::Placement;
use super::config::{Sweep, SweepConfig, Trial};
use super::images::Images;
use super::ledger::{Ledger, Status, TrialRecord, trial_folder};
use super::search::{Leg, Search};
use super::trial::{self, End, News, Progress, Stop, Task};
use crate::exec::{Device, Threads};
use crate::run::folder::{fill_unique_folder, lock};
use crate::run::{RunData, setup};
use crate::train::EpochReport;
use crate::{Error, Result, files};

/// A sweep in its folder. While it lives no other process can work on the folder.
#[derive(Debug)]
pub struct SweepFolder {
    pub(super) path: PathBuf,
    pub(super) sweep: Sweep,
    pub(super) ledger: Ledger,
    pub(super) images: Images,
    /// Locked until it is dropped, however the process ends.
    pub(super) _lock: files::Lock,
}

/// How a sweep is run. Nothing here changes what comes out, but for successive halving with several jobs.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// What to train on.
    pub device: &'a Device,
    /// Trials in parallel; see [`default_jobs`].
    pub jobs: usize,
    /// The most trials side by side on a GPU, in the same dispatches ([`SideBySide`](crate::exec::SideBySide)), for one job;
    /// `None` for as many as are expected to pay. Those whose settings change a step's kernels or shapes take turns.
    pub side_by_side: Option<usize>,
    /// Polled for whether to stop; the running trials are then saved.
    pub stop: Stop<'a>,
}

/// Receives events during a sweep; trials are counted from 1. By default every method does nothing.
pub trait SweepObserver {
    /// A trial starts to train, up to this many epochs in total.
    fn started(&mut self, trial: usize, epochs: u64) {
        let _ = (trial, epochs);
    }

    /// Some of a trial's training images of an epoch are done.
    fn progress(&mut self, trial: usize, epoch: u64, images_done: usize, images: usize) {
        let _ = (trial, epoch, images_done, images);
    }

    /// An epoch of a trial has ended.
    fn epoch(&mut self, trial: usize, report: &EpochReport) {
        let _ = (trial, report);
    }

    /// A trial ended, failed, or reached its budget of epochs.
    ///
    /// # Errors
    /// An error ends the sweep, as being stopped would.
    fn ended(&mut self, record: &TrialRecord) -> Result<()> {
        let _ = record;
        Ok(())
    }

    /// A rank does not see the sweep's folder: what its trials leave is brought here.
    fn apart(&mut self, rank: usize) {
        let _ = rank;
    }

    /// Something about a trial that the user should know.
    fn warn(&mut self, trial: usize, message: &str) {
        let _ = (trial, message);
    }
}

impl SweepObserver for () {}

/// How a run of a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Every trial that was to be trained has been.
    Complete,
    /// It was stopped; [`SweepFolder::open`] and [`SweepFolder::run`] resume it.
    Stopped,
}

/// The default number of trials to train in parallel. On the CPU it is one per thread, because the steps of a small
/// network are too short to parallelise well: two LeNets in parallel on two busy cores were faster than one after the
/// other in seven of seven measurements, by 1.03 to 1.34 times (median 1.21). On a GPU it is one.
pub fn default_jobs(device: &Device) -> usize {
    match device {
        Device::Cpu | Device::CpuF64 => Threads::current().num_threads(),
        Device::Gpu(_) | Device::Beside(_) => 1,
    }
}

/// Messages to the deciding thread.
pub(super) enum Message {
    News(usize, News),
    Ended(usize, Result<Progress>),
}

impl SweepFolder {
    /// Reads the images, builds what each trial would compute, and makes `<parent>/<time>-<name>` with `sweep.toml` and
    /// an empty ledger.
    ///
    /// # Errors
    /// [`Error::Setting`] for a trial that cannot be trained on its images; [`Error::Data`]; [`Error::Io`].
    pub fn create(parent: &Path, name: &str, sweep: Sweep) -> Result<SweepFolder> {
        let mut images = Images::default();
        check(&sweep, &mut images)?;
        fill_unique_folder(parent, name, |path| {
            let lock = lock(path)?;
            // The ledger first: a folder with a sweep.toml can be resumed.
            let ledger = Ledger::create(path)?;
            write_config(path, &sweep.config)?;
            Ok(SweepFolder { path: path.to_owned(), sweep, ledger, images, _lock: lock })
        })
    }

    /// Opens a sweep's folder to resume.
    ///
    /// # Errors
    /// As [`SweepFolder::create`]; [`Error::Data`] where its files are damaged; [`Error::Setting`] where another
    /// process works on it.
    pub fn open(path: &Path) -> Result<SweepFolder> {
        let sweep = Sweep::new(SweepConfig::load(&path.join("sweep.toml"))?)?;
        let lock = lock(path)?;
        let ledger = Ledger::open(path, &sweep)?;
        let mut images = Images::default();
        check(&sweep, &mut images)?;
        Ok(SweepFolder { path: path.to_owned(), sweep, ledger, images, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is searched.
    pub fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// The trials that started.
    pub fn records(&self) -> &[TrialRecord] {
        self.ledger.records()
    }

    /// Trains what is missing.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DeviceLost`] and what the observer returns, after the trials under way have stopped. A
    /// loss that is not finite fails its trial and not the sweep, and so does one that needs more than the device has.
    pub fn run(&mut self, options: RunOptions<'_>, observer: &mut dyn SweepObserver) -> Result<Finish> {
        let SweepFolder { path, sweep, ledger, images, .. } = self;
        let mut search = sweep.search()?;
        ledger.restore(&mut search, sweep.metric());
        let mut placement = Placement::new(sweep, options.device, options.jobs, options.side_by_side);
        let threads = (Threads::current().num_threads() / placement.num_sharing()).max(1);
        let halt = AtomicBool::new(false);
        let is_stopping = || halt.load(Ordering::Relaxed) || (options.stop)();
        let (sender, messages) = mpsc::channel();
        let mut desk = Desk { sweep, ledger, search, observer };
        let mut failure = None;
        std::thread::scope(|scope| {
            loop {
                while placement.has_room() && !is_stopping() {
                    let launched = desk.next_leg(images, &mut placement).map(|next| {
                        next.map(|(leg, trial, data, device)| {
                            let (folder, sender) = (path.join(trial_folder(leg.trial)), sender.clone());
                            let is_stopping = &is_stopping;
                            scope.spawn(move || {
                                let mut tell = |news| {
                                    // The receiver lives as long as the scope.
                                    let _ = sender.send(Message::News(leg.trial, news));
                                };
                                // A place beside others is free again as soon as this ends.
                                let device = device;
                                let task = Task {
                                    config: &trial.config,
                                    data: &data,
                                    device: &device,
                                    folder: &folder,
                                    epochs: leg.epochs,
                                    stop: is_stopping,
                                };
                                let ended = Threads::new(threads).install(|| trial::train(&task, &mut tell));
                                drop(device);
                                let _ = sender.send(Message::Ended(leg.trial, ended));
                            });
                        })
                    });
                    match launched {
                        Ok(Some(())) => {}
                        Ok(None) => break,
                        Err(error) => keep_first(&mut failure, error, &halt),
                    }
                }
                if placement.num_running() == 0 {
                    break;
                }
                let Ok(message) = messages.recv() else { break };
                if matches!(message, Message::Ended(..)) {
                    placement.ended();
                }
                if let Err(error) = desk.take(message) {
                    keep_first(&mut failure, error, &halt);
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(desk.finish(is_stopping())),
        }
    }
}

/// Writes `sweep.toml`.
pub(super) fn write_config(folder: &Path, config: &SweepConfig) -> Result<()> {
    let text = toml::to_string_pretty(config)
        .map_err(|error| Error::setting("sweep", "settings that TOML can hold", error))?;
    files::write_whole(&folder.join("sweep.toml"), text.as_bytes())
}

fn keep_first(failure: &mut Option<Error>, error: Error, halt: &AtomicBool) {
    halt.store(true, Ordering::Relaxed);
    failure.get_or_insert(error);
}

/// A leg to train, with its trial, images and device.
type Next<'a> = (Leg, &'a Trial, Arc<RunData>, Device);

/// The state of the deciding thread.
pub(super) struct Desk<'a> {
    pub sweep: &'a Sweep,
    pub ledger: &'a mut Ledger,
    pub search: Search,
    pub observer: &'a mut dyn SweepObserver,
}

impl<'a> Desk<'a> {
    /// The next leg to train, with its trial, images and device, noted in the ledger.
    fn next_leg(&mut self, images: &mut Images, placement: &mut Placement<'_>) -> Result<Option<Next<'a>>> {
        let Some(leg) = self.start_leg_of(&mut |trial| placement.fits(trial))? else { return Ok(None) };
        let trial = &self.sweep.trials[leg.trial];
        let data = images.of(&trial.config)?;
        let has_ended = |record: &TrialRecord| matches!(record.status, Status::Complete | Status::Failed);
        let may_follow = |other: usize| !self.ledger.of(other).is_some_and(has_ended);
        let device = placement.start(leg.trial, &may_follow)?;
        Ok(Some((leg, trial, data, device)))
    }

    /// The next leg to train, noted in the ledger.
    pub fn start_leg(&mut self) -> Result<Option<Leg>> {
        self.start_leg_of(&mut |_| true)
    }

    /// The next leg of the trials that fit.
    fn start_leg_of(&mut self, fits: &mut dyn FnMut(usize) -> bool) -> Result<Option<Leg>> {
        while let Some(leg) = self.search.next_leg_of(fits) {
            let trial = &self.sweep.trials[leg.trial];
            let ended = self.ledger.of(leg.trial).filter(|record| record.status == Status::Complete);
            if let Some(metric) = ended.and_then(|record| record.metric) {
                // Early stopping ended the trial before: at higher rungs it has the same metric.
                self.ledger.update(leg.trial, |record| record.rungs.push(Some(metric)))?;
                self.search.record(leg.trial, self.sweep.metric().cost(metric));
                continue;
            }
            self.ledger.start(leg, &trial.assignment)?;
            self.observer.started(leg.trial + 1, leg.epochs);
            return Ok(Some(leg));
        }
        Ok(None)
    }

    /// How a run ended in which all that was under way has ended.
    pub fn finish(&mut self, was_stopped: bool) -> Finish {
        let is_cut_off = |record: &TrialRecord| record.status == Status::Running;
        let has_rest = self.ledger.records().iter().any(is_cut_off) || self.search.next_leg().is_some();
        if was_stopped && has_rest { Finish::Stopped } else { Finish::Complete }
    }

    pub fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::News(trial, News::Progress { epoch, images_done, images }) => {
                self.observer.progress(trial + 1, epoch, images_done, images);
            }
            Message::News(trial, News::Epoch(report)) => self.observer.epoch(trial + 1, &report),
            Message::News(trial, News::Warning(message)) => self.observer.warn(trial + 1, &message),
            Message::Ended(trial, Ok(progress)) => self.ended(trial, progress)?,
            Message::Ended(trial, Err(error)) if is_the_trials_own(&error) => {
                self.failed(trial, error.to_string())?;
            }
            Message::Ended(_, Err(error)) => return Err(error),
        }
        Ok(())
    }

    fn ended(&mut self, trial: usize, progress: Progress) -> Result<()> {
        let Progress { epochs, best, end } = progress;
        let metric = best.as_ref().map(|best| self.sweep.metric().of(best));
        let status = match end {
            End::Complete(_) => Status::Complete,
            End::Reached => Status::Halved,
            End::Stopped => Status::Running,
        };
        let record = self.ledger.update(trial, |record| {
            record.status = status;
            record.epochs = epochs;
            record.metric = metric;
            record.best_epoch = best.map(|best| best.epoch);
            if status != Status::Running {
                record.rungs.push(metric);
            }
            if let End::Complete(outcome) = end {
                record.reason = Some(outcome.stopped);
                record.test_accuracy = Some(outcome.test_accuracy);
            }
        })?;
        if status == Status::Running {
            return Ok(());
        }
        self.search.record(trial, metric.map_or(f64::INFINITY, |metric| self.sweep.metric().cost(metric)));
        self.observer.ended(record)
    }

    pub fn failed(&mut self, trial: usize, reason: String) -> Result<()> {
        let record = self.ledger.update(trial, |record| {
            record.status = Status::Failed;
            record.metric = None;
            record.best_epoch = None;
            record.rungs.push(None);
            record.reason = Some(reason);
        })?;
        self.search.record(trial, f64::INFINITY);
        self.observer.ended(record)
    }
}

/// Whether an error is about this trial's settings and says nothing about the others.
pub(super) fn is_the_trials_own(error: &Error) -> bool {
    matches!(
        error,
        Error::NonFinite { .. }
            | Error::Setting { .. }
            | Error::Operand { .. }
            | Error::State { .. }
            | Error::Limit { .. }
            | Error::Unsupported { .. }
    )
}

/// Builds what each trial would compute, which finds what its settings alone do not show: names of parameters that do
/// not exist, a schedule that is too short.
fn check(sweep: &Sweep, images: &mut Images) -> Result<()> {
    for (index, Trial { assignment, config }) in sweep.trials.iter().enumerate() {
        let data = images.of(config)?;
        setup::plans_on(config, &data).map_err(|error| super::config::in_trial(index, assignment, error))?;
    }
    Ok(())
}
