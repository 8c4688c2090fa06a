//! The CPU device: runs plans with the CPU kernels of `ops/`, generic over the float. In f32 it is the device for
//! machines without a GPU; in f64 it is the reference that every kernel is checked against.
//!
//! A run in f32 takes a plan in stages, with ops that act image by image gathered into segments (`schedule.rs`,
//! `tiled.rs`). The reference, and whoever asks for single ops (`verify`, `profile`), gets one op after the other on the
//! whole batch (`by_op.rs`). The two have memory of their own for what only matters within a run.
//!
//! Memory is allocated, and the location of every operand computed, when the program is compiled, or with the first
//! single op; a step allocates nothing. Whether a plan is shared among threads is measured (`pace.rs`).

mod by_op;
mod layout;
mod lend;
mod memory;
mod op;
mod pace;
mod schedule;
#[cfg(test)]
mod tests;
mod tiled;
mod unit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use by_op::ByOp;
use lend::{append_states, blocks_of_states, tell};
use memory::Block;
use tiled::Tiled;

use super::exchange::{StateGroup, Watch, places};
use super::lent::Lendable;
use super::{Executor, Progress, StageTime, StateLayout, StepTable};
use crate::Result;
use crate::graph::plan::{Operand, Plan, Storage};
use crate::ops::cpu::{Float, Memory};
use crate::tensor::{Tensor, TensorType};

/// Where the operands of units lie.
trait Sources {
    fn input(&self, unit: usize, input: usize) -> Memory;
    fn output(&self, unit: usize, output: usize) -> Memory;
}

/// What one entry computes with.
struct Entry {
    plan: Plan,
    /// For each of the plan's states, its index in the program.
    states: Vec<usize>,
    scalars: Vec<Block>,
    constants: Vec<Block>,
    packs: Vec<Vec<Block>>,
    tiled: Option<Tiled>,
    /// Made when it is first needed, where the entry is tiled.
    by_op: Option<ByOp>,
    /// Whether what lies in slots is that of single ops.
    is_by_op: bool,
}

/// The memory of an entry that outlives a run.
struct Shared<'a> {
    entry: &'a Entry,
    states: &'a [Block],
}

impl Shared<'_> {
    fn memory(&self, storage: Storage) -> Memory {
        let Shared { entry, states } = *self;
        let block = match storage {
            Storage::State(index) => &states[entry.states[index]],
            Storage::Scalar(index) => &entry.scalars[index],
            Storage::Constant(index) => &entry.constants[index],
            Storage::Pack { pack, member } => &entry.packs[pack][member],
            Storage::Slot(_) => panic!("slots are laid out by who runs the steps"),
        };
        block.memory()
    }
}

/// A program on the CPU.
pub(crate) struct CpuExecutor<F> {
    entries: Vec<Entry>,
    states: Vec<Block>,
    kept: Vec<Option<Block>>,
    state_types: Vec<TensorType>,
    /// Memory that may be lent, with the states in it.
    lendable: Vec<(Vec<usize>, Arc<Lendable>)>,
    float: std::marker::PhantomData<F>,
}

