//! A program on the GPU: everything a step needs is bound once; a run records many steps into few submissions, sized
//! by the time they take, with two in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use web_time::{Duration, Instant};

use super::device::{Access, BindingLayout, GpuDevice};
use super::memory::{ALIGN_BYTES, Memory, Region, TABLE_ROWS};
use super::wait::{self, Submission};
use crate::exec::{Executor, Progress, StateLayout, StepTable};
use crate::graph::plan::{Operand, Plan, Step};
use crate::ops::kernel::{Binding, Dispatch, Dispatches, MAX_WORKGROUPS};
use crate::tensor::{Tensor, TensorType};
use crate::{Error, Result};

/// How long a submission should take: long enough to hide the cost of submitting, far below the two seconds after
/// which some systems reset a GPU.
const SUBMISSION_TARGET: Duration = Duration::from_millis(50);

/// The most steps in one submission; recorded commands take memory too.
const MAX_STEPS_PER_SUBMISSION: usize = TABLE_ROWS;

/// Submissions in flight before the host waits: one runs while the next is recorded. More only adds latency.
const MAX_IN_FLIGHT: usize = 2;

/// One dispatch, ready to be recorded.
struct Launch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    /// How many of its bindings move on with the step.
    num_dynamic: usize,
    workgroups: [u32; 3],
}

struct Entry {
    plan: Plan,
    /// The dispatches of each step of the plan.
    steps: Vec<Vec<Launch>>,
}

/// A program on the GPU.
pub(crate) struct GpuExecutor {
    gpu: Arc<GpuDevice>,
    memory: Memory,
    entries: Vec<Entry>,
    steps_per_submission: usize,
    /// Whether [`Executor::set_steps_per_submission`] settled it.
    is_fixed: bool,
}

impl GpuExecutor {
    pub fn new(gpu: &Arc<GpuDevice>, plans: &[Plan], layout: &StateLayout) -> Result<Self> {
        let mut memory = Memory::new(gpu, plans, layout)?;
        let describe = |step: &Step| describe_step(gpu, step);
        let described: Vec<Vec<Dispatches>> =
            plans.iter().map(|plan| plan.steps.iter().map(describe).collect()).collect::<Result<_>>()?;
        memory.make_scratch(gpu, &scratch_sizes(described.iter().flatten()))?;
        let mut wanted = Vec::new();
        for (index, (plan, dispatches)) in plans.iter().zip(&described).enumerate() {
            for (step, dispatches) in plan.steps.iter().zip(dispatches) {
                for (place, dispatch) in dispatches.list.iter().enumerate() {
                    let bound = bound(&memory, index, Place { step, dispatch, is_first: place == 0 }, None);
                    wanted.push((&dispatch.kernel, binding_layouts(&bound)));
                }
            }
        }
        gpu.make_pipelines(&wanted)?;
        let mut entries = Vec::new();
        for (index, (plan, dispatches)) in plans.iter().zip(&described).enumerate() {
            let steps = launches(gpu, &memory, index, plan, dispatches)?;
            entries.push(Entry { plan: plan.clone(), steps });
        }
        Ok(GpuExecutor { gpu: Arc::clone(gpu), memory, entries, steps_per_submission: 1, is_fixed: false })
    }

