//! Flags for the settings of a run, made from the library's descriptions of them: `optimizer.weight_decay` is
//! `--weight-decay`. Each subcommand takes some of the sections.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use wgrad::optim::Optimizer;
use wgrad::registry::{Setting, Takes, alternatives};
use wgrad::run::settings::{Choice, SECTIONS, Section, Settings};
use wgrad::run::{RunConfig, settings};
use wgrad::{Error, Result};

/// Settings whose flag is not the last part of their name.
const FLAGS: [(&str, &str); 9] = [
    ("schedule", "scheduler"),
    // The plateau schedule has an eps too.
    ("optimizer.eps", "optimizer-eps"),
    ("early_stopping.monitor", "monitor"),
    ("early_stopping.patience", "early-stopping-patience"),
    ("early_stopping.min_delta", "early-stopping-min-delta"),
    ("early_stopping.start_epoch", "early-stopping-start-epoch"),
    ("transforms.flip_probability", "flip"),
    ("transforms.max_rotation_degrees", "rotate"),
    ("transforms.max_shift", "shift"),
];

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

/// A flag, and the settings that it may be of: the first of them that what is chosen has.
struct Flag {
    name: String,
    setting: Setting,
    /// The dotted name.
    path: String,
    help: String,
    /// What a switch turns its setting to; `None` for a setting that takes a value.
    turns: Option<bool>,
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
    let message = format!("the argument '--no-{off}' cannot be used with '--{inner}'\n");
    Some(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message))
}

fn takes<S: Sections>(path: &str) -> bool {
    S::ONLY.is_empty() || S::ONLY.contains(&path.split('.').next().unwrap_or(path))
}

/// Names a setting by its flag, where it has one.
pub fn as_flag(error: Error) -> Error {
    match error {
        Error::Setting { setting, expected, got } => {
            let Some(path) = path_of(&setting) else {
                return Error::Setting { setting: plain(setting), expected, got };
            };
            let choice = settings::choice(path.split('.').next().unwrap_or(&path));
            let (expected, got) = match choice {
                Some(choice) => (with_flag(&expected, choice), with_flag(&got, choice)),
                None => (expected, got),
            };
            Error::Setting { setting: format!("--{}", flag_name(&path)), expected, got }
        }
        other => other,
    }
}

/// Names the flag of a choice and its values as flags are spelled: "only with schedule multi_step" is about
/// `--scheduler multi-step`.
fn with_flag(text: &str, choice: &Choice) -> String {
    let flag = format!("--{} ", flag_name(choice.name));
    let text = text.replace(&format!("with {} ", choice.name), &format!("with {flag}"));
    let text = text.strip_prefix(&format!("{} ", choice.name)).map_or(text.clone(), |rest| format!("{flag}{rest}"));
    let text = switched_off(text);
    choice.entries.iter().fold(text, |text, entry| text.replace(entry.name, &entry.name.replace('_', "-")))
}

/// Spells "cycle_momentum = false" as the flag, `--no-cycle-momentum`.
fn switched_off(text: String) -> String {
    let Some((before, after)) = text.split_once(" = false") else { return text };
    let (before, name) = before.rsplit_once(' ').unwrap_or(("", before));
    format!("{before} --no-{}{after}", name.replace('_', "-"))
}

/// A name that no setting has: an option of the subcommand's own, if it looks like one.
fn plain(name: String) -> String {
    let is_word = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if is_word { format!("--{}", name.replace('_', "-")) } else { name }
}

/// The dotted name of a setting, called by it or, as types that know nothing of a run call theirs, by the last part
/// of it.
fn path_of(setting: &str) -> Option<String> {
    // An index into a list, as of betas, is no part of a name.
    let setting = setting.split('[').next().unwrap_or(setting);
    let all = SECTIONS.iter().flat_map(|section| {
        let choices = section.choices.iter().map(|choice| choice.name.to_owned());
        choices.chain(flags(section).into_iter().map(|flag| flag.path)).collect::<Vec<_>>()
    });
    let all: Vec<String> = all.collect();
    let is_meant = |path: &&String| *path == setting || path.rsplit('.').next() == Some(setting);
    all.iter().find(|path| *path == setting).or_else(|| all.iter().find(is_meant)).cloned()
}

