//! From a plan's steps to dispatches over the program's memory, whose pipelines may still be compiling.

use super::device::{Access, BindingLayout, GpuDevice};
use super::memory::{CELL_BYTES, Memory};
use super::pipelines::Wanted;
use super::region::{ALIGN_BYTES, Region};
use super::wait;
use crate::graph::plan::{Operand, Plan, Step, Storage};
use crate::ops::kernel::{Binding, Dispatch, Dispatches, Kernel, MAX_WORKGROUPS};
use crate::{Error, Result};

/// Numbers of bindings that no kernel has: of what it binds for others.
const FIRST_EARLY: u32 = 32;

/// The binding that lists the models of a dispatch, one in a cell for each workgroup in z, where there are several.
pub(super) const MEMBERS: u32 = 48;

/// The binding that tells the distance from one model to the next, in words, in a cell for each binding of the kernel.
pub(super) const STRIDES: u32 = 49;

/// Bindings that [`STRIDES`] has cells for.
pub(super) const NUM_STRIDES: usize = 16;

/// One dispatch, ready to be recorded once it has its pipeline.
pub(super) struct Launch {
    /// What it is a pipeline of.
    pub wanted: Wanted,
    pub pipeline: Option<wgpu::ComputePipeline>,
    pub bind_group: wgpu::BindGroup,
    /// How many of its bindings move on with the step.
    pub num_dynamic: usize,
    pub workgroups: [u32; 3],
    /// Its `Params`.
    pub params: Region,
}

/// A dispatch of a step.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub step: &'a Step,
    pub dispatch: &'a Dispatch,
    /// Whether it is the first of the step, which binds what others read.
    pub is_first: bool,
}

/// What a kernel binds at a number, before there is memory.
#[derive(Clone, Copy)]
enum Bindable<'a> {
    /// What is of the dispatch itself: its `Params`, the lists of models.
    Own,
    Operand(&'a Operand),
    Output(&'a Operand),
    Scratch(usize),
    Pack(usize),
}

impl Bindable<'_> {
    /// Whether its offset moves on with the step.
    fn is_dynamic(self) -> bool {
        matches!(self, Bindable::Operand(operand) if matches!(operand.storage, Storage::Scalar(_)))
    }
}

/// Something that a kernel binds: its number, its use, and where it lies.
type Bound = (u32, Access, Option<Region>);

impl<'a> Place<'a> {
    /// The dispatches of a step of a plan.
    pub fn of(step: &'a Step, dispatches: &'a Dispatches) -> impl Iterator<Item = Place<'a>> {
        let place = move |(index, dispatch)| Place { step, dispatch, is_first: index == 0 };
        dispatches.list.iter().enumerate().map(place)
    }

    /// What the dispatch is a pipeline of.
    pub fn wanted(self, num_models: usize) -> Wanted {
        let layout = |(number, access, bindable): (u32, Access, Bindable<'_>)| BindingLayout {
            number,
            access,
            dynamic: bindable.is_dynamic(),
        };
        let Dispatch { kernel, params, .. } = self.dispatch;
        let layout = self.bindings(num_models).map(layout).collect();
        Wanted { kernel: kernel.clone(), layout, params: params.clone() }
    }

    /// What it binds: `params` as number 0, what its op says, what it binds for others, and the lists of models.
    fn bindings(self, num_models: usize) -> impl Iterator<Item = (u32, Access, Bindable<'a>)> {
        let Place { step, dispatch, is_first } = self;
        let of = |&binding: &Binding| match binding {
            Binding::Unused => None,
            Binding::Input(index) => Some((Access::Read, Bindable::Operand(&step.inputs[index]))),
            Binding::Scalar(index) => Some((Access::Uniform, Bindable::Operand(&step.inputs[index]))),
            Binding::Updated(index) => Some((Access::ReadWrite, Bindable::Operand(&step.inputs[index]))),
            Binding::Output(index) => Some((Access::ReadWrite, Bindable::Output(&step.outputs[index]))),
            Binding::Scratch(index) => Some((Access::Read, Bindable::Scratch(index))),
            Binding::ScratchMut(index) => Some((Access::ReadWrite, Bindable::Scratch(index))),
            Binding::Pack(index) => Some((Access::Read, Bindable::Pack(step.packs[index]))),
            Binding::PackUpdated(index) => Some((Access::ReadWrite, Bindable::Pack(step.packs[index]))),
        };
        let operands = (1u32..).zip(dispatch.bindings.iter().map(of));
        // A kernel has at most a dozen bindings.
        let operands =
            operands.filter_map(|(number, bound)| bound.map(|(access, bindable)| (number, access, bindable)));
        let early = step.early.iter().filter(move |_| is_first);
        let early = (FIRST_EARLY..).zip(early).map(|(number, early)| (number, Access::Read, Bindable::Operand(early)));
        let models = [MEMBERS, STRIDES].into_iter().filter(move |_| num_models > 1);
        let models = models.map(|number| (number, Access::Uniform, Bindable::Own));
        [(0, Access::Uniform, Bindable::Own)].into_iter().chain(operands).chain(early).chain(models)
    }
}

