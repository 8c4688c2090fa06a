//! The states of a program on the CPU, and lending them: a rank's messages are sent from them and arrive in them.

use super::memory::Block;
use super::zeros;
use crate::Result;
use crate::exec::StateLayout;
use crate::exec::exchange::{Final, StateGroup, Watch, append};
use crate::exec::lent::Access;
use crate::graph::StateSpec;
use crate::ops::cpu::Float;

/// Memory for the states of a program. Members of a pack lie together, so that they can be lent as one.
pub(super) fn blocks_of_states<F: Float>(layout: &StateLayout) -> Result<Vec<Block>> {
    let mut members: Vec<Vec<Option<Block>>> = Vec::new();
    for pack in &layout.packs {
        let blocks = Block::zeros_together::<F>(pack.members.iter().map(|member| &member.ty))?;
        members.push(blocks.into_iter().map(Some).collect());
    }
    let state = |(spec, placed): (&StateSpec, &Option<(usize, usize)>)| match *placed {
        Some((pack, member)) => Ok(members[pack][member].take().expect("a member is one state")),
        None => zeros::<F>(&spec.ty),
    };
    layout.specs.iter().zip(&layout.placed).map(state).collect()
}

/// Tells a watch of a part of a group that no stage changes any more.
pub(super) fn tell<F: Float>(states: &[Block], group: &StateGroup, part: usize, watch: &mut dyn Watch) -> Result<()> {
    if let Some(lent) = group.lend_to(part, Access::Read) {
        return watch.is_final(part, Final::Lent(lent));
    }
    let mut bytes = Vec::new();
    append_states::<F>(states, group.states_of(part), &mut bytes);
    watch.is_final(part, Final::Copied(&bytes))
}

pub(super) fn append_states<F: Float>(states: &[Block], wanted: &[usize], bytes: &mut Vec<u8>) {
    let first = bytes.len();
    wanted.iter().for_each(|&state| append(bytes, first, states[state].bytes::<F>()));
}
