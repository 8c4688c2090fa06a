//! `lenet compare`: compares runs.

use std::process::ExitCode;

use wgrad::Result;
use wgrad::report::Comparison;
use wgrad::run::folder::{read_history, runs_in};

use crate::console;
use crate::options::CompareOptions;

pub fn run(options: CompareOptions) -> Result<ExitCode> {
    let mut runs = Vec::new();
    for folder in &options.runs {
        for run in runs_in(folder)? {
            runs.push(read_history(&run)?);
        }
    }
    let comparison = Comparison::of(runs)?;
    console::line(comparison.table().trim_end())?;
    if let Some(path) = options.picture {
        comparison.curves().save(&path)?;
        console::line(format!("\ncurves    {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
