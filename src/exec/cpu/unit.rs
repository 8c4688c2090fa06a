//! What a stage is made of: ops, and the parts of those that act image by image in some of what they do.

use crate::graph::plan::{Operand, Plan, Step};
use crate::ops::batch::{BatchForm, Part, PartInput};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::{Op, Operation};
use crate::tensor::TensorType;

/// An op or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// The op's index in the plan.
    pub step: usize,
    pub label: String,
    pub kernel: Kernel,
    pub inputs: Vec<Operand>,
    pub outputs: Vec<Operand>,
    /// The inputs that it updates in place, in rising order.
    pub updates: Vec<usize>,
    pub form: Option<BatchForm>,
    pub guard: Option<usize>,
    pub flops: u64,
}

/// What computes a unit.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    op: Op,
    part: Option<usize>,
}

impl Kernel {
    pub fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        match self.part {
            None => self.op.run(ctx),
            Some(part) => self.op.run_part(part, ctx),
        }
    }
}

/// The whole ops of a plan.
pub(super) fn ops(plan: &Plan) -> Vec<Unit> {
    plan.steps.iter().enumerate().map(|(index, step)| Unit::whole(index, step)).collect()
}

/// The ops of a plan, those that have parts in parts.
pub(super) fn parts(plan: &Plan) -> Vec<Unit> {
    let units = |(index, step): (usize, &Step)| {
        let parts = step.op.parts(&step.input_types(), &step.output_types());
        if parts.is_empty() {
            return vec![Unit::whole(index, step)];
        }
        let flops = step.cost().flops / parts.len() as u64;
        let unit = |(place, part)| Unit { flops, ..Unit::part(index, step, place, part) };
        parts.into_iter().enumerate().map(unit).collect()
    };
    plan.steps.iter().enumerate().flat_map(units).collect()
}

impl Unit {
    fn whole(index: usize, step: &Step) -> Unit {
        let mut updates = step.op.updates();
        updates.sort_unstable();
        Unit {
            step: index,
            label: step.label(),
            kernel: Kernel { op: step.op.clone(), part: None },
            inputs: step.inputs.clone(),
            outputs: step.outputs.clone(),
            form: step.op.batch_form(&step.input_types(), &step.output_types()).filter(|_| updates.is_empty()),
            updates,
            guard: step.guard,
            flops: step.cost().flops,
        }
    }

    fn part(index: usize, step: &Step, place: usize, part: Part) -> Unit {
        let input = |input: &PartInput| match *input {
            PartInput::Input(input) => step.inputs[input].clone(),
            PartInput::Output(output) => step.outputs[output].clone(),
        };
        Unit {
            kernel: Kernel { op: step.op.clone(), part: Some(place) },
            inputs: part.inputs.iter().map(input).collect(),
            outputs: part.outputs.iter().map(|&output| step.outputs[output].clone()).collect(),
            form: part.form.filter(|_| part.updates.is_empty()),
            updates: part.updates,
            ..Unit::whole(index, step)
        }
    }

    pub fn input_types(&self) -> Vec<TensorType> {
        self.inputs.iter().map(|operand| operand.ty.clone()).collect()
    }

    pub fn output_types(&self) -> Vec<TensorType> {
        self.outputs.iter().map(|operand| operand.ty.clone()).collect()
    }
}
