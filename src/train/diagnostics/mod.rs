//! Diagnostics: statistics of activations, gradients, parameters and updates for one batch, computed on the device by
//! separate entries and read back as one table. Training steps are unaffected.
//!
//! What a step changes (parameters, running statistics, the optimizer's states) is copied on the device first and
//! restored afterwards, so diagnostics have no side effects. The same copies, taken when an epoch begins, allow it to
//! be rerun up to the step whose loss was not finite.

mod entries;
mod inspected;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(super) use entries::DiagnosticEntries;

use super::nan_if_null;

/// What the diagnostics include.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiagnosticsOptions {
    /// Whether parameters and their gradients get a histogram.
    pub histograms: bool,
    /// Whether to include the inputs of activation functions, not only their outputs. This needs additional kernels,
    /// since training fuses the activation into the op before it.
    pub pre_activations: bool,
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiagnosticKind {
    /// A parameter, as the batch met it.
    Parameter,
    /// The images as the network gets them.
    Images,
    /// The result of a layer.
    Activation,
    /// The largest activation of each unit after a ReLU over the batch, or of each channel over batch and pixels. Where
    /// it is 0, the unit is dead for this batch.
    Unit,
    /// The loss.
    Loss,
    /// The gradient of the loss by a parameter.
    Gradient,
    /// By how much a training step changes a parameter.
    Update,
}

/// Statistics of a tensor's finite elements; counts are of all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorSummary {
    /// The mean.
    #[serde(deserialize_with = "nan_if_null")]
    pub mean: f64,
    /// The standard deviation, divided by the count.
    #[serde(deserialize_with = "nan_if_null")]
    pub std: f64,
    /// The smallest element.
    #[serde(deserialize_with = "nan_if_null")]
    pub min: f64,
    /// The largest element.
    #[serde(deserialize_with = "nan_if_null")]
    pub max: f64,
    /// The root of the sum of squares.
    #[serde(deserialize_with = "nan_if_null")]
    pub l2_norm: f64,
    /// The share of elements that are 0.
    #[serde(deserialize_with = "nan_if_null")]
    pub zeros: f64,
    /// Elements that are infinite or not a number.
    pub num_non_finite: u64,
    /// Elements.
    pub num_elems: u64,
}

/// A line of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnosticRow {
    /// What it is about.
    pub kind: DiagnosticKind,
    /// The parameter's name, or the layer's: its scope ("conv1"), and for a function without one the layer before it
    /// and the function ("conv1.relu").
    pub name: String,
    /// The statistics.
    #[serde(flatten)]
    pub summary: TensorSummary,
    /// Counts between [`histogram_edges`](crate::ops::histogram_edges), if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Vec<u64>>,
}

/// The diagnostics of one batch, in the order of computation: parameters, images, activations, loss, gradients from
/// the last layer to the first, updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnosticsReport {
    /// The batch, counted over all epochs from 0.
    pub batch: u64,
    /// The rows.
    pub rows: Vec<DiagnosticRow>,
}

impl DiagnosticsReport {
    /// The row of a kind and name.
    pub fn get(&self, kind: DiagnosticKind, name: &str) -> Option<&DiagnosticRow> {
        self.rows.iter().find(|row| row.kind == kind && row.name == name)
    }

    /// The rows of a kind, in order.
    pub fn of_kind(&self, kind: DiagnosticKind) -> impl Iterator<Item = &DiagnosticRow> {
        self.rows.iter().filter(move |row| row.kind == kind)
    }

    /// ‖Δw‖ / ‖w‖ of a parameter under one step; near 1e-3 is healthy. `None` where there is no such parameter or it
    /// is 0 everywhere.
    pub fn update_ratio(&self, parameter: &str) -> Option<f64> {
        let weight = self.get(DiagnosticKind::Parameter, parameter)?.summary.l2_norm;
        let update = self.get(DiagnosticKind::Update, parameter)?.summary.l2_norm;
        (weight > 0.0).then(|| update / weight)
    }

    /// The share of units after a ReLU that are 0 for every image of the batch.
    pub fn dead_share(&self, layer: &str) -> Option<f64> {
        Some(self.get(DiagnosticKind::Unit, layer)?.summary.zeros)
    }

    /// The norm of all gradients together (what `torch.nn.utils.clip_grad_norm_` returns).
    pub fn gradient_norm(&self) -> f64 {
        self.of_kind(DiagnosticKind::Gradient).map(|row| row.summary.l2_norm.powi(2)).sum::<f64>().sqrt()
    }

    /// The first row with elements that are not finite.
    pub fn first_non_finite(&self) -> Option<&DiagnosticRow> {
        self.rows.iter().find(|row| row.summary.num_non_finite > 0)
    }
}

impl fmt::Display for DiagnosticKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DiagnosticKind::Parameter => "parameter",
            DiagnosticKind::Images => "images",
            DiagnosticKind::Activation => "activation",
            DiagnosticKind::Unit => "unit",
            DiagnosticKind::Loss => "loss",
            DiagnosticKind::Gradient => "gradient",
            DiagnosticKind::Update => "update",
        })
    }
}

impl fmt::Display for DiagnosticsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
        writeln!(
            f,
            "{:<10} {:<width$} {:>11} {:>11} {:>11} {:>11} {:>11} {:>7} {:>10}",
            "", "", "mean", "std", "min", "max", "norm", "zeros", "not finite"
        )?;
        for DiagnosticRow { kind, name, summary: s, .. } in &self.rows {
            writeln!(
                f,
                "{kind:<10} {name:<width$} {:>11.3e} {:>11.3e} {:>11.3e} {:>11.3e} {:>11.3e} {:>6.1}% {:>10}",
                s.mean,
                s.std,
                s.min,
                s.max,
                s.l2_norm,
                100.0 * s.zeros,
                s.num_non_finite
            )?;
        }
        Ok(())
    }
}
