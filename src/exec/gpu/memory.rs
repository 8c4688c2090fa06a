//! Buffers: making, writing and reading them.

use super::device::GpuDevice;
use super::wait;
use crate::exec::{StateLayout, StepTable};
use crate::graph::plan::{Operand, PackMember, Plan, Storage};
use crate::tensor::{DType, Tensor, TensorData, TensorType};
use crate::{Error, Result};

/// The alignment of binding offsets that every WebGPU device takes.
pub(super) const ALIGN_BYTES: u64 = 256;

/// The rows of scalars that the device holds at once; longer runs write the table again in between.
pub(super) const TABLE_ROWS: usize = 2048;

/// The staging buffer that reads go through, piece by piece.
const STAGING_BYTES: u64 = 4 << 20;

/// In debug builds, unused guard bytes after every slot. Outputs are bound with them, so that tests detect a kernel
/// that writes past the end of its output.
const GUARD_BYTES: usize = if cfg!(debug_assertions) { 256 } else { 0 };

/// Part of a buffer.
#[derive(Clone)]
pub(super) struct Region {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub size: u64,
    /// Whether it is a row of scalars that moves on from step to step.
    pub per_step: bool,
}

impl Region {
    pub(super) fn whole(buffer: wgpu::Buffer) -> Region {
        let size = buffer.size();
        Region { buffer, offset: 0, size, per_step: false }
    }
}

impl GpuDevice {
    pub(super) fn buffer(&self, label: &str, size_bytes: usize, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let needed = size_bytes as u64;
        let limits = [
            (self.limits.max_buffer_size, "bytes in one buffer"),
            (self.limits.max_storage_buffer_binding_size, "bytes in one binding"),
        ];
        if let Some(&(limit, limit_name)) = limits.iter().find(|(limit, _)| needed > *limit) {
            return Err(Error::Limit {
                what: label.to_owned(),
                needed,
                limit,
                limit_name,
                device: self.info().name.clone(),
                advice: "use a smaller batch, or the CPU",
            });
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            // Bindings of no bytes are not allowed.
            size: needed.next_multiple_of(4).max(4),
            usage,
            mapped_at_creation: false,
        });
        if let Some(error) = wait::for_value(scope.pop()) {
            return Err(self.lost(label, format!("{error} (asked for {needed} bytes)")));
        }
        self.count_object();
        Ok(buffer)
    }

    pub(super) fn storage_buffer(&self, label: &str, size_bytes: usize) -> Result<wgpu::Buffer> {
        use wgpu::BufferUsages as Usage;
        self.buffer(label, size_bytes, Usage::STORAGE | Usage::UNIFORM | Usage::COPY_SRC | Usage::COPY_DST)
    }

    pub(super) fn write(&self, region: &Region, tensor: &Tensor) {
        match tensor.data() {
            TensorData::F32(data) => self.write_bytes(region, bytemuck::cast_slice(data)),
            TensorData::F64(_) => self.write_bytes(region, bytemuck::cast_slice(&tensor.to_f32_vec())),
            TensorData::U32(data) => self.write_bytes(region, bytemuck::cast_slice(data)),
            TensorData::U8(data) => {
                let mut words = data.clone();
                words.resize(data.len().next_multiple_of(4), 0);
                self.write_bytes(region, &words);
            }
        }
    }

    /// Writes in pieces: each passes through a staging allocation that lives until the next submission is done.
    pub(super) fn write_bytes(&self, region: &Region, bytes: &[u8]) {
        const PIECE_BYTES: usize = 32 << 20;
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            self.queue.write_buffer(&region.buffer, region.offset + (index * PIECE_BYTES) as u64, piece);
            if bytes.len() > PIECE_BYTES {
                self.queue.submit([]);
            }
        }
    }
}

