//! A unit on the whole batch, with its operands in memory.

use super::Sources;
use super::unit::{Kernel, Unit};
use crate::ops::cpu::{CpuContext, Float, Memory, Operands};
use crate::tensor::TensorType;

/// A unit with its operands in memory.
pub(super) struct ReadyOp {
    kernel: Kernel,
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
    /// The unit with the index `index`.
    pub fn new<F: Float>(index: usize, unit: &Unit, sources: &dyn Sources) -> ReadyOp {
        let inputs: Vec<Memory> = (0..unit.inputs.len()).map(|input| sources.input(index, input)).collect();
        let outputs: Vec<Memory> = (0..unit.outputs.len()).map(|output| sources.output(index, output)).collect();
        check_apart::<F>(unit, &inputs, &outputs);
        ReadyOp {
            kernel: unit.kernel.clone(),
            input_types: unit.input_types(),
            output_types: unit.output_types(),
            taken: vec![false; outputs.len() + unit.updates.len()],
            inputs,
            outputs,
            updates: unit.updates.clone(),
            guard: unit.guard,
        }
    }

    /// Runs the unit.
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
            batch_size: None,
        };
        // SAFETY: by the contract; `check_apart` saw that what is written overlaps no other operand.
        let mut ctx = unsafe { CpuContext::<F>::new(operands, &mut self.taken) };
        self.kernel.run(&mut ctx);
    }
}

/// Checks that what a unit writes to these places overlaps nothing else of its operands.
pub(super) fn check_apart<F: Float>(unit: &Unit, inputs: &[Memory], outputs: &[Memory]) {
    let (updated, read): (Vec<usize>, Vec<usize>) =
        (0..inputs.len()).partition(|input| unit.updates.binary_search(input).is_ok());
    let written: Vec<Memory> = outputs.iter().copied().chain(updated.into_iter().map(|input| inputs[input])).collect();
    for (place, &memory) in written.iter().enumerate() {
        let mut others = read.iter().map(|&input| inputs[input]).chain(written[..place].iter().copied());
        let is_alone = others.all(|other| !memory.overlaps::<F>(other));
        assert!(is_alone, "{} writes to another of its operands", unit.label);
    }
}
