//! Checks a device against the f64 reference: both run the same plan op by op, and every output is compared. After each
//! op the reference takes over the device's values, so that a difference is caused by the op that reports it and not by
//! an earlier one.

mod sums;

use std::fmt;

use super::{Device, Program, StateDict, StepTable, step_count};
use crate::Result;
use crate::graph::plan::{Operand, Plan, Step};
use crate::ops::{Op, Operation};
use crate::tensor::{DType, Tensor};

/// The result for one op.
#[derive(Clone, Debug)]
pub struct OpReport {
    /// The layer and the op.
    pub label: String,
    /// The largest difference, as a share of what is allowed.
    pub worst: f64,
}

/// The first difference beyond what rounding explains.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The index of the op in the plan.
    pub step: usize,
    /// The layer and the op.
    pub label: String,
    /// Which of its results: "output 0", or the name of a state it updates.
    pub result: String,
    /// The flat index of the element.
    pub index: usize,
    /// What the device computed.
    pub got: f64,
    /// What the reference computed from the same inputs.
    pub want: f64,
    /// How far apart they may lie.
    pub tolerance: f64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { step, label, result, index, got, want, tolerance } = self;
        if *index == usize::MAX {
            return write!(f, "step {step} ({label}) writes beyond the end of {result}");
        }
        write!(f, "step {step} ({label}), {result}, element {index}: got {got:e}, want {want:e} ± {tolerance:.1e}")
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The ops that were compared, in order, up to the first difference.
    pub ops: Vec<OpReport>,
    /// The first difference, if any.
    pub difference: Option<Difference>,
}

/// Runs `plan` on `device` and on the f64 reference, op by op, from states drawn under `seed` with those in `states`
/// set on top, under the first row of `table`.
///
/// # Errors
/// As [`Program::compile`], [`Program::write`] and [`Program::run`].
pub fn verify(device: &Device, plan: &Plan, states: &StateDict, table: &StepTable, seed: u64) -> Result<Report> {
    verify_by(compare, [device, &Device::CpuF64], plan, (states, table, seed))
}

/// As [`verify`], but compares only what kind of number each result is: not a number, infinite of either sign, or
/// finite. For operands that are not finite, beside which a tolerance says nothing. What is NaN in the reference has to
/// be NaN on the device; convolutions, which multiply by zeros beyond an edge, and batch statistics, which merge means
/// of slices, may also have a NaN where the reference has none.
///
/// # Errors
/// As [`verify`].
pub fn verify_kinds(device: &Device, plan: &Plan, states: &StateDict, table: &StepTable, seed: u64) -> Result<Report> {
    verify_by(compare_kinds, [device, &Device::CpuF64], plan, (states, table, seed))
}

/// What is compared: values within a tolerance, or kinds of number.
#[cfg(feature = "sanitize")]
#[derive(Clone, Copy)]
pub(crate) enum Comparing {
    /// As [`verify`].
    Values,
    /// As [`verify_kinds`].
    Kinds,
}

/// The largest difference as a share of what is allowed, or the first element beyond it and its tolerance.
type Compare = fn(&Step, Allowed<'_>, &Tensor, &Tensor) -> std::result::Result<f64, (usize, f64)>;

/// What else rounding errors may be, besides what follows from the size of the results.
#[derive(Clone, Copy)]
struct Allowed<'a> {
    /// The size of the terms that are summed.
    term_size: f64,
    /// More for each element, or nothing.
    slack: &'a [f64],
}

fn verify_by(
    compare: Compare,
    [device, reference]: [&Device; 2],
    plan: &Plan,
    (states, table, seed): (&StateDict, &StepTable, u64),
) -> Result<Report> {
    // Both run the plan as the device has it.
    let plan = match device.gpu_traits() {
        None => plan.clone(),
        Some(traits) => plan.for_gpu(traits)?,
    };
    let programs =
        [Program::compile(device, vec![plan.clone()], seed)?, Program::compile(reference, vec![plan.clone()], seed)?];
    verify_programs(compare, programs, &plan, (states, table))
}

