//! `lenet sweep`: hyperparameter search, its progress and its result.

mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use wgrad::sweep::{
    Assignment, Finish, Method, Ranking, RunOptions, Setting, Share, Status, Sweep, SweepConfig, SweepFolder,
    TrialRecord, Values, WorkOptions, default_jobs, write_results,
};
use wgrad::{Device, Error, Result};

use crate::console::{self, Detail};
use crate::ranks::Ranks;
use crate::signals::Signals;
use crate::words::counted;
use show::Show;

/// A search over settings.
#[derive(Args)]
pub struct SweepOptions {
    /// What to search: a TOML file with tables search (method, num_trials, seed, metric, …), base (settings of all
    /// trials, as in a run's config.toml) and space (settings with choices or ranges)
    #[arg(value_name = "FILE", required_unless_present_any = ["resume", "merge"], conflicts_with_all = ["resume", "merge"])]
    file: Option<PathBuf>,
    /// Resume a sweep that was stopped or killed; the ranking is the same as without the interruption
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["method", "trials", "seed", "epochs", "device", "out"])]
    resume: Option<PathBuf>,
    /// Merge the folders of a sweep's shares (--only) into one, with the ranking that a single process would give
    #[arg(long, value_name = "FOLDERS", num_args = 1.., conflicts_with_all = ["resume", "method", "trials", "seed", "epochs", "jobs", "side_by_side", "device"])]
    merge: Vec<PathBuf>,
    /// Every combination, random ones, or random ones of which only the best train for long (asynchronous successive
    /// halving) [default: what the file says, or random]
    #[arg(long, value_name = "NAME", help_heading = "Search")]
    method: Option<MethodName>,
    /// Number of trials [default: what the file says; 20, or all of a grid]
    #[arg(long, value_name = "N", help_heading = "Search")]
    trials: Option<usize>,
    /// Seed of the random configurations [default: what the file says, or 0]
    #[arg(long, value_name = "N", help_heading = "Search")]
    seed: Option<u64>,
    /// Maximum number of epochs of a trial [default: what the file says, or 30]
    #[arg(long, value_name = "N", help_heading = "Search")]
    epochs: Option<u64>,
    /// Train only every Nth trial, from trial K on, such as 2/8: for the jobs of a Slurm array or GNU parallel, whose
    /// folders --merge combines
    #[arg(long, value_name = "K/N", conflicts_with_all = ["resume", "merge"], help_heading = "Run")]
    only: Option<String>,
    /// Number of trials to train in parallel; they share the CPU's threads. Neither the trials nor their results depend on it
    /// [default: what the file says, or one per thread on the CPU and 1 on a GPU]
    #[arg(long, value_name = "N", help_heading = "Run")]
    jobs: Option<usize>,
    /// Maximum number of trials to train side by side on a GPU, in the same dispatches, each with its own settings, seed and stopping.
    /// Trials that differ in what kernels compute or in batch size take turns. Each trial gives the same result as alone [default:
    /// what the file says, or as many as are expected to pay]
    #[arg(long, value_name = "K", conflicts_with = "jobs", help_heading = "Run")]
    side_by_side: Option<usize>,
    /// What to compute on, as for `lenet train`; WGRAD_DEVICE is the default where the file says nothing [default:
    /// auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    device: Option<String>,
    /// The parent folder of the sweep's folder
    #[arg(long, value_name = "DIR", default_value = "sweeps", help_heading = "Output")]
    out: PathBuf,
    /// Print only the result
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    quiet: bool,
    /// Print only JSON: one object per line whenever a trial ends or pauses, and one for the result
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum MethodName {
    Grid,
    Random,
    Asha,
}

pub fn run(options: SweepOptions) -> Result<ExitCode> {
    if !options.merge.is_empty() || options.only.is_some() {
        // Processes that divide a sweep this way know nothing of each other, whatever started them.
        return search(options, &mut Ranks::alone());
    }
    let mut ranks = Ranks::join()?;
    let searched = search(options, &mut ranks);
    ranks.conclude(searched)
}

