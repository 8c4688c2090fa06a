//! NAdam: Adam with Nesterov's momentum (`torch.optim.NAdam`; Dozat, "Incorporating Nesterov momentum into Adam", 2016).

use serde::{Deserialize, Serialize};

use super::rule::{
    Element, Elementwise, KeptState, Kernel, Learned, MAX_SCALARS, MAX_STATES, Rule, StepRates, append_elementwise,
    at_least_0, decayed, eps_above_0, packed_shader, padded, shares,
};
use crate::Result;
use crate::graph::{Graph, Init, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::registry::{Described, Setting, Takes};

/// NAdam. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NAdam {
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of the weight added to its gradient or, decoupled, of the learning rate by which it shrinks.
    pub weight_decay: f64,
    /// How fast the momentum of step t, β1 · (1 − 0.96^(t · `momentum_decay`) / 2), rises to β1.
    pub momentum_decay: f64,
    /// Whether weights shrink apart from the gradient, as with AdamW.
    pub decoupled_weight_decay: bool,
}

impl Default for NAdam {
    fn default() -> Self {
        let (weight_decay, momentum_decay) = (0.0, 4e-3);
        NAdam { betas: [0.9, 0.999], eps: 1e-8, weight_decay, momentum_decay, decoupled_weight_decay: false }
    }
}

impl Described for NAdam {
    const NAME: &'static str = "nadam";
    const ABOUT: &'static str = "Adam with Nesterov's momentum (Dozat, 2016)";
    const SETTINGS: &'static [Setting] = &[
        super::BETAS,
        super::EPS,
        super::WEIGHT_DECAY,
        Setting::new(
            "momentum_decay",
            Takes::Number,
            "How fast the momentum rises from half of the first beta to all of it",
        ),
        Setting::new("decoupled_weight_decay", Takes::Switch, "Decouple weight decay from the gradient, as adamw does"),
    ];
}

static SHADER: Shader = packed_shader!("nadam", ["weight_decay", "one_minus_beta2", "eps"]);

impl NAdam {
    /// The momentum of step `count`, counted from 1, where the schedule's β1 is `beta1`.
    fn mu(&self, beta1: f64, count: u64) -> f64 {
        beta1 * (1.0 - 0.5 * 0.96_f64.powf(count as f64 * self.momentum_decay))
    }

    /// The product of the momenta of the first `count` steps. Each is at most β1; where that bounds the product below
    /// half of f64's epsilon it is 0, since nothing but 1 minus it matters.
    fn mu_product(&self, beta1: f64, count: u64) -> f64 {
        if beta1.powf(count as f64) < f64::EPSILON / 2.0 {
            return 0.0;
        }
        (1..=count).map(|count| self.mu(beta1, count)).product()
    }
}

impl Rule for NAdam {
    fn validate(&self) -> Result<()> {
        shares("betas", self.betas)?;
        eps_above_0(self.eps)?;
        at_least_0("weight_decay", self.weight_decay)?;
        at_least_0("momentum_decay", self.momentum_decay)
    }

    fn default_lr(&self) -> f64 {
        2e-3
    }

    fn has_momentum(&self) -> bool {
        true
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "one_minus_beta1", "grad_step", "momentum_step", "bias_correction2"]
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        let (beta1, count) = (at.momentum.unwrap_or(self.betas[0]), at.step + 1);
        let (mu, next, product) = (self.mu(beta1, count), self.mu(beta1, count + 1), self.mu_product(beta1, count));
        let grad_step = at.lr * (1.0 - mu) / (1.0 - product);
        let momentum_step = at.lr * next / (1.0 - product * next);
        padded([at.lr, 1.0 - beta1, grad_step, momentum_step, 1.0 - self.betas[1].powf(count as f64)])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for NAdam {
    fn kernel(&self) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay, 1.0 - self.betas[1], self.eps],
            constants: vec![("DECOUPLED", self.decoupled_weight_decay)],
            num_scalars: 5,
            flops: 17,
            // A square root and three divisions after the moments' own rounding.
            ulps: 16.0,
        }
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        [Some(("exp_avg", Init::Zeros)), Some(("exp_avg_sq", Init::Zeros)), None]
    }

    fn rule<F: Float>(
        &self,
        [lr, one_minus_beta1, grad_step, momentum_step, bias_correction2, ..]: [F; MAX_SCALARS],
    ) -> impl Fn(&mut Element<F>) {
        let [weight_decay, eps, one_minus_beta2] = [self.weight_decay, self.eps, 1.0 - self.betas[1]].map(F::from_f64);
        let decoupled = self.decoupled_weight_decay;
        let shrink = if decoupled { F::ONE - lr * weight_decay } else { F::ONE };
        let coupled_decay = if decoupled { F::ZERO } else { weight_decay };
        #[inline(always)]
        move |element| {
            let g = decayed(element, coupled_decay);
            let [m, v, _] = element.states;
            let m = m + one_minus_beta1 * (g - m);
            let v = v + one_minus_beta2 * (g * g - v);
            (element.states[0], element.states[1]) = (m, v);
            let denominator = (v / bias_correction2).sqrt() + eps;
            element.param = element.param * shrink - (grad_step * g + momentum_step * m) / denominator;
        }
    }
}
