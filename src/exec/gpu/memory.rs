//! Where the values of a program lie, and reading them.

use super::device::GpuDevice;
use super::machine::{Models, Rows};
use super::region::{ALIGN_BYTES, Region};
use crate::Result;
use crate::exec::StateLayout;
use crate::exec::exchange::{append, places};
use crate::graph::plan::{Operand, PackMember, Plan, Storage};
use crate::tensor::{DType, Tensor, TensorData, TensorType};

/// Bytes of a number of each model in uniform memory: elements of arrays there are multiples of 16 bytes.
pub(super) const CELL_BYTES: usize = 16;

/// The rows of scalars that the device holds at once; longer runs write the table again in between.
pub(super) const TABLE_ROWS: usize = 2048;

/// The staging buffer that reads go through, piece by piece.
const STAGING_BYTES: u64 = 4 << 20;

/// In debug builds, unused guard bytes after every slot. Outputs are bound with them, so that tests detect a kernel
/// that writes past the end of its output.
const GUARD_BYTES: usize = if cfg!(debug_assertions) { 256 } else { 0 };

/// Where the values of all entries live.
pub(super) struct Memory {
    num_models: usize,
    states: Vec<Region>,
    state_types: Vec<TensorType>,
    state_packs: Vec<Region>,
    kept: Vec<Option<Region>>,
    /// For each state the models that were kept.
    has_kept: Vec<Vec<bool>>,
    entries: Vec<EntryMemory>,
    scratch: Vec<Region>,
    staging: wgpu::Buffer,
}

struct EntryMemory {
    states: Vec<usize>,
    /// For each pack of the plan, its region and the regions of its members.
    packs: Vec<(Region, Vec<Region>)>,
    slots: Vec<Region>,
    constants: Vec<Region>,
    scalars: Vec<Region>,
    table: Option<wgpu::Buffer>,
}

