//! Training: [`fit`] is the loop, one function that reads top to bottom. What it decides with ([`schedule`],
//! [`early_stop`]) are pure state machines; what it drives is a [`Session`]; what it tells goes to an [`Observer`].
//! [`TrainConfig`] describes a run as plain values, to keep in a file and run again.

pub mod config;
pub mod early_stop;
mod evaluate;
pub mod health;
pub mod metrics;
pub mod predict;
pub mod report;
pub mod run_folder;
mod saved;
pub mod schedule;
pub mod session;
pub mod weights;

pub use config::TrainConfig;
use early_stop::{BestSoFar, EarlyStopOptions, EarlyStopping, Monitor};
pub use evaluate::{EvalOptions, evaluate};
pub use health::{HealthKind, HealthOptions, HealthReport, HealthRow};
use metrics::Metrics;
pub use saved::SavedModel;
use schedule::{Interval, Schedule};
use serde::{Deserialize, Serialize};
pub use session::{EpochMetrics, Session, SessionOptions};

use crate::{Error, Result};

/// How a session is trained.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// The most epochs.
    pub epochs: u64,
    /// The learning rate that the schedule starts from.
    pub lr: f64,
    /// How the learning rate changes. A plateau watches the validation loss.
    pub schedule: Schedule,
    /// When to stop early; `None` never does.
    pub early_stopping: Option<EarlyStopOptions>,
}

/// What is known at the end of an epoch; a line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean loss over the training images while the weights changed, with penalties and label smoothing where there
    /// are any: what is minimised.
    pub train_loss: f64,
    /// Share of training images classified correctly while the weights changed.
    pub train_accuracy: f64,
    /// Mean loss over the validation images, without penalties or label smoothing.
    pub val_loss: f64,
    /// Share of validation images classified correctly.
    pub val_accuracy: f64,
    /// The learning rate of the epoch's first step.
    pub lr: f64,
    /// Training images a second, validation not counted.
    pub images_per_second: f64,
    /// Whether the weights at its end are the best so far.
    pub is_best: bool,
}

/// How a run ended; the last line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Mean loss over the test images under the best weights.
    pub test_loss: f64,
    /// Share of test images classified correctly under the best weights.
    pub test_accuracy: f64,
    /// The epoch whose weights are the best.
    pub best_epoch: u64,
    /// Epochs that were run.
    pub epochs: u64,
    /// Why training ended.
    pub stopped: String,
}

/// Someone who watches a run. Every method does nothing unless written otherwise.
pub trait Observer {
    /// Some of the epoch's training images are done.
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        let _ = (epoch, images_done, images);
    }

    /// An epoch has ended.
    ///
    /// # Errors
    /// An error ends the run.
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let _ = report;
        Ok(())
    }

    /// Something that the user should know.
    fn warn(&mut self, message: &str) {
        let _ = message;
    }
}

impl Observer for () {}

/// Trains until early stopping, a loss that is not finite, or the last epoch; then restores the best weights, however
/// it ended, and judges the test images once.
///
/// # Errors
/// [`Error::Config`] for settings that cannot be; [`Error::NonFinite`] where not even one epoch was finite;
/// [`Error::DeviceLost`]; what the observer returns.
pub fn fit(session: &mut Session, options: &FitOptions, observer: &mut dyn Observer) -> Result<Outcome> {
    options.validate(session)?;
    let mut schedule = options.schedule.clone();
    let mut early_stopping = options.early_stopping.clone().map(EarlyStopping::new).transpose()?;
    if let Some(warning) = early_stopping.as_ref().and_then(|stopping| stopping.warning(&schedule)) {
        observer.warn(&warning);
    }
    let monitor = options.early_stopping.as_ref().map_or(Monitor::ValLoss, |stopping| stopping.monitor);
    let mut best = BestSoFar::new(monitor);
    let (images, steps) = (session.images_per_epoch(), session.steps_per_epoch() as u64);
    let mut stopped = format!("all {} epochs are done", options.epochs);
    let mut epochs = 0;
    for epoch in 1..=options.epochs {
        let rates = |step: u64| {
            let at = if schedule.interval() == Interval::Batch { step } else { step / steps };
            (schedule.lr(options.lr, at), schedule.momentum(at))
        };
        let (lr, _) = rates((epoch - 1) * steps);
        let mut progress = |done| observer.progress(epoch, done, images);
        let EpochMetrics { train, validation, train_time } = session.run_epoch(epoch - 1, &rates, &mut progress)?;
        epochs = epoch;
        if let Some(mut error) = non_finite(epoch, &train, &validation, lr) {
            if let Error::NonFinite { layer, .. } = &mut error {
                *layer = session.first_non_finite(epoch - 1, train.first_non_finite, &rates)?;
            }
            if best.best().is_none() {
                return Err(error);
            }
            observer.warn(&format!("{error}; training ends here with the best weights so far"));
            stopped = error.to_string();
            break;
        }
        let monitored = match monitor {
            Monitor::ValLoss => validation.loss,
            Monitor::ValAccuracy => validation.accuracy,
            Monitor::TrainLoss => train.loss,
        };
        let is_best = best.observe(epoch, monitored);
        if is_best {
            session.program().keep_model()?;
        }
        observer.epoch(&EpochReport {
            epoch,
            train_loss: train.loss,
            train_accuracy: train.accuracy,
            val_loss: validation.loss,
            val_accuracy: validation.accuracy,
            lr,
            images_per_second: images as f64 / train_time.as_secs_f64(),
            is_best,
        })?;
        schedule.observe(epoch - 1, validation.loss);
        if let Some(reason) = early_stopping.as_mut().and_then(|stopping| stopping.observe(epoch, monitored).stop) {
            stopped = reason.to_string();
            break;
        }
    }
    session.program().restore_model()?;
    let test = session.test()?;
    let best_epoch = best.best().map_or(0, |best| best.epoch);
    Ok(Outcome { test_loss: test.loss, test_accuracy: test.accuracy, best_epoch, epochs, stopped })
}

impl FitOptions {
    fn validate(&self, session: &Session) -> Result<()> {
        if self.epochs == 0 {
            return Err(Error::config("--epochs", "at least 1", self.epochs));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Error::config("--lr", "a number above 0", self.lr));
        }
        if self.schedule.interval() == Interval::Batch {
            self.schedule.check_num_steps(self.epochs * session.steps_per_epoch() as u64)?;
        }
        Ok(())
    }
}

/// What went wrong in an epoch, if a loss or score in it is not finite.
fn non_finite(epoch: u64, train: &Metrics, validation: &Metrics, lr: f64) -> Option<Error> {
    let named = [("training loss", train), ("validation loss", validation)];
    let (what, step) = named.iter().find_map(|(what, metrics)| Some((*what, metrics.first_non_finite?)))?;
    // Epochs are counted in u64 by the loop, far below usize's range.
    Some(Error::NonFinite { what, epoch: epoch as usize, step: step + 1, lr, layer: None })
}
