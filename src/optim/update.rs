//! From gradients to new parameters: transformed as [`GradientOptions`] say, then handed to the optimizer, group by group.
//! All of it is appended to the training graph, so nothing waits for the host.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::buckets::buckets;
use super::gradients::IS_LAST;
use super::{GradientOptions, Learned, Optimizer, ParamGroup, Rule};
use crate::graph::plan::packed_elems;
use crate::graph::{Gradients, Graph, NodeKind, StateSpec, UpdatedBy, Value};
use crate::ops::Operation;
use crate::ops::update::accumulate::{Accumulate, SumStep};
use crate::tensor::DType;
use crate::{Error, Result};

/// Bytes that one update walks over in one buffer at most: the least binding that every WebGPU device takes. More
/// parameters are updated by several dispatches.
const MAX_PACK_BYTES: usize = 128 << 20;

/// What the names of states end in that hold sums of gradients from elsewhere.
pub(crate) const GRADIENT: &str = ".grad";

/// What surrounds an optimizer. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateOptions {
    /// What happens to gradients before the optimizer sees them.
    pub gradients: GradientOptions,
    /// Parameters with a learning rate or weight decay of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParamGroup>,
}

impl From<GradientOptions> for UpdateOptions {
    fn from(gradients: GradientOptions) -> Self {
        UpdateOptions { gradients, ..UpdateOptions::default() }
    }
}

impl UpdateOptions {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that lies outside what it may be.
    pub fn validate(&self) -> Result<()> {
        self.gradients.validate()?;
        self.groups.iter().try_for_each(ParamGroup::validate)
    }
}

/// An optimizer with everything around it. See the [module](self).
#[derive(Clone, Debug)]
pub struct Update {
    optimizer: Chosen,
    options: UpdateOptions,
}

/// An optimizer of the registry, or a rule of a user's own.
#[derive(Clone, Debug)]
enum Chosen {
    Listed(Optimizer),
    Own(Arc<dyn Rule>),
}

/// Parameters that are treated alike and fit one binding: one dispatch of each op.
pub(super) struct Chunk {
    /// The index of the group among the options', `None` for the rest.
    group: Option<usize>,
    pub is_regularized: bool,
    pub parameters: Vec<Learned>,
    /// The bucket of each parameter.
    buckets: Vec<usize>,
}

impl Chunk {
    pub fn params(&self) -> impl Iterator<Item = Value> + '_ {
        self.parameters.iter().map(|learned| learned.param)
    }

    pub fn grads(&self) -> impl Iterator<Item = Value> + '_ {
        self.parameters.iter().map(|learned| learned.grad)
    }

    /// A step of the sum of gradients over batches, in runs of one bucket each.
    pub fn sum_step(&self, step: SumStep) -> Accumulate {
        let runs = self.buckets.chunk_by(|one, next| one == next).map(<[usize]>::len).collect();
        Accumulate { num_params: self.parameters.len(), step, runs }
    }
}

impl Chosen {
    fn rule(&self) -> &dyn Rule {
        match self {
            Chosen::Listed(optimizer) => optimizer.get(),
            Chosen::Own(rule) => rule.as_ref(),
        }
    }

    fn with_weight_decay(&self, decay: f64) -> Result<Chosen> {
        match self {
            Chosen::Listed(optimizer) => optimizer.with("weight_decay", decay).map(Chosen::Listed),
            Chosen::Own(rule) => Err(Error::setting(
                "weight_decay of a parameter group",
                "an optimizer of the registry",
                format!("{rule:?}"),
            )),
        }
    }
}

/// The optimizer with its settings and what else the numbers of a step depend on. What a step table was made for is
/// compared with it.
impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.optimizer {
            Chosen::Listed(optimizer) => write!(f, "{optimizer}")?,
            Chosen::Own(rule) => write!(f, "{rule:?}")?,
        }
        if self.accumulate() > 1 {
            write!(f, ", steps of {} batches", self.accumulate())?;
        }
        self.own_rates().try_for_each(|(index, scale)| write!(f, ", group {index} at {scale} of the learning rate"))
    }
}

impl Update {
    /// An optimizer with what surrounds it.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Optimizer::validate`] and [`UpdateOptions::validate`], and where a group has a weight
    /// decay and the optimizer has none.
    pub fn new(optimizer: impl Into<Optimizer>, options: UpdateOptions) -> Result<Update> {
        Update { optimizer: Chosen::Listed(optimizer.into()), options }.validated()
    }

    /// A rule of your own with what surrounds it; its name in messages is its [`Debug`](fmt::Debug).
    ///
    /// # Errors
    /// As [`Update::new`], by [`Rule::validate`].
    pub fn with_rule(rule: impl Rule + 'static, options: UpdateOptions) -> Result<Update> {
        Update { optimizer: Chosen::Own(Arc::new(rule)), options }.validated()
    }

