//! Checkpoints: a run that is stopped and resumed ends in the same bytes as one that never stopped, wherever it is
//! stopped and on every device; a file that is damaged or of another run is refused by name and changes nothing.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wgrad::data::{ChannelStats, Dataset, bundled};
use wgrad::nn::weights::Metadata;
use wgrad::nn::{Classifier, LeNet5};
use wgrad::ops::Augment;
use wgrad::optim::{GradientOptions, Optimizer};
use wgrad::schedule::{Plateau, Schedule};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::{
    Checkpoint, CheckpointOptions, DiagnosticsOptions, EpochReport, FitOptions, Observer, Outcome, Session,
    SessionOptions, fit, fit_from,
};
use wgrad::{Device, Error, Result, StateDict};

use crate::harness::gpu;

/// Everything that has a memory: momentum, accumulation, running statistics, dropout, augmentation, an order for every
/// epoch, a plateau that cuts, early stopping, looks into the network; and a last batch that is shorter.
struct Setting {
    model: Classifier,
    train: Dataset,
    test: Dataset,
    optimizer: Optimizer,
}

impl Setting {
    fn new() -> Setting {
        let mut splits = bundled::fashion_mnist().unwrap();
        splits.train.limit(70);
        splits.test.limit(40);
        let model = Classifier::new(LeNet5 { batch_norm: true, dropout: 0.3 }, 10);
        Setting { model, train: splits.train, test: splits.test, optimizer: Optimizer::sgd(0.9) }
    }

    fn session(&self, device: &Device) -> Session {
        let normalize = ChannelStats { mean: vec![0.3], std: vec![0.3] };
        let options = SessionOptions {
            batch_size: 16,
            eval_batch_size: 20,
            optimizer: self.optimizer.clone(),
            update: GradientOptions { accumulate: 2, ..GradientOptions::default() }.into(),
            augment: Some(Augment { crop_padding: 2, ..Augment::default() }),
            diagnostics: Some(DiagnosticsOptions::default()),
            seed: 5,
            ..SessionOptions::validated_on_test(&self.model, &self.train, &self.test, normalize)
        };
        Session::new(device, &options).unwrap()
    }

    fn fit_options(&self, path: &Path) -> FitOptions {
        let plateau = Plateau { patience: 0, threshold: 0.2, ..Plateau::default() };
        FitOptions {
            schedule: Schedule::plateau(plateau).unwrap(),
            early_stopping: Some(EarlyStopOptions { patience: 3, min_delta: 0.05, ..EarlyStopOptions::default() }),
            checkpoint: Some(CheckpointOptions::new(path)),
            ..FitOptions::new(4, 0.05)
        }
    }
}

/// Notes reports, and stops the run once it has seen so many images of so many epochs.
struct StopAt {
    epoch: u64,
    images: usize,
    reports: Vec<EpochReport>,
    stops: bool,
}

impl StopAt {
    fn new(epoch: u64, images: usize) -> StopAt {
        StopAt { epoch, images, reports: Vec::new(), stops: false }
    }

    fn never() -> StopAt {
        StopAt::new(u64::MAX, 0)
    }
}

impl Observer for StopAt {
    fn progress(&mut self, epoch: u64, images_done: usize, _images: usize) {
        self.stops |= (epoch, images_done) >= (self.epoch, self.images);
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.reports.push(EpochReport { images_per_second: 0.0, ..report.clone() });
        Ok(())
    }

    fn should_stop(&mut self) -> bool {
        self.stops
    }
}

/// A run's reports, end and weights.
type Ended = (String, String, StateDict);

fn ended(reports: &[EpochReport], outcome: &Outcome, session: &mut Session) -> Ended {
    (format!("{reports:?}"), format!("{outcome:?}"), session.model().unwrap())
}

fn uninterrupted(setting: &Setting, device: &Device, path: &Path) -> Ended {
    let mut session = setting.session(device);
    let mut observer = StopAt::never();
    let outcome = fit(&mut session, &setting.fit_options(path), &mut observer).unwrap();
    ended(&observer.reports, &outcome, &mut session)
}

