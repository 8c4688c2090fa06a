//! Training as a whole: against runs of PyTorch (`tests/golden/README.md`), reproducible to the byte, without a new
//! object after the first epoch, and what `fit` decides.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use safetensors::SafeTensors;
use wgrad::data::{ChannelStats, Cifar10, Dataset, Source, bundled};
use wgrad::nn::{Classifier, LeNet5, Mode, Model, Network};
use wgrad::ops::CrossEntropy;
use wgrad::optim::{GradientOptions, Optimizer, UpdateOptions};
use wgrad::schedule::{Interval, Mode as Direction, Plateau, Schedule};
use wgrad::train::early_stop::{EarlyStopOptions, Monitor};
use wgrad::train::{
    EpochReport, Event, FitOptions, LatestBatches, LrFindOptions, Observer, Outcome, Session, SessionOptions, fit,
    lr_find,
};
use wgrad::{DType, Device, Error, Graph, Plan, Program, Result, StateDict, Tensor, TensorType};

use crate::harness::gpu;

const LR: f64 = 0.01;
const MOMENTUM: f64 = 0.9;

/// The first `num_train` and `num_test` of the bundled images.
fn images(num_train: usize, num_test: usize) -> (Dataset, Dataset) {
    let mut splits = bundled::fashion_mnist().unwrap();
    splits.train.limit(num_train);
    splits.test.limit(num_test);
    (splits.train, splits.test)
}

fn unit_stats(channels: usize) -> ChannelStats {
    ChannelStats { mean: vec![0.0; channels], std: vec![1.0; channels] }
}

fn options<'a>(model: &'a dyn Model, train: &'a Dataset, test: &'a Dataset, batch_size: usize) -> SessionOptions<'a> {
    SessionOptions {
        model,
        train,
        validation: None,
        test,
        batch_size,
        eval_batch_size: 100,
        normalize: unit_stats(train.shape()[0]),
        optimizer: Optimizer::sgd(MOMENTUM),
        shuffle: true,
        seed: 1,
        update: Default::default(),
        label_smoothing: 0.0,
        augment: None,
        diagnostics: None,
    }
}

// ---- against PyTorch

/// A run of `lenet_steps.safetensors`.
struct Golden {
    bytes: Vec<u8>,
    prefix: &'static str,
    model: Classifier,
    train: Dataset,
    batch_size: usize,
}

impl Golden {
    fn new(prefix: &'static str) -> Golden {
        let bytes =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lenet_steps.safetensors")).unwrap();
        let model = Classifier::new(LeNet5 { batch_norm: prefix == "batch_norm/", ..LeNet5::default() }, 10);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let labels: Vec<u16> = words(&file, &format!("{prefix}labels")).iter().map(|&label| label as u16).collect();
        let (train, batch_size) = if prefix == "cifar/" {
            let images = file.tensor("cifar/images").unwrap().data().to_vec();
            let class_names = Cifar10 {}.class_names(None).unwrap();
            (Dataset::from_arrays(images, labels, class_names, Cifar10 {}.image_shape()).unwrap(), 8)
        } else {
            let (train, _) = images(labels.len(), 1);
            assert_eq!(train.labels(), labels, "the images are those that PyTorch was trained on");
            (train, 32)
        };
        // `image_byte_sum` of each case.
        let sum: u64 = train.images().flatten().map(|&byte| u64::from(byte)).sum();
        let wanted = [("", 182_017_615), ("batch_norm/", 36_822_670), ("cifar/", 15_656_021)];
        assert!(wanted.contains(&(prefix, sum)), "{prefix}: {sum}");
        Golden { bytes, prefix, model, train, batch_size }
    }

    fn num_steps(&self) -> usize {
        self.train.len() / self.batch_size
    }

    fn losses(&self) -> Vec<f64> {
        self.tensor("losses_f64")
    }

    /// A tensor by its key behind the prefix.
    fn tensor(&self, key: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(&format!("{}{key}", self.prefix)).unwrap();
        match view.dtype() {
            safetensors::Dtype::F64 => view.data().as_chunks().0.iter().map(|&x| f64::from_le_bytes(x)).collect(),
            safetensors::Dtype::F32 => {
                view.data().as_chunks().0.iter().map(|&x| f64::from(f32::from_le_bytes(x))).collect()
            }
            other => panic!("{key} is {other:?}"),
        }
    }