    /// Settings that are checked when the update is appended.
    pub(super) fn of(optimizer: Optimizer, options: UpdateOptions) -> Update {
        Update { optimizer: Chosen::Listed(optimizer), options }
    }

    fn validated(self) -> Result<Update> {
        self.rule().validate()?;
        self.options.validate()?;
        let decays = self.options.groups.iter().filter_map(|group| group.weight_decay);
        decays.into_iter().try_for_each(|decay| self.optimizer.with_weight_decay(decay).map(drop))?;
        Ok(self)
    }

    /// Appends the gradients of `loss`, a mean over the batch of shape (), and the update of every parameter that has
    /// one. Gives the loss with the L1 and L2 penalties, which is what is minimised. Gradients are changed in place on
    /// their way, so read one before this or not at all.
    ///
    /// # Errors
    /// As [`Graph::backward`] and [`Update::apply`].
    pub fn minimize(&self, graph: &mut Graph, loss: Value) -> Result<Value> {
        let grads = graph.backward(loss)?;
        let chunks = self.chunks(graph, &grads)?;
        graph.label("optimizer", |graph| {
            let total = self.options.gradients.regularized_loss(graph, loss, &chunks)?;
            self.append_chunks(graph, chunks)?;
            Ok(total)
        })
    }

    /// Appends the update alone, for gradients that are there already.
    ///
    /// # Errors
    /// [`Error::Setting`] where a group matches no parameter; [`Error::Operand`] where no parameter has a gradient, or
    /// where the graph has another optimizer already.
    pub fn apply(&self, graph: &mut Graph, grads: &Gradients) -> Result<()> {
        let chunks = self.chunks(graph, grads)?;
        graph.label("optimizer", |graph| self.append_chunks(graph, chunks))
    }

    /// Appends the update by the sum of a step's gradients that comes from elsewhere: the states whose names end in
    /// [`GRADIENT`]. `parameters` are those of the graph that computes such sums, in its order, so that both update the
    /// same memory.
    ///
    /// # Errors
    /// As [`Update::apply`].
    pub(crate) fn apply_sum(&self, graph: &mut Graph, parameters: &[StateSpec]) -> Result<()> {
        let mut learned = Vec::new();
        for spec in parameters {
            let param = graph.state(spec.clone())?;
            let grad = graph.input(&format!("{}{GRADIENT}", spec.name), spec.ty.clone())?;
            learned.push(Learned { name: spec.name.clone(), param, grad });
        }
        let chunks = self.chunks_of(graph, learned)?;
        self.sign(graph, &chunks)?;
        graph.label("optimizer", |graph| self.append_step(graph, &chunks))
    }

    fn append_chunks(&self, graph: &mut Graph, chunks: Vec<Chunk>) -> Result<()> {
        self.sign(graph, &chunks)?;
        if self.accumulate() == 1 {
            return self.append_step(graph, &chunks);
        }
        chunks.iter().try_for_each(|chunk| GradientOptions::weigh(graph, chunk))?;
        chunks.iter().try_for_each(|chunk| self.options.gradients.climb(graph, chunk))?;
        graph.only_if(IS_LAST, |graph| self.append_step(graph, &chunks))
    }

    /// Notes in the graph what updates it.
    fn sign(&self, graph: &mut Graph, chunks: &[Chunk]) -> Result<()> {
        let by =
            graph.updated_by.get_or_insert_with(|| UpdatedBy { optimizer: self.to_string(), parameters: Vec::new() });
        if by.optimizer != self.to_string() {
            let expected = format!("one optimizer in a graph ({}); build a graph for each", by.optimizer);
            return Err(Error::operand("optimizer", expected, self.to_string()));
        }
        by.parameters.extend(chunks.iter().flat_map(|chunk| &chunk.parameters).map(|learned| learned.name.clone()));
        Ok(())
    }

    /// What happens once a step: to the gradients, then to the parameters.
    fn append_step(&self, graph: &mut Graph, chunks: &[Chunk]) -> Result<()> {
        self.options.gradients.append(graph, chunks)?;
        for chunk in chunks {
            let group = chunk.group.map(|index| &self.options.groups[index]);
            let optimizer = match group.and_then(|group| group.weight_decay) {
                Some(decay) => &self.optimizer.with_weight_decay(decay)?,
                None => &self.optimizer,
            };
            let own_rate = self.own_rates().find(|(index, _)| Some(*index) == chunk.group);
            let suffix = own_rate.map_or(String::new(), |(index, _)| Self::suffix(index));
            let scalar = |name: &&str| graph.scalar(&format!("{name}{suffix}"), DType::F32);
            let scalars: Vec<Value> = optimizer.rule().scalars().iter().map(scalar).collect::<Result<_>>()?;
            optimizer.rule().append(graph, &chunk.parameters, &scalars)?;
        }
        Ok(())
    }