impl<F: Float> CpuExecutor<F> {
    /// `WGRAD_BATCH_TILE` says for how many images at a time segments are run, for tests and comparisons; else it is a
    /// number that suits the work.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn new(plans: &[Plan], layout: &StateLayout) -> Result<Self> {
        let most_images = std::env::var("WGRAD_BATCH_TILE").ok().and_then(|text| text.trim().parse().ok());
        CpuExecutor::with_most_images(plans, layout, most_images.filter(|&images| images > 0))
    }

    /// An executor whose segments are run for so many images at a time, instead of a number that suits the work.
    fn with_most_images(plans: &[Plan], layout: &StateLayout, most_images: Option<usize>) -> Result<Self> {
        let states = blocks_of_states::<F>(layout)?;
        let entries = plans.iter().zip(&layout.of_plan);
        let entries = entries.map(|(plan, of_plan)| Entry::new::<F>(plan, of_plan.clone(), &states, most_images));
        Ok(CpuExecutor {
            entries: entries.collect::<Result<_>>()?,
            states,
            kept: layout.specs.iter().map(|_| None).collect(),
            state_types: layout.specs.iter().map(|spec| spec.ty.clone()).collect(),
            lendable: Vec::new(),
            float: std::marker::PhantomData,
        })
    }

    fn set_scalars(&mut self, entry: usize, table: &StepTable, step: usize) {
        for (block, (_, value)) in self.entries[entry].scalars.iter_mut().zip(table.row(step)) {
            block.set_scalar::<F>(value);
        }
    }

    /// Checks that none of these states is lent.
    fn check_states(&self, states: &[usize]) {
        for (lendable, memory) in &self.lendable {
            let is_wanted = || lendable.iter().any(|state| states.contains(state));
            assert!(!memory.is_lent() || !is_wanted(), "states that are lent are left alone");
        }
    }

    /// Checks that no state of an entry is lent.
    fn check_entry(&self, entry: usize) {
        self.check_states(&self.entries[entry].states);
    }

    fn run_once(&mut self, entry: usize, table: &StepTable, row: usize) {
        self.check_entry(entry);
        let Entry { tiled, by_op, is_by_op, .. } = &mut self.entries[entry];
        *is_by_op = tiled.is_none();
        #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
        // SAFETY: the operands are those of blocks of this executor, which live and stay where they are, and which
        // nothing else uses while it is borrowed mutably: what is lent of them was checked.
        match (tiled, by_op) {
            (Some(tiled), _) => unsafe { tiled.run::<F>(table, row, |_| ()) },
            (None, Some(by_op)) => unsafe { by_op.run::<F>(table, row) },
            (None, None) => panic!("an entry that is not tiled runs op by op"),
        }
    }

    /// The entry's single ops, which from now on have what lies in slots.
    fn by_op(&mut self, entry: usize) -> Result<&mut ByOp> {
        let by_op = match self.entries[entry].by_op.take() {
            Some(by_op) => by_op,
            None => {
                let entry = &self.entries[entry];
                ByOp::new::<F>(&entry.plan, &Shared { entry, states: &self.states })?
            }
        };
        self.entries[entry].is_by_op = true;
        Ok(self.entries[entry].by_op.insert(by_op))
    }

    fn block(&mut self, entry: usize, storage: Storage) -> &mut Block {
        self.check_entry(entry);
        let Entry { states, scalars, constants, packs, tiled, by_op, is_by_op, .. } = &mut self.entries[entry];
        match storage {
            Storage::State(index) => &mut self.states[states[index]],
            Storage::Scalar(index) => &mut scalars[index],
            Storage::Constant(index) => &mut constants[index],
            Storage::Pack { pack, member } => &mut packs[pack][member],
            Storage::Slot(slot) => {
                let block = match (by_op, tiled) {
                    (Some(by_op), _) if *is_by_op => Some(by_op.slot(slot)),
                    (_, Some(tiled)) => tiled.slot(slot),
                    _ => None,
                };
                block.expect("what is asked for was computed")
            }
        }
    }
}

fn zeros<F: Float>(ty: &TensorType) -> Result<Block> {
    Block::zeros::<F>(ty.dtype, ty.shape.num_elems())
}

impl Entry {
    fn new<F: Float>(plan: &Plan, of_plan: Vec<usize>, states: &[Block], most_images: Option<usize>) -> Result<Entry> {
        let packs = plan.packs.iter().map(|pack| pack.members.iter().map(|member| zeros::<F>(&member.ty)).collect());
        let mut entry = Entry {
            states: of_plan,
            scalars: plan.scalars.iter().map(|(_, dtype)| Block::zeros::<F>(*dtype, 1)).collect::<Result<_>>()?,
            constants: plan.constants.iter().map(Block::of_tensor::<F>).collect::<Result<_>>()?,
            packs: packs.collect::<Result<_>>()?,
            plan: plan.clone(),
            tiled: None,
            by_op: None,
            is_by_op: false,
        };
        let shared = Shared { entry: &entry, states };
        // The reference stays plain.
        let is_reference = size_of::<F>() == size_of::<f64>();
        let tiled = if is_reference { None } else { Tiled::new::<F>(plan, &shared, most_images)? };
        let by_op = if tiled.is_none() { Some(ByOp::new::<F>(plan, &shared)?) } else { None };
        (entry.tiled, entry.by_op) = (tiled, by_op);
        entry.is_by_op = entry.tiled.is_none();
        Ok(entry)
    }
}

