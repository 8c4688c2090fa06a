//! The kernels that the cases run: modules with their entry points and constants.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wgrad::Plan;
use wgrad::ops::kernel::{Dispatch, GpuTraits, Kernel};

use crate::cases;
use crate::fused;
use crate::harness::plan_with_gradients;
use crate::ops::{conv2d_depthwise, conv2d_gemm};

/// The dispatches of every case and of whole steps, as a GPU, llvmpipe, and a software adapter without shuffles get them.
pub fn dispatches() -> Vec<Dispatch> {
    let devices = [GpuTraits::GPU, GpuTraits::SOFTWARE, GpuTraits { has_shuffles: false, ..GpuTraits::SOFTWARE }];
    let of_case = |case: cases::Case| {
        let plan = plan_with_gradients(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        (case.name, plan)
    };
    let of_step = |step: fused::Step| (step.name.to_owned(), Plan::new(&step.graph).expect("the graph is sound"));
    let mut all = Vec::new();
    let many_channels = conv2d_gemm::cases().into_iter().chain(conv2d_gemm::weight_cases());
    let large = many_channels.chain(conv2d_depthwise::cases());
    for (name, plan) in
        cases::all().into_iter().chain(large).map(of_case).chain(fused::steps().into_iter().map(of_step))
    {
        for gpu in devices {
            let steps = plan.dispatches(gpu).unwrap_or_else(|error| panic!("{name}: {error}"));
            all.extend(steps.into_iter().flat_map(|step| step.list));
        }
    }
    all
}

/// The kernels among them, each once.
pub fn kernels() -> Vec<Kernel> {
    let mut seen = BTreeSet::new();
    dispatches()
        .into_iter()
        .map(|dispatch| dispatch.kernel)
        .filter(|kernel| seen.insert(kernel.standard_wgsl()))
        .collect()
}

/// A module with its `override` constants settled, so that what depends on them is checked as well: sizes of workgroups
/// and of arrays, shifts, divisions.
pub fn settled(kernel: &Kernel) -> String {
    let line = |line: &str| {
        let Some(declared) = line.trim_start().strip_prefix("override ") else { return line.to_owned() };
        let (name, rest) = declared.split_once(':').expect("an override has a type");
        let (ty, default) = rest.split_once('=').expect("an override has a default");
        match kernel.constants.iter().find(|(constant, _)| *constant == name) {
            Some((_, value)) => format!("const {name}: {ty} = {}({value});", ty.trim()),
            None => format!("const {name}: {ty} = {default}"),
        }
    };
    kernel.standard_wgsl().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Writes modules as JSON to the tests' own folder, for another compiler.
pub fn write(modules: &BTreeSet<String>) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels.json");
    let text = serde_json::to_string(modules).expect("texts can be written");
    std::fs::write(&path, text).expect("the folder of the tests can be written to");
    path
}
