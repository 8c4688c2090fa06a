//! Which dispatches wait for those before them, as wgpu decides it: within a pass it tracks the state of every whole
//! buffer, and puts a barrier before a dispatch that reads a buffer written before or writes one used before. All the
//! barriers of a dispatch are one fence, which waits for everything before it, not only for what it needs. The first use
//! of a buffer in a pass costs nothing there. A step is a pass of its own.

use std::collections::HashMap;

use super::{Operand, Plan, Storage};
use crate::ops::kernel::{Binding, Dispatch};
use crate::ops::{Op, Operation};

/// A buffer as wgpu sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Buffer {
    State(usize),
    Constant(usize),
    Slot(usize),
    Pack(usize),
    Scratch(usize),
}

/// The buffers that a dispatch, or an op, binds.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub read: Vec<Buffer>,
    pub written: Vec<Buffer>,
}

impl Uses {
    /// Those of an op, without its scratch memory.
    pub fn of_op(plan: &Plan, op: &Op, inputs: &[Operand], outputs: &[Operand], packs: &[usize]) -> Uses {
        let mut uses = Uses::default();
        let updates = op.updates();
        for (index, input) in inputs.iter().enumerate() {
            if let Some(buffer) = plan.buffer(input.storage) {
                if updates.contains(&index) { &mut uses.written } else { &mut uses.read }.push(buffer);
            }
        }
        uses.written.extend(outputs.iter().filter_map(|output| plan.buffer(output.storage)));
        // What a pack is bound for follows from its members, which are among the inputs.
        uses.read.extend(packs.iter().map(|&pack| Buffer::Pack(pack)));
        uses.read.retain(|buffer| !uses.written.contains(buffer));
        uses
    }

    /// Those of a step that is placed.
    pub fn of_op_of(plan: &Plan, index: usize) -> Uses {
        let step = &plan.steps[index];
        Uses::of_op(plan, &step.op, &step.inputs, &step.outputs, &step.packs)
    }

    /// Those of one dispatch of a step; the first one also binds what others read.
    pub fn of_dispatch(plan: &Plan, step: &super::Step, dispatch: &Dispatch, is_first: bool) -> Uses {
        let mut uses = Uses::default();
        if is_first {
            uses.read.extend(step.early.iter().filter_map(|operand| plan.buffer(operand.storage)));
        }
        for binding in &dispatch.bindings {
            let (buffer, is_written) = match *binding {
                // Numbers of the step are uniforms, which nothing writes.
                Binding::Unused | Binding::Scalar(_) => (None, false),
                Binding::Input(index) => (plan.buffer(step.inputs[index].storage), false),
                Binding::Updated(index) => (plan.buffer(step.inputs[index].storage), true),
                Binding::Output(index) => (plan.buffer(step.outputs[index].storage), true),
                Binding::Scratch(index) => (Some(Buffer::Scratch(index)), false),
                Binding::ScratchMut(index) => (Some(Buffer::Scratch(index)), true),
                Binding::Pack(index) => (Some(Buffer::Pack(step.packs[index])), false),
                Binding::PackUpdated(index) => (Some(Buffer::Pack(step.packs[index])), true),
            };
            if let Some(buffer) = buffer {
                if is_written { &mut uses.written } else { &mut uses.read }.push(buffer);
            }
        }
        uses
    }
}

impl Plan {
    /// The buffer that a value lies in; none for a number of the step.
    pub(super) fn buffer(&self, storage: Storage) -> Option<Buffer> {
        match storage {
            Storage::State(state) => {
                let name = self.states[state].name.as_str();
                let is_member = |pack: &super::Pack| pack.members.iter().any(|m| m.state.as_deref() == Some(name));
                Some(self.packs.iter().position(is_member).map_or(Buffer::State(state), Buffer::Pack))
            }
            Storage::Scalar(_) => None,
            Storage::Constant(constant) => Some(Buffer::Constant(constant)),
            Storage::Slot(slot) => Some(Buffer::Slot(slot)),
            Storage::Pack { pack, .. } => Some(Buffer::Pack(pack)),
        }
    }
}

/// The state of every buffer used so far in a pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    /// Whether the last use wrote it.
    used: HashMap<Buffer, bool>,
}

impl Tracker {
    /// Whether a dispatch with these uses waits for those before it.
    pub fn is_fenced(&self, uses: &Uses) -> bool {
        uses.read.iter().any(|buffer| self.used.get(buffer) == Some(&true))
            || uses.written.iter().any(|buffer| self.used.contains_key(buffer))
    }

    /// Whether the last use of a buffer wrote it.
    pub fn is_written(&self, buffer: Buffer) -> bool {
        self.used.get(&buffer) == Some(&true)
    }

    /// Follows a dispatch.
    pub fn apply(&mut self, uses: &Uses) {
        self.used.extend(uses.read.iter().map(|&buffer| (buffer, false)));
        self.used.extend(uses.written.iter().map(|&buffer| (buffer, true)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(read: &[usize], written: &[usize]) -> Uses {
        let slots = |indices: &[usize]| indices.iter().map(|&index| Buffer::Slot(index)).collect();
        Uses { read: slots(read), written: slots(written) }
    }

    /// The table of what wgpu 30 was seen to do: every transition but a read after a read.
    #[test]
    fn a_dispatch_waits_unless_it_only_reads_what_was_read() {
        let mut tracker = Tracker::default();
        assert!(!tracker.is_fenced(&uses(&[0], &[1])), "the first use of a buffer is settled before the pass");
        tracker.apply(&uses(&[0], &[1]));
        assert!(!tracker.is_fenced(&uses(&[0], &[2])));
        assert!(tracker.is_fenced(&uses(&[1], &[2])), "a read of what was written");
        assert!(tracker.is_fenced(&uses(&[], &[1])), "a write of what was written");
        assert!(tracker.is_fenced(&uses(&[], &[0])), "a write of what was read");
        tracker.apply(&uses(&[1], &[2]));
        assert!(!tracker.is_fenced(&uses(&[1, 0], &[3])), "the first reader has waited for all");
    }
}
