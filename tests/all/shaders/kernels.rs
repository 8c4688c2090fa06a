//! The kernels that the cases run: modules with their entry points and constants.

use std::path::{Path, PathBuf};

use serde::Serialize;
use wgrad::Plan;
use wgrad::ops::kernel::{Dispatch, GpuTraits, Kernel};

use crate::cases;
use crate::fused;
use crate::harness::plan_with_gradients;

/// The dispatches of every case and of whole steps, as a GPU, llvmpipe, and a software adapter without shuffles get them.
pub fn dispatches() -> Vec<Dispatch> {
    let devices = [GpuTraits::GPU, GpuTraits::SOFTWARE, GpuTraits { has_shuffles: false, ..GpuTraits::SOFTWARE }];
    let of_case = |case: cases::Case| {
        let plan = plan_with_gradients(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        (case.name, plan)
    };
    let of_step = |step: fused::Step| (step.name.to_owned(), Plan::new(&step.graph).expect("the graph is sound"));
    let mut all = Vec::new();
    for (name, plan) in cases::all().into_iter().map(of_case).chain(fused::steps().into_iter().map(of_step)) {
        for gpu in devices {
            let steps = plan.dispatches(gpu).unwrap_or_else(|error| panic!("{name}: {error}"));
            all.extend(steps.into_iter().flat_map(|step| step.list));
        }
    }
    all
}

/// The kernels among them, each once.
pub fn kernels() -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for Dispatch { kernel, .. } in dispatches() {
        if seen.insert(kernel.standard_wgsl()) {
            kernels.push(kernel);
        }
    }
    kernels
}

/// Writes the kernels for another compiler: that of a browser, to which `web/test.sh` hands them. A file of JSON in the
/// tests' own folder.
pub fn write(kernels: &[Kernel]) -> PathBuf {
    #[derive(Serialize)]
    struct Written {
        label: String,
        wgsl: String,
        entry_point: String,
        constants: Vec<(&'static str, f64)>,
    }
    let written = |kernel: &Kernel| Written {
        label: kernel.label(),
        wgsl: kernel.standard_wgsl(),
        entry_point: kernel.entry_point.to_string(),
        constants: kernel.constants.clone(),
    };
    let text = serde_json::to_string(&kernels.iter().map(written).collect::<Vec<_>>()).expect("names are texts");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels.json");
    std::fs::write(&path, text).expect("the folder of the tests can be written to");
    path
}