/// A rank that trains what the first hands out.
fn work(options: &SweepOptions, ranks: &mut Ranks) -> Result<ExitCode> {
    // The first rank opens or makes the folder, and says which device.
    ranks.all_ok(Ok(()))?;
    let device = ranks.text_of_first("")?;
    let (device, _) = ranks.all_ok(Device::select_with_reason(&device))?;
    // The first rank checks the flags against it.
    ranks.all_ok(Ok(()))?;
    // Here the signal of a closed terminal is the first rank's to act on.
    let _signals = Signals::listen()?;
    // Where the sweep's folder would be.
    let out = options.resume.as_deref().map_or(Some(options.out.as_path()), Path::parent).unwrap_or(Path::new("/"));
    let (jobs, side_by_side) = (options.jobs.unwrap_or(1), options.side_by_side);
    let work = WorkOptions { jobs, side_by_side, ..WorkOptions::new(&device, out) };
    wgrad::sweep::work(ranks.comm().as_mut(), work)?;
    Ok(ExitCode::SUCCESS)
}

fn search(options: SweepOptions, ranks: &mut Ranks) -> Result<ExitCode> {
    for (flag, value) in [("--jobs", options.jobs), ("--side-by-side", options.side_by_side)] {
        if value == Some(0) {
            return Err(usage(flag, "at least 1", "0"));
        }
    }
    ranks.agree(&[])?;
    if !ranks.is_first() {
        return work(&options, ranks);
    }
    let detail = match (options.quiet, options.json) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Json,
        _ => Detail::Full,
    };
    let jobs = options.jobs;
    if !options.merge.is_empty() {
        let folder = SweepFolder::merge(&options.out, &options.merge)?;
        write_results(&folder)?;
        tell_missing(&folder, detail)?;
        return conclude(&folder, detail);
    }
    let mut folder = ranks.all_ok(match &options.resume {
        Some(folder) => SweepFolder::open(folder),
        None => create(&options),
    })?;
    ranks.text_of_first(&folder.sweep().base.device)?;
    let (device, reason) = ranks.all_ok(Device::select_with_reason(&folder.sweep().base.device))?;
    let mut at_a_time = ranks.all_ok(AtATime::new((jobs, options.side_by_side), folder.sweep(), &device))?;
    if ranks.size() > 1 {
        // Each of the others trains one at a time if not told otherwise.
        at_a_time.jobs = jobs.unwrap_or(1);
    }
    if detail == Detail::Full {
        console::line(format!("device    {device}: {reason}"))?;
        introduce(folder.sweep(), at_a_time, ranks.size(), folder.records())?;
        console::line(format!("folder    {}\n", folder.path().display()))?;
    }
    let sweep = folder.sweep().clone();
    let mut show = Show::new(detail, &sweep, folder.records());
    let signals = Signals::listen()?;
    let stop = || signals.any();
    let finish = match ranks.size() {
        1 => {
            let AtATime { jobs, side_by_side } = at_a_time;
            folder.run(RunOptions { device: &device, jobs, side_by_side, stop: &stop }, &mut show)?
        }
        _ => folder.run_among(ranks.comm().as_mut(), &stop, &mut show)?,
    };
    show.finish();
    if finish == Finish::Stopped {
        let num_done = folder.records().iter().filter(|record| record.status != Status::Running).count();
        let (sweep, trials) = (folder.path(), folder.sweep().trials.len());
        if detail == Detail::Json {
            console::json(&Interrupted { interrupted: true, done: num_done, trials, sweep })?;
        }
        let text = format!(
            "{num_done} of {trials} trials are done, and those under way are saved; resume with: lenet sweep --resume {}",
            sweep.display()
        );
        console::complain("interrupted", &text);
        return Ok(signals.exit_code());
    }
    write_results(&folder)?;
    conclude(&folder, detail)
}

/// How many trials are trained at a time.
#[derive(Clone, Copy)]
struct AtATime {
    jobs: usize,
    side_by_side: Option<usize>,
}