impl<F: Float> Executor for CpuExecutor<F> {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        for row in 0..table.num_steps() {
            self.set_scalars(entry, table, row);
            self.run_once(entry, table, row);
            if progress(row + 1).is_break() {
                return Ok(row + 1);
            }
        }
        Ok(table.num_steps())
    }

    fn run_watched(
        &mut self,
        entry: usize,
        table: &StepTable,
        group: &StateGroup,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let (last, parts) = (table.num_steps() - 1, 0..group.num_parts());
        for row in 0..last {
            self.set_scalars(entry, table, row);
            self.run_once(entry, table, row);
        }
        self.set_scalars(entry, table, last);
        self.check_entry(entry);
        let CpuExecutor { entries, states, .. } = self;
        let Entry { tiled: Some(tiled), states: of_plan, is_by_op, .. } = &mut entries[entry] else {
            self.run_once(entry, table, last);
            return parts.into_iter().try_for_each(|part| tell::<F>(&self.states, group, part, watch));
        };
        *is_by_op = false;
        let in_plan = |state: &usize| of_plan.iter().position(|of| of == state);
        let last_write = |part| tiled.last_write(group.states_of(part).iter().filter_map(in_plan));
        let last_writes: Vec<usize> = parts.map(last_write).collect();
        let mut told = Ok(());
        let after = |stage: usize| {
            let mut finals = (0..last_writes.len()).filter(|&part| last_writes[part] == stage);
            if told.is_ok() {
                told =
                    finals.try_for_each(|part| tell::<F>(states, group, part, watch)).and_then(|()| watch.stage_done());
            }
        };
        #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
        // SAFETY: as in `run_once`; states are read between stages only, and those that are lent meanwhile are not written
        // by later stages.
        unsafe {
            tiled.run::<F>(table, last, after);
        }
        told
    }

    fn time_stages(&mut self, entry: usize, table: &StepTable) -> Option<Vec<StageTime>> {
        self.check_entry(entry);
        self.set_scalars(entry, table, 0);
        let tiled = self.entries[entry].tiled.as_mut()?;
        let (mut ends, started) = (Vec::new(), Instant::now());
        #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
        // SAFETY: as in `run_once`.
        unsafe {
            tiled.run::<F>(table, 0, |_| ends.push(started.elapsed()));
        }
        let starts = std::iter::once(Duration::ZERO).chain(ends.iter().copied());
        let times = ends.iter().zip(starts).map(|(end, start)| end.saturating_sub(start));
        let of_stage = |((steps, images), time): ((&[usize], Option<usize>), Duration)| StageTime {
            steps: steps.to_vec(),
            images,
            time,
        };
        let times: Vec<StageTime> = tiled.stages().zip(times).map(of_stage).collect();
        self.entries[entry].is_by_op = false;
        Some(times)
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        self.check_entry(entry);
        self.set_scalars(entry, table, 0);
        let by_op = self.by_op(entry)?;
        #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
        // SAFETY: as in `run_once`.
        unsafe {
            by_op.run_op::<F>(step);
        }
        Ok(())
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        self.by_op(entry)?;
        self.block(entry, operand.storage).fill_from::<F>(tensor);
        Ok(())
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        Ok(self.block(entry, operand.storage).tensor::<F>(&operand.ty))
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        self.by_op(entry)?;
        self.block(entry, operand.storage).poison::<F>();
        Ok(())
    }

    fn has_overrun(&mut self, _entry: usize, _operand: &Operand) -> Result<bool> {
        // Kernels write through slices of the exact length.
        Ok(false)
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        self.check_states(&[state]);
        self.states[state].fill_from::<F>(tensor);
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        self.check_states(&[state]);
        Ok(self.states[state].tensor::<F>(&self.state_types[state]))
    }

    fn lendable(&mut self, states: &[usize]) -> Option<Arc<Lendable>> {
        let blocks: Vec<&Block> = states.iter().map(|&state| &self.states[state]).collect();
        let memory = Block::lendable::<F>(&blocks)?;
        self.lendable.push((states.to_vec(), Arc::clone(&memory)));
        Some(memory)
    }

    fn read_bytes(&mut self, states: &[usize], bytes: &mut Vec<u8>) -> Result<()> {
        self.check_states(states);
        append_states::<F>(&self.states, states, bytes);
        Ok(())
    }

    fn write_bytes(&mut self, states: &[usize], bytes: &[u8]) -> Result<()> {
        self.check_states(states);
        let lens: Vec<usize> = states.iter().map(|&state| self.states[state].bytes::<F>().len()).collect();
        for (&state, place) in states.iter().zip(places(lens.into_iter())) {
            self.states[state].bytes_mut::<F>().copy_from_slice(&bytes[place]);
        }
        Ok(())
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        self.check_states(states);
        for &state in states {
            let kept = match self.kept[state].take() {
                Some(kept) => kept,
                None => zeros::<F>(&self.state_types[state])?,
            };
            self.kept[state].insert(kept).copy_from::<F>(&self.states[state]);
        }
        Ok(())
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        self.check_states(states);
        for &state in states {
            if let Some(kept) = &self.kept[state] {
                self.states[state].copy_from::<F>(kept);
            }
        }
        Ok(())
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        self.check_states(&[state]);
        let kept = self.kept[state].as_ref().unwrap_or(&self.states[state]);
        Ok(kept.tensor::<F>(&self.state_types[state]))
    }

    fn num_objects(&self) -> u64 {
        0
    }
}
