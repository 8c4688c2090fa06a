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

/// Runs of a trial, first shared and then alone: so many of each, and more up to a limit until that has taken a while. One
/// after the other, since a thread that has waited through a run alone is parked, and wakes slowly, the later the busier
/// its machine is. Of each kind the lower quartile counts: the slowest were interrupted, and the fastest lucky.
const LEAST_TRIALS: usize = 5;
const MOST_TRIALS: usize = 20;
const TRIAL: Duration = Duration::from_millis(2);

/// A plan that takes so long on several threads is worth handing over without any trial.
const LONG: Duration = Duration::from_millis(2);

/// What is known of a plan.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long the runs of this trial took so far, of the kind that is tried, and whether that is alone.
    times: [Duration; MOST_TRIALS],
    tried: usize,
    tries_alone: bool,
    /// What running shared took.
    shared: Duration,
    /// Runs until the next trial.
    left: u32,
    /// What `left` was after the last trial.
    period: u32,
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
        let (is_alone, started) = (self.tries_alone, Instant::now());
        if is_alone {
            threads::alone(plan)
        } else {
            plan()
        }
        self.record(started.elapsed());
    }

    /// Takes the time of a run of a trial.
    fn record(&mut self, time: Duration) {
        self.times[self.tried] = time;
        self.tried += 1;
        let times = &mut self.times[..self.tried];
        let is_enough = times.len() >= LEAST_TRIALS && times.iter().sum::<Duration>() >= TRIAL;
        if !is_enough && times.len() < MOST_TRIALS {
            return;
        }
        times.sort_unstable();
        let quartile = times[times.len() / 4];
        self.tried = 0;
        if self.tries_alone {
            self.choose(quartile <= self.shared);
        } else if quartile >= LONG {
            self.choose(false);
        } else {
            (self.shared, self.tries_alone) = (quartile, true);
        }
    }

    fn choose(&mut self, is_alone: bool) {
        let is_confirmed = self.period > 0 && is_alone == self.is_alone;
        self.period = if is_confirmed { RARELY.min(2 * self.period) } else { SOON };
        (self.is_alone, self.tries_alone, self.left) = (is_alone, false, self.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records a whole trial.
    fn measure(pace: &mut Pace, shared: u64, alone: u64) {
        pace.left = 0;
        while pace.left == 0 {
            // The first run of each kind is slow, the third interrupted, and the fourth lucky.
            let micros = if pace.tries_alone { alone } else { shared };
            let micros = match pace.tried {
                0 | 2 => micros + 1_000,
                3 if !pace.tries_alone => 1,
                _ => micros,
            };
            pace.record(Duration::from_micros(micros));
        }
    }

    fn measured(shared: u64, alone: u64) -> Pace {
        let mut pace = Pace::default();
        measure(&mut pace, shared, alone);
        pace
    }

    #[test]
    fn the_faster_way_is_chosen_whatever_a_few_runs_took() {
        assert!(measured(40, 30).is_alone);
        assert!(!measured(30, 40).is_alone);
        assert!(measured(30, 30).is_alone);
    }

    #[test]
    fn short_plans_are_tried_more_often() {
        let runs_of = |us: u64| {
            let mut pace = Pace::default();
            (0..MOST_TRIALS).for_each(|_| pace.record(Duration::from_micros(us)));
            (pace.tries_alone, pace.left)
        };
        assert_eq!(runs_of(10), (true, 0));
        // Ten shared took two milliseconds, and ten alone as long.
        assert_eq!(runs_of(200), (false, SOON));
    }

    #[test]
    fn long_plans_are_shared_without_a_trial_alone() {
        let mut pace = Pace::default();
        (0..LEAST_TRIALS).for_each(|_| pace.record(Duration::from_millis(3)));
        assert!(!pace.is_alone && pace.left == SOON && !pace.tries_alone);
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
        while pace.left == 0 {
            pace.run(|| runs += 1);
        }
        assert!(pace.tried == 0 && (LEAST_TRIALS..=2 * MOST_TRIALS).contains(&(runs - SOON as usize)));
        assert!(pace.left == SOON || pace.left == 2 * SOON);
    }
}