/// [`verify`] for a program of one plan that was compiled already.
#[cfg(feature = "sanitize")]
pub(crate) fn verify_program(
    comparing: Comparing,
    candidate: Program,
    plan: &Plan,
    (states, table, seed): (&StateDict, &StepTable, u64),
) -> Result<Report> {
    let reference = Program::compile(&Device::CpuF64, vec![plan.clone()], seed)?;
    let compare = match comparing {
        Comparing::Values => compare,
        Comparing::Kinds => compare_kinds,
    };
    verify_programs(compare, [candidate, reference], plan, (states, table))
}

fn verify_programs(
    compare: Compare,
    [mut candidate, mut reference]: [Program; 2],
    plan: &Plan,
    (states, table): (&StateDict, &StepTable),
) -> Result<Report> {
    for (name, tensor) in states {
        reference.write(name, tensor)?;
        candidate.write(name, tensor)?;
    }
    let table = step_count::select(plan, table, None)?;
    let mut report = Report { ops: Vec::new(), difference: None };
    for (index, step) in plan.steps.iter().enumerate() {
        for output in &step.outputs {
            candidate.executor.poison(0, output)?;
        }
        let term_size = step.op.term_size(&largest_magnitudes(&mut reference, step)?);
        let slack = sums::slack(&mut reference, index, step, &table)?;
        candidate.executor.run_op(0, index, &table)?;
        reference.executor.run_op(0, index, &table)?;
        let mut worst = 0.0;
        for (place, (result, operand)) in results(plan, step).into_iter().enumerate() {
            let allowed = Allowed { term_size, slack: slack.get(place).map_or(&[], Vec::as_slice) };
            let difference = |index, got, want, tolerance| Difference {
                step: report.ops.len(),
                label: step.label(),
                result: result.clone(),
                index,
                got,
                want,
                tolerance,
            };
            let (got, want) = (candidate.executor.read(0, operand)?, reference.executor.read(0, operand)?);
            match compare(step, allowed, &got, &want) {
                Ok(share) => worst = share.max(worst),
                Err(_) if is_tie(&mut reference, step, operand, [&got, &want])? => {}
                Err((at, tolerance)) => {
                    let (got, want) = (got.to_f64_vec()[at], want.to_f64_vec()[at]);
                    report.difference = Some(difference(at, got, want, tolerance));
                    return Ok(report);
                }
            }
            if candidate.executor.has_overrun(0, operand)? {
                report.difference = Some(difference(usize::MAX, 0.0, 0.0, 0.0));
                return Ok(report);
            }
            reference.executor.write(0, operand, &got)?;
        }
        report.ops.push(OpReport { label: step.label(), worst });
    }
    Ok(report)
}

/// Everything that a step writes, with a name for it.
fn results<'a>(plan: &'a Plan, step: &'a Step) -> Vec<(String, &'a Operand)> {
    let outputs = step.outputs.iter().enumerate().map(|(index, operand)| (format!("output {index}"), operand));
    let updates = step.op.updates().into_iter().map(|input| {
        let operand = &step.inputs[input];
        let name = match operand.storage {
            crate::graph::plan::Storage::State(state) => plan.states[state].name.clone(),
            _ => format!("input {input}"),
        };
        (name, operand)
    });
    outputs.chain(updates).collect()
}

/// The largest difference as a share of what is allowed, or the first element beyond it and its tolerance.
///
/// Rounding errors of a sum of K terms grow like √K as long as they do not conspire, each an epsilon of a term's size.
/// That size is at most about the largest magnitude in the result, but where terms cancel, as in the gradient of a
/// bias before a batch normalisation, the op has to say it. The bound is `ulps · ε · √K · (|want| + size)` with
/// ε = 2⁻²⁴, and `ulps` from the op, with the slack of what the op sums before it computes anything else. Integers must be
/// equal.
fn compare(step: &Step, allowed: Allowed<'_>, got: &Tensor, want: &Tensor) -> std::result::Result<f64, (usize, f64)> {
    let exact = got.dtype() != DType::F32;
    let (got, want) = (got.to_f64_vec(), want.to_f64_vec());
    let scale = largest_magnitude(&want).max(allowed.term_size);
    let num_terms = step.op.num_terms(&step.input_types());
    let relative = step.op.ulps() * f64::from(f32::EPSILON) / 2.0 * (num_terms as f64).sqrt();
    let mut worst: f64 = 0.0;
    for (index, (&got, &want)) in got.iter().zip(&want).enumerate() {
        let slack = allowed.slack.get(index).copied().filter(|slack| slack.is_finite()).unwrap_or(0.0);
        let rounding = relative * (want.abs() + scale) + f64::from(f32::MIN_POSITIVE);
        let tolerance = if exact { 0.0 } else { rounding + slack };
        // A value beyond f32's range is infinite on the device, and a NaN stands where the reference has one.
        let overflows = want.abs() > f64::from(f32::MAX) && got.is_infinite() && got.signum() == want.signum();
        let same = got == want || (got.is_nan() && want.is_nan()) || overflows;
        // A NaN on one side only is a difference.
        let is_close = (got - want).abs() <= tolerance;
        if !same && !is_close {
            return Err((index, tolerance));
        }
        if !same && tolerance > 0.0 {
            worst = worst.max((got - want).abs() / tolerance);
        }
    }
    Ok(worst)
}

