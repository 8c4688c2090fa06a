//! A program in a place of a group.

use std::sync::Arc;

use web_time::Duration;

use super::run::Ask;
use super::{Place, Seat};
use crate::Result;
use crate::exec::gpu::machine::Rows;
use crate::exec::{Executor, Progress, StepTable};
use crate::graph::plan::Operand;
use crate::tensor::Tensor;

/// A program in a place of a group.
pub(crate) struct PlaceExecutor {
    place: Arc<Place>,
}

impl PlaceExecutor {
    pub(super) fn new(place: Arc<Place>) -> Self {
        PlaceExecutor { place }
    }
}

impl Drop for PlaceExecutor {
    fn drop(&mut self) {
        self.place.seat(Seat::Aside);
    }
}

impl Executor for PlaceExecutor {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        let Place { group, index } = &*self.place;
        let table = Arc::new(table.clone());
        let (mut done, mut stops) = (0, false);
        while done < table.num_steps() && !stops {
            let ask = Ask { entry, table: Arc::clone(&table), first: done };
            let mut follow = |steps| {
                let flow = progress(done + steps);
                stops |= flow.is_break();
                flow
            };
            done += group.advance(*index, ask, &mut follow)?;
        }
        Ok(done)
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.run_op(entry, step, &Rows { model: *index, table, first: 0 }))
    }

    fn time_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<Duration> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.time_op(entry, step, &Rows { model: *index, table, first: 0 }))
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| {
            machine.write(entry, operand, *index, tensor);
            Ok(())
        })
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.read(entry, operand, *index))
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| {
            machine.poison(entry, operand, *index);
            Ok(())
        })
    }

    fn has_overrun(&mut self, entry: usize, operand: &Operand) -> Result<bool> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.has_overrun(entry, operand, *index))
    }

    fn initialize_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| {
            // What all share others may have filled.
            if !machine.memory.is_shared(state) {
                machine.write_state(state, *index, tensor);
            }
            Ok(())
        })
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        let Place { group, index } = &*self.place;
        let mut locked = group.lock_machine();
        let super::State { machine, written, .. } = &mut *locked;
        let machine = machine.as_mut().ok_or_else(|| group.broken())?;
        if !machine.memory.is_shared(state) {
            machine.write_state(state, *index, tensor);
        } else if !std::mem::replace(&mut written[state], true) {
            machine.write_state(state, 0, tensor);
        }
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.read_state(state, *index))
    }

    fn read_bytes(&mut self, states: &[usize], bytes: &mut Vec<u8>) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.memory.read_bytes(&machine.gpu, states, *index, bytes))
    }

    fn write_bytes(&mut self, states: &[usize], bytes: &[u8]) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| {
            machine.memory.write_bytes(&machine.gpu, states, *index, bytes);
            Ok(())
        })
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.memory.keep(&machine.gpu, states, *index))
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.memory.restore(&machine.gpu, states, *index))
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        let Place { group, index } = &*self.place;
        group.with_machine(|machine| machine.read_kept(state, *index))
    }

    fn num_objects(&self) -> u64 {
        self.place.gpu().num_objects()
    }

    fn set_steps_per_submission(&mut self, steps: Option<usize>) {
        let set = |machine: &mut super::super::machine::Machine| {
            machine.set_steps_per_submission(steps);
            Ok(())
        };
        // A group that is broken says so at the next run.
        let _ = self.place.group.with_machine(set);
    }
}
