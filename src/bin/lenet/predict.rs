//! `lenet predict`: classifies images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use wgrad::data::{Fit, Photo, PhotoOptions, has_bright_border};
use wgrad::report::predictions::{Pixels, PredictedImage, predictions};
use wgrad::run::SavedModel;
use wgrad::train::predict::Prediction;
use wgrad::{Device, Result};

use crate::console::{self, percent, printable};
use crate::model::ModelOptions;
use crate::options::at_least_1;
use crate::picture::{self, png_file};

/// The longest side of an image as it was given on the picture: two pixels for each of the canvas's.
const THUMBNAIL: u32 = 264;
/// Images on the picture at most: more would be a picture that no viewer opens.
const MOST_DRAWN: usize = 60;

#[derive(Args)]
#[command(
    override_usage = "lenet predict [OPTIONS] <IMAGE>... --run <RUN>\n       lenet predict [OPTIONS] <IMAGE>... --weights <FILE>"
)]
pub struct PredictOptions {
    /// PNG or JPEG files of any size, rotated as their EXIF orientation says; transparency is composited over white
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    /// How images fill the network's square: `crop` takes the largest square in the middle, `pad` the whole image with
    /// bars in the colour of its border
    #[arg(long, value_name = "HOW", value_enum, default_value = "crop", help_heading = "Images")]
    fit: FitOption,
    /// Invert the images: for ink on paper, if the network was trained on light shapes on black
    #[arg(long, help_heading = "Images")]
    invert: bool,
    /// Show the K most probable classes
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = at_least_1, help_heading = "Output")]
    top: usize,
    /// Draw the images to this file, as given and as the network sees them, with their probabilities
    #[arg(long, value_name = "FILE.png", value_parser = png_file(), help_heading = "Output")]
    picture: Option<PathBuf>,
    /// Print only JSON: one object per line for each image
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FitOption {
    Crop,
    Pad,
}

/// An image that could be read.
struct Readable {
    photo: Photo,
    /// As the network sees it (C, H, W).
    pixels: Vec<u8>,
}

pub fn run(options: PredictOptions) -> Result<ExitCode> {
    picture::keep("--picture", options.picture.as_deref(), &options.images)?;
    let model = options.model.open()?;
    let SavedModel { file, config, shape, .. } = &model;
    let shape = *shape;
    let how = PhotoOptions { fit: options.fit.into(), invert: options.invert };
    let read = |path: &PathBuf| {
        let photo = Photo::read(path)?;
        let pixels = photo.fitted(shape, how);
        Ok(Readable { photo, pixels })
    };
    let images: Vec<Result<Readable>> = options.images.iter().map(read).collect();
    let pixels = images.iter().flatten().flat_map(|image| &image.pixels).copied().collect();
    let data = model.unlabelled(pixels)?;
    let class_names = data.class_names();
    let (device, reason) = Device::select_with_reason(&config.device)?;
    // The model is checked even if no image could be read, so that both mistakes are reported at once.
    let mut predicted = model.predict(&device, &data)?.into_iter();
    if !options.json {
        console::line(format!("device    {device}: {reason}"))?;
        console::line(format!("model     {} ({})\n", file.display(), config.dataset))?;
    }
    let width = options.images.iter().map(|path| printable(path.display()).chars().count()).max().unwrap_or(0).max(5);
    let mut exit_code = ExitCode::SUCCESS;
    let mut drawn = Vec::new();
    let mut has_header = options.json;
    for (path, image) in options.images.iter().zip(images) {
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                exit_code = ExitCode::FAILURE;
                console::complain("error", &error.to_string());
                if options.json {
                    console::json(&Failed { image: path, error: error.to_string() })?;
                }
                continue;
            }
        };
        let Some(prediction) = predicted.next() else { break };
        let looks_inverted = config.dataset.get().is_on_black() && has_bright_border(&image.pixels, shape);
        if looks_inverted {
            console::complain("warning", &inverted(path, options.invert));
        }
        let top = prediction.top(options.top);
        let classes = top.iter().map(|&(class, probability)| {
            let name = class_names.get(class).copied().unwrap_or_default();
            Class { class, name, probability }
        });
        if options.json {
            console::json(&Line { image: path, top: classes.collect(), looks_inverted })?;
        } else {
            if !has_header {
                has_header = true;
                console::line(format!("{:width$}  {:12}  probability", "image", "class"))?;
            }
            for (place, Class { name, probability, .. }) in classes.enumerate() {
                let image = if place == 0 { printable(path.display()) } else { String::new() };
                let name = printable(name);
                console::line(format!("{image:width$}  {name:12}  {:>11}", percent(probability)))?;
            }
        }
        if options.picture.is_some() && drawn.len() < MOST_DRAWN {
            drawn.push(drawing(path, image, prediction, shape));
        }
    }
    if let Some(path) = options.picture.filter(|_| !drawn.is_empty()) {
        if data.len() > MOST_DRAWN {
            console::complain("warning", &format!("only the first {MOST_DRAWN} images are drawn"));
        }
        predictions(&drawn, &class_names, options.top.max(3)).save(&path)?;
        if !options.json {
            console::line(format!("\npicture   {}", path.display()))?;
        }
    }
    Ok(exit_code)
}

fn drawing(path: &Path, image: Readable, prediction: Prediction, shape: [usize; 3]) -> PredictedImage {
    let (pixels, given_shape) = image.photo.thumbnail(THUMBNAIL);
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    PredictedImage {
        name,
        given: Pixels { pixels, shape: given_shape },
        seen: Pixels { pixels: image.pixels, shape },
        probabilities: prediction.probabilities,
    }
}

fn inverted(path: &Path, is_inverted: bool) -> String {
    let advice = if is_inverted { "leave --invert out" } else { "for dark on light, give --invert" };
    let path = path.display();
    format!("{path} has a bright border, and the network was trained on bright things on black; {advice}")
}

impl From<FitOption> for Fit {
    fn from(option: FitOption) -> Fit {
        match option {
            FitOption::Crop => Fit::Crop,
            FitOption::Pad => Fit::Pad,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "console::path")]
    image: &'a Path,
    /// The most probable first.
    top: Vec<Class<'a>>,
    /// Whether there was the warning about a bright border.
    looks_inverted: bool,
}

#[derive(Serialize)]
struct Class<'a> {
    class: usize,
    name: &'a str,
    probability: f64,
}

#[derive(Serialize)]
struct Failed<'a> {
    #[serde(serialize_with = "console::path")]
    image: &'a Path,
    error: String,
}
