//! What a sweep may try: each setting with its choices or its range, and the configurations drawn from them. A trial's
//! configuration is a function of the seed and the trial's number alone, so it does not matter which trials ran before,
//! or in parallel.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use toml::{Table, Value};

use super::values::{Range, Written, describe};
use crate::{Error, Result, rng};

/// The settings to search over, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    settings: Vec<Setting>,
}

/// A setting and what it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The name in a configuration file, such as `optimizer.momentum`.
    pub name: String,
    /// What it may be.
    pub values: Values,
}

/// What a setting may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// One of these, each as likely.
    Choices(Vec<Value>),
    /// A number.
    Range(Range),
}

/// A value for each setting of a space; as JSON, an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment(pub Vec<(String, Value)>);

const EXPECTED: &str = "choices = [...], or min and max with log, integer, step or count";

/// The most configurations of a grid: more is a mistake, or nothing that anyone waits for.
const MAX_GRID: usize = 100_000;

impl Space {
    /// Reads `[space]`. Dotted names may be quoted or not.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting and what may be written there.
    pub fn parse(table: &Table) -> Result<Space> {
        let mut settings = Vec::new();
        collect("", table, &mut settings)?;
        if settings.is_empty() {
            return Err(Error::setting("[space]", format!("at least one setting with {EXPECTED}"), "none"));
        }
        for (index, setting) in settings.iter().enumerate() {
            if settings[..index].iter().any(|other| other.name == setting.name) {
                return Err(Error::setting(format!("space.{}", setting.name), "to be given once", "it twice"));
            }
        }
        Ok(Space { settings })
    }

    /// The settings.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The random configuration of a trial, counted from 0.
    pub fn sample(&self, seed: u64, trial: u64) -> Assignment {
        let draw = |setting: &Setting| {
            let share = share(seed, &setting.name, trial);
            let value = match &setting.values {
                // Below the number of choices, since the share is below 1.
                Values::Choices(choices) => choices[(share * choices.len() as f64) as usize].clone(),
                Values::Range(range) => range.at(share),
            };
            (setting.name.clone(), value)
        };
        Assignment(self.settings.iter().map(draw).collect())
    }

    /// Every combination; the last setting changes fastest.
    ///
    /// # Errors
    /// [`Error::Setting`] where a range has neither `step` nor `count`, or there are more than 100,000 combinations.
    pub fn grid(&self) -> Result<Vec<Assignment>> {
        let mut grid = vec![Assignment::default()];
        for Setting { name, values } in &self.settings {
            let values = match values {
                Values::Choices(choices) => choices.clone(),
                Values::Range(range) => range.points().ok_or_else(|| {
                    let expected = "count = how many points of the range a grid takes, or a step";
                    Error::setting(format!("space.{name}"), expected, "neither")
                })?,
            };
            if grid.len() * values.len() > MAX_GRID {
                let expected = format!("a grid of at most {MAX_GRID} configurations");
                return Err(Error::setting("[space]", expected, "more; take method = \"random\""));
            }
            let extended = |assignment: &Assignment| {
                let before = assignment.clone();
                let values = values.clone().into_iter();
                values.map(move |value| {
                    let mut next = before.clone();
                    next.0.push((name.clone(), value));
                    next
                })
            };
            grid = grid.iter().flat_map(extended).collect();
        }
        Ok(grid)
    }
}

/// Where in the range of a setting a trial lies, from 0 to below 1: a Latin hypercube (McKay, Beckman and Conover,
/// 1979) of every eight trials in a row, so that a short search leaves no part of a range out by bad luck.
fn share(seed: u64, name: &str, trial: u64) -> f64 {
    const BLOCK: u64 = 8;
    let order = |trial: u64| rng::uniform(seed, name, trial);
    let first = trial - trial % BLOCK;
    let before = (first..first + BLOCK).filter(|&other| order(other) < order(trial)).count();
    // The random order selects the eighth; another random number selects the position within it.
    (before as f64 + rng::uniform(seed, &format!("{name} within its eighth"), trial)) / BLOCK as f64
}

fn collect(prefix: &str, table: &Table, settings: &mut Vec<Setting>) -> Result<()> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let wrong = |got: String| Error::setting(format!("space.{name}"), EXPECTED, got);
        let Value::Table(inner) = value else { return Err(wrong(describe(value))) };
        if inner.is_empty() {
            return Err(wrong("nothing".to_owned()));
        }
        // `optimizer.momentum = {...}` is a table in a table; what a setting may be is never tables alone.
        if inner.values().all(Value::is_table) {
            collect(&name, inner, settings)?;
            continue;
        }
        let written: Written = inner.clone().try_into().map_err(|error: toml::de::Error| wrong(first_line(&error)))?;
        let values = match &written.choices {
            None => Values::Range(Range::new(&name, written)?),
            Some(_) if written.has_range() => return Err(wrong("choices and parts of a range".to_owned())),
            Some(choices) if choices.is_empty() => return Err(wrong("no choices".to_owned())),
            Some(choices) => Values::Choices(choices.clone()),
        };
        settings.push(Setting { name, values });
    }
    Ok(())
}

/// What a TOML error says, without the excerpt that points nowhere in a table taken out of its file.
pub(super) fn first_line(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or_default().to_owned()
}

impl Assignment {
    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// In a line, such as `lr = 0.01, batch_size = 32`.
    pub fn describe(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name} = {}", describe(value))).collect::<Vec<_>>().join(", ")
    }
}

impl Serialize for Assignment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}
