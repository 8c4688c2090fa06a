//! Things that are chosen by name: networks, optimizers, schedules, data sets. Each is one file with a type that holds
//! its settings; `registry!` makes the enum of them. A list of [`Setting`]s describes what can be set, once: flags,
//! `config.toml`, the spaces of a sweep, help and errors all derive from it.
//!
//! In a file a choice is a table with its `kind` and what differs from the defaults, or just the name:
//!
//! ```toml
//! optimizer = "adam"
//! network = { kind = "resnet", depth = 20 }
//! ```
//!
//! To add one: write its file, with `impl Described`, and its line in the registry.

use std::num::IntErrorKind;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::error::alternatives;
use crate::{Error, Result};

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A number.
    Number,
    /// A whole number of at least 0.
    Count,
    /// true or false.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Numbers, separated by commas on a command line.
    Numbers,
    /// Whole numbers of at least 0, separated by commas on a command line.
    Counts,
    /// The path of a file or folder.
    Path,
    /// Any text.
    Text,
}

/// A setting: its name, what it takes and what it does. Its default is what the type it belongs to has by default, its
/// check is in that type's `validate`.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name in a file, such as `weight_decay`; dots separate tables.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it does, as a phrase for `--help`: no full stop, and no default, which is added.
    pub help: &'static str,
}

/// Something that is chosen by name: its settings are its fields, which [`Default`] fills.
pub trait Described: Default + Serialize + DeserializeOwned {
    /// The name in files and on command lines, such as `sgd`.
    const NAME: &'static str;
    /// What it is, as a phrase: "Adam with decoupled weight decay (Loshchilov and Hutter, 2019)".
    const ABOUT: &'static str;
    /// What can be set. A setting that several choices of one registry share has one meaning and takes the same values.
    const SETTINGS: &'static [Setting];
}

/// An entry of a registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name it is chosen by.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What can be set.
    pub settings: &'static [Setting],
    defaults: fn() -> toml::Table,
}

impl Setting {
    /// A setting.
    pub const fn new(name: &'static str, takes: Takes, help: &'static str) -> Self {
        Setting { name, takes, help }
    }

    /// Reads a value from text, as a command line has it.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting and what it takes.
    pub fn parse(&self, text: &str) -> Result<toml::Value> {
        let wrong = || Error::setting(self.name, self.takes.expected(), format!("\"{text}\""));
        let number = |text: &str| text.trim().parse::<f64>().map(toml::Value::Float).map_err(|_| wrong());
        let count = |text: &str| match text.trim().parse::<i64>() {
            Ok(count) if count >= 0 => Ok(toml::Value::Integer(count)),
            // As far as TOML counts.
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
                Err(Error::setting(self.name, "a number below 2^63", text))
            }
            _ => Err(wrong()),
        };
        let list = |read: &dyn Fn(&str) -> Result<toml::Value>| -> Result<toml::Value> {
            Ok(toml::Value::Array(text.split(',').map(read).collect::<Result<_>>()?))
        };
        match self.takes {
            Takes::Number => number(text),
            Takes::Count => count(text),
            Takes::Switch => text.parse().map(toml::Value::Boolean).map_err(|_| wrong()),
            Takes::Word(words) => {
                let word = words.iter().find(|word| is_name(text, word)).ok_or_else(wrong)?;
                Ok(toml::Value::String((*word).to_owned()))
            }
            Takes::Numbers => list(&number),
            Takes::Counts => list(&count),
            Takes::Path | Takes::Text => Ok(toml::Value::String(text.to_owned())),
        }
    }
}

impl Takes {
    /// What it takes, for error messages: "a whole number of at least 0".
    pub fn expected(&self) -> String {
        match self {
            Takes::Number => "a number".to_owned(),
            Takes::Count => "a whole number of at least 0".to_owned(),
            Takes::Switch => "true or false".to_owned(),
            Takes::Word(words) => crate::error::alternatives(words),
            Takes::Numbers => "numbers separated by commas".to_owned(),
            Takes::Counts => "whole numbers separated by commas".to_owned(),
            Takes::Path => "a path".to_owned(),
            Takes::Text => "text".to_owned(),
        }
    }
}

impl Entry {
    /// The entry of a type.
    pub const fn of<T: Described>() -> Self {
        Entry { name: T::NAME, about: T::ABOUT, settings: T::SETTINGS, defaults: defaults::<T> }
    }

    /// The settings with their defaults, by name; one that is off or left open is missing.
    pub fn defaults(&self) -> toml::Table {
        (self.defaults)()
    }
}

fn defaults<T: Described>() -> toml::Table {
    toml::Table::try_from(T::default()).expect("settings are plain values, which TOML can hold")
}

