//! `lenet compare`: sets runs side by side.

use std::process::ExitCode;

use wgrad::Result;
use wgrad::report::Comparison;

use crate::console;
use crate::options::CompareOptions;

pub fn run(options: CompareOptions) -> Result<ExitCode> {
    let comparison = Comparison::read(&options.runs)?;
    console::line(comparison.table().trim_end())?;
    if let Some(path) = options.picture {
        comparison.curves().save(&path)?;
        console::line(format!("\ncurves    {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