    fn init(&self) -> StateDict {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let start = format!("{}init/", self.prefix);
        let names = file.names().into_iter().filter_map(|name| name.strip_prefix(&start).map(str::to_owned));
        let load = |name: String| {
            let shape = file.tensor(&format!("{start}{name}")).unwrap().shape().to_vec();
            let values = self.tensor(&format!("init/{name}")).iter().map(|&x| x as f32).collect();
            (name, Tensor::f32(shape, values).unwrap())
        };
        names.map(load).collect()
    }

    /// The largest distance of a model from PyTorch's at the end, with the tensor it is in. No element is NaN.
    fn final_distance(&self, model: &StateDict) -> (f64, String) {
        let mut worst = (0.0, String::new());
        assert_eq!(model.len(), self.init().len());
        for (name, tensor) in model {
            let distance = distance(&tensor.to_f64_vec(), &self.tensor(&format!("final/{name}")));
            if distance > worst.0 {
                worst = (distance, name.clone());
            }
        }
        worst
    }
}

fn words(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
}

fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|x| x.is_finite()));
    got.iter().zip(want).fold(0.0, |worst: f64, (got, want)| worst.max((got - want).abs()))
}

/// How far PyTorch's own f32 runs are from its f64 runs at most, over orders of summation: the README's table, losses
/// and final weights, absolute. Ours may be three times as far, which is still fifty times closer than one ReLU or
/// pooling decided the other way takes it (1e-4).
fn f32_bounds(prefix: &str) -> (f64, f64) {
    let (loss, weights) = match prefix {
        "" => (9.1e-7, 1.9e-6),
        "batch_norm/" => (3.8e-7, 2.3e-7),
        _ => (2.2e-7, 1.5e-8),
    };
    (3.0 * loss, 3.0 * weights)
}

/// Steps in which a wrong gradient or update would have shown: every weight has moved many times.
const STEPS_BEFORE_A_FLIP: usize = 8;

/// The most that a ReLU or a pooling decided the other way changes a loss at first.
const FLIP: f64 = 1e-4;

/// What that comes to at the end of the run, where the loss falls fast: once 2.5e-2 was seen, with groups of 8 images.
const AFTER_A_FLIP: f64 = 5e-2;

/// The trainer itself follows PyTorch's run in f32: gathering, all steps in a few submissions, metrics.
fn follow_in_f32(device: &Device, prefix: &'static str) {
    let golden = Golden::new(prefix);
    let base = options(&golden.model, &golden.train, &golden.train, golden.batch_size);
    let mut session = Session::new(device, &SessionOptions { shuffle: false, ..base }).unwrap();
    session.load_model(&golden.init()).unwrap();
    session.run_epoch(0, &|_| (LR, None), &mut |_| ()).unwrap();
    let losses = session.step_losses().unwrap();
    let (loss_distance, weights) = (distance(&losses, &golden.losses()), session.model().unwrap());
    let (weight_distance, name) = golden.final_distance(&weights);
    let (loss_bound, weight_bound) = f32_bounds(prefix);
    println!("{device} {prefix}: losses {loss_distance:.1e}, weights {weight_distance:.1e} ({name})");
    let golden_losses = golden.losses();
    let off = |step: &usize| (losses[*step] - golden_losses[*step]).abs();
    let Some(first) = (0..losses.len()).find(|step| off(step) > loss_bound) else {
        assert!(weight_distance <= weight_bound, "{device} {prefix}: {name} is {weight_distance:e} off");
        return;
    };
    // A ReLU or a pooling that rounding decided the other way: all is well before, the first difference is small, and
    // training takes it from there.
    let begins = off(&first);
    assert!(first >= STEPS_BEFORE_A_FLIP, "{device} {prefix}: losses are {begins:e} off from step {first} on");
    assert!(begins <= FLIP, "{device} {prefix}: losses are {begins:e} off at step {first}, after none");
    assert!(loss_distance <= AFTER_A_FLIP, "{device} {prefix}: losses are {loss_distance:e} off");
    assert!(weight_distance <= AFTER_A_FLIP, "{device} {prefix}: {name} is {weight_distance:e} off");
}

#[test]
fn lenet_follows_pytorch_on_the_cpu() {
    for prefix in ["", "batch_norm/", "cifar/"] {
        follow_in_f32(&Device::Cpu, prefix);
    }
}

#[test]
fn lenet_follows_pytorch_on_the_gpu() {
    for prefix in ["", "batch_norm/", "cifar/"] {
        follow_in_f32(gpu(), prefix);
    }
}

