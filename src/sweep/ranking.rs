//! Trials ordered by their metric, and their table.

use super::config::{Metric, Sweep};
use super::ledger::{Status, TrialRecord};
use super::values::describe;
use crate::columns::columns;

/// Trials, the best first; those without a metric last.
#[derive(Clone, Debug)]
pub struct Ranking<'a> {
    sweep: &'a Sweep,
    records: Vec<&'a TrialRecord>,
}

impl<'a> Ranking<'a> {
    /// Ranks trials. Of equals the one that started first is first.
    pub fn of(sweep: &'a Sweep, records: &'a [TrialRecord]) -> Ranking<'a> {
        let mut records: Vec<&TrialRecord> = records.iter().collect();
        let cost = |record: &TrialRecord| record.metric.map_or(f64::INFINITY, |metric| sweep.metric().cost(metric));
        records.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.trial.cmp(&b.trial)));
        Ranking { sweep, records }
    }

    /// What was searched.
    pub fn sweep(&self) -> &'a Sweep {
        self.sweep
    }

    /// The trials in order.
    pub fn records(&self) -> &[&'a TrialRecord] {
        &self.records
    }

    /// What they are ranked by.
    pub fn metric(&self) -> Metric {
        self.sweep.metric()
    }

    /// The best trial; `None` if none has a metric.
    pub fn best(&self) -> Option<&'a TrialRecord> {
        self.records.first().copied().filter(|record| record.metric.is_some())
    }

    /// How many trials stand like this.
    pub fn count(&self, status: Status) -> usize {
        self.records.iter().filter(|record| record.status == status).count()
    }

    /// The table's head: rank, trial, the searched settings, the metric, epochs, status.
    pub fn head(&self) -> Vec<String> {
        let mut head = vec!["rank".to_owned(), "trial".to_owned()];
        head.extend(self.sweep.space.settings().iter().map(|setting| setting.name.clone()));
        head.extend([self.sweep.metric().short_name(), "best epoch", "epochs", "status"].map(str::to_owned));
        head
    }

    /// The table's rows, as many cells in each as the head has.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let ranked = self.records.iter().enumerate();
        ranked
            .map(|(index, record)| {
                let rank = if record.metric.is_some() { (index + 1).to_string() } else { "–".to_owned() };
                let mut row = vec![rank];
                row.extend(cells(record, self.sweep.metric()));
                row
            })
            .collect()
    }

    /// The table in columns for a terminal.
    pub fn table(&self) -> String {
        let mut rows = vec![self.head()];
        rows.extend(self.rows());
        columns(&rows)
    }
}

/// The cells of a trial from its number on, as in the table's head.
pub fn cells(record: &TrialRecord, metric: Metric) -> Vec<String> {
    let mut row = vec![record.trial.to_string()];
    row.extend(record.settings.0.iter().map(|(_, value)| describe(value)));
    row.push(record.metric.map_or("–".to_owned(), |value| metric.text(value)));
    row.push(record.best_epoch.map_or("–".to_owned(), |epoch| epoch.to_string()));
    row.push(record.epochs.to_string());
    row.push(record.status.word().to_owned());
    row
}
