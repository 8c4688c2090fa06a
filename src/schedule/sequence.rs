//! Schedules one after another: which is active when, and what plateaus among them have seen.

use super::kind::{Kind, at_least_one};
use super::{Interval, Mode, PlateauState, ReduceLrOnPlateau, Schedule};
use crate::{Error, Result};

impl Schedule {
    /// Tells the plateau that is active in `step`, if one is, the metric measured after it; true if that cuts the rate.
    /// Other schedules take no notice. Call it once an epoch, whatever the interval.
    pub fn observe(&mut self, step: u64, metric: f64) -> bool {
        match &mut self.kind {
            Kind::Plateau(plateau) => plateau.observe(metric),
            Kind::Sequential { schedules, milestones } => {
                let (active, own_step) = active(milestones, step);
                schedules[active].observe(own_step, metric)
            }
            _ => false,
        }
    }

    /// Whether the metric that the plateau active in `step` watches should fall or rise; `None` if none is active.
    pub fn plateau_mode(&self, step: u64) -> Option<Mode> {
        match &self.kind {
            Kind::Plateau(plateau) => Some(plateau.options().mode),
            Kind::Sequential { schedules, milestones } => {
                let (active, own_step) = active(milestones, step);
                schedules[active].plateau_mode(own_step)
            }
            _ => None,
        }
    }

    /// The longest patience of the schedule's plateaus, in observations; `None` if it has none.
    pub fn plateau_patience(&self) -> Option<u64> {
        self.plateaus().iter().map(|plateau| plateau.options().patience).max()
    }

    /// What the schedule's plateaus have seen, first to last: all the state a schedule has, to keep in a checkpoint.
    pub fn plateau_states(&self) -> Vec<PlateauState> {
        self.plateaus().iter().map(|plateau| plateau.state().clone()).collect()
    }

    /// Takes up what [`plateau_states`](Self::plateau_states) of the same schedule returned.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of states is not the number of plateaus.
    pub fn restore_plateau_states(&mut self, states: &[PlateauState]) -> Result<()> {
        let mut plateaus = Vec::new();
        self.collect_plateaus_mut(&mut plateaus);
        if plateaus.len() != states.len() {
            let expected = format!("the states of {} plateaus", plateaus.len());
            return Err(Error::setting("schedule", expected, format!("those of {}", states.len())));
        }
        plateaus.into_iter().zip(states).for_each(|(plateau, state)| plateau.restore(state.clone()));
        Ok(())
    }

    fn plateaus(&self) -> Vec<&ReduceLrOnPlateau> {
        match &self.kind {
            Kind::Plateau(plateau) => vec![plateau],
            Kind::Sequential { schedules, .. } => schedules.iter().flat_map(Schedule::plateaus).collect(),
            _ => Vec::new(),
        }
    }

    fn collect_plateaus_mut<'a>(&'a mut self, into: &mut Vec<&'a mut ReduceLrOnPlateau>) {
        match &mut self.kind {
            Kind::Plateau(plateau) => into.push(plateau),
            Kind::Sequential { schedules, .. } => {
                schedules.iter_mut().for_each(|schedule| schedule.collect_plateaus_mut(into));
            }
            _ => {}
        }
    }
}

/// The index of the schedule that is active in `step`, and its own step.
pub(super) fn active(milestones: &[u64], step: u64) -> (usize, u64) {
    let index = milestones.partition_point(|&milestone| milestone <= step);
    let start = if index == 0 { 0 } else { milestones[index - 1] };
    (index, step - start)
}

/// How many of a run's `num_steps` steps each schedule is active for.
pub(super) fn spans(milestones: &[u64], num_steps: u64) -> impl Iterator<Item = u64> {
    let starts = [0].into_iter().chain(milestones.iter().copied());
    let ends = milestones.iter().copied().chain([num_steps]);
    starts.zip(ends).map(move |(start, end)| end.min(num_steps).saturating_sub(start))
}

/// The interval of the schedules that have one of their own.
pub(super) fn interval(schedules: &[Schedule]) -> Interval {
    schedules.iter().find(|schedule| !schedule.goes_with_any_interval()).map_or(Interval::Epoch, Schedule::interval)
}

impl Schedule {
    fn goes_with_any_interval(&self) -> bool {
        match &self.kind {
            Kind::Plateau(_) | Kind::Constant {} => true,
            Kind::Sequential { schedules, .. } => schedules.iter().all(Schedule::goes_with_any_interval),
            _ => false,
        }
    }
}

pub(super) fn validate(schedules: &[Schedule], milestones: &[u64]) -> Result<()> {
    if schedules.is_empty() {
        return Err(Error::setting("schedules", "at least one schedule", "none"));
    }
    if milestones.len() + 1 != schedules.len() {
        let expected = format!("{} of them, one fewer than schedules", schedules.len() - 1);
        return Err(Error::setting("milestones", expected, milestones.len()));
    }
    milestones.iter().try_for_each(|&milestone| at_least_one("milestones", milestone))?;
    if !milestones.is_sorted_by(|a, b| a < b) {
        return Err(Error::setting("milestones", "each above the one before it", format!("{milestones:?}")));
    }
    let interval = interval(schedules);
    if schedules.iter().any(|schedule| !schedule.goes_with_any_interval() && schedule.interval != interval) {
        return Err(Error::setting("schedules", "all per epoch or all per batch", "some of each"));
    }
    Ok(())
}
