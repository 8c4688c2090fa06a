//! The progress of a sweep.

use std::collections::HashMap;
use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wgrad::Result;
use wgrad::sweep::{Metric, Sweep, SweepObserver, TrialRecord, ranking};
use wgrad::train::EpochReport;

use crate::bars;
use crate::console::{self, Detail};

/// One line per trial, and on a terminal the progress of the running trials below.
pub struct Show {
    detail: Detail,
    metric: Metric,
    bars: MultiProgress,
    /// How many trials are done; hidden unless standard output is a terminal.
    overall: ProgressBar,
    /// The running trials, with the epochs that each trains to.
    running: HashMap<usize, (ProgressBar, u64)>,
    /// The columns of the lines: head and width.
    columns: Vec<(String, usize)>,
    has_head: bool,
    best: Option<f64>,
}

impl Show {
    pub fn new(detail: Detail, sweep: &Sweep, records: &[TrialRecord]) -> Show {
        let metric = sweep.metric();
        let mut columns = vec![("trial".to_owned(), 5)];
        for (index, setting) in sweep.space.settings().iter().enumerate() {
            let texts = sweep.trials.iter().map(|trial| wgrad::sweep::describe(&trial.assignment.0[index].1));
            let width = texts.map(|text| text.chars().count()).max().unwrap_or(0);
            columns.push((setting.name.clone(), width.max(setting.name.chars().count())));
        }
        for name in [metric.short_name(), "best epoch", "epochs", "status"] {
            columns.push((name.to_owned(), name.len().max(8)));
        }
        let live = detail == Detail::Full && io::stdout().is_terminal();
        let target = if live { bars::target() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template("sweep    {bar:24}  {pos} of {len} trials  {elapsed}{msg}");
        let overall = ProgressBar::new(sweep.num_own_trials() as u64);
        let overall = bars.add(overall.with_style(style.expect("the template is a constant that tests show")));
        let mut show =
            Show { detail, metric, bars, overall, running: HashMap::new(), columns, has_head: false, best: None };
        for record in records.iter().filter(|record| !record.rungs.is_empty()) {
            show.overall.inc(1);
            show.weigh(record);
        }
        show
    }

    /// Keeps the best metric.
    fn weigh(&mut self, record: &TrialRecord) {
        let Some(score) = record.metric else { return };
        if self.best.is_none_or(|best| self.metric.cost(score) < self.metric.cost(best)) {
            self.best = Some(score);
            let text =
                format!("  best {} {} (trial {})", self.metric.short_name(), self.metric.text(score), record.trial);
            self.overall.set_message(text);
        }
    }

    fn line(&self, text: &str) -> Result<()> {
        self.bars.suspend(|| console::line(text))
    }

    fn row(&self, cells: &[String]) -> String {
        let cells = cells.iter().zip(&self.columns).map(|(text, (_, width))| format!("{text:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    }

    pub fn finish(&self) {
        // A terminal that takes no more has nothing to be cleared.
        let _ = self.bars.clear();
    }
}

impl SweepObserver for Show {
    fn started(&mut self, trial: usize, epochs: u64) {
        let style = ProgressStyle::with_template("{prefix:<8} {bar:24}  {msg}");
        let bar = ProgressBar::new(1).with_style(style.expect("the template is a constant that tests show"));
        let bar = self.bars.add(bar.with_prefix(format!("trial {trial}")));
        self.running.insert(trial, (bar, epochs));
    }

    fn progress(&mut self, trial: usize, epoch: u64, images_done: usize, images: usize) {
        let Some((bar, epochs)) = self.running.get(&trial) else { return };
        bar.set_length(epochs * images as u64);
        bar.set_position((epoch - 1) * images as u64 + images_done as u64);
        if bar.message().is_empty() {
            bar.set_message(format!("epoch 1 of {epochs}"));
        }
    }

    fn epoch(&mut self, trial: usize, report: &EpochReport) {
        let Some((bar, epochs)) = self.running.get(&trial) else { return };
        let score = self.metric.text(self.metric.of(report));
        let next = (report.epoch + 1).min(*epochs);
        bar.set_message(format!("epoch {next} of {epochs}  {} {score}", self.metric.short_name()));
    }

    fn ended(&mut self, record: &TrialRecord) -> Result<()> {
        if let Some((bar, _)) = self.running.remove(&record.trial) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        // Further rungs are of a trial that was counted at its first.
        self.overall.inc(u64::from(record.rungs.len() == 1));
        self.weigh(record);
        match self.detail {
            Detail::Quiet => Ok(()),
            Detail::Json => console::json(record),
            Detail::Full => {
                if !self.has_head {
                    self.has_head = true;
                    let head: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
                    self.line(&self.row(&head))?;
                }
                self.line(&self.row(&ranking::cells(record, self.metric)))
            }
        }
    }

    fn apart(&mut self, rank: usize) {
        if self.detail == Detail::Full {
            let text = format!("rank {rank} does not see the sweep's folder; what its trials leave is brought there");
            self.bars.suspend(|| console::complain("note", &text));
        }
    }

    fn warn(&mut self, trial: usize, message: &str) {
        if self.detail == Detail::Full {
            self.bars.suspend(|| console::complain("warning", &format!("trial {trial}: {message}")));
        }
    }
}
