//! The report of a run, where the crate is built with the feature `report`; without it nothing is kept here.

#[cfg(not(feature = "report"))]
mod nothing;
#[cfg(feature = "report")]
mod report;

#[cfg(not(feature = "report"))]
pub(super) use nothing::Events;
#[cfg(feature = "report")]
pub(super) use report::Events;

use super::{RunConfig, RunData};
use crate::exec::{Device, StateDict};
use crate::train::{History, Outcome};

/// What a run has come to, for its report.
#[cfg_attr(not(feature = "report"), expect(dead_code, reason = "only a report asks for it"))]
pub(super) struct Ended<'a> {
    pub config: &'a RunConfig,
    pub device: &'a Device,
    pub data: &'a RunData,
    pub weights: &'a StateDict,
    pub outcome: &'a Outcome,
    pub history: &'a History,
}
