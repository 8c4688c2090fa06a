//! What a run reports while it trains, and who listens.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::early_stop::{Monitor, four_decimals};
use super::metrics::Metrics;
use super::session::RankTime;
use super::{DiagnosticsReport, Evaluation, Session};
use crate::Result;

/// Reads null, which serde_json writes for a number that JSON cannot hold, as NaN.
pub(crate) fn nan_if_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What is known at the end of an epoch; a line of `metrics.jsonl`. As text, a row under [`EpochReport::HEADER`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean loss over the training images while the weights changed, including L1 and L2 penalties and label
    /// smoothing: what is minimised.
    #[serde(deserialize_with = "nan_if_null")]
    pub train_loss: f64,
    /// Share of training images classified correctly while the weights changed.
    pub train_accuracy: f64,
    /// Mean loss over the validation images, without L1 and L2 penalties and label smoothing.
    #[serde(deserialize_with = "nan_if_null")]
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
    #[serde(deserialize_with = "nan_if_null")]
    pub test_loss: f64,
    /// Share of test images classified correctly under the best weights.
    pub test_accuracy: f64,
    /// The epoch whose weights are the best.
    pub best_epoch: u64,
    /// Epochs that were run.
    pub epochs: u64,
    /// Why training ended.
    pub stopped: String,
    /// The evaluation of the test images, logits included; `None` where the outcome was read back from a file.
    #[serde(skip)]
    pub test: Option<Evaluation>,
}

/// The metrics of some batches within an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct LatestBatches {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The first of them, counted from 0 within the epoch.
    pub first: usize,
    /// Loss and accuracy of each, while the weights changed.
    pub metrics: Vec<Metrics>,
    /// The learning rate of the last of them.
    pub lr: f64,
}

/// Something that a run has done to its own course; as text, a line for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A plateau has lowered the learning rate.
    RateReduced {
        /// The epoch after which it did.
        epoch: u64,
        /// The rate from then on.
        lr: f64,
    },
    /// Training has ended, and the weights are those of the best epoch again.
    WeightsRestored {
        /// The epoch they are of.
        epoch: u64,
        /// The metric that it is the best by.
        monitor: Monitor,
        /// The metric's value.
        value: f64,
    },
    /// Several ranks have trained together to the end.
    RanksDone {
        /// How each spent the time.
        times: Vec<RankTime>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::RateReduced { epoch, lr } => {
                // To four digits, as tables of epochs have it.
                let rounded = format!("{lr:.3e}").parse().unwrap_or(*lr);
                write!(f, "learning rate reduced to {rounded:?} after epoch {epoch}")
            }
            Event::WeightsRestored { epoch, monitor, value } => {
                write!(f, "weights restored from epoch {epoch}, the best by {monitor}: {}", four_decimals(*value))
            }
            Event::RanksDone { times } => {
                let of_rank = |(rank, time): (usize, &RankTime)| {
                    format!("rank {rank} {:.2} s, {:.2} s of it waiting", time.training, time.waiting)
                };
                let times: Vec<String> = times.iter().enumerate().map(of_rank).collect();
                write!(f, "training time: {}", times.join("; "))
            }
        }
    }
}

/// Receives events during a run. Every method does nothing unless written otherwise.
/// [`PrintEpochs`](super::PrintEpochs) is one that prints them.
pub trait Observer {
    /// Some of the epoch's training images are done.
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        let _ = (epoch, images_done, images);
    }

    /// How often [`Observer::batches`] is to be called within an epoch; `None` for never. Each time the device is waited
    /// for, so that a tenth of a second or more costs little.
    fn batches_every(&self) -> Option<Duration> {
        None
    }

    /// The training metrics of the epoch's latest batches, a row for each: those since the last call. `session` has the
    /// weights as they are now, which are not to be changed.
    ///
    /// # Errors
    /// An error ends the run.
    fn batches(&mut self, batches: &LatestBatches, session: &mut Session) -> Result<()> {
        let _ = (batches, session);
        Ok(())
    }

    /// An epoch has ended.
    ///
    /// # Errors
    /// An error ends the run.
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let _ = report;
        Ok(())
    }

    /// Diagnostics of the network at the end of an epoch, where the session was made for them.
    ///
    /// # Errors
    /// An error ends the run.
    fn diagnostics(&mut self, epoch: u64, report: &DiagnosticsReport) -> Result<()> {
        let _ = (epoch, report);
        Ok(())
    }

    /// Whether to interrupt: asked all the time. Where it says so, and keeps saying so, training ends after the steps under
    /// way, is saved if [`FitOptions::checkpoint`](super::FitOptions::checkpoint) says where, and returns
    /// [`Error::Interrupted`](crate::Error::Interrupted). [`Observer::end_after`] is for a run that is done.
    fn should_stop(&mut self) -> bool {
        false
    }

    /// Whether training ends with an epoch, and why, in words for [`Outcome::stopped`]: a rule of one's own for stopping
    /// early. Asked once after each epoch and its checkpoint. Where it gives a reason, the best weights are restored and
    /// the test set is evaluated, as where [`FitOptions::early_stopping`](super::FitOptions::early_stopping) ends a run.
    /// A checkpoint does not hold the reason: a run that resumes from one trains on until it is given again. Of several
    /// ranks the first decides.
    ///
    /// ```
    /// use wgrad::train::{EpochReport, Observer};
    ///
    /// /// Ends training once the validation accuracy suffices.
    /// struct Until(f64);
    ///
    /// impl Observer for Until {
    ///     fn end_after(&mut self, report: &EpochReport) -> Option<String> {
    ///         (report.val_accuracy >= self.0).then(|| format!("validation accuracy reached {}", self.0))
    ///     }
    /// }
    /// ```
    fn end_after(&mut self, report: &EpochReport) -> Option<String> {
        let _ = report;
        None
    }

    /// The run has done something to its own course.
    fn event(&mut self, event: &Event) {
        let _ = event;
    }

    /// Something that the user should know.
    fn warn(&mut self, message: &str) {
        let _ = message;
    }
}

/// Keeps silent.
impl Observer for () {}
