//! Where pointers point: a variable, a fixed distance and what indices add at run time.

use naga::TypeInner;

use super::types::{self, Inner};
use super::{Lowered, Lowering};
use crate::sanitize::code::{Address, Length, Offsets, Op, Reg};

/// A variable of one invocation, in registers.
#[derive(Clone)]
pub(super) struct Variable {
    pub base: Reg,
    pub len: u32,
    /// The first of as many registers that say whether each scalar was written; `None` where it has a first value.
    pub flags: Option<Reg>,
    pub name: u16,
}

/// What a pointer starts from.
#[derive(Clone, Copy)]
pub(super) enum Root {
    /// Index into `Lowering::variables`.
    Local(usize),
    /// Index into `Code::globals`.
    Global(u16),
}

/// A pointer. Offsets are scalars in registers and words in memory.
#[derive(Clone)]
pub(super) struct Place {
    pub root: Root,
    pub offset: u32,
    pub index: Option<Reg>,
    pub inner: Inner,
}

impl Place {
    pub fn address(&self, global: u16) -> Address {
        Address { global, index: self.index, offset: self.offset }
    }
}

impl Lowering<'_> {
    pub(super) fn declare(&mut self, name: &str, inner: &Inner, is_watched: bool) -> usize {
        let len = types::num_scalars(self.module, inner);
        let base = self.fresh(len);
        let flags = is_watched.then(|| self.fresh(len));
        let name = self.name(name);
        self.variables.push(Variable { base, len, flags, name });
        self.variables.len() - 1
    }

    /// Gives a variable its first value, zeros where it has none of its own.
    pub(super) fn initialize(&mut self, variable: usize, init: Option<std::rc::Rc<[Reg]>>) {
        let Variable { base, len, flags, .. } = self.variables[variable].clone();
        let zero = self.constant(0);
        for scalar in 0..len {
            let a = init.as_ref().map_or(zero, |init| init[scalar as usize]);
            self.emit(Op::Set { d: base + scalar, a });
            if let Some(flags) = flags {
                self.emit(Op::Set { d: flags + scalar, a: zero });
            }
        }
    }

    /// The part of what a pointer points to at a constant index.
    pub(super) fn place_part(&self, place: &Place, index: u32) -> Place {
        let distance = match place.root {
            Root::Local(_) => types::part_scalars(self.module, &place.inner, index),
            Root::Global(_) => types::part_offset(self.module, &place.inner, index),
        };
        let inner = types::part(self.module, &place.inner, index);
        Place { offset: place.offset + distance, inner, ..place.clone() }
    }

    /// The element of what a pointer points to at an index known at run time.
    pub(super) fn place_element(&mut self, place: &Place, index: Reg) -> Place {
        let inner = types::element(self.module, &place.inner);
        let (stride, name) = match place.root {
            Root::Local(variable) => (types::num_scalars(self.module, &inner), self.variables[variable].name),
            Root::Global(global) => {
                let name = self.code.globals[global as usize].name.clone();
                (types::stride(self.module, &place.inner), self.name(&name))
            }
        };
        let len = match (types::num_elements(self.module, &place.inner), place.root) {
            (None, Root::Global(global)) => Length::Runtime { global, offset: place.offset, stride },
            (len, _) => Length::Fixed(len.unwrap_or(0)),
        };
        let d = self.fresh(1);
        self.emit(Op::Index { d, base: place.index, index, stride, len, name });
        Place { root: place.root, offset: place.offset, index: Some(d), inner }
    }

    fn words(&mut self, inner: &Inner) -> Offsets {
        let mut offsets = Vec::new();
        types::scalar_offsets(self.module, inner, 0, &mut offsets);
        let known = self.code.offsets.windows(offsets.len()).position(|window| window == offsets);
        let start = known.unwrap_or_else(|| {
            self.code.offsets.extend(&offsets);
            self.code.offsets.len() - offsets.len()
        });
        // Types of a kernel have far fewer than 4 Gi scalars.
        Offsets { start: start as u32, len: offsets.len() as u32 }
    }

    pub(super) fn load(&mut self, place: &Place) -> Lowered<Vec<Reg>> {
        let count = types::num_scalars(self.module, &place.inner);
        let d = self.fresh(count);
        match place.root {
            Root::Global(global) => {
                let at = place.address(global);
                if matches!(place.inner, TypeInner::Atomic(_)) {
                    self.emit(Op::AtomicLoad { d, at });
                } else {
                    let words = self.words(&place.inner);
                    self.emit(Op::Load { d, at, words });
                }
            }
            Root::Local(variable) => self.load_local(variable, place, d, count),
        }
        Ok((d..d + count).collect())
    }

    fn load_local(&mut self, variable: usize, place: &Place, d: Reg, count: u32) {
        let Variable { base, flags, name, .. } = self.variables[variable];
        let Some(index) = place.index else {
            for scalar in 0..count {
                let at = place.offset + scalar;
                if let Some(flags) = flags {
                    self.emit(Op::CheckWritten { flag: flags + at, name });
                }
                self.emit(Op::Unary { op: crate::sanitize::code::Unary::Copy, d: d + scalar, a: base + at });
            }
            return;
        };
        if let Some(flags) = flags {
            let found = self.fresh(count);
            self.emit(Op::GetIndexed { d: found, base: flags + place.offset, index, n: count });
            for flag in found..found + count {
                self.emit(Op::CheckWritten { flag, name });
            }
        }
        self.emit(Op::GetIndexed { d, base: base + place.offset, index, n: count });
    }

    pub(super) fn store(&mut self, place: &Place, value: &[Reg]) {
        match place.root {
            Root::Global(global) => {
                let at = place.address(global);
                if matches!(place.inner, TypeInner::Atomic(_)) {
                    self.emit(Op::AtomicStore { a: value[0], at });
                    return;
                }
                let words = self.words(&place.inner);
                let a = self.contiguous(value);
                self.emit(Op::Store { a, at, words });
            }
            Root::Local(variable) => self.store_local(variable, place, value),
        }
    }

    fn store_local(&mut self, variable: usize, place: &Place, value: &[Reg]) {
        let Variable { base, flags, .. } = self.variables[variable];
        let one = self.constant(1);
        let count = value.len() as u32;
        let Some(index) = place.index else {
            for (at, &a) in (place.offset..).zip(value) {
                self.emit(Op::Set { d: base + at, a });
                if let Some(flags) = flags {
                    self.emit(Op::Set { d: flags + at, a: one });
                }
            }
            return;
        };
        let a = self.contiguous(value);
        self.emit(Op::SetIndexed { base: base + place.offset, index, a, n: count });
        if let Some(flags) = flags {
            let ones = self.contiguous(&vec![one; value.len()]);
            self.emit(Op::SetIndexed { base: flags + place.offset, index, a: ones, n: count });
        }
    }

    /// The first of registers in a row that hold these values, copied there if need be.
    pub(super) fn contiguous(&mut self, regs: &[Reg]) -> Reg {
        let first = regs.first().copied().unwrap_or(0);
        if regs.iter().zip(first..).all(|(&reg, want)| reg == want) {
            return first;
        }
        let d = self.fresh(regs.len() as u32);
        for (d, &a) in (d..).zip(regs) {
            self.emit(Op::Unary { op: crate::sanitize::code::Unary::Copy, d, a });
        }
        d
    }
}
