//! Which of a program's plans is meant. Plans of one entry may differ in the shapes of their inputs: a training step
//! for whole batches, and the same step for a shorter last one. The tensors that were written last decide which of
//! them runs.

use super::{Program, unknown};
use crate::graph::StateKind;
use crate::graph::plan::{Operand, Plan};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// What was written and run, by its place in the sequence of both.
#[derive(Debug, Default)]
pub(super) struct Latest {
    clock: u64,
    /// For each state, when it was written last.
    written: Vec<Option<u64>>,
    /// For each plan, when it was run last.
    run: Vec<Option<u64>>,
}

impl Latest {
    pub fn new(num_states: usize, num_plans: usize) -> Latest {
        Latest { clock: 0, written: vec![None; num_states], run: vec![None; num_plans] }
    }

    pub fn note_write(&mut self, state: usize) {
        self.clock += 1;
        self.written[state] = Some(self.clock);
    }

    pub fn note_run(&mut self, plan: usize) {
        self.clock += 1;
        self.run[plan] = Some(self.clock);
    }
}

/// Checks that plans of one entry differ in the shape of an input.
///
/// # Errors
/// [`Error::NameClash`] where two do not.
pub(super) fn check_entries(plans: &[Plan]) -> Result<()> {
    for (index, plan) in plans.iter().enumerate() {
        let same_name = plans[..index].iter().filter(|other| other.name == plan.name);
        if let Some(other) = same_name.into_iter().find(|other| !differ_in_inputs(plan, other)) {
            let describe = |plan: &Plan| format!("an entry of {} steps", plan.steps.len());
            let (first, second) = (describe(other), describe(plan));
            return Err(Error::NameClash { name: plan.name.clone(), first, second });
        }
    }
    Ok(())
}

fn differ_in_inputs(plan: &Plan, other: &Plan) -> bool {
    let inputs = || plan.states.iter().filter(|spec| spec.kind == StateKind::Input);
    inputs().any(|spec| other.states.iter().any(|known| known.name == spec.name && known.ty != spec.ty))
}

impl Program {
    /// The plan of this name, by the inputs written last if there are several.
    pub(super) fn entry(&self, name: &str) -> Result<usize> {
        let candidates: Vec<usize> = self.candidates(name)?;
        let current = |&plan: &usize| self.varying(plan).all(|state| self.current(state) == state);
        match candidates.iter().copied().find(|plan| current(plan)) {
            Some(plan) => Ok(plan),
            // Its own inputs may be older than those of other entries, but not missing.
            None if candidates.len() == 1 && self.varying(candidates[0]).all(|s| self.latest.written[s].is_some()) => {
                Ok(candidates[0])
            }
            None => {
                let inputs = |states: &mut dyn Iterator<Item = usize>| {
                    let all: Vec<String> = states.map(|state| self.describe(state)).collect();
                    all.join(" and ")
                };
                let sizes: Vec<String> = candidates.iter().map(|&plan| inputs(&mut self.varying(plan))).collect();
                let got = inputs(&mut self.varying(candidates[0]).map(|state| self.current(state)));
                Err(Error::operand(name, sizes.join(", or "), format!("{got}, which were written last")))
            }
        }
    }

    /// Where an output is, in the plan of this name that ran last.
    pub(super) fn output_of(&self, name: &str, output: &str) -> Result<(usize, Operand)> {
        let candidates = self.candidates(name)?;
        let last = candidates.iter().copied().max_by_key(|&plan| self.latest.run[plan]).unwrap_or(candidates[0]);
        let outputs = &self.plans[last].outputs;
        let operand = outputs.get(output).ok_or_else(|| unknown("output", output, outputs.keys()))?;
        if self.latest.run[last].is_none() {
            let expected = format!("\"{name}\" to have been run, which computes it");
            return Err(Error::State { name: output.to_owned(), expected, got: "no run yet".to_owned() });
        }
        Ok((last, operand.clone()))
    }

    /// The state that a tensor is written to: of an input in several shapes the one of the tensor's.
    pub(super) fn destination(&self, name: &str, tensor: &Tensor) -> Result<usize> {
        let first = self.layout.index(name)?;
        let fits = |&index: &usize| self.layout.specs[index].ty == tensor.ty();
        if let Some(index) = self.layout.named(name).find(fits) {
            return Ok(index);
        }
        let spec = &self.layout.specs[first];
        let types: Vec<String> = self.layout.named(name).map(|index| self.layout.specs[index].ty.to_string()).collect();
        let mut expected = types.join(" or ");
        if let ([wanted, rest @ ..], [rows, other @ ..]) = (spec.ty.shape.dims(), tensor.shape().dims())
            && spec.kind == StateKind::Input
            && spec.ty.dtype == tensor.dtype()
            && rest == other
            // A vector is a batch where it holds labels.
            && (!rest.is_empty() || tensor.dtype() == DType::U32)
        {
            expected = format!(
                "{expected} (for a batch of {rows} beside those of {wanted}, add the same graph built for {rows}, see \
                 Program::from_graphs; or leave such a batch out with DataLoader::dropping_last)"
            );
        }
        Err(Error::State { name: name.to_owned(), expected, got: tensor.ty().to_string() })
    }

    fn candidates(&self, name: &str) -> Result<Vec<usize>> {
        let found: Vec<usize> = (0..self.plans.len()).filter(|&plan| self.plans[plan].name == name).collect();
        if found.is_empty() { Err(unknown("entry", name, self.plans.iter().map(|plan| &plan.name))) } else { Ok(found) }
    }

    /// The inputs of a plan that others have in another shape.
    fn varying(&self, plan: usize) -> impl Iterator<Item = usize> {
        let states = self.layout.of_plan[plan].iter().copied();
        states.filter(|&state| self.layout.named(&self.layout.specs[state].name).nth(1).is_some())
    }

    /// Of the states that share this one's name the one written last; the first, if none was.
    pub(super) fn current(&self, state: usize) -> usize {
        let written = |&state: &usize| (self.latest.written[state], std::cmp::Reverse(state));
        self.layout.named(&self.layout.specs[state].name).max_by_key(written).unwrap_or(state)
    }

    fn describe(&self, state: usize) -> String {
        let spec = &self.layout.specs[state];
        format!("{} {}", spec.name, spec.ty.shape)
    }
}
