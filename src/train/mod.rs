//! Training: [`fit`] is the loop, one function that reads top to bottom. What it decides with ([`schedule`],
//! [`early_stop`]) are pure state machines; what it drives is a [`Session`]; what it tells goes to an [`Observer`]; where
//! it stands it saves as a [`Checkpoint`]. [`RunConfig`] describes a run as plain values, to keep in a file and run
//! again.

pub mod checkpoint;
pub mod early_stop;
mod evaluate;
mod fit;
pub mod health;
mod history;
pub mod lr_find;
pub mod metrics;
mod observer;
pub mod predict;
pub mod session;

pub use checkpoint::{Checkpoint, CheckpointOptions, RunState};
pub use evaluate::{EvalOptions, Evaluation, evaluate};
pub use fit::{FitOptions, fit, fit_from};
pub use health::{HealthKind, HealthOptions, HealthReport, HealthRow};
pub use history::{EpochHealth, History};
pub use lr_find::{LrFind, LrFindOptions, LrPoint, lr_find};
pub(crate) use observer::nan_if_null;
pub use observer::{EpochReport, Event, Observer, Outcome};
pub use session::{EpochMetrics, Session, SessionOptions};