/// A training step over a batch that is written to it, with the gradients of all parameters as outputs.
fn step_plan(golden: &Golden) -> Plan {
    let mut graph = Graph::new("step");
    let [channels, height, width] = golden.train.shape();
    let images = TensorType::f32([golden.batch_size, channels, height, width]);
    let images = graph.input("images", images).unwrap();
    let labels = graph.input("labels", TensorType::u32([golden.batch_size])).unwrap();
    let step = graph.scalar("step", DType::U32).unwrap();
    let logits = golden.model.logits(&mut graph, images, Mode::Train { seed: 0, step }).unwrap();
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default()).unwrap();
    let grads = graph.backward(loss).unwrap();
    graph.output("loss", loss).unwrap();
    for (name, parameter) in graph.parameters() {
        graph.output(&format!("grad of {name}"), grads.get(parameter).unwrap()).unwrap();
    }
    Optimizer::sgd(MOMENTUM).update(&mut graph, &grads).unwrap();
    Plan::new(&graph).unwrap()
}

/// Runs step by step from batches that are rounded to f32 as PyTorch's were; `after_first` sees the program after
/// step 0.
fn follow_by_steps(
    device: &Device,
    golden: &Golden,
    num_steps: usize,
    after_first: impl FnOnce(&mut Program),
) -> (Vec<f64>, StateDict) {
    let mut program = Program::compile(device, vec![step_plan(golden)], 0).unwrap();
    program.load_state_dict(&golden.init(), &wgrad::exec::MODEL_KINDS).unwrap();
    let batch = golden.batch_size;
    let [channels, height, width] = golden.train.shape();
    let mut after_first = Some(after_first);
    let mut losses = Vec::new();
    for step in 0..num_steps {
        let bytes = (step * batch..(step + 1) * batch).flat_map(|index| golden.train.image(index));
        let pixels = bytes.map(|&byte| f32::from(byte) / 255.0).collect();
        program.write("images", &Tensor::f32([batch, channels, height, width], pixels).unwrap()).unwrap();
        let labels = golden.train.labels()[step * batch..][..batch].iter().map(|&label| u32::from(label)).collect();
        program.write("labels", &Tensor::u32([batch], labels).unwrap()).unwrap();
        program.run("step", &Optimizer::sgd(MOMENTUM).step(step as u64, LR)).unwrap();
        losses.push(program.output("step", "loss").unwrap().item().unwrap());
        if let Some(after_first) = after_first.take() {
            after_first(&mut program);
        }
    }
    let model = program.state_dict(&wgrad::exec::MODEL_KINDS).unwrap();
    (losses, model)
}

/// ‖difference‖ / ‖gradient‖ of each parameter after the first step, the largest.
fn gradient_distance(golden: &Golden, program: &mut Program) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let mut worst: f64 = 0.0;
    for spec in program.plans()[0].states().to_vec() {
        if spec.kind != wgrad::graph::StateKind::Parameter {
            continue;
        }
        let got = program.output("step", &format!("grad of {}", spec.name)).unwrap().to_f64_vec();
        let want = golden.tensor(&format!("grad0/{}", spec.name));
        assert_eq!(got.len(), want.len());
        let size = norm(&mut want.iter().copied());
        let difference = norm(&mut got.iter().zip(&want).map(|(got, want)| got - want));
        if size < 1e-12 {
            // A bias in front of batch norm has no gradient but rounding.
            assert!(golden.prefix == "batch_norm/" && spec.name == "conv1.bias" && difference < 1e-6);
        } else {
            assert!(difference.is_finite());
            worst = worst.max(difference / size);
        }
    }
    worst
}

/// In f64 both sides differ by rounding alone, which a hundred steps let grow to some 1e-14; the goldens' final weights
/// and large gradients are stored in f32, half an ε = 6e-8 of a value below 1.
#[test]
fn lenet_follows_pytorch_in_f64() {
    for prefix in ["", "batch_norm/", "cifar/"] {
        let golden = Golden::new(prefix);
        let mut gradients = f64::NAN;
        let check = |program: &mut Program| gradients = gradient_distance(&golden, program);
        let (losses, model) = follow_by_steps(&Device::CpuF64, &golden, golden.num_steps(), check);
        let loss_distance = distance(&losses, &golden.losses());
        let (weight_distance, name) = golden.final_distance(&model);
        println!(
            "f64 {prefix}: losses {loss_distance:.1e}, weights {weight_distance:.1e} ({name}), gradients {gradients:.1e}"
        );
        assert!(loss_distance <= 1e-12, "{prefix}: losses are {loss_distance:e} off");
        assert!(weight_distance <= 1.2e-7, "{prefix}: {name} is {weight_distance:e} off");
        assert!(gradients <= 6e-8, "{prefix}: gradients are {gradients:e} off");
        assert!(losses[losses.len() - 1] != losses[0]);
    }
}