    /// Batches in a step of the optimizer.
    pub fn accumulate(&self) -> usize {
        self.options.gradients.accumulate
    }

    pub(super) fn rule(&self) -> &dyn Rule {
        self.optimizer.rule()
    }

    /// The groups with a learning rate of their own, by index, and its factor.
    pub(super) fn own_rates(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let scales = self.options.groups.iter().map(|group| group.lr_scale).enumerate();
        scales.filter(|(_, scale)| *scale != 1.0)
    }

    /// What the names of such a group's scalars end in.
    pub(super) fn suffix(group: usize) -> String {
        format!(".group{group}")
    }

    /// Parameters with their gradients, by group, by whether they are regularized, and by what fits a binding.
    fn chunks(&self, graph: &mut Graph, grads: &Gradients) -> Result<Vec<Chunk>> {
        let learned = graph
            .parameters()
            .into_iter()
            .filter_map(|(name, param)| grads.get(param).map(|grad| Learned { name, param, grad }))
            .collect();
        let learned = own_gradients(graph, learned)?;
        self.chunks_of(graph, learned)
    }

    /// The same of gradients that each have memory of their own.
    fn chunks_of(&self, graph: &mut Graph, learned: Vec<Learned>) -> Result<Vec<Chunk>> {
        if learned.is_empty() {
            return Err(Error::operand("optimizer", "a parameter with a gradient", "none"));
        }
        let UpdateOptions { groups, gradients } = &self.options;
        if let Some(idle) = groups.iter().find(|group| !learned.iter().any(|learned| group.matches(&learned.name))) {
            let names: Vec<&str> = learned.iter().map(|learned| learned.name.as_str()).collect();
            let expected = format!("names among {}", names.join(", "));
            return Err(Error::setting("parameter group", &expected, idle.matching.join(", ")));
        }
        let rate = |learned: &Learned| groups.iter().find(|group| group.matches(&learned.name)).map(|g| g.lr_scale);
        if learned.iter().all(|learned| rate(learned) == Some(0.0)) {
            let expected = "a parameter with a learning rate above 0";
            return Err(Error::setting("parameter group", expected, "an lr_scale of 0 for all of them"));
        }
        let kind = |graph: &Graph, learned: &Learned| {
            let group = groups.iter().position(|group| group.matches(&learned.name));
            let is_weight = graph.shape(learned.param).rank() >= 2;
            (group, gradients.is_regularized() && (gradients.regularize_biases || is_weight))
        };
        let mut chunks: Vec<(Chunk, usize)> = Vec::new();
        let sizes: Vec<usize> = learned.iter().map(|learned| graph.shape(learned.param).num_elems()).collect();
        for (learned, bucket) in learned.into_iter().zip(buckets(&sizes)) {
            let (group, is_regularized) = kind(graph, &learned);
            let bytes = 4 * packed_elems(std::slice::from_ref(graph.ty(learned.param)));
            // The last chunk of a kind is the one that may have room.
            let is_alike = |chunk: &Chunk| (chunk.group, chunk.is_regularized) == (group, is_regularized);
            match chunks.iter_mut().rfind(|(chunk, _)| is_alike(chunk)) {
                Some((chunk, size)) if *size + bytes <= MAX_PACK_BYTES => {
                    chunk.parameters.push(learned);
                    chunk.buckets.push(bucket);
                    *size += bytes;
                }
                _ => {
                    let chunk = Chunk { group, is_regularized, parameters: vec![learned], buckets: vec![bucket] };
                    chunks.push((chunk, bytes));
                }
            }
        }
        Ok(chunks.into_iter().map(|(chunk, _)| chunk).collect())
    }
}

/// Gives every gradient memory of its own, as the update needs it: a copy is taken of a value that is also something
/// else (another parameter's gradient, a value under another shape, an operand of another op).
fn own_gradients(graph: &mut Graph, learned: Vec<Learned>) -> Result<Vec<Learned>> {
    let mut used: HashSet<Value> = graph.outputs.values().copied().collect();
    used.extend(graph.nodes.iter().flat_map(|node| node.inputs.iter().copied()));
    let mut owned = Vec::new();
    for learned in learned {
        let is_own = matches!(&graph.node(learned.grad).kind, NodeKind::Op(op) if !op.is_alias());
        let grad = if is_own && used.insert(learned.grad) { learned.grad } else { graph.copy(learned.grad)? };
        owned.push(Learned { grad, ..learned });
    }
    Ok(owned)
}
