//! Driving a run from its settings to a folder with everything that it leaves: checkpoint, best weights, metrics,
//! diagnostics and report. `lenet train`, a trial of a sweep and the examples all come through here.

use std::path::{Path, PathBuf};

use super::keep::{Ended, Events};
use super::prepared::{Prepared, TrainOn};
use super::recorder::Recorder;
use super::resume::Saved;
use super::{RunConfig, RunData, RunFolder, folder};
use crate::exec::Device;
use crate::nn::weights::{self, Metadata};
use crate::train::{CheckpointOptions, EpochReport, FitOptions, History, Observer, Outcome, Session, fit, fit_from};
use crate::{Error, Result};

/// A run that is set up: its network, optimizer and images are on the device, its folder is there.
pub struct Run<'a> {
    pub(super) config: RunConfig,
    pub(super) device: &'a Device,
    pub(super) data: &'a RunData,
    pub(super) session: Session,
    pub(super) folder: RunFolder,
    pub(super) from: Option<Saved>,
    pub(super) with_report: bool,
}

/// A run that came to its end.
#[derive(Debug)]
pub struct Finished {
    /// How it ended, with the evaluation of the test images under the best weights.
    pub outcome: Outcome,
    /// The file of the best weights.
    pub model: PathBuf,
    /// The page of the report, if one was asked for and could be written.
    pub report: Option<PathBuf>,
    /// Every epoch.
    pub epochs: Vec<EpochReport>,
}

impl<'a> Run<'a> {
    /// Sets up a new run in a folder of its own, `<parent>/<time>-<network>-<data set>`. It trains on a device, or on
    /// one with other ranks ([`TrainOn`]).
    ///
    /// # Errors
    /// As [`Prepared::new`] and [`RunFolder::create`]; no folder is created then.
    pub fn create(config: RunConfig, on: impl Into<TrainOn<'a>>, data: &'a RunData, parent: &Path) -> Result<Run<'a>> {
        Prepared::new(config, on, data)?.create(parent)
    }

    /// Sets up a new run in this folder, whose files it replaces.
    ///
    /// # Errors
    /// As [`Run::create`].
    pub fn at(config: RunConfig, on: impl Into<TrainOn<'a>>, data: &'a RunData, folder: &Path) -> Result<Run<'a>> {
        Prepared::new(config, on, data)?.at(folder)
    }

    /// Sets up a run to resume from where it was saved, in the same folder.
    ///
    /// # Errors
    /// [`Error::Setting`] where `config` changes what a resumed run cannot change; as [`Run::create`] and
    /// [`RunFolder::open`].
    pub fn resume(config: RunConfig, on: impl Into<TrainOn<'a>>, data: &'a RunData, saved: Saved) -> Result<Run<'a>> {
        saved.check(&config)?;
        Prepared::new(config, on, data)?.resume(saved)
    }

    /// The same run without a report: no page, pictures, `metrics.csv` or TensorBoard events.
    pub fn without_report(mut self) -> Self {
        self.with_report = false;
        self
    }

    /// Its settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// What it trains.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Trains to the end and keeps everything: metrics and diagnostics as they come, the best weights, then the report.
    /// If the observer asks to stop, the run is saved with its best weights so far and can be resumed.
    ///
    /// # Errors
    /// As [`fit`], among them [`Error::Interrupted`]. A report that cannot be written is a warning: the run itself is
    /// saved by then.
    pub fn train(self, observer: &mut dyn Observer) -> Result<Finished> {
        let Run { config, device, data, mut session, folder, from, with_report } = self;
        let epochs_before = from.as_ref().map_or(0, |saved| saved.checkpoint.state.epochs);
        let events = if with_report { Events::follow(folder.path(), epochs_before)? } else { Events::none() };
        let mut recorder = Recorder::new(folder, events, observer);
        if epochs_before > 0 {
            let history = folder::read_history(recorder.folder.path())?;
            recorder.epochs = history.epochs.into_iter().filter(|report| report.epoch <= epochs_before).collect();
            recorder.diagnostics = history.diagnostics.into_iter().filter(|line| line.epoch <= epochs_before).collect();
        }
        let metadata = config.metadata(&data.train)?;
        let trained = train(&mut session, &config, from.as_ref(), &mut recorder);
        let outcome = match trained {
            Ok(outcome) => outcome,
            Err(error) => {
                keep_best_so_far(&error, &mut session, &mut recorder, metadata)?;
                return Err(error);
            }
        };
        // The weights first: they are what cannot be had again.
        let weights = session.model()?;
        let metadata = metadata.entry("best_epoch", outcome.best_epoch).entry("test_accuracy", outcome.test_accuracy);
        let model = recorder.folder.write_model(&weights, &metadata)?;
        recorder.folder.add_metrics(&outcome)?;
        let history = History {
            path: recorder.folder.path().to_owned(),
            name: recorder.folder.name(),
            settings: config.flat_settings()?,
            epochs: std::mem::take(&mut recorder.epochs),
            diagnostics: std::mem::take(&mut recorder.diagnostics),
            outcome: Some(outcome.clone()),
        };
        let ended = Ended { config: &config, device, data, weights: &weights, outcome: &outcome, history: &history };
        let report = match recorder.events.report(recorder.folder.path(), &ended) {
            Ok(report) => report,
            Err(error) => {
                recorder.warn(&format!("the run is saved, but its report is not: {error}"));
                None
            }
        };
        Ok(Finished { outcome, model, report, epochs: history.epochs })
    }
}

fn train(
    session: &mut Session,
    config: &RunConfig,
    from: Option<&Saved>,
    recorder: &mut Recorder<'_>,
) -> Result<Outcome> {
    let checkpoint =
        CheckpointOptions { settings: config.to_toml()?, ..CheckpointOptions::new(recorder.folder.checkpoint()) };
    let options = FitOptions { checkpoint: Some(checkpoint), ..config.fit_options() };
    match from {
        None => fit(session, &options, recorder),
        Some(Saved { folder, checkpoint }) => {
            fit_from(session, &options, checkpoint, recorder).map_err(weights::in_file(&folder::checkpoint_in(folder)))
        }
    }
}

/// What a run has learned is of use although it was interrupted, or failed in a later epoch.
fn keep_best_so_far(
    error: &Error,
    session: &mut Session,
    recorder: &mut Recorder<'_>,
    metadata: Metadata,
) -> Result<()> {
    let epochs = match error {
        Error::Interrupted { epochs, .. } => *epochs,
        // The epoch that failed is not among them. Counted far below u64's range.
        Error::NonFinite { epoch, .. } => epoch.saturating_sub(1) as u64,
        _ => 0,
    };
    if epochs > 0 {
        recorder.folder.write_model(&session.model()?, &metadata.entry("epochs", epochs))?;
    }
    Ok(())
}