#[test]
fn a_run_goes_on_to_the_same_bytes_wherever_it_was_stopped() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    for device in [Device::Cpu, gpu().clone()] {
        let path = folder.path().join("checkpoint");
        let expected = uninterrupted(&setting, &device, &path);
        // After the first batch, within an accumulated step, before the short last batch, at the ends of epochs, late.
        for (epoch, images) in [(1, 1), (1, 17), (1, 64), (1, 70), (2, 33), (3, 70), (4, 49)] {
            let options = setting.fit_options(&path);
            let mut session = setting.session(&device);
            session.program().set_steps_per_submission(Some(1));
            let mut observer = StopAt::new(epoch, images);
            let error = fit(&mut session, &options, &mut observer).unwrap_err();
            let Error::Interrupted { saved: Some(saved), .. } = &error else { panic!("{error}") };
            assert_eq!(saved, &path);
            let checkpoint = Checkpoint::load(&path).unwrap();
            let before = checkpoint.state.epochs as usize;
            assert!(before as u64 == epoch - 1 || (before as u64 == epoch && images == 70), "{before} at {epoch}");
            assert!(checkpoint.state.batches < 5);

            let mut session = setting.session(&device);
            let mut rest = StopAt::never();
            let outcome = fit_from(&mut session, &options, &checkpoint, &mut rest).unwrap();
            let reports = [&observer.reports[..before], &rest.reports[..]].concat();
            let got = ended(&reports, &outcome, &mut session);
            assert_eq!(got.0, expected.0, "reports of a run stopped at {images} images of epoch {epoch} on {device}");
            assert_eq!(got.1, expected.1, "the end of a run stopped at {images} images of epoch {epoch} on {device}");
            assert!(got.2 == expected.2, "weights of a run stopped at {images} images of epoch {epoch} on {device}");
        }
    }
}

