//! Execution of plans. A [`Program`] is one or more plans compiled for one device, sharing their states by name: a
//! training step, the same step for a shorter last batch, an evaluation. All resources are created when it is compiled.
//! [`Program::run`] runs many steps per call and returns when they are done.

pub(crate) mod cpu;
mod device;
mod entries;
mod environment;
mod evaluate;
pub(crate) mod exchange;
pub(crate) mod gpu;
pub mod gradcheck;
pub(crate) mod lent;
mod model;
pub mod profile;
mod snapshot;
mod state;
mod step_count;
mod step_table;
pub mod verify;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use device::{Device, DeviceInfo, devices};
use entries::Latest;
pub use evaluate::{ValueAndGrad, evaluate, value_and_grad};
use exchange::{Final, StateGroup, Watch};
pub(crate) use gpu::num_cores;
pub use gpu::{Kernels, Place, SideBySide};
use lent::Lendable;
pub use lent::Lent;
pub(crate) use profile::StageTime;
pub use snapshot::Snapshot;
pub use state::StateDict;
pub(crate) use state::StateLayout;
use step_count::StepCounts;
pub(crate) use step_table::CountedColumns;
pub use step_table::StepTable;

pub use crate::ops::cpu::threads::Threads;

use crate::graph::StateKind;
use crate::graph::plan::{Operand, Plan};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What a device does for a program. States, entries and steps are indices; names are the program's business.
pub(crate) trait Executor: Send {
    /// Runs an entry once for each row of scalars, reporting the number of steps done to `progress`. If that
    /// breaks, returns once the steps in flight are done. Returns the number of steps done.
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize>;
    /// Runs one op of an entry under the first row of scalars.
    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()>;
    /// What one op of an entry takes under the first row of scalars. A device to which work is submitted runs it more than
    /// once, and leaves out what submitting costs.
    fn time_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<web_time::Duration> {
        let started = web_time::Instant::now();
        self.run_op(entry, step, table)?;
        Ok(started.elapsed())
    }
    /// Runs an entry once under the first row of scalars and tells how long each stage of it took. `None` where the
    /// device does not run in stages.
    fn time_stages(&mut self, _entry: usize, _table: &StepTable) -> Option<Vec<StageTime>> {
        None
    }
    /// Records the commands of as many runs of an entry as the table has rows, without submitting them, and tells how long
    /// each took the host. `None` where nothing is recorded.
    fn time_encoding(&mut self, _entry: usize, _table: &StepTable) -> Option<Result<web_time::Duration>> {
        None
    }
    /// Runs an entry once for each row of scalars, at least one, and tells `watch` of each part of a group of states when
    /// the last step no longer changes it. A device that runs a step in one piece tells it all in the end.
    fn run_watched(
        &mut self,
        entry: usize,
        table: &StepTable,
        group: &StateGroup,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        self.run(entry, table, &mut |_| ControlFlow::Continue(()))?;
        let mut bytes = Vec::new();
        self.read_bytes(group.states(), &mut bytes)?;
        (0..group.num_parts()).try_for_each(|part| watch.is_final(part, Final::Copied(&bytes[group.bytes_of(part)])))
    }
    /// Overwrites a value; the tensor has been checked to fit.
    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()>;
    /// Reads a value.
    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor>;
    /// Fills an output with NaN and the guard after it with a canary pattern, for [`verify`].
    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()>;
    /// Whether the canary after an output was overwritten.
    fn has_overrun(&mut self, entry: usize, operand: &Operand) -> Result<bool>;
    /// Gives a state its initial value.
    fn initialize_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        self.write_state(state, tensor)
    }
    /// Overwrites a state; the tensor has been checked to fit.
    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()>;
    /// Reads a state.
    fn read_state(&mut self, state: usize) -> Result<Tensor>;
    /// The memory of these states, where it can be lent: on the host, and together in this order as [`exchange::places`]
    /// says. From then on the executor leaves it alone while it is lent.
    fn lendable(&mut self, _states: &[usize]) -> Option<Arc<Lendable>> {
        None
    }
    /// Appends the elements of these states, as the device computes with them, at [`exchange::places`].
    fn read_bytes(&mut self, states: &[usize], bytes: &mut Vec<u8>) -> Result<()>;
    /// Overwrites these states by what [`Executor::read_bytes`] gave.
    fn write_bytes(&mut self, states: &[usize], bytes: &[u8]) -> Result<()>;
    /// Copies the given states to a backup on the device.
    fn keep(&mut self, states: &[usize]) -> Result<()>;
    /// Restores the last backup on the device.
    fn restore(&mut self, states: &[usize]) -> Result<()>;
    /// Reads the backup of a state.
    fn read_kept(&mut self, state: usize) -> Result<Tensor>;
    /// Device objects (buffers, bind groups, pipelines) made so far; 0 on the CPU.
    fn num_objects(&self) -> u64;
    /// Sets the number of steps per submission; `None` chooses it by measured time. The CPU ignores it.
    fn set_steps_per_submission(&mut self, _steps: Option<usize>) {}
}

