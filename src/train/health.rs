//! Diagnostics: statistics of activations, gradients, parameters and updates for one batch, computed on the device by
//! separate entries and read back as one table. Training steps are unaffected.
//!
//! What a step changes (parameters, running statistics, the optimizer's states) is copied on the device first and
//! restored afterwards, so diagnostics have no side effects. The same copies, taken when an epoch begins, allow it to
//! be rerun up to the step whose loss was not finite.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::nan_if_null;
use super::session::Forward;
use crate::Result;
use crate::exec::{Program, StepTable};
use crate::graph::Init;
use crate::graph::plan::Plan;
use crate::graph::{Graph, NodeKind, StateKind, StateSpec, Value};
use crate::ops::{Activation, HISTOGRAM_BINS, Op, Operation, STATS_COLUMNS};
use crate::tensor::DType;

/// What the diagnostics include.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthOptions {
    /// Whether parameters and their gradients get a histogram.
    pub histograms: bool,
    /// Whether to include the inputs of activation functions, not only their outputs. This needs additional kernels,
    /// since training fuses the activation into the op before it.
    pub pre_activations: bool,
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthKind {
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
pub struct HealthRow {
    /// What it is about.
    pub kind: HealthKind,
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
pub struct HealthReport {
    /// The batch, counted over all epochs from 0.
    pub batch: u64,
    /// The rows.
    pub rows: Vec<HealthRow>,
}

impl HealthReport {
    /// The row of a kind and name.
    pub fn get(&self, kind: HealthKind, name: &str) -> Option<&HealthRow> {
        self.rows.iter().find(|row| row.kind == kind && row.name == name)
    }

    /// The rows of a kind, in order.
    pub fn of_kind(&self, kind: HealthKind) -> impl Iterator<Item = &HealthRow> {
        self.rows.iter().filter(move |row| row.kind == kind)
    }

    /// ‖Δw‖ / ‖w‖ of a parameter under one step; near 1e-3 is healthy. `None` where there is no such parameter or it
    /// is 0 everywhere.
    pub fn update_ratio(&self, parameter: &str) -> Option<f64> {
        let weight = self.get(HealthKind::Parameter, parameter)?.summary.l2_norm;
        let update = self.get(HealthKind::Update, parameter)?.summary.l2_norm;
        (weight > 0.0).then(|| update / weight)
    }

    /// The share of units after a ReLU that are 0 for every image of the batch.
    pub fn dead_share(&self, layer: &str) -> Option<f64> {
        Some(self.get(HealthKind::Unit, layer)?.summary.zeros)
    }

    /// The norm of all gradients together (what `torch.nn.utils.clip_grad_norm_` returns).
    pub fn gradient_norm(&self) -> f64 {
        self.of_kind(HealthKind::Gradient).map(|row| row.summary.l2_norm.powi(2)).sum::<f64>().sqrt()
    }

    /// The first row with elements that are not finite.
    pub fn first_non_finite(&self) -> Option<&HealthRow> {
        self.rows.iter().find(|row| row.summary.num_non_finite > 0)
    }
}

impl fmt::Display for HealthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HealthKind::Parameter => "parameter",
            HealthKind::Images => "images",
            HealthKind::Activation => "activation",
            HealthKind::Unit => "unit",
            HealthKind::Loss => "loss",
            HealthKind::Gradient => "gradient",
            HealthKind::Update => "update",
        })
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
        writeln!(
            f,
            "{:<10} {:<width$} {:>11} {:>11} {:>11} {:>11} {:>11} {:>7} {:>10}",
            "", "", "mean", "std", "min", "max", "norm", "zeros", "not finite"
        )?;
        for HealthRow { kind, name, summary: s, .. } in &self.rows {
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

/// A row that the entries write.
#[derive(Clone)]
struct RowSpec {
    kind: HealthKind,
    name: String,
    num_elems: u64,
    /// The row of the table of histograms.
    histogram: Option<usize>,
}

/// The entries that compute diagnostics, and what their tables mean.
#[derive(Clone)]
pub(super) struct Health {
    rows: Vec<RowSpec>,
    num_histograms: usize,
    pub batch_size: usize,
    /// The states that hold the beginning of the epoch.
    pub marks: Vec<String>,
}

const TABLE: &str = "health.table";
const HISTOGRAMS: &str = "health.histograms";

/// The states copied before diagnostics, and when an epoch begins.
const SAVED: &str = "health.saved";
const MARKED: &str = "health.marked";

impl Health {
    /// The entry that goes over a batch, forward and backward.
    pub const ENTRY: &'static str = "health";
    /// The entry that marks the beginning of an epoch.
    pub const MARK: &'static str = "health.mark";
    /// The entry that goes back to that mark.
    pub const REWIND: &'static str = "health.rewind";
    const SAVE: &'static str = "health.save";
    const RESTORE: &'static str = "health.restore";

    /// The entries for a network whose training steps are `train`, on the graph of a batch of its images.
    pub fn new(
        forward: Forward,
        batch_size: usize,
        train: &Plan,
        options: &HealthOptions,
    ) -> Result<(Health, Vec<Plan>)> {
        let mut forward = forward;
        let mut watched = watch(&mut forward, options)?;
        let graph = &mut forward.graph;
        // Parameters that no gradient reaches stay as they are.
        let states: Vec<StateSpec> = train
            .states()
            .iter()
            .filter(|spec| spec.kind != StateKind::Input && spec.ty.dtype == DType::F32)
            .cloned()
            .collect();
        let parameters: Vec<StateSpec> =
            states.iter().filter(|spec| spec.kind == StateKind::Parameter).cloned().collect();
        let mut rows: Vec<RowSpec> = Vec::new();
        let mut num_histograms = 0;
        for (kind, name, value) in &watched {
            let wants_histogram = options.histograms && matches!(kind, HealthKind::Parameter | HealthKind::Gradient);
            let histogram = wants_histogram.then_some(num_histograms);
            num_histograms += usize::from(wants_histogram);
            let num_elems = graph.shape(*value).num_elems() as u64;
            rows.push(RowSpec { kind: *kind, name: name.clone(), num_elems, histogram });
        }
        let first_update = rows.len();
        rows.extend(parameters.iter().map(|spec| RowSpec {
            kind: HealthKind::Update,
            name: spec.name.clone(),
            num_elems: spec.ty.shape.num_elems() as u64,
            histogram: None,
        }));
        for (row, (_, _, value)) in watched.drain(..).enumerate() {
            graph.tensor_stats(TABLE, rows.len(), row, value)?;
            if let Some(histogram) = rows[row].histogram {
                graph.tensor_histogram(HISTOGRAMS, num_histograms, histogram, value)?;
            }
        }
        let mut plans = vec![Plan::new(graph)?];
        for (entry, copies, is_back) in [
            (Health::SAVE, SAVED, Direction::Aside),
            (Health::MARK, MARKED, Direction::Aside),
            (Health::REWIND, MARKED, Direction::Back),
        ] {
            let mut graph = Graph::new(entry);
            copy(&mut graph, &states, copies, is_back)?;
            plans.push(Plan::new(&graph)?);
        }
        // Nodes see what was there before they were appended: the difference first, then the way back.
        let mut graph = Graph::new(Health::RESTORE);
        for (index, spec) in parameters.iter().enumerate() {
            let (now, before) = (graph.share(|graph| graph.state(spec.clone()))?, copy_of(&mut graph, spec, SAVED)?);
            let update = graph.sub(now, before)?;
            graph.tensor_stats(TABLE, rows.len(), first_update + index, update)?;
        }
        copy(&mut graph, &states, SAVED, Direction::Back)?;
        plans.push(Plan::new(&graph)?);
        let marks = states.iter().map(|spec| format!("{MARKED}.{}", spec.name)).collect();
        Ok((Health { rows, num_histograms, batch_size, marks }, plans))
    }

    /// Inspects a batch: saves the states, computes statistics, takes a training step, compares, restores, reads once.
    pub fn look(&self, program: &mut Program, train: &str, table: &StepTable, batch: u64) -> Result<HealthReport> {
        program.run_once(Health::SAVE)?;
        program.run(Health::ENTRY, table)?;
        program.run(train, table)?;
        program.run_once(Health::RESTORE)?;
        let stats = program.read(TABLE)?.to_f64_vec();
        let histograms = if self.num_histograms == 0 { Vec::new() } else { program.read(HISTOGRAMS)?.to_f64_vec() };
        let row = |(spec, cells): (&RowSpec, &[f64])| HealthRow {
            kind: spec.kind,
            name: spec.name.clone(),
            summary: TensorSummary {
                mean: cells[0],
                std: cells[1],
                min: cells[2],
                max: cells[3],
                l2_norm: cells[4],
                zeros: cells[5] / spec.num_elems as f64,
                // Counts are whole numbers.
                num_non_finite: cells[6] as u64,
                num_elems: spec.num_elems,
            },
            histogram: spec.histogram.map(|row| {
                histograms[row * HISTOGRAM_BINS..][..HISTOGRAM_BINS].iter().map(|&count| count as u64).collect()
            }),
        };
        Ok(HealthReport { batch, rows: self.rows.iter().zip(stats.chunks_exact(STATS_COLUMNS)).map(row).collect() })
    }
}

/// The values to inspect, in the order of computation.
fn watch(forward: &mut Forward, options: &HealthOptions) -> Result<Vec<(HealthKind, String, Value)>> {
    let layers = layers(forward, options);
    let graph = &mut forward.graph;
    let parameters = graph.parameters();
    let grads = graph.backward(forward.loss)?;
    let mut watched: Vec<(HealthKind, String, Value)> =
        parameters.iter().map(|(name, value)| (HealthKind::Parameter, name.clone(), *value)).collect();
    watched.push((HealthKind::Images, "images".to_owned(), forward.images));
    for (name, value) in layers {
        watched.push((HealthKind::Activation, name.clone(), value));
        if is_relu(graph, value) {
            // Over the batch and, in images, over pixels.
            let axes: Vec<usize> = (0..graph.shape(value).rank()).filter(|&axis| axis != 1).collect();
            let largest = graph.no_grad(|graph| graph.amax(value, &axes, false))?;
            watched.push((HealthKind::Unit, name, largest));
        }
    }
    watched.push((HealthKind::Loss, "loss".to_owned(), forward.loss));
    for (name, value) in parameters.into_iter().rev() {
        if let Some(grad) = grads.get(value) {
            watched.push((HealthKind::Gradient, name, grad));
        }
    }
    Ok(watched)
}

/// The results of the network's layers, each with its name.
fn layers(forward: &Forward, options: &HealthOptions) -> Vec<(String, Value)> {
    let graph = &forward.graph;
    let mut layers: Vec<(String, Value)> = Vec::new();
    let mut scope = String::new();
    for index in forward.nodes.clone() {
        let node = &graph.nodes[index];
        let NodeKind::Op(op) = &node.kind else { continue };
        if op.is_alias() || node.types.first().is_none_or(|ty| ty.dtype != DType::F32) {
            continue;
        }
        let value = graph.value(index, 0);
        if activation(op).is_some() && !options.pre_activations {
            // What it is applied to stays one kernel with it.
            layers.retain(|&(_, before)| before != node.inputs[0] || !is_fusible(graph, before));
        }
        if node.scope.is_empty() {
            let base = if scope.is_empty() { op.name().to_owned() } else { format!("{scope}.{}", op.name()) };
            let repeats =
                layers.iter().filter(|(name, _)| *name == base || name.starts_with(&format!("{base}."))).count();
            let name = if repeats == 0 { base } else { format!("{base}.{}", repeats + 1) };
            layers.push((name, value));
        } else {
            // Of a layer of several ops the last counts.
            layers.retain(|(name, _)| *name != node.scope);
            layers.push((node.scope.clone(), value));
            scope.clone_from(&node.scope);
        }
    }
    layers
}

fn activation(op: &Op) -> Option<Activation> {
    match op {
        Op::Unary(unary) => Activation::from_function(unary.0),
        _ => None,
    }
}

fn is_relu(graph: &Graph, value: Value) -> bool {
    matches!(&graph.node(value).kind, NodeKind::Op(op) if activation(op) == Some(Activation::Relu))
        && graph.shape(value).rank() >= 2
}

fn is_fusible(graph: &Graph, value: Value) -> bool {
    matches!(graph.node(value).kind, NodeKind::Op(Op::Conv2d(_) | Op::Matmul(_)))
}

/// Which way states are copied.
#[derive(Clone, Copy)]
enum Direction {
    Aside,
    Back,
}

fn copy(graph: &mut Graph, states: &[StateSpec], copies: &str, direction: Direction) -> Result<()> {
    for spec in states {
        let (state, copy) = (graph.share(|graph| graph.state(spec.clone()))?, copy_of(graph, spec, copies)?);
        match direction {
            Direction::Aside => graph.assign(copy, state)?,
            Direction::Back => graph.assign(state, copy)?,
        }
    }
    Ok(())
}

/// The state that a state's copy is kept in.
fn copy_of(graph: &mut Graph, spec: &StateSpec, copies: &str) -> Result<Value> {
    let name = format!("{copies}.{}", spec.name);
    graph.state(StateSpec { name, ty: spec.ty.clone(), kind: StateKind::Input, init: Init::Zeros })
}
