//! Adagrad (`torch.optim.Adagrad`; Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
//! stochastic optimization", 2011).

use serde::{Deserialize, Serialize};

use super::rule::{
    Element, Elementwise, KeptState, Kernel, Learned, MAX_SCALARS, MAX_STATES, Rule, StepRates, append_elementwise,
    at_least_0, decayed, eps_above_0, packed_shader, padded,
};
use crate::Result;
use crate::graph::{Graph, Init, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::registry::{Described, Setting, Takes};

/// Adagrad. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adagrad {
    /// How the learning rate falls: after t steps it is divided by 1 + t · `lr_decay`.
    pub lr_decay: f64,
    /// Added to the root of the sum of squares.
    pub eps: f64,
    /// Where the sum of squares starts.
    pub initial_accumulator_value: f64,
    /// Share of the weight added to its gradient.
    pub weight_decay: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Adagrad { lr_decay: 0.0, eps: 1e-10, initial_accumulator_value: 0.0, weight_decay: 0.0 }
    }
}

impl Described for Adagrad {
    const NAME: &'static str = "adagrad";
    const ABOUT: &'static str = "Gradients divided by the root of the sum of their squares (Duchi et al., 2011)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("lr_decay", Takes::Number, "After t steps the learning rate is divided by 1 + t times this"),
        super::EPS,
        Setting::new("initial_accumulator_value", Takes::Number, "Where the sum of squares starts"),
        super::WEIGHT_DECAY,
    ];
}

static SHADER: Shader = packed_shader!("adagrad", ["weight_decay", "eps"]);

impl Rule for Adagrad {
    fn validate(&self) -> Result<()> {
        at_least_0("lr_decay", self.lr_decay)?;
        eps_above_0(self.eps)?;
        at_least_0("initial_accumulator_value", self.initial_accumulator_value)?;
        at_least_0("weight_decay", self.weight_decay)
    }

    fn default_lr(&self) -> f64 {
        0.01
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["step_size"]
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        padded([at.lr / (1.0 + at.step as f64 * self.lr_decay)])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        append_elementwise(self, graph, parameters, scalars)
    }

    fn shader(&self) -> Option<&'static Shader> {
        Some(&SHADER)
    }
}

impl Elementwise for Adagrad {
    fn kernel(&self) -> Kernel {
        Kernel {
            shader: &SHADER,
            params: vec![self.weight_decay, self.eps],
            constants: Vec::new(),
            num_scalars: 1,
            flops: 9,
            // A square root and a division after the sum's own rounding.
            ulps: 16.0,
        }
    }

    fn states(&self) -> [Option<KeptState>; MAX_STATES] {
        [Some(("sum", Init::Constant(self.initial_accumulator_value))), None, None]
    }

    fn rule<F: Float>(&self, [step_size, ..]: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>) {
        let [weight_decay, eps] = [self.weight_decay, self.eps].map(F::from_f64);
        #[inline(always)]
        move |element| {
            let g = decayed(element, weight_decay);
            let sum = element.states[0] + g * g;
            element.states[0] = sum;
            element.param = element.param - step_size * g / (sum.sqrt() + eps);
        }
    }
}
