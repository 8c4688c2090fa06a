//! The kinds of schedule there are, what their arguments may be, and how they are written to a file. How each computes
//! its rate is in [`Schedule::lr`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Interval, OneCycle, ReduceLrOnPlateau, Schedule, sequence};
use crate::{Error, Result};

/// A schedule's kind and arguments, by PyTorch's names. [`Schedule`]'s constructors say what they mean and what they may
/// be; [`Schedule::new`] makes a schedule of one, [`Schedule::kind`] gives it back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the constructors document the arguments, with tables")]
pub enum Kind {
    /// [`Schedule::constant`].
    Constant {},
    /// [`Schedule::step`].
    Step { step_size: u64, gamma: f64 },
    /// [`Schedule::multi_step`].
    MultiStep { milestones: Vec<u64>, gamma: f64 },
    /// [`Schedule::exponential`].
    Exponential { gamma: f64 },
    /// [`Schedule::linear`].
    Linear { start_factor: f64, end_factor: f64, total_iters: u64 },
    /// [`Schedule::constant_factor`].
    ConstantFactor { factor: f64, total_iters: u64 },
    /// [`Schedule::polynomial`].
    Polynomial { total_iters: u64, power: f64 },
    /// [`Schedule::cosine`].
    Cosine {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        t_max: Option<u64>,
        eta_min: f64,
    },
    /// [`Schedule::cosine_warm_restarts`].
    CosineWarmRestarts { t_0: u64, t_mult: u64, eta_min: f64 },
    /// [`Schedule::one_cycle`].
    OneCycle(OneCycle),
    /// [`Schedule::sequential`].
    Sequential { schedules: Vec<Schedule>, milestones: Vec<u64> },
    /// [`Schedule::plateau`].
    Plateau(ReduceLrOnPlateau),
    /// [`Schedule::lambda`].
    #[serde(skip)]
    Lambda(Factor),
}

impl Kind {
    pub(super) fn default_interval(&self) -> Interval {
        match self {
            Kind::OneCycle(_) => Interval::Batch,
            Kind::Sequential { schedules, .. } => sequence::interval(schedules),
            _ => Interval::Epoch,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self {
            Kind::Constant {} | Kind::Plateau(_) | Kind::Lambda(_) => Ok(()),
            Kind::Step { step_size, gamma } => at_least_one("step_size", *step_size).and(above_zero("gamma", *gamma)),
            Kind::MultiStep { milestones, gamma } => {
                milestones.iter().try_for_each(|&milestone| at_least_one("milestones", milestone))?;
                above_zero("gamma", *gamma)
            }
            Kind::Exponential { gamma } => above_zero("gamma", *gamma),
            Kind::Linear { start_factor, end_factor, total_iters } => {
                require("start_factor", "above 0 and at most 1", *start_factor, |x| x > 0.0 && x <= 1.0)?;
                require("end_factor", "from 0 to 1", *end_factor, |x| (0.0..=1.0).contains(&x))?;
                at_least_one("total_iters", *total_iters)
            }
            Kind::ConstantFactor { factor, .. } => {
                require("factor", "from 0 to 1", *factor, |x| (0.0..=1.0).contains(&x))
            }
            Kind::Polynomial { total_iters, power } => {
                at_least_one("total_iters", *total_iters).and(above_zero("power", *power))
            }
            Kind::Cosine { t_max, eta_min } => {
                t_max.map_or(Ok(()), |t_max| at_least_one("T_max", t_max)).and(not_negative("eta_min", *eta_min))
            }
            Kind::CosineWarmRestarts { t_0, t_mult, eta_min } => {
                at_least_one("T_0", *t_0).and(at_least_one("T_mult", *t_mult)).and(not_negative("eta_min", *eta_min))
            }
            Kind::OneCycle(options) => options.validate(),
            Kind::Sequential { schedules, milestones } => sequence::validate(schedules, milestones),
        }
    }
}

/// Fails, naming the argument, unless `holds`. NaN should fail every `holds`.
pub(super) fn require(argument: &str, expected: &str, got: f64, holds: impl Fn(f64) -> bool) -> Result<()> {
    if holds(got) { Ok(()) } else { Err(Error::setting(argument, expected, got)) }
}

pub(super) fn above_zero(argument: &str, got: f64) -> Result<()> {
    require(argument, "a number above 0", got, |x| x.is_finite() && x > 0.0)
}

pub(super) fn not_negative(argument: &str, got: f64) -> Result<()> {
    require(argument, "a number of at least 0", got, |x| x.is_finite() && x >= 0.0)
}

pub(super) fn at_least_one(argument: &str, got: u64) -> Result<()> {
    if got >= 1 { Ok(()) } else { Err(Error::setting(argument, "at least 1", got)) }
}

/// A factor of the base rate, by step: the function of [`Schedule::lambda`].
#[derive(Clone)]
pub struct Factor(pub(super) Arc<dyn Fn(u64) -> f64 + Send + Sync>);

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Factor")
    }
}

/// What a schedule is in a file; not yet validated when it comes from one.
#[derive(Serialize, Deserialize)]
pub(super) struct Description {
    #[serde(flatten)]
    kind: Kind,
    #[serde(default)]
    interval: Option<Interval>,
}

impl From<Schedule> for Description {
    fn from(schedule: Schedule) -> Self {
        Description { kind: schedule.kind, interval: Some(schedule.interval) }
    }
}

impl TryFrom<Description> for Schedule {
    type Error = Error;

    fn try_from(description: Description) -> Result<Self> {
        let schedule = Schedule::new(description.kind)?;
        Ok(match description.interval {
            Some(interval) => schedule.stepping(interval),
            None => schedule,
        })
    }
}
