//! The whole training step of LeNet-5 on FashionMNIST, data on the device, in images a second.
//!
//! `cargo bench --bench train_step`; `WGRAD_DEVICE` picks the GPU. Each measurement runs many steps in one go and
//! waits for them; before any, the device is held to the f64 reference over one step.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wgrad::data::{self, FashionMnist, Normalize};
use wgrad::exec::verify::verify;
use wgrad::nn::{Classifier, LeNet5};
use wgrad::optim::Optimizer;
use wgrad::train::{Session, SessionOptions};
use wgrad::{Device, StateDict, StepTable};

const BATCH_SIZES: [usize; 3] = [4, 64, 256];
const NUM_IMAGES: usize = 2048;

fn session(device: &Device, batch_size: usize) -> wgrad::Result<Session> {
    let mut splits = data::load(&FashionMnist {}.into(), None)?;
    splits.train.limit(NUM_IMAGES);
    splits.test.limit(batch_size);
    Session::new(
        device,
        &SessionOptions {
            model: &Classifier::new(LeNet5::default(), 10),
            train: &splits.train,
            validation: None,
            test: &splits.test,
            batch_size,
            eval_batch_size: batch_size,
            normalize: Normalize::Dataset.stats(&splits.train)?,
            optimizer: Optimizer::sgd_momentum(0.9),
            update: wgrad::optim::UpdateOptions::default(),
            label_smoothing: 0.0,
            shuffle: true,
            seed: 0,
            augment: None,
            diagnostics: None,
        },
    )
}

/// The scalars of `steps` training steps that go over the images again and again.
fn table(steps: usize, batch_size: usize) -> StepTable {
    let batches = NUM_IMAGES / batch_size;
    StepTable::new(steps)
        .column("start", |step| ((step % batches) * batch_size) as f64)
        .column("row", |step| (step % batches) as f64)
        .constant("step", 0.0)
        .constant("lr", 0.01)
        .constant("momentum", 0.9)
        .constant("grad_weight", 1.0)
}

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
            let mut session = session(device, batch_size).expect("the bundled data fits every device");
            check(device, &mut session, batch_size);
            group.throughput(Throughput::Elements(batch_size as u64));
            group.bench_function(BenchmarkId::new(*name, batch_size), |bencher| {
                bencher.iter_custom(|iterations| {
                    let steps = usize::try_from(iterations).expect("far fewer than usize holds");
                    let table = table(steps, batch_size);
                    let started = Instant::now();
                    session.program().run("train", &table).expect("the device answers");
                    started.elapsed()
                });
            });
        }
    }
    group.finish();
}

/// Holds one step to the f64 reference before any is timed.
fn check(device: &Device, session: &mut Session, batch_size: usize) {
    let plan = session.program().plans()[0].clone();
    let names: Vec<String> = plan.states().iter().map(|spec| spec.name.clone()).collect();
    let states: StateDict =
        names.into_iter().map(|name| (name.clone(), session.program().read(&name).expect("a state"))).collect();
    let report = verify(device, &plan, &states, &table(1, batch_size), 0).expect("the plan runs on both");
    assert!(report.difference.is_none(), "{:?}", report.difference);
}

criterion_group!(benches, train_step);
criterion_main!(benches);
