//! Learning-rate schedules as pure functions of the step, in f64: PyTorch's `torch.optim.lr_scheduler` in closed form.
//! The trainer asks for the rate of a step and writes a table of them to the device; nothing here knows an optimizer, a
//! clock or a device. Powers and cosines come from `libm`, so a schedule has the same bits on every platform.
//!
//! Each schedule is a file: its formula, a table of values, its arguments, and its entry in the registry [`Kind`]. To
//! add one, write its file with [`Described`](crate::registry::Described) and [`Curve`], and its line below.
//!
//! The tables show the rate *used in* each step, from step 0, with a base rate of 0.1.

mod constant;
mod constant_factor;
mod cosine;
mod cosine_warm_restarts;
mod curve;
mod exponential;
mod file;
mod linear;
mod multi_step;
mod one_cycle;
mod plateau;
mod polynomial;
mod run;
mod sequence;
mod step;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::registry::{Entry, Setting, Takes, registry};
use crate::{Error, Result};
use sequence::Sequence;

pub use constant::Constant;
pub use constant_factor::ConstantFactor;
pub use cosine::Cosine;
pub use cosine_warm_restarts::CosineWarmRestarts;
pub use curve::{At, Curve, Steps};
pub use exponential::Exponential;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{Mode, Plateau, PlateauState, ThresholdMode};
pub use polynomial::Polynomial;
pub use step::Step;

registry! {
    /// The schedules that are chosen by name, with their arguments by PyTorch's names.
    pub enum Kind("schedule"): Curve {
        Constant(Constant),
        Step(Step),
        MultiStep(MultiStep),
        Exponential(Exponential),
        Linear(Linear),
        ConstantFactor(ConstantFactor),
        Polynomial(Polynomial),
        Cosine(Cosine),
        CosineWarmRestarts(CosineWarmRestarts),
        OneCycle(OneCycle),
        Plateau(Plateau),
    }
}

/// A learning-rate schedule: a curve, perhaps after a warm-up. Valid by construction: every constructor, and reading one
/// from a file, checks the arguments and names the one that is wrong.
///
/// In a file it is a name or a table: `"cosine"`, `{ kind = "step", step_size = 30, warmup = 5 }`. [`Schedule::SETTINGS`]
/// are those of every schedule, [`Schedule::ENTRIES`] has those of each. A length that was left open is not in the file,
/// and follows the run: see [`for_run`](Self::for_run). What a plateau has seen is state, kept apart in
/// [`plateau_states`](Self::plateau_states).
#[derive(Clone, Debug)]
pub struct Schedule {
    base: Base,
    /// `None` is the default of the base.
    interval: Option<Interval>,
    warmup: u64,
    warmup_factor: f64,
    /// The steps of the run, once it is known.
    num_steps: Option<u64>,
    /// What a plateau has seen; stays as it is for any other.
    plateau: PlateauState,
}

/// What follows the warm-up.
#[derive(Clone, Debug)]
enum Base {
    Kind(Kind),
    Sequence(Sequence),
    Lambda(Factor),
}

/// How often a schedule steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Once an epoch: step t is epoch t, counted from 0.
    Epoch,
    /// Once a batch: step t is the t-th optimizer step of the run, counted from 0.
    Batch,
}

/// A factor of the base rate, by step: the function of [`Schedule::lambda`].
#[derive(Clone)]
struct Factor(Arc<dyn Fn(u64) -> f64 + Send + Sync>);

impl Schedule {
    /// The schedules that are chosen by name.
    pub const ENTRIES: &'static [Entry] = Kind::ENTRIES;