/// PyTorch's own f32 gradients are up to 2.4e-6 from its f64 ones with batch norm, and 9.6e-7 without.
#[test]
fn first_gradients_are_those_of_pytorch_in_f32() {
    for device in [&Device::Cpu, gpu()] {
        for (prefix, bound) in [("", 3e-6), ("batch_norm/", 7e-6), ("cifar/", 3e-6)] {
            let golden = Golden::new(prefix);
            let mut gradients = f64::NAN;
            follow_by_steps(device, &golden, 1, |program| gradients = gradient_distance(&golden, program));
            println!("{device} {prefix}: gradients {gradients:.1e}");
            assert!(gradients <= bound, "{device} {prefix}: gradients are {gradients:e} off");
        }
    }
}

// ---- the same to the byte

const EVERYTHING: Classifier =
    Classifier { network: Network::LeNet5(LeNet5 { batch_norm: true, dropout: 0.25 }), num_classes: 10 };

/// Every state and every loss after two epochs, as bits; with a short last batch.
fn bits(device: &Device, seed: u64, steps_per_submission: Option<usize>) -> Vec<(String, Vec<u32>)> {
    let (train, test) = images(20 * 8 + 3, 20);
    let base = options(&EVERYTHING, &train, &test, 8);
    let mut session = Session::new(device, &SessionOptions { seed, ..base }).unwrap();
    session.program().set_steps_per_submission(steps_per_submission);
    let mut losses = Vec::new();
    for epoch in 0..2 {
        session.run_epoch(epoch, &|_| (LR, None), &mut |_| ()).unwrap();
        losses.extend(session.step_losses().unwrap().iter().map(|&loss| (loss as f32).to_bits()));
    }
    let kinds =
        [wgrad::graph::StateKind::Parameter, wgrad::graph::StateKind::Buffer, wgrad::graph::StateKind::Optimizer];
    let states = session.program().state_dict(&kinds).unwrap();
    assert!(states.keys().any(|name| name.ends_with(".momentum")));
    let to_bits = |tensor: &Tensor| tensor.to_f32_vec().iter().map(|x| x.to_bits()).collect();
    let mut all: Vec<(String, Vec<u32>)> =
        states.iter().map(|(name, tensor)| (name.clone(), to_bits(tensor))).collect();
    all.push(("losses".to_owned(), losses));
    all
}

#[test]
fn runs_on_the_cpu_are_the_same_whatever_the_number_of_threads() {
    let with_threads = |num_threads: usize, seed: u64| {
        wgrad::exec::Threads::new(num_threads).install(|| bits(&Device::Cpu, seed, None))
    };
    let one = with_threads(1, 1);
    assert!(one == bits(&Device::Cpu, 1, None), "a run repeats");
    for num_threads in [2, 3, 8] {
        assert!(one == with_threads(num_threads, 1), "{num_threads} threads");
    }
    assert!(one != with_threads(2, 2), "another seed is another run");
}

#[test]
fn runs_on_the_gpu_are_the_same_however_they_are_cut() {
    let one = bits(gpu(), 1, Some(1));
    for steps in [Some(7), Some(1000), None] {
        assert!(one == bits(gpu(), 1, steps), "{steps:?} steps a submission");
    }
    assert!(one != bits(gpu(), 2, Some(7)), "another seed is another run");
}

/// Of a device of its own: objects are counted for each device, and other tests run on theirs.
#[test]
fn nothing_is_made_after_the_first_epoch() {
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let device = Device::select(&wanted).unwrap();
    let (train, test) = images(8 * 4 + 1, 20);
    let mut session = Session::new(&device, &options(&EVERYTHING, &train, &test, 8)).unwrap();
    session.run_epoch(0, &|_| (LR, None), &mut |_| ()).unwrap();
    let made = session.program().num_objects();
    assert!(made > 0);
    for epoch in 1..4 {
        session.run_epoch(epoch, &|_| (LR, None), &mut |_| ()).unwrap();
        session.program().keep_model().unwrap();
        session.test().unwrap();
        session.program().restore_model().unwrap();
    }
    assert_eq!(session.program().num_objects(), made);
}