/// What is saved within an epoch because time has passed changes nothing, and a run can be stopped again and again.
#[test]
fn saving_after_every_batch_and_stopping_often_changes_nothing() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("checkpoint");
    let expected = uninterrupted(&setting, &Device::Cpu, &path);
    let mut options = setting.fit_options(&path);
    options.checkpoint.as_mut().unwrap().every = std::time::Duration::ZERO;
    let mut reports: Vec<EpochReport> = Vec::new();
    let mut checkpoint: Option<Checkpoint> = None;
    for stop in 1.. {
        let mut session = setting.session(&Device::Cpu);
        let mut observer = StopAt::new(1 + stop / 2, 30);
        let outcome = match &checkpoint {
            None => fit(&mut session, &options, &mut observer),
            Some(checkpoint) => fit_from(&mut session, &options, checkpoint, &mut observer),
        };
        reports.extend(observer.reports);
        match outcome {
            Ok(outcome) => {
                assert!(stop > 4, "the run was stopped only {stop} times");
                assert!(ended(&reports, &outcome, &mut session) == expected);
                return;
            }
            Err(Error::Interrupted { .. }) => checkpoint = Some(Checkpoint::load(&path).unwrap()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The end of a run is repeated from its last checkpoint, and a run that is made longer continues from there.
#[test]
fn a_finished_run_ends_again_and_can_be_made_longer() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("checkpoint");
    let long = FitOptions { early_stopping: None, ..setting.fit_options(&path) };
    let short = FitOptions { epochs: 2, ..long.clone() };
    let mut session = setting.session(&Device::Cpu);
    let mut observer = StopAt::never();
    let expected_long = fit(&mut session, &long, &mut observer).unwrap();
    let mut session = setting.session(&Device::Cpu);
    let expected_short = fit(&mut session, &short, &mut StopAt::never()).unwrap();

    let checkpoint = Checkpoint::load(&path).unwrap();
    let mut session = setting.session(&Device::Cpu);
    let mut nothing = StopAt::never();
    let outcome = fit_from(&mut session, &short, &checkpoint, &mut nothing).unwrap();
    assert_eq!(format!("{outcome:?}"), format!("{expected_short:?}"));
    assert!(nothing.reports.is_empty(), "no epoch was left");

    let mut session = setting.session(&Device::Cpu);
    let mut rest = StopAt::never();
    let outcome = fit_from(&mut session, &long, &checkpoint, &mut rest).unwrap();
    assert_eq!(format!("{outcome:?}"), format!("{expected_long:?}"));
    assert_eq!(format!("{:?}", rest.reports), format!("{:?}", &observer.reports[2..]));
}

#[test]
fn batches_after_the_last_epoch_are_not_dropped_in_silence() {
    struct Warnings(Vec<String>);
    impl Observer for Warnings {
        fn warn(&mut self, message: &str) {
            self.0.push(message.to_owned());
        }
    }
    let setting = Setting::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    fit(&mut setting.session(&Device::Cpu), &setting.fit_options(&path), &mut StopAt::new(2, 1)).unwrap_err();
    let checkpoint = Checkpoint::load(&path).unwrap();
    assert!(checkpoint.state.epochs == 1 && checkpoint.state.batches > 0, "{:?}", checkpoint.state);
    for (epochs, is_warned) in [(1, true), (2, false)] {
        let (options, mut warnings) = (FitOptions { epochs, ..setting.fit_options(&path) }, Warnings(Vec::new()));
        let outcome = fit_from(&mut setting.session(&Device::Cpu), &options, &checkpoint, &mut warnings).unwrap();
        assert_eq!(outcome.epochs, epochs);
        let named =
            warnings.0.iter().any(|warning| warning.contains("ends with epoch 1 now, and those batches are left out"));
        assert_eq!(named, is_warned, "{:?}", warnings.0);
    }
}

/// A file to damage: of a run after two epochs.
fn saved(setting: &Setting, path: &Path) -> Vec<u8> {
    let options = FitOptions { epochs: 2, ..setting.fit_options(path) };
    fit(&mut setting.session(&Device::Cpu), &options, &mut StopAt::never()).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_name() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("checkpoint");
    saved(&setting, &path);
    let checkpoint = Checkpoint::load(&path).unwrap();
    let message = |other: &Setting, options: &FitOptions| {
        let mut session = other.session(&Device::Cpu);
        let before = session.model().unwrap();
        let error = fit_from(&mut session, options, &checkpoint, &mut ()).unwrap_err();
        assert!(session.model().unwrap() == before, "nothing was changed");
        error.to_string()
    };
    let options = setting.fit_options(&path);

    let other = Setting { model: Classifier::new(LeNet5 { dropout: 0.3, ..LeNet5::default() }, 10), ..Setting::new() };
    let error = message(&other, &options);
    assert!(error.contains("bn1") && error.contains("one of this model's tensors"), "{error}");

    let other = Setting { optimizer: Optimizer::adam(), ..Setting::new() };
    let error = message(&other, &options);
    assert!(error.contains("nothing of that name"), "{error}");

    let mut other = Setting::new();
    let mut labels = other.train.labels().to_vec();
    labels[3] ^= 1;
    let (images, names) = (other.train.images().flatten().copied().collect(), other.train.class_names());
    other.train = Dataset::from_arrays(images, labels, names, other.train.shape()).unwrap();
    let error = message(&other, &options);
    assert!(error.contains("training images") && error.contains("CRC-32"), "{error}");

    let monitor = wgrad::train::early_stop::Monitor::ValAccuracy;
    let early_stopping = Some(EarlyStopOptions { monitor, ..EarlyStopOptions::default() });
    let error = message(&setting, &FitOptions { early_stopping, ..options.clone() });
    assert!(error.contains("validation loss") && error.contains("validation accuracy"), "{error}");

    let error = message(&setting, &FitOptions { schedule: Schedule::constant(), ..options });
    assert!(error.contains("the states of 0 plateaus"), "{error}");
}

#[test]
fn another_version_and_other_files_are_refused_by_name() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("checkpoint");
    let bytes = saved(&setting, &path);
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert!(matches!(error, Error::Data { .. }) && error.to_string().contains("checkpoint"), "{error}");
        error.to_string()
    };
    let text = b"wgrad checkpoint 2";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    let mut other = bytes.clone();
    other[at + text.len() - 1] = b'9';
    let error = refused(&other);
    assert!(error.contains("wgrad checkpoint 2") && error.contains("wgrad checkpoint 9"), "{error}");
    assert!(refused(b"").contains("0 bytes"));
    assert!(refused(&[0; 4096]).contains("a header of 0 bytes"));
    assert!(refused(&bytes[..bytes.len() - 1]).contains("whole"));

    let mut session = setting.session(&Device::Cpu);
    let model = folder.path().join("checkpoint.model");
    wgrad::nn::weights::save(&model, &session.model().unwrap(), &Metadata::default().entry("epoch", 3)).unwrap();
    let error = Checkpoint::load(&model).unwrap_err().to_string();
    assert!(error.contains("metadata is not a run's state"), "{error}");
    let error = Checkpoint::load(folder.path().join("none").as_path()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(crate::properties::property_seed()),
        ..ProptestConfig::default()
    })]

    /// Whatever happens to a file, reading it is an error that names it, never other numbers and never a panic.
    #[test]
    fn a_damaged_checkpoint_is_never_read(place in 0.0..1.0f64, bit in 0..8u32, kind in 0..4) {
        thread_local! {
            static SAVED: Vec<u8> = {
                let folder = tempfile::tempdir().unwrap();
                saved(&Setting::new(), &folder.path().join("checkpoint"))
            };
        }
        let mut bytes = SAVED.with(Clone::clone);
        // Half of the cases in the header, which is a small part of the file.
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let range = if kind % 2 == 0 { header } else { bytes.len() };
        let at = (place * range as f64) as usize;
        match kind {
            0 | 1 => bytes[at] ^= 1 << bit,
            2 => bytes.truncate(at),
            _ => { bytes.splice(at..at, [bit as u8; 3]); }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let error = match Checkpoint::load(file.path()) {
            Err(error) => error.to_string(),
            Ok(_) => return Err(TestCaseError::fail(format!("case {kind} at {at} of {} was read", bytes.len()))),
        };
        prop_assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
