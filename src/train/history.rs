//! What a run has reported so far, as a value: its settings and what every epoch gave. Reports, comparisons and sweeps
//! are made from it; [`RunFolder`](crate::run::RunFolder) reads it back from disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DiagnosticsReport, EpochReport, Outcome};

/// The settings and epochs of a run.
#[derive(Clone, Debug)]
pub struct History {
    /// The run's folder.
    pub path: PathBuf,
    /// The run's name, which reports and comparisons show.
    pub name: String,
    /// The settings as (`optimizer.momentum`, `0.9`), in the order of `config.toml`.
    pub settings: Vec<(String, String)>,
    /// The epochs so far; at least one.
    pub epochs: Vec<EpochReport>,
    /// Diagnostics by epoch; empty for a run without.
    pub diagnostics: Vec<EpochDiagnostics>,
    /// How it ended; `None` while it runs, or where it was interrupted.
    pub outcome: Option<Outcome>,
}

/// The diagnostics of an epoch; a line of `diagnostics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochDiagnostics {
    /// Counted from 1.
    pub epoch: u64,
    /// What was found.
    #[serde(flatten)]
    pub report: DiagnosticsReport,
}

impl History {
    /// The epoch whose weights are the best: the last that was better than all before.
    pub fn best(&self) -> &EpochReport {
        let best = self.epochs.iter().rev().find(|epoch| epoch.is_best);
        best.unwrap_or(&self.epochs[self.epochs.len() - 1])
    }
}
