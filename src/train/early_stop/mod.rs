//! When to stop, and which weights are best so far: two state machines fed one metric an epoch. They decide only; the
//! trainer keeps and restores weights. Only [`BestSoFar`] has a best: the best value, by plain comparison. Early stopping
//! measures progress against the last value that was better by more than `min_delta`, and follows the rule that Keras'
//! and Lightning's `EarlyStopping` share.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::schedule::{Mode, Schedule};
use crate::{Error, Result};

/// Stops a run whose metric no longer improves.
///
/// A value is an improvement if it is better than the last improvement by more than `min_delta`; then the wait is over.
/// Any other value makes the wait one epoch longer, and the run stops when the wait reaches `patience`. So slow progress,
/// each step within `min_delta`, stops too. A value that is not finite is no improvement (in [`fit`](super::fit) it ends
/// the run as an error).
///
/// | epoch | 1 | 2 | 3 | 4 | 5 | 6 | 7 |
/// |---|---|---|---|---|---|---|---|
/// | loss (`min_delta` .005, `patience` 5) | .50 | .45 | .447 | .446 | .4455 | .4452 | .4451 |
/// | wait after it | 0 | 0 | 1 | 2 | 3 | 4 | 5, stops |
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    options: EarlyStopOptions,
    state: EarlyStopState,
}

/// What early stopping watches and how long it waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopOptions {
    /// The metric. Default: the validation loss.
    pub monitor: Monitor,
    /// How much better a value must be to count, in the metric's unit (accuracy: a share, 0.01 is one point); not
    /// negative. Default 0: any improvement counts.
    pub min_delta: f64,
    /// The epochs in a row without improvement that stop the run; 0 acts as 1. Default 5.
    pub patience: u64,
    /// The first epoch watched, counted from 1; what comes before has no effect here. Default 1.
    pub start_epoch: u64,
}

/// A metric that a run measures once an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The mean loss of the validation images under the weights at the end of the epoch; smaller is better.
    #[default]
    ValLoss,
    /// The share of validation images classified correctly, 0 to 1, at the end of the epoch; larger is better.
    ValAccuracy,
    /// The mean loss of the training batches; smaller is better. It is a mean over the epoch *while the weights
    /// change*, and it has dropout and batch statistics in it, so it belongs to no weights that could be saved; the
    /// weights at the epoch's end are usually better than it says (keras-team/keras#20323).
    TrainLoss,
}

/// The best value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch it is of, counted from 1.
    pub epoch: u64,
    /// The value.
    pub value: f64,
}

/// What early stopping has seen, to keep in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopState {
    /// The epoch of the last improvement and its value; `None` before the first.
    pub improved: Option<Best>,
    /// The watched epochs since then.
    pub wait: u64,
}

/// Why a run stops early; as text, a sentence for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct StopReason {
    /// The metric.
    pub monitor: Monitor,
    /// How much better it had to be to count.
    pub min_delta: f64,
    /// How many epochs went by without improvement.
    pub wait: u64,
    /// The last improvement, if there ever was one.
    pub improved: Option<Best>,
}

impl EarlyStopping {
    /// Early stopping that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `min_delta` is finite and not negative and `start_epoch` is at least 1.
    pub fn new(options: EarlyStopOptions) -> Result<Self> {
        if !options.min_delta.is_finite() || options.min_delta < 0.0 {
            return Err(Error::setting("min_delta", "a number of at least 0", options.min_delta));
        }
        if options.start_epoch == 0 {
            return Err(Error::setting("start_epoch", "at least 1, as epochs are counted from 1", 0));
        }
        Ok(EarlyStopping { options, state: EarlyStopState::default() })
    }

    /// Takes in the value of an epoch, counted from 1. A pure function of the state, the epoch and the value.
    pub fn observe(&mut self, epoch: u64, value: f64) {
        let EarlyStopOptions { monitor, min_delta, start_epoch, .. } = self.options;
        if epoch < start_epoch {
            return;
        }
        if monitor.is_better(value, self.state.improved, min_delta) {
            self.state = EarlyStopState { improved: Some(Best { epoch, value }), wait: 0 };
        } else {
            self.state.wait += 1;
        }
    }