/// Dropout drops the same elements, and both train through batch norm: losses part by rounding alone. Ten steps of the
/// batch-norm golden run lose 4e-7 in f32; dropout doubles what is left, and two f32 runs are compared, not one and f64.
#[test]
fn dropout_and_batch_norm_train_alike_on_cpu_and_gpu() {
    let (train, test) = images(160, 20);
    let losses = |device: &Device| {
        let mut session = Session::new(device, &options(&EVERYTHING, &train, &test, 16)).unwrap();
        session.run_epoch(0, &|_| (LR, None), &mut |_| ()).unwrap();
        session.step_losses().unwrap()
    };
    let (cpu, gpu) = (losses(&Device::Cpu), losses(gpu()));
    let distance = distance(&cpu, &gpu);
    println!("with dropout and batch norm: {distance:.1e}");
    assert_eq!(cpu.len(), 10);
    assert!(distance < 3e-6, "{distance:e}: {cpu:?} and {gpu:?}");
}

// ---- learning, and what fit decides

/// Reports of all epochs.
#[derive(Default)]
struct Epochs(Vec<EpochReport>);

impl Observer for Epochs {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.0.push(report.clone());
        Ok(())
    }
}

fn fit_options(epochs: u64, lr: f64) -> FitOptions {
    FitOptions::new(epochs, lr)
}

fn run_fit(session: &mut Session, options: &FitOptions) -> (Vec<EpochReport>, Result<Outcome>) {
    let mut epochs = Epochs::default();
    let outcome = fit(session, options, &mut epochs);
    (epochs.0, outcome)
}

#[test]
fn a_few_hundred_images_are_learned_by_heart() {
    let (train, test) = images(300, 100);
    let model = Classifier::new(LeNet5::default(), 10);
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
    let (epochs, outcome) = run_fit(&mut session, &fit_options(40, 0.02));
    let outcome = outcome.unwrap();
    let best = epochs.iter().map(|report| report.train_accuracy).fold(0.0, f64::max);
    assert!(best > 0.9, "{best} after {} epochs", outcome.epochs);
    assert!(outcome.test_accuracy > 0.5, "{outcome:?}");
    assert_eq!((outcome.epochs, epochs.len()), (40, 40));
    assert!(outcome.stopped.contains("all 40 epochs"), "{}", outcome.stopped);
}

/// The loss of other images rises once those few are known by heart; the weights from before come back, which the test
/// images show: they are the validation images here.
#[test]
fn early_stopping_restores_the_best_weights() {
    let (train, test) = images(200, 150);
    let model = Classifier::new(LeNet5::default(), 10);
    for monitor in [Monitor::ValLoss, Monitor::ValAccuracy] {
        let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
        let early_stopping = Some(EarlyStopOptions { monitor, patience: 5, ..EarlyStopOptions::default() });
        let (epochs, outcome) = run_fit(&mut session, &FitOptions { early_stopping, ..fit_options(200, 0.03) });
        let outcome = outcome.unwrap();
        assert!(outcome.epochs < 200 && outcome.stopped.contains("has not improved"), "{}", outcome.stopped);
        assert_eq!(outcome.epochs as usize, epochs.len());
        assert_eq!(outcome.epochs, outcome.best_epoch + 5);
        let best = &epochs[outcome.best_epoch as usize - 1];
        assert_eq!((outcome.test_loss, outcome.test_accuracy), (best.val_loss, best.val_accuracy));
        assert!(best.is_best && epochs.last().unwrap().val_loss != best.val_loss);
        let score = |report: &EpochReport| {
            if monitor == Monitor::ValLoss { -report.val_loss } else { report.val_accuracy }
        };
        assert!(epochs.iter().all(|report| score(report) <= score(best)), "no epoch was better");
    }
}

/// A plateau that cuts on the first value that is not better.
fn impatient(mode: Direction) -> Schedule {
    Schedule::plateau(Plateau { mode, factor: 0.5, patience: 0, ..Plateau::default() }).unwrap()
}

#[test]
fn a_plateau_watches_the_metric_that_its_mode_is_about() {
    let (train, test) = images(100, 60);
    let model = Classifier::new(LeNet5::default(), 10);
    for mode in [Direction::Min, Direction::Max] {
        let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
        let schedule = impatient(mode);
        let (epochs, _) = run_fit(&mut session, &FitOptions { schedule, ..fit_options(12, 0.03) });
        let rates = |mode, metric: fn(&EpochReport) -> f64| -> Vec<f64> {
            let mut plateau = impatient(mode);
            let after = |report| {
                let lr = plateau.lr(0.03, 0);
                plateau.observe(0, metric(report));
                lr
            };
            epochs.iter().map(after).collect()
        };
        let by_loss = rates(Direction::Min, |report| report.val_loss);
        let by_accuracy = rates(Direction::Max, |report| report.val_accuracy);
        assert_ne!(by_loss, by_accuracy, "the two metrics disagree somewhere, or this shows nothing");
        let used: Vec<f64> = epochs.iter().map(|report| report.lr).collect();
        assert_eq!(used, if mode == Direction::Min { by_loss } else { by_accuracy }, "{mode:?}");
    }
}

