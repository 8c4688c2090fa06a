//! The first use of a pipeline. Drivers of software adapters translate a kernel to machine code when it is dispatched for the
//! first time, on the one thread of a device's queue: for a training step of LeNet-5 that is a second of llvmpipe's time. So
//! each is dispatched once with no workgroups as soon as pipelines are there, while images are read. Where that takes long,
//! other devices of the same adapter, which no program knows, take some of the kernels: llvmpipe keeps machine code on the
//! disk, where this device then finds it.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use web_time::{Duration, Instant};

use super::bind::{Place, describe_step};
use super::device::{Access, BindingLayout, GpuDevice};
use super::pipelines::{Needed, Wanted, num_cores};
use super::wait::{self, Submission};
use crate::Result;
use crate::graph::plan::Plan;

/// Bytes of what stands in for any buffer: as many as a uniform may have, and at least an element of any array.
const STAND_IN_BYTES: usize = 64 << 10;

/// A first use that takes longer is not found on the disk. The largest kernel of a network takes llvmpipe a hundred
/// milliseconds and more, and six where it is found.
const FOUND: Duration = Duration::from_millis(40);

/// The most devices that help; more would wait for those that have the largest kernels.
const MAX_HELPERS: usize = 3;

/// A pipeline that was made and not used yet.
pub(super) struct Unused<'a> {
    pub wanted: &'a Wanted,
    pub pipeline: wgpu::ComputePipeline,
    /// The time it took to make, which foretells that of the first use: both grow with the kernel's code.
    pub took: Duration,
}

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
                self.wait(self.use_first([(&wanted, &pipeline)])?, &wanted.kernel.label())?;
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

    /// Has the driver do now what it does at the first dispatch of these pipelines, which are for so many models. What it
    /// refuses is left to the first step, which reports it.
    pub(super) fn use_all_first(&self, mut pipelines: Vec<Unused<'_>>, num_models: usize) -> Result<()> {
        if num_cores() == 1 && !pipelines.is_empty() {
            return self.use_first(pipelines.iter().map(|unused| (unused.wanted, &unused.pipeline))).map(|_| ());
        }
        // The largest first, so that all devices are done at about the same time.
        pipelines.sort_by_key(|unused| Reverse(unused.took));
        self.use_shared(&Shared::new(&pipelines, num_models), MAX_HELPERS.min(num_cores() - 1))
    }

    /// Uses pipelines here, while at most so many other devices take some of them. Ends when all have been used, but for the
    /// time that the driver takes to find what other devices left on the disk.
    fn use_shared(&self, shared: &Shared<'_>, max_helpers: usize) -> Result<()> {
        std::thread::scope(|scope| {
            // One pipeline is taken here first.
            for _ in 0..max_helpers.min(shared.pipelines.len().saturating_sub(1)) {
                scope.spawn(|| shared.is_slow().then(|| self.help(shared)));
            }
            let used = shared.rest().try_for_each(|unused| {
                let submission = self.use_first([(unused.wanted, &unused.pipeline)])?;
                drop(wait::for_submission(&self.device, submission));
                shared.tell_progress();
                Ok(())
            });
            shared.tell_progress();
            used
        })?;
        // In the order in which they were done: what was written last, which may not be on the disk yet, is small.
        let elsewhere = std::mem::take(&mut *shared.elsewhere.lock().map_err(|_| self.panicked())?);
        if !elsewhere.is_empty() {
            self.use_first(elsewhere)?;
        }
        Ok(())
    }

    /// Uses pipelines of its own on another device, so that their machine code is on the disk. It ends where that fails:
    /// nothing but time is lost.
    fn help(&self, shared: &Shared<'_>) -> Option<()> {
        let helper = self.another().ok()?;
        for unused in shared.rest() {
            let pipeline = helper.pipeline(unused.wanted, shared.num_models).ok()?;
            let submission = helper.use_first([(unused.wanted, &pipeline)]).ok()?;
            wait::for_submission(&helper.device, submission).ok()?;
            shared.elsewhere.lock().ok()?.push((unused.wanted, &unused.pipeline));
        }
        Some(())
    }

    /// Has the driver do now what it does at the first dispatch of these pipelines. Returns before it is done.
    fn use_first<'a>(
        &self,
        pipelines: impl IntoIterator<Item = (&'a Wanted, &'a wgpu::ComputePipeline)>,
    ) -> Result<Submission> {
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

/// What devices share among them.
struct Shared<'a> {
    pipelines: &'a [Unused<'a>],
    next: AtomicUsize,
    num_models: usize,
    /// Whether the device that all this is for has used a pipeline.
    has_used: Mutex<bool>,
    progress: Condvar,
    /// Those that other devices are done with.
    elsewhere: Mutex<Vec<(&'a Wanted, &'a wgpu::ComputePipeline)>>,
}

