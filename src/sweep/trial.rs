//! Training a trial up to its current budget. What it leaves is a run folder like that of `lenet train`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::exec::Device;
use crate::run::{Run, RunConfig, RunData, RunFolder, Saved, folder};
use crate::train::{EpochReport, Observer, Outcome};
use crate::{Error, Result};

/// Polled from several threads for whether to stop.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// A trial and its budget.
pub(super) struct Task<'a> {
    pub config: &'a RunConfig,
    pub data: &'a RunData,
    pub device: &'a Device,
    /// The run folder: made if it is not there, and resumed if it has a checkpoint.
    pub folder: &'a Path,
    /// The epochs after which it pauses.
    pub epochs: u64,
    /// Says whether to stop as soon as possible.
    pub stop: Stop<'a>,
}

/// The progress of a trial.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Epochs that are done.
    pub epochs: u64,
    /// The epoch whose weights are kept.
    pub best: Option<EpochReport>,
    pub end: End,
}

/// Why training a trial ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum End {
    /// The run came to its end.
    Complete(Outcome),
    /// It reached its budget, and could be trained further.
    Reached,
    /// It was told to stop before.
    Stopped,
}

/// What a trial reports while it trains.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    Progress { epoch: u64, images_done: usize, images: usize },
    Epoch(EpochReport),
    Warning(String),
}

/// Trains until the trial reaches its budget, ends or is told to stop.
///
/// # Errors
/// As [`Run::train`]; [`Error::Data`] where the folder's checkpoint is of other settings.
pub(super) fn train(task: &Task<'_>, tell: &mut dyn FnMut(News)) -> Result<Progress> {
    let Task { config, data, device, .. } = *task;
    let saved = saved(task, tell)?;
    let epochs = saved.as_ref().map_or(0, |saved| saved.checkpoint.state.epochs);
    let is_to_pause = task.epochs < config.epochs;
    let mut reports = if epochs > 0 { folder::read_history(task.folder)?.epochs } else { Vec::new() };
    reports.retain(|report| report.epoch <= epochs);
    let mut watcher = Watcher { task, tell, reports, stops: false };
    let end = match saved {
        // The sweep stopped after reaching the budget but before recording it.
        Some(saved) if is_to_pause && epochs >= task.epochs => {
            let metadata = config.metadata(&data.train)?.entry("epochs", epochs);
            RunFolder::open(task.folder, epochs)?.write_model(&saved.checkpoint.snapshot.kept, &metadata)?;
            End::Reached
        }
        Some(saved) => watcher.run(Run::resume(config.clone(), device, data, saved)?)?,
        None => watcher.run(Run::at(config.clone(), device, data, task.folder)?)?,
    };
    let reports = watcher.reports;
    let best = reports.iter().rev().find(|report| report.is_best).cloned();
    Ok(Progress { epochs: reports.last().map_or(0, |last| last.epoch), best, end })
}

/// The checkpoint to resume from; `None` where there is none, or it cannot be read.
fn saved(task: &Task<'_>, tell: &mut dyn FnMut(News)) -> Result<Option<Saved>> {
    let path = folder::checkpoint_in(task.folder);
    if !path.exists() {
        return Ok(None);
    }
    match Saved::read(task.folder) {
        Ok(saved) if saved.config()?.differences(&task.config.named())?.is_empty() => Ok(Some(saved)),
        Ok(_) => {
            let expected = "a checkpoint of the settings that sweep.toml gives this trial";
            Err(Error::data(&path, expected, "one of other settings; sweep.toml was changed"))
        }
        Err(error) => {
            tell(News::Warning(format!("{error}; the trial starts again")));
            Ok(None)
        }
    }
}

/// Passes a trial's epochs on, and pauses it at its budget.
struct Watcher<'a> {
    task: &'a Task<'a>,
    tell: &'a mut dyn FnMut(News),
    /// The epochs of the trial from its first.
    reports: Vec<EpochReport>,
    /// It has said that the run is to stop, and must keep saying so.
    stops: bool,
}

impl Watcher<'_> {
    fn run(&mut self, run: Run<'_>) -> Result<End> {
        match run.without_report().train(self) {
            Ok(finished) => Ok(End::Complete(finished.outcome)),
            Err(Error::Interrupted { .. }) if self.reports.len() as u64 >= self.task.epochs => Ok(End::Reached),
            Err(Error::Interrupted { .. }) => Ok(End::Stopped),
            Err(error) => Err(error),
        }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        (self.tell)(News::Progress { epoch, images_done, images });
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.reports.push(report.clone());
        // A run's last epoch ends it anyway.
        self.stops |= report.epoch == self.task.epochs && self.task.epochs < self.task.config.epochs;
        (self.tell)(News::Epoch(report.clone()));
        Ok(())
    }

    fn should_stop(&mut self) -> bool {
        self.stops |= (self.task.stop)();
        self.stops
    }

    fn warn(&mut self, message: &str) {
        (self.tell)(News::Warning(message.to_owned()));
    }
}
