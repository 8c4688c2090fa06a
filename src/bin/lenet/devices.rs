//! `lenet devices`: lists what can be computed on.

use std::process::ExitCode;

use wgrad::Result;
use wgrad::exec::{DeviceInfo, devices};

use crate::console;

pub fn run() -> Result<ExitCode> {
    for info in devices() {
        let DeviceInfo { name, kind, backend, driver, limits, features, is_auto, .. } = info;
        let mark = if is_auto { "  <- --device auto" } else { "" };
        console::line(format!("{name}{mark}"))?;
        console::line(format!("    type      {kind}"))?;
        console::line(format!("    backend   {backend}"))?;
        console::line(format!("    driver    {driver}"))?;
        for (index, (limit, value)) in limits.iter().enumerate() {
            let title = if index == 0 { "limits" } else { "" };
            console::line(format!("    {title:<8}  {value} {limit}"))?;
        }
        if !features.is_empty() {
            console::line(format!("    features  {}", features.join(", ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
