//! The lists: every setting of a run, by the heading that `--help` has it under.

use toml::Value;

use crate::data::DataSource;
use crate::nn::Network;
use crate::optim::{GradientOptions, Optimizer};
use crate::registry::{Entry, Setting, Takes};
use crate::schedule::Schedule;
use crate::{Error, Result};

/// A setting whose value is one of a registry's entries, with settings of its own.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The setting's name; those of its own are `name.setting`.
    pub name: &'static str,
    /// What it does, as [`Setting::help`].
    pub help: &'static str,
    /// What can be chosen.
    pub entries: &'static [Entry],
    /// Settings that all of its entries have.
    pub common: &'static [Setting],
    /// From a name, or what else a command line has for it, to what a file holds.
    pub(super) parse: fn(&str) -> Result<Value>,
}

/// A group of settings, as `--help` has them.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading above them.
    pub heading: &'static str,
    /// The choices.
    pub choices: &'static [Choice],
    /// The other settings, by their dotted names.
    pub settings: &'static [Setting],
    /// Settings of a table, by their names in it.
    pub tables: &'static [(&'static str, &'static [Setting])],
}

const NONE: &[Choice] = &[];

/// The data set and which of its images are used for what.
pub const DATA: Section = Section {
    heading: "Data",
    choices: &[Choice {
        name: "dataset",
        help: "The data set",
        entries: DataSource::ENTRIES,
        common: &[],
        parse: |name| named(DataSource::named(name)?),
    }],
    settings: &[
        Setting::new(
            "data",
            Takes::Path,
            "The folder of the data set's files; by default the usual places are searched",
        ),
        Setting::new(
            "normalize",
            Takes::Word(&["none", "half", "dataset"]),
            "What pixels become: none scales them to 0..1, half to -1..1, dataset to the data set's mean 0 and standard \
             deviation 1",
        ),
        Setting::new("train_limit", Takes::Count, "Train on the first N training images only"),
        Setting::new("val_limit", Takes::Count, "Validate on the first N validation images only"),
        Setting::new("test_limit", Takes::Count, "Evaluate the result on the first N test images only"),
        Setting::new(
            "val_split",
            Takes::Number,
            "Share of the training images held out for validation; 0 validates on the test images",
        ),
        Setting::new("shuffle", Takes::Switch, "Shuffle the training images anew in every epoch"),
    ],
    tables: &[],
};

/// The network and its initial weights.
pub const NETWORK: Section = Section {
    heading: "Network",
    choices: &[Choice {
        name: "network",
        help: "The network, or a TOML file of layers",
        entries: Network::ENTRIES,
        common: &[],
        parse: |name_or_file| named(Network::open(name_or_file)?),
    }],
    settings: &[Setting::new("init", Takes::Path, "Start from the weights in a safetensors file")],
    tables: &[],
};

/// Steps and epochs.
pub const TRAINING: Section = Section {
    heading: "Training",
    choices: &[Choice {
        name: "optimizer",
        help: "The optimizer",
        entries: Optimizer::ENTRIES,
        common: &[],
        parse: |name| named(Optimizer::named(name)?),
    }],
    settings: &[
        Setting::new("epochs", Takes::Count, "Maximum number of epochs"),
        Setting::new("batch_size", Takes::Count, "Images per batch"),
        Setting::new("lr", Takes::Number, "The learning rate; by default the optimizer's own"),
        Setting::new(
            "seed",
            Takes::Count,
            "Seed of everything random: initial weights, held-out images, order, dropout, transforms",
        ),
        Setting::new(
            "label_smoothing",
            Takes::Number,
            "Share of the target spread evenly over all classes in training",
        ),
    ],
    tables: &[("gradients", GradientOptions::SETTINGS)],
};

/// How the learning rate changes.
pub const SCHEDULE: Section = Section {
    heading: "Learning rate schedule",
    choices: &[Choice {
        name: "schedule",
        help: "How the learning rate changes",
        entries: Schedule::ENTRIES,
        common: Schedule::SETTINGS,
        parse: |name| named(Schedule::read(Value::String(name.to_owned()))?),
    }],
    settings: &[],
    tables: &[],
};

/// Random changes to training images.
pub const TRANSFORMS: Section = Section {
    heading: "Transforms of training images",
    choices: NONE,
    settings: &[],
    tables: &[(
        "transforms",
        &[
            Setting::new("crop_padding", Takes::Count, "Crop images at random after padding each side by N pixels"),
            Setting::new("flip_probability", Takes::Number, "Flip images left to right with this probability"),
            Setting::new("max_rotation_degrees", Takes::Number, "Rotate images at random by up to this many degrees"),
            Setting::new(
                "max_shift",
                Takes::Number,
                "Shift images at random by up to this many pixels along each axis",
            ),
            Setting::new(
                "border",
                Takes::Word(&["black", "edge"]),
                "What lies beyond an image's border: black, or the nearest pixel",
            ),
        ],
    )],
};

/// When training ends.
pub const STOPPING: Section = Section {
    heading: "Early stopping",
    choices: NONE,
    settings: &[Setting::new("early_stopping", Takes::Switch, "Stop when validation no longer improves")],
    tables: &[(
        "early_stopping",
        &[
            Setting::new(
                "monitor",
                Takes::Word(&["val_loss", "val_accuracy", "train_loss"]),
                "The metric that decides which epoch's weights are kept and when to stop",
            ),
            Setting::new("patience", Takes::Count, "Stop after N epochs in a row without improvement"),
            Setting::new("min_delta", Takes::Number, "How much better a value must be to count as an improvement"),
            Setting::new("start_epoch", Takes::Count, "The first epoch that counts for stopping"),
        ],
    )],
};

/// What a run computes on, and what it records.
pub const RUN: Section = Section {
    heading: "Run",
    choices: NONE,
    settings: &[
        Setting::new("name", Takes::Text, "The run's name, for its folder and for comparisons"),
        Setting::new(
            "device",
            Takes::Text,
            "auto (a GPU if there is one, otherwise the CPU), cpu, gpu (the best adapter) or part of an adapter's name",
        ),
        Setting::new("diagnostics", Takes::Switch, "Record diagnostics of every layer once an epoch"),
    ],
    tables: &[(
        "diagnostics",
        &[
            Setting::new(
                "histograms",
                Takes::Switch,
                "Include histograms of parameters and gradients in the diagnostics",
            ),
            Setting::new(
                "pre_activations",
                Takes::Switch,
                "Include the inputs of activation functions in the diagnostics",
            ),
        ],
    )],
};

/// All settings of a run.
pub const SECTIONS: [Section; 7] = [DATA, NETWORK, TRAINING, SCHEDULE, TRANSFORMS, STOPPING, RUN];

fn named(chosen: impl serde::Serialize) -> Result<Value> {
    Value::try_from(chosen).map_err(|error| Error::setting("configuration", "settings that TOML can hold", error))
}