    /// Records dispatches for row `row` of the table of scalars.
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, entry: usize, launches: &[Launch], row: usize) {
        let offset = row as u64 * self.memory.row_bytes(entry);
        // The table is far below 4 GiB: TABLE_ROWS rows of a few hundred bytes.
        let offsets = [offset as u32; 8];
        for launch in launches {
            let [x, y, z] = launch.workgroups;
            pass.set_pipeline(&launch.pipeline);
            pass.set_bind_group(0, &launch.bind_group, &offsets[..launch.num_dynamic]);
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// Records `count` steps from `first` on, without the ops whose guard is 0. One pass for each step: within it wgpu
    /// orders dispatches by the buffers they share, and the barriers between steps fall away.
    fn encode(&self, entry: usize, table: &StepTable, first: usize, count: usize) -> wgpu::CommandEncoder {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let Entry { plan, steps } = &self.entries[entry];
        for number in first..first + count {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (step, launches) in plan.steps.iter().zip(steps) {
                if table.is_on(step.guard, number) {
                    self.record(&mut pass, entry, launches, number % TABLE_ROWS);
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

/// Asks a step's op for its dispatches and checks them against the device's limits.
fn describe_step(gpu: &GpuDevice, step: &Step) -> Result<Dispatches> {
    let dispatches = step.dispatches(gpu.traits())?;
    for dispatch in &dispatches.list {
        let (most, limit) = (dispatch.workgroups.into_iter().max().unwrap_or(0), MAX_WORKGROUPS);
        if most > limit {
            return Err(Error::Limit {
                what: format!("kernel {}", dispatch.kernel.label()),
                needed: most.into(),
                limit: limit.into(),
                limit_name: "workgroups in one dimension",
                device: gpu.info().name.clone(),
                advice: "fold the grid to two dimensions",
            });
        }
    }
    let limit = gpu.traits().max_loop_iterations;
    match dispatches.list.iter().find(|dispatch| dispatch.loop_iterations > Some(limit)) {
        None => Ok(dispatches),
        Some(dispatch) => Err(Error::Unsupported {
            op: step.label(),
            device: gpu.info().name.clone(),
            reason: format!(
                "an invocation of {} takes {} iterations of its loops, and this adapter ends them after {limit}; use the cpu",
                dispatch.kernel.label(),
                dispatch.loop_iterations.unwrap_or_default(),
            ),
        }),
    }
}

/// For each scratch index, the most that any op asks for: ops run one after the other, so they share.
fn scratch_sizes<'a>(dispatches: impl Iterator<Item = &'a Dispatches>) -> Vec<usize> {
    let mut sizes: Vec<usize> = Vec::new();
    for wanted in dispatches.map(|dispatches| &dispatches.scratch_elems) {
        sizes.resize(sizes.len().max(wanted.len()), 0);
        for (size, &wanted) in sizes.iter_mut().zip(wanted) {
            *size = wanted.max(*size);
        }
    }
    sizes
}

/// Makes pipelines and bind groups for all steps of a plan, and one buffer for all their `Params`.
fn launches(
    gpu: &GpuDevice,
    memory: &Memory,
    entry: usize,
    plan: &Plan,
    described: &[Dispatches],
) -> Result<Vec<Vec<Launch>>> {
    let align = ALIGN_BYTES as usize;
    let mut params: Vec<u8> = Vec::new();
    for dispatch in described.iter().flat_map(|dispatches| &dispatches.list) {
        params.extend(&dispatch.params);
        params.resize(params.len().next_multiple_of(align), 0);
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.buffer(&format!("{} params", plan.name), params.len(), usage)?;
    gpu.queue.write_buffer(&buffer, 0, &params);
    let mut offset = 0;
    let mut steps = Vec::new();
    for (step, dispatches) in plan.steps.iter().zip(described) {
        let mut launches = Vec::new();
        for (place, dispatch) in dispatches.list.iter().enumerate() {
            // A WGSL struct with arrays of vec4 is padded to whole vec4s.
            let size = dispatch.params.len().next_multiple_of(16) as u64;
            let params = Region { buffer: buffer.clone(), offset, size, per_step: false };
            launches.push(launch(gpu, memory, entry, Place { step, dispatch, is_first: place == 0 }, params)?);
            offset += size.next_multiple_of(ALIGN_BYTES);
        }
        steps.push(launches);
    }
    Ok(steps)
}

/// A dispatch of a step.
#[derive(Clone, Copy)]
struct Place<'a> {
    step: &'a Step,
    dispatch: &'a Dispatch,
    /// Whether it is the first of the step, which binds what others read.
    is_first: bool,
}

/// Numbers of bindings that no kernel has: of what it binds for others.
const FIRST_EARLY: u32 = 32;

/// What a dispatch binds: numbers, uses and regions; binding 0 is `params`, or any uniform where only the layout counts.
fn bound(
    memory: &Memory,
    entry: usize,
    Place { step, dispatch, is_first }: Place<'_>,
    params: Option<Region>,
) -> Vec<(u32, Access, Option<Region>)> {
    let operand = |operand: &Operand| memory.region(entry, operand.storage, &operand.ty);
    let of = |&binding: &Binding| match binding {
        Binding::Unused => None,
        Binding::Input(index) => Some((Access::Read, operand(&step.inputs[index]))),
        Binding::Scalar(index) => Some((Access::Uniform, operand(&step.inputs[index]))),
        Binding::Updated(index) => Some((Access::ReadWrite, operand(&step.inputs[index]))),
        Binding::Output(index) => Some((Access::ReadWrite, memory.guarded(entry, &step.outputs[index]))),
        Binding::Scratch(index) => Some((Access::Read, memory.scratch(index))),
        Binding::ScratchMut(index) => Some((Access::ReadWrite, memory.scratch(index))),
        Binding::Pack(index) => Some((Access::Read, memory.pack(entry, step.packs[index]))),
        Binding::PackUpdated(index) => Some((Access::ReadWrite, memory.pack(entry, step.packs[index]))),
    };
    let operands = (1u32..).zip(dispatch.bindings.iter().map(of));
    // A kernel has at most a dozen bindings.
    let operands = operands.filter_map(|(number, bound)| bound.map(|(access, region)| (number, access, Some(region))));
    let early = step.early.iter().filter(|_| is_first).map(|early| (Access::Read, Some(operand(early))));
    let early = (FIRST_EARLY..).zip(early).map(|(number, (access, region))| (number, access, region));
    [(0, Access::Uniform, params)].into_iter().chain(operands).chain(early).collect()
}

fn binding_layouts(bindings: &[(u32, Access, Option<Region>)]) -> Vec<BindingLayout> {
    let layout = |(number, access, region): &(u32, Access, Option<Region>)| BindingLayout {
        number: *number,
        access: *access,
        dynamic: region.as_ref().is_some_and(|region| region.per_step),
    };
    bindings.iter().map(layout).collect()
}

fn launch(gpu: &GpuDevice, memory: &Memory, entry: usize, place: Place<'_>, params: Region) -> Result<Launch> {
    let bindings = bound(memory, entry, place, Some(params));
    let dispatch = place.dispatch;
    let label = dispatch.kernel.label();
    let num_storage = bindings.iter().filter(|(_, access, _)| *access != Access::Uniform).count();
    let limit = u64::from(gpu.limits.max_storage_buffers_per_shader_stage);
    if num_storage as u64 > limit {
        return Err(Error::Limit {
            what: format!("kernel {label}"),
            needed: num_storage as u64,
            limit,
            limit_name: "storage buffers",
            device: gpu.info().name.clone(),
            advice: "split the op",
        });
    }
    let layout = binding_layouts(&bindings);
    let pipeline = gpu.pipeline(&dispatch.kernel, &layout)?;
    let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
        .iter()
        .filter_map(|(number, _, region)| region.as_ref().map(|region| (number, region)))
        .map(|(number, region)| wgpu::BindGroupEntry {
            binding: *number,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &region.buffer,
                offset: region.offset,
                size: wgpu::BufferSize::new(region.size),
            }),
        })
        .collect();
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(&label),
        layout: &pipeline.bind_group_layout,
        entries: &entries,
    });
    if let Some(error) = wait::for_value(scope.pop()) {
        return Err(Error::Kernel { kernel: label, adapter: gpu.info().name.clone(), message: error.to_string() });
    }
    gpu.count_object();
    let num_dynamic = layout.iter().filter(|layout| layout.dynamic).count();
    Ok(Launch { pipeline: pipeline.pipeline, bind_group, num_dynamic, workgroups: dispatch.workgroups })
}

impl Executor for GpuExecutor {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        let mut in_flight: VecDeque<(Submission, usize)> = VecDeque::new();
        let mut last_done = Instant::now();
        let (mut submitted, mut done) = (0, 0);
        let mut wanted = table.num_steps();
        while done < wanted {
            if submitted < wanted && in_flight.len() < MAX_IN_FLIGHT {
                let row = submitted % TABLE_ROWS;
                if row == 0 {
                    self.memory.write_table(&self.gpu, entry, table, submitted);
                }
                let count = self.steps_per_submission.min(wanted - submitted).min(TABLE_ROWS - row);
                let encoder = self.encode(entry, table, submitted, count);
                in_flight.push_back((self.gpu.submit(encoder), count));
                submitted += count;
                continue;
            }
            let (submission, count) = in_flight.pop_front().expect("steps that are not done are in flight");
            self.gpu.wait(submission, &self.entries[entry].plan.name)?;
            self.adapt(count, last_done.elapsed());
            last_done = Instant::now();
            done += count;
            if progress(done).is_break() {
                // Submitted work cannot be cancelled.
                wanted = submitted;
            }
        }
        Ok(done)
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        self.memory.write_table(&self.gpu, entry, table, 0);
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.record(&mut pass, entry, &self.entries[entry].steps[step], 0);
        drop(pass);
        let submission = self.gpu.submit(encoder);
        self.gpu.wait(submission, &self.entries[entry].plan.steps[step].label())
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        self.gpu.write(&self.memory.region(entry, operand.storage, &operand.ty), tensor);
        Ok(())
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        let region = self.memory.region(entry, operand.storage, &operand.ty);
        self.memory.read(&self.gpu, &region, &operand.ty)
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        let region = self.memory.guarded(entry, operand);
        // All bits set: NaN as a float.
        self.gpu.write_bytes(&region, &vec![0xFF; region.size as usize]);
        Ok(())
    }

    fn has_overrun(&mut self, entry: usize, operand: &Operand) -> Result<bool> {
        let region = self.memory.guarded(entry, operand);
        let ty = TensorType::u32([region.size as usize / 4]);
        let words = self.memory.read(&self.gpu, &region, &ty)?.to_f64_vec();
        Ok(words[operand.ty.size_bytes() / 4..].iter().any(|&word| word != f64::from(u32::MAX)))
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        self.gpu.write(self.memory.state(state), tensor);
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        let ty = self.memory.state_type(state).clone();
        self.memory.read(&self.gpu, self.memory.state(state), &ty)
    }

    fn read_bytes(&mut self, states: &[usize], bytes: &mut Vec<u8>) -> Result<()> {
        self.memory.read_bytes(&self.gpu, states, bytes)
    }

    fn write_bytes(&mut self, states: &[usize], bytes: &[u8]) -> Result<()> {
        self.memory.write_bytes(&self.gpu, states, bytes);
        Ok(())
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        self.memory.keep(&self.gpu, states)
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        self.memory.restore(&self.gpu, states)
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        let ty = self.memory.state_type(state).clone();
        self.memory.read(&self.gpu, &self.memory.kept(state), &ty)
    }

    fn time_encoding(&mut self, entry: usize, table: &StepTable) -> Option<Duration> {
        let count = table.num_steps().clamp(1, TABLE_ROWS);
        let started = Instant::now();
        let commands = self.encode(entry, table, 0, count).finish();
        let took = started.elapsed();
        drop(commands);
        // At most TABLE_ROWS.
        Some(took / count as u32)
    }

    fn num_objects(&self) -> u64 {
        self.gpu.num_objects()
    }

    fn set_steps_per_submission(&mut self, steps: Option<usize>) {
        self.is_fixed = steps.is_some();
        self.steps_per_submission = steps.unwrap_or(1).max(1);
    }
}