    /// Why to stop after all that was seen; `None` to train on.
    pub fn reason(&self) -> Option<StopReason> {
        let EarlyStopOptions { monitor, min_delta, patience, .. } = self.options;
        let EarlyStopState { improved, wait } = self.state;
        (wait >= patience.max(1)).then_some(StopReason { monitor, min_delta, wait, improved })
    }

    /// A warning, in a sentence, if this stops the run before it trains at a rate that the schedule's plateau has cut.
    /// A plateau acts one epoch after its patience is used up, and the cut shows in the epoch after that, so the
    /// patience here must be longer by two.
    pub fn warning(&self, schedule: &Schedule) -> Option<String> {
        let (patience, plateau_patience) = (self.options.patience, schedule.plateau_patience()?);
        let least = plateau_patience.saturating_add(2);
        (patience < least).then(|| {
            format!(
                "early stopping (patience {patience}) ends the run before the plateau schedule (patience \
                 {plateau_patience}) can lower the learning rate to any effect; give early stopping at least {least}"
            )
        })
    }

    /// The options it was made with.
    pub fn options(&self) -> &EarlyStopOptions {
        &self.options
    }

    /// What it has seen.
    pub fn state(&self) -> &EarlyStopState {
        &self.state
    }

    /// Resumes from what [`state`](Self::state) returned.
    pub fn restore(&mut self, state: EarlyStopState) {
        self.state = state;
    }
}

impl Default for EarlyStopOptions {
    fn default() -> Self {
        EarlyStopOptions { monitor: Monitor::ValLoss, min_delta: 0.0, patience: 5, start_epoch: 1 }
    }
}

/// Which epoch's weights to keep: that of the best value by plain comparison, whatever early stopping counts as an
/// improvement and from whichever epoch it watches. A value equal to the best does not replace it, nor does one that is
/// not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestSoFar {
    monitor: Monitor,
    best: Option<Best>,
}

impl BestSoFar {
    /// Nothing seen yet.
    pub fn new(monitor: Monitor) -> Self {
        BestSoFar { monitor, best: None }
    }

    /// Takes in the value of an epoch, counted from 1; true if it is the best so far and its weights are to be kept.
    pub fn observe(&mut self, epoch: u64, value: f64) -> bool {
        let improved = self.monitor.is_better(value, self.best, 0.0);
        if improved {
            self.best = Some(Best { epoch, value });
        }
        improved
    }

    /// The metric it compares.
    pub fn monitor(&self) -> Monitor {
        self.monitor
    }

    /// The best value and its epoch; `None` before the first finite value.
    pub fn best(&self) -> Option<Best> {
        self.best
    }
}

impl Monitor {
    /// Whether the metric should fall or rise.
    pub fn mode(self) -> Mode {
        match self {
            Monitor::ValLoss | Monitor::TrainLoss => Mode::Min,
            Monitor::ValAccuracy => Mode::Max,
        }
    }

    fn is_better(self, value: f64, best: Option<Best>, min_delta: f64) -> bool {
        let Some(Best { value: best, .. }) = best else {
            return value.is_finite();
        };
        value.is_finite()
            && match self.mode() {
                Mode::Min => value + min_delta < best,
                Mode::Max => value - min_delta > best,
            }
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Monitor::ValLoss => "validation loss",
            Monitor::ValAccuracy => "validation accuracy",
            Monitor::TrainLoss => "training loss",
        })
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StopReason { monitor, min_delta, wait, improved } = self;
        let epochs = if *wait == 1 { "1 epoch".to_owned() } else { format!("{wait} epochs") };
        let Some(Best { epoch, value }) = improved else {
            return write!(f, "the {monitor} has had no finite value in {epochs}");
        };
        let by = if *min_delta > 0.0 { format!(" by more than {min_delta}") } else { String::new() };
        write!(f, "the {monitor} has not improved{by} for {epochs}, since {} in epoch {epoch}", four_decimals(*value))
    }
}

/// As tables of epochs have it.
pub(super) fn four_decimals(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