/// Called periodically with the number of completed steps; a break ends the run after the steps in flight.
pub type Progress<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Plans compiled for a device. See the [module](self).
pub struct Program {
    plans: Vec<Plan>,
    layout: StateLayout,
    executor: Box<dyn Executor>,
    kept: bool,
    counts: StepCounts,
    latest: Latest,
}

impl Program {
    /// Compiles plans that share states by name, and sets every state to its initial value under `seed`.
    ///
    /// Plans may have an input of one name in different shapes, and then also one name themselves: they are one entry,
    /// for batches of several sizes. [`Program::run`] takes the one whose inputs were written last.
    ///
    /// A GPU's kernels are compiled here for the first plan, and for the others while that one is run for the first time, or
    /// when they are run before.
    ///
    /// # Errors
    /// [`Error::NameClash`] where plans disagree on a state, or two have one name and the same inputs; [`Error::Limit`],
    /// [`Error::Unsupported`] where the device cannot take a plan; [`Error::Memory`] where the CPU has no memory for one;
    /// [`Error::Kernel`] where a kernel of the first does not compile, which [`Program::run`] has for the others;
    /// [`Error::Setting`] where a variable of the environment that the CPU heeds, such as `WGRAD_THREADS`, has a value that
    /// means nothing.
    pub fn compile(device: &Device, plans: Vec<Plan>, seed: u64) -> Result<Program> {
        entries::check_entries(&plans)?;
        let plans = match device.gpu_traits() {
            None => {
                environment::check()?;
                plans
            }
            Some(traits) => plans.iter().map(|plan| plan.for_gpu(traits)).collect::<Result<_>>()?,
        };
        let layout = StateLayout::new(&plans)?;
        let executor: Box<dyn Executor> = match device {
            Device::Cpu => Box::new(cpu::CpuExecutor::<f32>::new(&plans, &layout)?),
            Device::CpuF64 => Box::new(cpu::CpuExecutor::<f64>::new(&plans, &layout)?),
            Device::Gpu(gpu) => Box::new(gpu::GpuExecutor::new(gpu, &plans, &layout)?),
            Device::Beside(place) => match place.program(&plans, &layout)? {
                Some(executor) => Box::new(executor),
                None => Box::new(gpu::GpuExecutor::new(place.gpu(), &plans, &layout)?),
            },
        };
        Program::with_executor(plans, layout, executor, seed)
    }

    /// A program on an executor that was made for these plans, with every state at its initial value.
    pub(crate) fn with_executor(
        plans: Vec<Plan>,
        layout: StateLayout,
        executor: Box<dyn Executor>,
        seed: u64,
    ) -> Result<Program> {
        let latest = Latest::new(layout.specs.len(), plans.len());
        let mut program = Program { plans, layout, executor, kept: false, counts: StepCounts::default(), latest };
        program.initialize(seed)?;
        Ok(program)
    }

    /// Sets every state to its initial value under `seed`.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; [`Error::Memory`] where the host has none for a value.
    pub fn initialize(&mut self, seed: u64) -> Result<()> {
        for (index, spec) in self.layout.specs.iter().enumerate() {
            if let Some(tensor) = spec.init.tensor(&spec.name, &spec.ty, seed)? {
                self.executor.initialize_state(index, &tensor)?;
            }
        }
        self.counts.reset();
        Ok(())
    }

    /// Runs an entry once for each row of `table` and waits until all are done. An input that was never written is zeros.
    ///
    /// # Errors
    /// [`Error::UnknownName`] where there is no such entry or the table lacks one of its scalars; [`Error::Setting`]
    /// where the steps are not those of the graph's optimizer, or do not continue after the ones that were run, or a
    /// learning rate of theirs is negative or not finite; [`Error::State`] where a number of the table is a NaN;
    /// [`Error::Operand`] where no plan of the entry is for the shapes of inputs written last; [`Error::Kernel`] where a GPU's
    /// kernel does not compile; [`Error::DeviceLost`].
    pub fn run(&mut self, entry: &str, table: &StepTable) -> Result<()> {
        self.run_with_progress(entry, table, &mut |_| ControlFlow::Continue(())).map(|_| ())
    }

    /// Runs an entry once, without scalars. Errors as [`Program::run`].
    pub fn run_once(&mut self, entry: &str) -> Result<()> {
        self.run(entry, &StepTable::new(1))
    }