/// Reads a choice: takes its name out of a table, or a bare name for all defaults.
///
/// # Errors
/// [`Error::Setting`] where there is no name.
pub(crate) fn take_kind(what: &str, value: toml::Value) -> Result<(String, toml::Table)> {
    match value {
        toml::Value::String(kind) => Ok((kind, toml::Table::new())),
        toml::Value::Table(mut table) => match table.remove("kind") {
            Some(toml::Value::String(kind)) => Ok((kind, table)),
            Some(other) => Err(Error::setting(format!("{what}.kind"), "a name", other)),
            None => Err(Error::setting(what, "a name, or a table with a \"kind\"", "a table without it")),
        },
        other => Err(Error::setting(what, "a name, or a table with a \"kind\"", other)),
    }
}

/// What serde says of settings that it cannot read, in words.
pub(crate) fn unreadable(what: &str, kind: &str, error: &toml::de::Error) -> Error {
    let message = error.message();
    let lengths =
        message.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected an array of length "));
    match lengths {
        Some((got, wanted)) => Error::setting(what, format!("{wanted} values"), got),
        None => Error::setting(what, format!("settings of {kind}"), message.replace('\n', ", ")),
    }
}

/// Whether what was typed is this name. Hyphens and underscores are the same and may be left out, so that a name is found
/// in the spelling of files (`multi_step`), of flags (`multi-step`) and in one word.
pub(crate) fn is_name(typed: &str, name: &str) -> bool {
    let letters = |text: &'_ str| text.replace(['-', '_'], "");
    letters(typed) == letters(name)
}

