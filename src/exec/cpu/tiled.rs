//! A plan that runs in stages (`schedule.rs`), with its values laid out (`layout.rs`): the run of a segment. A sum over
//! images has a partial sum for each group of images; they are added up in the groups' order when all are there, so the
//! number of threads does not matter.

use std::collections::HashMap;

use super::Shared;
use super::layout::{Layout, Lives, place_blocks};
use super::memory::Block;
use super::op::ReadyOp;
use super::pace::Pace;
use super::schedule::{Home, Homes, MOST_OPERANDS, Stage, stages};
use super::unit::{self, Kernel, Unit};
use crate::Result;
use crate::exec::StepTable;
use crate::graph::plan::{Plan, Storage};
use crate::ops::cpu::{CpuContext, Float, Memory, Operands, parallel, scratch, threads};
use crate::tensor::{DType, TensorType};

/// A plan in stages.
pub(super) struct Tiled {
    stages: Vec<ReadyStage>,
    pace: Pace,
    /// The steps of each stage.
    steps: Vec<Vec<usize>>,
    /// Memory of values that more than one stage knows.
    blocks: Vec<Block>,
    /// Where a plan's slots are in the end.
    slots: HashMap<usize, usize>,
    /// The last stage that may write to each of the plan's states.
    last_writes: HashMap<usize, usize>,
    /// Owns the partial sums.
    _partials: Vec<Block>,
}

enum ReadyStage {
    Op(Box<ReadyOp>),
    Segment(ReadySegment),
}

pub(super) struct ReadySegment {
    pub units: Vec<TiledUnit>,
    pub batch_size: usize,
    /// Images at a time.
    pub images: usize,
    /// Bytes of working memory that a thread needs.
    pub scratch_bytes: usize,
    pub sums: Vec<PartialSums>,
}

/// A unit in a segment, with the types it has on a whole group of images and on the last one.
pub(super) struct TiledUnit {
    pub kernel: Kernel,
    pub types: [(Vec<TensorType>, Vec<TensorType>); 2],
    pub inputs: Vec<Place>,
    pub outputs: Vec<Place>,
}

/// Where an operand lies.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The same for all images.
    Whole(Memory),
    /// Rows of a value of the whole batch, of so many elements each.
    Rows(Memory, usize),
    /// In the thread's working memory, from a byte on, rows of so many elements.
    Local { start: usize, row_elems: usize, dtype: DType },
    /// A row of partial sums of so many elements for each group.
    Partial(Memory, usize),
}

/// A sum over groups of images.
pub(super) struct PartialSums {
    pub partials: Memory,
    pub total: Memory,
}

impl Tiled {
    /// `None` where there is nothing to run image by image.
    pub fn new<F: Float>(plan: &Plan, shared: &Shared, most_images: Option<usize>) -> Result<Option<Tiled>> {
        let units = unit::parts(plan);
        let homes = Homes::of(&units);
        let stages = stages(&units, &homes);
        if !stages.iter().any(|stage| matches!(stage, Stage::Segment(_))) {
            return Ok(None);
        }
        let lives = Lives::of(plan, &units, &homes, &stages);
        let (blocks, block_of) = place_blocks::<F>(&lives)?;
        let slots = homes.last.iter().filter_map(|(&slot, home)| Some((slot, *block_of.get(home)?))).collect();
        let layout =
            Layout { units: &units, homes: &homes, shared, lives: &lives, blocks: &blocks, block_of: &block_of };
        let mut partials = Vec::new();
        let ready = |(index, stage): (usize, Stage)| match stage {
            Stage::Op(unit) => Ok(ReadyStage::Op(Box::new(ReadyOp::new::<F>(unit, &units[unit], &layout)))),
            Stage::Segment(segment) => {
                layout.segment::<F>(index, &segment, most_images, &mut partials).map(ReadyStage::Segment)
            }
        };
        let step_of = |stage: &Stage| stage.units().iter().map(|&unit| units[unit].step).collect();
        let steps_of = stages.iter().map(step_of).collect();
        let last_writes = last_writes(&units, &homes, &stages);
        let stages = stages.into_iter().enumerate().map(ready).collect::<Result<_>>()?;
        let (pace, steps) = (Pace::default(), steps_of);
        Ok(Some(Tiled { stages, pace, steps, blocks, slots, last_writes, _partials: partials }))
    }

    /// The stage after which a run no longer changes any of these states of the plan.
    pub fn last_write(&self, states: impl Iterator<Item = usize>) -> usize {
        states.filter_map(|state| self.last_writes.get(&state).copied()).max().unwrap_or(0)
    }

