//! What a plan asks of a GPU besides arithmetic: dispatches, how many of them follow from each other, and before how many
//! the GPU has to wait. Small networks are bound by that.

use std::collections::HashMap;
use std::fmt;

use super::tracker::{Buffer, Tracker, Uses};
use super::{Plan, Step};
use crate::Result;
use crate::ops::Op;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits};

/// The counts of one step. Its `Display` is a line such as `32 dispatches, 23 levels, 29 fences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Dispatches.
    pub dispatches: usize,
    /// Dispatches before which wgpu puts a barrier, if a step is a pass of its own.
    pub fences: usize,
    /// The levels: all dispatches of one need nothing of each other, only of those before.
    pub levels: Vec<Level>,
}

/// The dispatches of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many there are.
    pub dispatches: usize,
    /// Their workgroups.
    pub workgroups: u64,
    /// Bytes that they read and write, each operand once.
    pub bytes: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dispatches, {} levels, {} fences", self.dispatches, self.levels.len(), self.fences)
    }
}

impl Counts {
    /// Bytes read and written in all levels.
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum()
    }
}

impl Plan {
    /// The counts of the plan on a GPU of this kind, as [`Plan::for_gpu`] makes it. Steps with a guard count as run.
    ///
    /// # Errors
    /// As [`Plan::for_gpu`] and [`Plan::dispatches`].
    pub fn counts(&self, gpu: GpuTraits) -> Result<Counts> {
        let plan = self.for_gpu(gpu)?;
        let (mut tracker, mut order) = (Tracker::default(), Order::default());
        let mut counts = Counts { dispatches: 0, fences: 0, levels: Vec::new() };
        for (step, dispatches) in plan.steps.iter().zip(plan.dispatches(gpu)?) {
            for (index, dispatch) in dispatches.list.iter().enumerate() {
                let uses = Uses::of_dispatch(&plan, step, dispatch, index == 0);
                counts.dispatches += 1;
                counts.fences += usize::from(tracker.is_fenced(&uses));
                tracker.apply(&uses);
                let level = order.place(&uses, &parts(&plan, step, dispatch));
                counts.levels.resize(counts.levels.len().max(level), Level::default());
                let count = &mut counts.levels[level - 1];
                count.dispatches += 1;
                count.workgroups += dispatch.workgroups.iter().map(|&extent| u64::from(extent)).product::<u64>();
                count.bytes += bytes(&plan, step, &dispatches, dispatch);
            }
        }
        Ok(counts)
    }
}

/// A buffer, or a member of a pack: what a dispatch depends on others by. Other than fences, levels are not of whole
/// buffers.
type Part = (Buffer, Option<usize>);

/// The parts that a dispatch binds, and whether it writes them.
fn parts(plan: &Plan, step: &Step, dispatch: &Dispatch) -> Vec<(Part, bool)> {
    let mut parts = Vec::new();
    let mut operand = |operand: &super::Operand, is_written: bool| {
        let Some(buffer) = plan.buffer(operand.storage) else { return };
        let member = match (buffer, operand.storage) {
            (Buffer::Pack(_), super::Storage::Pack { member, .. }) => Some(member),
            (Buffer::Pack(pack), super::Storage::State(state)) => {
                let name = plan.states[state].name.as_str();
                plan.packs[pack].members.iter().position(|member| member.state.as_deref() == Some(name))
            }
            _ => None,
        };
        parts.push(((buffer, member), is_written));
    };
    for binding in &dispatch.bindings {
        match *binding {
            Binding::Input(index) => operand(&step.inputs[index], false),
            Binding::Updated(index) => operand(&step.inputs[index], true),
            Binding::Output(index) => operand(&step.outputs[index], true),
            _ => {}
        }
    }
    for binding in &dispatch.bindings {
        let (buffer, count, is_written) = match *binding {
            Binding::Scratch(index) => (Buffer::Scratch(index), 0, false),
            Binding::ScratchMut(index) => (Buffer::Scratch(index), 0, true),
            Binding::Pack(index) => {
                (Buffer::Pack(step.packs[index]), plan.packs[step.packs[index]].members.len(), false)
            }
            Binding::PackUpdated(index) => {
                (Buffer::Pack(step.packs[index]), plan.packs[step.packs[index]].members.len(), true)
            }
            _ => continue,
        };
        if count == 0 {
            parts.push(((buffer, None), is_written));
        }
        parts.extend((0..count).map(|member| ((buffer, Some(member)), is_written)));
    }
    parts
}

/// The level of the last dispatch that wrote each part, and of the last that read it.
#[derive(Default)]
struct Order {
    written: HashMap<Part, usize>,
    read: HashMap<Part, usize>,
}

impl Order {
    /// The level of a dispatch, from 1: after the writers of what it reads, and after all that used what it updates.
    /// Memory that is shared, slots and scratch, is new with each value: that a writer waits for earlier readers counts
    /// as a fence but not as a level.
    fn place(&mut self, uses: &Uses, parts: &[(Part, bool)]) -> usize {
        let is_shared = |buffer: &Buffer| matches!(buffer, Buffer::Slot(_) | Buffer::Scratch(_));
        let reads = |buffer: &Buffer| uses.read.contains(buffer);
        let mut level = 1;
        for (part, is_written) in parts {
            if !is_written || reads(&part.0) || !is_shared(&part.0) {
                level = level.max(self.written.get(part).map_or(0, |level| level + 1).max(1));
            }
            if *is_written && !is_shared(&part.0) {
                level = level.max(self.read.get(part).map_or(0, |level| level + 1).max(1));
            }
        }
        for &(part, is_written) in parts {
            let last = if is_written { &mut self.written } else { &mut self.read };
            last.insert(part, level);
        }
        level
    }
}

/// Bytes that a dispatch reads and writes, each operand once.
fn bytes(plan: &Plan, step: &Step, dispatches: &Dispatches, dispatch: &Dispatch) -> u64 {
    if let Op::Gather(_) = step.op {
        // It reads a few images of a whole data set.
        return step.cost().bytes;
    }
    let scratch = |index: usize| 4 * dispatches.scratch_elems[index];
    let of = |binding: &Binding| match *binding {
        Binding::Unused | Binding::Scalar(_) => 0,
        Binding::Input(index) => step.inputs[index].ty.size_bytes(),
        // Read and written.
        Binding::Updated(index) => 2 * step.inputs[index].ty.size_bytes(),
        Binding::Output(index) => step.outputs[index].ty.size_bytes(),
        Binding::Scratch(index) | Binding::ScratchMut(index) => scratch(index),
        Binding::Pack(index) => 4 * plan.packs[step.packs[index]].num_elems,
        Binding::PackUpdated(index) => 8 * plan.packs[step.packs[index]].num_elems,
    };
    let mut bindings: Vec<Binding> = dispatch.bindings.clone();
    bindings.dedup();
    bindings.iter().map(|binding| of(binding) as u64).sum()
}