/// Where the values of all entries live.
pub(super) struct Memory {
    states: Vec<Region>,
    state_types: Vec<TensorType>,
    state_packs: Vec<Region>,
    kept: Vec<Option<wgpu::Buffer>>,
    entries: Vec<EntryMemory>,
    scratch: Vec<wgpu::Buffer>,
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
    pub fn new(gpu: &GpuDevice, plans: &[Plan], layout: &StateLayout) -> Result<Memory> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let mut memory = Memory {
            states: Vec::new(),
            state_types: layout.specs.iter().map(|spec| spec.ty.clone()).collect(),
            state_packs: Vec::new(),
            kept: vec![None; layout.specs.len()],
            entries: Vec::new(),
            scratch: Vec::new(),
            staging: gpu.buffer("staging", STAGING_BYTES as usize, usage)?,
        };
        for (index, pack) in layout.packs.iter().enumerate() {
            let buffer = gpu.storage_buffer(&format!("state pack {index}"), pack.num_elems * 4)?;
            memory.state_packs.push(Region::whole(buffer));
        }
        for (spec, placed) in layout.specs.iter().zip(&layout.placed) {
            memory.states.push(match *placed {
                Some((pack, member)) => {
                    let offset = layout.packs[pack].members[member].offset_elems as u64 * 4;
                    Region { offset, size: size(&spec.ty), ..memory.state_packs[pack].clone() }
                }
                None => Region::whole(gpu.storage_buffer(&spec.name, spec.ty.size_bytes())?),
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
                None => Region::whole(gpu.storage_buffer(&format!("{} pack {index}", plan.name), pack.num_elems * 4)?),
            };
            let member =
                |m: &PackMember| Region { offset: m.offset_elems as u64 * 4, size: size(&m.ty), ..whole.clone() };
            let members = pack.members.iter().map(member).collect();
            entry.packs.push((whole, members));
        }
        for (index, slot) in plan.slots.iter().enumerate() {
            let label = format!("{} slot {index}", plan.name);
            let size_bytes = slot.num_elems * slot.dtype.size_bytes() + GUARD_BYTES;
            entry.slots.push(Region::whole(gpu.storage_buffer(&label, size_bytes)?));
        }
        for (index, tensor) in plan.constants.iter().enumerate() {
            let label = format!("{} constant {index}", plan.name);
            let region = Region::whole(gpu.storage_buffer(&label, tensor.ty().size_bytes())?);
            gpu.write(&region, tensor);
            entry.constants.push(region);
        }
        if !plan.scalars.is_empty() {
            let row_bytes = plan.scalars.len() * ALIGN_BYTES as usize;
            let table = gpu.storage_buffer(&format!("{} scalars", plan.name), row_bytes * TABLE_ROWS)?;
            let region = |index: usize| Region {
                buffer: table.clone(),
                offset: index as u64 * ALIGN_BYTES,
                size: 4,
                per_step: true,
            };
            entry.scalars = (0..plan.scalars.len()).map(region).collect();
            entry.table = Some(table);
        }
        Ok(entry)
    }

    /// Makes scratch buffers of at least these sizes, shared by all ops in turn.
    pub fn make_scratch(&mut self, gpu: &GpuDevice, sizes_elems: &[usize]) -> Result<()> {
        for (index, &elems) in sizes_elems.iter().enumerate() {
            self.scratch.push(gpu.storage_buffer(&format!("scratch {index}"), elems * 4)?);
        }
        Ok(())
    }

    pub fn scratch(&self, index: usize) -> Region {
        Region::whole(self.scratch[index].clone())
    }

    pub fn pack(&self, entry: usize, pack: usize) -> Region {
        self.entries[entry].packs[pack].0.clone()
    }

    pub fn state(&self, state: usize) -> &Region {
        &self.states[state]
    }

    /// Where a state was kept last, or the state itself where it never was.
    pub fn kept(&self, state: usize) -> Region {
        self.kept[state].as_ref().map_or_else(|| self.states[state].clone(), |kept| Region::whole(kept.clone()))
    }

