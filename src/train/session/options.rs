//! What a session is made of.

use super::super::diagnostics::DiagnosticsOptions;
use crate::Result;
use crate::data::{ChannelStats, Dataset, Normalize};
use crate::nn::Model;
use crate::ops::Augment;
use crate::optim::{Optimizer, Update, UpdateOptions};

/// What a session is made of.
pub struct SessionOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// The images to learn from.
    pub train: &'a Dataset,
    /// The images that decide which weights are best; `None` takes the test images.
    pub validation: Option<&'a Dataset>,
    /// The images for the final evaluation.
    pub test: &'a Dataset,
    /// Images in a step.
    pub batch_size: usize,
    /// Images in a step of evaluation.
    pub eval_batch_size: usize,
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: ChannelStats,
    /// How parameters follow their gradients. Default: SGD with momentum 0.9.
    pub optimizer: Optimizer,
    /// Gradient transforms before the update (regularization, clipping, accumulation), and parameter groups. Default:
    /// none.
    pub update: UpdateOptions,
    /// The share of the target distributed uniformly over all classes in training (`label_smoothing` of
    /// `torch.nn.CrossEntropyLoss`), from 0 to below 1. Evaluation does not use it, so its losses are comparable.
    pub label_smoothing: f64,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// The key of initial weights, orders, dropout and augmentation.
    pub seed: u64,
    /// Random changes to training images, applied after normalisation; evaluation does not use them.
    pub augment: Option<Augment>,
    /// What [`super::Session::diagnose`] computes; `None` for nothing. Training steps do not depend on it. It costs two
    /// copies of the states that the optimizer changes, one more copy per epoch, and a graph to compile.
    pub diagnostics: Option<DiagnosticsOptions>,
}

impl<'a> SessionOptions<'a> {
    /// SGD with momentum 0.9 on shuffled batches of 64 images, normalized by the training images' statistics. The
    /// validation images are others than the test images, as [`Dataset::hold_out`] gives them. Other fields can be set.
    ///
    /// # Errors
    /// As [`Normalize::stats`].
    pub fn new(model: &'a dyn Model, train: &'a Dataset, validation: &'a Dataset, test: &'a Dataset) -> Result<Self> {
        let normalize = Normalize::Dataset.stats(train)?;
        let options = SessionOptions::validated_on_test(model, train, test, normalize);
        Ok(SessionOptions { validation: Some(validation), ..options })
    }

    /// The same without validation images: the test images decide which weights are best, so that the result is no
    /// longer measured on images that had no part in it.
    pub fn validated_on_test(
        model: &'a dyn Model,
        train: &'a Dataset,
        test: &'a Dataset,
        normalize: ChannelStats,
    ) -> Self {
        SessionOptions {
            model,
            train,
            validation: None,
            test,
            batch_size: 64,
            eval_batch_size: 500,
            normalize,
            optimizer: Optimizer::sgd(0.9),
            update: UpdateOptions::default(),
            label_smoothing: 0.0,
            shuffle: true,
            seed: 0,
            augment: None,
            diagnostics: None,
        }
    }

    pub(super) fn update(&self) -> Result<Update> {
        Update::new(self.optimizer.clone(), self.update.clone())
    }
}