/// Makes the enum of a registry from its entries: a variant for each type, which implements [`Described`] and the
/// registry's trait; reading and writing by `kind`; `ENTRIES`, `named`, `name` and `get`.
macro_rules! registry {
    ($(#[$doc:meta])* pub enum $Name:ident($what:literal): $Trait:path { $($Variant:ident($Type:ty)),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the type that documents it")]
        pub enum $Name { $($Variant($Type)),* }

        #[allow(dead_code, reason = "not every registry needs all of it")]
        impl $Name {
            /// All that can be chosen, with their settings.
            pub const ENTRIES: &'static [$crate::registry::Entry] = &[$($crate::registry::Entry::of::<$Type>()),*];

            /// The choice of this name, with its defaults.
            ///
            /// # Errors
            /// [`Error::Setting`](crate::Error::Setting) listing the names that there are.
            pub fn named(name: &str) -> $crate::Result<Self> {
                Self::read(toml::Value::String(name.to_owned()))
            }

            /// The name it is chosen by.
            pub fn name(&self) -> &'static str {
                match self { $($Name::$Variant(_) => <$Type as $crate::registry::Described>::NAME),* }
            }

            /// The entry of the choice.
            pub fn entry(&self) -> &'static $crate::registry::Entry {
                Self::ENTRIES.iter().find(|entry| entry.name == self.name()).expect("every variant has its entry")
            }

            /// What was chosen, as all of them can be used.
            pub fn get(&self) -> &dyn $Trait {
                match self { $($Name::$Variant(chosen) => chosen),* }
            }

            /// The same choice with one setting changed.
            ///
            /// # Errors
            /// [`Error::Setting`](crate::Error::Setting) where the choice has no such setting, or not of this kind.
            pub fn with(&self, setting: &str, value: impl Into<toml::Value>) -> $crate::Result<Self> {
                let mut table = self.table();
                table.insert(setting.to_owned(), value.into());
                Self::read(toml::Value::Table(table))
            }

            /// The settings by name, and the `kind`.
            fn table(&self) -> toml::Table {
                let settings = match self { $($Name::$Variant(chosen) => toml::Table::try_from(chosen)),* };
                let mut table = settings.expect("settings are plain values, which TOML can hold");
                table.insert("kind".to_owned(), self.name().into());
                table
            }

            /// The entry of this name; hyphens and underscores are the same.
            ///
            /// # Errors
            /// [`Error::Setting`](crate::Error::Setting) listing the names that there are.
            pub fn find(name: &str) -> $crate::Result<&'static $crate::registry::Entry> {
                let entry = Self::ENTRIES.iter().find(|entry| $crate::registry::is_name(name, entry.name));
                entry.ok_or_else(|| Self::unknown(name))
            }

            fn unknown(name: &str) -> $crate::Error {
                let names: Vec<&str> = Self::ENTRIES.iter().map(|entry| entry.name).collect();
                $crate::Error::setting($what, $crate::error::alternatives(&names), name)
            }

            /// Reads a choice: a name, or a table with its kind and settings.
            ///
            /// # Errors
            /// [`Error::Setting`](crate::Error::Setting) where there is no such name or setting.
            pub fn read(value: toml::Value) -> $crate::Result<Self> {
                let (kind, table) = $crate::registry::take_kind($what, value)?;
                $(if $crate::registry::is_name(&kind, <$Type as $crate::registry::Described>::NAME) {
                    let chosen = table.try_into::<$Type>();
                    let in_words = |error| $crate::registry::unreadable($what, &kind, &error);
                    return chosen.map($Name::$Variant).map_err(in_words);
                })*
                Err(Self::unknown(&kind))
            }
        }

        $(impl From<$Type> for $Name {
            fn from(chosen: $Type) -> Self { $Name::$Variant(chosen) }
        })*

        impl serde::Serialize for $Name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut table = toml::Table::new();
                table.insert("kind".to_owned(), self.name().into());
                let settings = match self { $($Name::$Variant(chosen) => toml::Table::try_from(chosen)),* };
                table.extend(settings.map_err(serde::ser::Error::custom)?);
                table.serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = <toml::Value as serde::Deserialize>::deserialize(deserializer)?;
                Self::read(value).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use registry;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use serde::Deserialize;

    use super::*;

    pub trait Shape {
        fn area(&self) -> f64;
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Square {
        side: f64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Rectangle {
        sides: [f64; 2],
    }

    impl Default for Square {
        fn default() -> Self {
            Square { side: 2.0 }
        }
    }

    impl Default for Rectangle {
        fn default() -> Self {
            Rectangle { sides: [2.0, 3.0] }
        }
    }

    impl Described for Square {
        const NAME: &'static str = "square";
        const ABOUT: &'static str = "Four equal sides";
        const SETTINGS: &'static [Setting] = &[Setting::new("side", Takes::Number, "Length of a side")];
    }

    impl Described for Rectangle {
        const NAME: &'static str = "rectangle";
        const ABOUT: &'static str = "Two lengths of sides";
        const SETTINGS: &'static [Setting] = &[Setting::new("sides", Takes::Numbers, "Width and height")];
    }

    impl Shape for Square {
        fn area(&self) -> f64 {
            self.side * self.side
        }
    }

    impl Shape for Rectangle {
        fn area(&self) -> f64 {
            self.sides[0] * self.sides[1]
        }
    }

    registry! {
        /// A shape.
        pub enum AnyShape("shape"): Shape { Square(Square), Rectangle(Rectangle) }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Drawing {
        shape: AnyShape,
    }

    #[test]
    fn a_choice_is_a_name_or_a_table_and_is_written_as_a_table() {
        let read = |text: &str| toml::from_str::<Drawing>(text);
        let drawing = read("shape = \"square\"").unwrap();
        assert_eq!(drawing.shape, Square::default().into());
        assert_eq!(read("shape = \"squ-are\"").unwrap(), drawing, "hyphens and underscores do not tell names apart");
        let drawing = read("[shape]\nkind = \"rectangle\"\nsides = [4, 5]").unwrap();
        assert_eq!((drawing.shape.name(), drawing.shape.get().area()), ("rectangle", 20.0));
        let text = toml::to_string(&drawing).unwrap();
        assert_eq!(read(&text).unwrap(), drawing, "{text}");
        let json = serde_json::to_string(&drawing).unwrap();
        assert_eq!(serde_json::from_str::<Drawing>(&json).unwrap(), drawing, "{json}");
    }

    #[test]
    fn wrong_choices_say_what_there_is() {
        let error = |text: &str| toml::from_str::<Drawing>(text).unwrap_err().to_string();
        assert!(error("shape = \"circle\"").contains("square or rectangle"));
        assert!(error("shape = { side = 3 }").contains("kind"));
        let unknown = error("shape = { kind = \"square\", sides = 3 }");
        assert!(unknown.contains("sides") && unknown.contains("side"), "{unknown}");
    }

    #[test]
    fn entries_know_settings_and_defaults() {
        let [square, rectangle] = AnyShape::ENTRIES else { panic!("two entries") };
        assert_eq!(AnyShape::named("square").unwrap().entry().name, square.name);
        assert_eq!(AnyShape::find("rect-angle").unwrap().name, rectangle.name);
        assert_eq!(square.defaults()["side"].as_float(), Some(2.0));
        let sides = rectangle.settings[0].parse("1, 2.5").unwrap();
        assert_eq!(sides.as_array().unwrap().len(), 2);
        let big = |text| Setting::new("n", Takes::Count, "A count").parse(text).unwrap_err().to_string();
        assert_eq!(big("18446744073709551615"), "n: expected a number below 2^63, got 18446744073709551615");
        assert_eq!(big("-1"), "n: expected a whole number of at least 0, got \"-1\"");
        let one_side = AnyShape::named("rectangle").unwrap().with("sides", vec![2.0]).unwrap_err().to_string();
        assert_eq!(one_side, "shape: expected 2 values, got 1");
        let error = square.settings[0].parse("wide").unwrap_err().to_string();
        assert_eq!(error, "side: expected a number, got \"wide\"");
    }
}
