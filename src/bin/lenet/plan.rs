//! `lenet plan`: prints the plans of a training step and of evaluation, and writes the kernels they dispatch.

mod scaling;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use wgrad::ops::kernel::GpuTraits;
use wgrad::run::setup;
use wgrad::{Error, Plan, Result};

use crate::console;
use crate::options::PlanOptions;

pub fn run(mut options: PlanOptions) -> Result<ExitCode> {
    if let Some(ranks) = options.ranks {
        return scaling::run(options, ranks);
    }
    let (wgsl, software) = (options.wgsl.take(), options.software);
    let config = options.step.config("cpu")?;
    // The other plans are these again, with fewer images or another set of them.
    let plans = setup::plans(&config)?;
    let plans: Vec<&Plan> = plans.iter().filter(|plan| ["train", "test"].contains(&plan.name())).collect();
    // No adapter is opened: a plan is made without one.
    let gpu = if software { GpuTraits::SOFTWARE } else { GpuTraits::GPU };
    if let Some(folder) = wgsl {
        let written = write_kernels(&folder, &plans, gpu)?;
        console::line(format!("{written} kernels written to {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_cpu = !software && matches!(config.device.as_str(), "cpu" | "cpu-f64");
    for plan in plans {
        match is_cpu {
            true => console::line(format!("{plan}\n"))?,
            false => print_for_gpu(plan, gpu)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a plan as a GPU runs it, and what its levels are made of.
fn print_for_gpu(plan: &Plan, gpu: GpuTraits) -> Result<()> {
    let counts = plan.counts(gpu)?;
    console::line(format!("{}\n{counts}\n", plan.for_gpu(gpu)?))?;
    console::line(format!("{:>5}  {:>10}  {:>10}  {:>10}", "level", "dispatches", "workgroups", "KiB"))?;
    for (index, level) in counts.levels.iter().enumerate() {
        let kib = level.bytes as f64 / 1024.0;
        console::line(format!("{:>5}  {:>10}  {:>10}  {kib:>10.1}", index + 1, level.dispatches, level.workgroups))?;
    }
    console::line(format!("{:>5}  {:>10}  {:>10}  {:>10.1}\n", "", "", "", counts.bytes() as f64 / 1024.0))
}

/// Writes each kernel once: `op.entry_point.wgsl`, with a number where one differs from others in its constants alone.
fn write_kernels(folder: &Path, plans: &[&Plan], gpu: GpuTraits) -> Result<usize> {
    let mut kernels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for plan in plans {
        for dispatch in plan.dispatches(gpu)?.iter().flat_map(|dispatches| &dispatches.list) {
            let texts = kernels.entry(dispatch.kernel.label()).or_default();
            let text = dispatch.kernel.standard_wgsl();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action: "write", path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut written = 0;
    for (label, texts) in &kernels {
        for (index, text) in texts.iter().enumerate() {
            let number = if texts.len() > 1 { format!(".{}", index + 1) } else { String::new() };
            let path = folder.join(format!("{label}{number}.wgsl"));
            std::fs::write(&path, text).map_err(failed(&path))?;
            written += 1;
        }
    }
    Ok(written)
}
