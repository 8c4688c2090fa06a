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
        let gradients = &mut config.gradients;
        set(self.l1, &mut gradients.l1);
        set(self.l2, &mut gradients.l2);
        gradients.regularize_biases |= self.penalize_biases;
        let idle = self.penalize_biases && gradients.l1 == 0.0 && gradients.l2 == 0.0;
        gradients.clip_norm = self.clip_norm.or(gradients.clip_norm);
        gradients.clip_value = self.clip_value.or(gradients.clip_value);
        set(self.label_smoothing, &mut config.label_smoothing);
        reject("--penalize-biases", idle, "--l1 or --l2", "neither")
    }
}
