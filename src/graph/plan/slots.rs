//! Slots: memory that values share whose lifetimes do not meet.

use super::{Planner, Storage};
use crate::graph::Value;
use crate::tensor::{DType, TensorType};

/// Memory shared by values whose lifetimes do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub dtype: DType,
    pub num_elems: usize,
}

impl Planner<'_> {
    /// A free slot that fits best, else the largest one grown, else a new one.
    pub(super) fn take_slot(&mut self, free: &mut Vec<usize>, ty: &TensorType) -> usize {
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
        let ended = node.inputs.iter().chain(outputs).map(|&value| self.root(value));
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
