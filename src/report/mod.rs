//! The report of a run: pictures, `metrics.csv`, event files for TensorBoard and `report.html`. Everything here except
//! [`write_report`] and [`EventWriter`] is a pure function of plain data. Training needs none of it.
//!
//! Pictures are drawn by a small canvas on top of ab_glyph's rasteriser. The crate plotters was considered first, but
//! its text without system fonts drops the space before letters, and its thick lines have rough edges.

mod axes;
mod canvas;
pub mod classify;
mod color;
pub mod compare;
mod contours;
pub mod csv;
pub mod curves;
pub mod grids;
pub mod html;
mod page;
pub mod parallel;
mod picture;
pub mod plots;
pub mod predictions;
pub mod tensorboard;

use std::path::{Path, PathBuf};

pub use classify::Confusion;
pub use compare::Comparison;
use grids::ImageSample;
use html::Figure;
pub use page::Page;
pub use picture::Picture;
use plots::Sample;
use tensorboard::EventWriter;

use crate::data::Dataset;
use crate::exec::StateDict;
use crate::train::History;
use crate::train::predict::{Inspection, Prediction};
use crate::{Result, files};

/// Images on the grid of samples, and the most misclassified ones among them.
const SAMPLES: usize = 40;

/// What a report is made from.
#[derive(Clone, Copy)]
pub struct ReportInput<'a> {
    /// The run's settings and epochs.
    pub history: &'a History,
    /// The test images.
    pub test: &'a Dataset,
    /// The network's prediction for each of them.
    pub predictions: &'a [Prediction],
    /// Activations and gradients on some of them.
    pub inspection: &'a Inspection,
    /// The best weights.
    pub weights: &'a StateDict,
}

/// Writes `metrics.csv`, `pictures/*.png` and `report.html` to a folder, and pictures and the result to TensorBoard's
/// events; gives the paths of what it wrote, the page first.
///
/// # Errors
/// [`crate::Error::Io`]; [`crate::Error::Operand`] where labels or predictions are not of the data set's classes.
pub fn write_report(folder: &Path, input: &ReportInput<'_>, events: &mut EventWriter) -> Result<Vec<PathBuf>> {
    let ReportInput { history, test, predictions, .. } = *input;
    let pairs = predictions.iter().map(|prediction| (prediction.label, prediction.predicted));
    let confusion = Confusion::of(test.num_classes(), pairs)?;
    let figures = figures(input, &confusion)?;

    let page = folder.join("report.html");
    let mut written = vec![page.clone(), folder.join("metrics.csv")];
    files::write_whole(&written[1], csv::metrics_csv(&history.epochs).as_bytes())?;
    let pictures = folder.join("pictures");
    files::create_dir_all(&pictures).map_err(crate::Error::io("create", &pictures))?;
    for figure in &figures {
        let path = pictures.join(format!("{}.png", figure.name));
        files::write_whole(&path, &figure.picture.png())?;
        written.push(path);
    }
    let html = html::report_html(history, &confusion, &test.class_names(), &figures);
    files::write_whole(&page, html.as_bytes())?;
    if history.diagnostics.is_empty() {
        write_histograms(events, history.best().epoch, input.weights, input.inspection)?;
    }
    write_events(events, history, &figures)?;
    written.push(events.path().to_owned());
    Ok(written)
}

/// The distributions of weights and gradients, for a run whose diagnostics have not written them epoch by epoch.
fn write_histograms(events: &mut EventWriter, step: u64, weights: &StateDict, inspection: &Inspection) -> Result<()> {
    for (name, tensor) in weights {
        events.histogram(&format!("weights/{name}"), step, &tensor.to_f32_vec())?;
    }
    for (name, tensor) in &inspection.gradients {
        events.histogram(&format!("gradients/{name}"), step, &tensor.to_f32_vec())?;
    }
    Ok(())
}

/// The pictures and the test metrics, at the best epoch.
fn write_events(events: &mut EventWriter, run: &History, figures: &[Figure]) -> Result<()> {
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

fn figures(input: &ReportInput<'_>, confusion: &Confusion) -> Result<Vec<Figure>> {
    let ReportInput { history, test, predictions, inspection, weights } = *input;
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
            "Training metrics are means over the epoch while the weights changed; validation follows it.",
            curves::training_curves(history),
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
    if let Some(picture) = curves::diagnostic_curves(history) {
        let caption = "Diagnostics of the network on each epoch's last batch. Steps that change a weight by about a \
                       thousandth are healthy; gradients that grow or vanish, and units that stay dead, are not.";
        figures.push(figure("diagnostics", "Diagnostics", caption, picture));
    }
    // The first convolution, whose filters can be seen as pictures.
    let first = inspection.parameters.iter().find_map(|name| Some((name, weights.get(name)?)));
    if let Some((name, weight)) = first.filter(|(_, weight)| weight.shape().rank() == 4) {
        let caption = "Each filter is scaled for itself: blue is negative, white 0, red positive; on colour images the \
                       colours are the filter's own around grey.";
        let picture = grids::filters(&format!("Filters of {name}"), weight)?;
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

/// Test images with their predicted classes: the first mistakes, up to half of them, and the first others, in the
/// order of the data set.
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
