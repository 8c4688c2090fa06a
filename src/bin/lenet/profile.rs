//! `lenet profile`: where the time of a training step goes, op by op.

mod compiling;
#[cfg(feature = "sanitize")]
mod estimate;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use wgrad::exec::profile::{OpTime, StageProfile, cpu_peak};
use wgrad::run::{RunData, setup};
use wgrad::{Device, Result};

use crate::console;
use crate::options::ProfileOptions;

/// The time to the end of the first step, by what it goes to.
struct Phases {
    begun: Instant,
    ended: Vec<(&'static str, Instant)>,
}

impl Phases {
    fn begin() -> Phases {
        Phases { begun: Instant::now(), ended: Vec::new() }
    }

    /// What is named took from the end of the phase before until now.
    fn end(&mut self, name: &'static str) {
        self.ended.push((name, Instant::now()));
    }

    fn show(&self) -> Result<()> {
        let starts = [self.begun].into_iter().chain(self.ended.iter().map(|(_, end)| *end));
        console::line(format!("\n{:>10}  until the first step was done", "ms"))?;
        for (start, (name, end)) in starts.zip(&self.ended) {
            console::line(format!("{:>10.1}  {name}", milliseconds(*end - start)))?;
        }
        let total = self.ended.last().map_or(Duration::ZERO, |(_, end)| *end - self.begun);
        console::line(format!("{:>10.1}  in all", milliseconds(total)))
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs of the step that the medians are over.
const REPEATS: usize = 100;

pub fn run(options: ProfileOptions) -> Result<ExitCode> {
    #[cfg(feature = "sanitize")]
    if let Some(machine) = options.estimate {
        return estimate::run(options.step, &machine);
    }
    if options.compiling {
        return compiling::run(options.step);
    }
    let (mut phases, config) = (Phases::begin(), options.step.config("gpu")?);
    let (device, reason) = Device::select_with_reason(&config.device)?;
    console::line(format!("device    {device}: {reason}"))?;
    phases.end("opening the device");
    let data = RunData::load_for(&config, &device)?;
    // A CPU has no kernels to compile.
    let is_cpu = matches!(device, Device::Cpu);
    phases.end(if is_cpu { "reading images" } else { "reading images, and compiling kernels meanwhile" });
    let mut session = setup::session(&config, &device, &data)?;
    phases.end("planning, and allocating memory");
    session.warm_up()?;
    phases.end(if is_cpu { "the first step" } else { "the first step, and what the driver still had to compile" });
    phases.show()?;
    let mut times = session.profile(REPEATS)?;
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
    if let Some(time) = session.profile_encoding(REPEATS)? {
        console::line(format!("{:.1} µs of the host to record the step", time.as_secs_f64() * 1e6))?;
    }
    if let Some(stages) = session.profile_stages(REPEATS)? {
        show_stages(&stages)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The stages of a step on the CPU, in order, with the share of the CPU's peak that each reaches.
fn show_stages(stages: &[StageProfile]) -> Result<()> {
    let [of_one, of_all] = cpu_peak();
    console::line(format!(
        "\nAs it runs, on a CPU that computes {:.0} GFLOP/s on one thread and {:.0} on all:",
        of_one / 1e9,
        of_all / 1e9
    ))?;
    console::line(format!("\n{:>10}  {:>6}  {:>8}  {:>6}  {:>6}  ops", "µs", "share", "GFLOP/s", "peak", "images"))?;
    let total: f64 = stages.iter().map(|stage| stage.median.as_secs_f64()).sum();
    for stage in stages {
        let time = stage.median.as_secs_f64();
        let rate = stage.cost.flops as f64 / time;
        let images = stage.images.map_or("all".to_owned(), |images| images.to_string());
        console::line(format!(
            "{:>10.1}  {:>6}  {:>8.1}  {:>6}  {images:>6}  {}",
            time * 1e6,
            console::percent(time / total),
            rate / 1e9,
            console::percent(rate / of_all),
            stage.labels.join(", ")
        ))?;
    }
    console::line(format!("\n{:.3} ms a step", total * 1e3))
}

fn seconds(op: &OpTime) -> f64 {
    op.median.as_secs_f64()
}
