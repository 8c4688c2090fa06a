//! The programs of one or several models on a GPU: everything that a step needs is bound once; a run records many steps
//! into few submissions, sized by the time they take, with two in flight. All models that take part in a run do so in the
//! same dispatches.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::JoinHandle;

use web_time::{Duration, Instant};

use super::bind::{Binder, Launch, describe_step, scratch_sizes};
use super::device::GpuDevice;
use super::memory::{CELL_BYTES, Memory, TABLE_ROWS};
use super::pipelines::{Needed, Wanted, num_cores};
use super::region::Region;
use super::wait::Submission;
use crate::Result;
use crate::exec::{Progress, StateLayout, StepTable};
use crate::graph::StateSpec;
use crate::graph::plan::{Operand, Plan};
use crate::ops::kernel::Dispatches;
use crate::tensor::{Tensor, TensorType};

/// How long a submission should take: long enough to hide the cost of submitting, far below the two seconds after
/// which some systems reset a GPU.
const SUBMISSION_TARGET: Duration = Duration::from_millis(50);

/// The most steps in one submission; recorded commands take memory too.
const MAX_STEPS_PER_SUBMISSION: usize = TABLE_ROWS;

/// Submissions in flight before the host waits: one runs while the next is recorded. More only adds latency.
const MAX_IN_FLIGHT: usize = 2;

/// The first submission of a run has so small a part of a whole one, and each after it twice as many steps as the one
/// before: the device is not to wait until a whole one is recorded.
const FIRST_PART: usize = 64;

/// How often an op is repeated in one submission, to be timed without what submitting costs; and how long an op takes, if
/// it is not repeated, since that costs little beside it.
const OP_REPEATS: u32 = 16;
const LONG_OP: Duration = Duration::from_millis(5);

/// How many models lie side by side, and what they share.
#[derive(Clone, Copy)]
pub(super) struct Models {
    pub count: usize,
    /// Whether all models have this state together: the images.
    pub is_shared: fn(&StateSpec) -> bool,
}

/// The steps that a model takes in a run.
pub(super) struct Rows<'a> {
    pub model: usize,
    pub table: &'a StepTable,
    /// Its first row of the table.
    pub first: usize,
}

impl Rows<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.num_steps() - self.first
    }
}

impl Deref for Rows<'_> {
    type Target = StepTable;

    fn deref(&self) -> &StepTable {
        self.table
    }
}

struct Entry {
    plan: Plan,
    /// The dispatches of each step of the plan.
    steps: Vec<Vec<Launch>>,
}

impl Entry {
    fn launches(&self) -> impl Iterator<Item = &Launch> {
        self.steps.iter().flatten()
    }

    fn wanted(&self) -> impl Iterator<Item = Wanted> {
        self.launches().map(|launch| launch.wanted.clone())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A driver that still compiles as the process ends may crash.
        if let Some(compiling) = self.compiling.take() {
            drop(compiling.join());
        }
    }
}

/// The programs of one or several models, and their memory.
pub(super) struct Machine {
    pub gpu: Arc<GpuDevice>,
    pub memory: Memory,
    entries: Vec<Entry>,
    num_models: usize,
    /// Compiles the kernels of all entries but the first, while that one is prepared and run.
    compiling: Option<JoinHandle<Result<()>>>,
    /// The models of the run, where there may be several.
    members: Option<Region>,
    steps_per_submission: usize,
    /// Whether [`Machine::set_steps_per_submission`] settled it.
    is_fixed: bool,
}

