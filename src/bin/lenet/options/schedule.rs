//! Options about how the learning rate changes: a scheduler, its arguments by PyTorch's names, and a warm-up before it.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use wgrad::run::RunConfig;
use wgrad::schedule::{
    Anneal, Interval, Kind, Mode, OneCycle, PlateauOptions, ReduceLrOnPlateau, Schedule, ThresholdMode,
};
use wgrad::{Error, Result};

use super::{alternatives, as_option, choice, reject, set, usage};

/// The schedulers with the options that each takes.
const SCHEDULERS: [(&str, &[&str]); 11] = [
    ("constant", &[]),
    ("step", &["--step-size", "--gamma"]),
    ("multi-step", &["--milestones", "--gamma"]),
    ("exponential", &["--gamma"]),
    ("linear", &["--start-factor", "--end-factor", "--total-iters"]),
    ("constant-factor", &["--factor", "--total-iters"]),
    ("polynomial", &["--total-iters", "--power"]),
    ("cosine", &["--t-max", "--eta-min"]),
    ("cosine-warm-restarts", &["--t-0", "--t-mult", "--eta-min"]),
    (
        "one-cycle",
        &[
            "--max-lr",
            "--total-steps",
            "--pct-start",
            "--anneal-strategy",
            "--no-cycle-momentum",
            "--base-momentum",
            "--max-momentum",
            "--div-factor",
            "--final-div-factor",
            "--three-phase",
        ],
    ),
    (
        "plateau",
        &["--mode", "--factor", "--patience", "--threshold", "--threshold-mode", "--cooldown", "--min-lr", "--eps"],
    ),
];

#[derive(Args)]
#[command(next_help_heading = "Learning rate schedule")]
pub struct SchedulerOptions {
    /// How the learning rate changes; the options below, by PyTorch's names, say for which schedulers they are
    /// [default: constant]
    #[arg(long, value_name = "NAME", value_parser = scheduler_names())]
    scheduler: Option<String>,
    /// How often the schedule steps: what its numbers of steps count [default: batch with one-cycle, else epoch]
    #[arg(long, value_name = "WHAT", value_parser = choice(&[("epoch", Interval::Epoch), ("batch", Interval::Batch)]))]
    interval: Option<Interval>,
    /// Rise to the learning rate in a line over N steps before the schedule; 0 does not [default: 0]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// The share of the learning rate that the warm-up starts from [default: 1/3, as PyTorch's LinearLR]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    warmup_factor: Option<f64>,
    /// step: the steps between cuts (required)
    #[arg(long, value_name = "N")]
    step_size: Option<u64>,
    /// step, multi-step, exponential: what the rate is multiplied with [default: 0.1; exponential: required]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// multi-step: the steps of the cuts (required)
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    milestones: Option<Vec<u64>>,
    /// linear: the share of the rate to start from [default: 1/3]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    start_factor: Option<f64>,
    /// linear: the share of the rate to end at [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    end_factor: Option<f64>,
    /// linear, constant-factor, polynomial: the steps that the change takes [default: 5]
    #[arg(long, value_name = "N")]
    total_iters: Option<u64>,
    /// polynomial: the power [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    power: Option<f64>,
    /// cosine: the steps from the rate down to --eta-min [default: what the run has left
    /// after the warm-up, which its config.toml then names]
    #[arg(long, value_name = "N")]
    t_max: Option<u64>,
    /// cosine, cosine-warm-restarts: the lowest rate [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    eta_min: Option<f64>,
    /// cosine-warm-restarts: the steps before the first restart (required)
    #[arg(long = "t-0", value_name = "N")]
    t_0: Option<u64>,
    /// cosine-warm-restarts: how many times as long each period is as the one before [default: 1]
    #[arg(long, value_name = "N")]
    t_mult: Option<u64>,
    /// one-cycle: the highest rate (required); the cycle's rates all follow from it, and not from --lr
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    max_lr: Option<f64>,
    /// one-cycle: the steps of the cycle [default: those of the run]
    #[arg(long, value_name = "N")]
    total_steps: Option<u64>,
    /// one-cycle: the share of the steps that the rate rises for [default: 0.3]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pct_start: Option<f64>,
    /// one-cycle: the shape of rise and fall [default: cos]
    #[arg(long, value_name = "SHAPE", value_parser = choice(&[("cos", Anneal::Cos), ("linear", Anneal::Linear)]))]
    anneal_strategy: Option<Anneal>,
    /// one-cycle: leave the optimizer's momentum as it is
    #[arg(long, conflicts_with_all = ["base_momentum", "max_momentum"])]
    no_cycle_momentum: bool,
    /// one-cycle: the momentum (adam, adamw, lion: the first beta) at the highest rate [default: 0.85]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    base_momentum: Option<f64>,
    /// one-cycle: the momentum at the ends [default: 0.95]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    max_momentum: Option<f64>,
    /// one-cycle: the highest rate over the first [default: 25]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    div_factor: Option<f64>,
    /// one-cycle: the first rate over the last [default: 10000]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    final_div_factor: Option<f64>,
    /// one-cycle: first fall to where the rise began, then on to the end
    #[arg(long)]
    three_phase: bool,
    /// plateau: `min` watches the validation loss, `max` the validation accuracy [default: min]
    #[arg(long, value_name = "MODE", value_parser = choice(&[("min", Mode::Min), ("max", Mode::Max)]))]
    mode: Option<Mode>,
    /// constant-factor: the share of the rate at first [default: 1/3]; plateau: what a cut multiplies it with
    /// [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    factor: Option<f64>,
    /// plateau: how many epochs in a row without a better value it puts up with; the next one cuts [default: 10]
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// plateau: how much better a value must be to count [default: 0.0001]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// plateau: whether the threshold is a share of the best value or a difference to it [default: rel]
    #[arg(long, value_name = "MODE", value_parser = choice(&[("rel", ThresholdMode::Rel), ("abs", ThresholdMode::Abs)]))]
    threshold_mode: Option<ThresholdMode>,
    /// plateau: for how many epochs after a cut none counts as bad [default: 0]
    #[arg(long, value_name = "N")]
    cooldown: Option<u64>,
    /// plateau: the rate that no cut goes below [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_lr: Option<f64>,
    /// plateau: a cut by no more than this is left out [default: 1e-8]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    eps: Option<f64>,
}

