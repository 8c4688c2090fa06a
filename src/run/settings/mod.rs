//! The settings of a run, described once: flags, help, the spaces of sweeps and error messages derive from these lists.
//! What a setting defaults to is in [`RunConfig`]'s default and in the entries of the registries; how it is checked is in
//! the type that it belongs to.

mod sections;

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::RunConfig;
use crate::data::DataSource;
use crate::nn::Network;
use crate::optim::Optimizer;
use crate::registry::{Setting, Takes};
use crate::schedule::Schedule;
use crate::{Error, Result, files};

pub use sections::{Choice, DATA, NETWORK, RUN, SCHEDULE, SECTIONS, STOPPING, Section, TRAINING, TRANSFORMS};

/// Settings under construction, as the table that a `config.toml` holds.
#[derive(Clone, Debug)]
pub struct Settings {
    table: Table,
}

impl Settings {
    /// Starts from these settings.
    ///
    /// # Errors
    /// [`Error::Setting`] where the schedule is code, which no file can hold.
    pub fn of(config: &RunConfig) -> Result<Settings> {
        let table = Table::try_from(config)
            .map_err(|error| Error::setting("configuration", "settings that TOML can hold", error))?;
        Ok(Settings { table })
    }

    /// Sets several settings: choices first, so that what is set within them is set of what was chosen.
    ///
    /// # Errors
    /// As [`Settings::set`].
    pub fn set_all(&mut self, given: &[(String, Value)]) -> Result<()> {
        let mut given: Vec<&(String, Value)> = given.iter().collect();
        given.sort_by_key(|(name, _)| (choice(name).is_none(), name.matches('.').count()));
        given.into_iter().try_for_each(|(name, value)| self.set(name, value.clone()))
    }

    /// Sets a setting by its dotted name. A choice that becomes another one starts from that one's defaults.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is no such setting, or the choice that was made does not have it.
    pub fn set(&mut self, name: &str, value: Value) -> Result<()> {
        if let Some(choice) = choice(name) {
            return self.choose(choice, value);
        }
        let Some((head, inner)) = name.split_once('.') else {
            check_name(name)?;
            let value = absolute(name, value)?;
            self.table.insert(name.to_owned(), value);
            return Ok(());
        };
        match choice(head) {
            Some(choice) => self.check_choice_has(choice, inner)?,
            None => check_name(name)?,
        }
        let table = self.table.entry(head).or_insert_with(|| Value::Table(Table::new()));
        if !table.is_table() {
            // What was switched off is switched on by a setting of its own.
            *table = Value::Table(Table::new());
        }
        if let Value::Table(table) = table {
            if name == "schedule.warmup" && value.as_integer() == Some(0) {
                // The factor of a warm-up that is taken away goes with it.
                table.remove("warmup_factor");
            }
            table.insert(inner.to_owned(), value);
        }
        Ok(())
    }

    /// The settings, read and checked.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that is wrong.
    pub fn config(self) -> Result<RunConfig> {
        for choice in SECTIONS.iter().flat_map(|section| section.choices) {
            // Each by itself first: its errors name settings, which those of a whole table do not.
            if let Some(value) = self.table.get(choice.name) {
                check_choice(choice.name, value.clone()).map_err(|error| within(choice.name, value, error))?;
            }
        }
        let config: RunConfig = self.table.try_into().map_err(|error: toml::de::Error| {
            Error::setting("configuration", "the settings of a run", error.message().replace('\n', ", "))
        })?;
        config.validate()?;
        Ok(config)
    }

    fn kind(&self, choice: &Choice) -> Option<&str> {
        match self.table.get(choice.name)? {
            Value::Table(table) => table.get("kind")?.as_str(),
            other => other.as_str(),
        }
    }

    fn choose(&mut self, choice: &Choice, value: Value) -> Result<()> {
        let value = match value {
            Value::String(name) => {
                let entry = choice.entries.iter().find(|entry| crate::registry::is_name(&name, entry.name));
                let chosen = match entry {
                    // Its defaults; what it lacks may be set after it.
                    Some(entry) => Value::Table(Table::from_iter([("kind".to_owned(), entry.name.into())])),
                    None => (choice.parse)(&name)?,
                };
                let kind = chosen.get("kind").and_then(Value::as_str);
                if kind == self.kind(choice) && kind != Some("layers") {
                    return Ok(());
                }
                chosen
            }
            other => other,
        };
        if choice.name == "optimizer" {
            // Another optimizer has another usual learning rate.
            self.table.remove("lr");
        }
        if choice.name == "dataset" {
            // Another data set's files are in another folder.
            self.table.remove("data");
        }
        self.table.insert(choice.name.to_owned(), value);
        Ok(())
    }

