//! Pipelines: kernels compiled under a layout of their bindings, each once for a device.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use web_time::Instant;

use super::device::{Access, BindingLayout, GpuDevice};
use super::first_use::Unused;
use super::wait;
use crate::ops::kernel::Kernel;
use crate::{Error, Result};

/// What a pipeline is wanted of.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub kernel: Kernel,
    pub layout: Vec<BindingLayout>,
    /// `Params` of one of the dispatches, which its [first use](super::first_use) has.
    pub params: Vec<u8>,
}

/// When pipelines are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// By the first step: what a driver does at the first dispatch is done at once.
    Now,
    /// After it: the first step comes before them in the driver's queue.
    Later,
}

impl GpuDevice {
    /// Creates the pipelines of kernels under layouts of their bindings, for so many models each, on all cores: a program
    /// waits for the slowest of them instead of for one after the other.
    pub(super) fn make_pipelines(&self, wanted: &[Wanted], num_models: usize, needed: Needed) -> Result<()> {
        let (mut seen, mut distinct) = (HashSet::new(), Vec::new());
        for wanted in wanted {
            let key = pipeline_key(&wanted.kernel, &wanted.layout, num_models);
            if self.known(&wanted.kernel.label(), &key)?.is_none() && seen.insert(key) {
                distinct.push(wanted);
            }
        }
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || -> Result<()> {
            while let Some(&wanted) = distinct.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                let pipeline = self.pipeline(wanted, num_models)?;
                let unused = Unused { wanted, pipeline, took: started.elapsed() };
                made.lock().map_err(|_| self.panicked())?.push(unused);
            }
            Ok(())
        };
        on_threads(num_cores().min(distinct.len()), &work).unwrap_or_else(|| Err(self.panicked()))?;
        if needed == Needed::Now && self.info().is_software {
            self.use_all_first(made.into_inner().map_err(|_| self.panicked())?, num_models)?;
        }
        Ok(())
    }

    pub(super) fn panicked(&self) -> Error {
        self.lost("compiling kernels", "a thread panicked")
    }

    /// The pipeline of a kernel under a layout of its bindings, for so many models, created on first use.
    pub(super) fn pipeline(
        &self,
        Wanted { kernel, layout, .. }: &Wanted,
        num_models: usize,
    ) -> Result<wgpu::ComputePipeline> {
        let label = kernel.label();
        let key = pipeline_key(kernel, layout, num_models);
        if let Some(pipeline) = self.known(&label, &key)? {
            return Ok(pipeline);
        }
        let source = self.source(kernel, num_models)?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = self.make_pipeline(kernel, source, layout);
        if let Some(error) = wait::for_value(scope.pop()) {
            let (adapter, message) = (self.info.name.clone(), error.to_string());
            return Err(Error::Kernel { kernel: label, adapter, message });
        }
        let pipeline = pipeline?;
        self.pipelines(&label)?.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// The pipeline of this key, if it was created before.
    fn known(&self, label: &str, key: &str) -> Result<Option<wgpu::ComputePipeline>> {
        Ok(self.pipelines(label)?.get(key).cloned())
    }

    fn pipelines(&self, label: &str) -> Result<MutexGuard<'_, HashMap<String, wgpu::ComputePipeline>>> {
        self.pipelines.lock().map_err(|_| self.lost(label, "a thread panicked before"))
    }

    /// The layout of bind groups with these bindings, created on first use.
    pub(super) fn bind_group_layout(&self, layout: &[BindingLayout]) -> Result<wgpu::BindGroupLayout> {
        let mut known = self.layouts.lock().map_err(|_| self.lost("binding", "a thread panicked before"))?;
        let make = || {
            let entries: Vec<wgpu::BindGroupLayoutEntry> = layout.iter().map(layout_entry).collect();
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        };
        Ok(known.entry(layout.to_vec()).or_insert_with(make).clone())
    }

    /// The kernel's text, or where it is for several models at once, what becomes of it.
    fn source(&self, kernel: &Kernel, num_models: usize) -> Result<wgpu::ShaderSource<'static>> {
        if num_models == 1 {
            return Ok(wgpu::ShaderSource::Wgsl(kernel.source.clone().into_owned().into()));
        }
        #[cfg(not(target_arch = "wasm32"))]
        let module = super::models::with_models(kernel, num_models)
            .map(|module| wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module)));
        // A page trains one model.
        #[cfg(target_arch = "wasm32")]
        let module = Err("a browser".to_owned());
        module.map_err(|reason: String| super::bind::not_side_by_side(self, kernel, &reason))
    }

    fn make_pipeline(
        &self,
        kernel: &Kernel,
        source: wgpu::ShaderSource<'_>,
        layout: &[BindingLayout],
    ) -> Result<wgpu::ComputePipeline> {
        let label = &*kernel.label();
        let bind_group_layout = self.bind_group_layout(layout)?;
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&bind_group_layout)],
            immediate_size: 0,
        });
        let module = self.shader_module(kernel, source);
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(&kernel.entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &kernel.constants,
                // Every kernel writes workgroup memory before it reads it, and zeroing costs time in every dispatch.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.count_object();
        Ok(pipeline)
    }

    /// Debug builds, and so the tests, keep naga's checks: every access clamped, every loop bounded. Release builds
    /// leave them out, but for modules that a user wrote; [`CHECKS_VARIABLE`] says otherwise for either.
    fn shader_module(&self, kernel: &Kernel, source: wgpu::ShaderSource<'_>) -> wgpu::ShaderModule {
        let label = kernel.label();
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&label), source };
        if shader_checks() || kernel.is_custom() {
            return self.device.create_shader_module(descriptor);
        }
        #[expect(unsafe_code, reason = "injected bounds checks and loop limits cost a good part of a kernel's time")]
        // SAFETY: the kernels guard their own ragged edges and their loops end; the tests run every one of them over
        // awkward shapes between sentinels, with the checks and, in `tests/run.sh`, without.
        unsafe {
            self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        }
    }
}

