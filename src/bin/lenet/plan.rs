//! `lenet plan`: prints the plans of a training step and of evaluation.

use std::process::ExitCode;

use wgrad::Result;
use wgrad::run::setup;

use crate::console;
use crate::options::PlanOptions;

pub fn run(options: PlanOptions) -> Result<ExitCode> {
    // The other plans are these again, with fewer images or another set of them.
    let plans = setup::plans(&options.config()?)?;
    for plan in plans.iter().filter(|plan| ["train", "test"].contains(&plan.name())) {
        console::line(format!("{plan}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
