//! `lenet profile --estimate`: what each op of a training step would take on a GPU that need not be here.

use std::process::ExitCode;

use wgrad::ops::kernel::GpuTraits;
use wgrad::run::{RunData, setup};
use wgrad::sanitize::estimate::{Machine, estimate};
use wgrad::sanitize::{Counters, Interpreter, KernelUse, Options};
use wgrad::{Device, Result};

use crate::console;
use crate::options::StepOptions;

/// Workgroups of each dispatch that are run; the others are taken to be like them.
const SAMPLE: usize = 12;

pub fn run(options: StepOptions, machine: &str) -> Result<ExitCode> {
    let machine = Machine::named(machine)?;
    let config = options.config()?;
    let data = RunData::load(&config)?;
    let (plan, states, table) = setup::session(&config, &Device::Cpu, &data)?.first_step()?;
    // A GPU's kernels, whatever is here.
    let traits = GpuTraits::GPU;
    let options = Options { count: true, max_workgroups: Some(SAMPLE), ..Options::default() };
    let uses = Interpreter::new(traits, options).count(&plan, &states, &table, 0)?;
    console::line(format!(
        "An estimate for the {} ({:.0} TFLOP/s, a fence of {} µs), from what the kernels were counted to do.\n",
        machine.description,
        machine.tflops(),
        machine.fence_us
    ))?;
    console::line(format!(
        "{:>8}  {:<16}  {:>9}  {:>6}  {:>6}  {:>8}  {:>8}  {:>5}  {:>9}  kernel",
        "µs", "bound by", "groups", "chain", "syncs", "sectors", "banks", "regs", "FMA"
    ))?;
    let times = uses.iter().map(|used| show(machine, used)).collect::<Result<Vec<f64>>>()?;
    let total: f64 = times.iter().sum();
    let fences = machine.fence_us * uses.len() as f64;
    console::line(format!(
        "\n{:.1} µs in {} dispatches and at most {fences:.1} µs of fences: {:.1} µs a step, within a factor of two or so",
        total,
        uses.len(),
        total + fences,
    ))?;
    console::line(
        "chain: loads that wait for each other. sectors, banks: times the fewest possible. regs: a rough bound."
            .to_owned(),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a dispatch and gives its time in µs.
fn show(machine: &Machine, used: &KernelUse) -> Result<f64> {
    let (Some(estimate), Some(counters)) = (estimate(machine, used), &used.report.counters) else { return Ok(0.0) };
    let Counters { load_chain, live_registers, multiply_adds, barriers, sectors, bank_passes, .. } = counters;
    let [ran, total] = used.report.workgroups;
    let times = |[took, least]: [u64; 2]| {
        if least == 0 { "-".to_owned() } else { format!("{:.2}", took as f64 / least as f64) }
    };
    let threads: u32 = used.workgroup_size.iter().product();
    console::line(format!(
        "{:>8.2}  {:<16}  {:>9}  {load_chain:>6}  {:>6}  {:>8}  {:>8}  {live_registers:>5}  {:>9}  {} ({})",
        estimate.us,
        estimate.bound.name(),
        format!("{total}x{threads}"),
        barriers / ran.max(1),
        times(*sectors),
        times(*bank_passes),
        multiply_adds * total / ran.max(1),
        used.kernel,
        used.op,
    ))?;
    Ok(estimate.us)
}
