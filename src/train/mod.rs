//! Training: [`fit`] is the loop. It drives a [`Session`], decides with pure state machines (the
//! [schedule](crate::schedule) and [`early_stop`]), reports to an [`Observer`] and saves its state as a [`Checkpoint`].
//! Files and settings of a whole run are in [`run`](crate::run).

mod activations;
pub mod checkpoint;
pub mod diagnostics;
pub mod early_stop;
mod evaluate;
mod fit;
mod history;
pub mod lr_find;
pub mod metrics;
mod observer;
pub mod predict;
mod print;
pub mod session;

pub use activations::{Activations, activations};
pub use checkpoint::{Checkpoint, CheckpointOptions, RunState};
pub use diagnostics::{DiagnosticKind, DiagnosticRow, DiagnosticsOptions, DiagnosticsReport};
pub use evaluate::{EvalOptions, Evaluation, evaluate};
pub use fit::{FitOptions, fit, fit_from};
pub use history::{EpochDiagnostics, History};
pub use lr_find::{LrFind, LrFindOptions, LrPoint, lr_find};
pub(crate) use observer::nan_if_null;
pub use observer::{EpochReport, Event, LatestBatches, Observer, Outcome};
pub use print::PrintEpochs;
pub(crate) use session::is_image_data;
pub use session::{EpochMetrics, RankTime, Session, SessionOptions};
