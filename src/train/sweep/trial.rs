//! Training a trial as far as it is sent. What is left behind is a run folder like that of `lenet train`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exec::Device;
use crate::train::config::RunData;
use crate::train::run_folder::RunFolder;
use crate::train::{EpochReport, Observer, Outcome, TrainConfig, fit};
use crate::{Error, Result};

/// A trial and how far to train it.
pub(super) struct Task<'a> {
    pub config: &'a TrainConfig,
    pub data: &'a RunData,
    pub device: &'a Device,
    /// The run folder, made if it is not there.
    pub folder: &'a Path,
    /// The epochs that it is to have behind it.
    pub epochs: u64,
    /// Any of them is set to end as soon as possible.
    pub stop: [&'a AtomicBool; 2],
}

/// Where a trial stands when it was left.
#[derive(Debug)]
pub(super) struct Stand {
    /// The last epoch.
    pub last: EpochReport,
    /// The epoch whose weights are kept.
    pub best: EpochReport,
    pub end: End,
}

/// Why a trial was left.
#[derive(Debug)]
pub(super) enum End {
    /// Training came to its end.
    Complete(Outcome),
    /// A loss was not finite, for this reason.
    NotFinite(String),
    /// It has the epochs that it was sent for, and could go on.
    Reached,
    /// It was told to stop before.
    Stopped,
}

/// What a trial tells while it is trained.
pub(super) enum News {
    Progress { epoch: u64, images_done: usize, images: usize },
    Epoch(EpochReport),
    Warning(String),
}

/// Trains until the trial has its epochs, comes to its end or is told to stop.
///
/// # Errors
/// As [`fit`], but for a loss that is not finite; [`Error::Io`].
pub(super) fn train(task: &Task<'_>, tell: &mut dyn FnMut(News)) -> Result<Stand> {
    let mut session = task.config.session(task.device, task.data)?;
    let mut folder = RunFolder::at(task.folder)?;
    folder.write_config(task.config)?;
    let mut watcher = Watcher { task, tell, folder: &mut folder, reports: Vec::new(), stopped: false };
    let options = crate::train::FitOptions { epochs: task.epochs, ..task.config.fit_options() };
    let ended = fit(&mut session, &options, &mut watcher);
    let Watcher { reports, stopped, .. } = watcher;
    let best = reports.iter().rev().find(|report| report.is_best).or(reports.last()).cloned();
    let (Some(last), Some(best)) = (reports.last().cloned(), best) else {
        return match ended {
            Err(error) => Err(error),
            Ok(_) => Err(Error::config("epochs", "at least 1", 0)),
        };
    };
    let end = match ended {
        Ok(outcome) if outcome.epochs > last.epoch => End::NotFinite(outcome.stopped),
        Ok(outcome) if outcome.epochs == task.epochs && task.epochs < task.config.epochs => End::Reached,
        Ok(outcome) => {
            folder.add_metrics(&outcome)?;
            End::Complete(outcome)
        }
        Err(_) if stopped => End::Stopped,
        Err(error) => return Err(error),
    };
    folder.write_model(&session.model()?, &[])?;
    Ok(Stand { last, best, end })
}

/// Writes a trial's epochs down and passes them on.
struct Watcher<'a> {
    task: &'a Task<'a>,
    tell: &'a mut dyn FnMut(News),
    folder: &'a mut RunFolder,
    /// The epochs of the trial from its first.
    reports: Vec<EpochReport>,
    stopped: bool,
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        (self.tell)(News::Progress { epoch, images_done, images });
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.folder.add_metrics(report)?;
        self.reports.push(report.clone());
        (self.tell)(News::Epoch(report.clone()));
        if self.task.stop.iter().any(|stop| stop.load(Ordering::Relaxed)) {
            self.stopped = true;
            return Err(Error::config("sweep", "to go on", "a stop"));
        }
        Ok(())
    }

    fn warn(&mut self, message: &str) {
        (self.tell)(News::Warning(message.to_owned()));
    }
}
