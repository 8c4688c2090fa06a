//! Models side by side on a GPU: each has the metrics and weights that it has alone, bit for bit, whatever the others do.

use std::thread;

use wgrad::data::{ChannelStats, Dataset};
use wgrad::exec::SideBySide;
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::{Classifier, Network};
use wgrad::ops::Augment;
use wgrad::optim::{GradientOptions, Optimizer, UpdateOptions};
use wgrad::schedule::{OneCycle, Schedule};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::{DiagnosticsOptions, EpochReport, FitOptions, Observer, Session, SessionOptions, fit};
use wgrad::{Device, Result, StateDict};

use crate::harness::{gpu, portable};
use crate::networks::{NUM_CLASSES, fill, small};

/// Images that have something to learn: brighter ones have higher labels.
fn dataset(count: usize, [channels, height, width]: [usize; 3]) -> Dataset {
    let size = channels * height * width;
    let label = |image: usize| (image * 7 / 3) % NUM_CLASSES;
    let noise = fill(1, count * size);
    let byte = |index: usize| (80.0 + 40.0 * label(index / size) as f64 * 0.5 + 90.0 * noise[index]) as u8;
    let labels = (0..count).map(|image| label(image) as u16).collect();
    let names: Vec<String> = (0..NUM_CLASSES).map(|class| class.to_string()).collect();
    Dataset::from_arrays((0..count * size).map(byte).collect(), labels, names, [channels, height, width]).unwrap()
}

struct Data {
    train: Dataset,
    test: Dataset,
}

impl Data {
    fn new(shape: [usize; 3]) -> Data {
        Data { train: dataset(38, shape), test: dataset(17, shape) }
    }
}

/// What models side by side may differ in.
#[derive(Clone)]
struct Trial {
    seed: u64,
    optimizer: Optimizer,
    fit: FitOptions,
    label_smoothing: f64,
}

fn trial(seed: u64, optimizer: Optimizer, lr: f64) -> Trial {
    Trial { seed, optimizer, fit: FitOptions { early_stopping: None, ..FitOptions::new(3, lr) }, label_smoothing: 0.0 }
}

/// Three that end at different times.
fn trials() -> Vec<Trial> {
    let schedule = Schedule::one_cycle(OneCycle::new(0.1, None)).unwrap();
    let sgd = Optimizer::sgd;
    let mut trials = vec![trial(0, sgd(0.9), 0.02), trial(1, sgd(0.5), 0.1), trial(2, sgd(0.9), 0.05)];
    trials[0].fit.epochs = 4;
    trials[0].fit.schedule = schedule;
    trials[1].fit.early_stopping =
        Some(EarlyStopOptions { patience: 1, min_delta: 1e3, ..EarlyStopOptions::default() });
    trials[1].fit.epochs = 20;
    trials
}

/// What a run leaves: its epochs without their times, the test's loss, and the weights.
#[derive(Debug, PartialEq)]
struct Trained {
    epochs: Vec<String>,
    test_loss: f64,
    model: StateDict,
}

#[derive(Default)]
struct Epochs(Vec<String>);

impl Observer for Epochs {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        // Every bit of a number shows in what it is printed as.
        self.0.push(format!("{:?}", EpochReport { images_per_second: 0.0, ..report.clone() }));
        Ok(())
    }
}

