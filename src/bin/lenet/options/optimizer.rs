//! Options about a step of training: its batch, and how weights follow their gradients.

use clap::Args;
use wgrad::Result;
use wgrad::optim::Optimizer;
use wgrad::run::RunConfig;

use super::{alternatives, reject, set};

#[derive(Args)]
#[command(next_help_heading = "Training")]
pub struct BatchOptions {
    /// Images in a step [default: 64]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Batches whose gradients go into one step of the optimizer, as if they were one large batch [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// The key of everything random: initial weights, held-out images, orders, dropout, transforms [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Args)]
#[command(next_help_heading = "Training")]
pub struct OptimizerOptions {
    /// How weights follow their gradients [default: sgd]
    #[arg(long, value_name = "NAME", value_parser = ["sgd", "adam", "adamw", "rmsprop", "adagrad", "lion"])]
    optimizer: Option<String>,
    /// The learning rate [default: 0.01 with sgd, rmsprop and adagrad, 0.001 with adam and adamw, 0.0001 with lion]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Share of the velocity that sgd and rmsprop keep from step to step [default: 0.9 with sgd, 0 with rmsprop]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Let sgd look ahead along its velocity
    #[arg(long)]
    nesterov: bool,
    /// Share of the gradient that sgd leaves out of its velocity [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dampening: Option<f64>,
    /// Decay of the first and of the second moment [default: 0.9,0.999 with adam and adamw, 0.9,0.99 with lion]
    #[arg(long, value_name = "B1,B2", value_parser = pair, allow_hyphen_values = true)]
    betas: Option<[f64; 2]>,
    /// Let adam and adamw divide by the largest second moment so far
    #[arg(long)]
    amsgrad: bool,
    /// Share of the mean square that rmsprop keeps from step to step [default: 0.99]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    alpha: Option<f64>,
    /// Let rmsprop divide by the standard deviation of gradients instead of their root mean square
    #[arg(long)]
    centered: bool,
    /// How adagrad's learning rate falls: after t steps it is divided by 1 + t * X [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr_decay: Option<f64>,
    /// Pull weights towards 0 [default: 0.01 with adamw, 0 with the others]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
}

impl BatchOptions {
    pub fn apply(self, config: &mut RunConfig) {
        set(self.batch_size, &mut config.batch_size);
        set(self.accumulate, &mut config.update.accumulate);
        set(self.seed, &mut config.seed);
    }
}

impl OptimizerOptions {
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        let wanted = match self.optimizer.as_deref() {
            Some("sgd") => Optimizer::sgd_momentum(0.9),
            Some("adam") => Optimizer::adam(),
            Some("adamw") => Optimizer::adamw(),
            Some("rmsprop") => Optimizer::rmsprop(),
            Some("adagrad") => Optimizer::adagrad(),
            Some("lion") => Optimizer::lion(),
            _ => config.optimizer,
        };
        // The optimizer that a file describes stays as it is there, unless it becomes another one.
        if std::mem::discriminant(&wanted) != std::mem::discriminant(&config.optimizer) {
            config.optimizer = wanted;
            config.lr = None;
        }
        config.lr = self.lr.or(config.lr);
        let optimizer = &mut config.optimizer;
        self.reject_others(optimizer)?;
        if let Some(decay) = self.weight_decay {
            *optimizer = optimizer.with_weight_decay(decay);
        }
        match optimizer {
            Optimizer::Sgd { momentum, nesterov, dampening, .. } => {
                set(self.momentum, momentum);
                *nesterov |= self.nesterov;
                set(self.dampening, dampening);
                let idle = self.dampening.is_some() && *momentum == 0.0;
                reject("--dampening", idle, "a momentum above 0", "--momentum 0")
            }
            Optimizer::RmsProp { momentum, alpha, centered, .. } => {
                set(self.momentum, momentum);
                set(self.alpha, alpha);
                *centered |= self.centered;
                Ok(())
            }
            Optimizer::Adam { betas, amsgrad, .. } | Optimizer::AdamW { betas, amsgrad, .. } => {
                set(self.betas, betas);
                *amsgrad |= self.amsgrad;
                Ok(())
            }
            Optimizer::Adagrad { lr_decay, .. } => {
                set(self.lr_decay, lr_decay);
                Ok(())
            }
            Optimizer::Lion { betas, .. } => {
                set(self.betas, betas);
                Ok(())
            }
        }
    }

    /// Rejects what this optimizer does not have.
    fn reject_others(&self, optimizer: &Optimizer) -> Result<()> {
        let name = match optimizer {
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::Adam { .. } => "adam",
            Optimizer::AdamW { .. } => "adamw",
            Optimizer::RmsProp { .. } => "rmsprop",
            Optimizer::Adagrad { .. } => "adagrad",
            Optimizer::Lion { .. } => "lion",
        };
        let options: [(&str, bool, &[&str]); 8] = [
            ("--momentum", self.momentum.is_some(), &["sgd", "rmsprop"]),
            ("--nesterov", self.nesterov, &["sgd"]),
            ("--dampening", self.dampening.is_some(), &["sgd"]),
            ("--betas", self.betas.is_some(), &["adam", "adamw", "lion"]),
            ("--amsgrad", self.amsgrad, &["adam", "adamw"]),
            ("--alpha", self.alpha.is_some(), &["rmsprop"]),
            ("--centered", self.centered, &["rmsprop"]),
            ("--lr-decay", self.lr_decay.is_some(), &["adagrad"]),
        ];
        options.into_iter().try_for_each(|(option, given, takers)| {
            let only_with = format!("--optimizer {}", alternatives(takers));
            reject(option, given && !takers.contains(&name), &only_with, &format!("--optimizer {name}"))
        })
    }
}

/// Two numbers with a comma between.
fn pair(text: &str) -> Result<[f64; 2], String> {
    let numbers: Vec<&str> = text.split(',').collect();
    let [first, second] = numbers.as_slice() else { return Err("expected two numbers, such as 0.9,0.999".to_owned()) };
    let number = |text: &str| text.trim().parse().map_err(|error| format!("{text:?} is no number: {error}"));
    Ok([number(first)?, number(second)?])
}
