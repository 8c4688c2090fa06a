//! Training by several ranks, threads here in the place of processes: the same bytes as one process, whatever the
//! number of ranks, the network, the update, and where it was stopped in between.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use std::path::Path;
use std::time::Duration;

use wgrad::data::{ChannelStats, Dataset, Split};
use wgrad::dist::{Alone, Comm, Threads};
use wgrad::exec::Snapshot;
use wgrad::nn::{Classifier, LeNet5, Network, ResNet};
use wgrad::ops::Augment;
use wgrad::optim::{GradientOptions, Optimizer};
use wgrad::schedule::{Plateau, Schedule};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::{
    Checkpoint, CheckpointOptions, DiagnosticsOptions, EpochReport, Event, FitOptions, Observer, RankTime, Session,
    SessionOptions, fit, fit_from,
};
use wgrad::{Device, Error, Result};

use crate::harness::gpu;

const NUM_CLASSES: usize = 3;

fn images(num_images: usize, split: Split) -> Dataset {
    let label = |n: usize| (n * 7 % NUM_CLASSES) as u8;
    let pixel = |n: usize, i: usize| label(n) * 60 + (n * 31 + i * i * 17) as u8 % 90;
    let images = (0..num_images).flat_map(|n| (0..28 * 28).map(move |i| pixel(n, i))).collect();
    let labels = (0..num_images).map(|n| u16::from(label(n))).collect();
    Dataset::from_arrays(images, labels, ["a", "b", "c"], [1, 28, 28]).unwrap().with_split(split)
}

/// What is trained. Batches of 4, so that `accumulate` of them are a step.
#[derive(Clone)]
struct Setting {
    name: &'static str,
    network: Network,
    num_images: usize,
    gradients: GradientOptions,
    augment: Option<Augment>,
    schedule: Schedule,
    diagnostics: bool,
}

fn settings() -> Vec<Setting> {
    let plain = Setting {
        name: "plain",
        network: LeNet5::default().into(),
        num_images: 64,
        gradients: GradientOptions { accumulate: 8, ..GradientOptions::default() },
        augment: None,
        schedule: Schedule::constant(),
        diagnostics: false,
    };
    let everything = LeNet5 { batch_norm: true, dropout: 0.3 };
    let clipped =
        GradientOptions { clip_norm: Some(0.5), clip_value: Some(0.05), l1: 1e-4, l2: 1e-3, ..plain.gradients.clone() };
    vec![
        plain.clone(),
        // 71 images: two whole steps, and one of two batches of which the second is short.
        Setting { name: "short last batch", num_images: 71, ..plain.clone() },
        Setting {
            name: "steps of 5",
            gradients: GradientOptions { accumulate: 5, ..GradientOptions::default() },
            ..plain.clone()
        },
        Setting {
            name: "batch norm, dropout, augmentation, clipping, penalties, plateau, diagnostics",
            network: everything.into(),
            num_images: 71,
            gradients: clipped,
            augment: Some(Augment { crop_padding: 2, ..Augment::default() }),
            schedule: Schedule::plateau(Plateau { patience: 0, threshold: 0.2, ..Plateau::default() }).unwrap(),
            diagnostics: true,
        },
    ]
}

/// A network whose gradients go in several buckets, with weights and biases in packs of their own.
fn in_buckets() -> Setting {
    let plain = settings().swap_remove(0);
    let gradients = GradientOptions { accumulate: 3, l2: 1e-3, clip_norm: Some(0.5), ..GradientOptions::default() };
    // Two whole steps, and one of a short batch alone.
    Setting { name: "a ResNet", network: ResNet::default().into(), num_images: 25, gradients, ..plain }
}

/// Notes the epochs; stops once it has seen so many images of an epoch.
struct Watch {
    reports: Vec<EpochReport>,
    stop_at: Option<(u64, usize)>,
    stops: bool,
    diagnostics: Vec<String>,
}

impl Watch {
    fn until(stop_at: Option<(u64, usize)>) -> Watch {
        Watch { reports: Vec::new(), stop_at, stops: false, diagnostics: Vec::new() }
    }
}

impl Observer for Watch {
    fn progress(&mut self, epoch: u64, images_done: usize, _images: usize) {
        self.stops |= self.stop_at.is_some_and(|(at, images)| epoch == at && images_done >= images);
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        // The one thing that depends on the clock.
        self.reports.push(EpochReport { images_per_second: 0.0, ..report.clone() });
        Ok(())
    }

    fn diagnostics(&mut self, epoch: u64, report: &wgrad::train::DiagnosticsReport) -> Result<()> {
        self.diagnostics.push(format!("{epoch}: {report:?}"));
        Ok(())
    }

    fn should_stop(&mut self) -> bool {
        self.stops
    }
}

/// All that must not depend on the number of ranks: epochs and diagnostics as text, the end, and what a checkpoint has.
type Trained = (String, String, Snapshot);