/// Asks a step's op for its dispatches and checks them against the device's limits.
pub(super) fn describe_step(gpu: &GpuDevice, step: &Step, num_models: usize) -> Result<Dispatches> {
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
        // A user's kernel may do anything with its grid and its bindings.
        if num_models > 1 && (dispatch.kernel.is_custom() || dispatch.workgroups[2] != 1) {
            return Err(not_side_by_side(gpu, &dispatch.kernel, "its grid is its own"));
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

/// A kernel that runs for one model only.
pub(super) fn not_side_by_side(gpu: &GpuDevice, kernel: &Kernel, reason: &str) -> Error {
    Error::Unsupported {
        op: kernel.label(),
        device: gpu.info().name.clone(),
        reason: format!("it cannot compute several models side by side: {reason}; train one at a time"),
    }
}

/// For each scratch index, the most that any op asks for: ops run one after the other, so they share.
pub(super) fn scratch_sizes<'a>(dispatches: impl Iterator<Item = &'a Dispatches>) -> Vec<usize> {
    let mut sizes: Vec<usize> = Vec::new();
    for wanted in dispatches.map(|dispatches| &dispatches.scratch_elems) {
        sizes.resize(sizes.len().max(wanted.len()), 0);
        for (size, &wanted) in sizes.iter_mut().zip(wanted) {
            *size = wanted.max(*size);
        }
    }
    sizes
}

/// What the dispatches of a program have in common.
pub(super) struct Binder<'a> {
    pub gpu: &'a GpuDevice,
    pub memory: &'a Memory,
    pub num_models: usize,
    /// The models of each dispatch, where there are several.
    pub members: Option<&'a Region>,
}

