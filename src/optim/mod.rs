//! Optimizers: what is appended to a training graph to update its parameters, and the numbers that each step of it
//! needs from the host. Semantics are those of `torch.optim`; state lives on the device beside the parameters, under
//! the parameter's name and its own ("conv1.weight.momentum").

mod group;
pub mod update;

use serde::{Deserialize, Serialize};

pub use group::ParamGroup;
pub use update::{Regularization, Update, UpdateOptions};

use crate::exec::StepTable;
use crate::graph::Init;
use crate::graph::{Gradients, Graph, Value};
use crate::ops::Op;
use crate::ops::update::adagrad::AdagradStep;
use crate::ops::update::adam::AdamStep;
use crate::ops::update::lion::LionStep;
use crate::ops::update::rmsprop::RmsPropStep;
use crate::ops::update::sgd::SgdStep;
use crate::{Error, Result};

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent (`torch.optim.SGD`).
    Sgd {
        /// Share of the velocity kept from step to step; 0 keeps no velocity.
        momentum: f64,
        /// Share of the gradient left out of the velocity, except in the first step.
        dampening: f64,
        /// Whether to look ahead along the velocity.
        nesterov: bool,
        /// Share of the weight added to its gradient.
        weight_decay: f64,
    },
    /// Adam (`torch.optim.Adam`), weight decay added to the gradient.
    Adam {
        /// Decay of the first and of the second moment.
        betas: [f64; 2],
        /// Added to the root of the second moment.
        eps: f64,
        /// Share of the weight added to its gradient.
        weight_decay: f64,
        /// Whether the largest second moment so far is used.
        amsgrad: bool,
    },
    /// Adam with decoupled weight decay (`torch.optim.AdamW`).
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the first and of the second moment.
        betas: [f64; 2],
        /// Added to the root of the second moment.
        eps: f64,
        /// Share of the learning rate by which weights shrink in every step.
        weight_decay: f64,
        /// Whether the largest second moment so far is used.
        amsgrad: bool,
    },
    /// RMSprop (`torch.optim.RMSprop`).
    #[serde(rename = "rmsprop")]
    RmsProp {
        /// Share of the mean square kept from step to step.
        alpha: f64,
        /// Added to the root of the mean square.
        eps: f64,
        /// Share of the velocity kept from step to step; 0 keeps no velocity.
        momentum: f64,
        /// Whether gradients are divided by their standard deviation instead of their root mean square.
        centered: bool,
        /// Share of the weight added to its gradient.
        weight_decay: f64,
    },
    /// Adagrad (`torch.optim.Adagrad`).
    Adagrad {
        /// How the learning rate falls: after t steps it is divided by 1 + t · `lr_decay`.
        lr_decay: f64,
        /// Added to the root of the sum of squares.
        eps: f64,
        /// Where the sum of squares starts.
        initial_accumulator_value: f64,
        /// Share of the weight added to its gradient.
        weight_decay: f64,
    },
    /// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023): every weight moves by the learning
    /// rate along the sign of a mean gradient. Its authors take a learning rate 3 to 10 times below AdamW's, and a
    /// weight decay as many times above.
    Lion {
        /// Decay of the mean gradient in the direction of a step, and in what is kept for the next.
        betas: [f64; 2],
        /// Share of the learning rate by which weights shrink in every step.
        weight_decay: f64,
    },
}

