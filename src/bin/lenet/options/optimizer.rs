//! Options about a step of training: its batch, and how weights follow their gradients.

use clap::Args;
use wgrad::Result;
use wgrad::optim::Optimizer;
use wgrad::registry::Entry;
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
    /// How weights follow their gradients; sgd has a momentum of 0.9 unless told otherwise [default: sgd]
    #[arg(long, value_name = "NAME", value_parser = names())]
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
        set(self.accumulate, &mut config.gradients.accumulate);
        set(self.seed, &mut config.seed);
    }
}

impl OptimizerOptions {
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        // The optimizer that a file describes stays as it is there, unless it becomes another one.
        if let Some(name) = self.optimizer.as_deref().filter(|name| *name != config.optimizer.name()) {
            config.optimizer = Optimizer::named(name)?;
            config.lr = None;
        }
        config.lr = self.lr.or(config.lr);
        let number = |given: Option<f64>| given.map(toml::Value::from);
        let switch = |given: bool| given.then_some(toml::Value::from(true));
        let settings = [
            ("momentum", number(self.momentum)),
            ("nesterov", switch(self.nesterov)),
            ("dampening", number(self.dampening)),
            ("betas", self.betas.map(|betas| toml::Value::from(betas.to_vec()))),
            ("amsgrad", switch(self.amsgrad)),
            ("alpha", number(self.alpha)),
            ("centered", switch(self.centered)),
            ("lr_decay", number(self.lr_decay)),
            ("weight_decay", number(self.weight_decay)),
        ];
        for (setting, value) in settings {
            let Some(value) = value else { continue };
            reject_other(setting, &config.optimizer)?;
            config.optimizer = config.optimizer.with(setting, value)?;
        }
        Ok(())
    }
}

/// Rejects a setting that this optimizer does not have.
fn reject_other(setting: &str, optimizer: &Optimizer) -> Result<()> {
    let has = |entry: &Entry| entry.settings.iter().any(|known| known.name == setting);
    let takers: Vec<&str> = Optimizer::ENTRIES.iter().filter(|entry| has(entry)).map(|entry| entry.name).collect();
    let (flag, only_with) = (setting.replace('_', "-"), format!("--optimizer {}", alternatives(&takers)));
    let got = format!("--optimizer {}", optimizer.name());
    reject(&format!("--{flag}"), !has(optimizer.entry()), &only_with, &got)
}

fn names() -> clap::builder::PossibleValuesParser {
    Optimizer::ENTRIES.iter().map(|entry| entry.name).collect::<Vec<_>>().into()
}

/// Two numbers with a comma between.
fn pair(text: &str) -> Result<[f64; 2], String> {
    let numbers: Vec<&str> = text.split(',').collect();
    let [first, second] = numbers.as_slice() else { return Err("expected two numbers, such as 0.9,0.999".to_owned()) };
    let number = |text: &str| text.trim().parse().map_err(|error| format!("{text:?} is no number: {error}"));
    Ok([number(first)?, number(second)?])
}