impl AtATime {
    /// By the flags, or what the sweep's file says.
    fn new((jobs, side_by_side): (Option<usize>, Option<usize>), sweep: &Sweep, device: &Device) -> Result<AtATime> {
        let search = &sweep.config.search;
        // Of the two ways to train several at a time the one that a flag names; without one, what the file says.
        let is_said = jobs.is_some() || side_by_side.is_some();
        let (jobs, wanted) = if is_said { (jobs, side_by_side) } else { (search.jobs, search.side_by_side) };
        if let (Some(count @ 2..), false) = (wanted, matches!(device, Device::Gpu(_))) {
            let flag = if side_by_side.is_some() { "--side-by-side" } else { "search.side_by_side" };
            let expected =
                "a GPU, where trials run in the same dispatches; on the CPU, --jobs trains several at a time";
            return Err(usage(flag, expected, &format!("{count} trials on {device}")));
        }
        let jobs = jobs.unwrap_or_else(|| default_jobs(device));
        let most = sweep.num_own_trials().max(1);
        Ok(AtATime { jobs: jobs.clamp(1, most), side_by_side: wanted.map(|count| count.clamp(1, most)) })
    }
}

/// The share that `--only` names.
fn share(text: &str) -> Result<Share> {
    text.parse().map_err(|error| match error {
        Error::Setting { expected, got, .. } => usage("--only", &expected, &got),
        other => other,
    })
}

/// Says which trials a merged sweep lacks.
fn tell_missing(folder: &SweepFolder, detail: Detail) -> Result<()> {
    let is_done = |trial: usize| folder.records().iter().any(|r| r.trial == trial && r.status != Status::Running);
    let missing: Vec<String> =
        (1..=folder.sweep().trials.len()).filter(|&trial| !is_done(trial)).map(|trial| trial.to_string()).collect();
    if !missing.is_empty() && detail != Detail::Json {
        let resume = format!("train them with: lenet sweep --resume {}", folder.path().display());
        console::complain("warning", &format!("trials not done: {}; {resume}", missing.join(", ")));
    }
    Ok(())
}

fn create(options: &SweepOptions) -> Result<SweepFolder> {
    let file = options.file.as_deref().ok_or_else(|| usage("FILE", "a sweep in TOML", "nothing"))?;
    let mut config = SweepConfig::load(file)?;
    let search = &mut config.search;
    if let Some(method) = options.method {
        search.method = match method {
            MethodName::Grid => Method::Grid,
            MethodName::Random => Method::Random,
            MethodName::Asha => Method::Asha,
        };
        if search.method == Method::Grid {
            // A number of random trials in the file says nothing about a grid.
            search.num_trials = None;
        }
    }
    search.num_trials = options.trials.or(search.num_trials);
    search.seed = options.seed.unwrap_or(search.seed);
    if options.jobs.is_some() || options.side_by_side.is_some() {
        // Of the two ways to train several at a time the one that a flag names.
        (search.jobs, search.side_by_side) = (options.jobs, options.side_by_side);
    }
    search.only = options.only.as_deref().map(share).transpose()?.or(search.only);
    if let Some(epochs) = options.epochs {
        search.max_epochs = None;
        let epochs =
            i64::try_from(epochs).map_err(|_| usage("--epochs", "a number below 2^63", &epochs.to_string()))?;
        config.base.insert("epochs".to_owned(), epochs.into());
    }
    let variable = || std::env::var("WGRAD_DEVICE").ok().filter(|device| !device.is_empty());
    let unsaid = if config.base.contains_key("device") { None } else { variable() };
    if let Some(device) = options.device.clone().or(unsaid) {
        config.base.insert("device".to_owned(), device.into());
    }
    let suffix = config.search.only.map_or(String::new(), Share::suffix);
    let sweep = Sweep::new(config)?;
    // Before there is a folder, so that a mistake leaves none.
    let (device, _) = Device::select_with_reason(&sweep.base.device)?;
    AtATime::new((options.jobs, options.side_by_side), &sweep, &device)?;
    let name = file.file_stem().map_or("sweep".to_owned(), |stem| stem.to_string_lossy().into_owned());
    SweepFolder::create(&options.out, &format!("{name}{suffix}"), sweep)
}