/// Trains as one of several ranks, from the checkpoint if there is one; `None` where it was stopped.
fn train(
    setting: &Setting,
    device: &Device,
    comm: Box<dyn Comm>,
    folder: &Path,
    stop_at: Option<(u64, usize)>,
) -> Option<Trained> {
    let (train, validation, test) =
        (images(setting.num_images, Split::Train), images(23, Split::Validation), images(17, Split::Test));
    let model = Classifier::new(setting.network.clone(), NUM_CLASSES);
    let normalize = ChannelStats { mean: vec![0.5], std: vec![0.25] };
    let options = SessionOptions {
        batch_size: 4,
        eval_batch_size: 5,
        validation: Some(&validation),
        optimizer: Optimizer::sgd(0.9),
        update: setting.gradients.clone().into(),
        augment: setting.augment.clone(),
        diagnostics: setting.diagnostics.then(DiagnosticsOptions::default),
        seed: 5,
        ..SessionOptions::validated_on_test(&model, &train, &test, normalize)
    };
    let path = folder.join("checkpoint");
    let fit_options = FitOptions {
        schedule: setting.schedule.clone(),
        early_stopping: Some(EarlyStopOptions { patience: 3, ..EarlyStopOptions::default() }),
        checkpoint: Some(CheckpointOptions::new(&path)),
        ..FitOptions::new(3, 0.05)
    };
    let mut session = Session::among(device, &options, comm).unwrap();
    session.program().set_steps_per_submission(Some(1));
    let mut watch = Watch::until(stop_at.filter(|_| session.is_first_rank()));
    let outcome = match path.exists() {
        true => fit_from(&mut session, &fit_options, &Checkpoint::load(&path).unwrap(), &mut watch),
        false => fit(&mut session, &fit_options, &mut watch),
    };
    match outcome {
        Ok(outcome) => {
            let test = outcome.test.as_ref().unwrap();
            let ended = format!("{outcome:?} {:?}", test.logits);
            let snapshot = Checkpoint::load(&path).unwrap().snapshot;
            Some((format!("{:?} {:?}", watch.reports, watch.diagnostics), ended, snapshot))
        }
        Err(Error::Interrupted { saved: Some(_), .. }) => None,
        Err(error) => panic!("{}: {error}", setting.name),
    }
}