/// Reports and events of a run.
#[derive(Default)]
struct Told(Vec<EpochReport>, Vec<Event>);

impl Observer for Told {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.0.push(report.clone());
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        self.1.push(event.clone());
    }
}

#[test]
fn a_run_tells_of_cuts_of_the_rate_and_of_the_weights_it_restores() {
    let (train, test) = images(100, 60);
    let model = Classifier::new(LeNet5::default(), 10);
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
    let mut told = Told::default();
    let schedule = impatient(Direction::Min);
    let outcome = fit(&mut session, &FitOptions { schedule, ..fit_options(12, 0.1) }, &mut told).unwrap();
    let Told(epochs, mut events) = told;
    let best = &epochs[outcome.best_epoch as usize - 1];
    let restored = events.pop().unwrap();
    let want = Event::WeightsRestored { epoch: best.epoch, monitor: Monitor::ValLoss, value: best.val_loss };
    assert_eq!(restored, want);
    assert!(restored.to_string().starts_with(&format!("weights restored from epoch {}, ", best.epoch)), "{restored}");
    let cuts = epochs.windows(2).filter(|pair| pair[1].lr < pair[0].lr);
    let want: Vec<Event> = cuts.map(|pair| Event::RateReduced { epoch: pair[0].epoch, lr: pair[1].lr }).collect();
    assert!(!want.is_empty(), "the run has cuts, or this shows nothing");
    // A cut after the last epoch is told too, and no epoch shows it.
    events.retain(|event| !matches!(event, Event::RateReduced { epoch: 12, .. }));
    assert_eq!(events, want);
    let half = Event::RateReduced { epoch: 3, lr: 0.05 };
    assert_eq!(half.to_string(), "learning rate reduced to 0.05 after epoch 3");
}

/// Epochs end between steps; the plateau is active from the epoch on whose last step lies behind the warm-up.
#[test]
fn a_plateau_behind_a_warm_up_in_batches_sees_the_epochs_that_end_after_it() {
    let (train, test) = images(100, 60);
    let model = Classifier::new(LeNet5::default(), 10);
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
    let then = impatient(Direction::Min).stepping(Interval::Batch);
    let schedule = Schedule::warm_up(0.5, 7, then).unwrap();
    let (epochs, _) = run_fit(&mut session, &FitOptions { schedule, ..fit_options(8, 0.1) });
    assert_eq!(session.steps_per_epoch(), 5);
    let mut plateau = impatient(Direction::Min);
    for report in &epochs {
        let first_step = (report.epoch - 1) * 5;
        let rise = 0.5 + 0.5 * first_step as f64 / 7.0;
        let want = if first_step < 7 { 0.1 * rise } else { plateau.lr(0.1, 0) };
        assert!((report.lr - want).abs() < 1e-12, "epoch {}: {} is not {want}", report.epoch, report.lr);
        if first_step + 4 >= 7 {
            plateau.observe(0, report.val_loss);
        }
    }
    let num_cuts = plateau.plateau_states()[0].num_cuts;
    assert!((1..7).contains(&num_cuts), "{num_cuts}");
}

