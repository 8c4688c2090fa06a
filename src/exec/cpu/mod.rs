//! The CPU device: runs a plan op by op with the CPU kernels of `ops/`, generic over the float. In f32 it is the
//! device for machines without a GPU; in f64 it is the reference that every kernel is checked against.
//!
//! Memory is allocated, and the location of every operand computed, when the program is compiled; a step allocates
//! nothing.

mod memory;

use memory::Block;

use super::{Executor, Progress, StateLayout, StepTable};
use crate::Result;
use crate::graph::plan::{Operand, Plan, Step, Storage};
use crate::ops::cpu::{CpuContext, Float, Memory, Operands};
use crate::ops::{Op, Operation};
use crate::tensor::{Tensor, TensorType};

/// A step with its operands in memory.
struct ReadyStep {
    op: Op,
    operands: Operands,
    /// Room for the marks of [`CpuContext`].
    taken: Vec<bool>,
    guard: Option<usize>,
}

/// What one entry computes with.
struct Entry {
    /// For each of the plan's states, its index in the program.
    states: Vec<usize>,
    scalars: Vec<Block>,
    constants: Vec<Block>,
    slots: Vec<Block>,
    packs: Vec<Vec<Block>>,
    steps: Vec<ReadyStep>,
}

/// A program on the CPU.
pub(crate) struct CpuExecutor<F> {
    entries: Vec<Entry>,
    states: Vec<Block>,
    kept: Vec<Option<Block>>,
    state_types: Vec<TensorType>,
    float: std::marker::PhantomData<F>,
}

impl<F: Float> CpuExecutor<F> {
    pub fn new(plans: &[Plan], layout: &StateLayout) -> Self {
        let states: Vec<Block> = layout.specs.iter().map(|spec| zeros::<F>(&spec.ty)).collect();
        let entries = plans.iter().zip(&layout.of_plan);
        CpuExecutor {
            entries: entries.map(|(plan, of_plan)| Entry::new::<F>(plan, of_plan.clone(), &states)).collect(),
            states,
            kept: layout.specs.iter().map(|_| None).collect(),
            state_types: layout.specs.iter().map(|spec| spec.ty.clone()).collect(),
            float: std::marker::PhantomData,
        }
    }

    fn set_scalars(&mut self, entry: usize, table: &StepTable, step: usize) {
        for (block, (_, value)) in self.entries[entry].scalars.iter_mut().zip(table.row(step)) {
            block.set_scalar::<F>(value);
        }
    }

    fn run_step(&mut self, entry: usize, index: usize) {
        let ReadyStep { op, operands, taken, .. } = &mut self.entries[entry].steps[index];
        #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
        // SAFETY: the operands are those of blocks of this executor, which live and stay where they are, and which
        // nothing else uses while it is borrowed mutably. `ReadyStep::new` checked that what a step writes overlaps
        // nothing else of it.
        let mut ctx = unsafe { CpuContext::<F>::new(operands, taken) };
        op.run(&mut ctx);
    }

    fn block(&mut self, entry: usize, storage: Storage) -> &mut Block {
        let Entry { states, scalars, constants, slots, packs, .. } = &mut self.entries[entry];
        match storage {
            Storage::State(index) => &mut self.states[states[index]],
            Storage::Scalar(index) => &mut scalars[index],
            Storage::Constant(index) => &mut constants[index],
            Storage::Slot(index) => &mut slots[index],
            Storage::Pack { pack, member } => &mut packs[pack][member],
        }
    }
}

fn zeros<F: Float>(ty: &TensorType) -> Block {
    Block::zeros::<F>(ty.dtype, ty.shape.num_elems())
}

impl Entry {
    fn new<F: Float>(plan: &Plan, states: Vec<usize>, blocks: &[Block]) -> Entry {
        let mut entry = Entry {
            states,
            scalars: plan.scalars.iter().map(|(_, dtype)| Block::zeros::<F>(*dtype, 1)).collect(),
            constants: plan.constants.iter().map(Block::of_tensor::<F>).collect(),
            slots: plan.slots.iter().map(|slot| Block::zeros::<F>(slot.dtype, slot.num_elems)).collect(),
            packs: plan.packs.iter().map(|pack| pack.members.iter().map(|m| zeros::<F>(&m.ty)).collect()).collect(),
            steps: Vec::new(),
        };
        entry.steps =
            plan.steps.iter().map(|step| ReadyStep::new(step, |operand| entry.memory(operand, blocks))).collect();
        entry
    }

