//! `lenet schedule`: the learning rate of every step, before any training.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wgrad::Result;
use wgrad::report::curves::schedule_plot;
use wgrad::run::RunConfig;
use wgrad::schedule::{Interval, Kind, OneCycle, Schedule};

use crate::console::{self, count};
use crate::options::{Given, Rates, reject, usage};
use crate::picture::png_file;

/// More steps than any picture or table could show.
const MAX_STEPS: u64 = 10_000_000;

/// Rows that fit a terminal.
const MAX_ROWS: usize = 40;

#[derive(Args)]
pub struct ScheduleOptions {
    /// The learning rate that the schedule starts from [default: 0.01, or what --config says]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// How many steps to show, from step 0: epochs, or batches with --interval batch and with one-cycle. Also the default
    /// of --t-max and --total-steps
    #[arg(long, value_name = "N")]
    steps: u64,
    /// plateau: the values that it observes, from the one after step 0 to the one before the last step
    #[arg(long, value_name = "X,X,…", value_delimiter = ',', allow_hyphen_values = true)]
    metric: Vec<f64>,
    /// Settings to start from: the config.toml of a run folder, or part of one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print only one JSON list, with an object for each step
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Draw the schedule to this file
    #[arg(long, value_name = "FILE.png", value_parser = png_file(), help_heading = "Output")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    settings: Given<Rates>,
}

pub fn run(options: ScheduleOptions) -> Result<ExitCode> {
    let ScheduleOptions { lr, steps, metric, config, json, picture, settings } = options;
    let mut config = config.as_deref().map_or_else(|| Ok(RunConfig::default()), RunConfig::load)?;
    config.lr = lr.or(config.lr);
    config.validate()?;
    config = settings.apply(&config)?;
    if !(1..=MAX_STEPS).contains(&steps) {
        return Err(usage("--steps", "from 1 to 10 million", &steps.to_string()));
    }
    let lr = config.learning_rate();
    let schedule = config.schedule.for_run(steps, 1)?;
    check_metric(&schedule, &metric, steps)?;
    let rows = rows(schedule.clone(), lr, steps, &metric);
    let unit = if schedule.interval() == Interval::Epoch { "epoch" } else { "step" };
    if let Some(path) = &picture {
        let rates: Vec<(f64, Option<f64>)> = rows.iter().map(|row| (row.lr, row.momentum)).collect();
        schedule_plot(&title(&schedule), &format!("{unit}, from 0"), &rates).save(path)?;
    }
    if json {
        console::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    console::line(format!("schedule  {}\n", describe(&schedule, lr)))?;
    console::line(table(&rows, unit, io::stdout().is_terminal()).trim_end())?;
    if let Some(path) = picture {
        console::line(format!("\npicture   {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is used in a step.
#[derive(Serialize)]
struct Row {
    step: u64,
    lr: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    momentum: Option<f64>,
}

fn rows(mut schedule: Schedule, lr: f64, steps: u64, metric: &[f64]) -> Vec<Row> {
    let mut metric = metric.iter();
    let row = |step| {
        let row = Row { step, lr: schedule.lr(lr, step), momentum: schedule.momentum(step) };
        if let Some(&value) = metric.next() {
            schedule.observe(step, value);
        }
        row
    };
    (0..steps).map(row).collect()
}

/// A plateau needs a value between one step and the next; others need none.
fn check_metric(schedule: &Schedule, metric: &[f64], steps: u64) -> Result<()> {
    if schedule.plateau_patience().is_none() {
        return reject(
            "--metric",
            !metric.is_empty(),
            "--scheduler plateau",
            &format!("a schedule that is {schedule}"),
        );
    }
    // As many as were typed.
    let given = metric.len() as u64;
    if (steps - 1..=steps).contains(&given) {
        return Ok(());
    }
    let expected = format!("{} values, one after each of {steps} steps but the last", steps - 1);
    Err(usage("--metric", &expected, &given.to_string()))
}

/// The schedule, with the rate that it is about.
pub fn describe(schedule: &Schedule, lr: f64) -> String {
    match schedule.kind() {
        // It brings its own rates.
        Some(Kind::OneCycle(OneCycle { max_lr: Some(_), .. })) => schedule.to_string(),
        _ => format!("learning rate {}, {schedule}", console::short(lr)),
    }
}

/// The schedule as text, short enough for a heading.
fn title(schedule: &Schedule) -> String {
    let words = match schedule.warmup() {
        0 => schedule.to_string(),
        _ => format!("warm-up, then {}", schedule.without_warmup()),
    };
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

/// A row for each step, or on a terminal with many steps, for every n-th and the last.
fn table(rows: &[Row], unit: &str, is_terminal: bool) -> String {
    let stride = if is_terminal && rows.len() > MAX_ROWS { rows.len().div_ceil(MAX_ROWS - 1) } else { 1 };
    let cycles = rows.iter().any(|row| row.momentum.is_some());
    let momentum = if cycles { "  momentum" } else { "" };
    let mut text = format!("{:>8}  {:>13}{momentum}\n", unit, "learning rate");
    for (index, row) in rows.iter().enumerate().filter(|(index, _)| index % stride == 0 || index + 1 == rows.len()) {
        let momentum = row.momentum.map_or(String::new(), |momentum| format!("  {momentum:>8.6}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{index:>8}  {:>13}{momentum}", six_digits(row.lr));
    }
    if stride > 1 {
        let _ = write!(text, "\none {unit} in {stride} of {}; a pipe or --json has them all", count(rows.len()));
    }
    text
}

fn six_digits(number: f64) -> String {
    let rounded: f64 = format!("{number:.5e}").parse().unwrap_or(number);
    // Unlike `Display`, this writes very small numbers with an exponent.
    format!("{rounded:?}")
}
