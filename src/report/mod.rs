//! What people look at when a run is over: pictures, `metrics.csv`, event files for TensorBoard and `report.html`.
//! Everything here but [`write_report`] and [`EventWriter`] is a pure function from plain
//! data; training needs none of it.
//!
//! Pictures are drawn by a small canvas of our own over ab_glyph's rasteriser: plotters was looked at first, and its
//! text without system fonts drops the space before letters, and its thick lines have rough edges.

mod axes;
mod canvas;
pub mod classify;
pub mod compare;
pub mod csv;
pub mod curves;
pub mod grids;
pub mod html;
mod page;
pub mod parallel;
pub mod plots;
pub mod predictions;
pub mod run;
pub mod tensorboard;

use std::path::{Path, PathBuf};

pub use canvas::Picture;
pub use classify::Confusion;
pub use compare::Comparison;
pub(super) use compare::columns;
use grids::ImageSample;
use html::Figure;
pub use page::Page;
use plots::Sample;
pub use run::Run;
use tensorboard::EventWriter;

use crate::data::{ChannelStats, Dataset};
use crate::exec::{Device, StateDict};
use crate::nn::Model;
use crate::train::predict::{Inspection, Prediction, Predictor, PredictorOptions};
use crate::{Result, files};

/// Images that the look inside is taken of, and at most in a step of prediction.
const INSPECTED: usize = 256;

/// Images on the grid of samples, and of those at most so many that were classified wrongly.
const SAMPLES: usize = 40;

/// What a report is made from, beside what the run's folder holds.
#[derive(Clone, Copy)]
pub struct ReportOptions<'a> {
    /// What to compute predictions on.
    pub device: &'a Device,
    /// The network.
    pub model: &'a dyn Model,
    /// Its weights: the best of the run.
    pub weights: &'a StateDict,
    /// The images to judge by.
    pub test: &'a Dataset,
    /// How pixels were normalised in training.
    pub normalize: &'a ChannelStats,
}

/// Reads `config.toml` and `metrics.jsonl` of a run's folder, classifies the test images and writes `metrics.csv`,
/// `pictures/*.png`, `report.html` and event files under `tensorboard/`; gives their paths, the page first. `events` is
/// the writer that followed the run, if one did; without one the epochs are written to a new event file as well.
///
/// # Errors
/// As [`Run::read`] and [`Predictor::new`]; [`crate::Error::Io`]; [`crate::Error::DeviceLost`].
pub fn write_report(
    folder: &Path,
    options: &ReportOptions<'_>,
    events: Option<&mut EventWriter>,
) -> Result<Vec<PathBuf>> {
    let run = Run::read(folder)?;
    let mut predictor = Predictor::new(
        options.device,
        &PredictorOptions {
            model: options.model,
            weights: options.weights,
            normalize: options.normalize,
            shape: options.test.shape(),
            batch_size: INSPECTED.min(options.test.len()).max(1),
        },
    )?;
    let predictions = predictor.predict(options.test)?;
    let inspection = predictor.inspect(options.test)?;
    let pairs = predictions.iter().map(|prediction| (prediction.label, prediction.predicted));
    let confusion = Confusion::of(options.test.num_classes(), pairs)?;
    let figures = figures(&run, options.test, &predictions, &confusion, &inspection, predictor.first_filters()?)?;

    let page = folder.join("report.html");
    let mut written = vec![page.clone(), folder.join("metrics.csv")];
    files::write_whole(&written[1], csv::metrics_csv(&run.epochs).as_bytes())?;
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(&pictures).map_err(crate::Error::io("create", &pictures))?;
    for figure in &figures {
        let path = pictures.join(format!("{}.png", figure.name));
        files::write_whole(&path, &figure.picture.png())?;
        written.push(path);
    }
    let html = html::report_html(&run, &confusion, &options.test.class_names(), &figures);
    files::write_whole(&page, html.as_bytes())?;
    let mut own;
    let events = match events {
        Some(events) => events,
        None => {
            own = EventWriter::create(&folder.join("tensorboard"))?;
            run.epochs.iter().try_for_each(|epoch| own.epoch(epoch))?;
            write_histograms(&mut own, run.best().epoch, &predictor.parameters()?, &inspection)?;
            &mut own
        }
    };
    write_events(events, &run, &figures)?;
    written.push(events.path().to_owned());
    Ok(written)
}

/// The distributions of weights and gradients; a writer that follows a run has them of every epoch.
fn write_histograms(events: &mut EventWriter, step: u64, weights: &StateDict, inspection: &Inspection) -> Result<()> {
    for (name, tensor) in weights {
        events.histogram(&format!("weights/{name}"), step, &tensor.to_f32_vec())?;
    }
    for (name, tensor) in &inspection.gradients {
        events.histogram(&format!("gradients/{name}"), step, &tensor.to_f32_vec())?;
    }
    Ok(())
}

