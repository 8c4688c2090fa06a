//! Adam with decoupled weight decay (`torch.optim.AdamW`; Loshchilov and Hutter, "Decoupled weight decay
//! regularization", 2019).

use serde::{Deserialize, Serialize};

use super::adam::{self, Adam};
use super::rule::{
    Element, Elementwise, KeptState, Kernel, Learned, MAX_SCALARS, MAX_STATES, Rule, StepRates, append_elementwise,
};
use crate::Result;
use crate::graph::{Graph, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::registry::{Described, Setting};

/// Adam whose weight decay shrinks the weights apart from the gradient. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of the learning rate by which weights shrink in every step.
    pub weight_decay: f64,
    /// Whether the largest second moment so far is used.
    pub amsgrad: bool,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { betas, eps, amsgrad, .. } = Adam::default();
        AdamW { betas, eps, weight_decay: 1e-2, amsgrad }
    }
}

impl Described for AdamW {
    const NAME: &'static str = "adamw";
    const ABOUT: &'static str = "Adam with decoupled weight decay (Loshchilov and Hutter, 2019)";
    const SETTINGS: &'static [Setting] = adam::SETTINGS;
}

impl AdamW {
    fn adam(&self) -> Adam {
        let AdamW { betas, eps, weight_decay, amsgrad } = *self;
        Adam { betas, eps, weight_decay, amsgrad }
    }
}

impl Rule for AdamW {
    fn validate(&self) -> Result<()> {
        self.adam().validate()
    }

    fn default_lr(&self) -> f64 {
        1e-3
    }

    fn has_momentum(&self) -> bool {
        true
    }

    fn scalars(&self) -> &'static [&'static str] {
        adam::SCALARS
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        self.adam().scalar_values(at)
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        self.adam().shader()
    }
}

impl Elementwise for AdamW {
    fn kernel(&self) -> Kernel {
        self.adam().kernel_with(true)
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        self.adam().states()
    }

    fn rule<F: Float>(&self, scalars: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        self.adam().rule_with(scalars, true)
    }
}
