//! From settings to what they describe: a session, the plans of its steps, a check of a step against the reference.

use std::path::Path;

use super::{RunConfig, RunData};
use crate::data::DataSource;
use crate::dist::{Alone, Comm};
use crate::exec::verify::Report;
use crate::exec::{Device, StateDict};
use crate::graph::plan::Plan;
use crate::nn::{Classifier, Summary, weights};
use crate::train::{Session, SessionOptions};
use crate::{Error, Result};

/// Images in a step of evaluation: divides the images of every test set, so that there is no shorter last batch, and
/// is small enough that a batch's activations stay in a CPU's cache.
pub(super) const EVAL_BATCH_SIZE: usize = 500;

/// A session over these images, with the initial weights of [`RunConfig::init`] if any.
///
/// # Errors
/// As [`Session::new`]; [`Error::Io`] and [`Error::Data`] where the file of initial weights cannot be read or is of
/// another network.
pub fn session(config: &RunConfig, device: &Device, data: &RunData) -> Result<Session> {
    session_among(config, device, data, Box::new(Alone))
}

/// [`session`] as one of several ranks; see [`Session::among`].
pub(super) fn session_among(
    config: &RunConfig,
    device: &Device,
    data: &RunData,
    comm: Box<dyn Comm>,
) -> Result<Session> {
    let initial = initial_weights(config)?;
    let model = config.model()?;
    let session = Session::among(device, &session_options(config, &model, data)?, comm);
    let mut session = session.map_err(|error| too_small(config, error))?;
    if let Some((path, weights)) = initial {
        session.load_model(&weights).map_err(weights::in_file(path))?;
    }
    Ok(session)
}

/// The plans of such a run, as [`Session::plans`] has them, without reading any data.
///
/// # Errors
/// As [`Session::plans`].
pub fn plans(config: &RunConfig) -> Result<Vec<Plan>> {
    plans_on(config, &RunData::blank(config)?)
}

/// [`plans`] for these images.
pub(crate) fn plans_on(config: &RunConfig, data: &RunData) -> Result<Vec<Plan>> {
    Session::plans(&session_options(config, &config.model()?, data)?).map_err(|error| too_small(config, error))
}

/// What the network is made of, for batches of the configured size; see [`Summary`].
///
/// # Errors
/// As [`Summary::of`].
pub fn summary(config: &RunConfig) -> Result<Summary> {
    let summary = Summary::of(&config.model()?, config.dataset.get().image_shape(), config.batch_size);
    summary.map_err(|error| too_small(config, error))
}

/// Checks the first training step on `device` against the f64 reference; see [`Session::verify_step`].
///
/// # Errors
/// As [`Session::verify_step`] and [`session`].
pub fn verify_step(config: &RunConfig, device: &Device, data: &RunData) -> Result<Report> {
    let mut data = data.clone();
    // One batch is all that is needed, and the reference keeps everything twice.
    data.train.limit(config.batch_size);
    let batch_size = config.batch_size.min(data.train.len());
    let initial = initial_weights(config)?;
    let weights = initial.as_ref().map(|(_, weights)| weights);
    let model = config.model()?;
    let options = SessionOptions { batch_size, ..session_options(config, &model, &data)? };
    let report = Session::verify_step(device, &options, config.learning_rate(), weights);
    let report = report.map_err(|error| too_small(config, error));
    match initial {
        Some((path, _)) => report.map_err(weights::in_file(path)),
        None => report,
    }
}

/// Names the size of images where a network cannot be built for them and they are scaled to any size.
fn too_small(config: &RunConfig, error: Error) -> Error {
    let (DataSource::ImageFolder(images), Error::Operand { .. }) = (&config.dataset, &error) else { return error };
    let Ok(model) = config.model() else { return error };
    let builds = |size: usize| Summary::of(&model, [images.channels, size, size], 1).is_ok();
    // No network here asks for more than the 224 pixels that ImageNet's take.
    match (!builds(images.size)).then(|| (images.size..=224).find(|&size| builds(size))).flatten() {
        Some(least) => {
            let expected = format!("at least {least} pixels for this network ({error})");
            Error::setting("dataset.size", expected, images.size)
        }
        None => error,
    }
}

fn session_options<'a>(config: &RunConfig, model: &'a Classifier, data: &'a RunData) -> Result<SessionOptions<'a>> {
    let normalize = config.normalize.stats(&data.train)?;
    let augment = config.transforms.augment(&normalize);
    Ok(SessionOptions {
        model,
        train: &data.train,
        validation: data.validation.as_ref(),
        test: &data.test,
        batch_size: config.batch_size,
        eval_batch_size: EVAL_BATCH_SIZE,
        normalize,
        optimizer: config.optimizer.clone(),
        update: config.update(),
        label_smoothing: config.label_smoothing,
        shuffle: config.shuffle,
        seed: config.seed,
        augment,
        diagnostics: config.diagnostics.clone(),
    })
}

fn initial_weights(config: &RunConfig) -> Result<Option<(&Path, StateDict)>> {
    let load = |path| {
        let initial = weights::load(path)?;
        // A NaN here would be blamed on the learning rate once training has spread it.
        weights::require_finite(&initial).map_err(weights::in_file(path))?;
        Ok((path, initial))
    };
    config.init.as_deref().map(load).transpose()
}
