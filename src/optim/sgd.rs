//! Stochastic gradient descent with momentum (`torch.optim.SGD`; Polyak, 1964; Nesterov, 1983).

use serde::{Deserialize, Serialize};

use super::rule::{
    Element, Elementwise, KeptState, Kernel, Learned, MAX_SCALARS, MAX_STATES, Rule, StepRates, append_elementwise,
    at_least_0, decayed, packed_shader, padded, share,
};
use crate::graph::{Graph, Init, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Result};

/// Stochastic gradient descent. Where nothing else is said, its momentum is 0.9; `torch.optim.SGD` has none by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Share of the velocity kept from step to step, from 0 (plain gradient descent) to below 1. Default 0.9.
    pub momentum: f64,
    /// Share of the gradient left out of the velocity, except in the first step.
    pub dampening: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// Share of the weight added to its gradient.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

impl Described for Sgd {
    const NAME: &'static str = "sgd";
    const ABOUT: &'static str = "Stochastic gradient descent with momentum";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("momentum", Takes::Number, "Share of the velocity kept from step to step; 0 turns momentum off"),
        Setting::new("dampening", Takes::Number, "Dampening of the momentum, skipped in the first step"),
        Setting::new("nesterov", Takes::Switch, "Use Nesterov momentum (Nesterov, 1983)"),
        super::WEIGHT_DECAY,
    ];
}

static SHADER: Shader = packed_shader!("sgd", ["weight_decay"]);

impl Rule for Sgd {
    fn validate(&self) -> Result<()> {
        let Sgd { momentum, dampening, nesterov, weight_decay } = *self;
        share("momentum", momentum)?;
        at_least_0("weight_decay", weight_decay)?;
        if !dampening.is_finite() {
            return Err(Error::setting("dampening", "a finite number", dampening));
        }
        if momentum == 0.0 && dampening != 0.0 {
            return Err(Error::setting("dampening", "a momentum above 0 to dampen", "momentum 0"));
        }
        if nesterov && (momentum == 0.0 || dampening != 0.0) {
            let got = format!("momentum {momentum}, dampening {dampening}");
            return Err(Error::setting("nesterov", "a momentum above 0 and no dampening", got));
        }
        Ok(())
    }

    fn default_lr(&self) -> f64 {
        0.01
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    fn scalars(&self) -> &'static [&'static str] {
        if self.has_momentum() { &["lr", "momentum", "grad_weight"] } else { &["lr"] }
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        // The first gradient becomes the velocity whole.
        let grad_weight = if at.step == 0 { 1.0 } else { 1.0 - self.dampening };
        padded([at.lr, at.momentum.unwrap_or(self.momentum), grad_weight])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for Sgd {
    fn kernel(&self) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay],
            constants: vec![("NESTEROV", self.nesterov)],
            num_scalars: 3,
            flops: if self.has_momentum() { 7 } else { 4 },
            ulps: 4.0,
        }
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        [self.has_momentum().then_some(("momentum", Init::Zeros)), None, None]
    }

    fn rule<F: Float>(&self, [lr, momentum, grad_weight, ..]: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        let (has_momentum, nesterov) = (self.has_momentum(), self.nesterov);
        let weight_decay = F::from_f64(self.weight_decay);
        #[inline(always)]
        move |element| {
            let g = decayed(element, weight_decay);
            let velocity = momentum * element.states[0] + grad_weight * g;
            element.states[0] = velocity;
            let ahead = g + momentum * velocity;
            let moved = if nesterov { ahead } else { velocity };
            let u = if has_momentum { moved } else { g };
            element.param = element.param - lr * u;
        }
    }
}
