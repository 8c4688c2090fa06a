//! A schedule as a file holds it: a name, or a table with its kind, its arguments and the settings that all have.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Base, Constant, Interval, Kind, Schedule};
use crate::registry::Described;
use crate::{Error, Result};

/// The kind of a sequence, which is no entry of the registry: its parts are schedules, which no flag can hold.
const SEQUENTIAL: &str = "sequential";

impl Schedule {
    /// Reads a schedule: a name, or a table of settings. A table without a kind has only a warm-up.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that is unknown, missing or out of range, or has no effect.
    pub fn read(value: toml::Value) -> Result<Schedule> {
        let mut table = match value {
            toml::Value::Table(table) => table,
            name => return Schedule::new(Kind::read(name)?),
        };
        let interval = table.remove("interval").map(read_as::<Interval>("interval")).transpose()?;
        let warmup = table.remove("warmup").map(read_as::<u64>("warmup")).transpose()?.unwrap_or(0);
        let factor = table.remove("warmup_factor").map(read_as::<f64>("warmup_factor")).transpose()?;
        if table.is_empty() {
            table.insert("kind".to_owned(), Constant::NAME.into());
        }
        let mut schedule = match table.get("kind").and_then(toml::Value::as_str) {
            Some(SEQUENTIAL) => read_sequence(table)?,
            _ => Schedule::new(Kind::read(toml::Value::Table(table))?)?,
        };
        // The interval that it has anyway may be named.
        if let Some(interval) = interval.filter(|&interval| interval != schedule.interval()) {
            if warmup == 0 && schedule.goes_with_any_interval() {
                return Err(Error::setting("interval", "a schedule that counts steps, or a warmup", schedule));
            }
            schedule = schedule.stepping(interval);
        }
        match factor {
            Some(_) if warmup == 0 => Err(Error::setting("warmup_factor", "a warmup of at least 1 step", "none")),
            _ if warmup == 0 => Ok(schedule),
            factor => Schedule::warm_up(factor.unwrap_or(Schedule::WARMUP_FACTOR), warmup, schedule),
        }
    }

    /// The table that [`read`](Self::read) reads back.
    ///
    /// # Errors
    /// [`Error::Setting`] where the schedule is code, which no file can hold.
    pub fn to_table(&self) -> Result<toml::Table> {
        let unwritable = |error| Error::setting("schedule", "settings that TOML can hold", error);
        let mut table = match &self.base {
            Base::Kind(kind) => toml::Table::try_from(kind).map_err(unwritable)?,
            Base::Sequence(sequence) => {
                let parts = sequence.schedules().iter().map(|part| part.to_table().map(toml::Value::Table));
                let milestones = toml::Value::try_from(sequence.milestones()).map_err(unwritable)?;
                let mut table = toml::Table::new();
                table.insert("kind".to_owned(), SEQUENTIAL.into());
                table.insert("milestones".to_owned(), milestones);
                table.insert("schedules".to_owned(), toml::Value::Array(parts.collect::<Result<_>>()?));
                table
            }
            Base::Lambda(_) => return Err(Error::setting("schedule", "a kind that files can hold", "code")),
        };
        if self.interval() != self.own_interval() && !self.goes_with_any_interval() {
            table.insert("interval".to_owned(), toml::Value::try_from(self.interval()).map_err(unwritable)?);
        }
        if self.warmup > 0 {
            table.insert("warmup".to_owned(), toml::Value::try_from(self.warmup).map_err(unwritable)?);
            table.insert("warmup_factor".to_owned(), self.warmup_factor.into());
        }
        Ok(table)
    }
}

fn read_as<T: for<'de> Deserialize<'de>>(name: &'static str) -> impl Fn(toml::Value) -> Result<T> {
    move |value| {
        let setting = Schedule::SETTINGS.iter().find(|setting| setting.name == name);
        let expected = setting.map_or_else(|| "a value".to_owned(), |setting| setting.takes.expected());
        value.clone().try_into().map_err(|_| Error::setting(name, expected, value))
    }
}

fn read_sequence(mut table: toml::Table) -> Result<Schedule> {
    table.remove("kind");
    let mut list = |name: &str, expected: &str| match table.remove(name) {
        Some(toml::Value::Array(values)) => Ok(values),
        other => {
            let got = other.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            Err(Error::setting(name, expected, got))
        }
    };
    let schedules = list("schedules", "a list of schedules")?;
    let milestones = list("milestones", "a list of steps")?;
    if let Some((name, _)) = table.iter().next() {
        return Err(Error::setting(name, "nothing, as a sequence has only schedules and milestones", "a value"));
    }
    let schedules = schedules.into_iter().map(Schedule::read).collect::<Result<Vec<_>>>()?;
    let steps = |value: toml::Value| value.clone().try_into().map_err(|_| Error::setting("milestones", "steps", value));
    Schedule::sequential(schedules, milestones.into_iter().map(steps).collect::<Result<Vec<u64>>>()?)
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_table().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Schedule::read(toml::Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
