//! The kernels that a plan dispatches, without a GPU, to be read or checked.

use super::{Plan, Step};
use crate::Result;
use crate::ops::Operation;
use crate::ops::kernel::{DispatchContext, Dispatches, GpuTraits};

impl Step {
    /// The dispatches of the step's op on a device of this kind.
    pub(crate) fn dispatches(&self, gpu: GpuTraits) -> Result<Dispatches> {
        let (inputs, outputs) = (self.input_types(), self.output_types());
        self.op.dispatches(&DispatchContext { inputs: &inputs, outputs: &outputs, gpu })
    }
}

impl Plan {
    /// The dispatches of each step of the plan that [`Plan::for_gpu`] makes of it, in order.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) where an op has no kernels; as [`Plan::for_gpu`].
    pub fn dispatches(&self, gpu: GpuTraits) -> Result<Vec<Dispatches>> {
        self.for_gpu(gpu)?.steps.iter().map(|step| step.dispatches(gpu)).collect()
    }
}
