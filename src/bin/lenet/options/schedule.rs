//! Options about how the learning rate changes. The flags are those settings that the library's schedules have, under
//! their names; what a flag sets goes into the table that a file would hold, and the library reads it.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use wgrad::registry::{Setting, Takes};
use wgrad::run::RunConfig;
use wgrad::schedule::{Interval, Kind, Schedule};
use wgrad::{Error, Result};

use super::{alternatives, as_option, reject, usage};

/// A schedule as it was asked for.
pub struct SchedulerOptions {
    scheduler: Option<String>,
    /// The values of settings, not read yet.
    given: BTreeMap<&'static str, String>,
}

impl SchedulerOptions {
    /// Changes the schedule: what a file describes stays as it is there, unless it becomes one of another kind.
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        if self.scheduler.is_none() && self.given.is_empty() {
            return Ok(());
        }
        let current = config.schedule.kind().map(Kind::name);
        let entry = match (self.scheduler.as_deref(), current) {
            (Some(typed), _) => Kind::find(typed).map_err(|_| {
                let names: Vec<String> = Schedule::ENTRIES.iter().map(|entry| hyphened(entry.name)).collect();
                usage("--scheduler", &alternatives(&names), typed)
            })?,
            (None, Some(name)) => Kind::find(name)?,
            (None, None) => {
                let expected = "to be named, as the file's schedule has several parts";
                return Err(usage("--scheduler", expected, "nothing"));
            }
        };
        let is_same = current == Some(entry.name);
        let mut table = if is_same { config.schedule.to_table()? } else { toml::Table::new() };
        table.insert("kind".to_owned(), entry.name.into());
        for (&name, text) in &self.given {
            let own = Schedule::SETTINGS.iter().chain(entry.settings).find(|setting| setting.name == name);
            let setting = own.ok_or_else(|| not_taken(name, entry.name))?;
            table.insert(name.to_owned(), setting.parse(text).map_err(as_option)?);
        }
        // The factor of a warm-up that is taken away goes with it.
        if self.given.get("warmup").is_some_and(|steps| steps == "0") && !self.given.contains_key("warmup_factor") {
            table.remove("warmup_factor");
        }
        config.schedule = Schedule::read(table.into()).map_err(as_option)?;
        Ok(())
    }

    /// Checks what can be checked of the schedule before the number of steps in an epoch is known.
    pub fn check(config: &RunConfig) -> Result<()> {
        if config.schedule.interval() == Interval::Batch {
            return Ok(());
        }
        config.schedule.for_run(config.epochs, 1).map(drop).map_err(as_option)
    }
}

impl Args for SchedulerOptions {
    fn augment_args(command: Command) -> Command {
        let names: Vec<String> = Schedule::ENTRIES.iter().map(|entry| hyphened(entry.name)).collect();
        let help = format!(
            "How the learning rate changes: {}; the options below, by PyTorch's names, say for which schedulers they \
             are [default: constant]",
            alternatives(&names)
        );
        let scheduler = Arg::new("scheduler").long("scheduler").value_name("NAME").help(help);
        let command = command.next_help_heading("Learning rate schedule").arg(scheduler);
        settings().into_iter().fold(command, |command, (setting, help)| command.arg(flag(setting, help)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SchedulerOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |setting: &Setting| match switched(setting) {
            Some(to) => matches.get_flag(setting.name).then(|| to.to_string()),
            None => matches.get_one::<String>(setting.name).cloned(),
        };
        let given = settings().into_iter().filter_map(|(setting, _)| Some((setting.name, value(setting)?)));
        Ok(SchedulerOptions { scheduler: matches.get_one("scheduler").cloned(), given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Every setting once, with its help: what it does with each scheduler, and its default there.
fn settings() -> Vec<(&'static Setting, String)> {
    let mut all: Vec<(&Setting, String)> =
        Schedule::SETTINGS.iter().map(|setting| (setting, setting.help.to_owned())).collect();
    for entry in Schedule::ENTRIES {
        for setting in entry.settings {
            let default = match entry.defaults().get(setting.name) {
                Some(value) if switched(setting).is_none() => format!(" [default: {value}]"),
                _ => String::new(),
            };
            let help = format!("{}: {}{default}", hyphened(entry.name), setting.help);
            match all.iter_mut().find(|(other, _)| other.name == setting.name) {
                Some((_, text)) => *text += &format!("; {help}"),
                None => all.push((setting, help)),
            }
        }
    }
    all
}

fn flag(setting: &'static Setting, help: String) -> Arg {
    let arg = Arg::new(setting.name).help(help);
    match (switched(setting), setting.takes) {
        (Some(true), _) => arg.long(hyphened(setting.name)).action(ArgAction::SetTrue),
        (Some(false), _) => arg.long(hyphened(&format!("no_{}", setting.name))).action(ArgAction::SetTrue),
        (None, takes) => arg.long(hyphened(setting.name)).value_name(placeholder(takes)).allow_hyphen_values(true),
    }
}

/// What a flag of a switch turns it to: the other way than its default.
fn switched(setting: &Setting) -> Option<bool> {
    let default = Schedule::ENTRIES.iter().find_map(|entry| entry.defaults().get(setting.name)?.as_bool());
    if setting.takes == Takes::Switch { default.map(|default| !default) } else { None }
}

fn placeholder(takes: Takes) -> &'static str {
    match takes {
        Takes::Number => "X",
        Takes::Count => "N",
        Takes::Numbers => "X,X,…",
        Takes::Counts => "N,N,…",
        Takes::Path => "FILE",
        Takes::Switch | Takes::Word(_) | Takes::Text => "WORD",
    }
}

/// A name as flags are spelled.
fn hyphened(name: &str) -> String {
    name.replace('_', "-")
}

/// A setting that the scheduler does not have, and those that do.
fn not_taken(setting: &str, scheduler: &str) -> Error {
    let takes = |settings: &[Setting]| settings.iter().any(|other| other.name == setting);
    let takers = Schedule::ENTRIES.iter().filter(|entry| takes(entry.settings));
    let named: Vec<String> = takers.map(|entry| format!("--scheduler {}", hyphened(entry.name))).collect();
    let mut only_with = alternatives(&named);
    if setting == "patience" {
        only_with += " (early stopping has --early-stopping-patience)";
    }
    let option = format!("--{}", hyphened(setting));
    match reject(&option, true, &only_with, &format!("--scheduler {}", hyphened(scheduler))) {
        Err(error) => error,
        Ok(()) => usage(&option, &only_with, "another"),
    }
}
