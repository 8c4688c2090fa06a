//! What is added to a convolution's gradient by the input as it is stored.

use crate::ops::kernel::{Binding, Dispatch, to_u32};

/// Where operand 2 of the gradient adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    /// Channels of the operand.
    pub channels: usize,
    /// Which of them is added to the gradient's first.
    pub first: usize,
    /// From one row, and column, of the gradient that something is added to to the next; the first is one.
    pub step: [usize; 2],
}

impl Added {
    /// The operand's binding, or without one another that the dispatch has, which is not read then.
    pub fn binding(added: Option<Added>, other: Binding) -> Binding {
        if added.is_some() { Binding::Input(2) } else { other }
    }

    /// The bindings from 6 on of a kernel that sums over tiles for a batch normalization's gradient: the sums, which are output
    /// 1; then, as the operands after the weight and what is added, what the activation gave, what was normalized, and its mean.
    pub fn sums(added: Option<Added>) -> [Binding; 4] {
        let first = 2 + usize::from(added.is_some());
        [Binding::Output(1), Binding::Input(first), Binding::Input(first + 1), Binding::Input(first + 2)]
    }

    /// The dispatch with the constants of lib/added.wgsl.
    pub fn constants(added: Option<Added>, dispatch: Dispatch) -> Dispatch {
        let Some(Added { channels, first, step }) = added else { return dispatch };
        dispatch
            .constant("HAS_ADDED", 1u32)
            .constant("ADDED_CHANNELS", to_u32(channels))
            .constant("ADDED_FIRST", to_u32(first))
            .constant("ADDED_STEP_H", to_u32(step[0]))
            .constant("ADDED_STEP_W", to_u32(step[1]))
    }
}
