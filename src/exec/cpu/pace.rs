//! Whether a plan is shared among threads or computed by one, chosen by measurement: to hand work over takes from one to
//! some thirty microseconds, as the machine's cores lie and as other programs use them, and a step on a small batch takes
//! little longer. Results are the same either way. A plan is measured as a whole: a thread that one stage leaves idle is
//! slow to come back for the next.

use std::time::Duration;

use web_time::Instant;

use crate::ops::cpu::threads;

/// Runs between two measurements: with the runs of a measurement a hundredth of all, and fractions of a second.
const PERIOD: u32 = 1000;

/// Runs of a measurement: so many shared, so many alone. One after the other, since a thread that has waited through a run
/// alone is parked, and wakes slowly. The fastest of each kind counts: others were interrupted.
const TRIALS_OF_EACH: u32 = 5;
const TRIALS: u32 = 2 * TRIALS_OF_EACH;

/// A plan that takes so long on several threads is worth handing over without any measurement.
const LONG: Duration = Duration::from_millis(2);

/// What is known of a plan.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Runs since the last measurement began.
    runs: u32,
    /// The shortest times of this measurement, shared and alone.
    shared: Duration,
    alone: Duration,
    /// What the last measurement chose.
    is_alone: bool,
}

impl Pace {
    /// Runs the plan.
    pub fn run(&mut self, plan: impl FnOnce()) {
        if self.runs >= TRIALS {
            self.runs = (self.runs + 1) % PERIOD;
            return if self.is_alone { threads::alone(plan) } else { plan() };
        }
        let (is_alone, started) = (self.runs >= TRIALS_OF_EACH, Instant::now());
        if is_alone {
            threads::alone(plan)
        } else {
            plan()
        }
        self.record(is_alone, started.elapsed());
    }

    fn record(&mut self, is_alone: bool, time: Duration) {
        let is_first = self.runs.is_multiple_of(TRIALS_OF_EACH);
        let shortest = if is_alone { &mut self.alone } else { &mut self.shared };
        *shortest = if is_first { time } else { time.min(*shortest) };
        self.runs += 1;
        if !is_alone && time >= LONG {
            (self.is_alone, self.runs) = (false, TRIALS);
        } else if self.runs == TRIALS {
            self.is_alone = self.alone <= self.shared;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(shared: u64, alone: u64) -> Pace {
        let mut pace = Pace::default();
        for run in 0..TRIALS {
            if pace.runs < TRIALS {
                let is_alone = run >= TRIALS_OF_EACH;
                // The first run of each kind is slow, and one more is interrupted.
                let extra = if run.is_multiple_of(TRIALS_OF_EACH) || run == 7 { 100 } else { 0 };
                pace.record(is_alone, Duration::from_micros(extra + if is_alone { alone } else { shared }));
            }
        }
        pace
    }

    #[test]
    fn the_faster_way_is_chosen_by_its_shortest_time() {
        assert!(measured(40, 30).is_alone);
        assert!(!measured(30, 40).is_alone);
        assert!(measured(30, 30).is_alone);
    }

    #[test]
    fn long_plans_are_shared_without_a_trial_alone() {
        let pace = measured(3000, 1);
        assert!(!pace.is_alone && pace.runs == TRIALS && pace.alone == Duration::ZERO);
    }

    #[test]
    fn measurements_come_again() {
        let mut pace = measured(30, 40);
        let mut runs = 0;
        while pace.runs >= TRIALS {
            pace.run(|| runs += 1);
        }
        assert_eq!((pace.runs, runs), (0, PERIOD - TRIALS));
        (0..TRIALS).for_each(|_| pace.run(|| runs += 1));
        assert_eq!((pace.runs, runs), (TRIALS, PERIOD));
    }
}
