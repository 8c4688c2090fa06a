//! Optimizers: what is appended to a training graph to update its parameters, and the numbers that each step of it
//! needs from the host. Semantics are those of `torch.optim`; states live on the device beside the parameters, under
//! the parameter's name and their own ("conv1.weight.momentum").
//!
//! Each is one file with its settings, its [`Rule`] in Rust and its description; the rule in WGSL stands under the same
//! name in `shaders/optim/`. To add one, write these two and a line in the registry below.

mod adadelta;
mod adagrad;
mod adam;
mod adamw;
pub(crate) mod buckets;
pub mod gradients;
mod group;
mod lion;
mod nadam;
mod rmsprop;
pub mod rule;
mod sgd;
mod steps;
pub(crate) mod tree;
pub mod update;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::Adam;
pub use adamw::AdamW;
pub use gradients::GradientOptions;
pub(crate) use gradients::{gradient_sum, is_gradient_sum};
pub use group::ParamGroup;
pub use lion::Lion;
pub use nadam::NAdam;
pub use rmsprop::RmsProp;
pub use rule::{Learned, Rule, StepRates};
pub use sgd::Sgd;
pub(crate) use steps::BatchOf;
pub(crate) use update::GRADIENT;
pub use update::{Update, UpdateOptions};

use std::fmt;

use crate::Result;
use crate::graph::{Gradients, Graph, Value};
use crate::ops::kernel::Shader;
use crate::registry::{Setting, Takes, registry};

registry! {
    /// How parameters follow their gradients.
    ///
    /// ```
    /// use wgrad::optim::{Adam, Optimizer};
    ///
    /// let optimizer: Optimizer = Adam { betas: [0.9, 0.98], ..Adam::default() }.into();
    /// assert_eq!(optimizer, Optimizer::named("adam")?.with("betas", vec![0.9, 0.98])?);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub enum Optimizer("optimizer"): Rule {
        Sgd(Sgd),
        Adam(Adam),
        AdamW(AdamW),
        NAdam(NAdam),
        RmsProp(RmsProp),
        Adadelta(Adadelta),
        Adagrad(Adagrad),
        Lion(Lion),
    }
}

const BETAS: Setting = Setting::new("betas", Takes::Numbers, "Decay rates of the first and the second moment");
const EPS: Setting = Setting::new("eps", Takes::Number, "Added to the denominator to keep it above 0");
const WEIGHT_DECAY: Setting = Setting::new("weight_decay", Takes::Number, "Pull weights towards 0");

impl Optimizer {
    /// Stochastic gradient descent with this momentum, from 0 to below 1: `torch.optim.SGD(momentum=momentum)`. PyTorch's
    /// default is 0.0, plain descent; where only the name "sgd" is given, as in a `config.toml`, it is 0.9.
    pub fn sgd(momentum: f64) -> Self {
        Sgd { momentum, ..Sgd::default() }.into()
    }

    /// Adam with PyTorch's defaults.
    pub fn adam() -> Self {
        Adam::default().into()
    }

    /// AdamW with PyTorch's defaults, weight decay 0.01.
    pub fn adamw() -> Self {
        AdamW::default().into()
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) naming the setting that lies outside what it may be.
    pub fn validate(&self) -> Result<()> {
        self.get().validate()
    }

    /// The default learning rate.
    pub fn default_lr(&self) -> f64 {
        self.get().default_lr()
    }

    /// Whether a schedule that cycles the momentum has one to cycle: a momentum above 0, or a β1.
    pub fn has_momentum(&self) -> bool {
        self.get().has_momentum()
    }

    /// The weight decay, coupled or decoupled; 0 for an optimizer that has none.
    pub fn weight_decay(&self) -> f64 {
        self.table().get("weight_decay").and_then(toml::Value::as_float).unwrap_or(0.0)
    }

    /// Appends the update of every parameter that has a gradient; see [`Update`] for regularization, clipping, groups
    /// and accumulation.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) as [`Optimizer::validate`]; [`Error::Operand`](crate::Error::Operand)
    /// where no parameter has a gradient.
    pub fn update(&self, graph: &mut Graph, grads: &Gradients) -> Result<()> {
        Update::new(self.clone(), UpdateOptions::default())?.apply(graph, grads)
    }

    /// Appends the gradients of a scalar `loss` and the update of every parameter by them: a training step in one line
    /// (PyTorch's `zero_grad`, `backward` and `step`). Returns the gradients.
    ///
    /// # Errors
    /// As [`Graph::backward`] and [`Optimizer::update`].
    pub fn minimize(&self, graph: &mut Graph, loss: Value) -> Result<Gradients> {
        let grads = graph.backward(loss)?;
        self.update(graph, &grads)?;
        Ok(grads)
    }
}

/// The name, the momentum and what differs from the defaults: "sgd, momentum 0.9, nesterov".
impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (settings, defaults) = (self.table(), self.entry().defaults());
        write!(f, "{}", self.name())?;
        for Setting { name, .. } in self.entry().settings {
            let value = &settings[*name];
            let is_momentum = *name == "momentum" && self.has_momentum();
            if !is_momentum && Some(value) == defaults.get(*name) {
                continue;
            }
            match value {
                toml::Value::Boolean(true) => write!(f, ", {}", name.replace('_', " "))?,
                _ => write!(f, ", {} {}", name.replace('_', " "), shown(value))?,
            }
        }
        Ok(())
    }
}

/// A setting's value without the ".0" of whole numbers.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" and "),
        other => other.to_string(),
    }
}

/// The shader of every elementwise optimizer, for the tests that hold them against naga's validator and writers.
pub fn shaders() -> Vec<&'static Shader> {
    let mut shaders: Vec<&'static Shader> = Vec::new();
    for entry in Optimizer::ENTRIES {
        let optimizer = Optimizer::named(entry.name).expect("the registry has its entries");
        // Some share one.
        let shader = optimizer.get().shader();
        shaders.extend(shader.filter(|shader| !shaders.iter().any(|known| known.name == shader.name)));
    }
    shaders
}