    /// [`Program::run`], periodically reporting to `progress` the number of steps done, and stopping if it breaks.
    /// Returns the number of steps done: all of them, unless it was stopped.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_with_progress(&mut self, entry: &str, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        let index = self.entry(entry)?;
        let (table, first) = self.prepare(&self.plans[index], table)?;
        let num_done = self.executor.run(index, &table, progress)?;
        self.count(index, first, num_done);
        if num_done > 0 {
            self.latest.note_run(index);
        }
        Ok(num_done)
    }

    /// An output of an entry's last run.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; [`Error::State`] where the entry was not run yet; [`Error::DeviceLost`].
    pub fn output(&mut self, entry: &str, name: &str) -> Result<Tensor> {
        let (index, operand) = self.output_of(entry, name)?;
        self.executor.read(index, &operand)
    }

    /// Overwrites a state: an input, a parameter.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; [`Error::State`] where shape or element type do not fit; [`Error::DeviceLost`].
    pub fn write(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let index = self.destination(name, tensor)?;
        if self.layout.specs[index].kind == StateKind::Optimizer {
            self.counts.forget();
        }
        self.latest.note_write(index);
        self.executor.write_state(index, tensor)
    }

    /// Reads a state; of an input in several shapes the one written last.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; [`Error::DeviceLost`].
    pub fn read(&mut self, name: &str) -> Result<Tensor> {
        let index = self.current(self.layout.index(name)?);
        self.executor.read_state(index)
    }

    /// Reads all states of some kinds.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn state_dict(&mut self, kinds: &[StateKind]) -> Result<StateDict> {
        let mut dict = StateDict::new();
        for index in self.layout.of_kinds(kinds) {
            dict.insert(self.layout.specs[index].name.clone(), self.executor.read_state(index)?);
        }
        Ok(dict)
    }

    /// Overwrites all states of some kinds.
    ///
    /// # Errors
    /// [`Error::State`] if one is missing from `dict`, does not fit, or is unknown here; nothing is written then.
    pub fn load_state_dict(&mut self, dict: &StateDict, kinds: &[StateKind]) -> Result<()> {
        let indices = self.layout.of_kinds(kinds);
        self.check_fits(dict, &indices)?;
        self.write_states(dict, &indices)
    }

    /// Checks that `dict` has a tensor for each of these states and none besides.
    fn check_fits(&self, dict: &StateDict, indices: &[usize]) -> Result<()> {
        for &index in indices {
            let spec = &self.layout.specs[index];
            let got = dict.get(&spec.name).map_or("nothing of that name".to_owned(), |tensor| tensor.ty().to_string());
            if got != spec.ty.to_string() {
                return Err(Error::State { name: spec.name.clone(), expected: spec.ty.to_string(), got });
            }
        }
        let known = |name: &String| indices.iter().any(|&index| self.layout.specs[index].name == *name);
        if let Some((name, tensor)) = dict.iter().find(|(name, _)| !known(name)) {
            let expected = "one of this model's tensors".to_owned();
            return Err(Error::State { name: name.clone(), expected, got: tensor.ty().to_string() });
        }
        Ok(())
    }

    /// Overwrites states that [`Program::check_fits`] found to fit.
    fn write_states(&mut self, dict: &StateDict, indices: &[usize]) -> Result<()> {
        if indices.iter().any(|&index| self.layout.specs[index].kind == StateKind::Optimizer) {
            self.counts.forget();
        }
        indices.iter().try_for_each(|&index| self.executor.write_state(index, &dict[&self.layout.specs[index].name]))
    }

    /// Copies the model (parameters and running statistics) aside, on the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn keep_model(&mut self) -> Result<()> {
        self.kept = true;
        self.executor.keep(&self.layout.of_kinds(&MODEL_KINDS))
    }

    /// Brings back the model kept last; does nothing where none was kept.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn restore_model(&mut self) -> Result<()> {
        if !self.kept {
            return Ok(());
        }
        self.executor.restore(&self.layout.of_kinds(&MODEL_KINDS))
    }

    /// Cuts runs into submissions of `steps` steps (at least 1) instead of sizing them by measured time, as `None`
    /// does again. Results are the same whatever the size, which is what this is there to show; also for profiles that
    /// want one step a submission. Runs of more steps than the device's table of scalars holds are cut there as well.
    /// Does nothing on the CPU.
    pub fn set_steps_per_submission(&mut self, steps: Option<usize>) {
        self.executor.set_steps_per_submission(steps);
    }

    /// The plans it runs: those it was compiled from, as the device has them ([`Plan::for_gpu`]).
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Device objects (buffers, bind groups, pipelines) made so far: constant once training runs.
    pub fn num_objects(&self) -> u64 {
        self.executor.num_objects()
    }
}

/// The kinds of state that make up a model file.
pub const MODEL_KINDS: [StateKind; 2] = [StateKind::Parameter, StateKind::Buffer];

pub(crate) fn unknown<'a>(kind: &'static str, name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    Error::UnknownName { kind, name: name.to_owned(), known: known.cloned().collect() }
}

/// The tensors of a program by name.
pub(crate) type Named<T> = BTreeMap<String, T>;
