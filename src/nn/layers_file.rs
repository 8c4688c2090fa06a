//! A list of layers as a file has it: [`Sequential`] to and from TOML, where every mistake is named by its layer.
//!
//! ```toml
//! layers = [
//!   { kind = "conv2d", out_channels = 8, kernel_size = 3, padding = 1, bias = false },
//!   { kind = "batch_norm2d" },
//!   { kind = "relu" },
//!   { kind = "residual", layers = [{ kind = "conv2d", out_channels = 8, kernel_size = 3, padding = 1 }] },
//!   { kind = "global_avg_pool2d" },
//!   { kind = "flatten" },
//!   { kind = "linear", name = "fc" },
//! ]
//! ```
//!
//! | kind | settings |
//! | --- | --- |
//! | `conv2d` | those of [`Conv2d`]: `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `bias`, `init` |
//! | `linear` | `out_features`, without which it is the number of classes; `bias` |
//! | `batch_norm2d` | `eps`, `momentum` |
//! | `relu`, `sigmoid`, `tanh`, `gelu`, `silu`, `log_softmax`, `flatten`, `global_avg_pool2d` | none |
//! | `leaky_relu` | `negative_slope`, 0.01 without |
//! | `max_pool2d`, `avg_pool2d` | `kernel_size`, `stride`, `padding`, `ceil_mode` |
//! | `dropout` | `p` |
//! | `residual` | `layers`; `shortcut`, a list for the other branch, which is the input itself without |
//!
//! Every layer may have a `name`, which replaces its number in the names of its weights.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::layers::Windows;
use super::sequential::Layer;
use super::settings::{is_true, yes};
use super::{BatchNorm2d, Conv2d, Dropout, Sequential};
use crate::ops::Activation;
use crate::{Error, Result};

/// What a layer of a list is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Linear { out_features: Option<usize>, bias: bool },
    Conv2d(Conv2d),
    BatchNorm2d(BatchNorm2d),
    Activation(Activation),
    Gelu,
    Silu,
    LeakyRelu { negative_slope: f64 },
    LogSoftmax,
    MaxPool2d(Windows),
    AvgPool2d(Windows),
    GlobalAvgPool2d,
    Flatten,
    Dropout(Dropout),
    Residual { layers: Sequential, shortcut: Sequential },
}

