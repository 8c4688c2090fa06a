//! Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2).

use serde::{Deserialize, Serialize};

use super::rule::{
    Element, Elementwise, KeptState, Kernel, Learned, MAX_SCALARS, MAX_STATES, Rule, StepRates, append_elementwise,
    at_least_0, packed_shader, padded, shares,
};
use crate::Result;
use crate::graph::{Graph, Init, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::ops::update::packed::sign;
use crate::registry::{Described, Setting};

/// Lion: every weight moves by the learning rate along the sign of a mean gradient. Its authors take a learning rate 3
/// to 10 times below AdamW's, and a weight decay as many times above. The defaults are the paper's, without decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lion {
    /// Decay of the mean gradient in the direction of a step, and in what is kept for the next.
    pub betas: [f64; 2],
    /// Share of the learning rate by which weights shrink in every step.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Lion { betas: [0.9, 0.99], weight_decay: 0.0 }
    }
}

impl Described for Lion {
    const NAME: &'static str = "lion";
    const ABOUT: &'static str = "Steps of equal size along the sign of a running mean of gradients (Chen et al., 2023)";
    const SETTINGS: &'static [Setting] = &[super::BETAS, super::WEIGHT_DECAY];
}

static SHADER: Shader = packed_shader!("lion", ["weight_decay", "one_minus_beta2"]);

impl Rule for Lion {
    fn validate(&self) -> Result<()> {
        shares("betas", self.betas)?;
        at_least_0("weight_decay", self.weight_decay)
    }

    fn default_lr(&self) -> f64 {
        1e-4
    }

    fn has_momentum(&self) -> bool {
        true
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "one_minus_beta1"]
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        padded([at.lr, 1.0 - at.momentum.unwrap_or(self.betas[0])])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for Lion {
    fn kernel(&self) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay, 1.0 - self.betas[1]],
            constants: Vec::new(),
            num_scalars: 2,
            flops: 10,
            ulps: 4.0,
        }
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        [Some(("exp_avg", Init::Zeros)), None, None]
    }

    fn rule<F: Float>(&self, [lr, one_minus_beta1, ..]: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        let [weight_decay, one_minus_beta2] = [self.weight_decay, 1.0 - self.betas[1]].map(F::from_f64);
        let shrink = F::ONE - lr * weight_decay;
        #[inline(always)]
        move |element| {
            let (g, m) = (element.grad, element.states[0]);
            let direction = sign(m + one_minus_beta1 * (g - m));
            element.param = element.param * shrink - lr * direction;
            element.states[0] = m + one_minus_beta2 * (g - m);
        }
    }
}
