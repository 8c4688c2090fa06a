//! Bytes of several states at once: what ranks exchange. Unlike tensors they are exactly what the device computes with,
//! and they are moved in one piece where states lie in one, or lent where they lie on the host. A run can be watched, for
//! states that are to go on their way before it ends.

use std::ops::Range;
use std::sync::Arc;

use super::lent::{Access, Lendable, Lent};
use super::{Program, StepTable};
use crate::graph::StateKind;
use crate::{Error, Result};

/// States of a program that are read and written together, in consecutive parts.
#[derive(Clone)]
pub(crate) struct StateGroup {
    states: Vec<usize>,
    parts: Vec<Part>,
}

#[derive(Clone)]
struct Part {
    states: Range<usize>,
    bytes: Range<usize>,
    memory: Option<Arc<Lendable>>,
}

/// Where a state begins among others is a multiple of this: so that a CPU can compute with states where they are exchanged,
/// its vectors then never straddling two cache lines without need.
const ALIGN: usize = 64;

/// Where each of several states lies among the bytes of all, given its length. It is the same on every device, so that
/// ranks of several kinds can exchange them.
pub(super) fn places(lens: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0_usize;
    lens.map(move |len| {
        let start = end.next_multiple_of(ALIGN);
        end = start + len;
        start..end
    })
}

/// Appends the next of several states, the first of which begins at byte `first`, at its place.
pub(super) fn append(bytes: &mut Vec<u8>, first: usize, state: &[u8]) {
    bytes.resize(first + (bytes.len() - first).next_multiple_of(ALIGN), 0);
    bytes.extend_from_slice(state);
}

/// A part of a group whose states no longer change.
pub(crate) enum Final<'a> {
    /// Its memory. The program is not run again with these states until this is dropped.
    Lent(Lent),
    /// Its bytes.
    Copied(&'a [u8]),
}

/// What is told how far the last step of a run has come.
pub(crate) trait Watch {
    /// The run no longer changes the states of a part.
    ///
    /// # Errors
    /// What the watch met; it ends the run.
    fn is_final(&mut self, part: usize, states: Final<'_>) -> Result<()>;

    /// A stage of the step is done.
    ///
    /// # Errors
    /// As [`Watch::is_final`].
    fn stage_done(&mut self) -> Result<()>;
}

impl StateGroup {
    /// Bytes of all its states.
    pub fn num_bytes(&self) -> usize {
        self.parts.last().map_or(0, |part| part.bytes.end)
    }

    pub fn num_parts(&self) -> usize {
        self.parts.len()
    }

    /// Where the bytes of a part are among all.
    pub fn bytes_of(&self, part: usize) -> Range<usize> {
        self.parts[part].bytes.clone()
    }

    /// The memory of a part, to be overwritten, where it can be lent. The program may not be run with these states, and they
    /// may not be read, until it is dropped.
    ///
    /// # Panics
    /// If it is lent already.
    pub fn lend(&self, part: usize) -> Option<Lent> {
        self.lend_to(part, Access::Write)
    }

    pub(super) fn lend_to(&self, part: usize, access: Access) -> Option<Lent> {
        self.parts[part].memory.as_ref().map(|memory| memory.lend(access))
    }

    /// The indices of all its states in the program.
    pub(super) fn states(&self) -> &[usize] {
        &self.states
    }

    /// Those of a part.
    pub(super) fn states_of(&self, part: usize) -> &[usize] {
        &self.states[self.parts[part].states.clone()]
    }
}

impl Program {
    /// The states of these names, in their order.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; [`Error::DeviceLost`].
    pub(crate) fn group(&mut self, names: impl IntoIterator<Item = String>) -> Result<StateGroup> {
        self.group_in_parts([names.into_iter().collect()])
    }

    /// The same in parts.
    ///
    /// # Errors
    /// As [`Program::group`].
    pub(crate) fn group_in_parts(&mut self, parts: impl IntoIterator<Item = Vec<String>>) -> Result<StateGroup> {
        let mut group = StateGroup { states: Vec::new(), parts: Vec::new() };
        for names in parts {
            let first_state = group.states.len();
            for name in names {
                group.states.push(self.layout.index(&name)?);
            }
            let (states, mut bytes) = (&group.states[first_state..], Vec::new());
            self.executor.read_bytes(states, &mut bytes)?;
            let memory = self.executor.lendable(states);
            let first_byte = group.num_bytes().next_multiple_of(ALIGN);
            let bytes = first_byte..first_byte + bytes.len();
            group.parts.push(Part { states: first_state..group.states.len(), bytes, memory });
        }
        Ok(group)
    }

    /// Appends the bytes of a group's states.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(crate) fn read_group(&mut self, group: &StateGroup, bytes: &mut Vec<u8>) -> Result<()> {
        self.executor.read_bytes(&group.states, bytes)
    }

    /// Overwrites a part of a group's states by bytes that [`Program::read_group`] gave, here or on another rank.
    ///
    /// # Errors
    /// [`Error::State`] where there are fewer or more; [`Error::DeviceLost`].
    pub(crate) fn write_part(&mut self, group: &StateGroup, part: usize, bytes: &[u8]) -> Result<()> {
        let (states, num_bytes) = (group.states_of(part), group.bytes_of(part).len());
        if bytes.len() != num_bytes {
            let (expected, got) = (format!("{num_bytes} bytes"), format!("{} bytes", bytes.len()));
            return Err(Error::State { name: "states of another rank".to_owned(), expected, got });
        }
        if states.iter().any(|&index| self.layout.specs[index].kind == StateKind::Optimizer) {
            self.counts.forget();
        }
        self.executor.write_bytes(states, bytes)
    }

    /// The same of a group that is one part.
    ///
    /// # Errors
    /// As [`Program::write_part`].
    pub(crate) fn write_group(&mut self, group: &StateGroup, bytes: &[u8]) -> Result<()> {
        self.write_part(group, 0, bytes)
    }

    /// [`Program::run`] of at least one step, telling `watch` of each part of a group when the last step no longer changes
    /// it, in the order in which that happens.
    ///
    /// # Errors
    /// As [`Program::run`]; those of `watch`.
    pub(crate) fn run_watched(
        &mut self,
        entry: &str,
        table: &StepTable,
        group: &StateGroup,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let index = self.entry(entry)?;
        let (table, first) = self.prepare(&self.plans[index], table)?;
        self.executor.run_watched(index, &table, group, watch)?;
        self.count(index, first, table.num_steps());
        self.latest.note_run(index);
        Ok(())
    }
}