type Change = fn(&mut SessionOptions<'_>);

fn train(device: &Device, network: &Network, data: &Data, (trial, change): (&Trial, Change)) -> Result<Trained> {
    let model = Classifier::new(network.clone(), NUM_CLASSES);
    let channels = data.train.shape()[0];
    let normalize = ChannelStats { mean: vec![0.5; channels], std: vec![0.25; channels] };
    let mut options = SessionOptions {
        batch_size: 8,
        eval_batch_size: 10,
        optimizer: trial.optimizer.clone(),
        seed: trial.seed,
        label_smoothing: trial.label_smoothing,
        ..SessionOptions::validated_on_test(&model, &data.train, &data.test, normalize)
    };
    change(&mut options);
    let mut session = Session::new(device, &options)?;
    let mut epochs = Epochs::default();
    let outcome = fit(&mut session, &trial.fit, &mut epochs)?;
    Ok(Trained { epochs: epochs.0, test_loss: outcome.test_loss, model: session.model()? })
}

fn is_image_data(spec: &StateSpec) -> bool {
    spec.kind == StateKind::Input && (spec.name.contains(".images.") || spec.name.ends_with(".labels"))
}

/// Trains all at once, each in a thread and a place of its own.
fn beside(device: &Device, network: &Network, data: &Data, trials: &[Trial], change: Change) -> Vec<Trained> {
    let group = SideBySide::new(device, trials.len(), is_image_data).unwrap();
    let places: Vec<Device> = trials.iter().map(|_| group.take().unwrap()).collect();
    assert!(group.take().is_none());
    thread::scope(|scope| {
        let threads: Vec<_> = trials
            .iter()
            .zip(places)
            // Each thread has its place for itself, and gives it back at its end.
            .map(|(trial, place)| scope.spawn(move || train(&place, network, data, (trial, change)).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn check(device: &Device, network: &Network, shape: [usize; 3], trials: &[Trial], change: Change) {
    let data = Data::new(shape);
    let alone: Vec<Trained> =
        trials.iter().map(|trial| train(device, network, &data, (trial, change)).unwrap()).collect();
    assert!(alone.windows(2).all(|pair| pair[0].model != pair[1].model), "the trials differ");
    let beside = beside(device, network, &data, trials, change);
    for (index, (alone, beside)) in alone.iter().zip(&beside).enumerate() {
        assert_eq!(alone.epochs, beside.epochs, "{}, model {index} on {device}", network.title());
        assert!(alone == beside, "{}, weights of model {index} on {device}", network.title());
    }
}

#[test]
fn every_network_trains_beside_others_as_it_does_alone() {
    for (network, shape) in small() {
        check(gpu(), &network, shape, &trials(), |_| ());
    }
}

#[test]
fn the_kernels_of_a_real_gpu_take_several_models_too() {
    for (network, shape) in small() {
        check(portable()[0], &network, shape, &trials(), |_| ());
    }
}

#[test]
fn optimizers_transforms_and_augmentation_are_each_models_own() {
    let (network, shape) = small().swap_remove(0);
    let mut adam = vec![trial(5, Optimizer::adamw(), 1e-3), trial(6, Optimizer::adamw(), 1e-2)];
    adam[1].fit.epochs = 2;
    check(gpu(), &network, shape, &adam, |options| {
        options.augment = Some(Augment { crop_padding: 2, flip_probability: 0.5, ..Augment::default() });
        options.diagnostics = Some(DiagnosticsOptions { histograms: true, pre_activations: false });
    });
    let mut smooth = vec![trial(7, Optimizer::sgd(0.9), 0.05), trial(7, Optimizer::sgd(0.9), 0.05)];
    (smooth[0].label_smoothing, smooth[1].label_smoothing) = (0.1, 0.2);
    check(gpu(), &network, shape, &smooth, |options| {
        let gradients = GradientOptions { accumulate: 2, clip_norm: Some(0.5), l2: 1e-3, ..GradientOptions::default() };
        options.update = UpdateOptions { gradients, ..UpdateOptions::default() };
    });
}

#[test]
fn a_model_of_another_form_trains_by_itself_and_keeps_nobody_waiting() {
    let data = Data::new([3, 9, 8]);
    let networks = [small().swap_remove(2).0, small().swap_remove(5).0];
    let group = SideBySide::new(gpu(), 3, |_| false).unwrap();
    let trial = trial(3, Optimizer::sgd(0.9), 0.05);
    let places = [&networks[0], &networks[1], &networks[0]].map(|network| (network, group.take().unwrap()));
    let data = &data;
    let trained: Vec<Trained> = thread::scope(|scope| {
        let threads = places.map(|(network, place)| {
            let trial = &trial;
            scope.spawn(move || train(&place, network, data, (trial, |_| ())).unwrap())
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(trained[0] == trained[2]);
    assert!(trained[1] == train(gpu(), &networks[1], data, (&trial, |_| ())).unwrap());
    // The places are free again.
    assert!(group.take().is_some());
}

#[test]
fn a_cpu_has_no_places() {
    let error = SideBySide::new(&Device::Cpu, 2, |_| false).err().unwrap();
    assert!(error.is_usage() && error.to_string().contains("GPU"), "{error}");
    assert!(SideBySide::new(gpu(), 0, |_| false).is_err());
}
