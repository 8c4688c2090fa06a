//! Flags for the settings of a run, made from the library's descriptions of them: `optimizer.weight_decay` is
//! `--weight-decay`. Each subcommand takes some of the sections.

mod errors;
mod flags;

use std::marker::PhantomData;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use wgrad::Result;
use wgrad::run::settings::{Section, Settings};
use wgrad::run::{RunConfig, settings};

pub use errors::as_flag;
use flags::{arg, choice_arg, flag_name, flags};

/// The sections of settings that a subcommand takes.
pub trait Sections {
    /// The sections.
    const SECTIONS: &'static [Section];
    /// The settings of them that it takes, with all that can be set within them; empty for all.
    const ONLY: &'static [&'static str];
}

/// Settings given as flags.
pub struct Given<S> {
    settings: Vec<(String, toml::Value)>,
    sections: PhantomData<S>,
}

impl<S: Sections> Given<S> {
    /// Changes the settings as the flags say.
    pub fn apply(&self, config: &RunConfig) -> Result<RunConfig> {
        let mut settings = Settings::of(config)?;
        settings.set_all(&self.settings)?;
        settings.config()
    }

    /// The settings that were given.
    pub fn settings(&self) -> &[(String, toml::Value)] {
        &self.settings
    }
}

impl<S: Sections> Args for Given<S> {
    fn augment_args(command: Command) -> Command {
        S::SECTIONS.iter().fold(command, |command, section| {
            let command = command.next_help_heading(section.heading);
            let choices = section.choices.iter().filter(|choice| takes::<S>(choice.name));
            let command = choices.fold(command, |command, choice| command.arg(choice_arg(choice)));
            let flags = flags(section).into_iter().filter(|flag| takes::<S>(&flag.path));
            flags.fold(command, |command, flag| command.arg(arg(&flag)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Sections> FromArgMatches for Given<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Vec::new();
        for section in S::SECTIONS {
            for choice in section.choices.iter().filter(|choice| takes::<S>(choice.name)) {
                if let Some(name) = matches.get_one::<String>(choice.name) {
                    settings.push((choice.name.to_owned(), name.clone().into()));
                }
            }
            for flag in flags(section).into_iter().filter(|flag| takes::<S>(&flag.path)) {
                let value = match flag.turns {
                    Some(to) => matches.get_flag(&flag.name).then_some(to.into()),
                    None => matches.get_one::<toml::Value>(&flag.name).cloned(),
                };
                // An environment variable that is set to nothing asks for nothing.
                let is_from_environment = matches.value_source(&flag.name) == Some(ValueSource::EnvVariable);
                let value = value.filter(|value| !(is_from_environment && value.as_str() == Some("")));
                settings.extend(value.map(|value| (flag.path, value)));
            }
        }
        if let Some(error) = contradiction(&settings) {
            return Err(error);
        }
        Ok(Given { settings, sections: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// That something is switched off and set at once.
fn contradiction(settings: &[(String, toml::Value)]) -> Option<clap::Error> {
    let off = settings.iter().find(|(name, value)| value.as_bool() == Some(false) && !name.contains('.'));
    let inner = off.and_then(|(name, _)| settings.iter().find(|(other, _)| other.starts_with(&format!("{name}."))));
    let ((off, _), (inner, _)) = (off?, inner?);
    let (off, inner) = (flag_name(off), flag_name(inner));
    let message = format!("the argument '--no-{off}' cannot be used with '--{inner}'");
    Some(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message))
}

fn takes<S: Sections>(path: &str) -> bool {
    S::ONLY.is_empty() || S::ONLY.contains(&path.split('.').next().unwrap_or(path))
}

/// Declares the settings that a subcommand takes: sections, and of them only some settings if any are named.
macro_rules! sections {
    ($(#[$doc:meta])* $Name:ident: $($section:ident),+ $(; $($only:literal),+)?) => {
        $(#[$doc])*
        pub struct $Name;

        impl Sections for $Name {
            const SECTIONS: &'static [Section] = &[$(settings::$section),+];
            const ONLY: &'static [&'static str] = &[$($($only),+)?];
        }
    };
}

sections! {
    /// Everything about a run.
    All: DATA, NETWORK, TRAINING, SCHEDULE, TRANSFORMS, STOPPING, RUN
}
sections! {
    /// What a training step is made of.
    Step: DATA, NETWORK, TRAINING, TRANSFORMS, RUN;
    "dataset", "data", "normalize", "train_limit", "val_limit", "val_split", "network", "init", "batch_size", "lr", "seed",
    "label_smoothing", "optimizer", "gradients", "transforms", "device"
}
sections! {
    /// A network for a data set.
    Shape: DATA, NETWORK; "dataset", "data", "network"
}
sections! {
    /// A data set.
    Dataset: DATA; "dataset", "data"
}
sections! {
    /// A trained model, and where it runs.
    Model: DATA, NETWORK, RUN; "dataset", "data", "normalize", "network", "device"
}
sections! {
    /// A trained model, the images to evaluate it on, and where it runs.
    Tested: DATA, NETWORK, RUN; "dataset", "data", "normalize", "test_limit", "network", "device"
}
sections! {
    /// A schedule.
    Rates: SCHEDULE; "schedule"
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::options::Cli;

    /// Two settings with one flag would be found only when someone runs the program.
    #[test]
    fn flags_are_unique() {
        Cli::command().debug_assert();
    }
}
