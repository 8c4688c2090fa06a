//! Adadelta (`torch.optim.Adadelta`; Zeiler, "ADADELTA: an adaptive learning rate method", 2012).

use serde::{Deserialize, Serialize};

use super::rule::{
    Element, Elementwise, KeptState, Kernel, Learned, MAX_SCALARS, MAX_STATES, Rule, StepRates, append_elementwise,
    at_least_0, decayed, eps_above_0, packed_shader, padded, share,
};
use crate::Result;
use crate::graph::{Graph, Init, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::registry::{Described, Setting, Takes};

/// Adadelta, whose steps have the size of earlier ones; the learning rate only scales them. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adadelta {
    /// Share of the mean squares, of gradients and of steps, kept from step to step.
    pub rho: f64,
    /// Added to both mean squares under their roots.
    pub eps: f64,
    /// Share of the weight added to its gradient.
    pub weight_decay: f64,
}

impl Default for Adadelta {
    fn default() -> Self {
        Adadelta { rho: 0.9, eps: 1e-6, weight_decay: 0.0 }
    }
}

impl Described for Adadelta {
    const NAME: &'static str = "adadelta";
    const ABOUT: &'static str = "Gradients scaled by the ratio of past steps to past gradients (Zeiler, 2012)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("rho", Takes::Number, "Share of the mean squares kept from step to step"),
        super::EPS,
        super::WEIGHT_DECAY,
    ];
}

static SHADER: Shader = packed_shader!("adadelta", ["weight_decay", "one_minus_rho", "eps"]);

impl Rule for Adadelta {
    fn validate(&self) -> Result<()> {
        share("rho", self.rho)?;
        eps_above_0(self.eps)?;
        at_least_0("weight_decay", self.weight_decay)
    }

    fn default_lr(&self) -> f64 {
        1.0
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr"]
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        padded([at.lr])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for Adadelta {
    fn kernel(&self) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay, 1.0 - self.rho, self.eps],
            constants: Vec::new(),
            num_scalars: 1,
            flops: 16,
            // Two square roots and a division after the mean squares' own rounding.
            ulps: 16.0,
        }
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        [Some(("square_avg", Init::Zeros)), Some(("acc_delta", Init::Zeros)), None]
    }

    fn rule<F: Float>(&self, [lr, ..]: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        let [weight_decay, one_minus_rho, eps] = [self.weight_decay, 1.0 - self.rho, self.eps].map(F::from_f64);
        #[inline(always)]
        move |element| {
            let g = decayed(element, weight_decay);
            let [v, u, _] = element.states;
            let v = v + one_minus_rho * (g * g - v);
            let delta = (u + eps).sqrt() / (v + eps).sqrt() * g;
            (element.states[0], element.states[1]) = (v, u + one_minus_rho * (delta * delta - u));
            element.param = element.param - lr * delta;
        }
    }
}
