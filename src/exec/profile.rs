//! Where the time of a step goes, op by op, and on the CPU also stage by stage. Each op is run and waited for on its own,
//! on a GPU several times in one submission, so that what waiting for the op before costs is in the number, and what
//! submitting costs is not; on the CPU the cost of being handed to other threads is. The headline speed is a whole run's.
//! What the host takes to record a run for a GPU is apart as well.

use web_time::Duration;

use super::{Device, Program, StepTable, step_count};
use crate::Result;
use crate::graph::plan::Plan;
use crate::ops::kernel::Cost;

/// One op's share of a step.
#[derive(Clone, Debug)]
pub struct OpTime {
    /// The layer and the op.
    pub label: String,
    /// The median over all repeats.
    pub median: Duration,
    /// The mean over all repeats: of use where the clock counts in steps longer than an op, as a browser's does.
    pub mean: Duration,
    /// What the op has to compute and move.
    pub cost: Cost,
}

/// The ops that ran together for a while, in one run of a step.
#[derive(Clone, Debug)]
pub(crate) struct StageTime {
    /// The indices of the ops in the plan.
    pub steps: Vec<usize>,
    /// How many images they ran for at a time; `None` for one op on the whole batch.
    pub images: Option<usize>,
    pub time: Duration,
}

/// The share of a step that ops have which run together, image by image.
#[derive(Clone, Debug)]
pub struct StageProfile {
    /// The ops.
    pub labels: Vec<String>,
    /// How many images they run for at a time; `None` for one op on the whole batch.
    pub images: Option<usize>,
    /// The median over all repeats.
    pub median: Duration,
    /// What they have to compute, and move if nothing stays in a cache.
    pub cost: Cost,
}

/// Floating-point operations per second that the CPU reaches in registers, in f32: one thread, and all of them.
pub fn cpu_peak() -> [f64; 2] {
    crate::ops::cpu::peak::flops()
}

/// What compiling a kernel takes.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// `op.entry_point`.
    pub label: String,
    /// Making the pipeline: WGSL to what the driver takes, and what it makes of that.
    pub pipeline: Duration,
    /// What the driver of a software adapter does when the kernel is first dispatched; next to nothing elsewhere.
    pub first_use: Duration,
}

impl Device {
    /// Compiles the kernels of a plan one after the other, and tells what each took; those that the device has compiled
    /// before are left out. Nothing is compiled on a CPU, and `None` returned. Drivers keep what they compiled on the disk:
    /// Mesa's in the folder `MESA_SHADER_CACHE_DIR`.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn profile_compiling(&self, plan: &Plan) -> Result<Option<Vec<KernelTime>>> {
        let Device::Gpu(gpu) = self else { return Ok(None) };
        let of = |(label, [pipeline, first_use]): (String, [Duration; 2])| KernelTime { label, pipeline, first_use };
        Ok(Some(gpu.time_compiling(plan)?.into_iter().map(of).collect()))
    }
}

impl Program {
    /// Times the stages of an entry over `repeats` runs under the first row of `table`, on the CPU, where ops that act
    /// image by image run together; `None` elsewhere. Updates of states happen.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile_stages(
        &mut self,
        entry: &str,
        table: &StepTable,
        repeats: usize,
    ) -> Result<Option<Vec<StageProfile>>> {
        let index = self.entry(entry)?;
        let table = step_count::select(&self.plans[index], table, None)?;
        let runs = (0..repeats.max(1)).map(|_| self.executor.time_stages(index, &table));
        let Some(runs) = runs.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let steps = &self.plans[index].steps;
        let profile = |(place, stage): (usize, &StageTime)| {
            let mut times: Vec<Duration> = runs.iter().map(|run| run[place].time).collect();
            times.sort_unstable();
            let costs = stage.steps.iter().map(|&step| steps[step].cost());
            StageProfile {
                labels: stage.steps.iter().map(|&step| steps[step].label()).collect(),
                images: stage.images,
                median: times[times.len() / 2],
                cost: costs.fold(Cost::default(), |sum, cost| Cost {
                    flops: sum.flops + cost.flops,
                    bytes: sum.bytes + cost.bytes,
                }),
            }
        };
        Ok(Some(runs[0].iter().enumerate().map(profile).collect()))
    }

    /// What the host takes to record one run of an entry on a GPU, without submitting it: the median over `repeats`
    /// recordings of all rows of `table`. Nothing is run. `None` on the CPU.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile_encoding(&mut self, entry: &str, table: &StepTable, repeats: usize) -> Result<Option<Duration>> {
        let index = self.entry(entry)?;
        let table = step_count::select(&self.plans[index], table, None)?;
        let times = (0..repeats.max(1)).map(|_| self.executor.time_encoding(index, &table));
        let Some(times) = times.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let mut times = times.into_iter().collect::<Result<Vec<Duration>>>()?;
        times.sort_unstable();
        Ok(Some(times[times.len() / 2]))
    }

    /// Times every op of an entry over `repeats` runs under the first row of `table`. Updates of states happen.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile(&mut self, entry: &str, table: &StepTable, repeats: usize) -> Result<Vec<OpTime>> {
        let index = self.entry(entry)?;
        let table = step_count::select(&self.plans[index], table, None)?;
        let num_steps = self.plans[index].steps.len();
        let mut times = vec![Vec::new(); num_steps];
        for _ in 0..repeats.max(1) {
            for (step, times) in times.iter_mut().enumerate() {
                times.push(self.executor.time_op(index, step, &table)?);
            }
        }
        let steps = self.plans[index].steps.iter().zip(times);
        Ok(steps
            .map(|(step, mut times)| {
                times.sort_unstable();
                // Repeats are far fewer than 2^32.
                let mean = times.iter().sum::<Duration>() / times.len() as u32;
                OpTime { label: step.label(), median: times[times.len() / 2], mean, cost: step.cost() }
            })
            .collect())
    }
}