fn usage(option: &str, expected: &str, got: &str) -> Error {
    Error::Setting { setting: option.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

fn introduce(sweep: &Sweep, at_a_time: AtATime, num_ranks: usize, records: &[TrialRecord]) -> Result<()> {
    let AtATime { jobs, side_by_side } = at_a_time;
    let (search, num_trials, epochs) = (&sweep.config.search, sweep.trials.len(), sweep.base.epochs);
    let [trials, epochs] = [counted(num_trials as u64, "trial"), counted(epochs, "epoch")];
    let how = match search.method {
        Method::Grid => format!("every combination: {trials} of at most {epochs}"),
        Method::Random => format!("random: {trials} of at most {epochs}"),
        Method::Asha => {
            let rungs: Vec<String> = sweep.search()?.rungs().iter().map(u64::to_string).collect();
            let share = search.reduction_factor;
            format!("successive halving: {trials}, 1 in {share} continues after epochs {}", rungs.join(", "))
        }
    };
    let side = if let Some(workers) = num_ranks.checked_sub(1).filter(|workers| *workers > 0) {
        let each = match (jobs, side_by_side) {
            (jobs @ 2.., _) => format!(", {jobs} at a time on each"),
            (_, Some(count @ 2..)) => format!(", up to {count} side by side on each"),
            _ => String::new(),
        };
        format!(", trained by {workers} other ranks{each}")
    } else if jobs > 1 {
        format!(", {jobs} at a time")
    } else if let Some(count @ 2..) = side_by_side {
        format!(", up to {count} side by side")
    } else {
        String::new()
    };
    let own = search.only.map_or(String::new(), |share| format!(", of which {} ({share})", sweep.num_own_trials()));
    console::line(format!("search    {how}{own}, by {}{side}", sweep.metric().monitor()))?;
    for (index, Setting { name, values }) in sweep.space.settings().iter().enumerate() {
        let title = if index == 0 { "space" } else { "" };
        let values = match values {
            Values::Range(range) => range.to_string(),
            Values::Choices(choices) => choices.iter().map(wgrad::sweep::describe).collect::<Vec<_>>().join(" | "),
        };
        console::line(format!("{title:<8}  {name}: {values}"))?;
    }
    if !records.is_empty() {
        let num_done = records.iter().filter(|record| record.status != Status::Running).count();
        console::line(format!("resumed   {num_done} of {num_trials} trials are done"))?;
    }
    Ok(())
}

fn conclude(folder: &SweepFolder, detail: Detail) -> Result<ExitCode> {
    let ranking = Ranking::of(folder.sweep(), folder.records());
    let metric = ranking.metric();
    let path = folder.path();
    if detail == Detail::Json {
        let best = ranking.best();
        console::json(&FinalLine {
            best_trial: best.map(|best| best.trial),
            metric: best.and_then(|best| best.metric),
            settings: best.map(|best| &best.settings),
            config: best.map(|_| path.join("best.toml").display().to_string()),
            trials: ranking.records().len(),
            failed: ranking.count(Status::Failed),
            sweep: path,
        })?;
    } else {
        console::line(format!("{}{}", if detail == Detail::Full { "\n" } else { "" }, ranking.table()))?;
    }
    let Some(best) = ranking.best() else {
        console::complain("error", "every trial failed, so there is no best configuration; trials.jsonl says why");
        return Ok(ExitCode::FAILURE);
    };
    if detail != Detail::Json {
        let score = best.metric.map(|score| metric.text(score)).unwrap_or_default();
        let test = best.test_accuracy.map(|accuracy| format!("; test accuracy {}", console::percent(accuracy)));
        let (name, test) = (metric.monitor(), test.unwrap_or_default());
        console::line(format!("best      trial {}: {}", best.trial, best.settings.describe()))?;
        console::line(format!("          {name} {score} after epoch {}{test}", best.best_epoch.unwrap_or_default()))?;
        console::line(format!("sweep     {}", path.display()))?;
        console::line(format!("report    {}", path.join("report.html").display()))?;
        console::line(format!("train     lenet train --config {}", path.join("best.toml").display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The last line of `--json` of a sweep that was interrupted.
#[derive(Serialize)]
struct Interrupted<'a> {
    interrupted: bool,
    /// Trials that reached their budget.
    done: usize,
    trials: usize,
    #[serde(serialize_with = "console::path")]
    sweep: &'a Path,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct FinalLine<'a> {
    best_trial: Option<usize>,
    metric: Option<f64>,
    settings: Option<&'a Assignment>,
    config: Option<String>,
    trials: usize,
    failed: usize,
    #[serde(serialize_with = "console::path")]
    sweep: &'a Path,
}
