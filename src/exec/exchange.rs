//! Bytes of several states at once: what ranks exchange. Unlike tensors they are exactly what the device computes with,
//! and they are moved in one piece where states lie in one.

use super::Program;
use crate::graph::StateKind;
use crate::{Error, Result};

/// States of a program that are read and written together.
#[derive(Clone, Debug)]
pub(crate) struct StateGroup {
    states: Vec<usize>,
    num_bytes: usize,
}

impl StateGroup {
    /// Bytes of all its states.
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }
}

impl Program {
    /// The states of these names, in their order.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; [`Error::DeviceLost`].
    pub(crate) fn group(&mut self, names: impl IntoIterator<Item = String>) -> Result<StateGroup> {
        let states = names.into_iter().map(|name| self.layout.index(&name)).collect::<Result<Vec<usize>>>()?;
        let mut bytes = Vec::new();
        self.executor.read_bytes(&states, &mut bytes)?;
        Ok(StateGroup { states, num_bytes: bytes.len() })
    }

    /// Appends the bytes of a group's states.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(crate) fn read_group(&mut self, group: &StateGroup, bytes: &mut Vec<u8>) -> Result<()> {
        self.executor.read_bytes(&group.states, bytes)
    }

    /// Overwrites a group's states by bytes that [`Program::read_group`] gave, here or on another rank.
    ///
    /// # Errors
    /// [`Error::State`] where there are fewer or more; [`Error::DeviceLost`].
    pub(crate) fn write_group(&mut self, group: &StateGroup, bytes: &[u8]) -> Result<()> {
        if bytes.len() != group.num_bytes {
            let (expected, got) = (format!("{} bytes", group.num_bytes), format!("{} bytes", bytes.len()));
            return Err(Error::State { name: "states of another rank".to_owned(), expected, got });
        }
        if group.states.iter().any(|&index| self.layout.specs[index].kind == StateKind::Optimizer) {
            self.counts.forget();
        }
        self.executor.write_bytes(&group.states, bytes)
    }
}
