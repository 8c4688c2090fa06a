//! The entries of a program that compute diagnostics, and how their tables are read.
//!
//! States are copied by graphs, not by [`Program::keep_model`]: the update is computed from a copy, and what marks the
//! beginning of an epoch belongs in a checkpoint.

use super::inspected::inspected;
use super::{DiagnosticKind, DiagnosticRow, DiagnosticsOptions, DiagnosticsReport, TensorSummary};
use crate::Result;
use crate::exec::{Program, StepTable};
use crate::graph::plan::Plan;
use crate::graph::{Graph, Init, StateKind, StateSpec, Value};
use crate::ops::{HISTOGRAM_BINS, STATS_COLUMNS};
use crate::optim::is_gradient_sum;
use crate::tensor::DType;
use crate::train::session::Forward;

/// A row that the entries write.
#[derive(Clone)]
struct RowSpec {
    kind: DiagnosticKind,
    name: String,
    num_elems: u64,
    /// The row of the table of histograms.
    histogram: Option<usize>,
}

/// The entries that compute diagnostics, and what their tables mean.
#[derive(Clone)]
pub struct DiagnosticEntries {
    rows: Vec<RowSpec>,
    num_histograms: usize,
    pub batch_size: usize,
    /// The states that hold the beginning of the epoch.
    pub marks: Vec<String>,
}

const TABLE: &str = "diagnostics.table";
const HISTOGRAMS: &str = "diagnostics.histograms";

/// The states copied before diagnostics, and when an epoch begins.
const SAVED: &str = "diagnostics.saved";
const MARKED: &str = "diagnostics.marked";

impl DiagnosticEntries {
    /// The entry that goes over a batch, forward and backward.
    pub const ENTRY: &'static str = "diagnostics";
    /// The entry that marks the beginning of an epoch.
    pub const MARK: &'static str = "diagnostics.mark";
    /// The entry that goes back to that mark.
    pub const REWIND: &'static str = "diagnostics.rewind";
    const SAVE: &'static str = "diagnostics.save";
    const RESTORE: &'static str = "diagnostics.restore";

    /// The entries for a network whose training steps are `train`, on the graph of a batch of its images.
    pub fn new(
        forward: Forward,
        batch_size: usize,
        train: &Plan,
        options: &DiagnosticsOptions,
    ) -> Result<(DiagnosticEntries, Vec<Plan>)> {
        let mut forward = forward;
        let mut inspected = inspected(&mut forward, options)?;
        let graph = &mut forward.graph;
        // Parameters that no gradient reaches stay as they are, and the sums of accumulation count only within a step.
        let states: Vec<StateSpec> = train
            .states()
            .iter()
            .filter(|spec| spec.kind != StateKind::Input && spec.ty.dtype == DType::F32 && !is_gradient_sum(&spec.name))
            .cloned()
            .collect();
        let parameters: Vec<StateSpec> =
            states.iter().filter(|spec| spec.kind == StateKind::Parameter).cloned().collect();
        let mut rows: Vec<RowSpec> = Vec::new();
        let mut num_histograms = 0;
        for (kind, name, value) in &inspected {
            let wants_histogram =
                options.histograms && matches!(kind, DiagnosticKind::Parameter | DiagnosticKind::Gradient);
            let histogram = wants_histogram.then_some(num_histograms);
            num_histograms += usize::from(wants_histogram);
            let num_elems = graph.shape(*value).num_elems() as u64;
            rows.push(RowSpec { kind: *kind, name: name.clone(), num_elems, histogram });
        }
        let first_update = rows.len();
        rows.extend(parameters.iter().map(|spec| RowSpec {
            kind: DiagnosticKind::Update,
            name: spec.name.clone(),
            num_elems: spec.ty.shape.num_elems() as u64,
            histogram: None,
        }));
        for (row, (_, _, value)) in inspected.drain(..).enumerate() {
            graph.tensor_stats(TABLE, rows.len(), row, value)?;
            if let Some(histogram) = rows[row].histogram {
                graph.tensor_histogram(HISTOGRAMS, num_histograms, histogram, value)?;
            }
        }
        let mut plans = vec![Plan::new(graph)?];
        for (entry, copies, is_back) in [
            (DiagnosticEntries::SAVE, SAVED, Direction::Aside),
            (DiagnosticEntries::MARK, MARKED, Direction::Aside),
            (DiagnosticEntries::REWIND, MARKED, Direction::Back),
        ] {
            let mut graph = Graph::new(entry);
            copy(&mut graph, &states, copies, is_back)?;
            plans.push(Plan::new(&graph)?);
        }
        // Nodes see what was there before they were appended: the difference first, then the way back.
        let mut graph = Graph::new(DiagnosticEntries::RESTORE);
        for (index, spec) in parameters.iter().enumerate() {
            let (now, before) = (graph.share(|graph| graph.state(spec.clone()))?, copy_of(&mut graph, spec, SAVED)?);
            let update = graph.sub(now, before)?;
            graph.tensor_stats(TABLE, rows.len(), first_update + index, update)?;
        }
        copy(&mut graph, &states, SAVED, Direction::Back)?;
        plans.push(Plan::new(&graph)?);
        let marks = states.iter().map(|spec| format!("{MARKED}.{}", spec.name)).collect();
        Ok((DiagnosticEntries { rows, num_histograms, batch_size, marks }, plans))
    }

    /// Diagnoses a batch: saves the states, computes statistics, takes a training step, compares, restores, reads once.
    pub fn run(&self, program: &mut Program, train: &str, table: &StepTable, batch: u64) -> Result<DiagnosticsReport> {
        program.run_once(DiagnosticEntries::SAVE)?;
        program.run(DiagnosticEntries::ENTRY, table)?;
        program.run(train, table)?;
        program.run_once(DiagnosticEntries::RESTORE)?;
        let stats = program.read(TABLE)?.to_f64_vec();
        let histograms = if self.num_histograms == 0 { Vec::new() } else { program.read(HISTOGRAMS)?.to_f64_vec() };
        let row = |(spec, cells): (&RowSpec, &[f64])| DiagnosticRow {
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
        Ok(DiagnosticsReport {
            batch,
            rows: self.rows.iter().zip(stats.chunks_exact(STATS_COLUMNS)).map(row).collect(),
        })
    }
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
