//! The base rate throughout.

use serde::{Deserialize, Serialize};

use super::curve::{At, Curve, Steps};
use super::{Interval, Schedule};
use crate::registry::{Described, Setting};

/// `base`: the default schedule.
///
/// | t | 0 | 1 | 2 |
/// |---|---|---|---|
/// | `constant()` | 0.1 | 0.1 | 0.1 |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl Schedule {
    /// The base rate throughout; see [`Constant`].
    pub fn constant() -> Self {
        Schedule::of(Constant {})
    }
}

impl Described for Constant {
    const NAME: &'static str = "constant";
    const ABOUT: &'static str = "The learning rate stays as it is";
    const SETTINGS: &'static [Setting] = &[];
}

impl Curve for Constant {
    fn lr(&self, base_lr: f64, _: At) -> f64 {
        base_lr
    }

    fn interval(&self) -> Option<Interval> {
        None
    }

    fn phrase(&self, _: Steps) -> String {
        "constant".to_owned()
    }
}
