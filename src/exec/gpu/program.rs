//! A program that has the GPU to itself.

use std::sync::Arc;

use web_time::Duration;

use super::device::GpuDevice;
use super::machine::{Machine, Models, Rows};
use crate::Result;
use crate::exec::{Executor, Progress, StateLayout, StepTable};
use crate::graph::plan::{Operand, Plan};
use crate::tensor::Tensor;

/// A program that has the GPU to itself.
pub(crate) struct GpuExecutor {
    machine: Machine,
}

impl GpuExecutor {
    pub fn new(gpu: &Arc<GpuDevice>, plans: &[Plan], layout: &StateLayout) -> Result<Self> {
        let alone = Models { count: 1, is_shared: |_| false };
        let machine = Machine::new(gpu, plans, layout, &alone)?;
        machine.write_params(plans, 0)?;
        Ok(GpuExecutor { machine })
    }
}

fn rows(table: &StepTable) -> Rows<'_> {
    Rows { model: 0, table, first: 0 }
}

impl Executor for GpuExecutor {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        self.machine.run(entry, &[rows(table)], table.num_steps(), progress)
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        self.machine.run_op(entry, step, &rows(table))
    }

    fn time_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<Duration> {
        self.machine.time_op(entry, step, &rows(table))
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        self.machine.write(entry, operand, 0, tensor);
        Ok(())
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        self.machine.read(entry, operand, 0)
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        self.machine.poison(entry, operand, 0);
        Ok(())
    }

    fn has_overrun(&mut self, entry: usize, operand: &Operand) -> Result<bool> {
        self.machine.has_overrun(entry, operand, 0)
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        self.machine.write_state(state, 0, tensor);
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        self.machine.read_state(state, 0)
    }

    fn read_bytes(&mut self, states: &[usize], bytes: &mut Vec<u8>) -> Result<()> {
        self.machine.memory.read_bytes(&self.machine.gpu, states, 0, bytes)
    }

    fn write_bytes(&mut self, states: &[usize], bytes: &[u8]) -> Result<()> {
        self.machine.memory.write_bytes(&self.machine.gpu, states, 0, bytes);
        Ok(())
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        self.machine.memory.keep(&self.machine.gpu, states, 0)
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        self.machine.memory.restore(&self.machine.gpu, states, 0)
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        self.machine.read_kept(state, 0)
    }

    fn time_encoding(&mut self, entry: usize, table: &StepTable) -> Option<Result<Duration>> {
        Some(self.machine.time_encoding(entry, &rows(table)))
    }

    fn num_objects(&self) -> u64 {
        self.machine.gpu.num_objects()
    }

    fn set_steps_per_submission(&mut self, steps: Option<usize>) {
        self.machine.set_steps_per_submission(steps);
    }
}
