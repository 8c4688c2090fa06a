//! The device of this worker: opened once, then used by everything.

use std::cell::RefCell;

use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wgrad::{Device, Result};

use crate::answer::answer;

thread_local! {
    static DEVICE: RefCell<Device> = const { RefCell::new(Device::Cpu) };
}

/// What the page shows of a device.
#[derive(Serialize)]
struct Shown {
    name: String,
    kind: &'static str,
    backend: String,
    driver: String,
    limits: Vec<(&'static str, u64)>,
    features: Vec<&'static str>,
    is_gpu: bool,
    is_software: bool,
    reason: String,
}

/// Opens a device, as `Device::select` takes it: "gpu", "auto" or "cpu".
#[wasm_bindgen(jspi)]
pub fn open_device(wanted: String) -> String {
    answer(open(&wanted))
}

fn open(wanted: &str) -> Result<Shown> {
    let (device, reason) = Device::select_with_reason(wanted)?;
    let info = device.info();
    let is_gpu = matches!(device, Device::Gpu(_));
    DEVICE.set(device);
    Ok(Shown {
        name: info.name,
        kind: info.kind,
        backend: info.backend,
        driver: info.driver,
        limits: info.limits,
        features: info.features,
        is_gpu,
        is_software: info.is_software,
        reason,
    })
}

/// The device that was opened, else the CPU.
pub fn device() -> Device {
    DEVICE.with_borrow(Clone::clone)
}