    pub fn state_type(&self, state: usize) -> &TensorType {
        &self.state_types[state]
    }

    /// Where an operand of an entry lives; exactly as long as its type says.
    pub fn region(&self, entry: usize, storage: Storage, ty: &TensorType) -> Region {
        let entry = &self.entries[entry];
        let region = match storage {
            Storage::State(index) => &self.states[entry.states[index]],
            Storage::Scalar(index) => &entry.scalars[index],
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
    pub fn write_table(&self, gpu: &GpuDevice, entry: usize, table: &StepTable, first: usize) {
        let Some(buffer) = &self.entries[entry].table else { return };
        let words = (ALIGN_BYTES / 4) as usize;
        let last = table.num_steps().min(first + TABLE_ROWS);
        let mut rows = Vec::with_capacity((last - first) * self.entries[entry].scalars.len() * words);
        for step in first..last {
            for (dtype, value) in table.row(step) {
                let start = rows.len();
                rows.resize(start + words, 0u32);
                rows[start] = match dtype {
                    // The device computes in f32.
                    DType::F32 => (value as f32).to_bits(),
                    // The table holds whole numbers in u32's range for such columns.
                    DType::U32 | DType::U8 => value as u32,
                };
            }
        }
        gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&rows));
    }

    /// Bytes from one row of scalars to the next.
    pub fn row_bytes(&self, entry: usize) -> u64 {
        self.entries[entry].scalars.len() as u64 * ALIGN_BYTES
    }

    /// Appends the elements of states, those that lie side by side in one buffer with one copy.
    pub fn read_bytes(&self, gpu: &GpuDevice, states: &[usize], bytes: &mut Vec<u8>) -> Result<()> {
        let mut rest = states;
        while let Some(&first) = rest.first() {
            let region = &self.states[first];
            let is_next = |pair: &[usize]| {
                let (one, next) = (&self.states[pair[0]], &self.states[pair[1]]);
                one.buffer == next.buffer && next.offset > one.offset
            };
            let count = 1 + rest.windows(2).take_while(|pair| is_next(pair)).count();
            let last = &self.states[rest[count - 1]];
            let size = last.offset + last.size - region.offset;
            let whole = self.region_bytes(gpu, &Region { size, ..region.clone() })?;
            for &state in &rest[..count] {
                // Offsets within a buffer that lies in memory here.
                let start = (self.states[state].offset - region.offset) as usize;
                bytes.extend_from_slice(&whole[start..start + self.state_types[state].size_bytes()]);
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Overwrites states by such bytes; they pass through one staging allocation before the next submission.
    pub fn write_bytes(&self, gpu: &GpuDevice, states: &[usize], mut bytes: &[u8]) {
        for &state in states {
            let (first, rest) = bytes.split_at(self.state_types[state].size_bytes());
            gpu.write_bytes(&self.states[state], first);
            bytes = rest;
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

    /// Copies states aside, on the device.
    pub fn keep(&mut self, gpu: &GpuDevice, states: &[usize]) -> Result<()> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for &state in states {
            let region = &self.states[state];
            if self.kept[state].is_none() {
                self.kept[state] = Some(gpu.storage_buffer("kept state", region.size as usize)?);
            }
            let kept = self.kept[state].as_ref().expect("made above");
            encoder.copy_buffer_to_buffer(&region.buffer, region.offset, kept, 0, region.size);
        }
        gpu.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Copies the states kept last back.
    pub fn restore(&mut self, gpu: &GpuDevice, states: &[usize]) -> Result<()> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for &state in states {
            if let Some(kept) = &self.kept[state] {
                let region = &self.states[state];
                encoder.copy_buffer_to_buffer(kept, 0, &region.buffer, region.offset, region.size);
            }
        }
        gpu.queue.submit([encoder.finish()]);
        Ok(())
    }
}

fn size(ty: &TensorType) -> u64 {
    (ty.size_bytes() as u64).max(4)
}
