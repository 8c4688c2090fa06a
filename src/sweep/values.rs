//! Ranges of numbers: where a share from 0 to 1 lies in one, and which points of it a grid takes. Logarithms come from
//! `libm`, so that a seed draws the same numbers on every platform.

use std::fmt;

use serde::Deserialize;
use toml::Value;

use crate::{Error, Result};

/// A range of numbers for a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    min: f64,
    max: f64,
    is_log: bool,
    grain: Grain,
    count: Option<usize>,
}

/// Which numbers of a range there are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Grain {
    /// All, to four digits: more say nothing, and tables stay readable.
    Real,
    /// Whole numbers.
    Integer,
    /// `min + i · step`; whether all of them are whole.
    Step(f64, bool),
}

/// What a setting may be, as it is written in `[space]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    pub choices: Option<Vec<Value>>,
    min: Option<Value>,
    max: Option<Value>,
    log: bool,
    integer: bool,
    step: Option<Value>,
    count: Option<usize>,
}

impl Written {
    /// Whether anything but choices is written.
    pub fn has_range(&self) -> bool {
        *self != Written { choices: self.choices.clone(), ..Written::default() }
    }
}

impl Range {
    pub(super) fn new(name: &str, written: Written) -> Result<Range> {
        let wrong = |expected: &str, got: String| Error::setting(format!("space.{name}"), expected, got);
        let number = |key: &str, value: &Value| {
            let number = as_number(value).filter(|number| number.is_finite());
            number.ok_or_else(|| wrong(&format!("a number as {key}"), describe(value)))
        };
        let Written { min: Some(low), max: Some(high), log: is_log, integer, step, count, .. } = written else {
            return Err(wrong("both min and max, or choices = [...]", "not both".to_owned()));
        };
        let (min, max) = (number("min", &low)?, number("max", &high)?);
        let got = || format!("min = {}, max = {}", describe(&low), describe(&high));
        if min >= max {
            return Err(wrong("min below max", got()));
        }
        if is_log && min <= 0.0 {
            return Err(wrong("min above 0 where log = true", got()));
        }
        if integer && !(is_whole(min) && is_whole(max)) {
            return Err(wrong("whole numbers of at most 2^53 where integer = true", got()));
        }
        let mut grain = if integer { Grain::Integer } else { Grain::Real };
        if let Some(written) = &step {
            let step = number("step", written)?;
            if is_log || step <= 0.0 || step > max - min || (max - min) / step > 1e6 {
                let expected = "a step above 0 and up to max - min, at most a million of them, and without log";
                return Err(wrong(expected, format!("step = {}, log = {is_log}", describe(written))));
            }
            let is_integer = [&low, written].into_iter().all(Value::is_integer);
            if integer && !is_integer {
                return Err(wrong("whole numbers as min and step where integer = true", describe(written)));
            }
            grain = Grain::Step(step, is_integer);
        }
        if count.is_some_and(|count| count < 2 || step.is_some()) {
            return Err(wrong("a count of at least 2 points, or a step instead", format!("count = {count:?}")));
        }
        Ok(Range { min, max, is_log, grain, count })
    }

    /// Whether equal factors are as likely, and not equal differences.
    pub fn is_log(&self) -> bool {
        self.is_log
    }

    /// The value at a share from 0 to below 1 of the range: each is as likely as any other, on a logarithmic range each
    /// factor.
    pub(super) fn at(&self, share: f64) -> Value {
        match self.grain {
            Grain::Real => Value::Float(self.rounded(self.between(self.min, self.max, share))),
            // Half a number more on both sides, so that the first and the last are as likely as the others.
            Grain::Integer => self.integer(self.between(self.min - 0.5, self.max + 0.5, share)),
            Grain::Step(step, is_integer) => {
                let steps = self.num_steps(step);
                stepped(self.min, (share * (steps + 1.0)).floor().min(steps), step, is_integer)
            }
        }
    }

    /// The points that a grid takes; `None` where neither `step` nor `count` says how many.
    pub(super) fn points(&self) -> Option<Vec<Value>> {
        if let Grain::Step(step, is_integer) = self.grain {
            // At most a million.
            return Some(
                (0..=self.num_steps(step) as u64).map(|i| stepped(self.min, i as f64, step, is_integer)).collect(),
            );
        }
        let count = self.count?;
        let at = |index: usize| self.between(self.min, self.max, index as f64 / (count - 1) as f64);
        let mut points: Vec<Value> = (0..count)
            .map(|index| match self.grain {
                Grain::Integer => self.integer(at(index)),
                _ => Value::Float(self.rounded(at(index))),
            })
            .collect();
        // A short range of integers may have fewer points than requested.
        points.dedup();
        Some(points)
    }

    fn num_steps(&self, step: f64) -> f64 {
        ((self.max - self.min) / step + 1e-9).floor()
    }

    fn between(&self, low: f64, high: f64, share: f64) -> f64 {
        if self.is_log {
            libm::exp(libm::log(low) + share * (libm::log(high) - libm::log(low)))
        } else {
            low + share * (high - low)
        }
    }

    fn integer(&self, value: f64) -> Value {
        // Both ends are whole numbers of at most 2^53.
        Value::Integer(value.round().clamp(self.min, self.max) as i64)
    }

    /// Four digits: of the value itself on a logarithmic range, else of the range's width.
    fn rounded(&self, value: f64) -> f64 {
        let text = if self.is_log {
            format!("{value:.3e}")
        } else {
            let decimals = 3 - (self.max - self.min).log10().floor() as i32;
            // 300 decimals reach the smallest of doubles.
            format!("{value:.*}", decimals.clamp(0, 300) as usize)
        };
        text.parse::<f64>().unwrap_or(value).clamp(self.min, self.max)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole ones without the dot and the zero.
        let number = |number: f64| {
            if number.abs() < 1e9 && number.fract() == 0.0 { number.to_string() } else { format!("{number:?}") }
        };
        write!(f, "{} to {}", number(self.min), number(self.max))?;
        match self.grain {
            Grain::Real => {}
            Grain::Integer => f.write_str(", whole")?,
            Grain::Step(step, _) => write!(f, " in steps of {step}")?,
        }
        if self.is_log { f.write_str(", logarithmic") } else { Ok(()) }
    }
}

fn stepped(min: f64, index: f64, step: f64, is_integer: bool) -> Value {
    let value = min + index * step;
    if is_integer {
        // `min` and `step` came from integers.
        return Value::Integer(value as i64);
    }
    // 0.1 + 2 · 0.1 is meant as 0.3.
    Value::Float(format!("{value:.12e}").parse().unwrap_or(value))
}

fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() <= (1u64 << 53) as f64
}

pub(super) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        // Settings are far below 2^53.
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

/// A value as tables and pictures have it: a word as it is, a table as its kind and the rest of it.
pub fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Table(table) => {
            let kind = table.get("kind").map(describe).into_iter();
            let rest = table.iter().filter(|(key, _)| *key != "kind");
            kind.chain(rest.map(|(key, value)| format!("{key} {}", describe(value)))).collect::<Vec<_>>().join(", ")
        }
        Value::Array(values) => format!("[{}]", values.iter().map(describe).collect::<Vec<_>>().join(", ")),
        // With an exponent where it would have many zeros.
        Value::Float(number) => format!("{number:?}"),
        other => other.to_string(),
    }
}
