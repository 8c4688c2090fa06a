//! Packs: flat buffers of consecutive tensors, so that one dispatch can process all of them.

use super::{Planner, Storage};
use crate::graph::{NodeKind, Value};
use crate::ops::{Op, Operation};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// Offsets within a pack are multiples of this many elements: 256 bytes, the largest alignment that a WebGPU device
/// may ask of a binding's offset.
const PACK_ALIGN_ELEMS: usize = 64;

/// Elements of a pack of these types, with the padding after each.
pub(crate) fn packed_elems(types: &[TensorType]) -> usize {
    types.iter().map(|ty| ty.shape.num_elems().next_multiple_of(PACK_ALIGN_ELEMS)).sum()
}

/// Values that lie side by side in one buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pack {
    pub members: Vec<PackMember>,
    /// Length with the padding after each member.
    pub num_elems: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PackMember {
    /// The state's name, where the member is a state.
    pub state: Option<String>,
    pub ty: TensorType,
    pub offset_elems: usize,
}

impl Planner<'_> {
    pub(super) fn place_packs(&mut self) -> Result<()> {
        let graph = self.graph;
        for index in self.live.clone() {
            let node = &graph.nodes[index];
            let NodeKind::Op(op) = &node.kind else { continue };
            for range in op.packs(node.inputs.len()) {
                let pack = self.place_pack(op, &node.inputs[range])?;
                self.packs_of.entry(index).or_default().push(pack);
            }
        }
        Ok(())
    }

    /// The pack of these values, which several ops may walk over in turn.
    fn place_pack(&mut self, op: &Op, values: &[Value]) -> Result<usize> {
        if let Some(pack) = self.pack_values.iter().position(|known| known == values) {
            return Ok(pack);
        }
        let pack = self.plan.packs.len();
        let mut num_elems = 0;
        let mut members = Vec::new();
        for (member, &value) in values.iter().enumerate() {
            let ty = self.graph.ty(value).clone();
            let state = match &self.graph.node(value).kind {
                NodeKind::State(spec) => Some(spec.name.clone()),
                _ => {
                    if self.storage.insert(value, Storage::Pack { pack, member }).is_some()
                        || self.graph.root(value) != value
                    {
                        let got = "one that is shared, or is another value under a new shape; copy it first";
                        return Err(Error::operand(op.name(), "a value of its own in each place", got));
                    }
                    None
                }
            };
            members.push(PackMember { state, offset_elems: num_elems, ty: ty.clone() });
            num_elems = (num_elems + ty.shape.num_elems()).next_multiple_of(PACK_ALIGN_ELEMS);
        }
        self.plan.packs.push(Pack { members, num_elems });
        self.pack_values.push(values.to_vec());
        Ok(pack)
    }
}