    /// Checks that what is chosen has this setting.
    fn check_choice_has(&self, choice: &Choice, inner: &str) -> Result<()> {
        let has = |settings: &[Setting]| settings.iter().any(|setting| setting.name == inner);
        let with: Vec<&str> =
            choice.entries.iter().filter(|entry| has(entry.settings)).map(|entry| entry.name).collect();
        let kind = self.kind(choice);
        if has(choice.common) || kind.is_some_and(|kind| with.contains(&kind)) {
            return Ok(());
        }
        let name = format!("{}.{inner}", choice.name);
        if with.is_empty() {
            return Err(unknown(&name));
        }
        let expected = format!("to be used only with {} {}", choice.name, crate::error::alternatives(&with));
        let kind = kind.unwrap_or("nothing");
        Err(Error::setting(name, expected, format!("{} {kind}", choice.name)))
    }
}

/// The choice of this name, such as `network`; `network.kind` is the same, as a file has it beside what is set within.
pub fn choice(name: &str) -> Option<&'static Choice> {
    const ALL: &[&[Choice]] = &[DATA.choices, NETWORK.choices, TRAINING.choices, SCHEDULE.choices];
    let name = name.strip_suffix(".kind").unwrap_or(name);
    ALL.iter().copied().flatten().find(|choice| choice.name == name)
}

/// Settings that only a file can hold.
const FILE_ONLY: [&str; 1] = ["groups"];

/// Checks that there is a setting of this dotted name.
///
/// # Errors
/// [`Error::Setting`] with the settings that may have been meant.
pub fn check_name(name: &str) -> Result<()> {
    let is_known = FILE_ONLY.contains(&name) || choice(name).is_some() || all().any(|known| known == name);
    if is_known { Ok(()) } else { Err(unknown(name)) }
}

/// The dotted names of all settings.
fn all() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|section| {
        let own = section.settings.iter().map(|setting| setting.name.to_owned());
        let in_tables = section
            .tables
            .iter()
            .flat_map(|(table, settings)| settings.iter().map(move |setting| format!("{table}.{}", setting.name)));
        let chosen = section.choices.iter().flat_map(|choice| {
            let inner = choice.common.iter().chain(choice.entries.iter().flat_map(|entry| entry.settings));
            let inner = inner.map(move |setting| format!("{}.{}", choice.name, setting.name));
            std::iter::once(choice.name.to_owned()).chain(inner)
        });
        own.chain(in_tables).chain(chosen).collect::<Vec<_>>()
    })
}

/// That there is no such setting, with those that it may have been meant for.
fn unknown(name: &str) -> Error {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_close = |end: &str| {
        crate::registry::is_name(last, end) || (last.len().min(end.len()) > 4 && strsim::osa_distance(last, end) < 3)
    };
    let is_similar = |known: &String| known.rsplit('.').next().is_some_and(is_close);
    let mut similar: Vec<String> = all().filter(is_similar).collect();
    similar.sort_unstable();
    similar.dedup();
    let expected = match similar.as_slice() {
        [] => "the name of a setting, as a run's config.toml has it".to_owned(),
        similar => {
            let similar: Vec<&str> = similar.iter().map(String::as_str).collect();
            format!("the name of a setting; perhaps {} was meant", crate::error::alternatives(&similar))
        }
    };
    Error::setting(name, expected, "a name that no setting has")
}

/// Paths mean the same from whichever folder the settings are read.
fn absolute(name: &str, value: Value) -> Result<Value> {
    let is_path =
        SECTIONS.iter().flat_map(|section| section.settings).any(|s| s.name == name && s.takes == Takes::Path);
    match value {
        Value::String(path) if is_path => {
            let path: PathBuf = files::absolute(Path::new(&path)).map_err(Error::io("find", Path::new(&path)))?;
            let text = path.into_os_string().into_string();
            let lossy = |path: std::ffi::OsString| format!("{}", Path::new(&path).display());
            text.map(Value::String)
                .map_err(|path| Error::setting(name, "a path in UTF-8, for config.toml", lossy(path)))
        }
        other => Ok(other),
    }
}