fn flag_name(path: &str) -> String {
    let special = FLAGS.iter().find(|(setting, _)| *setting == path).map(|(_, flag)| (*flag).to_owned());
    special.unwrap_or_else(|| path.rsplit('.').next().unwrap_or(path).replace('_', "-"))
}

fn choice_arg(choice: &'static Choice) -> Arg {
    let defaults = RunConfig::default().flat_settings().unwrap_or_default();
    let default = defaults.iter().find(|(name, _)| *name == format!("{}.kind", choice.name));
    let names: Vec<String> = choice.entries.iter().map(|entry| entry.name.replace('_', "-")).collect();
    let mut help = format!("{}: {}", choice.help, alternatives(&names));
    if let Some((_, default)) = default {
        help += &format!(" [default: {default}]");
    }
    let more: String = choice.entries.iter().map(|entry| format!("\n  {}: {}", entry.name, entry.about)).collect();
    Arg::new(choice.name)
        .long(flag_name(choice.name))
        .value_name("NAME")
        .help(help.clone())
        .long_help(format!("{help}\n{more}"))
}

/// The flags of a section, each once.
fn flags(section: &Section) -> Vec<Flag> {
    let defaults: BTreeMap<String, String> =
        RunConfig::default().flat_settings().unwrap_or_default().into_iter().collect();
    let mut flags = Vec::new();
    for choice in section.choices {
        choice_flags(choice, &mut flags);
    }
    for setting in section.settings {
        plain_flag(setting, setting.name.to_owned(), &defaults, &mut flags);
    }
    for (table, settings) in section.tables {
        for setting in *settings {
            plain_flag(setting, format!("{table}.{}", setting.name), &defaults, &mut flags);
        }
    }
    flags
}

fn plain_flag(setting: &Setting, path: String, defaults: &BTreeMap<String, String>, flags: &mut Vec<Flag>) {
    let default = defaults.get(&path);
    let name = flag_name(&path);
    if setting.takes == Takes::Switch {
        // A table that can be switched off is on.
        let is_on = default.is_none_or(|default| default == "true");
        let name = if is_on { format!("no-{name}") } else { name };
        let help = if is_on { format!("Do not {}", lower_first(setting.help)) } else { setting.help.to_owned() };
        flags.push(Flag { name, setting: *setting, path, help, turns: Some(!is_on) });
        return;
    }
    let default = match default {
        Some(default) => format!(" [default: {default}]"),
        None if path == "lr" => defaults_text(&usual_rates()),
        None => String::new(),
    };
    flags.push(Flag { name, setting: *setting, path, help: format!("{}{default}", setting.help), turns: None });
}

/// The flags of what can be chosen: one for each setting, whichever choices have it, with their defaults.
fn choice_flags(choice: &Choice, flags: &mut Vec<Flag>) {
    for setting in choice.common {
        let path = format!("{}.{}", choice.name, setting.name);
        flags.push(Flag {
            name: flag_name(&path),
            setting: *setting,
            path,
            help: setting.help.to_owned(),
            turns: None,
        });
    }
    let mut seen: Vec<&str> = Vec::new();
    for setting in choice.entries.iter().flat_map(|entry| entry.settings) {
        if seen.contains(&setting.name) {
            continue;
        }
        seen.push(setting.name);
        let with = choice.entries.iter().filter(|entry| entry.settings.iter().any(|own| own.name == setting.name));
        let with: Vec<(&str, Option<toml::Value>)> =
            with.map(|entry| (entry.name, entry.defaults().get(setting.name).cloned())).collect();
        let names: Vec<&str> = with.iter().map(|(name, _)| *name).collect();
        let path = format!("{}.{}", choice.name, setting.name);
        let (name, only) = (flag_name(&path), alternatives(&names).replace('_', "-"));
        if setting.takes == Takes::Switch {
            // Both ways, where some have it on and others off.
            for (to, name, not) in [(true, name.clone(), ""), (false, format!("no-{name}"), "do not ")] {
                let names: Vec<&str> =
                    with.iter().filter(|(_, on)| on != &Some(to.into())).map(|(name, _)| *name).collect();
                if !names.is_empty() {
                    let of_first = choice.entries.iter().find(|entry| entry.name == names[0]);
                    let own = of_first.and_then(|entry| entry.settings.iter().find(|own| own.name == setting.name));
                    let what = lower_first(own.unwrap_or(setting).help);
                    let help = format!("{}: {not}{what}", alternatives(&names).replace('_', "-"));
                    flags.push(Flag { name, setting: *setting, path: path.clone(), help, turns: Some(to) });
                }
            }
            continue;
        }
        let help = format!("{only}: {}{}", lower_first(setting.help), defaults_text(&with));
        flags.push(Flag { name, setting: *setting, path, help, turns: None });
    }
}

