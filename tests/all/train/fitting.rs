//! What `fit` decides, restores and tells.

use super::*;

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

/// An epoch may end in the middle of the warm-up; the plateau takes over in the first one whose last step comes after it.
#[test]
fn a_plateau_after_a_warm_up_in_batches_sees_the_epochs_that_end_after_it() {
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

/// Ends a run with the epoch of this number.
struct EndsWith(u64, Told);

impl Observer for EndsWith {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.1.epoch(report)
    }

    fn end_after(&mut self, report: &EpochReport) -> Option<String> {
        (report.epoch == self.0).then(|| "a rule of one's own".to_owned())
    }

    fn event(&mut self, event: &Event) {
        self.1.event(event);
    }
}

/// The same as if the run had so many epochs: best weights, test evaluation and checkpoint.
#[test]
fn an_observer_ends_a_run_with_an_outcome() {
    let (train, test) = images(100, 60);
    let model = Classifier::new(LeNet5::default(), 10);
    let folder = tempfile::tempdir().unwrap();
    let run = |epochs, last| {
        let mut session = Session::new(&Device::Cpu, &options(&model, &train, &test, 20)).unwrap();
        let path = folder.path().join(format!("checkpoint{epochs}"));
        let mut observer = EndsWith(last, Told::default());
        let fit_options = FitOptions { checkpoint: Some(CheckpointOptions::new(&path)), ..fit_options(epochs, 0.1) };
        let outcome = fit(&mut session, &fit_options, &mut observer).unwrap();
        let state = Checkpoint::load(&path).unwrap().state;
        assert_eq!((outcome.epochs, observer.1.0.len(), state.epochs), (4, 4, 4));
        (outcome, observer.1.1, session.model().unwrap())
    };
    let (mut ended, all) = (run(30, 4), run(4, 4));
    assert_eq!(std::mem::take(&mut ended.0.stopped), "a rule of one's own");
    assert_eq!((ended.0.test_loss, ended.0.test_accuracy), (all.0.test_loss, all.0.test_accuracy));
    assert!(ended.0.best_epoch == all.0.best_epoch && ended.0.test.is_some());
    assert!((ended.1, ended.2) == (all.1, all.2), "the best weights are restored, and that is told");
}