/// The pictures and the test scores, at the best epoch.
fn write_events(events: &mut EventWriter, run: &Run, figures: &[Figure]) -> Result<()> {
    let step = run.best().epoch;
    for figure in figures {
        events.image(&format!("pictures/{}", figure.name), step, &figure.picture)?;
    }
    if let Some(outcome) = &run.outcome {
        events.scalar("loss/test", outcome.best_epoch, outcome.test_loss)?;
        events.scalar("accuracy/test", outcome.best_epoch, outcome.test_accuracy)?;
    }
    events.sync()
}

fn figures(
    run: &Run,
    test: &Dataset,
    predictions: &[Prediction],
    confusion: &Confusion,
    inspection: &Inspection,
    filters: Option<(String, crate::Tensor)>,
) -> Result<Vec<Figure>> {
    let figure = |name, heading: &str, caption: &str, picture| Figure {
        name,
        heading: heading.to_owned(),
        caption: caption.to_owned(),
        picture,
    };
    let mut figures = vec![
        figure(
            "curves",
            "Curves",
            "Training scores are means over the epoch while weights changed; validation is after it.",
            curves::training_curves(run),
        ),
        figure(
            "confusion",
            "Confusion",
            "Blue is right, orange is wrong; cells are shaded by their share of the row.",
            grids::confusion_matrix(confusion, &test.class_names()),
        ),
        figure(
            "samples",
            "Samples",
            "The first mistakes and the first images classified rightly; a cross names what an image was taken for.",
            grids::sample_grid("Test images", &samples(test, predictions)?, 8),
        ),
    ];
    if let Some(picture) = curves::health_curves(run) {
        let caption = "From a look into the network on each epoch's last batch. Steps that change a weight by about a \
                       thousandth are healthy; gradients that grow or vanish, and units that stay dead, are not.";
        figures.push(figure("health", "Health", caption, picture));
    }
    if let Some((name, weight)) = filters {
        let caption = "Each filter is scaled for itself: blue is negative, white 0, red positive; on colour images the \
                       colours are the filter's own around grey.";
        let picture = grids::filters(&format!("Filters of {name}"), &weight)?;
        figures.push(figure("filters", "First-layer filters", caption, picture));
    }
    if !inspection.normalized.is_empty() {
        let caption = "Values of each channel over a batch of test images, with mean ± standard deviation.";
        figures.push(figure(
            "features",
            "Features before and after batch normalisation",
            caption,
            features(inspection),
        ));
    }
    Ok(figures)
}

/// Histograms of channels before and after each batch normalisation, of up to 8 channels each.
fn features(inspection: &Inspection) -> Picture {
    const SHOWN: usize = 8;
    let mut rows = Vec::new();
    for layer in &inspection.normalized {
        for (side, channels) in [("before", &layer.before), ("after", &layer.after)] {
            let sample = |(channel, values): (usize, &Vec<f32>)| Sample {
                name: format!("channel {channel}"),
                values: values.clone(),
            };
            rows.push((
                format!("{side} {}", layer.name),
                channels.iter().take(SHOWN).enumerate().map(sample).collect(),
            ));
        }
    }
    plots::histogram_rows("Features around batch normalisation", &rows)
}

/// Test images with what they were taken for: the first mistakes, up to half of them, and the first others, in the order
/// of the data set.
pub fn samples(data: &Dataset, predictions: &[Prediction]) -> Result<Vec<ImageSample>> {
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for (index, prediction) in predictions.iter().enumerate() {
        if prediction.label == prediction.predicted { right.push(index) } else { wrong.push(index) }
    }
    let num_wrong = wrong.len().min(SAMPLES / 2).max(SAMPLES.saturating_sub(right.len()).min(wrong.len()));
    let mut chosen: Vec<usize> = wrong[..num_wrong].to_vec();
    chosen.extend(right.iter().take(SAMPLES - num_wrong));
    chosen.sort_unstable();
    let class_names = data.class_names();
    let name = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
    let indices: Vec<u32> = chosen.iter().filter_map(|&index| u32::try_from(index).ok()).collect();
    let subset = data.subset(&indices)?;
    let image = |(place, &index): (usize, &usize)| {
        let prediction = &predictions[index];
        ImageSample {
            pixels: subset.image(place).to_vec(),
            shape: data.shape(),
            label: name(prediction.label),
            predicted: Some((name(prediction.predicted), prediction.probability)),
        }
    };
    Ok(chosen.iter().enumerate().map(image).collect())
}