impl SchedulerOptions {
    /// Changes the schedule: what a file describes stays as it is there, unless it becomes one of another kind.
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        let given = self.given();
        let asks = self.scheduler.is_some() || self.interval.is_some() || self.warmup.is_some();
        if !asks && self.warmup_factor.is_none() && given.is_empty() {
            return Ok(());
        }
        let (before, current) = without_warm_up(&config.schedule);
        let Some(name) = self.scheduler.as_deref().or(name(current.kind())) else {
            return Err(usage("--scheduler", "to be named, as the file's schedule has several parts", "nothing"));
        };
        given.iter().try_for_each(|option| reject_unless_taken(option, name))?;
        let is_same = Some(name) == self::name(current.kind());
        let mut kind = if is_same { current.kind().clone() } else { self.fresh(name)? };
        self.change(&mut kind)?;
        let schedule = Schedule::new(kind).map_err(as_option)?;
        let own_interval = if is_same { current.interval() } else { schedule.interval() };
        let schedule = schedule.stepping(self.interval.unwrap_or(own_interval));

        let before = before.filter(|_| is_same);
        let num_steps = self.warmup.unwrap_or(before.map_or(0, |(_, num_steps)| num_steps));
        let start_factor = self.warmup_factor.or(before.map(|(start_factor, _)| start_factor)).unwrap_or(1.0 / 3.0);
        reject("--warmup-factor", self.warmup_factor.is_some() && num_steps == 0, "--warmup", "none")?;
        if num_steps == 0 {
            let has_steps = !matches!(schedule.kind(), Kind::Constant {} | Kind::Plateau(_));
            let got = format!("--scheduler {name}, which counts no steps");
            reject("--interval", self.interval.is_some() && !has_steps, "a scheduler that steps, or --warmup", &got)?;
            config.schedule = schedule;
            return Ok(());
        }
        if matches!(schedule.kind(), Kind::OneCycle(_)) {
            let expected = "another scheduler, as one-cycle has a rise of its own (--pct-start, --div-factor)";
            reject("--warmup", true, expected, "--scheduler one-cycle")?;
        }
        config.schedule =
            Schedule::warm_up(start_factor, num_steps, schedule).map_err(|error| match as_option(error) {
                Error::Setting { expected, got, .. } => usage("--warmup-factor", &expected, &got),
                other => other,
            })?;
        Ok(())
    }

    /// Checks what can be checked of the schedule before the number of steps in an epoch is known.
    pub fn check(config: &RunConfig) -> Result<()> {
        if config.schedule.interval() == Interval::Batch {
            return Ok(());
        }
        match without_warm_up(&config.schedule) {
            (Some((_, num_steps)), _) if num_steps >= config.epochs => {
                let expected = format!("fewer than the {} epochs of the run", config.epochs);
                Err(usage("--warmup", &expected, &num_steps.to_string()))
            }
            _ => config.schedule.for_run(config.epochs, 1).map(drop).map_err(as_option),
        }
    }

    /// A schedule with PyTorch's defaults, and with what has none there.
    fn fresh(&self, name: &str) -> Result<Kind> {
        let need = |option: &'static str| {
            let expected = format!("to be given with --scheduler {name}, as it has no default");
            move || usage(option, &expected, "nothing")
        };
        Ok(match name {
            "step" => Kind::Step { step_size: self.step_size.ok_or_else(need("--step-size"))?, gamma: 0.1 },
            "multi-step" => {
                Kind::MultiStep { milestones: self.milestones.clone().ok_or_else(need("--milestones"))?, gamma: 0.1 }
            }
            "exponential" => Kind::Exponential { gamma: self.gamma.ok_or_else(need("--gamma"))? },
            "linear" => Kind::Linear { start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters: 5 },
            "constant-factor" => Kind::ConstantFactor { factor: 1.0 / 3.0, total_iters: 5 },
            "polynomial" => Kind::Polynomial { total_iters: 5, power: 1.0 },
            "cosine" => Kind::Cosine { t_max: None, eta_min: 0.0 },
            "cosine-warm-restarts" => {
                Kind::CosineWarmRestarts { t_0: self.t_0.ok_or_else(need("--t-0"))?, t_mult: 1, eta_min: 0.0 }
            }
            "one-cycle" => Kind::OneCycle(OneCycle::new(self.max_lr.ok_or_else(need("--max-lr"))?, None)),
            "plateau" => Kind::Plateau(ReduceLrOnPlateau::new(PlateauOptions::default())?),
            _ => Kind::Constant {},
        })
    }

    /// Puts what is given in the place of what was there.
    fn change(&self, kind: &mut Kind) -> Result<()> {
        match kind {
            Kind::Constant {} | Kind::Sequential { .. } | Kind::Lambda(_) => {}
            Kind::Step { step_size, gamma } => {
                set(self.step_size, step_size);
                set(self.gamma, gamma);
            }
            Kind::MultiStep { milestones, gamma } => {
                set(self.milestones.clone(), milestones);
                set(self.gamma, gamma);
            }
            Kind::Exponential { gamma } => set(self.gamma, gamma),
            Kind::Linear { start_factor, end_factor, total_iters } => {
                set(self.start_factor, start_factor);
                set(self.end_factor, end_factor);
                set(self.total_iters, total_iters);
            }
            Kind::ConstantFactor { factor, total_iters } => {
                set(self.factor, factor);
                set(self.total_iters, total_iters);
            }
            Kind::Polynomial { total_iters, power } => {
                set(self.total_iters, total_iters);
                set(self.power, power);
            }
            Kind::Cosine { t_max, eta_min } => {
                *t_max = self.t_max.or(*t_max);
                set(self.eta_min, eta_min);
            }
            Kind::CosineWarmRestarts { t_0, t_mult, eta_min } => {
                set(self.t_0, t_0);
                set(self.t_mult, t_mult);
                set(self.eta_min, eta_min);
            }
            Kind::OneCycle(cycle) => {
                set(self.max_lr, &mut cycle.max_lr);
                cycle.total_steps = self.total_steps.or(cycle.total_steps);
                set(self.pct_start, &mut cycle.pct_start);
                set(self.anneal_strategy, &mut cycle.anneal_strategy);
                cycle.cycle_momentum &= !self.no_cycle_momentum;
                set(self.base_momentum, &mut cycle.base_momentum);
                set(self.max_momentum, &mut cycle.max_momentum);
                set(self.div_factor, &mut cycle.div_factor);
                set(self.final_div_factor, &mut cycle.final_div_factor);
                cycle.three_phase |= self.three_phase;
                let is_idle = !cycle.cycle_momentum;
                let got = "a cycle that leaves the momentum alone";
                for (option, given) in [("--base-momentum", self.base_momentum), ("--max-momentum", self.max_momentum)]
                {
                    reject(option, given.is_some() && is_idle, "a cycle of the momentum", got)?;
                }
            }
            Kind::Plateau(plateau) => {
                let mut options = plateau.options().clone();
                set(self.mode, &mut options.mode);
                set(self.factor, &mut options.factor);
                set(self.patience, &mut options.patience);
                set(self.threshold, &mut options.threshold);
                set(self.threshold_mode, &mut options.threshold_mode);
                set(self.cooldown, &mut options.cooldown);
                set(self.min_lr, &mut options.min_lr);
                set(self.eps, &mut options.eps);
                *plateau = ReduceLrOnPlateau::new(options).map_err(as_option)?;
            }
        }
        Ok(())
    }

    /// The schedulers' arguments that are given.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("--step-size", self.step_size.is_some()),
            ("--gamma", self.gamma.is_some()),
            ("--milestones", self.milestones.is_some()),
            ("--start-factor", self.start_factor.is_some()),
            ("--end-factor", self.end_factor.is_some()),
            ("--total-iters", self.total_iters.is_some()),
            ("--power", self.power.is_some()),
            ("--t-max", self.t_max.is_some()),
            ("--eta-min", self.eta_min.is_some()),
            ("--t-0", self.t_0.is_some()),
            ("--t-mult", self.t_mult.is_some()),
            ("--max-lr", self.max_lr.is_some()),
            ("--total-steps", self.total_steps.is_some()),
            ("--pct-start", self.pct_start.is_some()),
            ("--anneal-strategy", self.anneal_strategy.is_some()),
            ("--no-cycle-momentum", self.no_cycle_momentum),
            ("--base-momentum", self.base_momentum.is_some()),
            ("--max-momentum", self.max_momentum.is_some()),
            ("--div-factor", self.div_factor.is_some()),
            ("--final-div-factor", self.final_div_factor.is_some()),
            ("--three-phase", self.three_phase),
            ("--mode", self.mode.is_some()),
            ("--factor", self.factor.is_some()),
            ("--patience", self.patience.is_some()),
            ("--threshold", self.threshold.is_some()),
            ("--threshold-mode", self.threshold_mode.is_some()),
            ("--cooldown", self.cooldown.is_some()),
            ("--min-lr", self.min_lr.is_some()),
            ("--eps", self.eps.is_some()),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(option, _)| option).collect()
    }
}

