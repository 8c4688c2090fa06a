//! Adapters, the open device, and the making of wgpu objects, each of which is counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::wait::{self, Submission};
use crate::exec::DeviceInfo;
use crate::ops::kernel::{GpuTraits, MAX_SOFTWARE_LOOP_ITERATIONS};
use crate::{Error, Result};

/// Bindings that a program may have alive. wgpu's default of a million makes DirectX 12 reserve descriptors for all.
const MAX_BINDINGS: u32 = 16_384;

/// Browsers demand `enable subgroups;` of a shader with shuffles, which naga does not accept.
const SUBGROUPS: wgpu::Features =
    if cfg!(target_arch = "wasm32") { wgpu::Features::empty() } else { wgpu::Features::SUBGROUP };

/// Invocations that exchange values in `shaders/lib/share_subgroup.wgsl`.
const SHUFFLE_LANES: u32 = 8;

/// An open adapter.
pub struct GpuDevice {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    pub(super) info: DeviceInfo,
    opened: (Adapter, Profile),
    traits: GpuTraits,
    pub(super) pipelines: Mutex<HashMap<String, wgpu::ComputePipeline>>,
    pub(super) layouts: Mutex<HashMap<Vec<BindingLayout>, wgpu::BindGroupLayout>>,
    num_objects: AtomicU64,
    /// The first thing that went wrong outside of any call that could return it.
    fault: Arc<Mutex<Option<Fault>>>,
}

/// What went wrong outside of any call that could return it.
#[derive(Clone, Debug)]
enum Fault {
    /// An invalid request that was not carried out; the device is still usable.
    Refused(String),
    /// The device is gone.
    Lost(String),
}

/// How a binding is declared in WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
    ReadWrite,
    Uniform,
}

/// One entry of a bind group layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BindingLayout {
    pub number: u32,
    pub access: Access,
    /// Whether the offset is given anew for every step.
    pub dynamic: bool,
}

/// An adapter that is not open yet.
#[derive(Clone)]
pub(crate) struct Adapter {
    adapter: wgpu::Adapter,
    /// What is known of it.
    pub info: DeviceInfo,
}

/// OpenGL is left out: what it offers is less than WebGPU's least device.
const BACKENDS: wgpu::Backends = wgpu::Backends::VULKAN
    .union(wgpu::Backends::METAL)
    .union(wgpu::Backends::DX12)
    .union(wgpu::Backends::BROWSER_WEBGPU);

