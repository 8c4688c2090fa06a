//! RMSprop (`torch.optim.RMSprop`; Hinton, "Neural networks for machine learning", lecture 6e, 2012; centred as in
//! Graves, "Generating sequences with recurrent neural networks", 2013).

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

/// RMSprop. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// Share of the mean square kept from step to step.
    pub alpha: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of the velocity kept from step to step; 0 keeps no velocity.
    pub momentum: f64,
    /// Whether gradients are divided by their standard deviation instead of their root mean square.
    pub centered: bool,
    /// Share of the weight added to its gradient.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }
}

impl Described for RmsProp {
    const NAME: &'static str = "rmsprop";
    const ABOUT: &'static str = "Gradients divided by their root mean square (Hinton, 2012)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("alpha", Takes::Number, "Share of the mean square kept from step to step"),
        super::EPS,
        Setting::new("momentum", Takes::Number, "Share of the velocity kept from step to step; 0 turns momentum off"),
        Setting::new("centered", Takes::Switch, "Divide by the standard deviation of gradients (Graves, 2013)"),
        super::WEIGHT_DECAY,
    ];
}

static SHADER: Shader = packed_shader!("rmsprop", ["weight_decay", "one_minus_alpha", "eps"]);

impl Rule for RmsProp {
    fn validate(&self) -> Result<()> {
        share("alpha", self.alpha)?;
        eps_above_0(self.eps)?;
        share("momentum", self.momentum)?;
        at_least_0("weight_decay", self.weight_decay)
    }

    fn default_lr(&self) -> f64 {
        0.01
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    fn scalars(&self) -> &'static [&'static str] {
        if self.has_momentum() { &["lr", "momentum"] } else { &["lr"] }
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        padded([at.lr, at.momentum.unwrap_or(self.momentum)])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for RmsProp {
    fn kernel(&self) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay, 1.0 - self.alpha, self.eps],
            constants: Vec::new(),
            num_scalars: 2,
            flops: 10 + 5 * usize::from(self.centered) + 2 * usize::from(self.has_momentum()),
            // A square root and a division after the mean square's own rounding. Where centred, a difference of squares
            // can lose a few bits more before the root.
            ulps: if self.centered { 64.0 } else { 16.0 },
        }
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        let mean = self.centered.then_some(("grad_avg", Init::Zeros));
        let velocity = self.has_momentum().then_some(("momentum_buffer", Init::Zeros));
        [Some(("square_avg", Init::Zeros)), mean, velocity]
    }

    fn rule<F: Float>(&self, [lr, momentum, ..]: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        let [weight_decay, one_minus_alpha, eps] = [self.weight_decay, 1.0 - self.alpha, self.eps].map(F::from_f64);
        let (centered, has_momentum) = (self.centered, self.has_momentum());
        #[inline(always)]
        move |element| {
            let g = decayed(element, weight_decay);
            let [v, m, b] = element.states;
            let v = v + one_minus_alpha * (g * g - v);
            let m = m + one_minus_alpha * (g - m);
            // Rounding can push the difference below 0.
            let about_mean = super::rule::larger(v - m * m, F::ZERO);
            let variance = if centered { about_mean } else { v };
            let scaled = g / (variance.sqrt() + eps);
            let velocity = momentum * b + scaled;
            element.states = [v, m, velocity];
            let u = if has_momentum { velocity } else { scaled };
            element.param = element.param - lr * u;
        }
    }
}
