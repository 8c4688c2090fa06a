//! The GPU device: everything that knows wgpu. An op's dispatches (`ops/kernel.rs`) become pipelines, buffers and bind
//! groups when a program is compiled; a step then only sets and dispatches.

mod bind;
mod device;
mod first_use;
mod group;
mod machine;
mod memory;
#[cfg(not(target_arch = "wasm32"))]
mod models;
mod pipelines;
mod program;
mod region;
mod wait;

pub(crate) use device::{Adapter, Profile, adapters};
pub use device::{GpuDevice, Kernels};
pub use group::{Place, SideBySide};
pub(crate) use pipelines::num_cores;
pub(crate) use program::GpuExecutor;
