//! How many loads of each kernel wait for each other on a real GPU, pinned in a file, so that a change that adds some says so
//! there. `WGRAD_PIN=1` writes the file.

use std::collections::BTreeMap;

use wgrad::Device;
use wgrad::data::DataSource;
use wgrad::nn::{Network, ResNet};
use wgrad::ops::kernel::GpuTraits;
use wgrad::run::{RunConfig, RunData, setup};
use wgrad::sanitize::{Interpreter, Options};

const PINNED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/load_chains.txt");

/// Workgroups of each dispatch that are run; the others are like them.
const SAMPLE: usize = 4;

/// Of each kernel of a training step the longest chain.
fn chains(network: Network, dataset: &str) -> BTreeMap<String, u64> {
    let dataset = DataSource::named(dataset).unwrap();
    let (train_limit, val_limit) = (Some(64), Some(16));
    let config = RunConfig { network, dataset, batch_size: 64, train_limit, val_limit, ..RunConfig::default() };
    let data = RunData::blank(&config).unwrap();
    let (plan, states, table) = setup::session(&config, &Device::Cpu, &data).unwrap().first_step().unwrap();
    let options = Options { count: true, max_workgroups: Some(SAMPLE), ..Options::default() };
    let mut chains = BTreeMap::new();
    for used in Interpreter::new(GpuTraits::GPU, options).count(&plan, &states, &table, 0).unwrap() {
        let counters = used.report.counters.expect("asked for");
        let longest: &mut u64 = chains.entry(used.kernel).or_default();
        *longest = counters.load_chain.max(*longest);
    }
    chains
}

#[test]
fn loads_that_wait_for_each_other_are_as_many_as_are_pinned() {
    let small = Network::ResNet(ResNet { depth: 8, ..ResNet::default() });
    let mut lines = String::new();
    for (name, network, dataset) in [
        ("lenet5", Network::named("lenet5").unwrap(), "mnist"),
        ("mlp", Network::named("mlp").unwrap(), "mnist"),
        ("resnet of 8 layers", small, "cifar10"),
    ] {
        for (kernel, chain) in chains(network, dataset) {
            lines += &format!("{name} on {dataset}: {kernel} {chain}\n");
        }
    }
    if std::env::var_os("WGRAD_PIN").is_some() {
        std::fs::write(PINNED, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(PINNED).unwrap(), "chains changed; {PINNED} should have\n{lines}");
}
