//! `lenet profile`: where the time of a training step goes, op by op.

#[cfg(feature = "sanitize")]
mod estimate;

use std::process::ExitCode;

use wgrad::exec::profile::OpTime;
use wgrad::run::{RunData, setup};
use wgrad::{Device, Result};

use crate::console;
use crate::options::ProfileOptions;

/// Runs of the step that the medians are over.
const REPEATS: usize = 100;

pub fn run(options: ProfileOptions) -> Result<ExitCode> {
    #[cfg(feature = "sanitize")]
    if let Some(machine) = options.estimate {
        return estimate::run(options.step, &machine);
    }
    let config = options.step.config("gpu")?;
    let (device, reason) = Device::select_with_reason(&config.device)?;
    console::line(format!("device    {device}: {reason}"))?;
    let data = RunData::load(&config)?;
    let mut times = setup::session(&config, &device, &data)?.profile(REPEATS)?;
    times.sort_by_key(|op| std::cmp::Reverse(op.median));
    let total: f64 = times.iter().map(seconds).sum();
    console::line(format!("\n{:>10}  {:>6}  {:>8}  {:>6}  op", "µs", "share", "GFLOP/s", "GB/s"))?;
    for op in &times {
        let (time, cost) = (seconds(op), op.cost);
        let rate = |count: u64| count as f64 / time / 1e9;
        let share = console::percent(time / total);
        let (gflops, gbytes) = (rate(cost.flops), rate(cost.bytes));
        console::line(format!("{:>10.1}  {share:>6}  {gflops:>8.1}  {gbytes:>6.1}  {}", time * 1e6, op.label))?;
    }
    console::line(format!("\n{:.3} ms in all, each op run and waited for on its own", total * 1e3))?;
    Ok(ExitCode::SUCCESS)
}

fn seconds(op: &OpTime) -> f64 {
    op.median.as_secs_f64()
}
