//! Programs side by side: each has a place in a [`Machine`] for several models, and what they are asked to run at the same
//! time runs in the same dispatches.
//!
//! Each program is driven by a thread of its own, as if it were alone: no caller knows of the others. A run begins when
//! every program in the group has asked for one; until then those that have asked wait, on the host, while the others read
//! metrics or write files. Programs that ask for the same entry take part in one run, with a row of the step table each, so
//! that they may be at different steps and have different rates. One thread leads it. It ends early where one of them has
//! fewer steps left or wants to stop, and then everybody asks again. Nothing of this changes what a program computes.

mod executor;
mod run;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use executor::PlaceExecutor;

use super::device::GpuDevice;
use super::machine::{Machine, Models};
use crate::exec::{Device, StateLayout};
use crate::graph::StateSpec;
use crate::graph::plan::Plan;
use crate::{Error, Result};
use run::{Ask, Joint};

/// A group of programs that run side by side on a GPU, in the same dispatches: models of one architecture that train on
/// batches of one size, each with its own weights, step table and seed. [`SideBySide::take`] gives a device for each.
/// Results are those of each program alone, bit for bit, where the driver compiles the same arithmetic to the same
/// instructions; tests hold lavapipe to it.
#[derive(Clone)]
pub struct SideBySide {
    group: Arc<Group>,
}

/// A place in a group. [`Program::compile`](crate::Program::compile) on it makes a program that waits for those in the other
/// places whenever it runs, so each place needs a thread of its own. A place that was taken is waited for from the beginning;
/// dropping it, or the program, frees the others.
pub struct Place {
    group: Arc<Group>,
    index: usize,
}

/// What the places have in common.
struct Group {
    gpu: Arc<GpuDevice>,
    models: Models,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Made by the first program; away while a run is under way.
    machine: Option<Machine>,
    /// What the programs' plans have in common, once there is one.
    form: Option<Vec<u64>>,
    places: Vec<Seat>,
    joint: Option<Joint>,
    /// Programs that want the machine while a run is under way.
    num_wanting: usize,
    /// Shared states that were written.
    written: Vec<bool>,
    /// A run that was given up, by a panic of its leader.
    is_broken: bool,
}

/// Who is in a place.
enum Seat {
    /// Nobody.
    Free,
    /// Nobody who is waited for: its program has ended, or runs by itself.
    Aside,
    /// A program that does something else before its next run.
    Busy,
    /// A program that wants to run.
    Waiting(Ask),
    /// A program whose run has ended, after so many steps.
    Ended(std::result::Result<usize, String>),
}

impl SideBySide {
    /// A group of `num_places` places on a GPU. Inputs for which `is_shared` holds are one for all: a data set. They must be
    /// given the same values in each place; the first counts.
    ///
    /// # Errors
    /// [`Error::Setting`] for another device or no places.
    pub fn new(device: &Device, num_places: usize, is_shared: fn(&StateSpec) -> bool) -> Result<SideBySide> {
        let Device::Gpu(gpu) = device else {
            return Err(Error::setting("side_by_side", "a GPU, where models run in the same dispatches", device));
        };
        if num_places == 0 {
            return Err(Error::setting("side_by_side", "at least 1", num_places));
        }
        let state = State {
            machine: None,
            form: None,
            places: (0..num_places).map(|_| Seat::Free).collect(),
            joint: None,
            num_wanting: 0,
            written: Vec::new(),
            is_broken: false,
        };
        let models = Models { count: num_places, is_shared };
        let group = Group { gpu: Arc::clone(gpu), models, state: Mutex::new(state), changed: Condvar::new() };
        Ok(SideBySide { group: Arc::new(group) })
    }

    /// A free place; `None` where all are taken.
    pub fn take(&self) -> Option<Device> {
        let mut state = self.group.lock();
        let index = state.places.iter().position(|place| matches!(place, Seat::Free))?;
        state.places[index] = Seat::Busy;
        Some(Device::Beside(Arc::new(Place { group: Arc::clone(&self.group), index })))
    }
}

impl Place {
    /// The adapter.
    pub fn gpu(&self) -> &Arc<GpuDevice> {
        &self.group.gpu
    }

    /// A program in this place; `None` where it is not like those in the other places and has to run by itself.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub(crate) fn program(self: &Arc<Self>, plans: &[Plan], layout: &StateLayout) -> Result<Option<PlaceExecutor>> {
        let group = &self.group;
        let form = plans.iter().map(|plan| plan.form(group.gpu.traits())).collect::<Result<Vec<u64>>>()?;
        let mut state = group.lock_machine();
        match &state.form {
            Some(known) if *known != form => {
                state.places[self.index] = Seat::Aside;
                group.changed.notify_all();
                return Ok(None);
            }
            Some(_) => {}
            None => {
                state.machine = Some(Machine::new(&group.gpu, plans, layout, &group.models)?);
                state.written = vec![false; layout.specs.len()];
                state.form = Some(form);
            }
        }
        let machine = state.machine.as_mut().ok_or_else(|| group.broken())?;
        machine.write_params(plans, self.index)?;
        machine.memory.forget_kept(self.index);
        state.places[self.index] = Seat::Busy;
        Ok(Some(PlaceExecutor::new(Arc::clone(self))))
    }

    /// Says who is in the place.
    fn seat(&self, seat: Seat) {
        self.group.lock().places[self.index] = seat;
        self.group.changed.notify_all();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seat(Seat::Free);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "place {} of {} on {}", self.index + 1, self.group.models.count, self.group.gpu.info().name)
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic leaves is marked by `is_broken`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with the machine in it, unless it was not made yet or is broken. A run that is under way stops for it.
    fn lock_machine(&self) -> MutexGuard<'_, State> {
        let is_away = |state: &State| state.form.is_some() && state.machine.is_none() && !state.is_broken;
        let mut state = self.lock();
        if is_away(&state) {
            state.num_wanting += 1;
            while is_away(&state) {
                state = self.wait(state);
            }
            state.num_wanting -= 1;
            self.changed.notify_all();
        }
        state
    }

    /// Does something with the machine.
    fn with_machine<T>(&self, act: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let mut state = self.lock_machine();
        act(state.machine.as_mut().ok_or_else(|| self.broken())?)
    }

    fn broken(&self) -> Error {
        self.gpu.lost("a run of models side by side", "the thread that led it panicked")
    }
}