    fn memory(&self, operand: &Operand, states: &[Block]) -> Memory {
        let block = match operand.storage {
            Storage::State(index) => &states[self.states[index]],
            Storage::Scalar(index) => &self.scalars[index],
            Storage::Constant(index) => &self.constants[index],
            Storage::Slot(index) => &self.slots[index],
            Storage::Pack { pack, member } => &self.packs[pack][member],
        };
        block.memory().first(operand.ty.shape.num_elems())
    }
}

impl ReadyStep {
    fn new(step: &Step, memory: impl Fn(&Operand) -> Memory) -> ReadyStep {
        let mut updates = step.op.updates();
        updates.sort_unstable();
        let is_read = |input: &usize| updates.binary_search(input).is_err();
        let read: Vec<Storage> =
            (0..step.inputs.len()).filter(is_read).map(|input| step.inputs[input].storage).collect();
        let mut written: Vec<Storage> = step.outputs.iter().map(|operand| operand.storage).collect();
        written.extend(updates.iter().map(|&input| step.inputs[input].storage));
        for (place, storage) in written.iter().enumerate() {
            let is_alone = !read.contains(storage) && !written[..place].contains(storage);
            assert!(is_alone, "{} writes to {storage:?}, which is another of its operands too", step.label());
        }
        let operands = Operands {
            input_types: step.input_types(),
            output_types: step.output_types(),
            inputs: step.inputs.iter().map(&memory).collect(),
            outputs: step.outputs.iter().map(&memory).collect(),
            updates,
        };
        let taken = vec![false; written.len()];
        ReadyStep { op: step.op.clone(), operands, taken, guard: step.guard }
    }
}

impl<F: Float> Executor for CpuExecutor<F> {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        for step in 0..table.num_steps() {
            self.set_scalars(entry, table, step);
            for index in 0..self.entries[entry].steps.len() {
                if table.is_on(self.entries[entry].steps[index].guard, step) {
                    self.run_step(entry, index);
                }
            }
            if progress(step + 1).is_break() {
                return Ok(step + 1);
            }
        }
        Ok(table.num_steps())
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        self.set_scalars(entry, table, 0);
        self.run_step(entry, step);
        Ok(())
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        self.block(entry, operand.storage).fill_from::<F>(tensor);
        Ok(())
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        Ok(self.block(entry, operand.storage).tensor::<F>(&operand.ty))
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        self.block(entry, operand.storage).poison::<F>();
        Ok(())
    }

    fn has_overrun(&mut self, _entry: usize, _operand: &Operand) -> Result<bool> {
        // Kernels write through slices of the exact length.
        Ok(false)
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        self.states[state].fill_from::<F>(tensor);
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        Ok(self.states[state].tensor::<F>(&self.state_types[state]))
    }

    fn read_bytes(&mut self, states: &[usize], bytes: &mut Vec<u8>) -> Result<()> {
        states.iter().for_each(|&state| bytes.extend_from_slice(self.states[state].bytes::<F>()));
        Ok(())
    }

    fn write_bytes(&mut self, states: &[usize], mut bytes: &[u8]) -> Result<()> {
        for &state in states {
            let to = self.states[state].bytes_mut::<F>();
            let (first, rest) = bytes.split_at(to.len());
            to.copy_from_slice(first);
            bytes = rest;
        }
        Ok(())
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        for &state in states {
            self.kept[state]
                .get_or_insert_with(|| zeros::<F>(&self.state_types[state]))
                .copy_from::<F>(&self.states[state]);
        }
        Ok(())
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        for &state in states {
            if let Some(kept) = &self.kept[state] {
                self.states[state].copy_from::<F>(kept);
            }
        }
        Ok(())
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        let kept = self.kept[state].as_ref().unwrap_or(&self.states[state]);
        Ok(kept.tensor::<F>(&self.state_types[state]))
    }

    fn num_objects(&self) -> u64 {
        0
    }
}
