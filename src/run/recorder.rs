//! What a run writes down while it trains, whoever drives it: metrics, diagnostics, TensorBoard's events, and warnings
//! about layers that died. Everything is passed on to the run's own observer.

use std::collections::BTreeSet;
use std::time::Duration;

use super::RunFolder;
use super::keep::Events;
use crate::Result;
use crate::train::{
    DiagnosticKind, DiagnosticsReport, EpochDiagnostics, EpochReport, Event, LatestBatches, Observer, Session,
};

/// Records a run in its folder, and passes everything on.
pub(super) struct Recorder<'a> {
    pub folder: RunFolder,
    pub events: Events,
    /// What was recorded, epochs before a resume included.
    pub epochs: Vec<EpochReport>,
    pub diagnostics: Vec<EpochDiagnostics>,
    /// Layers that were found dead.
    dead: BTreeSet<String>,
    observer: &'a mut dyn Observer,
}

impl<'a> Recorder<'a> {
    pub fn new(folder: RunFolder, events: Events, observer: &'a mut dyn Observer) -> Self {
        Recorder { folder, events, epochs: Vec::new(), diagnostics: Vec::new(), dead: BTreeSet::new(), observer }
    }
}

impl Observer for Recorder<'_> {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        self.observer.progress(epoch, images_done, images);
    }

    fn batches_every(&self) -> Option<Duration> {
        self.observer.batches_every()
    }

    fn batches(&mut self, batches: &LatestBatches, session: &mut Session) -> Result<()> {
        self.observer.batches(batches, session)
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.folder.add_metrics(report)?;
        self.events.epoch(report)?;
        self.epochs.push(report.clone());
        self.observer.epoch(report)
    }

    fn diagnostics(&mut self, epoch: u64, report: &DiagnosticsReport) -> Result<()> {
        self.folder.add_diagnostics(epoch, report)?;
        self.events.diagnostics(epoch, report)?;
        self.diagnostics.push(EpochDiagnostics { epoch, report: report.clone() });
        for row in report.of_kind(DiagnosticKind::Unit).filter(|row| row.summary.zeros == 1.0) {
            if self.dead.insert(row.name.clone()) {
                self.observer.warn(&format!(
                    "after epoch {epoch} every unit of {} is dead: its output is 0 for every image, so no layer before it \
                     learns any more; try a lower learning rate",
                    row.name
                ));
            }
        }
        self.observer.diagnostics(epoch, report)
    }

    fn should_stop(&mut self) -> bool {
        self.observer.should_stop()
    }

    fn end_after(&mut self, report: &EpochReport) -> Option<String> {
        self.observer.end_after(report)
    }

    fn event(&mut self, event: &Event) {
        self.observer.event(event);
    }

    fn warn(&mut self, message: &str) {
        self.observer.warn(message);
    }
}
