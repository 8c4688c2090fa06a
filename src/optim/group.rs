//! Groups of parameters that an optimizer treats in their own way.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Parameters with a learning rate and weight decay of their own, chosen by name; a parameter belongs to the first
/// group that matches it, and to the optimizer as it is where none does.
///
/// ```
/// use wgrad::optim::ParamGroup;
///
/// // No decay of biases, half the learning rate for the first layer's weights.
/// let groups = [
///     ParamGroup { weight_decay: Some(0.0), ..ParamGroup::new(["*.bias"]) },
///     ParamGroup { lr_scale: 0.5, ..ParamGroup::new(["conv1.*"]) },
/// ];
/// assert!(groups[0].matches("conv1.bias") && !groups[0].matches("conv1.weight"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamGroup {
    /// Names, in which `*` stands for any characters: `fc1.weight`, `*.bias`, `bn*`.
    pub matching: Vec<String>,
    /// The group's learning rate as a factor of the scheduled one; 0 freezes it.
    #[serde(default = "one")]
    pub lr_scale: f64,
    /// The group's weight decay; `None` takes the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl ParamGroup {
    /// The parameters of these names, treated as all others until a field is set.
    pub fn new<T: Into<String>>(matching: impl IntoIterator<Item = T>) -> Self {
        ParamGroup { matching: matching.into_iter().map(Into::into).collect(), lr_scale: 1.0, weight_decay: None }
    }

    /// Whether a parameter of this name belongs to it.
    pub fn matches(&self, name: &str) -> bool {
        self.matching.iter().any(|pattern| matches_pattern(pattern, name))
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that lies outside what it may be.
    pub fn validate(&self) -> Result<()> {
        if self.matching.is_empty() {
            return Err(Error::setting("parameter group", "at least one name to match", "none"));
        }
        let numbers = [("lr_scale", Some(self.lr_scale)), ("weight_decay", self.weight_decay)];
        for (name, value) in numbers {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                let name = format!("{name} of parameter group {}", self.matching.join(", "));
                return Err(Error::setting(&name, "a finite number of at least 0", value));
            }
        }
        Ok(())
    }
}

/// Whether a name is the pattern, where each `*` stands for any characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    // The earliest match of each part in between leaves the most text for the parts after it.
    let mut name = name;
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let table = [
            ("conv1.bias", "conv1.bias", true),
            ("conv1.bias", "conv1.weight", false),
            ("*.bias", "conv1.bias", true),
            ("*.bias", "conv1.bias2", false),
            ("conv1.*", "conv1.weight", true),
            ("conv1.*", "myconv1.weight", false),
            ("bn*.weight", "bn1.weight", true),
            ("bn*.weight", "bn1.bias", false),
            ("*", "anything", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("", "name", false),
        ];
        for (pattern, name, want) in table {
            assert_eq!(matches_pattern(pattern, name), want, "{pattern} on {name}");
        }
    }
}
