//! What plans ask of a GPU: dispatches, levels and fences, pinned, so that a change that adds one says so here.

use wgrad::Plan;
use wgrad::data::DataSource;
use wgrad::nn::Network;
use wgrad::ops::kernel::GpuTraits;
use wgrad::run::{RunConfig, setup};

/// The plan of a training step of 64 images.
fn step(network: &str, dataset: &str) -> Plan {
    let network = Network::named(network).unwrap();
    let dataset = DataSource::named(dataset).unwrap();
    let plans = setup::plans(&RunConfig { network, dataset, batch_size: 64, ..RunConfig::default() }).unwrap();
    plans.into_iter().find(|plan| plan.name() == "train").unwrap()
}

#[test]
fn steps_take_as_many_dispatches_levels_and_fences_as_are_written_here() {
    let pinned = [
        ("lenet5", "mnist", "32 dispatches, 23 levels, 30 fences"),
        ("mlp", "mnist", "18 dispatches, 12 levels, 16 fences"),
        ("resnet", "cifar10", "265 dispatches, 218 levels, 259 fences"),
    ];
    for (network, dataset, want) in pinned {
        let counts = step(network, dataset).counts(GpuTraits::GPU).unwrap();
        assert_eq!(counts.to_string(), want, "{network}");
        let sum: usize = counts.levels.iter().map(|level| level.dispatches).sum();
        assert_eq!(sum, counts.dispatches);
        assert!(counts.levels.iter().all(|level| level.dispatches > 0 && level.workgroups > 0 && level.bytes > 0));
    }
}

/// Ops in the order of their levels wait less often than in the order in which they were built.
#[test]
fn the_order_of_levels_costs_no_fence() {
    for (network, dataset) in [("lenet5", "mnist"), ("resnet", "cifar10"), ("vgg", "cifar10")] {
        let plan = step(network, dataset);
        // A software adapter's plan shares slots wherever it can.
        let [gpu, software] = [GpuTraits::GPU, GpuTraits::SOFTWARE].map(|gpu| plan.counts(gpu).unwrap());
        assert!(gpu.fences <= software.fences, "{network}: {gpu} and {software}");
        assert!(plan.for_gpu(GpuTraits::GPU).unwrap().slot_bytes() >= plan.slot_bytes(), "{network}");
    }
}
