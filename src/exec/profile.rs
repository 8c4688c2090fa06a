//! Where the time of a step goes, op by op. Each op is run and waited for on its own, so on a GPU its cost of being
//! submitted is in the number; the headline speed is a whole run's.

use web_time::{Duration, Instant};

use super::{Program, StepTable, step_count};
use crate::Result;
use crate::ops::kernel::Cost;

/// One op's share of a step.
#[derive(Clone, Debug)]
pub struct OpTime {
    /// The layer and the op.
    pub label: String,
    /// The median over all repeats.
    pub median: Duration,
    /// The mean over all repeats: of use where the clock counts in steps longer than an op, as a browser's does.
    pub mean: Duration,
    /// What the op has to compute and move.
    pub cost: Cost,
}

impl Program {
    /// Times every op of an entry over `repeats` runs under the first row of `table`. Updates of states happen.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile(&mut self, entry: &str, table: &StepTable, repeats: usize) -> Result<Vec<OpTime>> {
        let index = self.entry(entry)?;
        let table = step_count::select(&self.plans[index], table, None)?;
        let num_steps = self.plans[index].steps.len();
        let mut times = vec![Vec::new(); num_steps];
        for _ in 0..repeats.max(1) {
            for (step, times) in times.iter_mut().enumerate() {
                let started = Instant::now();
                self.executor.run_op(index, step, &table)?;
                times.push(started.elapsed());
            }
        }
        let steps = self.plans[index].steps.iter().zip(times);
        Ok(steps
            .map(|(step, mut times)| {
                times.sort_unstable();
                // Repeats are far fewer than 2^32.
                let mean = times.iter().sum::<Duration>() / times.len() as u32;
                OpTime { label: step.label(), median: times[times.len() / 2], mean, cost: step.cost() }
            })
            .collect())
    }
}
