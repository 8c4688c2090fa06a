//! What two plans must have in common to run in the same dispatches on a GPU, each on memory of its own.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};

use super::Plan;
use crate::Result;
use crate::ops::kernel::GpuTraits;

impl Plan {
    /// A number that is the same for plans that differ in nothing but what their kernels are told through `Params`, such as
    /// a seed, and in how states start: for the same kernels over the same grids, with all operands in the same places.
    ///
    /// # Errors
    /// As [`Plan::dispatches`].
    pub(crate) fn form(&self, gpu: GpuTraits) -> Result<u64> {
        let plan = self.for_gpu(gpu)?;
        let mut hash = Hash(DefaultHasher::new());
        let states: Vec<_> = plan.states.iter().map(|spec| (&spec.name, &spec.ty, spec.kind)).collect();
        hash.add(&(&plan.name, states, &plan.scalars));
        hash.add(&(&plan.constants, &plan.slots, &plan.packs, &plan.outputs));
        for (step, dispatches) in plan.steps.iter().zip(plan.dispatches(gpu)?) {
            hash.add(&(&step.inputs, &step.outputs, &step.packs, step.guard, &step.early, &dispatches.scratch_elems));
            for dispatch in &dispatches.list {
                let kernel = &dispatch.kernel;
                // The name says which text it is, unless a user wrote it.
                let source = kernel.is_custom().then_some(&kernel.source);
                hash.add(&(&kernel.name, &kernel.entry_point, &kernel.constants, source));
                hash.add(&(dispatch.params.len(), &dispatch.bindings, dispatch.workgroups));
            }
        }
        Ok(hash.0.finish())
    }
}

/// Hashes what values are printed as, which tells all of them apart.
struct Hash(DefaultHasher);

impl Hash {
    fn add(&mut self, value: &dyn fmt::Debug) {
        write!(self, "{value:?};").expect("a hasher takes any text");
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