#[test]
fn a_schedule_left_open_takes_the_whole_run() {
    let (train, test) = images(100, 60);
    let model = Classifier::new(LeNet5::default(), 10);
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
    let schedule = Schedule::cosine(None, 0.0).unwrap().stepping(Interval::Batch);
    let (epochs, outcome) = run_fit(&mut session, &FitOptions { schedule, ..fit_options(4, 0.01) });
    outcome.unwrap();
    let named = Schedule::cosine(20, 0.0).unwrap();
    let want: Vec<f64> = [0, 5, 10, 15].map(|step| named.lr(0.01, step)).to_vec();
    assert_eq!(epochs.iter().map(|report| report.lr).collect::<Vec<f64>>(), want);
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run() {
    let (train, test) = images(80, 50);
    let model = Classifier::new(LeNet5::default(), 10);
    // Each step multiplies what is wrong, so the first epoch already ends beyond all numbers.
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 8)).unwrap();
    let (epochs, outcome) = run_fit(&mut session, &fit_options(3, 1e6));
    assert!(epochs.is_empty());
    let error = outcome.unwrap_err();
    let Error::NonFinite { what: "training loss", epoch: 1, step, lr, layer: Some(_) } = error else {
        panic!("{error}")
    };
    assert!((1..=10).contains(&step) && lr == 1e6, "{error}");
    assert!(error.to_string().contains("training loss"), "{error}");

    // Two sound epochs, then the same.
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 8)).unwrap();
    let schedule = Schedule::lambda(|epoch| if epoch < 2 { 1.0 } else { 1e8 });
    let (epochs, outcome) = run_fit(&mut session, &FitOptions { schedule, ..fit_options(5, 0.01) });
    let error = outcome.unwrap_err();
    let Error::NonFinite { what: "training loss", epoch: 3, .. } = error else { panic!("{error}") };
    assert_eq!(epochs.len(), 2, "the third is not reported");
    let best = epochs.iter().rev().find(|report| report.is_best).unwrap();
    let test = session.test().unwrap();
    assert_eq!(
        (test.metrics.loss, test.metrics.accuracy),
        (best.val_loss, best.val_accuracy),
        "the best weights are restored"
    );
    assert!(session.model().unwrap().values().all(|tensor| tensor.to_f64_vec().iter().all(|x| x.is_finite())));
}

/// The rates grow over more than one epoch, and under accumulation a step is of two batches, the last of one.
#[test]
fn a_range_test_leaves_the_session_as_it_was() {
    let (train, test) = images(100, 60);
    let model = Classifier::new(LeNet5::default(), 10);
    let update: UpdateOptions = GradientOptions { accumulate: 2, ..GradientOptions::default() }.into();
    let session = || {
        let base = options(&model, &train, &test, 20);
        let optimizer = Optimizer::adam();
        Session::new(&Device::Cpu, &SessionOptions { update: update.clone(), optimizer, ..base }).unwrap()
    };
    let rest = |session: &mut Session| {
        let losses = session.run_epoch(0, &|_| (1e-3, None), &mut |_| ()).unwrap().train.loss;
        (losses, session.model().unwrap())
    };
    let (mut tested, mut untouched) = (session(), session());
    let find = LrFindOptions { num_steps: 20, ..LrFindOptions::default() };
    let found = lr_find(&mut tested, &find).unwrap();
    assert_eq!(tested.steps_per_epoch(), 3);
    assert!(found.points.len() > 10 && found.points.len() <= 20, "{found:?}");
    // The first losses are those of the initial weights, which rates of 1e-7 hardly move.
    let losses: Vec<f64> = found.points[..3].iter().map(|point| point.loss).collect();
    assert!(losses.iter().all(|loss| (loss - 10f64.ln()).abs() < 0.1), "{losses:?}");
    assert_eq!(lr_find(&mut tested, &find).unwrap(), found, "a second test starts from the same weights");
    assert!(rest(&mut tested) == rest(&mut untouched), "weights and moments are what they were");
}

/// Images held out decide, the test images are looked at once; as many of each as there are, whatever the batches.
#[test]
fn validation_images_are_held_out_of_training() {
    let (all, test) = images(100, 30);
    let (train, validation) = all.hold_out(0.2, 1).unwrap();
    let model = Classifier::new(LeNet5::default(), 10);
    let base = options(&model, &train, &test, 16);
    let mut session =
        Session::new(&Device::Cpu, &SessionOptions { validation: Some(&validation), eval_batch_size: 7, ..base })
            .unwrap();
    let metrics = session.run_epoch(0, &|_| (LR, None), &mut |_| ()).unwrap();
    assert_eq!((metrics.train.num_images, metrics.validation.num_images), (80, 20));
    let on_test = session.test().unwrap().metrics;
    assert_eq!(on_test.num_images, 30);
    assert_ne!(on_test.loss, metrics.validation.loss);
    // The same images as test images give the same metrics, under any batches.
    let weights = session.model().unwrap();
    let base = options(&model, &train, &validation, 16);
    let mut other = Session::new(&Device::CpuF64, &base).unwrap();
    other.load_model(&weights).unwrap();
    let again = other.test().unwrap().metrics;
    assert_eq!(again.accuracy, metrics.validation.accuracy);
    assert!((again.loss - metrics.validation.loss).abs() < 1e-6);
    let (_, outcome) = run_fit(&mut session, &fit_options(1, LR));
    assert_eq!(outcome.unwrap().best_epoch, 1);
}

