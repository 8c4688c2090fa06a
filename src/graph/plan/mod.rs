//! From a graph to a plan: which nodes run, in what order, and where every value lives. Values that only matter
//! within a run share slots by lifetime, so memory is known before the first step and stays flat.

mod counts;
mod dispatches;
mod display;
mod early;
mod form;
mod levels;
mod packs;
mod slots;
#[cfg(test)]
mod tests;
mod tracker;

pub use counts::{Counts, Level};
pub(crate) use packs::{Pack, PackMember, packed_elems};
pub(crate) use slots::Slot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::fuse::{self, fuse, fuse_for_cpu};
use super::{Graph, NodeKind, StateSpec, UpdatedBy, Value};
use crate::ops::kernel::{Cost, GpuTraits};
use crate::ops::{Op, Operation};
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Error, Result};
use tracker::Tracker;

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    /// A state of the plan.
    State(usize),
    /// A number that the host gives for every step.
    Scalar(usize),
    /// A tensor fixed when the program is compiled.
    Constant(usize),
    /// Memory shared by values whose lifetimes do not meet.
    Slot(usize),
    /// A member of a pack that is no state, such as a gradient on its way to the optimizer.
    Pack { pack: usize, member: usize },
}

/// A value as a step sees it.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub storage: Storage,
    pub ty: TensorType,
}

/// One op to run.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub op: Op,
    pub scope: String,
    pub inputs: Vec<Operand>,
    pub outputs: Vec<Operand>,
    /// The packs that the op walks over, as indices into [`Plan::packs`].
    pub packs: Vec<usize>,
    /// The scalar that has to be other than 0 for the op to run.
    pub guard: Option<usize>,
    /// Values that the first dispatch binds without reading them: the steps after it in its level do, and find them done.
    pub early: Vec<Operand>,
}

impl Step {
    /// The layer and the op, such as "conv1.conv2d".
    pub fn label(&self) -> String {
        if self.scope.is_empty() { self.op.name().to_owned() } else { format!("{}.{}", self.scope, self.op.name()) }
    }

    pub fn input_types(&self) -> Vec<TensorType> {
        self.inputs.iter().map(|operand| operand.ty.clone()).collect()
    }

    pub fn output_types(&self) -> Vec<TensorType> {
        self.outputs.iter().map(|operand| operand.ty.clone()).collect()
    }

    pub fn cost(&self) -> Cost {
        self.op.cost(&self.input_types(), &self.output_types())
    }
}

/// An ordered, laid-out computation. Print it for a readable table.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) states: Vec<StateSpec>,
    pub(crate) scalars: Vec<(String, DType)>,
    pub(crate) constants: Vec<Tensor>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) packs: Vec<Pack>,
    pub(crate) outputs: BTreeMap<String, Operand>,
    /// The optimizer that updates its parameters, if any does.
    pub(crate) updated_by: Option<UpdatedBy>,
    /// Bytes that the values in slots would take without sharing.
    unshared_bytes: usize,
    target: Target,
    /// What it was made from, to be planned again for a device.
    graph: Arc<Graph>,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// No device: every op as it was built, in the order it was.
    Unfused,
    /// A CPU.
    Cpu,
    /// A GPU of this kind.
    Gpu(GpuTraits),
}

impl Plan {
    /// Plans everything that the graph's outputs and its updates of states depend on, with ops fused as a CPU runs them;
    /// the rest is left out. [`Program::compile`](crate::Program::compile) plans it again for a GPU.
    ///
    /// # Errors
    /// [`Error::Operand`] where a value would have to lie in two packs at once.
    pub fn new(graph: &Graph) -> Result<Plan> {
        Planner::new(&fuse_for_cpu(graph), graph, Target::Cpu).plan()
    }

