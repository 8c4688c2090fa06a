//! Training as a whole: against runs of PyTorch (`tests/golden/README.md`), reproducible to the byte, without a new
//! object after the first epoch, and what `fit` decides.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

mod fitting;
mod pytorch;
mod same_bits;
mod sessions;

use safetensors::SafeTensors;
use wgrad::data::{ChannelStats, Cifar10, Dataset, Source, bundled};
use wgrad::nn::{Classifier, LeNet5, Mode, Model, Network};
use wgrad::ops::CrossEntropy;
use wgrad::optim::{GradientOptions, Optimizer, UpdateOptions};
use wgrad::schedule::{Interval, Mode as Direction, Plateau, Schedule};
use wgrad::train::early_stop::{EarlyStopOptions, Monitor};
use wgrad::train::{
    Checkpoint, CheckpointOptions, EpochReport, Event, FitOptions, LatestBatches, LrFindOptions, Observer, Outcome,
    Session, SessionOptions, fit, lr_find,
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

fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|x| x.is_finite()));
    got.iter().zip(want).fold(0.0, |worst: f64, (got, want)| worst.max((got - want).abs()))
}

// ---- the same to the byte

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
