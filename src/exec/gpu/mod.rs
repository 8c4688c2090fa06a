//! The GPU device: everything that knows wgpu. An op's dispatches (`ops/kernel.rs`) become pipelines, buffers and bind
//! groups when a program is compiled; a step then only sets and dispatches.

mod device;
mod memory;
mod program;
mod wait;

pub use device::{GpuDevice, Kernels};
pub(crate) use device::{Profile, adapter_infos};
pub(crate) use program::GpuExecutor;
