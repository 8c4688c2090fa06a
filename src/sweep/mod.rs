//! Hyperparameter search: many runs with settings drawn from a space, ranked by a validation metric.
//!
//! | stage | from → to | where |
//! | --- | --- | --- |
//! | describe | `sweep.toml` → [`SweepConfig`]: what trials share, how to search, the [`Space`] | [`config`], [`space`] |
//! | draw | seed and number → a trial's settings, all checked before the first is trained → [`Sweep`] | [`config`] |
//! | decide | results → which trial to train next, and how far: grid, random, successive halving → [`Search`] | [`search`] |
//! | train | a trial → its run folder | [`SweepFolder::run`] |
//! | rank | metrics → table, picture, page, `best.toml` | [`ranking`], [`write_results`] |
//! | keep | the state of each → [`ledger`], from which a killed sweep resumes | [`ledger`] |
//! | divide | a [`Share`] of the trials for each of several processes, and their folders merged | [`SweepFolder::merge`] |
//!
//! Trials are runs like any other: `lenet compare` and `lenet eval` work on their folders. Test images decide
//! nothing here.

mod beside;
pub mod config;
mod images;
pub mod ledger;
mod merge;
#[cfg(feature = "report")]
mod page;
mod parcel;
#[cfg(feature = "report")]
mod picture;
pub mod ranking;
mod ranks;
mod results;
mod run;
pub mod search;
mod share;
pub mod space;
mod trial;
mod values;

pub use config::{Method, Metric, SearchOptions, Sweep, SweepConfig, Trial};
pub use ledger::{Status, TrialRecord};
pub use ranking::Ranking;
pub use ranks::{WorkOptions, work};
pub use results::write_results;
pub use run::{Finish, RunOptions, SweepFolder, SweepObserver, default_jobs};
pub use search::{Leg, Search};
pub use share::Share;
pub use space::{Assignment, Setting, Space, Values};
pub use values::{Range, describe};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests;