/// The adapters here, best first.
pub(crate) fn adapters() -> Vec<Adapter> {
    let flags = if cfg!(debug_assertions) { wgpu::InstanceFlags::debugging() } else { wgpu::InstanceFlags::empty() };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: BACKENDS,
        flags,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = wait::for_value(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.retain(|adapter| adapter.get_downlevel_capabilities().is_webgpu_compliant());
    // A stable sort, so adapters of one kind stay in the driver's order.
    adapters.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    adapters.into_iter().map(|adapter| Adapter { info: describe(&adapter), adapter }).collect()
}

fn rank(device_type: wgpu::DeviceType) -> usize {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn describe(adapter: &wgpu::Adapter) -> DeviceInfo {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let kinds = ["discrete GPU", "integrated GPU", "virtual GPU", "other adapter", "software adapter"];
    let feature_names = [
        (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
        (wgpu::Features::SUBGROUP, "subgroup"),
        (wgpu::Features::SHADER_F16, "shader-f16"),
    ];
    DeviceInfo {
        // A browser may keep the name to itself.
        name: if info.name.is_empty() { "WebGPU adapter".to_owned() } else { info.name },
        kind: kinds[rank(info.device_type)],
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        limits: vec![
            ("bytes in one binding", limits.max_storage_buffer_binding_size),
            ("bytes in one buffer", limits.max_buffer_size),
            ("storage buffers a kernel", u64::from(limits.max_storage_buffers_per_shader_stage)),
            ("invocations a workgroup", u64::from(limits.max_compute_invocations_per_workgroup)),
            ("bytes of workgroup memory", u64::from(limits.max_compute_workgroup_storage_size)),
        ],
        features: feature_names.iter().filter(|(flag, _)| features.contains(*flag)).map(|(_, name)| *name).collect(),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
        is_auto: false,
    }
}

/// How much of an adapter is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Everything that makes kernels faster.
    Full,
    /// WebGPU's default limits and no feature, with the kernels that an adapter of this kind gets.
    Portable(Kernels),
}

/// The kinds of adapter that kernels are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// A GPU: tiles in workgroup memory.
    ForGpu,
    /// A software adapter without shuffles: tiles in registers, values exchanged through workgroup memory.
    ForSoftware,
}

impl GpuDevice {
    /// Opens an adapter.
    pub(crate) fn open(adapter: Adapter, profile: Profile) -> Result<GpuDevice> {
        let opened = (adapter.clone(), profile);
        let Adapter { adapter, mut info } = adapter;
        let offered = adapter.limits();
        // WebGPU's defaults are what kernels are written for; only sizes of buffers are raised to what there is.
        let mut limits = wgpu::Limits { max_non_sampler_bindings: MAX_BINDINGS, ..wgpu::Limits::default() };
        let mut features = wgpu::Features::empty();
        if profile == Profile::Full {
            limits.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
            limits.max_buffer_size = offered.max_buffer_size;
            features = adapter.features() & SUBGROUPS;
        }
        let is_software = match profile {
            Profile::Full => info.is_software,
            Profile::Portable(kernels) => kernels == Kernels::ForSoftware,
        };
        let traits = GpuTraits {
            is_software,
            has_shuffles: is_software && !features.is_empty() && adapter.get_info().subgroup_min_size >= SHUFFLE_LANES,
            max_loop_iterations: if info.is_software { MAX_SOFTWARE_LOOP_ITERATIONS } else { usize::MAX },
        };
        if let Profile::Portable(kernels) = profile {
            let chosen = if kernels == Kernels::ForGpu { "a GPU" } else { "a software adapter" };
            info.name = format!("{} as portable as {chosen}", info.name);
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgrad"),
            required_features: features,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let lost = |reason: String| Error::DeviceLost { adapter: info.name.clone(), during: "opening".into(), reason };
        let (device, queue) =
            wait::for_value(adapter.request_device(&descriptor)).map_err(|error| lost(error.to_string()))?;
        let fault = Arc::new(Mutex::new(None));
        let record = |fault: &Arc<Mutex<Option<Fault>>>| {
            let fault = Arc::clone(fault);
            move |new: Fault| {
                if let Ok(mut first) = fault.lock()
                    && !matches!(*first, Some(Fault::Lost(_)))
                    && (first.is_none() || matches!(new, Fault::Lost(_)))
                {
                    *first = Some(new);
                }
            }
        };
        let (on_error, on_loss) = (record(&fault), record(&fault));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error(Fault::Refused(error.to_string()))));
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the device at the end of a program is reported as a loss as well.
            if reason != wgpu::DeviceLostReason::Destroyed {
                on_loss(Fault::Lost(message));
            }
        });
        Ok(GpuDevice {
            device,
            queue,
            limits,
            info,
            opened,
            traits,
            pipelines: Mutex::new(HashMap::new()),
            layouts: Mutex::new(HashMap::new()),
            num_objects: AtomicU64::new(0),
            fault,
        })
    }

    /// Opens the same adapter in the same way once more; outside of browsers, where an adapter is opened once.
    pub(super) fn another(&self) -> Result<GpuDevice> {
        let (adapter, profile) = &self.opened;
        GpuDevice::open(adapter.clone(), *profile)
    }

    /// What is known of it.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(crate) fn traits(&self) -> GpuTraits {
        self.traits
    }

    /// Buffers, bind groups and pipelines made so far.
    pub(crate) fn num_objects(&self) -> u64 {
        self.num_objects.load(Ordering::Relaxed)
    }

    pub(super) fn count_object(&self) {
        self.num_objects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, during: &str, reason: impl Into<String>) -> Error {
        Error::DeviceLost { adapter: self.info.name.clone(), during: during.to_owned(), reason: reason.into() }
    }

    /// Waits for a submission, and reports whatever went wrong up to then.
    pub(super) fn wait(&self, submission: Submission, during: &str) -> Result<()> {
        let waited = wait::for_submission(&self.device, submission);
        match self.take_fault() {
            Some(Fault::Refused(message)) => {
                return Err(Error::Kernel { kernel: during.to_owned(), adapter: self.info.name.clone(), message });
            }
            Some(Fault::Lost(reason)) => {
                return Err(self.lost(during, format!("{reason}; it has to be opened again")));
            }
            None => {}
        }
        waited.map_err(|reason| self.lost(during, reason))
    }

    /// Submits what was recorded; [`GpuDevice::wait`] waits for it.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> Submission {
        wait::submit(&self.queue, encoder)
    }

    /// What has gone wrong since this was last asked; a device that is lost stays so.
    fn take_fault(&self) -> Option<Fault> {
        let mut fault = self.fault.lock().ok()?;
        if matches!(*fault, Some(Fault::Lost(_))) { fault.clone() } else { fault.take() }
    }
}