impl Memory {
    pub fn new(gpu: &GpuDevice, plans: &[Plan], layout: &StateLayout, models: &Models) -> Result<Memory> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let mut memory = Memory {
            num_models: models.count,
            states: Vec::new(),
            state_types: layout.specs.iter().map(|spec| spec.ty.clone()).collect(),
            state_packs: Vec::new(),
            kept: vec![None; layout.specs.len()],
            has_kept: vec![vec![false; models.count]; layout.specs.len()],
            entries: Vec::new(),
            scratch: Vec::new(),
            staging: gpu.buffer("staging", STAGING_BYTES as usize, usage)?,
        };
        for (index, pack) in layout.packs.iter().enumerate() {
            memory.state_packs.push(gpu.region(&format!("state pack {index}"), pack.num_elems * 4, models.count)?);
        }
        for (spec, placed) in layout.specs.iter().zip(&layout.placed) {
            memory.states.push(match *placed {
                Some((pack, member)) => {
                    let offset = layout.packs[pack].members[member].offset_elems as u64 * 4;
                    Region { offset, size: size(&spec.ty), ..memory.state_packs[pack].clone() }
                }
                None => {
                    let num_models = if (models.is_shared)(spec) { 1 } else { models.count };
                    gpu.region(&spec.name, spec.ty.size_bytes(), num_models)?
                }
            });
        }
        for (plan, states) in plans.iter().zip(&layout.of_plan) {
            let entry = memory.entry(gpu, plan, states, layout)?;
            memory.entries.push(entry);
        }
        Ok(memory)
    }

    fn entry(&self, gpu: &GpuDevice, plan: &Plan, states: &[usize], layout: &StateLayout) -> Result<EntryMemory> {
        let mut entry = EntryMemory {
            states: states.to_vec(),
            packs: Vec::new(),
            slots: Vec::new(),
            constants: Vec::new(),
            scalars: Vec::new(),
            table: None,
        };
        for (index, pack) in plan.packs.iter().enumerate() {
            let whole = match layout.pack_index(pack) {
                Some(shared) => self.state_packs[shared].clone(),
                None => gpu.region(&format!("{} pack {index}", plan.name), pack.num_elems * 4, self.num_models)?,
            };
            let member =
                |m: &PackMember| Region { offset: m.offset_elems as u64 * 4, size: size(&m.ty), ..whole.clone() };
            let members = pack.members.iter().map(member).collect();
            entry.packs.push((whole, members));
        }
        for (index, slot) in plan.slots.iter().enumerate() {
            let label = format!("{} slot {index}", plan.name);
            let size_bytes = slot.num_elems * slot.dtype.size_bytes() + GUARD_BYTES;
            entry.slots.push(gpu.region(&label, size_bytes, self.num_models)?);
        }
        for (index, tensor) in plan.constants.iter().enumerate() {
            let label = format!("{} constant {index}", plan.name);
            let region = gpu.region(&label, tensor.ty().size_bytes(), 1)?;
            gpu.write(&region, tensor);
            entry.constants.push(region);
        }
        if !plan.scalars.is_empty() {
            let row_bytes = plan.scalars.len() * self.scalar_bytes();
            let table = gpu.storage_buffer(&format!("{} scalars", plan.name), row_bytes * TABLE_ROWS)?;
            let region = |index: usize| Region {
                buffer: table.clone(),
                offset: (index * self.scalar_bytes()) as u64,
                size: if self.num_models > 1 { (CELL_BYTES * self.num_models) as u64 } else { 4 },
                stride: 0,
            };
            entry.scalars = (0..plan.scalars.len()).map(region).collect();
            entry.table = Some(table);
        }
        Ok(entry)
    }

    /// Makes scratch buffers of at least these sizes, shared by all ops in turn.
    pub fn make_scratch(&mut self, gpu: &GpuDevice, sizes_elems: &[usize]) -> Result<()> {
        for (index, &elems) in sizes_elems.iter().enumerate() {
            self.scratch.push(gpu.region(&format!("scratch {index}"), elems * 4, self.num_models)?);
        }
        Ok(())
    }

    pub fn scratch(&self, index: usize) -> Region {
        self.scratch[index].clone()
    }

    pub fn pack(&self, entry: usize, pack: usize) -> Region {
        self.entries[entry].packs[pack].0.clone()
    }

    pub fn state(&self, state: usize, model: usize) -> Region {
        self.states[state].of(model)
    }

    /// Whether models have one state together.
    pub fn is_shared(&self, state: usize) -> bool {
        self.num_models > 1 && self.states[state].stride == 0
    }

    /// Where a state was kept last, or the state itself where it never was.
    pub fn kept(&self, state: usize, model: usize) -> Region {
        let kept = self.kept[state].as_ref().filter(|_| self.has_kept[state][model]);
        kept.unwrap_or(&self.states[state]).of(model)
    }

    /// Forgets what was kept of a model.
    pub fn forget_kept(&mut self, model: usize) {
        self.has_kept.iter_mut().for_each(|has_kept| has_kept[model] = false);
    }

    pub fn state_type(&self, state: usize) -> &TensorType {
        &self.state_types[state]
    }

    /// Where an operand of an entry lives; exactly as long as its type says, and a number of the step as long as it is for
    /// all models.
    pub fn region(&self, entry: usize, storage: Storage, ty: &TensorType) -> Region {
        let entry = &self.entries[entry];
        let region = match storage {
            Storage::State(index) => &self.states[entry.states[index]],
            Storage::Scalar(index) => return entry.scalars[index].clone(),
            Storage::Constant(index) => &entry.constants[index],
            Storage::Slot(index) => &entry.slots[index],
            Storage::Pack { pack, member } => &entry.packs[pack].1[member],
        };
        Region { size: size(ty), ..region.clone() }
    }

    /// An operand's region and, after a value in a slot, the guard.
    pub fn guarded(&self, entry: usize, operand: &Operand) -> Region {
        let region = self.region(entry, operand.storage, &operand.ty);
        let guard = if matches!(operand.storage, Storage::Slot(_)) { GUARD_BYTES as u64 } else { 0 };
        Region { size: region.size + guard, ..region }
    }

    /// Writes rows of scalars from `first` on, as many as the table holds. Queued after earlier submissions.
    pub fn write_table(&self, gpu: &GpuDevice, entry: usize, rows: &[Rows<'_>], first: usize) {
        let EntryMemory { table: Some(buffer), scalars, .. } = &self.entries[entry] else { return };
        let last = rows.iter().map(Rows::len).min().unwrap_or(0).min(first + TABLE_ROWS);
        let (words, cell) = (self.scalar_bytes() / 4, if self.num_models > 1 { CELL_BYTES / 4 } else { 0 });
        let mut table = vec![0u32; (last - first) * scalars.len() * words];
        for Rows { model, table: given, first: before } in rows {
            let values = (first..last).flat_map(|step| given.row(before + step));
            for (scalar, (dtype, value)) in table.chunks_exact_mut(words).zip(values) {
                scalar[model * cell] = match dtype {
                    // The device computes in f32.
                    DType::F32 => (value as f32).to_bits(),
                    // The table holds whole numbers in u32's range for such columns.
                    DType::U32 | DType::U8 => value as u32,
                };
            }
        }
        gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&table));
    }

    /// Bytes from one scalar of a row to the next.
    fn scalar_bytes(&self) -> usize {
        (self.num_models * CELL_BYTES).next_multiple_of(ALIGN_BYTES as usize)
    }

    /// Bytes from one row of scalars to the next.
    pub fn row_bytes(&self, entry: usize) -> u64 {
        (self.entries[entry].scalars.len() * self.scalar_bytes()) as u64
    }

    /// Appends the elements of states, those that lie side by side in one buffer with one copy.
    pub fn read_bytes(&self, gpu: &GpuDevice, states: &[usize], model: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let (mut rest, begin) = (states, bytes.len());
        while let Some(&first) = rest.first() {
            let region = &self.states[first];
            let is_next = |pair: &[usize]| {
                let (one, next) = (&self.states[pair[0]], &self.states[pair[1]]);
                one.buffer == next.buffer && next.offset > one.offset
            };
            let count = 1 + rest.windows(2).take_while(|pair| is_next(pair)).count();
            let last = &self.states[rest[count - 1]];
            let size = last.offset + last.size - region.offset;
            let whole = self.region_bytes(gpu, &Region { size, ..region.of(model) })?;
            for &state in &rest[..count] {
                // Offsets within a buffer that lies in memory here.
                let start = (self.states[state].offset - region.offset) as usize;
                append(bytes, begin, &whole[start..start + self.state_types[state].size_bytes()]);
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Overwrites states by such bytes; they pass through one staging allocation before the next submission.
    pub fn write_bytes(&self, gpu: &GpuDevice, states: &[usize], model: usize, bytes: &[u8]) {
        let lens = states.iter().map(|&state| self.state_types[state].size_bytes());
        for (&state, place) in states.iter().zip(places(lens)) {
            gpu.write_bytes(&self.states[state].of(model), &bytes[place]);
        }
    }

    /// Reads a region through the staging buffer.
    pub fn read(&self, gpu: &GpuDevice, region: &Region, ty: &TensorType) -> Result<Tensor> {
        let mut bytes = self.region_bytes(gpu, region)?;
        // A region has whole words and at least one.
        bytes.truncate(ty.shape.num_elems() * ty.dtype.size_bytes());
        let data = match ty.dtype {
            DType::F32 => TensorData::F32(bytemuck::pod_collect_to_vec(&bytes)),
            DType::U32 => TensorData::U32(bytemuck::pod_collect_to_vec(&bytes)),
            DType::U8 => TensorData::U8(bytes),
        };
        Tensor::new(ty.shape.clone(), data)
    }

    fn region_bytes(&self, gpu: &GpuDevice, region: &Region) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(region.size as usize);
        let mut done = 0;
        while done < region.size {
            let piece = (region.size - done).min(STAGING_BYTES);
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&region.buffer, region.offset + done, &self.staging, 0, piece);
            encoder.map_buffer_on_submit(&self.staging, wgpu::MapMode::Read, ..piece, |_| ());
            let submission = gpu.submit(encoder);
            gpu.wait(submission, "a read")?;
            let view = self.staging.get_mapped_range(..piece).map_err(|error| gpu.lost("a read", error.to_string()))?;
            bytes.extend_from_slice(&view);
            drop(view);
            self.staging.unmap();
            done += piece;
        }
        Ok(bytes)
    }

    /// Copies states of a model aside, on the device.
    pub fn keep(&mut self, gpu: &GpuDevice, states: &[usize], model: usize) -> Result<()> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for &state in states {
            if self.kept[state].is_none() {
                let size_bytes = self.states[state].size as usize;
                self.kept[state] = Some(gpu.region("kept state", size_bytes, self.num_models)?);
            }
            let kept = self.kept[state].as_ref().expect("made above").of(model);
            let region = self.states[state].of(model);
            encoder.copy_buffer_to_buffer(&region.buffer, region.offset, &kept.buffer, kept.offset, region.size);
            self.has_kept[state][model] = true;
        }
        gpu.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Copies the states of a model that were kept last back.
    pub fn restore(&mut self, gpu: &GpuDevice, states: &[usize], model: usize) -> Result<()> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for &state in states {
            if let Some(kept) = self.kept[state].as_ref().filter(|_| self.has_kept[state][model]) {
                let (kept, region) = (kept.of(model), self.states[state].of(model));
                encoder.copy_buffer_to_buffer(&kept.buffer, kept.offset, &region.buffer, region.offset, region.size);
            }
        }
        gpu.queue.submit([encoder.finish()]);
        Ok(())
    }
}

fn size(ty: &TensorType) -> u64 {
    (ty.size_bytes() as u64).max(4)
}
