//! Buffers and parts of them: making and writing them.

use super::device::GpuDevice;
use super::wait;
use crate::tensor::{Tensor, TensorData};
use crate::{Error, Result};

/// The alignment of binding offsets that every WebGPU device takes.
pub(super) const ALIGN_BYTES: u64 = 256;

/// Part of a buffer: that of the first model, where several lie side by side.
#[derive(Clone)]
pub(super) struct Region {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub size: u64,
    /// Bytes from one model's part to the next one's; 0 where all models share it.
    pub stride: u64,
}

impl Region {
    /// The part of a model.
    pub fn of(&self, model: usize) -> Region {
        Region { offset: self.offset + model as u64 * self.stride, ..self.clone() }
    }

    /// Bytes from the beginning of the first model's part to the end of the last one's.
    pub fn bytes_of_all(&self, num_models: usize) -> u64 {
        self.size + (num_models as u64 - 1) * self.stride
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
                advice: "use a smaller batch, fewer models side by side, or the CPU",
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

    /// Memory that each model has a part of, or all have one if it is shared.
    pub(super) fn region(&self, label: &str, size_bytes: usize, num_models: usize) -> Result<Region> {
        let part = if num_models > 1 { size_bytes.next_multiple_of(ALIGN_BYTES as usize) } else { size_bytes };
        let buffer = self.storage_buffer(label, part * num_models)?;
        let size = if num_models > 1 { size_bytes as u64 } else { buffer.size() };
        let stride = if num_models > 1 { part as u64 } else { 0 };
        Ok(Region { buffer, offset: 0, size: size.max(4), stride })
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