impl Optimizer {
    /// Plain stochastic gradient descent.
    pub fn sgd() -> Self {
        Optimizer::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Stochastic gradient descent with momentum.
    pub fn sgd_momentum(momentum: f64) -> Self {
        Optimizer::Sgd { momentum, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Adam with PyTorch's defaults.
    pub fn adam() -> Self {
        Optimizer::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, amsgrad: false }
    }

    /// AdamW with PyTorch's defaults, weight decay 0.01.
    pub fn adamw() -> Self {
        Optimizer::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-2, amsgrad: false }
    }

    /// RMSprop with PyTorch's defaults.
    pub fn rmsprop() -> Self {
        Optimizer::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }

    /// Adagrad with PyTorch's defaults.
    pub fn adagrad() -> Self {
        Optimizer::Adagrad { lr_decay: 0.0, eps: 1e-10, initial_accumulator_value: 0.0, weight_decay: 0.0 }
    }

    /// Lion with the paper's defaults, no weight decay.
    pub fn lion() -> Self {
        Optimizer::Lion { betas: [0.9, 0.99], weight_decay: 0.0 }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that lies outside what it may be.
    pub fn validate(&self) -> Result<()> {
        let at_least_0 = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(Error::setting(name, "a finite number of at least 0", value)),
        };
        let share = |name: &str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::setting(name, "a number from 0 to below 1", value)),
        };
        // In f32, where kernels compute: 0/0 is all that is left of a weight that never had a gradient otherwise.
        let eps_above_0 = |eps: f64| match eps.is_finite() && eps as f32 > 0.0 {
            true => Ok(()),
            false => Err(Error::setting("eps", "a finite number above 0", eps)),
        };
        match *self {
            Optimizer::Sgd { momentum, dampening, nesterov, weight_decay } => {
                share("momentum", momentum)?;
                at_least_0("weight_decay", weight_decay)?;
                if !dampening.is_finite() {
                    return Err(Error::setting("dampening", "a finite number", dampening));
                }
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    let got = format!("momentum {momentum}, dampening {dampening}");
                    return Err(Error::setting("nesterov", "a momentum above 0 and no dampening", got));
                }
                Ok(())
            }
            Optimizer::Adam { betas, eps, weight_decay, .. } | Optimizer::AdamW { betas, eps, weight_decay, .. } => {
                share("beta1", betas[0])?;
                share("beta2", betas[1])?;
                eps_above_0(eps)?;
                at_least_0("weight_decay", weight_decay)
            }
            Optimizer::RmsProp { alpha, eps, momentum, weight_decay, .. } => {
                share("alpha", alpha)?;
                eps_above_0(eps)?;
                share("momentum", momentum)?;
                at_least_0("weight_decay", weight_decay)
            }
            Optimizer::Adagrad { lr_decay, eps, initial_accumulator_value, weight_decay } => {
                at_least_0("lr_decay", lr_decay)?;
                eps_above_0(eps)?;
                at_least_0("initial_accumulator_value", initial_accumulator_value)?;
                at_least_0("weight_decay", weight_decay)
            }
            Optimizer::Lion { betas, weight_decay } => {
                share("beta1", betas[0])?;
                share("beta2", betas[1])?;
                at_least_0("weight_decay", weight_decay)
            }
        }
    }

    /// Appends the update of every parameter that has a gradient; see [`Update`] for penalties, clipping, groups and
    /// accumulation.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Optimizer::validate`]; [`Error::Operand`] where no parameter has a gradient.
    pub fn append(&self, graph: &mut Graph, grads: &Gradients) -> Result<()> {
        Update::new(*self, UpdateOptions::default())?.append_gradients(graph, grads)
    }

    /// The weight decay, coupled or decoupled.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Optimizer::Sgd { weight_decay, .. }
            | Optimizer::Adam { weight_decay, .. }
            | Optimizer::AdamW { weight_decay, .. }
            | Optimizer::RmsProp { weight_decay, .. }
            | Optimizer::Adagrad { weight_decay, .. }
            | Optimizer::Lion { weight_decay, .. } => weight_decay,
        }
    }

    /// The same with another weight decay.
    pub fn with_weight_decay(mut self, decay: f64) -> Self {
        match &mut self {
            Optimizer::Sgd { weight_decay, .. }
            | Optimizer::Adam { weight_decay, .. }
            | Optimizer::AdamW { weight_decay, .. }
            | Optimizer::RmsProp { weight_decay, .. }
            | Optimizer::Adagrad { weight_decay, .. }
            | Optimizer::Lion { weight_decay, .. } => *weight_decay = decay,
        }
        self
    }

    /// Whether a schedule that cycles the momentum has one to cycle: a momentum above 0, or a β1.
    pub fn has_momentum(&self) -> bool {
        match *self {
            Optimizer::Sgd { momentum, .. } | Optimizer::RmsProp { momentum, .. } => momentum != 0.0,
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } | Optimizer::Lion { .. } => true,
            Optimizer::Adagrad { .. } => false,
        }
    }

    /// The op that updates `num_params` parameters, and the names and initial values of its states for each.
    fn op(&self, num_params: usize) -> (Vec<(&'static str, Init)>, Op) {
        let zeros = |names: &[&'static str]| names.iter().map(|&name| (name, Init::Zeros)).collect();
        match *self {
            Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
                let has_momentum = momentum != 0.0;
                let states = zeros(if has_momentum { &["momentum"] } else { &[] });
                (states, SgdStep { num_params, has_momentum, nesterov, weight_decay }.into())
            }
            Optimizer::Adam { betas, eps, weight_decay, amsgrad }
            | Optimizer::AdamW { betas, eps, weight_decay, amsgrad } => {
                let decoupled = matches!(self, Optimizer::AdamW { .. });
                let states = zeros(&["exp_avg", "exp_avg_sq", "max_exp_avg_sq"][..if amsgrad { 3 } else { 2 }]);
                (states, AdamStep { num_params, beta2: betas[1], eps, weight_decay, decoupled, amsgrad }.into())
            }
            Optimizer::RmsProp { alpha, eps, momentum, centered, weight_decay } => {
                let has_momentum = momentum != 0.0;
                let mut states: Vec<(&'static str, Init)> = zeros(&["square_avg"]);
                states.extend(centered.then_some(("grad_avg", Init::Zeros)));
                states.extend(has_momentum.then_some(("momentum_buffer", Init::Zeros)));
                (states, RmsPropStep { num_params, alpha, eps, weight_decay, has_momentum, centered }.into())
            }
            Optimizer::Adagrad { eps, initial_accumulator_value, weight_decay, .. } => {
                let states = vec![("sum", Init::Constant(initial_accumulator_value))];
                (states, AdagradStep { num_params, eps, weight_decay }.into())
            }
            Optimizer::Lion { betas, weight_decay } => {
                (zeros(&["exp_avg"]), LionStep { num_params, beta2: betas[1], weight_decay }.into())
            }
        }
    }

    /// The scalars of one step for the step table, in the order in which [`Optimizer::append`] declares them. `step`
    /// counts the steps done before this one; `momentum`, where a schedule cycles it, stands for the momentum of SGD and
    /// RMSprop (unless that is 0) or the β1 of Adam and Lion.
    pub fn step_scalars(&self, step: u64, lr: f64, momentum: Option<f64>) -> Vec<(&'static str, f64)> {
        match *self {
            Optimizer::Sgd { momentum: 0.0, .. } => vec![("lr", lr)],
            Optimizer::Sgd { momentum: own, dampening, .. } => {
                // The first gradient becomes the velocity whole.
                let grad_weight = if step == 0 { 1.0 } else { 1.0 - dampening };
                vec![("lr", lr), ("momentum", momentum.unwrap_or(own)), ("grad_weight", grad_weight)]
            }
            Optimizer::Adam { betas, .. } | Optimizer::AdamW { betas, .. } => {
                let beta1 = momentum.unwrap_or(betas[0]);
                let count = (step + 1) as f64;
                vec![
                    ("lr", lr),
                    ("one_minus_beta1", 1.0 - beta1),
                    ("step_size", lr / (1.0 - beta1.powf(count))),
                    ("sqrt_bias_correction2", (1.0 - betas[1].powf(count)).sqrt()),
                ]
            }
            Optimizer::RmsProp { momentum: 0.0, .. } => vec![("lr", lr)],
            Optimizer::RmsProp { momentum: own, .. } => vec![("lr", lr), ("momentum", momentum.unwrap_or(own))],
            Optimizer::Adagrad { lr_decay, .. } => vec![("step_size", lr / (1.0 + step as f64 * lr_decay))],
            Optimizer::Lion { betas, .. } => {
                vec![("lr", lr), ("one_minus_beta1", 1.0 - momentum.unwrap_or(betas[0]))]
            }
        }
    }
}

impl Optimizer {
    /// Appends the gradients of a scalar `loss` and the update of every parameter by them: a training step in one line
    /// (PyTorch's `zero_grad`, `backward` and `step`). Gives the gradients, for whoever wants to look at them.
    ///
    /// # Errors
    /// As [`Graph::backward`] and [`Optimizer::append`].
    pub fn minimize(&self, graph: &mut Graph, loss: Value) -> Result<Gradients> {
        let grads = graph.backward(loss)?;
        self.append(graph, &grads)?;
        Ok(grads)
    }

    /// The step table of one step at this learning rate, for training loops written by hand. `step` counts the steps
    /// done before; it is also the column "step" that dropout reads.
    pub fn step(&self, step: u64, lr: f64) -> StepTable {
        // Steps stay far below 2^53, up to which f64 holds every integer.
        let table = StepTable::new(1).constant("step", step as f64);
        self.step_scalars(step, lr, None).into_iter().fold(table, |table, (name, value)| table.constant(name, value))
    }
}