/// The learning rate that each optimizer has where none is given.
fn usual_rates() -> Vec<(&'static str, Option<toml::Value>)> {
    let rate = |name| Optimizer::named(name).ok().map(|optimizer| optimizer.default_lr().into());
    Optimizer::ENTRIES.iter().map(|entry| (entry.name, rate(entry.name))).collect()
}

/// " [default: 0.9 with sgd, 0 with rmsprop]".
fn defaults_text(with: &[(&str, Option<toml::Value>)]) -> String {
    let mut values: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, value) in with {
        let Some(value) = value else { continue };
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(list) => list.iter().map(toml::Value::to_string).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        };
        match values.iter_mut().find(|(other, _)| *other == text) {
            Some((_, names)) => names.push(name),
            None => values.push((text, vec![name])),
        }
    }
    match values.as_slice() {
        [] => String::new(),
        [(value, _)] => format!(" [default: {value}]"),
        several => {
            // What most have needs no list of them.
            let most = several.iter().max_by_key(|(_, names)| names.len()).filter(|(_, names)| names.len() > 3);
            let is_most = |value: &String| most.is_some_and(|(other, _)| other == value);
            let named = several.iter().filter(|(value, _)| !is_most(value));
            let mut each: Vec<String> =
                named.map(|(value, names)| format!("{value} with {}", names.join(" and "))).collect();
            each.extend(most.map(|(value, _)| format!("else {value}")));
            format!(" [default: {}]", each.join(", "))
        }
    }
}

fn arg(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name.clone()).long(flag.name.clone()).help(flag.help.clone());
    // The whole name is a flag too.
    let whole = flag.path.replace(['.', '_'], "-");
    let arg = if flag.turns.is_none() && whole != flag.name { arg.alias(whole) } else { arg };
    if flag.turns.is_some() {
        return arg.action(ArgAction::SetTrue);
    }
    let setting = flag.setting;
    let arg = arg.value_name(placeholder(setting.takes)).allow_hyphen_values(true);
    let arg = if flag.path == "device" { arg.env("WGRAD_DEVICE") } else { arg };
    match setting.takes {
        Takes::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| word.replace('_', "-")).collect();
            arg.value_parser(
                PossibleValuesParser::new(words)
                    .map(move |word| setting.parse(&word).expect("clap lets no other word through")),
            )
        }
        _ => arg.value_parser(move |text: &str| {
            setting.parse(text).map_err(|error| match error {
                Error::Setting { expected, .. } => format!("expected {expected}"),
                other => other.to_string(),
            })
        }),
    }
}

fn placeholder(takes: Takes) -> &'static str {
    match takes {
        Takes::Number => "X",
        Takes::Count => "N",
        Takes::Numbers => "X,X,…",
        Takes::Counts => "N,N,…",
        Takes::Path => "PATH",
        Takes::Text => "TEXT",
        Takes::Switch | Takes::Word(_) => "WORD",
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
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
