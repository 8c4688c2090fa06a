//! One op on its operands in memory.

use super::Sources;
use crate::graph::plan::Step;
use crate::ops::cpu::{CpuContext, Float, Memory, Operands};
use crate::ops::{Op, Operation};
use crate::tensor::TensorType;

/// A step with its operands in memory.
pub(super) struct ReadyOp {
    op: Op,
    input_types: Vec<TensorType>,
    output_types: Vec<TensorType>,
    inputs: Vec<Memory>,
    outputs: Vec<Memory>,
    updates: Vec<usize>,
    /// Room for the marks of [`CpuContext`].
    taken: Vec<bool>,
    pub guard: Option<usize>,
}

impl ReadyOp {
    /// The step with the index `index` of a plan.
    pub fn new<F: Float>(index: usize, step: &Step, sources: &dyn Sources) -> ReadyOp {
        let mut updates = step.op.updates();
        updates.sort_unstable();
        let inputs: Vec<Memory> = (0..step.inputs.len()).map(|input| sources.input(index, input)).collect();
        let outputs: Vec<Memory> = (0..step.outputs.len()).map(|output| sources.output(index, output)).collect();
        check_apart::<F>(step, &inputs, &outputs, &updates);
        ReadyOp {
            op: step.op.clone(),
            input_types: step.input_types(),
            output_types: step.output_types(),
            taken: vec![false; outputs.len() + updates.len()],
            inputs,
            outputs,
            updates,
            guard: step.guard,
        }
    }

    /// Runs the op.
    ///
    /// # Safety
    /// While it runs, what its operands' addresses lead to lives and is used by nothing else.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn run<F: Float>(&mut self) {
        let operands = Operands {
            input_types: &self.input_types,
            output_types: &self.output_types,
            inputs: &self.inputs,
            outputs: &self.outputs,
            updates: &self.updates,
            first_row: 0,
        };
        // SAFETY: by the contract; `check_apart` saw that what the op writes overlaps nothing else of it.
        let mut ctx = unsafe { CpuContext::<F>::new(operands, &mut self.taken) };
        self.op.run(&mut ctx);
    }
}

/// Checks that what an op writes overlaps nothing else of its operands.
pub(super) fn check_apart<F: Float>(step: &Step, inputs: &[Memory], outputs: &[Memory], updates: &[usize]) {
    let (updated, read): (Vec<usize>, Vec<usize>) =
        (0..inputs.len()).partition(|input| updates.binary_search(input).is_ok());
    let written: Vec<Memory> = outputs.iter().copied().chain(updated.into_iter().map(|input| inputs[input])).collect();
    for (place, &memory) in written.iter().enumerate() {
        let others = read.iter().map(|&input| inputs[input]).chain(written[..place].iter().copied());
        let is_alone = others.into_iter().all(|other| !memory.overlaps::<F>(other));
        assert!(is_alone, "{} writes to another of its operands", step.label());
    }
}
