//! The flags themselves: their names, help and defaults.

use std::collections::BTreeMap;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction};
use wgrad::Error;
use wgrad::optim::Optimizer;
use wgrad::registry::{Entry, Setting, Takes, alternatives};
use wgrad::run::RunConfig;
use wgrad::run::settings::{Choice, Section};

/// Settings whose flag is not the last part of their name.
const FLAGS: [(&str, &str); 9] = [
    ("schedule", "scheduler"),
    // Optimizers have an eps too, which is better known.
    ("schedule.eps", "scheduler-eps"),
    ("early_stopping.monitor", "monitor"),
    ("early_stopping.patience", "early-stopping-patience"),
    ("early_stopping.min_delta", "early-stopping-min-delta"),
    ("early_stopping.start_epoch", "early-stopping-start-epoch"),
    ("transforms.flip_probability", "flip"),
    ("transforms.max_rotation_degrees", "rotate"),
    ("transforms.max_shift", "shift"),
];

/// A flag, and the settings that it may be of: the first of them that what is chosen has.
pub struct Flag {
    pub name: String,
    pub setting: Setting,
    /// The dotted name.
    pub path: String,
    pub help: String,
    /// What a switch turns its setting to; `None` for a setting that takes a value.
    pub turns: Option<bool>,
}

pub fn flag_name(path: &str) -> String {
    let special = FLAGS.iter().find(|(setting, _)| *setting == path).map(|(_, flag)| (*flag).to_owned());
    special.unwrap_or_else(|| path.rsplit('.').next().unwrap_or(path).replace('_', "-"))
}

pub fn choice_arg(choice: &'static Choice) -> Arg {
    let defaults = RunConfig::default().flat_settings().unwrap_or_default();
    let default = defaults.iter().find(|(name, _)| *name == format!("{}.kind", choice.name));
    let names: Vec<String> = choice.entries.iter().map(|entry| dashed(entry.name)).collect();
    let mut help = format!("{}: {}", choice.help, alternatives(&names));
    if let Some((_, default)) = default {
        help += &format!(" [default: {}]", dashed(default));
    }
    let more: String =
        choice.entries.iter().map(|entry| format!("\n  {}: {}", dashed(entry.name), entry.about)).collect();
    Arg::new(choice.name)
        .long(flag_name(choice.name))
        .value_name("NAME")
        .help(help.clone())
        .long_help(format!("{help}\n{more}"))
}

/// The flags of a section, each once.
pub fn flags(section: &Section) -> Vec<Flag> {
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
        Some(default) => format!(" [default: {}]", shown(default)),
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
        let with: Vec<Having> = choice.entries.iter().filter_map(|entry| Having::of(entry, setting.name)).collect();
        let path = format!("{}.{}", choice.name, setting.name);
        let name = flag_name(&path);
        if setting.takes == Takes::Switch {
            // Both ways, where some have it on and others off.
            for (to, name, not) in [(true, name.clone(), ""), (false, format!("no-{name}"), "do not ")] {
                let with: Vec<&Having> = with.iter().filter(|having| having.default != Some(to.into())).collect();
                if !with.is_empty() {
                    let help = lines_of_help(&with, not);
                    flags.push(Flag { name, setting: *setting, path: path.clone(), help, turns: Some(to) });
                }
            }
            continue;
        }
        let help = lines_of_help(&with.iter().collect::<Vec<_>>(), "");
        flags.push(Flag { name, setting: *setting, path, help, turns: None });
    }
}

/// An entry that has a setting: what it says of the setting, and the setting's default.
struct Having {
    entry: &'static str,
    help: &'static str,
    is_switch: bool,
    default: Option<toml::Value>,
}

impl Having {
    fn of(entry: &Entry, setting: &str) -> Option<Having> {
        let own = entry.settings.iter().find(|own| own.name == setting)?;
        let default = entry.defaults().get(setting).cloned();
        Some(Having { entry: entry.name, help: own.help, is_switch: own.takes == Takes::Switch, default })
    }
}

/// "sgd or rmsprop: what it does [default: 0.9 with sgd, 0 with rmsprop]", a line for each thing that it does.
fn lines_of_help(with: &[&Having], not: &str) -> String {
    let mut told: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for Having { help, is_switch, .. } in with {
        if told.contains(help) {
            continue;
        }
        told.push(help);
        let alike: Vec<&&Having> = with.iter().filter(|other| other.help == *help).collect();
        let names: Vec<&str> = alike.iter().map(|having| having.entry).collect();
        let defaults: Vec<_> = alike.iter().map(|having| (having.entry, having.default.clone())).collect();
        // A switch that can be given is off.
        let defaults = if *is_switch { String::new() } else { defaults_text(&defaults) };
        lines.push(format!("{}: {not}{}{defaults}", dashed(&alternatives(&names)), lower_first(help)));
    }
    lines.join("\n")
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
            toml::Value::Array(list) => list.iter().map(|item| shown(&item.to_string())).collect::<Vec<_>>().join(","),
            other => shown(&other.to_string()),
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
                named.map(|(value, names)| format!("{value} with {}", dashed(&listed(names)))).collect();
            each.extend(most.map(|(value, _)| format!("else {value}")));
            format!(" [default: {}]", each.join(", "))
        }
    }
}

pub fn arg(flag: &Flag) -> Arg {
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
            let words: Vec<String> = words.iter().map(|word| dashed(word)).collect();
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

/// A name as flags spell it.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

/// "sgd, rmsprop and adagrad".
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// A default as people write it: `1e-8` for 0.00000001, `0.3333` for a third, `10` for 10.0, words as they are.
fn shown(default: &str) -> String {
    let Some(number) = default.parse::<f64>().ok().filter(|number| number.is_finite()) else {
        return dashed(default);
    };
    let text = number.to_string();
    match number.abs() {
        small if small > 0.0 && small < 1e-4 => format!("{number:e}"),
        _ if text.len() > 8 && text.contains('.') => format!("{number:.4}"),
        _ => text,
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_written_as_people_write_them() {
        let cases = [
            ("0.00000001", "1e-8"),
            ("0.0001", "0.0001"),
            ("0.3333333333333333", "0.3333"),
            ("10000.0", "10000"),
            ("0.0", "0"),
            ("val_loss", "val-loss"),
            ("auto", "auto"),
        ];
        for (default, want) in cases {
            assert_eq!(shown(default), want);
        }
        let with = [("sgd", Some(0.5.into())), ("multi_step", Some(0.5.into())), ("lion", Some(0.25.into()))];
        assert_eq!(defaults_text(&with), " [default: 0.5 with sgd and multi-step, 0.25 with lion]");
    }

    #[test]
    fn a_setting_that_means_two_things_says_both() {
        let flags = flags(&wgrad::run::settings::SCHEDULE);
        let help = |name: &str| flags.iter().find(|flag| flag.name == name).map(|flag| flag.help.as_str());
        let factor = "constant-factor: share of the rate that is used at first [default: 0.3333]\n\
                      plateau: what a cut multiplies the rate by [default: 0.1]";
        assert_eq!(help("factor"), Some(factor));
    }
}
