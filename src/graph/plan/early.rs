//! Fences of a level taken together. Each buffer that was written before is waited for by the first dispatch that binds it,
//! whether that reads it or not. So the first step of a level binds what the steps after it read: one fence serves all.

use std::collections::HashSet;

use super::tracker::{Buffer, Tracker, Uses};
use super::{Operand, Plan};
use crate::Result;
use crate::ops::kernel::{Binding, GpuTraits};

/// Storage buffers that a kernel of every device may bind.
const MAX_STORAGE_BUFFERS: usize = 8;

impl Plan {
    /// Lets a step that waits bind what the next steps read that was written before it, as far as there is room.
    pub(super) fn bind_early(&mut self, gpu: GpuTraits) -> Result<()> {
        let mut tracker = Tracker::default();
        for index in 0..self.steps.len() {
            let dispatches = self.steps[index].dispatches(gpu)?;
            for (place, dispatch) in dispatches.list.iter().enumerate() {
                let uses = Uses::of_dispatch(self, &self.steps[index], dispatch, false);
                if place == 0 && tracker.is_fenced(&uses) {
                    let is_storage = |binding: &&Binding| !matches!(binding, Binding::Unused | Binding::Scalar(_));
                    let bound = dispatch.bindings.iter().filter(is_storage).count();
                    let early = self.read_next(index, &tracker, &uses, MAX_STORAGE_BUFFERS.saturating_sub(bound));
                    self.steps[index].early = early;
                }
                tracker.apply(&Uses::of_dispatch(self, &self.steps[index], dispatch, place == 0));
            }
        }
        Ok(())
    }

    /// Up to `most` values in buffers that were written before step `index`, which does not bind them, and that a step
    /// after it reads before anyone writes them again.
    fn read_next(&self, index: usize, tracker: &Tracker, bound: &Uses, most: usize) -> Vec<Operand> {
        let mut found: Vec<Operand> = Vec::new();
        let mut seen: HashSet<Buffer> = bound.read.iter().chain(&bound.written).copied().collect();
        // What this step writes makes the steps that read it those of another level.
        let written: HashSet<Buffer> = Uses::of_op_of(self, index).written.into_iter().collect();
        for step in &self.steps[index + 1..] {
            let buffers = step.inputs.iter().filter_map(|input| Some((input, self.buffer(input.storage)?)));
            if buffers.clone().any(|(_, buffer)| written.contains(&buffer)) {
                break;
            }
            for (input, buffer) in buffers {
                if found.len() < most && tracker.is_written(buffer) && seen.insert(buffer) {
                    found.push(input.clone());
                }
            }
            seen.extend(step.outputs.iter().filter_map(|output| self.buffer(output.storage)));
        }
        found
    }
}