/// Calls a setting of a choice by its dotted name.
fn within(choice: &str, value: &Value, error: Error) -> Error {
    let is_wrong_alone = |name: &String, inner: &Value| {
        let kind = value.get("kind").cloned().unwrap_or_else(|| "".into());
        let alone = Table::from_iter([("kind".to_owned(), kind), (name.clone(), inner.clone())]);
        let error = check_choice(choice, alone.into());
        matches!(error, Err(Error::Setting { setting, .. }) if setting == choice)
    };
    match error {
        // What cannot be read names no setting; the one that cannot be read by itself is it.
        Error::Setting { setting, expected, got } if setting == choice => {
            let inner = value.as_table().and_then(|table| {
                table.iter().find(|(name, inner)| *name != "kind" && is_wrong_alone(name, inner)).map(|(name, _)| name)
            });
            let setting = inner.map_or(setting, |name| format!("{choice}.{name}"));
            Error::Setting { setting, expected, got }
        }
        Error::Setting { setting, expected, got }
            if setting != choice && !setting.starts_with(&format!("{choice}.")) =>
        {
            Error::Setting { setting: format!("{choice}.{setting}"), expected, got }
        }
        other => other,
    }
}

fn check_choice(name: &str, value: Value) -> Result<()> {
    match name {
        "dataset" => DataSource::read(value).map(drop),
        "network" => Network::read(value)?.validate(),
        "optimizer" => Optimizer::read(value)?.validate(),
        _ => Schedule::read(value).map(drop),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    /// A value that a setting takes, other than what many have by default.
    fn example(setting: &Setting) -> Value {
        match setting.takes {
            Takes::Number => Value::Float(0.25),
            Takes::Count => Value::Integer(2),
            Takes::Switch => Value::Boolean(true),
            Takes::Word(words) => Value::String(words[0].to_owned()),
            Takes::Numbers => Value::Array(vec![Value::Float(0.25), Value::Float(0.5)]),
            Takes::Counts => Value::Array(vec![Value::Integer(8), Value::Integer(16)]),
            Takes::Path | Takes::Text => Value::String("somewhere".to_owned()),
        }
    }

    /// Every field of the configuration is described, and every description names a field.
    #[test]
    fn settings_and_fields_are_the_same() {
        let known: Vec<String> = all().collect();
        for (name, _) in RunConfig::default().flat_settings().unwrap() {
            let kind = name.ends_with(".kind");
            assert!(kind || known.contains(&name), "{name} is in config.toml and in no section");
        }
        for section in &SECTIONS {
            for setting in section.settings.iter().filter(|setting| setting.name.ne("early_stopping")) {
                if setting.name == "diagnostics" {
                    continue;
                }
                let mut settings = Settings::of(&RunConfig::default()).unwrap();
                settings.set(setting.name, example(setting)).unwrap();
                let read = settings.table.try_into::<RunConfig>();
                assert!(read.is_ok(), "{}: {:?}", setting.name, read.err());
            }
            for (table, inner) in section.tables {
                for setting in *inner {
                    let mut settings = Settings::of(&RunConfig::default()).unwrap();
                    settings.set(&format!("{table}.{}", setting.name), example(setting)).unwrap();
                    let read = settings.table.try_into::<RunConfig>();
                    assert!(read.is_ok(), "{table}.{}: {:?}", setting.name, read.err());
                }
            }
        }
    }

    #[test]
    fn a_choice_that_becomes_another_starts_from_its_defaults() {
        let mut settings = Settings::of(&RunConfig { lr: Some(0.5), ..RunConfig::default() }).unwrap();
        let given = [("optimizer.amsgrad".to_owned(), true.into()), ("optimizer".to_owned(), "adam".into())];
        settings.set_all(&given).unwrap();
        let config = settings.config().unwrap();
        assert_eq!((config.optimizer.name(), config.lr), ("adam", None));
        assert_eq!(config.optimizer, Optimizer::named("adam").unwrap().with("amsgrad", true).unwrap());
    }

    #[test]
    fn wrong_names_say_what_was_perhaps_meant() {
        let set = |name: &str| {
            Settings::of(&RunConfig::default()).unwrap().set(name, Value::Float(0.5)).unwrap_err().to_string()
        };
        assert!(set("momentum").contains("optimizer.momentum"), "{}", set("momentum"));
        assert!(set("optimizer.amsgrad").contains("only with optimizer adam"), "{}", set("optimizer.amsgrad"));
        assert!(set("optimizer.depth").contains("network.depth"), "{}", set("optimizer.depth"));
        assert!(set("batchsize").contains("batch_size"), "{}", set("batchsize"));
        assert!(set("nothing.like.it").contains("config.toml"), "{}", set("nothing.like.it"));
    }

    #[test]
    fn what_was_switched_off_is_switched_on_by_its_own_setting() {
        let mut settings = Settings::of(&RunConfig { early_stopping: None, ..RunConfig::default() }).unwrap();
        settings.set("early_stopping.patience", Value::Integer(9)).unwrap();
        assert_eq!(settings.config().unwrap().early_stopping.unwrap().patience, 9);
    }
}
