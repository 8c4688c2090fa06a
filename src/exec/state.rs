//! The states of a program: the union of what its plans declare, and which of them lie side by side in a pack. Plans
//! may declare an input under one name in several shapes, for batches of several sizes; each shape is a state.

use super::{Named, unknown};
use crate::graph::plan::{Pack, Plan};
use crate::graph::{StateKind, StateSpec};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Tensors by name: what a model file holds.
pub type StateDict = Named<Tensor>;

/// The states that the plans of a program share.
pub(crate) struct StateLayout {
    pub specs: Vec<StateSpec>,
    /// The packs that hold states; every member is one.
    pub packs: Vec<Pack>,
    /// For each state, its pack and its index there.
    pub placed: Vec<Option<(usize, usize)>>,
    /// For each plan and each of its states, the index in `specs`.
    pub of_plan: Vec<Vec<usize>>,
}

impl StateLayout {
    pub fn new(plans: &[Plan]) -> Result<StateLayout> {
        let mut layout = StateLayout { specs: Vec::new(), packs: Vec::new(), placed: Vec::new(), of_plan: Vec::new() };
        for plan in plans {
            let indices = plan.states.iter().map(|spec| layout.declare(spec)).collect::<Result<_>>()?;
            layout.of_plan.push(indices);
        }
        for pack in plans.iter().flat_map(|plan| &plan.packs) {
            layout.place(pack)?;
        }
        Ok(layout)
    }

    /// The state of this name; of an input in several shapes the first.
    pub fn index(&self, name: &str) -> Result<usize> {
        self.named(name).next().ok_or_else(|| unknown("state", name, self.specs.iter().map(|spec| &spec.name)))
    }

    /// The states of this name: several where it is an input's that is declared in several shapes.
    pub fn named(&self, name: &str) -> impl Iterator<Item = usize> {
        (0..self.specs.len()).filter(move |&index| self.specs[index].name == name)
    }

    pub fn of_kinds(&self, kinds: &[StateKind]) -> Vec<usize> {
        (0..self.specs.len()).filter(|&index| kinds.contains(&self.specs[index].kind)).collect()
    }

    /// The pack of states that is `pack`; `None` for a pack of other values.
    pub fn pack_index(&self, pack: &Pack) -> Option<usize> {
        self.packs.iter().position(|known| known == pack)
    }

    fn declare(&mut self, spec: &StateSpec) -> Result<usize> {
        let is_input = |spec: &StateSpec| spec.kind == StateKind::Input;
        let clash = |known: &StateSpec| !(is_input(known) && is_input(spec) && known.ty != spec.ty);
        if let Some(index) = self.named(&spec.name).find(|&index| self.specs[index] == *spec) {
            return Ok(index);
        }
        let Some(known) = self.named(&spec.name).map(|index| &self.specs[index]).find(|known| clash(known)) else {
            self.specs.push(spec.clone());
            self.placed.push(None);
            return Ok(self.specs.len() - 1);
        };
        let describe = |spec: &StateSpec| format!("{:?} {} starting as {:?}", spec.kind, spec.ty, spec.init);
        Err(Error::NameClash { name: spec.name.clone(), first: describe(known), second: describe(spec) })
    }

    fn place(&mut self, pack: &Pack) -> Result<()> {
        if pack.members.iter().any(|member| member.state.is_none()) || self.pack_index(pack).is_some() {
            return Ok(());
        }
        for (place, member) in pack.members.iter().enumerate() {
            let name = member.state.as_ref().expect("packs with other members were left out above");
            let index = self.index(name)?;
            if self.placed[index].replace((self.packs.len(), place)).is_some() {
                let (first, second) = ("a member of one pack".to_owned(), "a member of another".to_owned());
                return Err(Error::NameClash { name: name.clone(), first, second });
            }
        }
        self.packs.push(pack.clone());
        Ok(())
    }
}
