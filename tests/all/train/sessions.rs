//! Sessions: which images they train and validate on, and who may watch.

use super::*;

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
