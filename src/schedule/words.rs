//! Schedules in words, as a line about a run has them.

use std::fmt;

use super::{Interval, Kind, Mode, PlateauOptions, Schedule};

impl fmt::Display for Schedule {
    /// Such as "warm-up from 0.1 of the rate over 5 epochs, then cosine to 0 over 25 epochs".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, many) = match self.interval {
            Interval::Epoch => ("epoch", "epochs"),
            Interval::Batch => ("step", "steps"),
        };
        let times = |count: u64| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
        let every = |count: u64| if count == 1 { one.to_owned() } else { format!("{count} {many}") };
        match &self.kind {
            Kind::Constant {} => f.write_str("constant"),
            Kind::Step { step_size, gamma } => write!(f, "times {} every {}", number(*gamma), every(*step_size)),
            Kind::MultiStep { milestones, gamma } => {
                let milestones: Vec<String> = milestones.iter().map(u64::to_string).collect();
                write!(f, "times {} after {many} {}", number(*gamma), milestones.join(", "))
            }
            Kind::Exponential { gamma } => write!(f, "times {} every {one}", number(*gamma)),
            Kind::Linear { start_factor, end_factor, total_iters } => {
                let (start, end) = (number(*start_factor), number(*end_factor));
                write!(f, "linear from {start} to {end} times the rate over {}", times(*total_iters))
            }
            Kind::ConstantFactor { factor, total_iters } => {
                write!(f, "{} times the rate for {}", number(*factor), times(*total_iters))
            }
            Kind::Polynomial { total_iters, power } => {
                write!(f, "polynomial of power {} to 0 over {}", number(*power), times(*total_iters))
            }
            Kind::Cosine { t_max, eta_min } => {
                write!(f, "cosine to {} {}", number(*eta_min), t_max.map_or(OPEN.to_owned(), |len| over(&times(len))))
            }
            Kind::CosineWarmRestarts { t_0, t_mult, eta_min } => {
                write!(f, "cosine to {}, again after {}", number(*eta_min), times(*t_0))?;
                if *t_mult > 1 { write!(f, " and then {t_mult} times as many each time") } else { Ok(()) }
            }
            Kind::OneCycle(options) => {
                let len = options.total_steps.map_or(OPEN.to_owned(), |len| over(&times(len)));
                write!(f, "one cycle up to {} {len}", number(options.max_lr))?;
                let (low, high) = (number(options.base_momentum), number(options.max_momentum));
                if options.cycle_momentum { write!(f, ", momentum from {high} to {low} and back") } else { Ok(()) }
            }
            Kind::Sequential { schedules, milestones } => {
                if let ([rise, then], [len]) = (schedules.as_slice(), milestones.as_slice())
                    && let Kind::Linear { start_factor, end_factor: 1.0, total_iters } = rise.kind
                    && total_iters == *len
                {
                    let start = number(start_factor);
                    return write!(f, "warm-up from {start} of the rate over {}, then {then}", times(*len));
                }
                let starts = [None].into_iter().chain(milestones.iter().map(Some));
                schedules.iter().zip(starts).try_for_each(|(part, start)| match start {
                    None => write!(f, "{part}"),
                    Some(start) => write!(f, "; after {} {part}", times(*start)),
                })
            }
            Kind::Plateau(plateau) => {
                let PlateauOptions { mode, factor, patience, .. } = plateau.options();
                let metric = match mode {
                    Mode::Min => "validation loss",
                    Mode::Max => "validation accuracy",
                };
                let (factor, bad) = (number(*factor), patience.saturating_add(1));
                let epochs = if bad == 1 { "epoch" } else { "epochs" };
                write!(f, "times {factor} after {bad} {epochs} without a better {metric}")
            }
            Kind::Lambda(_) => write!(f, "a function of the {one}"),
        }
    }
}

/// Of a length that is that of the run.
const OPEN: &str = "to the end of the run";

fn over(len: &str) -> String {
    format!("over {len}")
}

/// To four digits.
fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-4..1e6).contains(&rounded.abs()) { rounded.to_string() } else { format!("{rounded:e}") }
}