/// Does work on so many threads, and gives the error of the first that has one. `None` where one panicked.
fn on_threads(num_threads: usize, work: &(impl Fn() -> Result<()> + Sync)) -> Option<Result<()>> {
    if num_threads <= 1 {
        return Some(work());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..num_threads).map(|_| scope.spawn(work)).collect();
        // All of them, so that the first error is the first of the list.
        let ended: Vec<Option<Result<()>>> = threads.into_iter().map(|thread| thread.join().ok()).collect();
        ended.into_iter().collect::<Option<Vec<_>>>().map(|ended| ended.into_iter().collect())
    })
}

/// Threads that compile; a browser has none to start.
pub(crate) fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// What tells pipelines apart.
fn pipeline_key(kernel: &Kernel, layout: &[BindingLayout], num_models: usize) -> String {
    let mut key = format!("{} {:?} {layout:?} {num_models}", kernel.label(), kernel.constants);
    if kernel.is_custom() {
        // Nothing keeps users from giving two ops one name.
        key += &kernel.source;
    }
    key
}

/// "on" or "off": whether kernels keep the checks that naga injects.
const CHECKS_VARIABLE: &str = "WGRAD_SHADER_CHECKS";

fn shader_checks() -> bool {
    match std::env::var(CHECKS_VARIABLE).as_deref() {
        Ok("on") => true,
        Ok("off") => false,
        _ => cfg!(debug_assertions),
    }
}

fn layout_entry(layout: &BindingLayout) -> wgpu::BindGroupLayoutEntry {
    let ty = match layout.access {
        Access::Uniform => wgpu::BufferBindingType::Uniform,
        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding: layout.number,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: layout.dynamic, min_binding_size: None },
        count: None,
    }
}
