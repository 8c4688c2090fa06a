//! `lenet profile --compiling`: what compiling each kernel of a training step takes.

use std::process::ExitCode;

use wgrad::run::setup;
use wgrad::{Device, Result};

use super::milliseconds;
use crate::console;
use crate::options::StepOptions;

pub fn run(options: StepOptions) -> Result<ExitCode> {
    let config = options.config("gpu")?;
    let device = Device::select(&config.device)?;
    console::line(format!("device    {device}"))?;
    let plans = setup::plans(&config)?;
    let plan = plans.first().expect("there is a plan of a training step");
    let Some(kernels) = device.profile_compiling(plan)? else {
        console::line("nothing is compiled for a CPU")?;
        return Ok(ExitCode::SUCCESS);
    };
    console::line(format!("\n{:>12}  {:>12}  kernel", "pipeline ms", "first use ms"))?;
    for kernel in &kernels {
        let times = [kernel.pipeline, kernel.first_use].map(milliseconds);
        console::line(format!("{:>12.1}  {:>12.1}  {}", times[0], times[1], kernel.label))?;
    }
    let pipelines: f64 = kernels.iter().map(|kernel| milliseconds(kernel.pipeline)).sum();
    let first_uses: f64 = kernels.iter().map(|kernel| milliseconds(kernel.first_use)).sum();
    console::line(format!("{pipelines:>12.1}  {first_uses:>12.1}  all {}, one after the other", kernels.len()))?;
    Ok(ExitCode::SUCCESS)
}
