//! Saving and restoring everything that running a program changes: the device's part of a checkpoint.

use super::{MODEL_KINDS, Program, StateDict};
use crate::Result;
use crate::graph::StateKind;

/// Kinds of state that training changes.
const CHANGING_KINDS: [StateKind; 3] = [StateKind::Parameter, StateKind::Buffer, StateKind::Optimizer];

/// The states of a program at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Parameters, running statistics, what the optimizer keeps, and those inputs that were asked for.
    pub current: StateDict,
    /// The model as [`Program::keep_model`] kept it last; as it is, if it never did.
    pub kept: StateDict,
}

impl Program {
    /// Takes a snapshot. `inputs` are states of kind [`StateKind::Input`] that a run writes to and that belong to it,
    /// such as a table of metrics.
    ///
    /// # Errors
    /// [`Error::UnknownName`](crate::Error::UnknownName); [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub fn snapshot(&mut self, inputs: &[String]) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for index in self.changing(inputs)? {
            snapshot.current.insert(self.layout.specs[index].name.clone(), self.executor.read_state(index)?);
        }
        for index in self.layout.of_kinds(&MODEL_KINDS) {
            snapshot.kept.insert(self.layout.specs[index].name.clone(), self.executor.read_kept(index)?);
        }
        Ok(snapshot)
    }

    /// Puts a snapshot back, what was kept included.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) if a tensor is missing, does not fit or is unknown here; nothing is
    /// written then. [`Error::UnknownName`](crate::Error::UnknownName) for `inputs` that do not exist.
    pub fn restore_snapshot(&mut self, snapshot: &Snapshot, inputs: &[String]) -> Result<()> {
        let (current, kept) = (self.changing(inputs)?, self.layout.of_kinds(&MODEL_KINDS));
        self.check_fits(&snapshot.current, &current)?;
        self.check_fits(&snapshot.kept, &kept)?;
        self.write_states(&snapshot.kept, &kept)?;
        self.keep_model()?;
        self.write_states(&snapshot.current, &current)
    }

    fn changing(&self, inputs: &[String]) -> Result<Vec<usize>> {
        let mut indices = self.layout.of_kinds(&CHANGING_KINDS);
        for name in inputs {
            indices.push(self.layout.index(name)?);
        }
        Ok(indices)
    }
}