/// Whether integers that differ name places of values that are as large, up to rounding: then either is right.
fn is_tie(reference: &mut Program, step: &Step, operand: &Operand, [got, want]: [&Tensor; 2]) -> Result<bool> {
    let (Op::Fused(fused), DType::U32) = (&step.op, got.dtype()) else { return Ok(false) };
    let output = step.outputs.iter().position(|output| output.storage == operand.storage);
    let Some(output) = output else { return Ok(false) };
    let inputs: Vec<Tensor> =
        step.inputs.iter().map(|input| reference.executor.read(0, input)).collect::<Result<_>>()?;
    let largest: Vec<f64> = inputs.iter().map(|input| largest_magnitude(&input.to_f64_vec())).collect();
    let num_terms = step.op.num_terms(&step.input_types()) as f64;
    let relative = step.op.ulps() * f64::from(f32::EPSILON) / 2.0 * num_terms.sqrt();
    for (index, (got, want)) in got.to_f64_vec().into_iter().zip(want.to_f64_vec()).enumerate() {
        if got == want {
            continue;
        }
        // Indices are whole numbers below 2^32.
        let value = |choice: f64| fused.chosen(output, &inputs, index, choice as u32);
        let (Some(got), Some(want)) = (value(got), value(want)) else { return Ok(false) };
        if (got - want).abs() > relative * (want.abs() + step.op.term_size(&largest)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn compare_kinds(step: &Step, _: Allowed<'_>, got: &Tensor, want: &Tensor) -> std::result::Result<f64, (usize, f64)> {
    let exact = got.dtype() != DType::F32;
    let may_spread = matches!(
        step.op,
        Op::Conv2d(_)
            | Op::Conv2dGradInput(_)
            | Op::Conv2dGradWeight(_)
            | Op::Conv2dGradSlices(_)
            | Op::Conv2dMoments(_)
            | Op::Conv2dPooledBackward(_)
            | Op::Fused(_)
            | Op::BatchNormTrain(_)
            | Op::BatchNormBackward(_)
    );
    let differs = |(&got, &want): (&f64, &f64)| {
        if exact {
            // A NaN that spread is chosen where the reference has none.
            return got != want && !may_spread;
        }
        // What f64 holds may be infinite or 0 in f32.
        let same = match (got.is_nan(), want.is_nan()) {
            (false, false) => {
                got.is_infinite() == ((want as f32).is_infinite()) && (got.is_finite() || got == f64::from(want as f32))
            }
            (got, want) => got == want,
        };
        !(same || may_spread && got.is_nan())
    };
    match got.to_f64_vec().iter().zip(&want.to_f64_vec()).position(differs) {
        Some(index) => Err((index, 0.0)),
        None => Ok(0.0),
    }
}

/// The largest finite magnitude in each input of a step.
fn largest_magnitudes(reference: &mut Program, step: &Step) -> Result<Vec<f64>> {
    let largest = |operand: &Operand| match operand.ty.dtype {
        DType::F32 => Ok(largest_magnitude(&reference.executor.read(0, operand)?.to_f64_vec())),
        DType::U32 | DType::U8 => Ok(0.0),
    };
    step.inputs.iter().map(largest).collect()
}

fn largest_magnitude(values: &[f64]) -> f64 {
    values.iter().copied().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()))
}
