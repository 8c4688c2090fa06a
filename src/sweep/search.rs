//! Which trial to train next, and up to which epoch: a state machine over plain numbers.
//!
//! It is the asynchronous successive halving of Li et al., "A System for Massively Parallel Hyperparameter Tuning"
//! (2020), algorithm 2, with epochs as the resource. Rung k is reached after `min_epochs · η^k` epochs, the last after
//! `max_epochs`. Whenever there is room for a trial, one of the best 1/η of those that reached a rung is promoted to
//! the next, from the highest rung that has one to offer; if none has, a new trial starts. No trial waits for a rung to
//! fill. A grid or a random search is the same with a single rung.
//!
//! The state does not depend on the order in which results came: it is what each trial reached. So it can be restored
//! from a list of trials. With one trial at a time all decisions follow from the results; with several, they also
//! depend on which of them ends first.

use crate::{Error, Result};

/// Train a trial up to this many epochs in total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The trial, counted from 0.
    pub trial: usize,
    /// The rung that it climbs to, counted from 0.
    pub rung: usize,
    /// Where it ends, in epochs from the trial's first.
    pub epochs: u64,
}

/// The state of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    rungs: Vec<u64>,
    reduction_factor: usize,
    trials: Vec<Climb>,
}

/// The progress of a trial.
#[derive(Clone, Debug, Default, PartialEq)]
struct Climb {
    /// The cost at each rung it reached; infinite where it failed.
    costs: Vec<f64>,
    /// Rungs that it reached or was sent to.
    num_sent: usize,
    is_running: bool,
}

impl Search {
    /// A search over `num_trials` trials, each trained for `epochs`.
    pub fn in_full(num_trials: usize, epochs: u64) -> Search {
        Search { rungs: vec![epochs], reduction_factor: 2, trials: vec![Climb::default(); num_trials] }
    }

    /// Successive halving.
    ///
    /// # Errors
    /// [`Error::Setting`] unless 1 ≤ `min_epochs` ≤ `max_epochs` and `reduction_factor` is at least 2.
    pub fn halving(num_trials: usize, min_epochs: u64, max_epochs: u64, reduction_factor: usize) -> Result<Search> {
        if min_epochs == 0 || min_epochs > max_epochs {
            let expected = format!("at least 1 and at most max_epochs ({max_epochs})");
            return Err(Error::setting("search.min_epochs", expected, min_epochs));
        }
        if reduction_factor < 2 {
            return Err(Error::setting("search.reduction_factor", "at least 2", reduction_factor));
        }
        let mut rungs = vec![min_epochs];
        // The largest whole power that fits; a last rung just above the one before it would decide nothing.
        let mut next = min_epochs.saturating_mul(reduction_factor as u64);
        while next <= max_epochs {
            rungs.push(next);
            next = next.saturating_mul(reduction_factor as u64);
        }
        if let Some(last) = rungs.last_mut().filter(|last| **last > min_epochs || min_epochs == max_epochs) {
            *last = max_epochs;
        } else {
            rungs.push(max_epochs);
        }
        Ok(Search { rungs, reduction_factor, trials: vec![Climb::default(); num_trials] })
    }

    /// The same search over those trials alone for which `is_own` holds, counted from 0; the others count as taken.
    pub fn limited_to(mut self, is_own: impl Fn(usize) -> bool) -> Search {
        let others = self.trials.iter_mut().enumerate().filter(|(trial, _)| !is_own(*trial));
        others.for_each(|(_, climb)| *climb = Climb { num_sent: 1, is_running: true, ..Climb::default() });
        self
    }

    /// The epochs of each rung.
    pub fn rungs(&self) -> &[u64] {
        &self.rungs
    }

    /// Puts back what a trial reached: the cost at each rung, and how many rungs it had been sent to, one more than
    /// costs if it was running.
    pub fn restore(&mut self, trial: usize, costs: Vec<f64>, num_sent: usize) {
        self.trials[trial] = Climb { costs, num_sent, is_running: false };
    }

    /// What to train now, or `None` where there is nothing to do until a running trial ends; where none runs, the
    /// search is over.
    pub fn next_leg(&mut self) -> Option<Leg> {
        self.next_leg_of(&mut |_| true)
    }

