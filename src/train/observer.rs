//! What a run reports while it trains, and who listens.

use serde::{Deserialize, Serialize};

use super::{Evaluation, HealthReport};
use crate::Result;

/// Reads null, which serde_json writes for a number that JSON cannot hold, as NaN.
pub(crate) fn nan_if_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What is known at the end of an epoch; a line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean loss over the training images while the weights changed, with penalties and label smoothing where there
    /// are any: what is minimised.
    #[serde(deserialize_with = "nan_if_null")]
    pub train_loss: f64,
    /// Share of training images classified correctly while the weights changed.
    pub train_accuracy: f64,
    /// Mean loss over the validation images, without penalties or label smoothing.
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

    /// A look into the network as an epoch ends, where the session was made for it.
    ///
    /// # Errors
    /// An error ends the run.
    fn health(&mut self, epoch: u64, report: &HealthReport) -> Result<()> {
        let _ = (epoch, report);
        Ok(())
    }

    /// Whether to stop: asked all the time. Where it says so, and keeps saying so, training ends behind the steps under
    /// way, is saved if [`FitOptions::checkpoint`] says where, and returns
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    fn should_stop(&mut self) -> bool {
        false
    }

    /// Something that the user should know.
    fn warn(&mut self, message: &str) {
        let _ = message;
    }
}

impl Observer for () {}
