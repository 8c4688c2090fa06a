//! Data sets in two bindings, augmentation in training alone, and diagnostics without side effects.

use super::*;
use crate::Error;
use crate::data::{ChannelStats, Dataset, Split};
use crate::exec::verify;
use crate::graph::{Graph, Value};
use crate::nn::{BatchNorm2d, Conv2d, Linear, Mode};
use crate::ops::Augment;
use crate::optim::{Optimizer, UpdateOptions};
use crate::rng::Stream;
use crate::schedule::Schedule;
use crate::train::{DiagnosticKind, DiagnosticsOptions, FitOptions, fit};

fn devices() -> Vec<Device> {
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let gpu = Device::select(&wanted).expect("tests need an adapter; run tests/run.sh");
    vec![Device::Cpu, gpu]
}

fn dataset(split: Split, count: usize) -> Dataset {
    let mut stream = Stream::new(count as u64, 0);
    let labels: Vec<u16> = (0..count).map(|_| stream.next_below(3) as u16).collect();
    // Brighter for higher labels, so that there is something to learn.
    let pixel = |index: usize, stream: &mut Stream| (40 * u32::from(labels[index / 64]) + stream.next_below(100)) as u8;
    let images = (0..count * 64).map(|index| pixel(index, &mut stream)).collect();
    Dataset::from_arrays(images, labels, ["dark", "middle", "bright"], [1, 8, 8]).unwrap().with_split(split)
}

fn network(graph: &mut Graph, images: Value, mode: Mode) -> Result<Value> {
    let x = Conv2d::new("conv1", 4, 3).forward(graph, images)?;
    let x = BatchNorm2d::new("bn1").forward(graph, x, mode)?;
    let x = graph.relu(x)?;
    let x = graph.flatten(x, 1)?;
    let x = Linear::new("fc1", 8).forward(graph, x)?;
    let x = graph.relu(x)?;
    Linear::new("fc2", 3).forward(graph, x)
}

/// Two products and nothing else, so that large weights meet large activations.
fn linear_network(graph: &mut Graph, images: Value, _mode: Mode) -> Result<Value> {
    let x = graph.flatten(images, 1)?;
    let x = Linear::new("fc1", 8).forward(graph, x)?;
    Linear::new("fc2", 3).forward(graph, x)
}

struct Data {
    train: Dataset,
    test: Dataset,
}

fn data() -> Data {
    Data { train: dataset(Split::Train, 22), test: dataset(Split::Test, 9) }
}

fn options(data: &Data) -> SessionOptions<'_> {
    SessionOptions {
        model: &network,
        train: &data.train,
        validation: None,
        test: &data.test,
        batch_size: 5,
        eval_batch_size: 4,
        normalize: ChannelStats { mean: vec![0.3], std: vec![0.2] },
        optimizer: Optimizer::sgd(0.9),
        shuffle: true,
        seed: 3,
        update: UpdateOptions::default(),
        label_smoothing: 0.0,
        augment: None,
        diagnostics: None,
    }
}

const RATES: Rates<'static> = &|_| (0.05, None);

/// Two epochs: losses of every step, and the model.
fn train(mut session: Session) -> Result<(Vec<f64>, StateDict)> {
    let mut losses = Vec::new();
    for epoch in 0..2 {
        session.run_epoch(epoch, RATES, &mut |_| ())?;
        losses.extend(session.step_losses()?);
    }
    losses.push(session.test()?.metrics.loss);
    Ok((losses, session.model()?))
}

#[test]
fn two_shards_give_the_batches_of_one() -> Result<()> {
    let data = data();
    for device in devices() {
        let whole = train(Session::new(&device, &options(&data))?)?;
        assert!(whole.0.iter().all(|loss| loss.is_finite()) && whole.0[0] != whole.0[5]);
        // 13 of 22 training images fit a binding, all of the 9 test images do.
        let halves = train(Session::sharded(&device, &options(&data), 13 * 64 + 5, Box::new(Alone))?)?;
        assert_eq!(whole, halves, "{device}");
        assert!(
            Session::sharded(&device, &options(&data), 10 * 64, Box::new(Alone)).is_err(),
            "22 images in two bindings of 10"
        );
    }
    Ok(())
}

#[test]
fn augmentation_is_for_training_alone_and_the_same_on_every_run() -> Result<()> {
    let data = data();
    let augment = Augment { crop_padding: 2, flip_probability: 0.5, max_rotation_degrees: 10.0, ..Augment::default() };
    for device in devices() {
        let with = SessionOptions { augment: Some(augment.clone()), ..options(&data) };
        let (plain, augmented) = (Session::new(&device, &options(&data))?, Session::new(&device, &with)?);
        let before = [plain, augmented].map(|mut session| session.test().map(|test| test.metrics.loss));
        let [Ok(plain), Ok(augmented)] = before else { panic!("evaluation runs") };
        assert_eq!(plain, augmented, "evaluation sees images as they are");
        let first = train(Session::new(&device, &with)?)?;
        assert_eq!(first, train(Session::new(&device, &with)?)?);
        assert_ne!(first.0, train(Session::new(&device, &options(&data))?)?.0);
        let report = Session::verify_step(&device, &with, 0.05, None)?;
        assert!(report.difference.is_none(), "{:?}", report.difference);
        assert!(report.ops.iter().any(|op: &verify::OpReport| op.label.contains("augment")));
    }
    Ok(())
}

