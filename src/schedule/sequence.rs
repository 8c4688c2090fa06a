//! Schedules one after another: which is active when, and what plateaus among them have seen.

use super::curve::{Steps, at_least_one};
use super::{Base, Interval, Mode, Plateau, PlateauState, Schedule};
use crate::{Error, Result};

/// Schedules, and the steps at which each but the first begins.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    schedules: Vec<Schedule>,
    milestones: Vec<u64>,
}

impl Sequence {
    pub(super) fn new(schedules: Vec<Schedule>, milestones: Vec<u64>) -> Result<Self> {
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
        let mut sequence = Sequence { schedules, milestones };
        let interval = sequence.interval();
        if sequence.schedules.iter().any(|part| !part.goes_with_any_interval() && part.interval() != interval) {
            return Err(Error::setting("schedules", "all per epoch or all per batch", "some of each"));
        }
        sequence.step_at(interval);
        Ok(sequence)
    }

    pub(super) fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    pub(super) fn milestones(&self) -> &[u64] {
        &self.milestones
    }

    /// The interval of the schedules that have one of their own.
    pub(super) fn interval(&self) -> Interval {
        let own = self.schedules.iter().find(|part| !part.goes_with_any_interval());
        own.map_or(Interval::Epoch, Schedule::interval)
    }

    pub(super) fn step_at(&mut self, interval: Interval) {
        self.schedules = self.schedules.drain(..).map(|part| part.stepping(interval)).collect();
    }

    /// The schedule that is active in `step`, and its own step.
    pub(super) fn active(&self, step: u64) -> (&Schedule, u64) {
        let (index, step) = self.position(step);
        (&self.schedules[index], step)
    }

    fn active_mut(&mut self, step: u64) -> (&mut Schedule, u64) {
        let (index, step) = self.position(step);
        (&mut self.schedules[index], step)
    }

    fn position(&self, step: u64) -> (usize, u64) {
        let index = self.milestones.partition_point(|&milestone| milestone <= step);
        let start = if index == 0 { 0 } else { self.milestones[index - 1] };
        (index, step - start)
    }

    /// The sequence in a run that has so many steps for it.
    pub(super) fn spanning(&self, num_steps: u64) -> Result<Sequence> {
        let starts = [0].into_iter().chain(self.milestones.iter().copied());
        let ends = self.milestones.iter().copied().chain([num_steps]);
        let spans = starts.zip(ends).map(|(start, end)| end.min(num_steps).saturating_sub(start));
        let schedules =
            self.schedules.iter().zip(spans).map(|(part, len)| part.spanning(len)).collect::<Result<_>>()?;
        Ok(Sequence { schedules, milestones: self.milestones.clone() })
    }

    /// "constant; after 60 epochs times 0.1 every 30 epochs".
    pub(super) fn phrase(&self, steps: Steps) -> String {
        let starts = self.milestones.iter().map(|&milestone| format!("; after {} ", steps.times(milestone)));
        let starts = [String::new()].into_iter().chain(starts);
        starts.zip(&self.schedules).map(|(start, part)| format!("{start}{part}")).collect()
    }
}

impl Schedule {
    /// Tells the plateau that is active in `step`, if one is, the metric measured after it; true if that cuts the rate.
    /// Other schedules take no notice. Call it once an epoch, whatever the interval.
    pub fn observe(&mut self, step: u64, metric: f64) -> bool {
        let Some(step) = step.checked_sub(self.warmup) else { return false };
        match &mut self.base {
            Base::Kind(kind) => kind.get().as_plateau().is_some_and(|plateau| self.plateau.observe(plateau, metric)),
            Base::Sequence(sequence) => {
                let (active, step) = sequence.active_mut(step);
                active.observe(step, metric)
            }
            Base::Lambda(_) => false,
        }
    }

    /// Whether the metric that the plateau active in `step` watches should fall or rise; `None` if none is active.
    pub fn plateau_mode(&self, step: u64) -> Option<Mode> {
        let step = step.checked_sub(self.warmup)?;
        match &self.base {
            Base::Kind(kind) => kind.get().as_plateau().map(|plateau| plateau.mode),
            Base::Sequence(sequence) => {
                let (active, step) = sequence.active(step);
                active.plateau_mode(step)
            }
            Base::Lambda(_) => None,
        }
    }

    /// The longest patience of the schedule's plateaus, in observations; `None` if it has none.
    pub fn plateau_patience(&self) -> Option<u64> {
        self.plateaus().iter().map(|(plateau, _)| plateau.patience).max()
    }

    /// What the schedule's plateaus have seen, first to last: all the state a schedule has, to keep in a checkpoint.
    pub fn plateau_states(&self) -> Vec<PlateauState> {
        self.plateaus().into_iter().map(|(_, state)| state.clone()).collect()
    }

    /// Takes up what [`plateau_states`](Self::plateau_states) of the same schedule returned.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of states is not the number of plateaus.
    pub fn restore_plateau_states(&mut self, states: &[PlateauState]) -> Result<()> {
        let mut places = Vec::new();
        self.collect_states_mut(&mut places);
        if places.len() != states.len() {
            let expected = format!("the states of {} plateaus", places.len());
            return Err(Error::setting("schedule", expected, format!("those of {}", states.len())));
        }
        places.into_iter().zip(states).for_each(|(place, state)| *place = state.clone());
        Ok(())
    }

    fn plateaus(&self) -> Vec<(&Plateau, &PlateauState)> {
        match &self.base {
            Base::Kind(kind) => kind.get().as_plateau().map(|plateau| (plateau, &self.plateau)).into_iter().collect(),
            Base::Sequence(sequence) => sequence.schedules.iter().flat_map(Schedule::plateaus).collect(),
            Base::Lambda(_) => Vec::new(),
        }
    }

    fn collect_states_mut<'a>(&'a mut self, into: &mut Vec<&'a mut PlateauState>) {
        match &mut self.base {
            Base::Kind(kind) if kind.get().as_plateau().is_some() => into.push(&mut self.plateau),
            Base::Kind(_) | Base::Lambda(_) => {}
            Base::Sequence(sequence) => {
                sequence.schedules.iter_mut().for_each(|part| part.collect_states_mut(into));
            }
        }
    }
}
