//! What plans ask of a GPU: dispatches, levels and fences, pinned in a file, so that a change that adds one says so there.

use wgrad::data::DataSource;
use wgrad::nn::{Network, ResNet};
use wgrad::ops::kernel::GpuTraits;
use wgrad::run::{RunConfig, setup};
use wgrad::{Graph, Plan, TensorType};

/// Of each network: the plan of a training step of 64 images on a real GPU.
const PINNED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan_counts.txt");

fn step(network: &str, dataset: &str) -> Plan {
    let network = Network::named(network).unwrap();
    let dataset = DataSource::named(dataset).unwrap();
    let plans = setup::plans(&RunConfig { network, dataset, batch_size: 64, ..RunConfig::default() }).unwrap();
    plans.into_iter().find(|plan| plan.name() == "train").unwrap()
}

#[test]
fn steps_take_as_many_dispatches_levels_and_fences_as_are_pinned() {
    let mut lines = String::new();
    for (network, dataset) in [("lenet5", "mnist"), ("mlp", "mnist"), ("vgg", "cifar10"), ("resnet", "cifar10")] {
        let counts = step(network, dataset).counts(GpuTraits::GPU).unwrap();
        lines += &format!("{network} on {dataset}: {counts}\n");
        let sum: usize = counts.levels.iter().map(|level| level.dispatches).sum();
        assert_eq!(sum, counts.dispatches);
        assert!(counts.levels.iter().all(|level| level.dispatches > 0 && level.workgroups > 0 && level.bytes > 0));
    }
    assert_eq!(lines, std::fs::read_to_string(PINNED).unwrap(), "counts changed; {PINNED} should have\n{lines}");
}

/// The step that the fused kernels were made for.
#[test]
fn lenet_takes_at_most_ten_dispatches_in_eight_levels() {
    let plan = step("lenet5", "mnist");
    let counts = plan.counts(GpuTraits::GPU).unwrap();
    assert!(counts.dispatches <= 10 && counts.levels.len() <= 8, "{counts}");
    // The plan for any device has every op apart.
    assert!(plan.to_string().contains("unary_backward"), "{plan}");
}

/// Values get memory of their own where sharing it would make an op wait, so that a level costs one fence or none beside
/// those of gradients that lie in one pack.
#[test]
fn the_order_of_levels_costs_no_fence() {
    for (network, dataset) in [("lenet5", "mnist"), ("resnet", "cifar10"), ("vgg", "cifar10")] {
        let plan = step(network, dataset);
        let counts = plan.counts(GpuTraits::GPU).unwrap();
        assert!(counts.fences < counts.dispatches, "{network}: {counts}");
        let gpu = plan.for_gpu(GpuTraits::GPU).unwrap();
        let again = gpu.for_gpu(GpuTraits::SOFTWARE).unwrap();
        assert_eq!(gpu.to_string(), again.to_string(), "a plan for one kind of GPU stays one");
    }
}

/// Sums over slices that the update adds up are one binding of it, of which the least device takes 128 MiB: a deep network
/// keeps gradients whole.
#[test]
fn sums_over_slices_fit_one_binding() {
    let network = Network::ResNet(ResNet { depth: 56, ..ResNet::default() });
    let dataset = DataSource::named("cifar10").unwrap();
    let plans = setup::plans(&RunConfig { network, dataset, batch_size: 64, ..RunConfig::default() }).unwrap();
    let plan = plans.into_iter().find(|plan| plan.name() == "train").unwrap().for_gpu(GpuTraits::GPU).unwrap();
    let text = plan.to_string();
    let of = |name: &str| text.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
    let num_floats = |line: &&str| {
        let (_, shape) = line.split_once("f32 (").unwrap();
        let (shape, _) = shape.split_once(')').unwrap();
        shape.split(", ").map(|extent| extent.parse::<usize>().unwrap()).product::<usize>()
    };
    let floats: usize = of("conv2d_grad_slices").iter().map(num_floats).sum();
    assert!(floats > 0 && 4 * floats <= 64 << 20, "{floats}");
    assert!(!of("conv2d_grad_weight").is_empty(), "{text}");
}

#[test]
fn tensors_of_more_elements_than_kernels_count_are_refused() {
    let mut graph = Graph::new("large");
    let x = graph.input("x", TensorType::f32([1 << 16, 1 << 16])).unwrap();
    let y = graph.square(x).unwrap();
    let sum = graph.sum_all(y).unwrap();
    graph.output("sum", sum).unwrap();
    for plan in [Plan::new(&graph).unwrap(), Plan::unfused(&graph).unwrap()] {
        let error = plan.for_gpu(GpuTraits::GPU).expect_err("an element too many").to_string();
        assert_eq!(
            error,
            "large x needs 4294967296 elements in one tensor, and a GPU allows 4294967295; use a smaller batch, or the CPU"
        );
    }
}