    /// The settings that every schedule has beside its own.
    pub const SETTINGS: &'static [Setting] = &[
        Setting::new(
            "interval",
            Takes::Word(&["epoch", "batch"]),
            "How often the schedule steps; by default per batch for one-cycle and per epoch for the others",
        ),
        Setting::new("warmup", Takes::Count, "Steps of linear warm-up before the schedule begins"),
        Setting::new(
            "warmup_factor",
            Takes::Number,
            "Share of the rate that the warm-up starts from; by default a third",
        ),
    ];

    /// The share of the rate that a warm-up starts from unless told otherwise: that of PyTorch's `LinearLR`.
    pub const WARMUP_FACTOR: f64 = 1.0 / 3.0;

    /// A schedule of this kind, stepping per batch for one-cycle and per epoch for all others.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the argument that is out of the range its field documents.
    pub fn new(kind: impl Into<Kind>) -> Result<Self> {
        let kind = kind.into();
        kind.get().validate()?;
        Ok(Schedule::with(Base::Kind(kind)))
    }

    /// `base · factor(t)` (`LambdaLR`). Code cannot be written to a file, so serialising this one is an error.
    ///
    /// | t | 0 | 1 | 2 | 3 |
    /// |---|---|---|---|---|
    /// | <code>lambda(&#124;t&#124; 1.0 / (1.0 + t as f64))</code> | 0.1 | 0.05 | 0.0333333 | 0.025 |
    pub fn lambda(factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Schedule::with(Base::Lambda(Factor(Arc::new(factor))))
    }

    /// One schedule after another (`SequentialLR`): the next begins at its milestone, with its own step 0 and with the
    /// *base* rate, not the one the schedule before it ended on. Unlike PyTorch's, a part may be a plateau; it sees
    /// only what is observed while it is active.
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 |
    /// |---|---|---|---|---|---|---|
    /// | `sequential([linear(0.5, 1.0, 2), exponential(0.9)], [3])` | 0.05 | 0.075 | 0.1 | 0.1 | 0.09 | 0.081 |
    ///
    /// # Errors
    /// [`Error::Setting`] unless there is a schedule, one milestone fewer than schedules, the milestones rise from at
    /// least 1, and all schedules step at the same interval (plateaus and constants go with any).
    pub fn sequential(schedules: impl Into<Vec<Schedule>>, milestones: impl Into<Vec<u64>>) -> Result<Self> {
        Ok(Schedule::with(Base::Sequence(Sequence::new(schedules.into(), milestones.into())?)))
    }

    /// A linear rise from `start_factor · base` over `num_steps` steps, then another schedule from its step 0:
    /// `LinearLR` and `SequentialLR`. The rise has the other schedule's interval.
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 |
    /// |---|---|---|---|---|---|
    /// | `warm_up(0.5, 2, exponential(0.9))` | 0.05 | 0.075 | 0.1 | 0.09 | 0.081 |
    ///
    /// # Errors
    /// [`Error::Setting`] naming `warmup_factor` unless it is in (0, 1], and `warmup` unless it is at least 1 and the
    /// other schedule has no rise of its own, as one-cycle and another warm-up have.
    pub fn warm_up(start_factor: f64, num_steps: u64, then: Schedule) -> Result<Self> {
        curve::at_least_one("warmup", num_steps)?;
        curve::require("warmup_factor", "above 0 and at most 1", start_factor, |x| x > 0.0 && x <= 1.0)?;
        if then.warmup > 0 || matches!(then.base, Base::Kind(Kind::OneCycle(_))) {
            return Err(Error::setting("warmup", "0 before a schedule that has a rise of its own", num_steps));
        }
        Ok(Schedule { warmup: num_steps, warmup_factor: start_factor, num_steps: None, ..then })
    }

    /// The same schedule, stepping at this interval; a sequence's parts with it. The default is per batch for one-cycle
    /// and per epoch for all others.
    pub fn stepping(mut self, interval: Interval) -> Self {
        self.interval = Some(interval);
        self.num_steps = None;
        if let Base::Sequence(sequence) = &mut self.base {
            sequence.step_at(interval);
        }
        self
    }

    /// Its kind, with its arguments; `None` for a sequence and for code.
    pub fn kind(&self) -> Option<&Kind> {
        match &self.base {
            Base::Kind(kind) => Some(kind),
            Base::Sequence(_) | Base::Lambda(_) => None,
        }
    }

    /// Whether the rate stays as it is.
    pub fn is_constant(&self) -> bool {
        self.warmup == 0 && matches!(self.base, Base::Kind(Kind::Constant(_)))
    }

    /// The schedule without its warm-up.
    pub fn without_warmup(&self) -> Schedule {
        Schedule { warmup: 0, num_steps: self.num_steps.map(|steps| steps.saturating_sub(self.warmup)), ..self.clone() }
    }

    /// The steps of the warm-up; 0 without one.
    pub fn warmup(&self) -> u64 {
        self.warmup
    }

    /// How often the schedule steps.
    pub fn interval(&self) -> Interval {
        self.interval.unwrap_or_else(|| self.own_interval())
    }

    /// The learning rate used in step `step`, counted from 0 in units of [`interval`](Self::interval). For a plateau,
    /// the rate after all that was observed so far.
    pub fn lr(&self, base_lr: f64, step: u64) -> f64 {
        let Some(step) = step.checked_sub(self.warmup) else {
            let rise = Linear { start_factor: self.warmup_factor, end_factor: 1.0, total_iters: Some(self.warmup) };
            return rise.lr(base_lr, At { step, ..At::default() });
        };
        match &self.base {
            Base::Kind(kind) => kind.get().lr(base_lr, self.at(step)),
            Base::Sequence(sequence) => {
                let (active, step) = sequence.active(step);
                active.lr(base_lr, step)
            }
            Base::Lambda(factor) => base_lr * (factor.0)(step),
        }
    }

    /// The momentum (Adam: β1) to use in step `step`, where the schedule cycles it; otherwise the optimizer's own
    /// stands.
    pub fn momentum(&self, step: u64) -> Option<f64> {
        let step = step.checked_sub(self.warmup)?;
        match &self.base {
            Base::Kind(kind) => kind.get().momentum(self.at(step)),
            Base::Sequence(sequence) => {
                let (active, step) = sequence.active(step);
                active.momentum(step)
            }
            Base::Lambda(_) => None,
        }
    }

    /// Whether a step of it sets the momentum too.
    pub fn cycles_momentum(&self) -> bool {
        match &self.base {
            Base::Kind(kind) => kind.get().momentum(At::default()).is_some(),
            Base::Sequence(sequence) => sequence.schedules().iter().any(Schedule::cycles_momentum),
            Base::Lambda(_) => false,
        }
    }

    /// A valid curve as a schedule.
    fn of(kind: impl Into<Kind>) -> Schedule {
        Schedule::with(Base::Kind(kind.into()))
    }

    fn with(base: Base) -> Schedule {
        Schedule {
            base,
            interval: None,
            warmup: 0,
            warmup_factor: Schedule::WARMUP_FACTOR,
            num_steps: None,
            plateau: PlateauState::default(),
        }
    }

    fn own_interval(&self) -> Interval {
        match &self.base {
            Base::Kind(kind) => kind.get().interval().unwrap_or(Interval::Epoch),
            Base::Sequence(sequence) => sequence.interval(),
            Base::Lambda(_) => Interval::Epoch,
        }
    }

    /// Whether it counts no steps.
    fn goes_with_any_interval(&self) -> bool {
        self.warmup == 0
            && match &self.base {
                Base::Kind(kind) => kind.get().interval().is_none(),
                Base::Sequence(sequence) => sequence.schedules().iter().all(Schedule::goes_with_any_interval),
                Base::Lambda(_) => false,
            }
    }

    /// Where the run stands at a step that is counted from the end of the warm-up.
    fn at(&self, step: u64) -> At {
        let num_steps = self.num_steps.map(|num_steps| num_steps.saturating_sub(self.warmup));
        At { step, num_steps, num_cuts: self.plateau.num_cuts }
    }
}

impl fmt::Display for Schedule {
    /// Such as "warm-up from 0.1 of the rate over 5 epochs, then cosine to 0 over 25 epochs".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = Steps { interval: self.interval(), num_steps: self.at(0).num_steps };
        if self.warmup > 0 {
            let (factor, len) = (curve::number(self.warmup_factor), steps.times(self.warmup));
            write!(f, "warm-up from {factor} of the rate over {len}, then ")?;
        }
        match &self.base {
            Base::Kind(kind) => f.write_str(&kind.get().phrase(steps)),
            Base::Sequence(sequence) => f.write_str(&sequence.phrase(steps)),
            Base::Lambda(_) => write!(f, "a function of the {}", steps.one()),
        }
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Factor")
    }
}