impl Machine {
    /// A machine for models whose plans differ from these in `Params` alone. The kernels of the first entry are compiled
    /// then; those of the others while that one runs, if there is a core for it, or where they are wanted earlier.
    pub fn new(gpu: &Arc<GpuDevice>, plans: &[Plan], layout: &StateLayout, models: &Models) -> Result<Machine> {
        let mut memory = Memory::new(gpu, plans, layout, models)?;
        let described = describe(gpu, plans, models.count)?;
        memory.make_scratch(gpu, &scratch_sizes(described.iter().flatten()))?;
        let members = match models.count {
            1 => None,
            count => {
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                let buffer = gpu.buffer("members", count * CELL_BYTES, usage)?;
                Some(Region { size: buffer.size(), buffer, offset: 0, stride: 0 })
            }
        };
        let binder = Binder { gpu, memory: &memory, num_models: models.count, members: members.as_ref() };
        let mut entries = Vec::new();
        for (index, (plan, dispatches)) in plans.iter().zip(&described).enumerate() {
            entries.push(Entry { plan: plan.clone(), steps: binder.launches(index, plan, dispatches)? });
        }
        let later: Vec<Wanted> = entries.iter().skip(1).flat_map(Entry::wanted).collect();
        let mut machine = Machine {
            gpu: Arc::clone(gpu),
            memory,
            entries,
            num_models: models.count,
            compiling: None,
            members,
            steps_per_submission: 1,
            is_fixed: false,
        };
        machine.make_ready(0)?;
        if num_cores() == 1 {
            machine.make_all_ready()?;
        } else if !later.is_empty() {
            let (gpu, num_models) = (Arc::clone(gpu), models.count);
            machine.compiling = Some(std::thread::spawn(move || gpu.make_pipelines(&later, num_models, Needed::Later)));
        }
        Ok(machine)
    }

    /// Gives an entry its pipelines, which may be there by now.
    fn make_ready(&mut self, index: usize) -> Result<()> {
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        if entry.launches().all(|launch| launch.pipeline.is_some()) {
            return Ok(());
        }
        let needed = if index == 0 { Needed::Now } else { Needed::Later };
        self.gpu.make_pipelines(&entry.wanted().collect::<Vec<_>>(), self.num_models, needed)?;
        for launch in entry.steps.iter_mut().flatten() {
            launch.pipeline = Some(self.gpu.pipeline(&launch.wanted, self.num_models)?);
        }
        Ok(())
    }

    /// Gives all entries their pipelines: after the first step that it takes nothing is made.
    fn make_all_ready(&mut self) -> Result<()> {
        if let Some(compiling) = self.compiling.take() {
            let lost = |_| Err(self.gpu.lost("compiling kernels", "a thread panicked"));
            compiling.join().unwrap_or_else(lost)?;
        }
        (0..self.entries.len()).try_for_each(|entry| self.make_ready(entry))
    }

    /// Gives a model its plans' `Params`.
    pub fn write_params(&self, plans: &[Plan], model: usize) -> Result<()> {
        let described = describe(&self.gpu, plans, 1)?;
        for (entry, dispatches) in self.entries.iter().zip(&described) {
            let dispatches = dispatches.iter().flat_map(|dispatches| &dispatches.list);
            for (launch, dispatch) in entry.steps.iter().flatten().zip(dispatches) {
                self.gpu.write_bytes(&launch.params.of(model), &dispatch.params);
            }
        }
        Ok(())
    }

    /// The plan of an entry; models differ in what it says of their `Params`.
    pub fn plan(&self, entry: usize) -> &Plan {
        &self.entries[entry].plan
    }