fn with_diagnostics(data: &Data) -> SessionOptions<'_> {
    SessionOptions {
        diagnostics: Some(DiagnosticsOptions { histograms: true, pre_activations: false }),
        ..options(data)
    }
}

#[test]
fn a_look_changes_nothing_and_says_what_the_step_does() -> Result<()> {
    let data = data();
    for device in devices() {
        let plain = train(Session::new(&device, &options(&data))?)?;
        let mut session = Session::new(&device, &with_diagnostics(&data))?;
        let mut losses = Vec::new();
        for epoch in 0..2 {
            session.run_epoch(epoch, RATES, &mut |_| ())?;
            losses.extend(session.step_losses()?);
            // In the middle of an epoch, and its short last batch.
            for step in [2, 4] {
                session.diagnose(epoch * 5 + step, RATES)?;
            }
        }
        losses.push(session.test()?.metrics.loss);
        assert_eq!((losses, session.model()?), plain, "{device}");

        let report = session.diagnose(7, RATES)?;
        let before = session.model()?;
        let steps_before = session.program.read("diagnostics.table")?;
        assert!(!steps_before.to_f64_vec().is_empty());
        session.train_batches(1, 2..3, RATES, &mut |_| ControlFlow::Continue(()))?;
        let after = session.model()?;
        for name in ["conv1.weight", "bn1.weight", "fc2.bias"] {
            let norm = |x: Vec<f64>| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let (old, new) = (before[name].to_f64_vec(), after[name].to_f64_vec());
            let update = norm(new.iter().zip(&old).map(|(new, old)| new - old).collect());
            let ratio = report.update_ratio(name).expect("a parameter that is not 0");
            let want = update / norm(old);
            assert!(want > 0.0 && (ratio - want).abs() <= 1e-4 * want, "{device}, {name}: {ratio} for {want}");
        }
        let names = |kind| report.of_kind(kind).map(|row| row.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(DiagnosticKind::Activation), ["conv1", "bn1", "bn1.relu", "fc1.relu", "fc2"]);
        assert_eq!(names(DiagnosticKind::Unit), ["bn1.relu", "fc1.relu"]);
        assert_eq!(names(DiagnosticKind::Gradient)[0], "fc2.bias");
        assert_eq!(names(DiagnosticKind::Update).len(), 8);
        let bn1 = report.get(DiagnosticKind::Activation, "bn1").expect("listed").summary;
        assert_eq!(bn1.num_elems, 5 * 4 * 36);
        assert!(report.gradient_norm() > 0.0 && report.dead_share("fc1.relu").is_some());
        assert_eq!(report.first_non_finite(), None);
        let weight = report.get(DiagnosticKind::Parameter, "fc1.weight").expect("listed");
        assert_eq!(weight.histogram.as_ref().map(|counts| counts.iter().sum::<u64>()), Some(weight.summary.num_elems));
        assert!(report.to_string().contains("conv1.weight"));
    }
    Ok(())
}

#[test]
fn batch_statistics_before_and_after_batch_norm() -> Result<()> {
    let data = data();
    let mut session = Session::new(&Device::Cpu, &with_diagnostics(&data))?;
    let report = session.diagnose(0, RATES)?;
    let of = |name| report.get(DiagnosticKind::Activation, name).expect("listed").summary;
    // Every channel has mean 0 and standard deviation 1 as long as weight and bias are 1 and 0.
    assert!(of("bn1").mean.abs() < 1e-5 && (of("bn1").std - 1.0).abs() < 1e-2, "{:?}", of("bn1"));
    assert!((of("conv1").std - 1.0).abs() > 0.05, "{:?}", of("conv1"));
    Ok(())
}

#[test]
fn no_look_without_having_asked_for_it() -> Result<()> {
    let data = data();
    let error = Session::new(&Device::Cpu, &options(&data))?.diagnose(0, RATES).expect_err("not asked for");
    assert!(error.is_usage(), "{error}");
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_names_the_first_layer() -> Result<()> {
    let data = data();
    let schedule = Schedule::constant();
    // After one step both layers have weights around 1e29: activations fit f32, logits do not.
    let fit_options = FitOptions { schedule, ..FitOptions::new(1, 1e30) };
    for device in devices() {
        let mut session = Session::new(&device, &SessionOptions { model: &linear_network, ..with_diagnostics(&data) })?;
        let error = fit(&mut session, &fit_options, &mut ()).expect_err("nothing survives this learning rate");
        let Error::NonFinite { epoch: 1, step: 2, layer: Some(layer), .. } = &error else { panic!("{error}") };
        assert_eq!(layer, "activation fc2 of step 2", "{device}");
        assert!(error.to_string().contains("step 2, first in activation fc2 of step 2;"), "{error}");
    }
    Ok(())
}
