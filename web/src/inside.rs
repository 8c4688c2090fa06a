//! Looking inside a training step: its plan, its kernels, where its time goes, and whether it is right.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;
use wgrad::exec::verify::Report;
use wgrad::ops::kernel::GpuTraits;
use wgrad::run::{RunData, setup};
use wgrad::{Device, Result};

use crate::answer::answer;
use crate::device::device;
use crate::options;

/// Runs of a step that the means of a profile are over: a browser's clock counts in steps of 0.1 ms.
const REPEATS: usize = 40;

/// The plan of a training step as a table, as this worker's device runs it.
#[wasm_bindgen]
pub fn plan(given: &str) -> String {
    answer(options::config(given).and_then(|config| {
        let plans = setup::plans(&config)?;
        let Some(train) = plans.iter().find(|plan| plan.name() == "train") else { return Ok(String::new()) };
        match device().gpu_traits() {
            Some(traits) => Ok(train.for_gpu(traits)?.to_string()),
            None => Ok(train.to_string()),
        }
    }))
}

/// The kernels of a training step, each once, as this worker's device runs them (a GPU's where that is the CPU).
#[wasm_bindgen]
pub fn kernels(given: &str) -> String {
    #[derive(Serialize)]
    struct Shown {
        label: String,
        wgsl: String,
    }
    answer(options::config(given).and_then(|config| {
        let traits = device().gpu_traits().unwrap_or(GpuTraits::GPU);
        let (mut seen, mut shown) = (BTreeSet::new(), Vec::new());
        for plan in setup::plans(&config)?.iter().filter(|plan| plan.name() == "train") {
            for dispatch in plan.dispatches(traits)?.iter().flat_map(|dispatches| &dispatches.list) {
                let wgsl = dispatch.kernel.standard_wgsl();
                if seen.insert(wgsl.clone()) {
                    shown.push(Shown { label: dispatch.kernel.label(), wgsl });
                }
            }
        }
        Ok(shown)
    }))
}

/// Every shader of the library, those of other networks, ops and optimizers included, as (name, WGSL).
#[wasm_bindgen]
pub fn shaders() -> String {
    let all = [wgrad::ops::shaders(), wgrad::optim::shaders()].concat();
    answer(Ok(all.iter().map(|shader| (shader.name, shader.standard_wgsl())).collect::<Vec<_>>()))
}

/// Where the time of a training step goes, the longest first.
#[wasm_bindgen(jspi)]
pub fn profile(given: String) -> String {
    #[derive(Serialize)]
    struct Row {
        label: String,
        us: f64,
        flops: u64,
        bytes: u64,
    }
    answer(options::config(&given).and_then(|config| {
        let data = RunData::load(&config)?;
        let mut times = setup::session(&config, &device(), &data)?.profile(REPEATS)?;
        times.sort_by_key(|op| std::cmp::Reverse(op.mean));
        let row = |op: &wgrad::exec::profile::OpTime| Row {
            label: op.label.clone(),
            us: op.mean.as_secs_f64() * 1e6,
            flops: op.cost.flops,
            bytes: op.cost.bytes,
        };
        Ok(times.iter().map(row).collect::<Vec<_>>())
    }))
}

/// Checks a training step on this worker's device against the f64 reference, op by op; with a text for a bug report.
#[wasm_bindgen(jspi)]
pub fn verify(given: String) -> String {
    answer(options::config(&given).and_then(|config| {
        let device = device();
        let data = RunData::load(&config)?;
        let report = setup::verify_step(&config, &device, &data)?;
        let worst = report.ops.iter().map(|op| op.worst).fold(0.0, f64::max);
        let ops: Vec<Value> = report.ops.iter().map(|op| json!([op.label, op.worst])).collect();
        Ok(json!({
            "agrees": report.difference.is_none(),
            "worst": worst,
            "ops": ops,
            "text": text(&device, &config.to_toml()?, &report)?,
        }))
    }))
}

fn text(device: &Device, settings: &str, report: &Report) -> Result<String> {
    let info = device.info();
    let mut text = format!(
        "wgrad {}\ndevice: {} ({}, {}) {}\n",
        env!("CARGO_PKG_VERSION"),
        info.name,
        info.kind,
        info.backend,
        info.driver
    );
    // Writing to a string cannot fail.
    for (name, value) in &info.limits {
        let _ = writeln!(text, "{name}: {value}");
    }
    let _ = match &report.difference {
        None => writeln!(text, "\nall {} ops agree with the f64 reference", report.ops.len()),
        Some(difference) => writeln!(text, "\nthe first op that differs: {difference}"),
    };
    let _ = writeln!(text, "\n  #  share of what rounding explains  op");
    for (index, op) in report.ops.iter().enumerate() {
        let _ = writeln!(text, "{index:>3}  {:>32.4}  {}", op.worst, op.label);
    }
    let _ = write!(text, "\n{settings}");
    Ok(text)
}
