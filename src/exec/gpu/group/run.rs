//! Runs of a group: who takes part, for how many steps, and how all hear of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard};

use super::super::machine::{Machine, Rows};
use super::{Group, Seat, State};
use crate::exec::{Progress, StepTable};
use crate::{Error, Result};

/// The run that a program wants: the rows of a table from the first that is not done.
#[derive(Clone)]
pub(super) struct Ask {
    pub entry: usize,
    pub table: Arc<StepTable>,
    pub first: usize,
}

impl Ask {
    fn num_steps(&self) -> usize {
        self.table.num_steps() - self.first
    }
}

/// A run that is under way.
pub(super) struct Joint {
    members: Vec<usize>,
    done: usize,
    /// Whether a member wants to stop.
    stops: bool,
}

impl Group {
    /// Takes part in runs until one has done some of these steps; tells how many. `progress` is told of them, and if it
    /// breaks, the run ends after the steps in flight.
    pub(super) fn advance(&self, index: usize, ask: Ask, progress: Progress<'_>) -> Result<usize> {
        let mut state = self.lock();
        state.places[index] = Seat::Waiting(ask);
        self.changed.notify_all();
        let mut told = 0;
        loop {
            if state.is_broken {
                return Err(self.broken());
            }
            if let Seat::Ended(outcome) = &state.places[index] {
                let outcome = outcome.clone();
                state.places[index] = Seat::Busy;
                drop(state);
                let done = outcome.map_err(|reason| self.gpu.lost("a run of models side by side", reason))?;
                if done > told {
                    // Its answer comes too late to end anything, and counts all the same.
                    let _ = progress(done);
                }
                return Ok(done);
            }
            match &state.joint {
                Some(joint) if joint.done > told && joint.members.contains(&index) => {
                    told = joint.done;
                    drop(state);
                    let stops = progress(told).is_break();
                    state = self.lock();
                    if let Some(joint) = &mut state.joint {
                        joint.stops |= stops;
                    }
                }
                None if state.can_run() => {
                    let led;
                    (state, led) = self.lead(state, index, progress);
                    told = led?;
                }
                _ => state = self.wait(state),
            }
        }
    }

    /// Leads a run. Gives the steps that `progress` was told of, which are none where this place takes no part.
    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        index: usize,
        progress: Progress<'_>,
    ) -> (MutexGuard<'a, State>, Result<usize>) {
        let mut machine = state.machine.take().expect("a run begins only where the machine is there");
        let run = Run::of(&state.places, &machine);
        let members: Vec<usize> = run.asks.iter().map(|(place, _)| *place).collect();
        let takes_part = members.contains(&index);
        state.joint = Some(Joint { members: members.clone(), done: 0, stops: false });
        drop(state);
        let unfinished = Unfinished(self);
        let mut told = 0;
        let mut follow = |done| {
            let mut stops = false;
            if takes_part {
                told = done;
                stops = progress(done).is_break();
            }
            let mut state = self.lock();
            let is_wanted = state.num_wanting > 0;
            if let Some(joint) = &mut state.joint {
                joint.done = done;
                joint.stops |= stops;
                stops = joint.stops || is_wanted;
            }
            self.changed.notify_all();
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let ended = machine.run(run.entry, &run.rows(), run.num_steps, &mut follow);
        std::mem::forget(unfinished);
        let mut state = self.lock();
        state.machine = Some(machine);
        state.joint = None;
        for &member in &members {
            // One that panicked has left.
            if matches!(state.places[member], Seat::Waiting(_)) {
                let outcome = ended.as_ref().map_or_else(|error| Err(error.to_string()), |done| Ok(*done));
                state.places[member] = Seat::Ended(outcome);
            }
        }
        self.changed.notify_all();
        let led: Result<usize, Error> = ended.map(|_| told);
        (state, led)
    }
}

/// Marks a group as broken whose leader panics.
struct Unfinished<'a>(&'a Group);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.lock().is_broken = true;
        self.0.changed.notify_all();
    }
}

impl State {
    /// Whether everybody who is waited for waits.
    fn can_run(&self) -> bool {
        let is_missing = |seat: &Seat| matches!(seat, Seat::Busy | Seat::Ended(_));
        self.machine.is_some() && self.num_wanting == 0 && !self.places.iter().any(is_missing)
    }
}

/// What runs next.
struct Run {
    entry: usize,
    num_steps: usize,
    asks: Vec<(usize, Ask)>,
}

impl Run {
    /// Of the entries that programs want to run the one with the fewest steps left, so that a program that evaluates between
    /// others' training steps is soon back among them. Its programs as far as the same ops run in all their steps.
    fn of(places: &[Seat], machine: &Machine) -> Run {
        let mut asks: BTreeMap<usize, Vec<(usize, Ask)>> = BTreeMap::new();
        for (place, seat) in places.iter().enumerate() {
            if let Seat::Waiting(ask) = seat {
                asks.entry(ask.entry).or_default().push((place, ask.clone()));
            }
        }
        let most = |asks: &[(usize, Ask)]| asks.iter().map(|(_, ask)| ask.num_steps()).max().unwrap_or(0);
        let (entry, mut asks) =
            asks.into_iter().min_by_key(|(_, asks)| most(asks)).expect("whoever leads a run wants one");
        let num_steps = asks.iter().map(|(_, ask)| ask.num_steps()).min().unwrap_or(0);
        let mut guards: Vec<usize> = machine.plan(entry).steps.iter().filter_map(|step| step.guard).collect();
        guards.sort_unstable();
        guards.dedup();
        let runs = |ask: &Ask, step: usize| {
            guards.iter().map(|&guard| ask.table.is_on(Some(guard), ask.first + step)).collect::<Vec<bool>>()
        };
        let leader = asks[0].1.clone();
        asks.retain(|(_, ask)| (0..num_steps).all(|step| guards.is_empty() || runs(ask, step) == runs(&leader, step)));
        Run { entry, num_steps, asks }
    }

    fn rows(&self) -> Vec<Rows<'_>> {
        self.asks.iter().map(|(model, ask)| Rows { model: *model, table: &ask.table, first: ask.first }).collect()
    }
}