    /// [`Plan::new`] without fusing: every op as it was built, on every device.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn unfused(graph: &Graph) -> Result<Plan> {
        Planner::new(graph, graph, Target::Unfused).plan()
    }

    /// The plan as a GPU of this kind runs it: ops in the order of their levels, and memory shared where that makes no
    /// dispatch wait. A plan that was made for a GPU before, and one without fusing, stays as it is.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::Limit`] where a tensor has more elements than a kernel counts.
    pub fn for_gpu(&self, gpu: GpuTraits) -> Result<Plan> {
        self.check_sizes()?;
        match self.target {
            Target::Unfused | Target::Gpu(_) => Ok(self.clone()),
            Target::Cpu => {
                let fused = fuse::gpu::fuse(&fuse(&self.graph), gpu);
                Planner::new(&fused, &self.graph, Target::Gpu(gpu)).plan()
            }
        }
    }

    /// Checks that kernels, which count in u32, can count the elements of every tensor.
    fn check_sizes(&self) -> Result<()> {
        let elems = |ty: &TensorType| ty.shape.num_elems() as u64;
        for node in &self.graph.nodes {
            if let Some(needed) = node.types.iter().map(elems).find(|&elems| elems > u32::MAX.into()) {
                let name = match &node.kind {
                    NodeKind::Op(op) => op.name(),
                    NodeKind::State(state) => &state.name,
                    NodeKind::Scalar(_) | NodeKind::Constant(_) => "a constant",
                };
                return Err(Error::Limit {
                    what: [&self.name, &node.scope, name].join(" ").replace("  ", " "),
                    needed,
                    limit: u32::MAX.into(),
                    limit_name: "elements in one tensor",
                    device: "a GPU".to_owned(),
                    advice: "use a smaller batch, or the CPU",
                });
            }
        }
        Ok(())
    }

    /// The name of the graph it was made from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The states it reads or updates.
    pub fn states(&self) -> &[StateSpec] {
        &self.states
    }

    /// Floating-point operations and least bytes moved in one run.
    pub fn cost(&self) -> Cost {
        self.steps
            .iter()
            .map(Step::cost)
            .fold(Cost::default(), |sum, cost| Cost { flops: sum.flops + cost.flops, bytes: sum.bytes + cost.bytes })
    }

    /// Bytes of the slots, which hold the values that only matter within a run.
    pub fn slot_bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.num_elems * slot.dtype.size_bytes()).sum()
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    /// Nodes that run, in order.
    live: Vec<usize>,
    /// The index in `live` after which a value's memory is free.
    last_use: HashMap<Value, usize>,
    storage: HashMap<Value, Storage>,
    /// The values of each of the plan's packs.
    pack_values: Vec<Vec<Value>>,
    /// The packs of each node that has any, as indices into the plan's.
    packs_of: HashMap<usize, Vec<usize>>,
    /// What has been used so far, where memory is shared only if that costs no fence.
    tracker: Option<Tracker>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    /// A planner of `graph`, which is `source` or a rewritten form of it.
    fn new(graph: &'a Graph, source: &Graph, target: Target) -> Self {
        let plan = Plan {
            name: graph.name().to_owned(),
            steps: Vec::new(),
            states: Vec::new(),
            scalars: Vec::new(),
            constants: Vec::new(),
            slots: Vec::new(),
            packs: Vec::new(),
            outputs: BTreeMap::new(),
            updated_by: graph.updated_by.clone(),
            unshared_bytes: 0,
            target,
            graph: Arc::new(source.clone()),
        };
        let live = live_nodes(graph);
        let (live, tracker) = match target {
            Target::Unfused | Target::Cpu => (live, None),
            // Software adapters wait for every dispatch anyway, and gain from memory that stays in caches.
            Target::Gpu(gpu) => (levels::sorted(graph, &live), (!gpu.is_software).then(Tracker::default)),
        };
        Planner {
            graph,
            live,
            last_use: HashMap::new(),
            storage: HashMap::new(),
            pack_values: Vec::new(),
            packs_of: HashMap::new(),
            tracker,
            plan,
        }
    }

    fn plan(mut self) -> Result<Plan> {
        self.find_last_uses();
        self.place_leaves();
        self.place_packs()?;
        self.place_steps();
        if let (Some(_), Target::Gpu(gpu)) = (&self.tracker, self.plan.target) {
            self.plan.bind_early(gpu)?;
        }
        for (name, &value) in &self.graph.outputs {
            let operand = self.operand(value);
            self.plan.outputs.insert(name.clone(), operand);
        }
        Ok(self.plan)
    }

    fn operand(&self, value: Value) -> Operand {
        Operand { storage: self.storage[&self.graph.root(value)], ty: self.graph.ty(value).clone() }
    }

    fn find_last_uses(&mut self) {
        for (place, &node) in self.live.iter().enumerate() {
            for &input in &self.graph.nodes[node].inputs {
                self.last_use.insert(self.graph.root(input), place);
            }
        }
        for &output in self.graph.outputs.values() {
            self.last_use.insert(self.graph.root(output), usize::MAX);
        }
    }

    fn place_leaves(&mut self) {
        for &index in &self.live {
            let node = &self.graph.nodes[index];
            let storage = match &node.kind {
                NodeKind::State(spec) => {
                    self.plan.states.push(spec.clone());
                    Storage::State(self.plan.states.len() - 1)
                }
                NodeKind::Scalar(name) => {
                    self.plan.scalars.push((name.clone(), node.types[0].dtype));
                    Storage::Scalar(self.plan.scalars.len() - 1)
                }
                NodeKind::Constant(tensor) => {
                    self.plan.constants.push(tensor.clone());
                    Storage::Constant(self.plan.constants.len() - 1)
                }
                NodeKind::Op(_) => continue,
            };
            self.storage.insert(self.graph.value(index, 0), storage);
        }
    }

    fn place_steps(&mut self) {
        let mut free: Vec<usize> = Vec::new();
        for place in 0..self.live.len() {
            let index = self.live[place];
            let node = &self.graph.nodes[index];
            let NodeKind::Op(op) = &node.kind else { continue };
            let outputs: Vec<Value> = (0..node.types.len()).map(|output| self.graph.value(index, output)).collect();
            if !op.is_alias() {
                let inputs: Vec<Operand> = node.inputs.iter().map(|&input| self.operand(input)).collect();
                let packs = self.packs_of.remove(&index).unwrap_or_default();
                let may_share = self.may_share(op, &inputs, &packs);
                for &output in &outputs {
                    if !self.storage.contains_key(&output) {
                        let slot = self.take_slot(may_share.then_some(&mut free), self.graph.ty(output));
                        self.storage.insert(output, Storage::Slot(slot));
                    }
                }
                let guard = node.guard.as_deref().map(|name| self.scalar(name));
                let (op, scope) = (op.clone(), node.scope.clone());
                let outputs = outputs.iter().map(|&output| self.operand(output)).collect();
                self.plan.steps.push(Step { op, scope, inputs, outputs, packs, guard, early: Vec::new() });
                self.note_uses();
            }
            self.free_slots(&mut free, place, &outputs);
        }
    }

    /// The index of a guard's scalar, which no op need read.
    fn scalar(&mut self, name: &str) -> usize {
        let scalars = &mut self.plan.scalars;
        scalars.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            scalars.push((name.to_owned(), DType::U32));
            scalars.len() - 1
        })
    }
}

/// The nodes that outputs and updates of states depend on, in order.
fn live_nodes(graph: &Graph) -> Vec<usize> {
    let mut live = vec![false; graph.nodes.len()];
    for value in graph.outputs.values() {
        live[value.node as usize] = true;
    }
    for index in (0..graph.nodes.len()).rev() {
        let node = &graph.nodes[index];
        if let NodeKind::Op(op) = &node.kind {
            live[index] |= !op.updates().is_empty();
        }
        if live[index] {
            for input in &node.inputs {
                live[input.node as usize] = true;
            }
        }
    }
    (0..graph.nodes.len()).filter(|&index| live[index]).collect()
}
