//! Options against overfitting and against gradients that are too large.

use clap::Args;
use wgrad::Result;
use wgrad::run::RunConfig;

use super::{reject, set};

#[derive(Args)]
#[command(next_help_heading = "Regularisation")]
pub struct RegularizationOptions {
    /// Add X times the sum of the weights' magnitudes to the loss [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    l1: Option<f64>,
    /// Add X times the sum of the weights' squares to the loss [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    l2: Option<f64>,
    /// Let --l1 and --l2 count biases too, and the scales and shifts of batch normalisation
    #[arg(long, alias = "l1-biases")]
    penalize_biases: bool,
    /// Scale all gradients down together where their norm is above X [default: not]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    clip_norm: Option<f64>,
    /// Cut every element of a gradient down to magnitude X; before --clip-norm [default: not]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    clip_value: Option<f64>,
    /// Share of the target that is spread over all classes in training [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,
}

impl RegularizationOptions {
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        let update = &mut config.update;
        let penalty = &mut update.regularization;
        set(self.l1, &mut penalty.l1);
        set(self.l2, &mut penalty.l2);
        penalty.include_biases |= self.penalize_biases;
        let idle = self.penalize_biases && penalty.l1 == 0.0 && penalty.l2 == 0.0;
        update.clip_norm = self.clip_norm.or(update.clip_norm);
        update.clip_value = self.clip_value.or(update.clip_value);
        set(self.label_smoothing, &mut config.label_smoothing);
        reject("--penalize-biases", idle, "--l1 or --l2", "neither")
    }
}
