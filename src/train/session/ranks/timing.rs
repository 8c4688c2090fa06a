//! When in a batch the gradients are complete that ranks exchange: what a prediction for several ranks is made from.

use web_time::{Duration, Instant};

use super::super::Session;
use super::super::inspect::first_step;
use super::parameters_by_bucket;
use crate::Result;
use crate::dist::scaling::Bucket;
use crate::exec::exchange::{Final, Watch};
use crate::graph::plan::Plan;
use crate::optim::gradient_sum;

/// When each part was final.
struct Clock {
    started: Instant,
    finals: Vec<(usize, Duration)>,
}

impl Watch for Clock {
    fn is_final(&mut self, part: usize, _states: Final<'_>) -> Result<()> {
        self.finals.push((part, self.started.elapsed()));
        Ok(())
    }

    fn stage_done(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Session {
    /// The buckets that ranks would exchange, in the order in which a batch completes them, and how long before its end
    /// that is: medians of `repeats` first batches at a learning rate of 0, so that weights stay. `plan` is the training
    /// step's of [`Session::plans`], which tells buckets apart before a device has made it its own.
    ///
    /// # Errors
    /// [`crate::Error::UnknownName`] without accumulation, under which nothing is exchanged; [`crate::Error::DeviceLost`].
    pub fn time_buckets(&mut self, plan: &Plan, repeats: usize) -> Result<Vec<Bucket>> {
        let (entry, batch_size, ..) = self.train.entries().swap_remove(0);
        let table = first_step(&self.train, &self.update, batch_size, 0.0);
        let names = parameters_by_bucket(plan).into_iter();
        let sums = names.map(|names| names.iter().map(|name| gradient_sum(name, 0)).collect());
        let sums = self.program.group_in_parts(sums)?;
        let mut left = vec![Vec::new(); sums.num_parts()];
        for _ in 0..repeats.max(1) {
            let mut clock = Clock { started: Instant::now(), finals: Vec::new() };
            self.program.run_watched(&entry, &table, &sums, &mut clock)?;
            let end = clock.started.elapsed();
            clock.finals.iter().for_each(|&(part, at)| left[part].push(end.saturating_sub(at)));
        }
        let bucket = |(part, mut left): (usize, Vec<Duration>)| {
            left.sort_unstable();
            let seconds_left = left[left.len() / 2].as_secs_f64() / batch_size as f64;
            Bucket { bytes: sums.bytes_of(part).len() as f64, seconds_left }
        };
        let mut buckets: Vec<Bucket> = left.into_iter().enumerate().map(bucket).collect();
        buckets.sort_by(|one, next| next.seconds_left.total_cmp(&one.seconds_left));
        Ok(buckets)
    }
}