    /// [`Search::next_leg`] among the trials for which `fits` holds.
    pub fn next_leg_of(&mut self, fits: &mut dyn FnMut(usize) -> bool) -> Option<Leg> {
        let trial = match self.cut_off(fits).or_else(|| self.promotable(fits)) {
            Some(trial) => trial,
            None => self.unseen(fits)?,
        };
        let climb = &mut self.trials[trial];
        climb.is_running = true;
        climb.num_sent = climb.costs.len() + 1;
        let rung = climb.costs.len();
        Some(Leg { trial, rung, epochs: self.rungs[rung] })
    }

    /// Records the cost at the end of a leg: lower is better; not finite if the trial failed.
    pub fn record(&mut self, trial: usize, cost: f64) {
        let climb = &mut self.trials[trial];
        climb.costs.push(if cost.is_finite() { cost } else { f64::INFINITY });
        climb.is_running = false;
    }

    /// A trial that was running when the search was restored.
    fn cut_off(&self, fits: &mut dyn FnMut(usize) -> bool) -> Option<usize> {
        let is_cut_off = |climb: &Climb| !climb.is_running && climb.num_sent > climb.costs.len();
        (0..self.trials.len()).find(|&trial| is_cut_off(&self.trials[trial]) && fits(trial))
    }

    /// The best trial that may climb from the highest rung that has one.
    fn promotable(&self, fits: &mut dyn FnMut(usize) -> bool) -> Option<usize> {
        (0..self.rungs.len() - 1).rev().find_map(|rung| {
            let mut reached: Vec<usize> =
                (0..self.trials.len()).filter(|&trial| self.trials[trial].costs.len() > rung).collect();
            // Of equals the one that started first.
            reached.sort_by(|&a, &b| self.trials[a].costs[rung].total_cmp(&self.trials[b].costs[rung]));
            let best = &reached[..reached.len() / self.reduction_factor];
            let may_climb = |trial: usize| {
                let climb = &self.trials[trial];
                climb.num_sent == rung + 1 && climb.costs[rung].is_finite()
            };
            best.iter().copied().find(|&trial| may_climb(trial) && fits(trial))
        })
    }