const KINDS: [&str; 16] = [
    "conv2d",
    "linear",
    "batch_norm2d",
    "relu",
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "leaky_relu",
    "log_softmax",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "flatten",
    "dropout",
    "residual",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinearSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out_features: Option<usize>,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    bias: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LeakyReluSettings {
    negative_slope: f64,
}

impl Default for LeakyReluSettings {
    fn default() -> Self {
        LeakyReluSettings { negative_slope: 0.01 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

impl Sequential {
    /// Reads a list that is at `path`, such as `layers[3].layers`.
    fn read(list: Value, path: &str) -> Result<Sequential> {
        let Value::Array(list) = list else {
            return Err(Error::setting(path, "a list of layers", format!("a {}", list.type_str())));
        };
        let read = |(place, layer)| Layer::read(layer, &format!("{path}[{place}]"));
        Ok(Sequential { layers: list.into_iter().enumerate().map(read).collect::<Result<_>>()? })
    }

    fn write(&self) -> Result<Value, toml::ser::Error> {
        Ok(Value::Array(self.layers.iter().map(Layer::write).collect::<Result<_, _>>()?))
    }

    /// Checks what can be checked without an input; `path` is where the list is.
    pub(super) fn check(&self, path: &str) -> Result<()> {
        for (place, layer) in self.layers.iter().enumerate() {
            let at = format!("{path}[{place}]");
            layer.check(&at)?;
            let name = |layer: &Layer, place: usize| layer.name.clone().unwrap_or_else(|| place.to_string());
            let own = name(layer, place);
            if let Some(first) = (0..place).find(|&first| name(&self.layers[first], first) == own) {
                let got = format!("\"{own}\", which {path}[{first}] is called");
                return Err(Error::setting(format!("{at} ({})", layer.kind.name()), "a name of its own", got));
            }
        }
        Ok(())
    }
}

impl Layer {
    fn read(value: Value, path: &str) -> Result<Layer> {
        let (kind, mut table) = match value {
            Value::String(kind) => (kind, Table::new()),
            Value::Table(mut table) => match table.remove("kind") {
                Some(Value::String(kind)) => (kind, table),
                Some(other) => return Err(Error::setting(format!("{path}.kind"), "a name", other)),
                None => return Err(Error::setting(path, "a table with the layer's kind", "one without")),
            },
            other => return Err(Error::setting(path, "a table with the layer's kind", other)),
        };
        let name = match table.remove("name") {
            None => None,
            Some(Value::String(name)) => Some(name),
            Some(other) => return Err(Error::setting(format!("{path}.name"), "text", other)),
        };
        Ok(Layer { name, kind: Kind::read(&kind, table, path)? })
    }

    fn write(&self) -> Result<Value, toml::ser::Error> {
        let mut table = Table::from_iter([("kind".to_owned(), Value::String(self.kind.name().to_owned()))]);
        if let Some(name) = &self.name {
            table.insert("name".to_owned(), Value::String(name.clone()));
        }
        table.extend(self.kind.settings()?);
        Ok(Value::Table(table))
    }

    fn check(&self, path: &str) -> Result<()> {
        let wrong =
            |expected: &str, got: String| Err(Error::setting(format!("{path} ({})", self.kind.name()), expected, got));
        if let Some(name) = self.name.as_ref().filter(|name| name.is_empty() || name.contains('.')) {
            return wrong("a name without dots", format!("\"{name}\""));
        }
        match &self.kind {
            Kind::Linear { out_features: Some(0), .. } => wrong("out_features of at least 1", "0".to_owned()),
            Kind::Conv2d(Conv2d { out_channels, kernel_size: [h, w], stride: [v, u], .. })
                if [out_channels, h, w, v, u].contains(&&0) =>
            {
                let got = format!("{out_channels}, {h}x{w} and {v}x{u}");
                wrong("out_channels, kernel_size and stride of at least 1", got)
            }
            Kind::LeakyRelu { negative_slope } if !negative_slope.is_finite() => {
                wrong("a finite negative_slope", negative_slope.to_string())
            }
            // As the op has it; named by the layer here.
            Kind::BatchNorm2d(BatchNorm2d { eps, .. }) if !(eps.is_finite() && *eps >= 0.0) => {
                wrong("a finite eps of at least 0", eps.to_string())
            }
            Kind::BatchNorm2d(BatchNorm2d { momentum, .. }) if !(0.0..=1.0).contains(momentum) => {
                wrong("a momentum from 0 to 1", momentum.to_string())
            }
            Kind::Dropout(Dropout { p }) if !(0.0..=1.0).contains(p) => wrong("p from 0 to 1", p.to_string()),
            Kind::MaxPool2d(windows) | Kind::AvgPool2d(windows) if windows.kernel_size.contains(&0) => {
                wrong("a kernel_size of at least 1", "0".to_owned())
            }
            Kind::Residual { layers, .. } if layers.layers.is_empty() => wrong("at least one layer", "none".to_owned()),
            Kind::Residual { layers, shortcut } => {
                layers.check(&format!("{path}.layers"))?;
                shortcut.check(&format!("{path}.shortcut"))
            }
            _ => Ok(()),
        }
    }
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Linear { .. } => "linear",
            Kind::Conv2d(_) => "conv2d",
            Kind::BatchNorm2d(_) => "batch_norm2d",
            Kind::Activation(Activation::None) => "identity",
            Kind::Activation(Activation::Relu) => "relu",
            Kind::Activation(Activation::Sigmoid) => "sigmoid",
            Kind::Activation(Activation::Tanh) => "tanh",
            Kind::Gelu => "gelu",
            Kind::Silu => "silu",
            Kind::LeakyRelu { .. } => "leaky_relu",
            Kind::LogSoftmax => "log_softmax",
            Kind::MaxPool2d(_) => "max_pool2d",
            Kind::AvgPool2d(_) => "avg_pool2d",
            Kind::GlobalAvgPool2d => "global_avg_pool2d",
            Kind::Flatten => "flatten",
            Kind::Dropout(_) => "dropout",
            Kind::Residual { .. } => "residual",
        }
    }

    fn read(kind: &str, mut table: Table, path: &str) -> Result<Kind> {
        let at = format!("{path} ({kind})");
        if kind == "residual" {
            let layers = table.remove("layers").ok_or_else(|| Error::setting(&*at, "a list of layers", "none"))?;
            let shortcut = table.remove("shortcut").unwrap_or_else(|| Value::Array(Vec::new()));
            settings::<NoSettings>(table, &at)?;
            return Ok(Kind::Residual {
                layers: Sequential::read(layers, &format!("{path}.layers"))?,
                shortcut: Sequential::read(shortcut, &format!("{path}.shortcut"))?,
            });
        }
        let plain = match kind {
            "conv2d" => return settings(table, &at).map(Kind::Conv2d),
            "batch_norm2d" => return settings(table, &at).map(Kind::BatchNorm2d),
            "max_pool2d" => return settings(table, &at).map(Kind::MaxPool2d),
            "avg_pool2d" => return settings(table, &at).map(Kind::AvgPool2d),
            "dropout" => return settings(table, &at).map(Kind::Dropout),
            "linear" => {
                let LinearSettings { out_features, bias } = settings(table, &at)?;
                return Ok(Kind::Linear { out_features, bias });
            }
            "leaky_relu" => {
                let LeakyReluSettings { negative_slope } = settings(table, &at)?;
                return Ok(Kind::LeakyRelu { negative_slope });
            }
            "relu" => Kind::Activation(Activation::Relu),
            "sigmoid" => Kind::Activation(Activation::Sigmoid),
            "tanh" => Kind::Activation(Activation::Tanh),
            "gelu" => Kind::Gelu,
            "silu" => Kind::Silu,
            "log_softmax" => Kind::LogSoftmax,
            "global_avg_pool2d" => Kind::GlobalAvgPool2d,
            "flatten" => Kind::Flatten,
            _ => return Err(Error::setting(format!("{path}.kind"), crate::error::alternatives(&KINDS), kind)),
        };
        settings::<NoSettings>(table, &at)?;
        Ok(plain)
    }

    fn settings(&self) -> Result<Table, toml::ser::Error> {
        match self {
            Kind::Linear { out_features, bias } => {
                Table::try_from(LinearSettings { out_features: *out_features, bias: *bias })
            }
            Kind::Conv2d(layer) => Table::try_from(layer),
            Kind::BatchNorm2d(layer) => Table::try_from(layer),
            Kind::LeakyRelu { negative_slope } => {
                Table::try_from(LeakyReluSettings { negative_slope: *negative_slope })
            }
            Kind::MaxPool2d(windows) | Kind::AvgPool2d(windows) => Table::try_from(windows),
            Kind::Dropout(layer) => Table::try_from(layer),
            Kind::Residual { layers, shortcut } => {
                let mut table = Table::from_iter([("layers".to_owned(), layers.write()?)]);
                if !shortcut.layers.is_empty() {
                    table.insert("shortcut".to_owned(), shortcut.write()?);
                }
                Ok(table)
            }
            Kind::Activation(_)
            | Kind::Gelu
            | Kind::Silu
            | Kind::LogSoftmax
            | Kind::GlobalAvgPool2d
            | Kind::Flatten => Ok(Table::new()),
        }
    }
}

fn settings<T: DeserializeOwned>(table: Table, at: &str) -> Result<T> {
    table.try_into().map_err(|error: toml::de::Error| {
        Error::setting(at, "its settings", error.message().trim().replace('\n', ", "))
    })
}

impl Serialize for Sequential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sequential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sequential::read(Value::deserialize(deserializer)?, "layers").map_err(serde::de::Error::custom)
    }
}
