//! Whether a plan is shared among threads or computed by one, chosen by measurement: to hand work over takes from one to
//! some thirty microseconds, as the machine's cores lie and as other programs use them, and a step on a small batch takes
//! little longer. Results are the same either way. A plan is measured as a whole: a thread that one stage leaves idle is
//! slow to come back for the next.

use std::time::Duration;

use web_time::Instant;

use crate::ops::cpu::threads;

/// Runs until the choice is first tested, and again after each time it changes, so that another program that was busy for a
/// moment costs little more than that moment.
const SOON: u32 = 50;
/// Each test that confirms the choice doubles the time to the next one, up to this many runs: fractions of a second.
const RARELY: u32 = 1600;

/// Runs of a trial: so many shared, so many alone. One after the other, since a thread that has waited through a run
/// alone is parked, and wakes slowly. The fastest of each kind counts: others were interrupted.
const TRIALS_OF_EACH: u32 = 5;
const TRIALS: u32 = 2 * TRIALS_OF_EACH;

/// A plan that takes so long on several threads is worth handing over without any trial.
const LONG: Duration = Duration::from_millis(2);

/// What is known of a plan.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Runs of this trial, and runs until the next one.
    tried: u32,
    left: u32,
    /// What `left` was after the last trial.
    period: u32,
    /// The shortest times of this trial, shared and alone.
    shared: Duration,
    alone: Duration,
    /// What the last trial chose.
    is_alone: bool,
}

impl Pace {
    /// Runs the plan.
    pub fn run(&mut self, plan: impl FnOnce()) {
        if self.left > 0 {
            self.left -= 1;
            return if self.is_alone { threads::alone(plan) } else { plan() };
        }
        let (is_alone, started) = (self.tried >= TRIALS_OF_EACH, Instant::now());
        if is_alone {
            threads::alone(plan)
        } else {
            plan()
        }
        self.record(is_alone, started.elapsed());
    }

    fn record(&mut self, is_alone: bool, time: Duration) {
        let is_first = self.tried.is_multiple_of(TRIALS_OF_EACH);
        let shortest = if is_alone { &mut self.alone } else { &mut self.shared };
        *shortest = if is_first { time } else { time.min(*shortest) };
        self.tried += 1;
        if self.tried == TRIALS_OF_EACH && self.shared >= LONG {
            self.choose(false);
        } else if self.tried == TRIALS {
            self.choose(self.alone <= self.shared);
        }
    }

    fn choose(&mut self, is_alone: bool) {
        let is_confirmed = self.period > 0 && is_alone == self.is_alone;
        self.period = if is_confirmed { RARELY.min(2 * self.period) } else { SOON };
        (self.is_alone, self.tried, self.left) = (is_alone, 0, self.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records a whole trial.
    fn measure(pace: &mut Pace, shared: u64, alone: u64) {
        for run in 0..TRIALS {
            let is_alone = run >= TRIALS_OF_EACH;
            // The first run of each kind is slow, and one more is interrupted.
            let extra = if run.is_multiple_of(TRIALS_OF_EACH) || run == 7 { 100_000 } else { 0 };
            pace.record(is_alone, Duration::from_micros(extra + if is_alone { alone } else { shared }));
        }
    }

    fn measured(shared: u64, alone: u64) -> Pace {
        let mut pace = Pace::default();
        measure(&mut pace, shared, alone);
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
        let mut pace = Pace::default();
        (0..TRIALS_OF_EACH).for_each(|_| pace.record(false, Duration::from_millis(3)));
        assert!(!pace.is_alone && pace.left == SOON && pace.alone == Duration::ZERO);
    }

    #[test]
    fn trials_come_again_soon_after_a_change_and_rarely_where_nothing_changes() {
        let mut pace = measured(30, 40);
        let mut periods = vec![pace.left];
        for _ in 0..7 {
            measure(&mut pace, 30, 40);
            periods.push(pace.left);
        }
        assert_eq!(periods, [50, 100, 200, 400, 800, 1600, 1600, 1600]);
        measure(&mut pace, 40, 30);
        assert!(pace.is_alone && pace.left == SOON);
    }

    #[test]
    fn every_run_runs_the_plan_and_a_trial_follows_when_its_time_has_come() {
        let (mut pace, mut runs) = (measured(30, 40), 0);
        (0..SOON).for_each(|_| pace.run(|| runs += 1));
        assert_eq!((pace.left, pace.tried), (0, 0));
        (0..TRIALS).for_each(|_| pace.run(|| runs += 1));
        assert_eq!((runs, pace.tried), (SOON + TRIALS, 0));
        assert!(pace.left == SOON || pace.left == 2 * SOON);
    }
}
