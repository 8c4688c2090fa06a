//! The first use of a pipeline. Drivers of software adapters translate a kernel to machine code when it is dispatched for the
//! first time, one kernel after the other: for a training step of LeNet-5 that is a second of llvmpipe's time. So each is
//! dispatched once with no workgroups as soon as its pipeline is there, while others are made, images are read and memory
//! is filled.

use std::sync::Mutex;

use web_time::{Duration, Instant};

use super::bind::{Place, describe_step};
use super::device::{Access, BindingLayout, GpuDevice};
use super::pipelines::{Needed, Wanted};
use super::wait::{self, Submission};
use crate::graph::plan::Plan;
use crate::{Error, Result};

/// Bytes of what stands in for any buffer: as many as a uniform may have, and at least an element of any array.
const STAND_IN_BYTES: usize = 64 << 10;

impl GpuDevice {
    /// Compiles the kernels of a plan in their order.
    ///
    /// # Errors
    /// As [`crate::Program::compile`], which finds what is wrong as well.
    pub(crate) fn compile_ahead(&self, plan: &Plan) -> Result<()> {
        self.make_pipelines(&self.wanted(plan)?, 1, Needed::Now)
    }

    /// What compiling each kernel of a plan takes, one after the other: its label, making the pipeline, and what the driver
    /// does at its first use. Kernels that the device has already are left out.
    pub(crate) fn time_compiling(&self, plan: &Plan) -> Result<Vec<(String, [Duration; 2])>> {
        let mut times = Vec::new();
        for wanted in self.wanted(plan)? {
            let (num_before, started) = (self.num_objects(), Instant::now());
            let pipeline = self.pipeline(&wanted, 1)?;
            let made = started.elapsed();
            if self.num_objects() == num_before {
                continue;
            }
            let started = Instant::now();
            if self.info().is_software {
                self.wait(self.use_first(&[(&wanted, pipeline)])?, &wanted.kernel.label())?;
            }
            times.push((wanted.kernel.label(), [made, started.elapsed()]));
        }
        Ok(times)
    }

    fn wanted(&self, plan: &Plan) -> Result<Vec<Wanted>> {
        let plan = plan.for_gpu(self.traits())?;
        let mut wanted = Vec::new();
        for step in &plan.steps {
            let dispatches = describe_step(self, step, 1)?;
            wanted.extend(Place::of(step, &dispatches).map(|place| place.wanted(1)));
        }
        Ok(wanted)
    }

    /// Has the driver do now what it does at the first dispatch of these pipelines. Returns before it is done.
    fn use_first(&self, pipelines: &[(&Wanted, wgpu::ComputePipeline)]) -> Result<Submission> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let stand_ins = [self.storage_buffer("read", STAND_IN_BYTES)?, self.storage_buffer("written", STAND_IN_BYTES)?];
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (wanted, pipeline) in pipelines {
            let bind_group = self.stand_in_group(wanted, &stand_ins)?;
            let num_dynamic = wanted.layout.iter().filter(|binding| binding.dynamic).count();
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &bind_group, &vec![0; num_dynamic]);
            pass.dispatch_workgroups(0, 1, 1);
        }
        drop(pass);
        let submission = self.submit(encoder);
        // Where this is refused, the first step does the work.
        drop(wait::for_value(scope.pop()));
        Ok(submission)
    }

    /// Binds stand-ins for all but `params`: lavapipe takes numbers that loops and branches depend on out of uniforms, and
    /// compiles a kernel anew if that leaves less than half of it, as it does where they are 0.
    fn stand_in_group(&self, wanted: &Wanted, [read, written]: &[wgpu::Buffer; 2]) -> Result<wgpu::BindGroup> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = self.buffer("params", STAND_IN_BYTES, usage)?;
        self.queue.write_buffer(&params, 0, &wanted.params);
        let entry = |binding: &BindingLayout| wgpu::BindGroupEntry {
            binding: binding.number,
            resource: match binding.access {
                Access::Uniform if binding.number == 0 => params.as_entire_binding(),
                Access::Read | Access::Uniform => read.as_entire_binding(),
                Access::ReadWrite => written.as_entire_binding(),
            },
        };
        let entries: Vec<wgpu::BindGroupEntry<'_>> = wanted.layout.iter().map(entry).collect();
        Ok(self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("stand-ins"),
            layout: &self.bind_group_layout(&wanted.layout)?,
            entries: &entries,
        }))
    }
}

/// Pipelines to be used first, as they are made.
pub(super) struct FirstUses<'a> {
    gpu: &'a GpuDevice,
    waiting: Mutex<Vec<(&'a Wanted, wgpu::ComputePipeline)>>,
    /// Held while a thread submits: lavapipe returns from that when what was submitted before is done, and meanwhile other
    /// threads are to make pipelines.
    submitting: Mutex<()>,
}

impl<'a> FirstUses<'a> {
    pub fn new(gpu: &'a GpuDevice) -> FirstUses<'a> {
        FirstUses { gpu, waiting: Mutex::default(), submitting: Mutex::default() }
    }

    /// Adds a pipeline, and submits all there are unless another thread is about to.
    pub fn add(&self, wanted: &'a Wanted, pipeline: wgpu::ComputePipeline) -> Result<()> {
        if !self.gpu.info().is_software {
            return Ok(());
        }
        self.waiting.lock().map_err(|_| self.lost())?.push((wanted, pipeline));
        match self.submitting.try_lock() {
            Ok(_submitting) => self.submit(),
            Err(_) => Ok(()),
        }
    }

    /// Submits those that are left, after all were added.
    pub fn finish(&self) -> Result<()> {
        let _submitting = self.submitting.lock().map_err(|_| self.lost())?;
        self.submit()
    }

    fn submit(&self) -> Result<()> {
        let waiting = std::mem::take(&mut *self.waiting.lock().map_err(|_| self.lost())?);
        if waiting.is_empty() {
            return Ok(());
        }
        self.gpu.use_first(&waiting).map(|_| ())
    }

    fn lost(&self) -> Error {
        self.gpu.lost("compiling kernels", "a thread panicked before")
    }
}
