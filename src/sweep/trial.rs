//! Training a trial as far as it is sent. What is left behind is a run folder like that of `lenet train`.

use std::path::Path;

use crate::exec::Device;
use crate::report::Run;
use crate::run::RunConfig;
use crate::run::config::RunData;
use crate::run::folder::{CHECKPOINT, RunFolder};
use crate::train::{
    Checkpoint, CheckpointOptions, EpochReport, FitOptions, HealthReport, Observer, Outcome, fit, fit_from,
};
use crate::{Error, Result};

/// Asked all the time, from several threads, whether to stop.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// A trial and how far to train it.
pub(super) struct Task<'a> {
    pub config: &'a RunConfig,
    pub data: &'a RunData,
    pub device: &'a Device,
    /// The run folder: made if it is not there, and gone on from if it has a checkpoint.
    pub folder: &'a Path,
    /// The epochs that it is to have behind it.
    pub epochs: u64,
    /// Says whether to stop as soon as possible.
    pub stop: Stop<'a>,
}

/// Where a trial stands when it was left.
#[derive(Debug)]
pub(super) struct Stand {
    /// Epochs behind it.
    pub epochs: u64,
    /// The epoch whose weights are kept.
    pub best: Option<EpochReport>,
    pub end: End,
}

/// Why a trial was left.
#[derive(Debug)]
pub(super) enum End {
    /// Training came to its end.
    Complete(Outcome),
    /// A loss, a gradient or a weight was not finite, for this reason.
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
/// As [`fit`]; [`Error::Data`] where the folder's checkpoint is of other settings.
pub(super) fn train(task: &Task<'_>, tell: &mut dyn FnMut(News)) -> Result<Stand> {
    let settings = task.config.to_toml()?;
    let path = task.folder.join(CHECKPOINT);
    let checkpoint = load(&path, &settings, tell)?;
    let epochs = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.epochs);
    let folder = match &checkpoint {
        Some(_) => RunFolder::open(task.folder, epochs)?,
        None => RunFolder::at(task.folder)?,
    };
    folder.write_config(task.config)?;
    let mut reports = if epochs > 0 { Run::read(task.folder)?.epochs } else { Vec::new() };
    reports.retain(|report| report.epoch <= epochs);
    let is_to_pause = task.epochs < task.config.epochs;
    let mut watcher = Watcher { task, tell, folder, reports, stops: false };
    let end = match &checkpoint {
        // The sweep was cut off after it got there and before that was noted.
        Some(checkpoint) if is_to_pause && epochs >= task.epochs => {
            let metadata = task.config.metadata(&task.data.train)?;
            watcher.folder.write_model(&checkpoint.snapshot.kept, &metadata.entry("epochs", epochs))?;
            End::Reached
        }
        _ => go_on(&mut watcher, checkpoint.as_ref(), CheckpointOptions { settings, ..CheckpointOptions::new(path) })?,
    };
    let reports = watcher.reports;
    // Whoever watches weights may count other epochs as the best than the last ones; without any there is no score.
    let best = reports.iter().rev().find(|report| report.is_best).cloned();
    Ok(Stand { epochs: reports.last().map_or(0, |last| last.epoch), best, end })
}

/// Trains from the checkpoint, or from the first epoch, and leaves the best weights in the folder.
fn go_on(watcher: &mut Watcher<'_>, from: Option<&Checkpoint>, save: CheckpointOptions) -> Result<End> {
    let Task { config, data, device, .. } = *watcher.task;
    let mut session = config.session(device, data)?;
    let options = FitOptions { checkpoint: Some(save), ..config.fit_options() };
    let ended = match from {
        Some(checkpoint) => fit_from(&mut session, &options, checkpoint, watcher),
        None => fit(&mut session, &options, watcher),
    };
    let num_reported = watcher.reports.len() as u64;
    let end = match ended {
        Ok(outcome) => {
            watcher.folder.add_metrics(&outcome)?;
            End::Complete(outcome)
        }
        Err(Error::Interrupted { .. }) if num_reported >= watcher.task.epochs => End::Reached,
        Err(Error::Interrupted { .. }) => End::Stopped,
        Err(error @ Error::NonFinite { .. }) => End::NotFinite(error.to_string()),
        Err(error) => return Err(error),
    };
    if num_reported > 0 {
        let metadata = config.metadata(&data.train)?.entry("epochs", num_reported);
        watcher.folder.write_model(&session.model()?, &metadata)?;
    }
    Ok(end)
}

/// The checkpoint to go on from; `None` where there is none, or it cannot be read.
fn load(path: &Path, settings: &str, tell: &mut dyn FnMut(News)) -> Result<Option<Checkpoint>> {
    if !path.exists() {
        return Ok(None);
    }
    match Checkpoint::load(path) {
        Ok(checkpoint) if checkpoint.settings == settings => Ok(Some(checkpoint)),
        Ok(_) => {
            let expected = "a checkpoint of the settings that sweep.toml gives this trial";
            Err(Error::data(path, expected, "one of other settings; sweep.toml was changed"))
        }
        Err(error) => {
            tell(News::Warning(format!("{error}; it starts again")));
            Ok(None)
        }
    }
}

/// Writes a trial's epochs down and passes them on.
struct Watcher<'a> {
    task: &'a Task<'a>,
    tell: &'a mut dyn FnMut(News),
    folder: RunFolder,
    /// The epochs of the trial from its first.
    reports: Vec<EpochReport>,
    /// It has said that it is to stop, and must go on saying so.
    stops: bool,
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        (self.tell)(News::Progress { epoch, images_done, images });
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.folder.add_metrics(report)?;
        self.reports.push(report.clone());
        // The last epoch of all needs nobody to stop it.
        self.stops |= report.epoch == self.task.epochs && self.task.epochs < self.task.config.epochs;
        (self.tell)(News::Epoch(report.clone()));
        Ok(())
    }

    fn health(&mut self, epoch: u64, report: &HealthReport) -> Result<()> {
        self.folder.add_health(epoch, report)
    }

    fn should_stop(&mut self) -> bool {
        self.stops |= (self.task.stop)();
        self.stops
    }

    fn warn(&mut self, message: &str) {
        (self.tell)(News::Warning(message.to_owned()));
    }
}
