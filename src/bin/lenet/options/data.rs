//! Options about the images: which, from where, how many, and what training does to them.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use wgrad::Result;
use wgrad::data::{BorderColor, DataSource, Normalize};
use wgrad::run::RunConfig;

use super::{absolute, choice, parser, reject, set};

#[derive(Args)]
#[command(next_help_heading = "Data")]
pub struct DatasetOption {
    /// The images [default: fashion-mnist]
    #[arg(long, value_name = "NAME", value_parser = dataset_name())]
    pub dataset: Option<DataSource>,
}

#[derive(Args)]
#[command(next_help_heading = "Data")]
pub struct SourceOptions {
    /// The folder with the data set's files [default: the cache folder, /usr/share/datasets, or for fashion-mnist the
    /// bundled part of it]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What pixels become: `none` only scales them to 0..1, `half` to -1..1, `dataset` to the data set's mean 0 and
    /// standard deviation 1 [default: dataset]
    #[arg(long, value_name = "HOW", value_parser = parser::<Normalize>(&["none", "half", "dataset"]))]
    normalize: Option<Normalize>,
}

#[derive(Args)]
#[command(next_help_heading = "Data")]
pub struct SelectionOptions {
    /// Train on the first N images only [default: all that are not held out]
    #[arg(long, value_name = "N")]
    train_limit: Option<usize>,
    /// Validate on the first N images only [default: all that are held out]
    #[arg(long, value_name = "N")]
    val_limit: Option<usize>,
    /// Share of the training images held out to validate on; 0 validates on the official test images [default: 0.1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    val_split: Option<f64>,
    /// Take the images in the same order in every epoch
    #[arg(long)]
    no_shuffle: bool,
}

/// The names of data sets.
pub fn dataset_name() -> impl TypedValueParser<Value = DataSource> {
    let names = DataSource::ENTRIES.iter().map(|entry| entry.name);
    PossibleValuesParser::new(names).try_map(|name| DataSource::named(&name))
}

impl DatasetOption {
    /// A name that the settings have already leaves what else they say of the data set.
    pub fn apply(&self, config: &mut RunConfig) {
        if let Some(source) = &self.dataset
            && source.name() != config.dataset.name()
        {
            config.dataset = source.clone();
        }
    }

    /// As [`apply`](Self::apply), to the settings of a run that has ended: another data set's files would not be in
    /// that run's folder of data.
    pub fn apply_to_model(&self, config: &mut RunConfig) {
        config.data = config
            .data
            .take()
            .filter(|_| self.dataset.as_ref().is_none_or(|source| source.name() == config.dataset.name()));
        self.apply(config);
    }
}

impl SourceOptions {
    pub fn apply(&self, config: &mut RunConfig) -> Result<()> {
        if let Some(dir) = &self.data {
            config.data = Some(absolute(dir)?);
        }
        set(self.normalize, &mut config.normalize);
        Ok(())
    }
}

impl SelectionOptions {
    pub fn apply(self, config: &mut RunConfig) {
        config.train_limit = self.train_limit.or(config.train_limit);
        config.val_limit = self.val_limit.or(config.val_limit);
        set(self.val_split, &mut config.val_split);
        config.shuffle &= !self.no_shuffle;
    }
}

#[derive(Args)]
#[command(next_help_heading = "Transforms of training images")]
pub struct TransformOptions {
    /// Cut images at random out of themselves with a border of N pixels around [default: 0]
    #[arg(long, value_name = "N")]
    crop_padding: Option<usize>,
    /// Flip images left to right with probability P [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    flip: Option<f64>,
    /// Rotate images at random by up to so many degrees either way [default: 0]
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    rotate: Option<f64>,
    /// Shift images at random by up to so many pixels along each axis [default: 0]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    shift: Option<f64>,
    /// What lies beyond an image's border: `black` or the nearest pixel (`edge`) [default: black]
    #[arg(long, value_name = "WHAT", value_parser = choice(&[("black", BorderColor::Black), ("edge", BorderColor::Edge)]))]
    border: Option<BorderColor>,
}

impl TransformOptions {
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        let transforms = &mut config.transforms;
        set(self.crop_padding, &mut transforms.crop_padding);
        set(self.flip, &mut transforms.flip_probability);
        set(self.rotate, &mut transforms.max_rotation_degrees);
        set(self.shift, &mut transforms.max_shift);
        set(self.border, &mut transforms.border);
        let is_seen =
            transforms.crop_padding > 0 || transforms.max_rotation_degrees != 0.0 || transforms.max_shift != 0.0;
        reject("--border", self.border.is_some() && !is_seen, "--crop-padding, --rotate or --shift", "none of them")
    }
}
