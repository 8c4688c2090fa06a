//! Gradients accumulated over batches, and what else a session does to its loss: the whole way from options to weights.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use std::cell::RefCell;

use wgrad::data::{ChannelStats, Dataset, Split};
use wgrad::graph::{Graph, StateKind};
use wgrad::nn::{Init, Mode};
use wgrad::optim::{GradientOptions, Optimizer, ParamGroup, RmsProp, Sgd, Update, UpdateOptions};
use wgrad::train::{EpochMetrics, Session, SessionOptions};
use wgrad::{DType, Device, Plan, Program, Result, StateDict, TensorType, Value};

use crate::harness::gpu;

const NUM_CLASSES: usize = 3;

/// Images of 4 by 4 whose class shows in their brightness.
fn images(num_images: usize, split: Split) -> Dataset {
    let label = |n: usize| (n * 7 % NUM_CLASSES) as u8;
    let pixel = |n: usize, i: usize| label(n) * 60 + (n * 31 + i * i * 17) as u8 % 90;
    let images = (0..num_images).flat_map(|n| (0..16).map(move |i| pixel(n, i))).collect();
    let labels = (0..num_images).map(|n| u16::from(label(n))).collect();
    Dataset::from_arrays(images, labels, ["a", "b", "c"], [1, 4, 4]).unwrap().with_split(split)
}

/// Two layers without batch norm, whose statistics would be of smaller batches.
fn network(graph: &mut Graph, images: Value, _: Mode) -> Result<Value> {
    let x = graph.flatten(images, 1)?;
    let x = wgrad::nn::Linear::new("fc1", 8).forward(graph, x)?;
    let x = graph.tanh(x)?;
    wgrad::nn::Linear::new("fc2", NUM_CLASSES).forward(graph, x)
}

fn options<'a>(train: &'a Dataset, test: &'a Dataset) -> SessionOptions<'a> {
    let normalize = ChannelStats { mean: vec![0.5], std: vec![0.25] };
    SessionOptions::validated_on_test(&network, train, test, normalize)
}

/// Two epochs; what the last one gave, the model, and the steps that a learning rate was asked for.
fn train(device: &Device, options: &SessionOptions<'_>, lr: f64) -> (EpochMetrics, StateDict, Vec<u64>) {
    let mut session = Session::new(device, options).unwrap();
    let steps = RefCell::new(Vec::new());
    let rates = |step: u64| {
        steps.borrow_mut().push(step);
        (lr / (1 + step) as f64, None)
    };
    session.run_epoch(0, &rates, &mut |_| ()).unwrap();
    let metrics = session.run_epoch(1, &rates, &mut |_| ()).unwrap();
    let mut steps = steps.take();
    steps.sort_unstable();
    steps.dedup();
    (metrics, session.model().unwrap(), steps)
}

fn furthest(a: &StateDict, b: &StateDict) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flat_map(|(name, a)| a.to_f64_vec().into_iter().zip(b[name].to_f64_vec()));
    pairs.map(|(a, b)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() }).fold(0.0, f64::max)
}

/// Three batches of 4 are one of 12, whether the last step of an epoch is whole (36), has whole batches only (40), a
/// whole and a short one (41), or is a short one alone (39).
#[test]
fn accumulating_equals_a_larger_batch() {
    let test = images(9, Split::Test);
    let update = UpdateOptions {
        groups: vec![ParamGroup { weight_decay: Some(0.0), ..ParamGroup::new(["*.bias"]) }],
        gradients: GradientOptions {
            l1: 1e-3,
            l2: 1e-3,
            clip_norm: Some(0.2),
            clip_value: Some(0.05),
            ..GradientOptions::default()
        },
    };
    let plain = UpdateOptions::default();
    let momentum = Optimizer::from(Sgd { momentum: 0.9, weight_decay: 0.01, ..Sgd::default() });
    // In f32 the sums of a batch are rounded in another order: some ε = 6e-8 of gradients around 1, in eight steps.
    for (device, tolerance) in [(&Device::CpuF64, 1e-12), (&Device::Cpu, 1e-5), (gpu(), 1e-5)] {
        for num_images in [36, 40, 41, 39] {
            for (update, optimizer) in [(&update, momentum.clone()), (&plain, Optimizer::from(RmsProp::default()))] {
                let data = images(num_images, Split::Train);
                let lr = if optimizer == momentum { 0.3 } else { 0.01 };
                let large = SessionOptions { batch_size: 12, update: update.clone(), ..options(&data, &test) };
                let large = SessionOptions { optimizer: optimizer.clone(), ..large };
                let gradients = GradientOptions { accumulate: 3, ..update.gradients.clone() };
                let accumulate = UpdateOptions { gradients, ..update.clone() };
                let small = SessionOptions { batch_size: 4, update: accumulate, ..options(&data, &test) };
                let small = SessionOptions { optimizer: optimizer.clone(), ..small };
                let (large_metrics, large, large_steps) = train(device, &large, lr);
                let (small_metrics, small, small_steps) = train(device, &small, lr);
                assert_eq!(small_steps, large_steps);
                assert_eq!(small_steps.len(), 2 * num_images.div_ceil(12));
                let distance = furthest(&small, &large);
                assert!(distance <= tolerance, "{device}, {num_images} images, {optimizer:?}: {distance:e} apart");
                let losses = (small_metrics.train.loss, large_metrics.train.loss);
                assert!((losses.0 - losses.1).abs() <= tolerance, "{device}: {losses:?}");
                assert_eq!(small_metrics.train.num_images, num_images as u64);
            }
        }
    }
}

