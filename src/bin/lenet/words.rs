//! A run's settings as text, for the first lines of `lenet train`.

use wgrad::optim::GradientOptions;
use wgrad::run::RunConfig;
use wgrad::train::early_stop::{EarlyStopOptions, Monitor};

use crate::console::{big_count, count, short};

/// A number of things: "1 image", "2,000 images".
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", big_count(number), if number == 1 { "" } else { "s" })
}

/// The network and where its weights start.
pub fn network(config: &RunConfig, num_parameters: usize) -> String {
    let mut words = format!("{}, {} parameters", config.network.title(), count(num_parameters));
    if let Some(file) = &config.init {
        words += &format!(", starting from {}", file.display());
    }
    words
}

/// How it is trained.
pub fn training(config: &RunConfig) -> String {
    let mut words = vec![config.optimizer.to_string()];
    if config.schedule.is_constant() {
        words.push(format!("learning rate {}", short(config.learning_rate())));
    }
    let &GradientOptions { accumulate, l1, l2, regularize_biases, clip_value, clip_norm } = &config.gradients;
    words.push(match accumulate {
        1 => format!("batches of {}", config.batch_size),
        _ => format!("steps of {accumulate} batches of {}", config.batch_size),
    });
    for (name, weight) in [("L1", l1), ("L2", l2)] {
        if weight > 0.0 {
            let biases = if regularize_biases { " (biases too)" } else { "" };
            words.push(format!("{name} penalty {weight}{biases}"));
        }
    }
    for (what, most) in [("elements", clip_value), ("norm", clip_norm)] {
        words.extend(most.map(|most| format!("gradients clipped to {what} of {most}")));
    }
    if config.label_smoothing > 0.0 {
        words.push(format!("label smoothing {}", config.label_smoothing));
    }
    words.push(format!("at most {}", counted(config.epochs, "epoch")));
    let end = match &config.early_stopping {
        Some(EarlyStopOptions { patience, monitor, .. }) => {
            // It takes an epoch to see that nothing improved.
            let epochs = counted((*patience).max(1), "epoch");
            match monitor {
                Monitor::ValLoss => format!("; stops after {epochs} without improvement"),
                monitor => format!("; stops after {epochs} without a better {monitor}"),
            }
        }
        None => String::new(),
    };
    words.join(", ") + &end
}
