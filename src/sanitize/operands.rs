//! What an instruction reads and writes, for what goes over code without running it.

use super::code::{Atomic, Gather, Op, Reg};

impl Op {
    /// Tells the registers that an instruction reads.
    pub fn reads(&self, mut f: impl FnMut(Reg)) {
        let mut range = |first: Reg, count: u32| (first..first + count).for_each(&mut f);
        match *self {
            Op::Unary { a, .. } | Op::Set { a, .. } | Op::Scan { a, .. } => range(a, 1),
            Op::Binary { a, b, .. } => {
                range(a, 1);
                range(b, 1);
            }
            Op::Fma { a, b, c, .. } | Op::Select { c, a, b, .. } => [a, b, c].into_iter().for_each(|reg| range(reg, 1)),
            Op::GetIndexed { base, index, n, .. } => {
                range(base, n);
                range(index, 1);
            }
            Op::SetIndexed { index, a, n, .. } => {
                range(index, 1);
                range(a, n);
            }
            Op::CheckWritten { flag, .. } => range(flag, 1),
            Op::Index { base, index, .. } => {
                range(index, 1);
                base.into_iter().for_each(|base| range(base, 1));
            }
            Op::Load { at, .. } | Op::AtomicLoad { at, .. } | Op::UniformCheck { at } => {
                at.index.into_iter().for_each(|index| range(index, 1));
            }
            Op::Store { a, at, words } => {
                range(a, words.len);
                at.index.into_iter().for_each(|index| range(index, 1));
            }
            Op::AtomicStore { a, at } | Op::Atomic { a, at, .. } => {
                range(a, 1);
                at.index.into_iter().for_each(|index| range(index, 1));
            }
            Op::Gather { a, from, .. } => {
                range(a, 1);
                if let Gather::Lane(reg)
                | Gather::Down(reg)
                | Gather::Up(reg)
                | Gather::Xor(reg)
                | Gather::QuadLane(reg) = from
                {
                    range(reg, 1);
                }
            }
            Op::Ballot { a, .. } => a.into_iter().for_each(|a| range(a, 1)),
            Op::If { c, .. } | Op::BreakIf { c } => range(c, 1),
            _ => {}
        }
    }

    /// The registers that an instruction writes: the first and how many.
    pub fn writes(&self) -> Option<(Reg, u32)> {
        match *self {
            Op::Unary { d, .. }
            | Op::Binary { d, .. }
            | Op::Fma { d, .. }
            | Op::Select { d, .. }
            | Op::Set { d, .. }
            | Op::Index { d, .. }
            | Op::AtomicLoad { d, .. }
            | Op::ArrayLength { d, .. }
            | Op::Gather { d, .. }
            | Op::Scan { d, .. } => Some((d, 1)),
            Op::GetIndexed { d, n, .. } => Some((d, n)),
            Op::SetIndexed { base, n, .. } => Some((base, n)),
            Op::Load { d, words, .. } => Some((d, words.len)),
            Op::Atomic { d: Some(d), fun, .. } => {
                Some((d, if matches!(fun, Atomic::CompareExchange(_)) { 2 } else { 1 }))
            }
            Op::Ballot { d, .. } => Some((d, 4)),
            _ => None,
        }
    }
}
