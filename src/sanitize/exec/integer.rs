//! Integers, and how far each is from what it would be without limits.
//!
//! WGSL's integers wrap, which hashes and generators of random numbers want and indices do not. So for every register
//! it is known whether any invocation's value has an *excess*, exact minus wrapped: sums, products and shifts make one,
//! and a later difference may undo it; bitwise operators, remainders and right shifts clear it, since what comes out of
//! them is meant modulo 2³². An index with an excess is a fault.

use super::{Machine, WIDTH};
use crate::sanitize::code::{Binary, Reg, Unary};
use crate::sanitize::report::Kind;

impl Machine<'_> {
    /// An integer operator: the result and whether it wrapped; and the same without limits.
    #[inline(always)]
    fn integers(
        &mut self,
        d: Reg,
        [a, b]: [Reg; 2],
        is_signed: bool,
        f: impl Fn(u32, u32) -> (u32, bool),
        exact: impl Fn(i64, i64) -> i64,
    ) {
        let n = self.num_blocks;
        let (to, left, right) = (d as usize * n, a as usize * n, b as usize * n);
        let mut wrapped = 0;
        for block in 0..n {
            let (x, y) = (self.regs[left + block], self.regs[right + block]);
            let out = &mut self.regs[to + block];
            for lane in 0..WIDTH {
                let (z, wraps) = f(x[lane], y[lane]);
                out[lane] = z;
                wrapped |= u32::from(wraps);
            }
        }
        let was_wild = self.is_wild[a as usize] || self.is_wild[b as usize];
        if wrapped != 0 || was_wild {
            self.find_excess(d, [a, b], is_signed, exact);
        } else {
            self.is_wild[d as usize] = false;
        }
    }

    #[cold]
    #[inline(never)]
    fn find_excess(&mut self, d: Reg, [a, b]: [Reg; 2], is_signed: bool, exact: impl Fn(i64, i64) -> i64) {
        self.make_excess();
        let mut is_wild = false;
        for lane in 0..self.num_blocks * WIDTH {
            let [x, y] = [a, b].map(|reg| self.exact(reg, lane, is_signed));
            let excess = exact(x, y).saturating_sub(value(self.scalar(d, lane), is_signed));
            self.set_lane_excess(d, lane, excess);
            is_wild |= excess != 0 && self.masks.is_on(lane);
        }
        self.mark(d, is_wild, [a, b]);
    }

    /// Says whether a register is wild, and where that began.
    fn mark(&mut self, d: Reg, is_wild: bool, sources: [Reg; 2]) {
        self.is_wild[d as usize] = is_wild;
        let source = sources.into_iter().find(|&source| self.is_wild[source as usize] && source != d);
        self.origin[d as usize] = source.map_or(self.pc, |source| self.origin[source as usize]);
    }

    fn make_excess(&mut self) {
        if self.excess.is_empty() {
            self.excess = vec![0; self.regs.len() * WIDTH];
        }
    }

    pub(super) fn lane_excess(&self, reg: Reg, lane: usize) -> i64 {
        if self.is_wild[reg as usize] { self.excess[reg as usize * self.num_blocks * WIDTH + lane] } else { 0 }
    }

    fn set_lane_excess(&mut self, reg: Reg, lane: usize, excess: i64) {
        self.excess[reg as usize * self.num_blocks * WIDTH + lane] = excess;
    }

    /// What an integer would be without limits.
    fn exact(&self, reg: Reg, lane: usize, is_signed: bool) -> i64 {
        value(self.scalar(reg, lane), is_signed).saturating_add(self.lane_excess(reg, lane))
    }

    pub(super) fn copy_excess(&mut self, d: Reg, a: Reg) {
        if self.is_wild[a as usize] {
            self.move_excess(d, |_, _| a);
            self.mark(d, true, [a, a]);
        } else {
            self.is_wild[d as usize] = false;
        }
    }

    /// After a masked write: those that were not active keep what they had.
    pub(super) fn set_excess(&mut self, d: Reg, a: Reg) {
        if self.is_wild[a as usize] || self.is_wild[d as usize] {
            self.move_excess(d, |machine, lane| if machine.masks.is_on(lane) { a } else { d });
            let (was_wild, pc) = (self.is_wild[d as usize], self.origin[d as usize]);
            self.mark(d, true, [a, a]);
            if was_wild && !self.is_wild[a as usize] {
                self.origin[d as usize] = pc;
            }
        }
    }

    pub(super) fn select_excess(&mut self, d: Reg, c: Reg, [a, b]: [Reg; 2]) {
        if self.is_wild[a as usize] || self.is_wild[b as usize] {
            self.move_excess(d, |machine, lane| if machine.scalar(c, lane) != 0 { a } else { b });
            self.mark(d, true, [a, b]);
        } else {
            self.is_wild[d as usize] = false;
        }
    }

    /// Takes over each invocation's excess from the register that `from` names.
    #[cold]
    fn move_excess(&mut self, d: Reg, from: impl Fn(&Self, usize) -> Reg) {
        self.make_excess();
        for lane in 0..self.num_blocks * WIDTH {
            let excess = self.lane_excess(from(self, lane), lane);
            self.set_lane_excess(d, lane, excess);
        }
    }

    pub(super) fn integer_unary(&mut self, op: Unary, d: Reg, a: Reg) {
        match op {
            Unary::NegI => {
                self.integers(d, [a, a], true, |x, _| (x.wrapping_neg(), x == 1 << 31), |x, _| x.saturating_neg())
            }
            Unary::AbsI => self.integers(
                d,
                [a, a],
                true,
                // The bits of the absolute value.
                |x, _| ((x as i32).wrapping_abs() as u32, x == 1 << 31),
                |x, _| x.saturating_abs(),
            ),
            // The same bits mean another number where the highest is set. A difference of two signed numbers may become
            // an index if it is not negative, so the exact number stays what it was.
            _ => {
                let from_signed = op == Unary::IToU;
                let mut changed = 0;
                for block in 0..self.num_blocks {
                    let x = self.regs[a as usize * self.num_blocks + block];
                    self.regs[d as usize * self.num_blocks + block] = x;
                    changed |= x.iter().fold(0, |all, &x| all | x >> 31);
                }
                if changed == 0 && !self.is_wild[a as usize] {
                    self.is_wild[d as usize] = false;
                    return;
                }
                self.make_excess();
                let mut is_wild = false;
                for lane in 0..self.num_blocks * WIDTH {
                    let exact = self.exact(a, lane, from_signed);
                    let excess = exact.saturating_sub(value(self.scalar(d, lane), !from_signed));
                    self.set_lane_excess(d, lane, excess);
                    is_wild |= excess != 0 && self.masks.is_on(lane);
                }
                self.mark(d, is_wild, [a, a]);
            }
        }
    }

    pub(super) fn integer_binary(&mut self, op: Binary, d: Reg, a: Reg, b: Reg) {
        // Signed numbers are the same bits.
        let signed = |f: fn(i32, i32) -> (i32, bool)| {
            move |x: u32, y: u32| {
                let (z, wraps) = f(x as i32, y as i32);
                (z as u32, wraps)
            }
        };
        let [add, sub, mul] = [i64::saturating_add, i64::saturating_sub, i64::saturating_mul];
        match op {
            Binary::AddI => self.integers(d, [a, b], true, signed(i32::overflowing_add), add),
            Binary::SubI => self.integers(d, [a, b], true, signed(i32::overflowing_sub), sub),
            Binary::MulI => self.integers(d, [a, b], true, signed(i32::overflowing_mul), mul),
            Binary::AddU => self.integers(d, [a, b], false, u32::overflowing_add, add),
            Binary::SubU => self.integers(d, [a, b], false, u32::overflowing_sub, sub),
            Binary::MulU => self.integers(d, [a, b], false, u32::overflowing_mul, mul),
            Binary::MinI => self.integers(d, [a, b], true, signed(|x, y| (x.min(y), false)), i64::min),
            Binary::MaxI => self.integers(d, [a, b], true, signed(|x, y| (x.max(y), false)), i64::max),
            Binary::MinU => self.integers(d, [a, b], false, |x, y| (x.min(y), false), i64::min),
            Binary::MaxU => self.integers(d, [a, b], false, |x, y| (x.max(y), false), i64::max),
            Binary::DivU => {
                self.check_divisor(a, b, false);
                self.integers(d, [a, b], false, |x, y| (x.checked_div(y).unwrap_or(x), false), quotient);
            }
            Binary::DivI => {
                self.check_divisor(a, b, true);
                self.integers(d, [a, b], true, signed(|x, y| (x.checked_div(y).unwrap_or(x), false)), quotient);
            }
            Binary::RemU => {
                self.check_divisor(a, b, false);
                self.zip(d, a, b, |x, y| x.checked_rem(y).unwrap_or(0));
            }
            Binary::RemI => {
                self.check_divisor(a, b, true);
                self.zip(d, a, b, |x, y| (x as i32).checked_rem(y as i32).unwrap_or(0) as u32);
            }
            Binary::Shl => {
                self.check_shift(b);
                let shift = |x: u32, y: u32| (x << (y & 31), (x << (y & 31)) >> (y & 31) != x);
                self.integers(d, [a, b], false, shift, |x, y| x.saturating_mul(1 << (y & 31)));
            }
            Binary::ShrU => {
                self.check_shift(b);
                self.zip(d, a, b, |x, y| x >> (y & 31));
            }
            Binary::ShrI => {
                self.check_shift(b);
                self.zip(d, a, b, |x, y| ((x as i32) >> (y & 31)) as u32);
            }
            // Floats, bits and comparisons are dealt with before.
            _ => {}
        }
    }

    fn check_divisor(&mut self, a: Reg, b: Reg, is_signed: bool) {
        let n = self.num_blocks;
        let mut bad = 0;
        for (block, mask) in self.masks.blocks().iter().enumerate() {
            let (x, y) = (&self.regs[a as usize * n + block], &self.regs[b as usize * n + block]);
            for lane in 0..WIDTH {
                let overflows = is_signed && x[lane] == 1 << 31 && y[lane] == u32::MAX;
                bad |= mask[lane] & u32::from(y[lane] == 0 || overflows);
            }
        }
        if bad != 0 {
            let is_bad = |lane: &usize| {
                let (x, y) = (self.scalar(a, *lane), self.scalar(b, *lane));
                y == 0 || (is_signed && x == 1 << 31 && y == u32::MAX)
            };
            let lane = self.masks.lanes().find(is_bad).expect("one was found above");
            let (x, y) = (value(self.scalar(a, lane), is_signed), value(self.scalar(b, lane), is_signed));
            self.report(Kind::DivisionByZero, lane, None, || format!("{x} by {y}"));
        }
    }

    fn check_shift(&mut self, b: Reg) {
        let n = self.num_blocks;
        let mut bad = 0;
        for (block, mask) in self.masks.blocks().iter().enumerate() {
            let y = &self.regs[b as usize * n + block];
            for lane in 0..WIDTH {
                bad |= mask[lane] & u32::from(y[lane] >= 32);
            }
        }
        if bad != 0 {
            let lane = self.masks.lanes().find(|&lane| self.scalar(b, lane) >= 32).expect("one was found above");
            let shift = self.scalar(b, lane);
            self.report(Kind::ShiftTooFar, lane, None, || format!("by {shift} bits of 32"));
        }
    }
}

fn quotient(x: i64, y: i64) -> i64 {
    x.checked_div(y).unwrap_or(x)
}

fn value(bits: u32, is_signed: bool) -> i64 {
    if is_signed { i64::from(bits as i32) } else { i64::from(bits) }
}
