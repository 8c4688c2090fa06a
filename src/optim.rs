//! Optimizers: what is appended to a training graph to update its parameters, and the numbers that each step of it
//! needs from the host. Semantics are those of `torch.optim`; state lives on the device beside the parameters, under
//! the parameter's name and its own ("conv1.weight.momentum").

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::exec::StepTable;
use crate::graph::plan::packed_elems;
use crate::graph::{Gradients, Graph, NodeKind, StateKind, StateSpec, Value};
use crate::nn::Init;
use crate::ops::adam::AdamStep;
use crate::ops::sgd::SgdStep;
use crate::ops::{Op, Operation};
use crate::tensor::DType;
use crate::{Error, Result};

/// Bytes that one update walks over in one buffer at most: the least binding that every WebGPU device takes. More
/// parameters are updated by several dispatches.
const MAX_PACK_BYTES: usize = 128 << 20;

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

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that lies outside what it may be.
    pub fn validate(&self) -> Result<()> {
        let at_least_0 = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(Error::config(name, "a finite number of at least 0", value)),
        };
        let share = |name: &str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::config(name, "a number from 0 to below 1", value)),
        };
        match *self {
            Optimizer::Sgd { momentum, dampening, nesterov, weight_decay } => {
                share("--momentum", momentum)?;
                at_least_0("--weight-decay", weight_decay)?;
                if !dampening.is_finite() {
                    return Err(Error::config("dampening", "a finite number", dampening));
                }
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    let got = format!("momentum {momentum}, dampening {dampening}");
                    return Err(Error::config("--nesterov", "a momentum above 0 and no dampening", got));
                }
                Ok(())
            }
            Optimizer::Adam { betas, eps, weight_decay, .. } | Optimizer::AdamW { betas, eps, weight_decay, .. } => {
                share("beta1", betas[0])?;
                share("beta2", betas[1])?;
                at_least_0("eps", eps)?;
                at_least_0("--weight-decay", weight_decay)
            }
        }
    }

    /// Appends the update of every parameter that has a gradient.
    ///
    /// # Errors
    /// [`Error::Config`] as [`Optimizer::validate`]; [`Error::Operand`] where no parameter has a gradient.
    pub fn append(&self, graph: &mut Graph, grads: &Gradients) -> Result<()> {
        self.validate()?;
        let pairs: Vec<(String, Value, Value)> = graph
            .parameters()
            .into_iter()
            .filter_map(|(name, param)| grads.get(param).map(|grad| (name, param, grad)))
            .collect();
        if pairs.is_empty() {
            return Err(Error::operand("optimizer", "a parameter with a gradient", "none"));
        }
        let pairs = own_gradients(graph, pairs)?;
        for group in split(graph, &pairs) {
            graph.scoped("optimizer", |graph| self.append_group(graph, group))?;
        }
        Ok(())
    }

    fn append_group(&self, graph: &mut Graph, group: &[(String, Value, Value)]) -> Result<()> {
        let num_params = group.len();
        let (names, op): (&[&str], Op) = match *self {
            Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
                let has_momentum = momentum != 0.0;
                let states: &[&str] = if has_momentum { &["momentum"] } else { &[] };
                (states, SgdStep { num_params, has_momentum, nesterov, weight_decay }.into())
            }
            Optimizer::Adam { betas, eps, weight_decay, amsgrad }
            | Optimizer::AdamW { betas, eps, weight_decay, amsgrad } => {
                let decoupled = matches!(self, Optimizer::AdamW { .. });
                let states: &[&str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"][..if amsgrad { 3 } else { 2 }];
                (states, AdamStep { num_params, beta2: betas[1], eps, weight_decay, decoupled, amsgrad }.into())
            }
        };
        let mut inputs = Vec::new();
        for (name, _) in self.step_scalars(0, 0.0, None) {
            inputs.push(graph.scalar(name, DType::F32)?);
        }
        inputs.extend(group.iter().map(|(_, param, _)| *param));
        inputs.extend(group.iter().map(|(_, _, grad)| *grad));
        for state in names {
            for (name, param, _) in group {
                let ty = graph.ty(*param).clone();
                let spec =
                    StateSpec { name: format!("{name}.{state}"), ty, kind: StateKind::Optimizer, init: Init::Zeros };
                inputs.push(graph.state(spec)?);
            }
        }
        graph.push(op, &inputs)?;
        Ok(())
    }

    /// The scalars of one step for the step table, in the order in which [`Optimizer::append`] declares them. `step`
    /// counts the steps done before this one; `momentum`, where a schedule cycles it, stands for SGD's momentum or
    /// Adam's β1.
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

/// Gives every gradient memory of its own, as the update needs it: a copy is taken of a value that is also something
/// else (another parameter's gradient, a value under another shape, an operand of another op).
fn own_gradients(graph: &mut Graph, pairs: Vec<(String, Value, Value)>) -> Result<Vec<(String, Value, Value)>> {
    let mut used: HashSet<Value> = graph.outputs.values().copied().collect();
    used.extend(graph.nodes.iter().flat_map(|node| node.inputs.iter().copied()));
    let mut owned = Vec::new();
    for (name, param, grad) in pairs {
        let is_own = matches!(&graph.node(grad).kind, NodeKind::Op(op) if !op.is_alias());
        let grad = if is_own && used.insert(grad) { grad } else { graph.copy(grad)? };
        owned.push((name, param, grad));
    }
    Ok(owned)
}

/// Runs of parameters whose packs fit one binding.
fn split<'a>(graph: &Graph, pairs: &'a [(String, Value, Value)]) -> Vec<&'a [(String, Value, Value)]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, (_, param, _)) in pairs.iter().enumerate() {
        let size = 4 * packed_elems(std::slice::from_ref(graph.ty(*param)));
        if index > start && bytes + size > MAX_PACK_BYTES {
            groups.push(&pairs[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    groups.push(&pairs[start..]);
    groups
}