/// The same with batches that are steps of their own, which is something else.
#[test]
fn accumulating_is_not_the_same_as_small_steps() {
    let (data, test) = (images(36, Split::Train), images(9, Split::Test));
    let accumulate = GradientOptions { accumulate: 3, ..GradientOptions::default() }.into();
    let with = SessionOptions { batch_size: 4, update: accumulate, ..options(&data, &test) };
    let without = SessionOptions { batch_size: 4, ..options(&data, &test) };
    let apart = furthest(&train(&Device::Cpu, &with, 0.1).1, &train(&Device::Cpu, &without, 0.1).1);
    assert!(apart > 1e-3, "{apart:e}");
}

/// Ops that only some steps run change no bit however steps are cut into runs, also beyond the rows of scalars that a
/// device holds at once.
#[test]
fn skipped_ops_do_not_depend_on_how_steps_are_cut_into_runs() {
    const NUM_BATCHES: usize = 2150;
    let options = GradientOptions { accumulate: 3, ..GradientOptions::default() }.into();
    let update = Update::new(Optimizer::sgd(0.5), options).unwrap();
    let run = |device: &Device, cuts: &[usize]| {
        let mut graph = Graph::new("train");
        let w = graph.parameter("w", [5], Init::Uniform { bound: 1.0 }).unwrap();
        let factor = graph.scalar("factor", DType::F32).unwrap();
        let y = graph.mul(w, factor).unwrap();
        let y = graph.square(y).unwrap();
        let loss = graph.mean_all(y).unwrap();
        update.minimize(&mut graph, loss).unwrap();
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 1).unwrap();
        let mut first = 0;
        for &count in cuts {
            let table = update.steps(count, 0.5).column("factor", |i| 0.01 * ((first + i) % 7) as f64);
            program.run("train", &table).unwrap();
            first += count;
        }
        program.state_dict(&[StateKind::Parameter, StateKind::Optimizer]).unwrap()
    };
    for device in [&Device::Cpu, gpu()] {
        let whole = run(device, &[NUM_BATCHES]);
        assert!(whole.contains_key("w.grad_sum.0") && whole.contains_key("w.momentum"), "{:?}", whole.keys());
        assert!(furthest(&whole, &run(device, &[])) > 0.0, "training changes the states");
        assert_eq!(run(device, &[1, 2, 500, 1647]), whole, "{device}");
        // Two batches of a step change nothing but the sum.
        let (before, after) = (run(device, &[3]), run(device, &[3, 2]));
        assert_eq!((&before["w"], &before["w.momentum"]), (&after["w"], &after["w.momentum"]));
        assert_ne!(before["w.grad_sum.0"], after["w.grad_sum.0"]);
    }
}

#[test]
fn values_that_only_some_steps_compute_stay_among_themselves() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([3])).unwrap();
    let inner = graph.only_if("on", |graph| graph.tanh(x)).unwrap();
    let error = graph.tanh(inner).unwrap_err().to_string();
    assert!(error.contains("only if on"), "{error}");
    graph.only_if("on", |graph| graph.tanh(inner)).unwrap();
    assert!(graph.only_if("on", |graph| graph.only_if("other", |graph| graph.tanh(x))).is_err());
}

/// With a learning rate of 0 the training images, validated on, tell what is in the training loss alone.
#[test]
fn reported_losses_are_with_and_without_penalties_and_smoothing() {
    let data = images(36, Split::Train);
    for device in [&Device::Cpu, gpu()] {
        let plain = train(device, &options(&data, &data), 0.0);
        assert!((plain.0.train.loss - plain.0.validation.loss).abs() < 1e-5);
        let (l1, l2) = (0.01, 0.1);
        let update = GradientOptions { l1, l2, ..GradientOptions::default() }.into();
        let (metrics, model, _) = train(device, &SessionOptions { update, ..options(&data, &data) }, 0.0);
        let weights = ["fc1.weight", "fc2.weight"].into_iter().flat_map(|name| model[name].to_f64_vec());
        let penalty: f64 = weights.map(|w| l1 * w.abs() + l2 * w * w).sum();
        assert!(penalty > 0.01);
        assert!((metrics.train.loss - metrics.validation.loss - penalty).abs() < 1e-5, "{device}: {metrics:?}");
        let (metrics, ..) = train(device, &SessionOptions { label_smoothing: 0.2, ..options(&data, &data) }, 0.0);
        assert!((metrics.train.loss - metrics.validation.loss).abs() > 1e-3, "{device}: {metrics:?}");
        assert!((metrics.validation.loss - plain.0.validation.loss).abs() < 1e-6);
    }
}

#[test]
fn label_smoothing_that_cannot_be_is_refused() {
    let data = images(12, Split::Train);
    let error = Session::new(&Device::Cpu, &SessionOptions { label_smoothing: 1.0, ..options(&data, &data) });
    assert!(error.is_err_and(|error| error.to_string().contains("label_smoothing")));
}
