//! Adam (`torch.optim.Adam`; Kingma and Ba, "Adam: a method for stochastic optimization", 2015; AMSGrad: Reddi, Kale
//! and Kumar, "On the convergence of Adam and beyond", 2018).

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

/// Adam, weight decay added to the gradient. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of the weight added to its gradient.
    pub weight_decay: f64,
    /// Whether the largest second moment so far is used.
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, amsgrad: false }
    }
}

/// The settings of Adam and AdamW.
pub(super) const SETTINGS: &[Setting] = &[
    super::BETAS,
    super::EPS,
    super::WEIGHT_DECAY,
    Setting::new("amsgrad", Takes::Switch, "Divide by the largest second moment so far (Reddi et al., 2018)"),
];

impl Described for Adam {
    const NAME: &'static str = "adam";
    const ABOUT: &'static str = "Steps scaled by running moments of the gradient (Kingma and Ba, 2015)";
    const SETTINGS: &'static [Setting] = SETTINGS;
}

static SHADER: Shader = packed_shader!("adam", ["weight_decay", "one_minus_beta2", "eps"]);

/// The numbers of a step that Adam and AdamW need.
pub(super) const SCALARS: &[&str] = &["lr", "one_minus_beta1", "step_size", "sqrt_bias_correction2"];

impl Rule for Adam {
    fn validate(&self) -> Result<()> {
        shares("betas", self.betas)?;
        eps_above_0(self.eps)?;
        at_least_0("weight_decay", self.weight_decay)
    }

    fn default_lr(&self) -> f64 {
        1e-3
    }

    fn has_momentum(&self) -> bool {
        true
    }

    fn scalars(&self) -> &'static [&'static str] {
        SCALARS
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        let beta1 = at.momentum.unwrap_or(self.betas[0]);
        let count = (at.step + 1) as f64;
        let step_size = at.lr / (1.0 - beta1.powf(count));
        padded([at.lr, 1.0 - beta1, step_size, (1.0 - self.betas[1].powf(count)).sqrt()])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for Adam {
    fn kernel(&self) -> Kernel {
        self.kernel_with(false)
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        let largest = self.amsgrad.then_some(("max_exp_avg_sq", Init::Zeros));
        [Some(("exp_avg", Init::Zeros)), Some(("exp_avg_sq", Init::Zeros)), largest]
    }

    fn rule<F: Float>(&self, scalars: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        self.rule_with(scalars, false)
    }
}

impl Adam {
    /// The kernel of Adam, or `decoupled` of AdamW.
    pub(super) fn kernel_with(&self, decoupled: bool) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay, 1.0 - self.betas[1], self.eps],
            constants: vec![("DECOUPLED", decoupled)],
            num_scalars: SCALARS.len(),
            flops: 14,
            // A square root and two divisions after the moments' own rounding.
            ulps: 16.0,
        }
    }

    /// The rule of Adam, or `decoupled` of AdamW.
    pub(super) fn rule_with<F: Float>(
        &self,
        [lr, one_minus_beta1, step_size, sqrt_bias_correction2, ..]: [F; MAX_SCALARS],
        decoupled: bool,
    ) -> impl Fn(&mut Element<F>) + use<F> {
        let [weight_decay, eps, one_minus_beta2] = [self.weight_decay, self.eps, 1.0 - self.betas[1]].map(F::from_f64);
        let amsgrad = self.amsgrad;
        let shrink = if decoupled { F::ONE - lr * weight_decay } else { F::ONE };
        let coupled_decay = if decoupled { F::ZERO } else { weight_decay };
        #[inline(always)]
        move |element| {
            let g = decayed(element, coupled_decay);
            let [m, v, largest] = element.states;
            let m = m + one_minus_beta1 * (g - m);
            let v = v + one_minus_beta2 * (g * g - v);
            let second_moment = if amsgrad { super::rule::larger(largest, v) } else { v };
            element.states = [m, v, second_moment];
            let denominator = second_moment.sqrt() / sqrt_bias_correction2 + eps;
            element.param = element.param * shrink - step_size * m / denominator;
        }
    }
}