impl<'a> Shared<'a> {
    fn new(pipelines: &'a [Unused<'a>], num_models: usize) -> Self {
        let (next, has_used, elsewhere) = (AtomicUsize::new(0), Mutex::new(false), Mutex::default());
        Shared { pipelines, next, num_models, has_used, progress: Condvar::new(), elsewhere }
    }

    /// Those that no device has taken yet; whoever asks takes them.
    fn rest(&self) -> impl Iterator<Item = &'a Unused<'a>> {
        std::iter::from_fn(|| self.pipelines.get(self.next.fetch_add(1, Ordering::Relaxed)))
    }

    fn tell_progress(&self) {
        if let Ok(mut has_used) = self.has_used.lock() {
            *has_used = true;
            self.progress.notify_all();
        }
    }

    /// Waits for the first pipeline to be used, and tells whether that takes longer than where it is found. (A wait for the
    /// submission itself that ends early makes wgpu 30 panic, if another thread waits for the device at the same time.)
    fn is_slow(&self) -> bool {
        let Ok(has_used) = self.has_used.lock() else { return false };
        let waited = self.progress.wait_timeout_while(has_used, FOUND, |has_used| !*has_used);
        waited.is_ok_and(|(has_used, _)| !*has_used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Device, Program};
    use crate::graph::Graph;
    use crate::nn::Init;
    use crate::ops::Reduction;
    use crate::optim::Optimizer;
    use crate::tensor::{Tensor, TensorType};

    /// A training step of one layer: kernels with and without scalars that change from step to step.
    fn step(optimizer: &Optimizer) -> Result<Graph> {
        let mut graph = Graph::new("step");
        let x = graph.input("x", TensorType::f32([16, 12]))?;
        let y = graph.input("y", TensorType::f32([16, 8]))?;
        let w = graph.parameter("w", [8, 12], Init::Zeros)?;
        let prediction = graph.linear(x, w, None)?;
        let loss = graph.mse_loss(prediction, y, Reduction::Mean)?;
        optimizer.minimize(&mut graph, loss)?;
        Ok(graph)
    }

    fn weights(device: &Device, plan: Plan, optimizer: &Optimizer) -> Result<Tensor> {
        let mut program = Program::compile(device, vec![plan], 0)?;
        let ramp = |columns: usize| {
            Tensor::f32([16, columns], (0..16 * columns).map(|index| (index % 7) as f32 - 3.0).collect::<Vec<_>>())
        };
        program.write("x", &ramp(12)?)?;
        program.write("y", &ramp(8)?)?;
        program.run("step", &optimizer.steps(3, 0.1))?;
        program.read("w")
    }

    #[test]
    fn another_device_takes_kernels_and_the_results_stay_the_same() -> Result<()> {
        let optimizer = Optimizer::sgd(0.9);
        let plan = Plan::new(&step(&optimizer)?)?;
        let device = Device::select("gpu")?;
        let Device::Gpu(gpu) = &device else { panic!("\"gpu\" is an adapter") };
        let wanted = gpu.wanted(&plan)?;
        let unused = |wanted| Ok(Unused { wanted, pipeline: gpu.pipeline(wanted, 1)?, took: Duration::ZERO });
        let pipelines = wanted.iter().map(unused).collect::<Result<Vec<_>>>()?;
        assert!(pipelines.len() > 3);

        let shared = Shared::new(&pipelines, 1);
        assert!(shared.is_slow(), "no pipeline was used");
        gpu.help(&shared).expect("another device opens and compiles");
        let elsewhere = shared.elsewhere.lock().expect("no thread panicked").len();
        assert_eq!(elsewhere, pipelines.len(), "each is taken once");
        gpu.use_shared(&shared, 2)?;
        assert!(!shared.is_slow());
        assert!(shared.elsewhere.lock().expect("no thread panicked").is_empty(), "each is used here as well");

        let by_a_fresh_device = weights(&Device::select("gpu")?, plan.clone(), &optimizer)?;
        assert_eq!(weights(&device, plan, &optimizer)?.to_f32_vec(), by_a_fresh_device.to_f32_vec());
        assert!(by_a_fresh_device.to_f32_vec().iter().any(|&weight| weight != 0.0));
        Ok(())
    }
}