/// With a learning rate that moves nothing, an epoch's loss is the mean over the images, however they are cut: a last
/// batch of one image, a batch larger than the data set, batches of one.
#[test]
fn last_batches_may_be_short() {
    let (train, _) = images(33, 1);
    let model = Classifier::new(LeNet5::default(), 10);
    let mut losses = Vec::new();
    for device in [&Device::CpuF64, gpu()] {
        for (batch_size, num_steps) in [(16, 3), (64, 1), (33, 1), (32, 2), (1, 33)] {
            let base = options(&model, &train, &train, batch_size);
            let mut session = Session::new(device, &SessionOptions { eval_batch_size: batch_size, ..base }).unwrap();
            assert_eq!((session.steps_per_epoch(), session.images_per_epoch()), (num_steps, 33));
            let mut reported = Vec::new();
            let metrics = session.run_epoch(0, &|_| (1e-30, None), &mut |done| reported.push(done)).unwrap();
            assert_eq!((metrics.train.num_images, metrics.validation.num_images), (33, 33));
            assert_eq!(reported.last(), Some(&33), "{reported:?}");
            assert!(reported.windows(2).all(|pair| pair[0] < pair[1]), "{reported:?}");
            assert_eq!(session.step_losses().unwrap().len(), num_steps);
            losses.extend([metrics.train.loss, metrics.validation.loss]);
        }
    }
    for &loss in &losses {
        assert!((loss - losses[0]).abs() < 1e-6, "{losses:?}");
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let (train, test) = images(8, 8);
    let model = Classifier::new(LeNet5::default(), 10);
    let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 8)).unwrap();
    for (options, option) in [
        (fit_options(0, 0.1), "epochs: "),
        (fit_options(1, 0.0), "lr: "),
        (fit_options(1, f64::INFINITY), "lr: "),
        (fit_options(1, f64::NAN), "lr: "),
    ] {
        let error = fit(&mut session, &options, &mut ()).unwrap_err().to_string();
        assert!(error.starts_with(option), "{error}");
    }
    let error = Session::new(&Device::Cpu, &options(&model, &train, &test, 0)).err().unwrap().to_string();
    assert!(error.contains("batch"), "{error}");
}

/// Asks for the metrics of batches after each submission, and compares them with the epoch's.
#[derive(Default)]
struct Following {
    batches: Vec<(u64, usize)>,
    epoch: Vec<wgrad::train::metrics::Metrics>,
    compared: usize,
    weights: Vec<StateDict>,
}

impl Observer for Following {
    fn batches_every(&self) -> Option<std::time::Duration> {
        Some(std::time::Duration::ZERO)
    }

    fn batches(&mut self, latest: &LatestBatches, session: &mut Session) -> Result<()> {
        self.batches.extend((latest.first..latest.first + latest.metrics.len()).map(|batch| (latest.epoch, batch)));
        self.epoch.extend(&latest.metrics);
        self.weights.push(session.model()?);
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let num_images: u64 = self.epoch.iter().map(|metrics| metrics.num_images).sum();
        let loss = self.epoch.iter().map(|metrics| metrics.loss * metrics.num_images as f64).sum::<f64>();
        // The same sums, each divided and multiplied again.
        assert!((loss / num_images as f64 - report.train_loss).abs() < 1e-12, "epoch {}", report.epoch);
        self.epoch.clear();
        self.compared += 1;
        Ok(())
    }
}

#[test]
fn batches_are_observed_once_each_and_change_nothing() {
    let (train, test) = images(50, 20);
    let model = Classifier::new(LeNet5::default(), 10);
    for device in [&Device::Cpu, gpu()] {
        let new_session = || Session::new(device, &options(&model, &train, &test, 16)).unwrap();
        let (mut followed, mut plain) = (new_session(), new_session());
        let mut following = Following::default();
        fit(&mut followed, &fit_options(2, LR), &mut following).unwrap();
        fit(&mut plain, &fit_options(2, LR), &mut ()).unwrap();
        let all: Vec<(u64, usize)> = [1, 2].into_iter().flat_map(|epoch| (0..4).map(move |b| (epoch, b))).collect();
        assert_eq!((following.batches, following.compared), (all, 2));
        assert!(following.weights.windows(2).all(|pair| pair[0] != pair[1]), "each batch changes the weights");
        assert_eq!(followed.model().unwrap(), plain.model().unwrap());
    }
}