    /// The block of what a slot of the plan holds after a run, where other than one segment knows it.
    pub fn slot(&mut self, slot: usize) -> Option<&mut Block> {
        self.slots.get(&slot).map(|&block| &mut self.blocks[block])
    }

    /// The steps of each stage, and for how many images at a time they run where it is a segment.
    pub fn stages(&self) -> impl Iterator<Item = (&[usize], Option<usize>)> {
        self.steps.iter().zip(&self.stages).map(|(steps, stage)| match stage {
            ReadyStage::Op(_) => (steps.as_slice(), None),
            ReadyStage::Segment(segment) => (steps.as_slice(), Some(segment.images)),
        })
    }

    /// Runs the plan once, under row `row` of the table, and calls `after` with the index of each stage after it.
    ///
    /// # Safety
    /// As [`ReadyOp::run`], for all operands.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn run<F: Float>(&mut self, table: &StepTable, row: usize, mut after: impl FnMut(usize)) {
        let stages = &mut self.stages;
        self.pace.run(|| {
            for (index, stage) in stages.iter_mut().enumerate() {
                match stage {
                    ReadyStage::Op(op) if !table.is_on(op.guard, row) => {}
                    // SAFETY: by the contract.
                    ReadyStage::Op(op) => unsafe { op.run::<F>() },
                    // SAFETY: by the contract.
                    ReadyStage::Segment(segment) => unsafe { segment.run::<F>() },
                }
                after(index);
            }
        });
    }
}

/// The last stage that may write to each of the plan's states.
fn last_writes(units: &[Unit], homes: &Homes, stages: &[Stage]) -> HashMap<usize, usize> {
    let mut last = HashMap::new();
    for (stage, &unit) in
        stages.iter().enumerate().flat_map(|(index, stage)| stage.units().iter().map(move |unit| (index, unit)))
    {
        let updated = units[unit].updates.iter().map(|&input| homes.inputs[unit][input]);
        for home in updated.chain(homes.outputs[unit].iter().copied()) {
            if let Home::Storage(Storage::State(state)) = home {
                last.insert(state, stage);
            }
        }
    }
    last
}

impl ReadySegment {
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    /// # Safety
    /// As [`Tiled::run`].
    unsafe fn run<F: Float>(&self) {
        threads::run(self.batch_size.div_ceil(self.images), |group| {
            scratch::with(self.scratch_bytes.div_ceil(size_of::<scratch::Line>()), |lines: &mut [scratch::Line]| {
                let room = Memory::room(lines);
                for unit in &self.units {
                    // SAFETY: by the contract; other groups use other rows and other partial sums, and other threads
                    // other working memory.
                    unsafe { unit.run::<F>(self, group, room) };
                }
            });
        });
        for sums in &self.sums {
            // SAFETY: all tasks are done, and the two are of this executor and apart.
            let (partials, total) = unsafe { (sums.partials.read::<F>(), sums.total.write::<F>()) };
            parallel::sum_rows(partials, total);
        }
    }
}

impl TiledUnit {
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    /// # Safety
    /// No other thread runs this group meanwhile, and `room` is this thread's alone.
    unsafe fn run<F: Float>(&self, segment: &ReadySegment, group: usize, room: Memory) {
        let first_row = group * segment.images;
        let rows = segment.images.min(segment.batch_size - first_row);
        let (input_types, output_types) = &self.types[usize::from(rows < segment.images)];
        let at = |place: &Place| match *place {
            Place::Whole(memory) => memory,
            Place::Rows(memory, row_elems) => memory.part::<F>(first_row * row_elems, rows * row_elems),
            Place::Local { start, row_elems, dtype } => room.carve::<F>(start, rows * row_elems, dtype),
            Place::Partial(memory, elems) => memory.part::<F>(group * elems, elems),
        };
        let mut memory = [room; 2 * MOST_OPERANDS];
        let (inputs, outputs) = memory.split_at_mut(MOST_OPERANDS);
        let (inputs, outputs) = (&mut inputs[..self.inputs.len()], &mut outputs[..self.outputs.len()]);
        inputs.iter_mut().zip(&self.inputs).for_each(|(memory, place)| *memory = at(place));
        outputs.iter_mut().zip(&self.outputs).for_each(|(memory, place)| *memory = at(place));
        let mut taken = [false; MOST_OPERANDS];
        let batch_size = Some(segment.batch_size);
        let operands = Operands { input_types, output_types, inputs, outputs, updates: &[], first_row, batch_size };
        // SAFETY: by the contract; values of a segment that live at a time lie apart.
        let mut ctx = unsafe { CpuContext::<F>::new(operands, &mut taken[..self.outputs.len()]) };
        self.kernel.run(&mut ctx);
    }
}
