//! LeNet-5 on FashionMNIST as `lenet train` takes its steps, for benches: data on the device, gather and normalization in the
//! step, SGD with momentum.

#[path = "steps.rs"]
mod steps;

use wgrad::Device;
use wgrad::data::{self, FashionMnist, Normalize};
use wgrad::exec::verify::Report;
use wgrad::nn::{Classifier, LeNet5};
use wgrad::optim::{Optimizer, UpdateOptions};
use wgrad::train::{Session, SessionOptions};

/// Steps over the same images again and again.
pub struct Trainer {
    pub session: Session,
    batch_size: usize,
    num_images: usize,
    done: usize,
}

impl Trainer {
    /// For batches of so many of the first images.
    pub fn new(device: &Device, num_images: usize, batch_size: usize, seed: u64) -> wgrad::Result<Trainer> {
        let session = with_options(num_images, batch_size, seed, |options| Session::new(device, options))?;
        Ok(Trainer { session, batch_size, num_images, done: 0 })
    }

    /// Takes so many steps.
    pub fn run(&mut self, steps: usize) -> wgrad::Result<()> {
        let table = steps::table(steps, self.done, self.num_images / self.batch_size, self.batch_size);
        self.done += steps;
        self.session.program().run("train", &table)
    }
}

/// Holds a first step to the f64 reference.
pub fn verify(device: &Device, num_images: usize, batch_size: usize) -> wgrad::Result<Report> {
    with_options(num_images, batch_size, 0, |options| Session::verify_step(device, options, 0.01, None))
}

fn with_options<T>(
    num_images: usize,
    batch_size: usize,
    seed: u64,
    of: impl FnOnce(&SessionOptions<'_>) -> wgrad::Result<T>,
) -> wgrad::Result<T> {
    let mut splits = data::load(&FashionMnist {}.into(), None)?;
    splits.train.limit(num_images);
    splits.test.limit(batch_size);
    of(&SessionOptions {
        model: &Classifier::new(LeNet5::default(), 10),
        train: &splits.train,
        validation: None,
        test: &splits.test,
        batch_size,
        eval_batch_size: batch_size,
        normalize: Normalize::Dataset.stats(&splits.train)?,
        optimizer: Optimizer::sgd(0.9),
        update: UpdateOptions::default(),
        label_smoothing: 0.0,
        shuffle: true,
        seed,
        augment: None,
        diagnostics: None,
    })
}
