//! What a training loop written by hand asks of a program: compiled in one line from its graphs, several inputs
//! written at once, the model taken out and put back.

use super::{Device, MODEL_KINDS, Program, StateDict};
use crate::Result;
use crate::graph::plan::Plan;
use crate::graph::{Graph, StateKind};
use crate::tensor::Tensor;

impl Program {
    /// Plans and compiles graphs that share states by name; [`Program::compile`] for when the plans do not matter.
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Program::compile`].
    pub fn from_graphs(device: &Device, graphs: &[&Graph], seed: u64) -> Result<Program> {
        let plans = graphs.iter().map(|graph| Plan::new(graph)).collect::<Result<_>>()?;
        Program::compile(device, plans, seed)
    }

    /// Overwrites several states: the inputs of a batch.
    ///
    /// # Errors
    /// As [`Program::write`].
    pub fn write_all<'a>(&mut self, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
        tensors.into_iter().try_for_each(|(name, tensor)| self.write(name, tensor))
    }

    /// The model: parameters and running statistics, as a model file holds them.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
    pub fn model(&mut self) -> Result<StateDict> {
        self.state_dict(&MODEL_KINDS)
    }

    /// Overwrites the model.
    ///
    /// # Errors
    /// [`crate::Error::State`] where tensors are missing, unknown or of another shape; nothing is changed then.
    pub fn load_model(&mut self, model: &StateDict) -> Result<()> {
        self.load_state_dict(model, &MODEL_KINDS)
    }

    /// The number of learned numbers; running statistics do not count.
    pub fn num_parameters(&self) -> usize {
        let learned = self.layout.specs.iter().filter(|spec| spec.kind == StateKind::Parameter);
        learned.map(|spec| spec.ty.shape.num_elems()).sum()
    }
}
