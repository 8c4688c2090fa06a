//! Choosing what to compute on.

use std::fmt;
use std::sync::Arc;

use super::environment;
use super::gpu::{self, GpuDevice, Kernels, Place, Profile};
use crate::graph::plan::Plan;
use crate::ops::cpu::isa;
use crate::ops::cpu::threads::Threads;
use crate::ops::kernel::GpuTraits;
use crate::{Error, Result};

/// What a program is compiled for.
#[derive(Clone)]
pub enum Device {
    /// The CPU, in f32.
    Cpu,
    /// The CPU, in f64: the reference that other devices are checked against.
    CpuF64,
    /// A wgpu adapter.
    Gpu(Arc<GpuDevice>),
    /// A place beside other programs on a wgpu adapter ([`SideBySide`](super::SideBySide)).
    Beside(Arc<Place>),
}

/// What is known of a device before it is opened.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The name, such as "NVIDIA GeForce RTX 4090".
    pub name: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "software adapter", "other" or "CPU".
    pub kind: &'static str,
    /// The interface it is driven through: Vulkan, Metal, Dx12.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Limits that decide what fits, as (name, value).
    pub limits: Vec<(&'static str, u64)>,
    /// Optional features that kernels may care about.
    pub features: Vec<&'static str>,
    /// Whether it only pretends to be a GPU.
    pub is_software: bool,
    /// Whether `auto` takes it.
    pub is_auto: bool,
}

/// All devices: adapters in order of preference, then the CPU.
pub fn devices() -> Vec<DeviceInfo> {
    let mut infos: Vec<DeviceInfo> = gpu::adapters().into_iter().map(|adapter| adapter.info).collect();
    let auto = infos.iter().position(|info| !info.is_software);
    infos.push(cpu_info());
    let auto = auto.unwrap_or(infos.len() - 1);
    infos[auto].is_auto = true;
    infos
}

impl Device {
    /// Opens the device that `wanted` names: `auto` (a hardware GPU, else the CPU), `cpu`, `cpu-f64`, `gpu` (the
    /// best adapter, a software one if there is no other) or a part of an adapter's name.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where no adapter fits; [`Error::DeviceLost`] where the adapter will not open;
    /// [`Error::Setting`] where a variable of the environment that the CPU heeds, such as `WGRAD_THREADS`, has a value that
    /// means nothing.
    pub fn select(wanted: &str) -> Result<Device> {
        Ok(Device::select_with_reason(wanted)?.0)
    }

    /// [`Device::select`], with the reason for the choice: "asked for", "no GPU adapter found".
    ///
    /// # Errors
    /// As [`Device::select`].
    pub fn select_with_reason(wanted: &str) -> Result<(Device, String)> {
        environment::check()?;
        match wanted {
            "cpu" => return Ok((Device::Cpu, "asked for".to_owned())),
            "cpu-f64" => return Ok((Device::CpuF64, "asked for".to_owned())),
            _ => {}
        }
        let mut adapters = gpu::adapters();
        let lower = wanted.to_lowercase();
        let fits = |info: &DeviceInfo| match wanted {
            "auto" => !info.is_software,
            "gpu" => true,
            _ => info.name.to_lowercase().contains(&lower),
        };
        match adapters.iter().position(|adapter| fits(&adapter.info)) {
            Some(index) => {
                let adapter = adapters.swap_remove(index);
                let reason = match wanted {
                    "auto" => "the best GPU here".to_owned(),
                    "gpu" if adapter.info.is_software => "the only adapter here, a software one".to_owned(),
                    _ => format!("asked for as \"{wanted}\""),
                };
                Ok((Device::Gpu(Arc::new(GpuDevice::open(adapter, Profile::Full)?)), reason))
            }
            None if wanted == "auto" && adapters.is_empty() => Ok((Device::Cpu, "no GPU adapter found".to_owned())),
            None if wanted == "auto" => {
                let name = &adapters[0].info.name;
                let reason = format!("no real GPU here; {name} is a software adapter, which is slower");
                Ok((Device::Cpu, reason))
            }
            None => Err(no_adapter(wanted, adapters)),
        }
    }

    /// Opens an adapter as the least device that WebGPU allows: default limits, no feature, and the kernels that an
    /// adapter of the given kind gets. So one adapter tests the kernels of all, and a fault of a driver's features can
    /// be told from one of our own. `wanted` is `gpu` or a part of an adapter's name, as for [`Device::select`].
    ///
    /// # Errors
    /// As [`Device::select`].
    pub fn select_portable(wanted: &str, kernels: Kernels) -> Result<Device> {
        let mut adapters = gpu::adapters();
        let lower = wanted.to_lowercase();
        let fits = |info: &DeviceInfo| wanted == "gpu" || info.name.to_lowercase().contains(&lower);
        match adapters.iter().position(|adapter| fits(&adapter.info)) {
            Some(index) => {
                let adapter = adapters.swap_remove(index);
                Ok(Device::Gpu(Arc::new(GpuDevice::open(adapter, Profile::Portable(kernels))?)))
            }
            None => Err(no_adapter(wanted, adapters)),
        }
    }

    /// The device that the environment variable `WGRAD_DEVICE` names, as [`Device::select`] takes it, or the CPU if
    /// it is not set. The examples use this.
    ///
    /// # Errors
    /// As [`Device::select`].
    pub fn from_env() -> Result<Device> {
        match std::env::var("WGRAD_DEVICE") {
            Ok(wanted) => Device::select(&wanted),
            Err(_) => Ok(Device::Cpu),
        }
    }

    /// What kernels are chosen by; none are on a CPU.
    pub fn gpu_traits(&self) -> Option<GpuTraits> {
        match self {
            Device::Cpu | Device::CpuF64 => None,
            Device::Gpu(gpu) => Some(gpu.traits()),
            Device::Beside(place) => Some(place.gpu().traits()),
        }
    }

    /// Compiles the kernels of a plan before there is a program that runs it, so that [`Program::compile`](super::Program::compile) finds them
    /// done. Errors are left to that, and nothing happens on a CPU.
    pub(crate) fn compile_ahead(&self, plan: &Plan) {
        if let Device::Gpu(gpu) = self {
            // What is wrong with a kernel is found again, and reported, where it is wanted.
            drop(gpu.compile_ahead(plan));
        }
    }

    /// What is known of the device.
    pub fn info(&self) -> DeviceInfo {
        match self {
            Device::Cpu => cpu_info(),
            Device::CpuF64 => DeviceInfo { name: format!("{} (f64)", cpu_info().name), ..cpu_info() },
            Device::Gpu(gpu) => gpu.info().clone(),
            Device::Beside(place) => place.gpu().info().clone(),
        }
    }
}

fn no_adapter(wanted: &str, adapters: Vec<gpu::Adapter>) -> Error {
    let found = adapters.into_iter().map(|adapter| adapter.info.name).collect();
    Error::NoAdapter { wanted: wanted.to_owned(), found }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.info();
        write!(f, "{} ({}, {})", info.name, info.kind, info.driver)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn cpu_info() -> DeviceInfo {
    DeviceInfo {
        name: "cpu".to_owned(),
        kind: "CPU",
        backend: "wgrad's own kernels".to_owned(),
        driver: match Threads::current().num_threads() {
            1 => format!("1 thread, {}", isa::name()),
            more => format!("{more} threads, {}", isa::name()),
        },
        limits: Vec::new(),
        features: Vec::new(),
        is_software: false,
        is_auto: false,
    }
}
