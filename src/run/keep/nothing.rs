//! A build without reports: every method has [`Events`](super::Events)' name and does nothing, so that recording and
//! driving a run are the same code in both.

use std::path::{Path, PathBuf};

use super::Ended;
use crate::Result;
use crate::train::{DiagnosticsReport, EpochReport};

/// No events.
pub struct Events;

impl Events {
    pub fn none() -> Events {
        Events
    }

    pub fn follow(_folder: &Path, _epochs: u64) -> Result<Events> {
        Ok(Events)
    }

    pub fn epoch(&mut self, _report: &EpochReport) -> Result<()> {
        Ok(())
    }

    pub fn diagnostics(&mut self, _epoch: u64, _report: &DiagnosticsReport) -> Result<()> {
        Ok(())
    }

    pub fn report(&mut self, _folder: &Path, _ended: &Ended<'_>) -> Result<Option<PathBuf>> {
        Ok(None)
    }
}
