//! A schedule meets its run: lengths that were left open become those of the run, and a cycle that ends before the run
//! is refused.

use super::{Interval, Kind, Schedule, sequence};
use crate::{Error, Result};

impl Schedule {
    /// The schedule of a run of so many epochs with so many optimizer steps each. A `T_max` or `total_steps` that was
    /// left open becomes the steps that the run has left for it, counted in units of [`interval`](Self::interval);
    /// everything else stays, so doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the argument: as [`check_num_steps`](Self::check_num_steps), and where the schedules
    /// before an open one leave nothing of the run.
    pub fn for_run(&self, epochs: u64, steps_per_epoch: u64) -> Result<Schedule> {
        let num_steps = match self.interval {
            Interval::Epoch => epochs,
            Interval::Batch => epochs.saturating_mul(steps_per_epoch),
        };
        let schedule = self.filling(num_steps)?;
        schedule.check_num_steps(num_steps)?;
        Ok(schedule)
    }

    /// Checks that the schedule covers a run of `num_steps` steps, in units of [`interval`](Self::interval): one-cycle
    /// ends after its `total_steps`, where PyTorch raises an error in the middle of the run.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `total_steps`.
    pub fn check_num_steps(&self, num_steps: u64) -> Result<()> {
        match &self.kind {
            Kind::OneCycle(options) => match options.total_steps {
                Some(total_steps) if num_steps > total_steps => {
                    let expected = format!("at least the {num_steps} steps of the run");
                    Err(Error::setting("total_steps", expected, total_steps))
                }
                _ => Ok(()),
            },
            Kind::Sequential { schedules, milestones } => sequence::spans(milestones, num_steps)
                .zip(schedules)
                .try_for_each(|(len, part)| part.check_num_steps(len)),
            _ => Ok(()),
        }
    }

    /// Whether a step of it sets the momentum too.
    pub fn cycles_momentum(&self) -> bool {
        match &self.kind {
            Kind::OneCycle(options) => options.cycle_momentum,
            Kind::Sequential { schedules, .. } => schedules.iter().any(Schedule::cycles_momentum),
            _ => false,
        }
    }

    /// The schedule, as long as `num_steps` steps where it was left open.
    fn filling(&self, num_steps: u64) -> Result<Schedule> {
        let fill = |argument: &str, len: &mut Option<u64>| match (*len, num_steps) {
            (Some(_), _) => Ok(()),
            (None, 0) => Err(Error::setting(argument, "a part of the run, behind the schedules before it", "nothing")),
            (None, _) => {
                *len = Some(num_steps);
                Ok(())
            }
        };
        let mut schedule = self.clone();
        match &mut schedule.kind {
            Kind::Cosine { t_max, .. } => fill("T_max", t_max)?,
            Kind::OneCycle(options) => fill("total_steps", &mut options.total_steps)?,
            Kind::Sequential { schedules, milestones } => {
                for (len, part) in sequence::spans(milestones, num_steps).zip(schedules) {
                    *part = part.filling(len)?;
                }
            }
            _ => {}
        }
        // One-cycle's rise depends on its length.
        schedule.kind.validate()?;
        Ok(schedule)
    }
}
