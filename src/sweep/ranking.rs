//! Trials ordered by their metric: the table, and the picture of which settings led to which metric.

use super::config::{Metric, Sweep};
use super::ledger::{Status, TrialRecord};
use super::space::{Setting, Values};
use super::values::{as_number, in_words};
use crate::Result;
use crate::report::Picture;
use crate::report::columns;
use crate::report::parallel::{AxisValues, Best, ParallelAxis, ParallelPlot, parallel_coordinates};

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

    /// A line for each trial across an axis for each searched setting, ending at its metric.
    ///
    /// # Errors
    /// As [`parallel_coordinates`].
    pub fn picture(&self, title: &str) -> Result<Picture> {
        let metric = self.sweep.metric();
        let mut axes: Vec<ParallelAxis> =
            self.sweep.space.settings().iter().map(|setting| self.axis(setting)).collect();
        let scores: Vec<f64> = self.records.iter().map(|record| record.metric.unwrap_or(f64::NAN)).collect();
        let finite = || scores.iter().copied().filter(|score| score.is_finite() && *score > 0.0);
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(0.0, f64::max));
        // One bad loss would press all others together.
        let is_log = metric == Metric::ValLoss && high > 4.0 * low;
        axes.push(ParallelAxis {
            name: metric.monitor().to_string(),
            values: AxisValues::Numbers { values: scores, is_log },
        });
        let best = if metric == Metric::ValLoss { Best::Lowest } else { Best::Highest };
        parallel_coordinates(&ParallelPlot { title: title.to_owned(), axes, best })
    }

    fn axis(&self, setting: &Setting) -> ParallelAxis {
        let values: Vec<_> = self.records.iter().filter_map(|record| record.settings.get(&setting.name)).collect();
        let numbers: Option<Vec<f64>> = values.iter().map(|value| as_number(value)).collect();
        let values = match numbers {
            Some(values) => AxisValues::Numbers { is_log: is_log(&setting.values), values },
            None => AxisValues::Names(values.into_iter().map(in_words).collect()),
        };
        ParallelAxis { name: setting.name.clone(), values }
    }
}

/// The cells of a trial from its number on, as in the table's head.
pub fn cells(record: &TrialRecord, metric: Metric) -> Vec<String> {
    let mut row = vec![record.trial.to_string()];
    row.extend(record.settings.0.iter().map(|(_, value)| in_words(value)));
    row.push(record.metric.map_or("–".to_owned(), |value| metric.text(value)));
    row.push(record.best_epoch.map_or("–".to_owned(), |epoch| epoch.to_string()));
    row.push(record.epochs.to_string());
    row.push(record.status.word().to_owned());
    row
}

/// Whether a setting's values are told apart better by their factors than by their differences.
fn is_log(values: &Values) -> bool {
    match values {
        Values::Range(range) => range.is_log(),
        Values::Choices(choices) => {
            let numbers: Vec<f64> = choices.iter().filter_map(as_number).collect();
            let (low, high) =
                numbers.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
            // 32, 64, 128, 256 are meant as doublings.
            low > 0.0 && high >= 8.0 * low
        }
    }
}
