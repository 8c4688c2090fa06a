//! Cutting the learning rate when a metric stops improving. A state machine fed one value at a time; the rate is a
//! function of the base rate and of how many cuts were decided.

use serde::{Deserialize, Serialize};

use super::curve::{At, Curve, Steps, not_negative, number, require};
use super::{Interval, Schedule};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// PyTorch's `ReduceLROnPlateau`: its arguments, by PyTorch's names and with its defaults.
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
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Whether the metric should fall or rise.
    pub mode: Mode,
    /// What a cut multiplies the rate by; above 0 and below 1. Default 0.1.
    pub factor: f64,
    /// How many bad observations in a row are tolerated; one more cuts the rate. Default 10.
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
    /// To the best value: better than `best · (1 ∓ threshold)`. For metrics above 0 only: of a negative one it asks for
    /// less than the best (pytorch/pytorch#47513).
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

impl Schedule {
    /// Cuts the rate whenever a metric stops improving; see [`Plateau`]. The rate depends on what was
    /// [observed](Self::observe), not on the step.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) naming the argument that is out of the range its field documents.
    pub fn plateau(options: Plateau) -> Result<Self> {
        Schedule::new(options)
    }
}

impl PlateauState {
    /// Takes in a metric; true if it brings a cut, which may still have no effect at `min_lr`.
    pub fn observe(&mut self, plateau: &Plateau, metric: f64) -> bool {
        if metric.is_finite() && self.best.is_none_or(|best| plateau.is_better(metric, best)) {
            self.best = Some(metric);
            self.num_bad_epochs = 0;
        } else {
            self.num_bad_epochs += 1;
        }
        if self.cooldown_counter > 0 {
            self.cooldown_counter -= 1;
            self.num_bad_epochs = 0;
        }
        let cuts = self.num_bad_epochs > plateau.patience;
        if cuts {
            self.num_cuts += 1;
            self.cooldown_counter = plateau.cooldown;
            self.num_bad_epochs = 0;
        }
        cuts
    }
}

impl Plateau {
    fn is_better(&self, metric: f64, best: f64) -> bool {
        match (self.mode, self.threshold_mode) {
            (Mode::Min, ThresholdMode::Rel) => metric < best * (1.0 - self.threshold),
            (Mode::Min, ThresholdMode::Abs) => metric < best - self.threshold,
            (Mode::Max, ThresholdMode::Rel) => metric > best * (1.0 + self.threshold),
            (Mode::Max, ThresholdMode::Abs) => metric > best + self.threshold,
        }
    }
}

impl Default for Plateau {
    fn default() -> Self {
        Plateau {
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

impl Described for Plateau {
    const NAME: &'static str = "plateau";
    const ABOUT: &'static str = "Cut the rate when a validation metric stops improving (ReduceLROnPlateau)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("mode", Takes::Word(&["min", "max"]), "Watch the validation loss (min) or accuracy (max)"),
        Setting::new("factor", Takes::Number, "What a cut multiplies the rate by"),
        Setting::new(
            "patience",
            Takes::Count,
            "Epochs in a row without improvement that are tolerated; the next one cuts the rate",
        ),
        Setting::new("threshold", Takes::Number, "How much better a value must be to count as an improvement"),
        Setting::new(
            "threshold_mode",
            Takes::Word(&["rel", "abs"]),
            "Whether the threshold is relative to the best value (rel) or absolute (abs)",
        ),
        Setting::new("cooldown", Takes::Count, "Epochs after a cut in which patience is not used up"),
        Setting::new("min_lr", Takes::Number, "The lowest rate"),
        Setting::new("eps", Takes::Number, "Cuts by this much or less are skipped"),
    ];
}

impl Curve for Plateau {
    fn validate(&self) -> Result<()> {
        require("factor", "above 0 and below 1", self.factor, |x| x > 0.0 && x < 1.0)?;
        not_negative("threshold", self.threshold)?;
        not_negative("min_lr", self.min_lr)?;
        not_negative("eps", self.eps)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        let mut lr = base_lr;
        for _ in 0..at.num_cuts {
            let cut = (lr * self.factor).max(self.min_lr);
            // A cut without effect is followed by none with one; NaN, of a base rate that is none, is without effect.
            let takes_effect = lr - cut > self.eps;
            if !takes_effect {
                break;
            }
            lr = cut;
        }
        lr
    }

    fn interval(&self) -> Option<Interval> {
        None
    }

    fn phrase(&self, _: Steps) -> String {
        let metric = match self.mode {
            Mode::Min => "validation loss",
            Mode::Max => "validation accuracy",
        };
        let bad = self.patience.saturating_add(1);
        let epochs = if bad == 1 { "epoch" } else { "epochs" };
        format!("times {} after {bad} {epochs} without a better {metric}", number(self.factor))
    }

    fn as_plateau(&self) -> Option<&Plateau> {
        Some(self)
    }
}
