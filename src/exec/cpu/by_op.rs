//! A plan laid out to run op by op, each on the whole batch: the slots are the plan's.

use super::memory::Block;
use super::op::ReadyOp;
use super::{Shared, Sources, unit};
use crate::Result;
use crate::exec::StepTable;
use crate::graph::plan::{Operand, Plan, Storage};
use crate::ops::cpu::{Float, Memory};

/// A plan op by op.
pub(super) struct ByOp {
    slots: Vec<Block>,
    ops: Vec<ReadyOp>,
}

impl ByOp {
    pub fn new<F: Float>(plan: &Plan, shared: &Shared<'_>) -> Result<ByOp> {
        let slots = plan.slots.iter().map(|slot| Block::zeros::<F>(slot.dtype, slot.num_elems));
        let slots: Vec<Block> = slots.collect::<Result<_>>()?;
        let layout = Layout { plan, shared, slots: &slots };
        let ops = unit::ops(plan).iter().enumerate().map(|(index, op)| ReadyOp::new::<F>(index, op, &layout)).collect();
        Ok(ByOp { slots, ops })
    }

    pub fn slot(&mut self, slot: usize) -> &mut Block {
        &mut self.slots[slot]
    }

    /// Runs the plan once, under row `row` of the table.
    ///
    /// # Safety
    /// As [`ReadyOp::run`], for all operands.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn run<F: Float>(&mut self, table: &StepTable, row: usize) {
        for op in self.ops.iter_mut().filter(|op| table.is_on(op.guard, row)) {
            // SAFETY: by the contract.
            unsafe { op.run::<F>() };
        }
    }

    /// Runs one op, whatever its guard.
    ///
    /// # Safety
    /// As [`ReadyOp::run`].
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn run_op<F: Float>(&mut self, step: usize) {
        // SAFETY: by the contract.
        unsafe { self.ops[step].run::<F>() };
    }
}

/// What the memory of operands follows from.
struct Layout<'a> {
    plan: &'a Plan,
    shared: &'a Shared<'a>,
    slots: &'a [Block],
}

impl Layout<'_> {
    fn memory(&self, operand: &Operand) -> Memory {
        let memory = match operand.storage {
            Storage::Slot(slot) => self.slots[slot].memory(),
            storage => self.shared.memory(storage),
        };
        memory.first(operand.ty.shape.num_elems())
    }
}

impl Sources for Layout<'_> {
    fn input(&self, step: usize, input: usize) -> Memory {
        self.memory(&self.plan.steps[step].inputs[input])
    }

    fn output(&self, step: usize, output: usize) -> Memory {
        self.memory(&self.plan.steps[step].outputs[output])
    }
}
