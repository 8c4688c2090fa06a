//! The whole training step of LeNet-5 on FashionMNIST, data on the device, in images a second.
//!
//! `cargo bench --bench train_step`; `WGRAD_DEVICE` picks the GPU. Each measurement runs many steps in one go and
//! waits for them; before any, the device is held to the f64 reference over one step.

mod lenet;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wgrad::Device;

use lenet::Trainer;

const BATCH_SIZES: [usize; 3] = [4, 64, 256];
const NUM_IMAGES: usize = 2048;

fn train_step(criterion: &mut Criterion) {
    let mut devices = vec![("cpu", Device::Cpu)];
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    match Device::select_with_reason(&wanted) {
        Ok((device, reason)) => {
            let note = if device.info().is_software { ": a software adapter, these are no GPU's numbers" } else { "" };
            println!("gpu is {device} ({reason}){note}");
            devices.push(("gpu", device));
        }
        Err(error) => println!("no GPU is measured: {error}"),
    }
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, device) in &devices {
        for batch_size in BATCH_SIZES {
            let report = lenet::verify(device, NUM_IMAGES, batch_size).expect("the step runs on both");
            assert!(report.difference.is_none(), "{:?}", report.difference);
            let trainer = Trainer::new(device, NUM_IMAGES, batch_size, 0);
            let mut trainer = trainer.expect("the bundled data fits every device");
            group.throughput(Throughput::Elements(batch_size as u64));
            group.bench_function(BenchmarkId::new(*name, batch_size), |bencher| {
                bencher.iter_custom(|iterations| {
                    let steps = usize::try_from(iterations).expect("far fewer than usize holds");
                    let started = Instant::now();
                    trainer.run(steps).expect("the device answers");
                    started.elapsed()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
