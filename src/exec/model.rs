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
    /// A graph is for one batch size. Where batches differ in size, as an epoch's last one may, build the same graph for
    /// each; [`Program::write`] and [`Program::run`] then take the one that fits:
    ///
    /// ```
    /// use wgrad::data::{DataLoader, TensorDataset};
    /// use wgrad::ops::Reduction;
    /// use wgrad::optim::Optimizer;
    /// use wgrad::{Device, Graph, Program, Result, Tensor, TensorType, nn::Init};
    ///
    /// # fn main() -> Result<()> {
    /// let optimizer = Optimizer::sgd(0.0);
    /// let step = |batch_size: usize| -> Result<Graph> {
    ///     let mut graph = Graph::new("step");
    ///     let x = graph.input("x", TensorType::f32([batch_size, 1]))?;
    ///     let y = graph.input("y", TensorType::f32([batch_size, 1]))?;
    ///     let w = graph.parameter("w", [1, 1], Init::Zeros)?;
    ///     let prediction = graph.linear(x, w, None)?;
    ///     let loss = graph.mse_loss(prediction, y, Reduction::Mean)?;
    ///     optimizer.minimize(&mut graph, loss)?;
    ///     Ok(graph)
    /// };
    /// let column = |values: [f32; 5]| Tensor::f32([5, 1], values.to_vec());
    /// let x = column([0.0, 1.0, 2.0, 3.0, 4.0])?;
    /// let y = column([0.0, 2.0, 4.0, 6.0, 8.0])?;
    /// let data = TensorDataset::new([("x", x), ("y", y)])?;
    /// let loader = DataLoader::new(data.len(), 2)?.shuffled(0); // 2 and 2, then the one that is left
    ///
    /// let graphs = loader.batch_sizes().into_iter().map(step).collect::<Result<Vec<_>>>()?;
    /// let mut program = Program::from_graphs(&Device::Cpu, &graphs, 0)?;
    /// for epoch in 0..50 {
    ///     for batch in data.batches(&loader, epoch) {
    ///         program.write_all(batch.iter())?;
    ///         program.run("step", &optimizer.steps(1, 0.05))?;
    ///     }
    /// }
    /// assert!((program.read("w")?.item()? - 2.0).abs() < 1e-3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Program::compile`].
    pub fn from_graphs<G: AsRef<Graph>>(
        device: &Device,
        graphs: impl IntoIterator<Item = G>,
        seed: u64,
    ) -> Result<Program> {
        let plans = graphs.into_iter().map(|graph| Plan::new(graph.as_ref())).collect::<Result<_>>()?;
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