    /// Runs an entry once for each of the first `count` rows of every model, reporting the number of steps done. If that
    /// breaks, returns once the steps in flight are done. Returns the number of steps done. Guards are those of the first
    /// model.
    pub fn run(&mut self, entry: usize, rows: &[Rows<'_>], count: usize, progress: Progress<'_>) -> Result<usize> {
        self.make_ready(entry)?;
        self.set_members(rows);
        let mut in_flight: VecDeque<(Submission, usize)> = VecDeque::new();
        let mut last_done = Instant::now();
        let (mut submitted, mut done) = (0, 0);
        let mut wanted = count;
        let mut most = if self.is_fixed { usize::MAX } else { (self.steps_per_submission / FIRST_PART).max(1) };
        while done < wanted {
            if submitted < wanted && in_flight.len() < MAX_IN_FLIGHT {
                let row = submitted % TABLE_ROWS;
                if row == 0 {
                    self.memory.write_table(&self.gpu, entry, rows, submitted);
                }
                let count = self.steps_per_submission.min(most).min(wanted - submitted).min(TABLE_ROWS - row);
                most = most.saturating_mul(2);
                let encoder = self.encode(entry, rows, submitted, count);
                in_flight.push_back((self.gpu.submit(encoder), count));
                submitted += count;
                if entry == 0 && self.compiling.is_some() {
                    self.make_all_ready()?;
                }
                continue;
            }
            let (submission, count) = in_flight.pop_front().expect("steps that are not done are in flight");
            self.gpu.wait(submission, &self.entries[entry].plan.name)?;
            if count == self.steps_per_submission {
                self.adapt(count, last_done.elapsed());
            }
            last_done = Instant::now();
            done += count;
            if progress(done).is_break() {
                // Submitted work cannot be cancelled.
                wanted = submitted;
            }
        }
        Ok(done)
    }

    /// Runs one op of an entry under a model's first row.
    pub fn run_op(&mut self, entry: usize, step: usize, rows: &Rows<'_>) -> Result<()> {
        self.repeat_op(entry, step, rows, 1).map(|_| ())
    }

    /// What one op of an entry takes under a model's first row, between others: without what submitting it costs.
    pub fn time_op(&mut self, entry: usize, step: usize, rows: &Rows<'_>) -> Result<Duration> {
        let once = self.repeat_op(entry, step, rows, 1)?;
        if once > LONG_OP {
            return Ok(once);
        }
        Ok(self.repeat_op(entry, step, rows, 1 + OP_REPEATS)?.saturating_sub(once) / OP_REPEATS)
    }

    /// Runs one op of an entry several times under a model's first row, and tells how long that took from the submission
    /// on.
    fn repeat_op(&mut self, entry: usize, step: usize, rows: &Rows<'_>, count: u32) -> Result<Duration> {
        self.make_ready(entry)?;
        let rows = std::slice::from_ref(rows);
        self.set_members(rows);
        self.memory.write_table(&self.gpu, entry, rows, 0);
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let row = Row { entry, number: 0, num_models: 1 };
        for _ in 0..count {
            self.record(&mut pass, &row, &self.entries[entry].steps[step]);
        }
        drop(pass);
        let started = Instant::now();
        let submission = self.gpu.submit(encoder);
        self.gpu.wait(submission, &self.entries[entry].plan.steps[step].label())?;
        Ok(started.elapsed())
    }

    /// Records the commands of the first rows, at most as many as the table holds, and tells how long a step took.
    pub fn time_encoding(&mut self, entry: usize, rows: &Rows<'_>) -> Result<Duration> {
        self.make_ready(entry)?;
        let count = rows.len().clamp(1, TABLE_ROWS);
        let started = Instant::now();
        let commands = self.encode(entry, std::slice::from_ref(rows), 0, count).finish();
        let took = started.elapsed();
        drop(commands);
        // At most TABLE_ROWS.
        Ok(took / count as u32)
    }

    /// Sets the number of steps per submission; `None` chooses it by measured time.
    pub fn set_steps_per_submission(&mut self, steps: Option<usize>) {
        self.is_fixed = steps.is_some();
        self.steps_per_submission = steps.unwrap_or(1).max(1);
    }

    /// Says which models take part in what is submitted next.
    fn set_members(&self, rows: &[Rows<'_>]) {
        if let Some(members) = &self.members {
            let mut cells = vec![[0u32; CELL_BYTES / 4]; rows.len()];
            // A few models.
            cells.iter_mut().zip(rows).for_each(|(cell, rows)| cell[0] = rows.model as u32);
            self.gpu.write_bytes(members, bytemuck::cast_slice(&cells));
        }
    }

    /// Records dispatches for a row of the table of scalars.
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, row: &Row, launches: &[Launch]) {
        let offset = (row.number % TABLE_ROWS) as u64 * self.memory.row_bytes(row.entry);
        // The table is far below 4 GiB: TABLE_ROWS rows of a few hundred bytes.
        let offsets = [offset as u32; 8];
        for launch in launches {
            let [x, y, z] = launch.workgroups;
            pass.set_pipeline(launch.pipeline.as_ref().expect("an entry is made ready before it runs"));
            pass.set_bind_group(0, &launch.bind_group, &offsets[..launch.num_dynamic]);
            // Of several models, z is 1; and they are few.
            pass.dispatch_workgroups(x, y, z * row.num_models as u32);
        }
    }

    /// Records `count` steps from `first` on, without the ops whose guard is 0. One pass for each step: within it wgpu
    /// orders dispatches by the buffers they share, and the barriers between steps fall away.
    fn encode(&self, entry: usize, rows: &[Rows<'_>], first: usize, count: usize) -> wgpu::CommandEncoder {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let Entry { plan, steps } = &self.entries[entry];
        let leader = &rows[0];
        for number in first..first + count {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let row = Row { entry, number, num_models: rows.len() };
            for (step, launches) in plan.steps.iter().zip(steps) {
                if leader.is_on(step.guard, leader.first + number) {
                    self.record(&mut pass, &row, launches);
                }
            }
        }
        encoder
    }

    /// Sets the number of steps a submission so that it takes about [`SUBMISSION_TARGET`].
    fn adapt(&mut self, steps: usize, took: Duration) {
        if self.is_fixed {
            return;
        }
        let per_step = took.as_secs_f64() / steps as f64;
        let wanted = SUBMISSION_TARGET.as_secs_f64() / per_step.max(1e-7);
        // At most doubled at a time: the first steps also compile shaders, and say little.
        let most = (2 * self.steps_per_submission).min(MAX_STEPS_PER_SUBMISSION);
        // `wanted` is positive and finite, so the cast only rounds down.
        self.steps_per_submission = (wanted as usize).clamp(1, most);
    }
}

/// Reading and writing a model's values.
impl Machine {
    pub fn write(&self, entry: usize, operand: &Operand, model: usize, tensor: &Tensor) {
        self.gpu.write(&self.memory.region(entry, operand.storage, &operand.ty).of(model), tensor);
    }

    pub fn read(&self, entry: usize, operand: &Operand, model: usize) -> Result<Tensor> {
        let region = self.memory.region(entry, operand.storage, &operand.ty).of(model);
        self.memory.read(&self.gpu, &region, &operand.ty)
    }

    /// Fills an output and the guard after it with ones: NaN as a float.
    pub fn poison(&self, entry: usize, operand: &Operand, model: usize) {
        let region = self.memory.guarded(entry, operand).of(model);
        self.gpu.write_bytes(&region, &vec![0xFF; region.size as usize]);
    }

    /// Whether the guard after an output was overwritten.
    pub fn has_overrun(&self, entry: usize, operand: &Operand, model: usize) -> Result<bool> {
        let region = self.memory.guarded(entry, operand).of(model);
        let ty = TensorType::u32([region.size as usize / 4]);
        let words = self.memory.read(&self.gpu, &region, &ty)?.to_f64_vec();
        Ok(words[operand.ty.size_bytes() / 4..].iter().any(|&word| word != f64::from(u32::MAX)))
    }

    pub fn write_state(&self, state: usize, model: usize, tensor: &Tensor) {
        self.gpu.write(&self.memory.state(state, model), tensor);
    }

    pub fn read_state(&self, state: usize, model: usize) -> Result<Tensor> {
        self.memory.read(&self.gpu, &self.memory.state(state, model), self.memory.state_type(state))
    }

    pub fn read_kept(&self, state: usize, model: usize) -> Result<Tensor> {
        self.memory.read(&self.gpu, &self.memory.kept(state, model), self.memory.state_type(state))
    }
}

/// A row of an entry's table, and how many models take the step.
struct Row {
    entry: usize,
    number: usize,
    num_models: usize,
}

/// The dispatches of each step of each plan.
fn describe(gpu: &GpuDevice, plans: &[Plan], num_models: usize) -> Result<Vec<Vec<Dispatches>>> {
    let of_plan = |plan: &Plan| plan.steps.iter().map(|step| describe_step(gpu, step, num_models)).collect();
    plans.iter().map(of_plan).collect()
}