/// The schedulers' names; some are known by another spelling too.
fn scheduler_names() -> impl TypedValueParser<Value = String> {
    let value = |(name, _): (&'static str, _)| match name {
        "multi-step" => PossibleValue::new(name).alias("multistep"),
        "cosine-warm-restarts" => PossibleValue::new(name).alias("cosine-restarts"),
        _ => PossibleValue::new(name),
    };
    PossibleValuesParser::new(SCHEDULERS.map(value)).map(|typed| match typed.as_str() {
        "multistep" => "multi-step".to_owned(),
        "cosine-restarts" => "cosine-warm-restarts".to_owned(),
        _ => typed,
    })
}

/// The name that the command line has for a kind of schedule; `None` for those that it cannot describe.
fn name(kind: &Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Constant {} => "constant",
        Kind::Step { .. } => "step",
        Kind::MultiStep { .. } => "multi-step",
        Kind::Exponential { .. } => "exponential",
        Kind::Linear { .. } => "linear",
        Kind::ConstantFactor { .. } => "constant-factor",
        Kind::Polynomial { .. } => "polynomial",
        Kind::Cosine { .. } => "cosine",
        Kind::CosineWarmRestarts { .. } => "cosine-warm-restarts",
        Kind::OneCycle(_) => "one-cycle",
        Kind::Plateau(_) => "plateau",
        Kind::Sequential { .. } | Kind::Lambda(_) => return None,
    })
}

/// The start factor and the length of a schedule's warm-up, if it is one as `--warmup` makes it, and what follows.
pub fn without_warm_up(schedule: &Schedule) -> (Option<(f64, u64)>, &Schedule) {
    if let Kind::Sequential { schedules, milestones } = schedule.kind()
        && let ([rise, then], [len]) = (schedules.as_slice(), milestones.as_slice())
        && let Kind::Linear { start_factor, end_factor: 1.0, total_iters } = rise.kind()
        && total_iters == len
    {
        return (Some((*start_factor, *len)), then);
    }
    (None, schedule)
}

fn reject_unless_taken(option: &str, scheduler: &str) -> Result<()> {
    let takes = |options: &[&str]| options.contains(&option);
    let takers: Vec<&str> = SCHEDULERS.iter().filter(|(_, options)| takes(options)).map(|(name, _)| *name).collect();
    let named: Vec<String> = takers.iter().map(|name| format!("--scheduler {name}")).collect();
    let mut only_with = alternatives(&named);
    if option == "--patience" {
        only_with += " (early stopping has --early-stopping-patience)";
    }
    reject(option, !takers.contains(&scheduler), &only_with, &format!("--scheduler {scheduler}"))
}