/// What each rank gives.
fn on_ranks(
    size: usize,
    setting: &Setting,
    device: &Device,
    folder: &Path,
    stop_at: Option<(u64, usize)>,
) -> Vec<Option<Trained>> {
    std::thread::scope(|scope| {
        let ranks = Threads::group(size)
            .into_iter()
            .map(|comm| scope.spawn(move || train(setting, device, Box::new(comm), folder, stop_at)));
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn alone(setting: &Setting, device: &Device) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    train(setting, device, Box::new(Alone), folder.path(), None).unwrap()
}

fn assert_same(got: &Trained, expected: &Trained, what: &str) {
    assert_eq!(got.0, expected.0, "epochs of {what}");
    assert_eq!(got.1, expected.1, "the end of {what}");
    for (name, tensor) in &expected.2.current {
        assert_eq!(Some(tensor), got.2.current.get(name), "{name} in the checkpoint of {what}");
    }
    assert!(got.2.current.len() == expected.2.current.len() && got.2.kept == expected.2.kept, "{what}");
}

#[test]
fn any_number_of_ranks_gives_the_bytes_of_one_process() {
    for setting in settings().into_iter().chain([in_buckets()]) {
        let expected = alone(&setting, &Device::Cpu);
        assert!(expected.1.contains("epochs: 3"), "{}", expected.1);
        let most = setting.gradients.accumulate;
        for size in [2, 3, 4, 8].into_iter().filter(|size| *size <= most) {
            let folder = tempfile::tempdir().unwrap();
            for (rank, got) in on_ranks(size, &setting, &Device::Cpu, folder.path(), None).into_iter().enumerate() {
                assert_same(&got.unwrap(), &expected, &format!("{}, rank {rank} of {size}", setting.name));
            }
        }
    }
}

#[test]
fn ranks_on_a_gpu_give_the_bytes_of_one_process_on_it() {
    let setting = settings().pop().unwrap();
    let expected = alone(&setting, gpu());
    for size in [2, 3] {
        let folder = tempfile::tempdir().unwrap();
        for got in on_ranks(size, &setting, gpu(), folder.path(), None) {
            assert_same(&got.unwrap(), &expected, &format!("{size} ranks on a GPU"));
        }
    }
}

/// Stopped by one number of ranks and resumed by another: between steps, and by one process also within a step.
#[test]
fn the_number_of_ranks_may_change_when_a_run_resumes() {
    let setting = settings().pop().unwrap();
    let expected = alone(&setting, &Device::Cpu);
    for (before, stop_at, after) in [(1, (1, 1), 3), (2, (1, 1), 1), (1, (2, 64), 4), (3, (2, 71), 8), (8, (3, 33), 2)]
    {
        let folder = tempfile::tempdir().unwrap();
        let stopped = on_ranks(before, &setting, &Device::Cpu, folder.path(), Some(stop_at));
        assert!(stopped.iter().all(Option::is_none), "all {before} ranks stop");
        for got in on_ranks(after, &setting, &Device::Cpu, folder.path(), None) {
            // Epochs before the stop are not reported again.
            let (_, end, snapshot) = got.unwrap();
            assert_same(&(expected.0.clone(), end, snapshot), &expected, &format!("{before} ranks, then {after}"));
        }
    }
}

/// Trains on three ranks, and gives what `of_rank` makes of each session.
fn with_sessions<T: Send>(of_rank: impl Fn(usize, &mut Session) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let ranks = Threads::group(3).into_iter().map(|comm| {
            let of_rank = &of_rank;
            scope.spawn(move || {
                let (train, test) = (images(48, Split::Train), images(5, Split::Test));
                let model = Classifier::new(LeNet5::default(), NUM_CLASSES);
                let normalize = ChannelStats { mean: vec![0.5], std: vec![0.25] };
                let gradients = GradientOptions { accumulate: 4, ..GradientOptions::default() };
                let options = SessionOptions {
                    batch_size: 4,
                    update: gradients.into(),
                    ..SessionOptions::validated_on_test(&model, &train, &test, normalize)
                };
                of_rank(comm.rank(), &mut Session::among(&Device::Cpu, &options, Box::new(comm)).unwrap())
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Takes its time after each step, and notes the times of all.
struct Slow {
    pause: Duration,
    num_steps: u32,
    times: Vec<RankTime>,
}

impl Observer for Slow {
    fn progress(&mut self, _epoch: u64, _images_done: usize, _images: usize) {
        self.num_steps += 1;
        std::thread::sleep(self.pause);
    }

    fn event(&mut self, event: &Event) {
        if let Event::RanksDone { times } = event {
            self.times = times.clone();
        }
    }
}

#[test]
fn a_slow_rank_is_waited_for_and_the_times_tell_which_it_is() {
    let pause = Duration::from_millis(40);
    let watched = with_sessions(|rank, session| {
        let pause = if rank == 1 { pause } else { Duration::ZERO };
        let mut slow = Slow { pause, num_steps: 0, times: Vec::new() };
        fit(session, &FitOptions::new(2, 0.05), &mut slow).unwrap();
        slow
    });
    for Slow { num_steps, times, .. } in watched {
        // The others wait after each step but the last of an epoch, whose pause is followed by evaluation.
        let least = f64::from(num_steps - 2) * pause.as_secs_f64() / 2.0;
        assert_eq!((num_steps, times.len()), (6, 3));
        assert!(times.iter().all(|time| time.training >= least && time.waiting <= time.training), "{times:?}");
        for rank in [0, 2] {
            assert!(times[rank].waiting >= times[1].waiting + least, "{times:?}");
        }
    }
}

#[test]
fn what_rank_0_cannot_write_is_an_error_of_all() {
    let place = tempfile::tempdir().unwrap();
    // A folder where the checkpoint should go.
    std::fs::create_dir(place.path().join("checkpoint")).unwrap();
    let started = std::time::Instant::now();
    let errors = with_sessions(|_, session| {
        let checkpoint = Some(CheckpointOptions::new(place.path().join("checkpoint")));
        fit(session, &FitOptions { checkpoint, ..FitOptions::new(2, 0.05) }, &mut ()).unwrap_err().to_string()
    });
    assert!(errors[0].starts_with("cannot write") && errors[0].contains("checkpoint"), "{errors:?}");
    for error in &errors[1..] {
        assert_eq!(*error, format!("rank 0: {}", errors[0]));
    }
    assert!(started.elapsed() < Duration::from_secs(60), "nobody waits for what does not come");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["checkpoint"], "no temporary file is left");
}

#[test]
fn ranks_that_compute_with_other_numbers_are_refused() {
    let errors: Vec<String> = std::thread::scope(|scope| {
        let ranks = Threads::group(2).into_iter().zip([Device::Cpu, Device::CpuF64]).map(|(comm, device)| {
            scope.spawn(move || {
                let (train, test) = (images(16, Split::Train), images(5, Split::Test));
                let model = Classifier::new(LeNet5::default(), NUM_CLASSES);
                let normalize = ChannelStats { mean: vec![0.5], std: vec![0.25] };
                let options = SessionOptions {
                    update: GradientOptions { accumulate: 2, ..GradientOptions::default() }.into(),
                    ..SessionOptions::validated_on_test(&model, &train, &test, normalize)
                };
                Session::among(&device, &options, Box::new(comm)).err().unwrap().to_string()
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert_eq!(errors, ["rank 1: other floating-point numbers than rank 0: f64 instead of f32"; 2]);
}

#[test]
fn more_ranks_than_batches_in_a_step_are_refused() {
    let (train, test) = (images(16, Split::Train), images(5, Split::Test));
    let model = Classifier::new(LeNet5::default(), NUM_CLASSES);
    let normalize = ChannelStats { mean: vec![0.5], std: vec![0.25] };
    let options = SessionOptions::validated_on_test(&model, &train, &test, normalize);
    let comm = Threads::group(2).remove(0);
    let error = Session::among(&Device::Cpu, &options, Box::new(comm)).err().unwrap();
    assert_eq!(error.to_string(), "accumulate: expected at least 2 batches a step, one for each rank, got 1");
}
