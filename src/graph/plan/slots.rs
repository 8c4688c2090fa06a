//! Slots: memory that values share whose lifetimes do not meet.

use super::tracker::Uses;
use super::{Operand, Planner, Storage};
use crate::graph::Value;
use crate::ops::Op;
use crate::tensor::{DType, TensorType};

/// Bytes of slots up to which values get memory of their own where sharing would make a dispatch wait.
const MAX_UNSHARED_BYTES: usize = 512 << 20;

/// Memory shared by values whose lifetimes do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub dtype: DType,
    pub num_elems: usize,
}

impl Planner<'_> {
    /// Whether the outputs of an op may lie where other values were: everywhere but on a GPU whose dispatches overlap,
    /// and there if the op waits for those before it anyway.
    pub(super) fn may_share(&self, op: &Op, inputs: &[Operand], packs: &[usize]) -> bool {
        let Some(tracker) = &self.tracker else { return true };
        let waits = tracker.is_fenced(&Uses::of_op(&self.plan, op, inputs, &[], packs));
        waits || self.plan.slot_bytes() > MAX_UNSHARED_BYTES
    }

    /// Follows what the step placed last reads and writes.
    pub(super) fn note_uses(&mut self) {
        if let Some(tracker) = &mut self.tracker
            && let Some(step) = self.plan.steps.last()
        {
            tracker.apply(&Uses::of_op(&self.plan, &step.op, &step.inputs, &step.outputs, &step.packs));
        }
    }

    /// Of the slots that may be shared the free one that fits best, else the largest one grown; else a new one.
    pub(super) fn take_slot(&mut self, free: Option<&mut Vec<usize>>, ty: &TensorType) -> usize {
        let mut none = Vec::new();
        let free = free.unwrap_or(&mut none);
        let num_elems = ty.shape.num_elems();
        self.plan.unshared_bytes += ty.size_bytes();
        let slots = &self.plan.slots;
        let candidates = || free.iter().copied().filter(|&slot| slots[slot].dtype == ty.dtype);
        let fitting =
            candidates().filter(|&slot| slots[slot].num_elems >= num_elems).min_by_key(|&slot| slots[slot].num_elems);
        match fitting.or_else(|| candidates().max_by_key(|&slot| slots[slot].num_elems)) {
            Some(slot) => {
                free.retain(|&other| other != slot);
                let slot_elems = &mut self.plan.slots[slot].num_elems;
                *slot_elems = num_elems.max(*slot_elems);
                slot
            }
            None => {
                self.plan.slots.push(Slot { dtype: ty.dtype, num_elems });
                self.plan.slots.len() - 1
            }
        }
    }

    pub(super) fn free_slots(&self, free: &mut Vec<usize>, place: usize, outputs: &[Value]) {
        let node = &self.graph.nodes[self.live[place]];
        // Outputs that nobody reads are free at once; an input listed twice is freed once.
        let ended = node.inputs.iter().chain(outputs).map(|&value| self.graph.root(value));
        for value in ended {
            if self.last_use.get(&value).is_none_or(|&last| last == place)
                && let Some(Storage::Slot(slot)) = self.storage.get(&value)
                && !free.contains(slot)
            {
                free.push(*slot);
            }
        }
    }
}