    fn unseen(&self, fits: &mut dyn FnMut(usize) -> bool) -> Option<usize> {
        (0..self.trials.len()).find(|&trial| self.trials[trial].num_sent == 0 && fits(trial))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    /// Runs one trial at a time to the end, and tells (trial, epochs) of every leg.
    fn alone(search: &mut Search, cost: impl Fn(Leg) -> f64) -> Vec<(usize, u64)> {
        let mut legs = Vec::new();
        while let Some(leg) = search.next_leg() {
            legs.push((leg.trial, leg.epochs));
            search.record(leg.trial, cost(leg));
        }
        legs
    }

    #[test]
    fn rungs_grow_by_the_factor_up_to_the_last_epoch() {
        let rungs = |min, max, factor| Search::halving(1, min, max, factor).unwrap().rungs().to_vec();
        assert_eq!(rungs(1, 27, 3), [1, 3, 9, 27]);
        assert_eq!(rungs(1, 10, 3), [1, 3, 10], "the last rung is stretched");
        assert_eq!(rungs(2, 5, 3), [2, 5], "what is less than a factor away is a rung all the same");
        assert_eq!(rungs(4, 4, 3), [4]);
        for (min, max, factor, named) in
            [(0, 3, 3, "min_epochs"), (4, 3, 3, "min_epochs"), (1, 3, 1, "reduction_factor")]
        {
            let error = Search::halving(1, min, max, factor).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_search_in_full_trains_every_trial_once() {
        assert_eq!(alone(&mut Search::in_full(3, 7), |_| 1.0), [(0, 7), (1, 7), (2, 7)]);
    }

    #[test]
    fn a_search_limited_to_some_trials_leaves_the_others_alone() {
        let odd = Search::in_full(5, 7).limited_to(|trial| trial % 2 == 1);
        assert_eq!(alone(&mut odd.clone(), |_| 1.0), [(1, 7), (3, 7)]);
        // One of its trials was under way.
        let mut resumed = odd;
        resumed.restore(1, vec![], 1);
        assert_eq!(alone(&mut resumed, |_| 1.0), [(1, 7), (3, 7)]);
    }

    #[test]
    fn the_best_third_of_a_rung_climbs_as_soon_as_it_is_known() {
        // The cost of a trial is its number, so that earlier ones are better.
        let legs = alone(&mut Search::halving(9, 1, 9, 3).unwrap(), |leg| leg.trial as f64);
        let expected = [
            // The first third of three is one.
            (0, 1),
            (1, 1),
            (2, 1),
            (0, 3),
            (3, 1),
            (4, 1),
            (5, 1),
            // Of six it is two.
            (1, 3),
            (6, 1),
            (7, 1),
            (8, 1),
            (2, 3),
            // Three have reached the second rung.
            (0, 9),
        ];
        assert_eq!(legs, expected);
    }

    #[test]
    fn a_late_trial_that_is_better_climbs_though_the_rung_has_sent_its_share() {
        // Later trials may be better: promoting the best of those known so far is the cost of being asynchronous.
        let legs = alone(&mut Search::halving(6, 1, 3, 3).unwrap(), |leg| -(leg.trial as f64));
        assert_eq!(legs, [(0, 1), (1, 1), (2, 1), (2, 3), (3, 1), (3, 3), (4, 1), (4, 3), (5, 1), (5, 3)]);
    }

    #[test]
    fn several_at_a_time_wait_for_nobody() {
        let mut search = Search::halving(4, 1, 2, 2).unwrap();
        let mut trials = |count| -> Vec<(usize, u64)> {
            (0..count).map_while(|_| search.next_leg()).map(|leg| (leg.trial, leg.epochs)).collect()
        };
        assert_eq!(trials(2), [(0, 1), (1, 1)]);
        search.record(1, 0.5);
        assert_eq!(search.next_leg().unwrap().trial, 2, "half of one is none, so a new trial starts");
        search.record(2, 0.7);
        let leg = search.next_leg().unwrap();
        assert_eq!((leg.trial, leg.rung, leg.epochs), (1, 1, 2), "half of two is one, though trial 0 is still at it");
        search.record(0, 0.1);
        let leg = search.next_leg().unwrap();
        assert_eq!((leg.trial, leg.epochs), (0, 2), "of three it is still one, and that is trial 0 now");
    }

    #[test]
    fn of_those_that_fit_the_first_in_the_same_order() {
        let mut search = Search::halving(5, 1, 2, 2).unwrap();
        search.restore(0, vec![0.2], 1);
        search.restore(1, vec![0.1], 1);
        search.restore(3, vec![], 1);
        let mut among =
            |few: &[usize]| search.next_leg_of(&mut |trial| few.contains(&trial)).map(|leg| (leg.trial, leg.epochs));
        assert_eq!(among(&[0]), None, "of two, one is promoted, and that is the other");
        assert_eq!(among(&[1, 2]), Some((1, 2)), "a promotion goes before a new trial");
        assert_eq!(among(&[2, 3, 4]), Some((3, 1)), "one that was cut off goes first");
        assert_eq!(among(&[2, 4]), Some((2, 1)));
        assert_eq!(among(&[0, 1, 2, 3]), None);
    }

    #[test]
    fn who_failed_counts_in_its_rung_and_never_climbs() {
        let failed = |leg: Leg| if leg.trial < 3 { f64::NAN } else { leg.trial as f64 };
        let legs = alone(&mut Search::halving(6, 1, 3, 3).unwrap(), failed);
        assert_eq!(legs, [(0, 1), (1, 1), (2, 1), (3, 1), (3, 3), (4, 1), (5, 1), (4, 3)]);
    }

    #[test]
    fn of_equals_the_first_climbs() {
        let legs = alone(&mut Search::halving(4, 1, 2, 2).unwrap(), |_| 1.0);
        assert_eq!(legs, [(0, 1), (1, 1), (0, 2), (2, 1), (3, 1), (1, 2)]);
    }

    #[test]
    fn a_search_restored_after_any_leg_goes_on_as_if_nothing_had_happened() {
        let cost = |leg: Leg| ((leg.trial * 7 + 3) % 5) as f64 + leg.trial as f64 * 0.01 - leg.rung as f64;
        let new = || Search::halving(12, 1, 9, 3).unwrap();
        let whole = alone(&mut new(), cost);
        for cut in 0..whole.len() {
            let mut search = new();
            for _ in 0..cut {
                let leg = search.next_leg().unwrap();
                search.record(leg.trial, cost(leg));
            }
            // One more leg is under way as the process is killed.
            search.next_leg().unwrap();
            let mut restored = new();
            for (trial, climb) in search.trials.iter().enumerate() {
                restored.restore(trial, climb.costs.clone(), climb.num_sent);
            }
            assert_eq!(alone(&mut restored, cost), whole[cut..], "cut after {cut} legs");
        }
    }
}
