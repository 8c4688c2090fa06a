//! A schedule meets its run: lengths that were left open become those of the run, and a schedule that does not go with
//! the run is refused.

use super::curve::Steps;
use super::{Base, Interval, Schedule};
use crate::{Error, Result};

impl Schedule {
    /// The schedule of a run of so many epochs with so many optimizer steps each. A length that was left open (cosine's
    /// `t_max`, one-cycle's `total_steps`, `total_iters` of linear and polynomial) is that of the run, less what comes
    /// before the schedule. It stays open: for a run of another length the schedule has another.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `warmup` where it leaves nothing of the run, `total_steps` where one-cycle ends before
    /// the run (PyTorch raises an error in the middle of it), and the open length of a part of a sequence that the run
    /// ends before.
    pub fn for_run(&self, epochs: u64, steps_per_epoch: u64) -> Result<Schedule> {
        self.spanning(self.steps_of(epochs, steps_per_epoch))
    }

    /// What a change of a run's epochs changes of its schedule, in a sentence: "cosine now ends at epoch 12 instead of 9".
    /// `None` where all lengths were given, or nothing changes.
    pub fn change_of_end(&self, epochs_before: u64, epochs: u64, steps_per_epoch: u64) -> Option<String> {
        if epochs_before == epochs {
            return None;
        }
        let [before, now] = [epochs_before, epochs].map(|epochs| self.steps_of(epochs, steps_per_epoch));
        let name = self.open_at_end(now)?;
        let unit = Steps { interval: self.interval(), num_steps: None }.one();
        Some(format!("{name} now ends at {unit} {now} instead of {before}"))
    }

    /// The schedule in a run with so many steps for it.
    pub(super) fn spanning(&self, num_steps: u64) -> Result<Schedule> {
        let steps = Steps { interval: self.interval(), num_steps: None };
        // A part of a sequence may have no step at all where the run is shorter.
        if self.warmup > 0 && self.warmup >= num_steps && num_steps > 0 {
            let expected = format!("fewer than the {} of the run", steps.times(num_steps));
            return Err(Error::setting("warmup", expected, self.warmup));
        }
        let own_steps = num_steps.saturating_sub(self.warmup);
        let mut schedule = Schedule { num_steps: Some(num_steps), ..self.clone() };
        match &mut schedule.base {
            Base::Kind(kind) => {
                let curve = kind.get();
                if let (0, Some(argument)) = (own_steps, curve.open_length()) {
                    return Err(Error::setting(
                        argument,
                        "a part of the run, after the schedules before it",
                        "nothing",
                    ));
                }
                curve.check_num_steps(own_steps)?;
            }
            Base::Sequence(sequence) => *sequence = sequence.spanning(own_steps)?,
            Base::Lambda(_) => {}
        }
        Ok(schedule)
    }

    /// The name of the schedule that is active at the end of a run of so many steps, if its length was left open.
    fn open_at_end(&self, num_steps: u64) -> Option<&'static str> {
        match &self.base {
            Base::Kind(kind) => kind.get().open_length().map(|_| kind.name()),
            Base::Sequence(sequence) => {
                let last_step = num_steps.checked_sub(self.warmup + 1)?;
                let (active, step) = sequence.active(last_step);
                active.open_at_end(step + 1)
            }
            Base::Lambda(_) => None,
        }
    }

    fn steps_of(&self, epochs: u64, steps_per_epoch: u64) -> u64 {
        match self.interval() {
            Interval::Epoch => epochs,
            Interval::Batch => epochs.saturating_mul(steps_per_epoch),
        }
    }
}
