//! TensorBoard's events while a run trains, the page and its pictures at the end.

use std::path::{Path, PathBuf};

use super::super::folder;
use super::Ended;
use crate::report::tensorboard::EventWriter;
use crate::report::{ReportInput, write_report};
use crate::train::predict::{Predictor, PredictorOptions};
use crate::train::{DiagnosticsReport, EpochReport};
use crate::{Result, files};

/// Test images that the activations and gradients in a report are of, at most.
const INSPECTED: usize = 256;

/// Where a report's events go while a run trains; nowhere for a run without a report.
pub struct Events {
    writer: Option<EventWriter>,
}

impl Events {
    pub fn none() -> Events {
        Events { writer: None }
    }

    /// Events below a run's folder, continued after so many epochs.
    pub fn follow(folder: &Path, epochs: u64) -> Result<Events> {
        let path = folder::events_in(folder);
        let writer = if epochs == 0 && !files::exists(&path) {
            EventWriter::create(&path)?
        } else {
            EventWriter::resume(&path, epochs + 1)?
        };
        Ok(Events { writer: Some(writer) })
    }

    pub fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.epoch(report))
    }

    pub fn diagnostics(&mut self, epoch: u64, report: &DiagnosticsReport) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.diagnostics(epoch, report))
    }

    /// Writes the report and gives the path of its page; nothing for a run without.
    pub fn report(&mut self, folder: &Path, ended: &Ended<'_>) -> Result<Option<PathBuf>> {
        let Some(events) = &mut self.writer else { return Ok(None) };
        let Ended { config, device, data, weights, outcome, history } = *ended;
        let (model, normalize) = (config.model()?, config.normalize.stats(&data.train)?);
        let batch_size = INSPECTED.min(data.test.len()).max(1);
        let options =
            PredictorOptions { model: &model, weights, normalize: &normalize, shape: data.test.shape(), batch_size };
        let inspection = Predictor::new(device, &options)?.inspect(&data.test)?;
        let predictions = outcome.test.as_ref().map_or_else(Vec::new, |test| test.predictions(data.test.labels()));
        let input =
            ReportInput { history, test: &data.test, predictions: &predictions, inspection: &inspection, weights };
        Ok(write_report(folder, &input, events)?.into_iter().next())
    }
}
