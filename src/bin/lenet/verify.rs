//! `lenet verify`: checks a whole training step on a device against the f64 reference.

use std::process::ExitCode;

use wgrad::run::{RunData, setup};
use wgrad::{Device, Result};

use crate::console;
use crate::options::StepOptions;

pub fn run(options: StepOptions) -> Result<ExitCode> {
    let config = options.config("gpu")?;
    let (device, reason) = Device::select_with_reason(&config.device)?;
    console::line(format!("device    {device}: {reason}"))?;
    let data = RunData::load(&config)?;
    console::line(format!("data      {} from {}", config.dataset, data.source))?;
    let report = setup::verify_step(&config, &device, &data)?;
    console::line("\n  #  largest difference  op\n     of what rounding explains")?;
    for (index, op) in report.ops.iter().enumerate() {
        console::line(format!("{index:>3}  {:>18}  {}", console::percent(op.worst), op.label))?;
    }
    match report.difference {
        None => {
            console::line(format!("\nall {} ops agree with the f64 reference", report.ops.len()))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(difference) => {
            console::complain("error", &format!("the first op that differs: {difference}"));
            Ok(ExitCode::FAILURE)
        }
    }
}
