//! The picture of which settings made for which score.

use super::config::Metric;
use super::ranking::Ranking;
use super::space::{Setting, Values};
use super::values::{as_number, describe};
use crate::Result;
use crate::report::Picture;
use crate::report::parallel::{AxisValues, Best, ParallelAxis, ParallelPlot, parallel_coordinates};

impl Ranking<'_> {
    /// A line for each trial across an axis for each searched setting, to its score.
    ///
    /// # Errors
    /// As [`parallel_coordinates`].
    pub fn picture(&self, title: &str) -> Result<Picture> {
        let metric = self.metric();
        let mut axes: Vec<ParallelAxis> =
            self.sweep().space.settings().iter().map(|setting| self.axis(setting)).collect();
        let scores: Vec<f64> = self.records().iter().map(|record| record.metric.unwrap_or(f64::NAN)).collect();
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
        let values: Vec<_> = self.records().iter().filter_map(|record| record.settings.get(&setting.name)).collect();
        let numbers: Option<Vec<f64>> = values.iter().map(|value| as_number(value)).collect();
        let values = match numbers {
            Some(values) => AxisValues::Numbers { is_log: is_log(&setting.values), values },
            None => AxisValues::Names(values.into_iter().map(describe).collect()),
        };
        ParallelAxis { name: setting.name.clone(), values }
    }
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
