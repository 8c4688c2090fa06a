//! Cutting the learning rate when a metric stops improving. A state machine fed one value at a time; the rate is a
//! function of the base rate and of how many cuts were decided.

use serde::{Deserialize, Serialize};

use super::kind::{not_negative, require};
use crate::Result;

/// PyTorch's `ReduceLROnPlateau`. Serialised it is its options; the state goes apart, see [`state`](Self::state).
///
/// Each observation, in this order: if the metric is better than the best so far by the threshold, it becomes the best
/// and the count of bad observations starts again, else the count goes up; during a cooldown the count stays 0; when it
/// goes *above* `patience`, the rate is cut and a cooldown begins. (Keras cuts when it *reaches* `patience`.) A metric
/// that is not finite is never better.
///
/// | observation | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |
/// |---|---|---|---|---|---|---|---|---|---|---|
/// | metric | 1 | .9 | .89995 | .9 | .9 | .9 | .9 | .9 | .9 | .9 |
/// | rate after it (base 0.1, patience 2, cooldown 1) | .1 | .1 | .1 | .1 | .01 | .01 | .01 | .01 | .001 | .001 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PlateauOptions", into = "PlateauOptions")]
pub struct ReduceLrOnPlateau {
    options: PlateauOptions,
    state: PlateauState,
}

/// The arguments of `ReduceLROnPlateau`, by PyTorch's names and with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlateauOptions {
    /// Whether the metric should fall or rise.
    pub mode: Mode,
    /// What a cut multiplies the rate with; above 0 and below 1. Default 0.1.
    pub factor: f64,
    /// How many bad observations in a row are put up with; one more cuts the rate. Default 10.
    pub patience: u64,
    /// How much better a metric must be to count; not negative. Default 1e-4.
    pub threshold: f64,
    /// What the threshold is relative to.
    pub threshold_mode: ThresholdMode,
    /// For how many observations after a cut bad ones do not count. Default 0.
    pub cooldown: u64,
    /// The rate that no cut goes below; not negative. Default 0.
    pub min_lr: f64,
    /// A cut that would lower the rate by no more than this is not applied; not negative. Default 1e-8.
    pub eps: f64,
}

/// Whether a metric should fall or rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Smaller is better: a loss.
    #[default]
    Min,
    /// Larger is better: an accuracy.
    Max,
}

/// What an improvement's threshold is relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// To the best value: better than `best · (1 ∓ threshold)`. Misjudges negative metrics, see
    /// [`ReduceLrOnPlateau::misjudges`].
    #[default]
    Rel,
    /// To nothing: better than `best ∓ threshold`.
    Abs,
}

/// What a plateau has seen, to keep in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The best metric so far; `None` before the first finite one.
    pub best: Option<f64>,
    /// Observations since the best one, cooldowns left out.
    pub num_bad_epochs: u64,
    /// Observations left of the cooldown.
    pub cooldown_counter: u64,
    /// The cuts decided so far, those without effect (`min_lr`, `eps`) included.
    pub num_cuts: u64,
}

impl ReduceLrOnPlateau {
    /// A plateau that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) naming the argument that is out of the range its field documents.
    pub fn new(options: PlateauOptions) -> Result<Self> {
        require("factor", "above 0 and below 1", options.factor, |x| x > 0.0 && x < 1.0)?;
        not_negative("threshold", options.threshold)?;
        not_negative("min_lr", options.min_lr)?;
        not_negative("eps", options.eps)?;
        Ok(ReduceLrOnPlateau { options, state: PlateauState::default() })
    }

    /// Takes in a metric; true if it brings a cut, which may still have no effect at `min_lr`.
    pub fn observe(&mut self, metric: f64) -> bool {
        let PlateauState { best, num_bad_epochs, cooldown_counter, num_cuts } = &mut self.state;
        if metric.is_finite() && best.is_none_or(|best| self.options.is_better(metric, best)) {
            *best = Some(metric);
            *num_bad_epochs = 0;
        } else {
            *num_bad_epochs += 1;
        }
        if *cooldown_counter > 0 {
            *cooldown_counter -= 1;
            *num_bad_epochs = 0;
        }
        let cuts = *num_bad_epochs > self.options.patience;
        if cuts {
            *num_cuts += 1;
            *cooldown_counter = self.options.cooldown;
            *num_bad_epochs = 0;
        }
        cuts
    }

    /// The rate after the cuts so far, for parameters with this base rate.
    pub fn lr(&self, base_lr: f64) -> f64 {
        let mut lr = base_lr;
        for _ in 0..self.state.num_cuts {
            let cut = (lr * self.options.factor).max(self.options.min_lr);
            // A cut without effect is followed by none with one; NaN, of a base rate that is none, is without effect.
            let takes_effect = lr - cut > self.options.eps;
            if !takes_effect {
                break;
            }
            lr = cut;
        }
        lr
    }

    /// Whether a relative threshold asks the wrong thing of this metric: on a negative one, `best · (1 − threshold)` is
    /// *worse* than the best (pytorch/pytorch#47513). Worth a warning that `threshold_mode` should be `Abs`.
    pub fn misjudges(&self, metric: f64) -> bool {
        self.options.threshold_mode == ThresholdMode::Rel && metric < 0.0
    }

    /// The options it was made with.
    pub fn options(&self) -> &PlateauOptions {
        &self.options
    }

    /// What it has seen.
    pub fn state(&self) -> &PlateauState {
        &self.state
    }

    /// Goes on from what [`state`](Self::state) returned.
    pub fn restore(&mut self, state: PlateauState) {
        self.state = state;
    }
}

impl PlateauOptions {
    fn is_better(&self, metric: f64, best: f64) -> bool {
        match (self.mode, self.threshold_mode) {
            (Mode::Min, ThresholdMode::Rel) => metric < best * (1.0 - self.threshold),
            (Mode::Min, ThresholdMode::Abs) => metric < best - self.threshold,
            (Mode::Max, ThresholdMode::Rel) => metric > best * (1.0 + self.threshold),
            (Mode::Max, ThresholdMode::Abs) => metric > best + self.threshold,
        }
    }
}

impl Default for PlateauOptions {
    fn default() -> Self {
        PlateauOptions {
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

impl TryFrom<PlateauOptions> for ReduceLrOnPlateau {
    type Error = crate::Error;

    fn try_from(options: PlateauOptions) -> Result<Self> {
        ReduceLrOnPlateau::new(options)
    }
}

impl From<ReduceLrOnPlateau> for PlateauOptions {
    fn from(plateau: ReduceLrOnPlateau) -> Self {
        plateau.options
    }
}