impl Binder<'_> {
    /// Makes the bind groups of all steps of a plan, and one buffer each for their `Params` and for their distances from
    /// one model to the next.
    pub fn launches(&self, entry: usize, plan: &Plan, described: &[Dispatches]) -> Result<Vec<Vec<Launch>>> {
        let all = || described.iter().flat_map(|dispatches| &dispatches.list);
        let params_bytes = |dispatch: &Dispatch| (params_bytes(dispatch) * self.num_models) as u64;
        let total: u64 = all().map(|dispatch| params_bytes(dispatch).next_multiple_of(ALIGN_BYTES)).sum();
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = self.gpu.buffer(&format!("{} params", plan.name), total as usize, usage)?;
        let strides = match self.num_models {
            1 => None,
            _ => {
                let size_bytes = all().count() * NUM_STRIDES * CELL_BYTES;
                Some(self.gpu.buffer(&format!("{} strides", plan.name), size_bytes, usage)?)
            }
        };
        let (mut offset, mut number, mut steps) = (0, 0, Vec::new());
        for (step, dispatches) in plan.steps.iter().zip(described) {
            let mut launches = Vec::new();
            for place in Place::of(step, dispatches) {
                let dispatch = place.dispatch;
                let stride = if self.num_models > 1 { params_bytes(dispatch) / self.num_models as u64 } else { 0 };
                let params = Region { offset, size: params_bytes(dispatch), ..uniform(&params, stride) };
                offset += params.size.next_multiple_of(ALIGN_BYTES);
                let size = (NUM_STRIDES * CELL_BYTES) as u64;
                let strides =
                    strides.as_ref().map(|buffer| Region { offset: number * size, size, ..uniform(buffer, 0) });
                number += 1;
                launches.push(self.launch(entry, place, params, strides)?);
            }
            steps.push(launches);
        }
        Ok(steps)
    }

    /// Where what a dispatch binds lies; binding 0 is `params`, and those of [`Models`](super::machine::Models) are open.
    fn bound(&self, entry: usize, place: Place<'_>, params: &Region) -> Vec<Bound> {
        let memory = self.memory;
        let region = |number: u32, bindable: Bindable<'_>| match bindable {
            Bindable::Own => (number == 0).then(|| params.clone()),
            Bindable::Operand(operand) => Some(memory.region(entry, operand.storage, &operand.ty)),
            Bindable::Output(operand) => Some(memory.guarded(entry, operand)),
            Bindable::Scratch(index) => Some(memory.scratch(index)),
            Bindable::Pack(index) => Some(memory.pack(entry, index)),
        };
        let bindings = place.bindings(self.num_models);
        bindings.map(|(number, access, bindable)| (number, access, region(number, bindable))).collect()
    }

    fn launch(&self, entry: usize, place: Place<'_>, params: Region, strides: Option<Region>) -> Result<Launch> {
        let Binder { gpu, .. } = *self;
        let mut bindings = self.bound(entry, place, &params);
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
        if let Some(strides) = &strides {
            gpu.write_bytes(strides, bytemuck::cast_slice(&stride_cells(&bindings)));
            for (number, region) in [(MEMBERS, self.members), (STRIDES, Some(strides))] {
                bindings.iter_mut().filter(|bound| bound.0 == number).for_each(|bound| bound.2 = region.cloned());
            }
        }
        let wanted = place.wanted(self.num_models);
        let layout = &wanted.layout;
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
            .iter()
            .filter_map(|(number, access, region)| region.as_ref().map(|region| (number, access, region)))
            .map(|(number, access, region)| wgpu::BindGroupEntry {
                binding: *number,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &region.buffer,
                    offset: region.offset,
                    size: wgpu::BufferSize::new(match access {
                        // Those of all models are one array.
                        Access::Uniform => region.size,
                        Access::Read | Access::ReadWrite => region.bytes_of_all(self.num_models),
                    }),
                }),
            })
            .collect();
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let bind_group_layout = gpu.bind_group_layout(layout)?;
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&label),
            layout: &bind_group_layout,
            entries: &entries,
        });
        if let Some(error) = wait::for_value(scope.pop()) {
            return Err(Error::Kernel { kernel: label, adapter: gpu.info().name.clone(), message: error.to_string() });
        }
        gpu.count_object();
        let num_dynamic = layout.iter().filter(|layout| layout.dynamic).count();
        Ok(Launch { wanted, pipeline: None, bind_group, num_dynamic, workgroups: dispatch.workgroups, params })
    }
}

/// Bytes of a dispatch's `Params`: a WGSL struct with arrays of vec4 is padded to whole vec4s.
fn params_bytes(dispatch: &Dispatch) -> usize {
    dispatch.params.len().next_multiple_of(16)
}

fn uniform(buffer: &wgpu::Buffer, stride: u64) -> Region {
    Region { buffer: buffer.clone(), offset: 0, size: 0, stride }
}

/// What [`STRIDES`] holds for these bindings.
fn stride_cells(bindings: &[Bound]) -> [[u32; CELL_BYTES / 4]; NUM_STRIDES] {
    let mut cells = [[0; CELL_BYTES / 4]; NUM_STRIDES];
    for (number, access, region) in bindings {
        if let (Some(cell), Some(region), true) = (cells.get_mut(*number as usize), region, *access != Access::Uniform)
        {
            // Bindings are below 4 Gi words.
            cell[0] = (region.stride / 4) as u32;
        }
    }
    cells
}
