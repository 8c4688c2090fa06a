//! What can be set, out of the library's lists: the page builds its form from it. And settings back from the form's texts.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;
use wasm_bindgen::prelude::wasm_bindgen;
use wgrad::optim::Optimizer;
use wgrad::registry::{Entry, Setting, Takes};
use wgrad::run::settings::{SECTIONS, choice};
use wgrad::run::{RunConfig, Settings, setup};
use wgrad::{Error, Result};

use crate::answer::{answer, wrong};

/// A setting for the form.
#[derive(Serialize)]
struct Described {
    /// The dotted name.
    name: String,
    help: &'static str,
    /// "number", "count", "switch", "word", "numbers", "counts", "path" or "text".
    takes: &'static str,
    /// The words that it takes.
    words: &'static [&'static str],
    /// As text; empty where it is open or off.
    default: String,
}

#[derive(Serialize)]
struct DescribedEntry {
    name: &'static str,
    about: &'static str,
    settings: Vec<Described>,
    /// The learning rate that an optimizer usually has.
    lr: Option<f64>,
}

#[derive(Serialize)]
struct DescribedChoice {
    name: &'static str,
    help: &'static str,
    default: String,
    entries: Vec<DescribedEntry>,
    common: Vec<Described>,
}

#[derive(Serialize)]
struct DescribedSection {
    heading: &'static str,
    choices: Vec<DescribedChoice>,
    settings: Vec<Described>,
}

/// Everything that can be set.
#[wasm_bindgen]
pub fn describe() -> String {
    answer(sections())
}

/// The settings of a run as `config.toml` has them, with what the network is made of.
#[wasm_bindgen]
pub fn check(given: &str) -> String {
    #[derive(Serialize)]
    struct Checked {
        toml: String,
        lr: f64,
        epochs: u64,
        network: String,
        parameters: u64,
        flops: u64,
    }
    answer(config(given).and_then(|config| {
        let summary = setup::summary(&config)?;
        Ok(Checked {
            toml: config.named().to_toml()?,
            lr: config.learning_rate(),
            epochs: config.epochs,
            network: config.network.title(),
            parameters: summary.num_parameters as u64,
            flops: summary.flops,
        })
    }))
}

fn sections() -> Result<Vec<DescribedSection>> {
    let defaults: BTreeMap<String, String> = RunConfig::default().flat_settings()?.into_iter().collect();
    let default = |name: &str| defaults.get(name).cloned().unwrap_or_default();
    let section = |section: &wgrad::run::settings::Section| {
        let own = section.settings.iter().map(|setting| {
            let mut described = described(setting, setting.name.to_owned(), default(setting.name));
            if described.takes == "switch" && described.default.is_empty() {
                // A table of options that is there by default.
                let is_on = defaults.keys().any(|name| name.starts_with(&format!("{}.", setting.name)));
                described.default = is_on.to_string();
            }
            described
        });
        let in_tables = section.tables.iter().flat_map(|(table, settings)| {
            settings.iter().map(move |setting| format!("{table}.{}", setting.name)).zip(*settings)
        });
        let in_tables = in_tables.map(|(name, setting)| {
            let default = default(&name);
            described(setting, name, default)
        });
        DescribedSection {
            heading: section.heading,
            choices: section.choices.iter().map(|choice| described_choice(choice, &default)).collect(),
            settings: own.chain(in_tables).collect(),
        }
    };
    Ok(SECTIONS.iter().map(section).collect())
}

fn described_choice(choice: &wgrad::run::settings::Choice, default: &dyn Fn(&str) -> String) -> DescribedChoice {
    let kind = match default(&format!("{}.kind", choice.name)) {
        kind if kind.is_empty() => default(choice.name),
        kind => kind,
    };
    let within = |settings: &[Setting], defaults: &toml::Table| -> Vec<Described> {
        let one = |setting: &Setting| {
            let text = defaults.get(setting.name).map(text).unwrap_or_default();
            described(setting, format!("{}.{}", choice.name, setting.name), text)
        };
        settings.iter().map(one).collect()
    };
    let entry = |entry: &Entry| DescribedEntry {
        name: entry.name,
        about: entry.about,
        settings: within(entry.settings, &entry.defaults()),
        lr: (choice.name == "optimizer")
            .then(|| Optimizer::named(entry.name).ok().map(|optimizer| optimizer.default_lr()))
            .flatten(),
    };
    DescribedChoice {
        name: choice.name,
        help: choice.help,
        default: kind,
        entries: choice.entries.iter().map(entry).collect(),
        common: within(choice.common, &toml::Table::new()),
    }
}

fn described(setting: &Setting, name: String, default: String) -> Described {
    let (takes, words): (_, &'static [&'static str]) = match setting.takes {
        Takes::Number => ("number", &[]),
        Takes::Count => ("count", &[]),
        Takes::Switch => ("switch", &[]),
        Takes::Word(words) => ("word", words),
        Takes::Numbers => ("numbers", &[]),
        Takes::Counts => ("counts", &[]),
        Takes::Path => ("path", &[]),
        Takes::Text => ("text", &[]),
    };
    Described { name, help: setting.help, takes, words, default }
}

/// A value as a form has it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The settings of a form: JSON of names and texts, as `lenet`'s flags have them.
pub fn config(given: &str) -> Result<RunConfig> {
    let given: Vec<(String, String)> =
        serde_json::from_str(given).map_err(|error| wrong("settings", "pairs of texts in JSON", error))?;
    let value = |(name, text): &(String, String)| -> Result<(String, Value)> {
        let value = match (choice(name), setting(name)) {
            (Some(_), _) => Value::String(text.clone()),
            (None, Some(setting)) => setting.parse(text.trim()).map_err(|error| named(name, error))?,
            (None, None) => return Err(wrong(name, "the name of a setting", "one that there is not")),
        };
        Ok((name.clone(), value))
    };
    let values: Vec<(String, Value)> = given.iter().map(value).collect::<Result<_>>()?;
    let mut settings = Settings::of(&RunConfig::default())?;
    settings.set_all(&values)?;
    settings.config()
}

/// Calls the setting of an error by its dotted name.
fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Setting { expected, got, .. } => Error::Setting { setting: name.to_owned(), expected, got },
        other => other,
    }
}

/// The setting of a dotted name.
fn setting(name: &str) -> Option<&'static Setting> {
    let find = |settings: &'static [Setting], name: &str| settings.iter().find(|setting| setting.name == name);
    SECTIONS.iter().find_map(|section| {
        find(section.settings, name).or_else(|| {
            let (head, inner) = name.split_once('.')?;
            let table = section.tables.iter().find(|(table, _)| *table == head);
            let choice = section.choices.iter().find(|choice| choice.name == head);
            table.and_then(|(_, settings)| find(settings, inner)).or_else(|| {
                let choice = choice?;
                let of_entries = || choice.entries.iter().find_map(|entry| find(entry.settings, inner));
                find(choice.common, inner).or_else(of_entries)
            })
        })
    })
}
