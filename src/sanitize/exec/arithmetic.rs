//! Arithmetic on floats and bits, moves and selection. Results of invocations that are not active are computed too, as
//! that is faster, and never looked at.

use super::{Block, Machine, WIDTH};
use crate::sanitize::code::{Binary, Reg, Unary};
use crate::sanitize::report::Kind;

impl Machine<'_> {
    /// Computes a register from one other.
    #[inline(always)]
    pub(super) fn map(&mut self, d: Reg, a: Reg, f: impl Fn(u32) -> u32) {
        let (d, a) = (d as usize * self.num_blocks, a as usize * self.num_blocks);
        for block in 0..self.num_blocks {
            let x = self.regs[a + block];
            let out = &mut self.regs[d + block];
            for lane in 0..WIDTH {
                out[lane] = f(x[lane]);
            }
        }
    }

    /// Computes a register from two others.
    #[inline(always)]
    pub(super) fn zip(&mut self, d: Reg, a: Reg, b: Reg, f: impl Fn(u32, u32) -> u32) {
        let (d, a, b) = (d as usize * self.num_blocks, a as usize * self.num_blocks, b as usize * self.num_blocks);
        for block in 0..self.num_blocks {
            let (x, y) = (self.regs[a + block], self.regs[b + block]);
            let out = &mut self.regs[d + block];
            for lane in 0..WIDTH {
                out[lane] = f(x[lane], y[lane]);
            }
        }
    }

    /// [`Machine::map`] on floats, watching for NaNs that begin here.
    #[inline(always)]
    fn float(&mut self, d: Reg, a: Reg, f: impl Fn(f32) -> f32) {
        let (to, from) = (d as usize * self.num_blocks, a as usize * self.num_blocks);
        let mut nans = 0;
        for block in 0..self.num_blocks {
            let x = self.regs[from + block];
            let out = &mut self.regs[to + block];
            for lane in 0..WIDTH {
                let y = f(f32::from_bits(x[lane]));
                out[lane] = y.to_bits();
                nans |= u32::from(y.is_nan());
            }
        }
        if nans != 0 {
            self.check_nan(d, &[a]);
        }
    }

    /// [`Machine::zip`] on floats, watching for NaNs that begin here.
    #[inline(always)]
    fn floats(&mut self, d: Reg, a: Reg, b: Reg, f: impl Fn(f32, f32) -> f32) {
        let n = self.num_blocks;
        let (to, left, right) = (d as usize * n, a as usize * n, b as usize * n);
        let mut nans = 0;
        for block in 0..n {
            let (x, y) = (self.regs[left + block], self.regs[right + block]);
            let out = &mut self.regs[to + block];
            for lane in 0..WIDTH {
                let z = f(f32::from_bits(x[lane]), f32::from_bits(y[lane]));
                out[lane] = z.to_bits();
                nans |= u32::from(z.is_nan());
            }
        }
        if nans != 0 {
            self.check_nan(d, &[a, b]);
        }
    }

    #[inline(always)]
    fn compare(&mut self, d: Reg, a: Reg, b: Reg, f: impl Fn(f32, f32) -> bool) {
        self.zip(d, a, b, |x, y| u32::from(f(f32::from_bits(x), f32::from_bits(y))));
    }

    #[cold]
    fn check_nan(&mut self, d: Reg, operands: &[Reg]) {
        let value = |machine: &Self, reg, lane| f32::from_bits(machine.scalar(reg, lane));
        let is_born = |lane: &usize| {
            value(self, d, *lane).is_nan() && operands.iter().all(|&reg| value(self, reg, *lane).is_finite())
        };
        let found = self.masks.lanes().find(is_born);
        if let Some(lane) = found {
            let values: Vec<f32> = operands.iter().map(|&reg| value(self, reg, lane)).collect();
            self.report(Kind::NanFromFinite, lane, None, || format!("operands {values:?}"));
        }
    }

    pub(super) fn fma(&mut self, d: Reg, [a, b, c]: [Reg; 3]) {
        let n = self.num_blocks;
        let at = [d, a, b, c].map(|reg| reg as usize * n);
        let mut nans = 0;
        for block in 0..n {
            let [x, y, z] = [1, 2, 3].map(|operand| self.regs[at[operand] + block]);
            for lane in 0..WIDTH {
                let value = f32::from_bits(x[lane]).mul_add(f32::from_bits(y[lane]), f32::from_bits(z[lane]));
                self.regs[at[0] + block][lane] = value.to_bits();
                nans |= u32::from(value.is_nan());
            }
        }
        if nans != 0 {
            self.check_nan(d, &[a, b, c]);
        }
    }

    pub(super) fn select(&mut self, d: Reg, c: Reg, [a, b]: [Reg; 2]) {
        let n = self.num_blocks;
        let at = [d, c, a, b].map(|reg| reg as usize * n);
        for block in 0..n {
            let [c, x, y] = [1, 2, 3].map(|operand| self.regs[at[operand] + block]);
            let out = &mut self.regs[at[0] + block];
            for lane in 0..WIDTH {
                out[lane] = if c[lane] != 0 { x[lane] } else { y[lane] };
            }
        }
        self.select_excess(d, c, [a, b]);
    }

    /// Writes a variable.
    pub(super) fn set(&mut self, d: Reg, a: Reg) {
        let n = self.num_blocks;
        let (to, from) = (d as usize * n, a as usize * n);
        for (block, mask) in self.masks.blocks().iter().enumerate() {
            let x = self.regs[from + block];
            let out: &mut Block = &mut self.regs[to + block];
            for lane in 0..WIDTH {
                out[lane] = (x[lane] & mask[lane]) | (out[lane] & !mask[lane]);
            }
        }
        self.set_excess(d, a);
    }

    pub(super) fn unary(&mut self, op: Unary, d: Reg, a: Reg) {
        match op {
            Unary::Copy => {
                self.map(d, a, |x| x);
                self.copy_excess(d, a);
            }
            Unary::NegF => self.float(d, a, |x| -x),
            Unary::AbsF => self.float(d, a, f32::abs),
            Unary::SignF => self.float(d, a, |x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            }),
            Unary::Floor => self.float(d, a, f32::floor),
            Unary::Ceil => self.float(d, a, f32::ceil),
            Unary::Round => self.float(d, a, f32::round_ties_even),
            Unary::Trunc => self.float(d, a, f32::trunc),
            Unary::Fract => self.float(d, a, |x| x - x.floor()),
            #[expect(clippy::manual_clamp, reason = "of NaN the result is 0, as drivers have it; clamp would keep it")]
            Unary::Saturate => self.float(d, a, |x| x.max(0.0).min(1.0)),
            Unary::Sqrt => self.float(d, a, f32::sqrt),
            Unary::InverseSqrt => self.float(d, a, |x| 1.0 / x.sqrt()),
            Unary::Exp => self.float(d, a, f32::exp),
            Unary::Exp2 => self.float(d, a, f32::exp2),
            Unary::Log => self.float(d, a, f32::ln),
            Unary::Log2 => self.float(d, a, f32::log2),
            Unary::Sin => self.float(d, a, f32::sin),
            Unary::Cos => self.float(d, a, f32::cos),
            Unary::Tan => self.float(d, a, f32::tan),
            Unary::Asin => self.float(d, a, f32::asin),
            Unary::Acos => self.float(d, a, f32::acos),
            Unary::Atan => self.float(d, a, f32::atan),
            Unary::Sinh => self.float(d, a, f32::sinh),
            Unary::Cosh => self.float(d, a, f32::cosh),
            Unary::Tanh => self.float(d, a, f32::tanh),
            Unary::Asinh => self.float(d, a, f32::asinh),
            Unary::Acosh => self.float(d, a, f32::acosh),
            Unary::Atanh => self.float(d, a, f32::atanh),
            // Casts saturate, as WGSL has it; a NaN becomes 0.
            Unary::FToI => self.map(d, a, |x| f32::from_bits(x) as i32 as u32),
            Unary::FToU => self.map(d, a, |x| f32::from_bits(x) as u32),
            // Rounds to the nearest float.
            Unary::IToF => self.map(d, a, |x| (x as i32 as f32).to_bits()),
            Unary::UToF => self.map(d, a, |x| (x as f32).to_bits()),
            Unary::FToB => self.map(d, a, |x| u32::from(f32::from_bits(x) != 0.0)),
            Unary::IToB => self.map(d, a, |x| u32::from(x != 0)),
            Unary::BToF => self.map(d, a, |x| f32::from(x as u8).to_bits()),
            Unary::IsNan => self.map(d, a, |x| u32::from(f32::from_bits(x).is_nan())),
            Unary::IsInf => self.map(d, a, |x| u32::from(f32::from_bits(x).is_infinite())),
            Unary::NotB => self.map(d, a, |x| u32::from(x == 0)),
            Unary::NotBits => self.map(d, a, |x| !x),
            Unary::SignI => self.map(d, a, |x| (x as i32).signum() as u32),
            Unary::CountOnes => self.map(d, a, u32::count_ones),
            Unary::LeadingZeros => self.map(d, a, u32::leading_zeros),
            Unary::TrailingZeros => self.map(d, a, u32::trailing_zeros),
            Unary::ReverseBits => self.map(d, a, u32::reverse_bits),
            Unary::FirstLeadingU => self.map(d, a, first_leading),
            Unary::FirstLeadingI => self.map(d, a, |x| first_leading(if x as i32 >= 0 { x } else { !x })),
            Unary::FirstTrailing => self.map(d, a, |x| if x == 0 { u32::MAX } else { x.trailing_zeros() }),
            Unary::NegI | Unary::AbsI | Unary::IToU | Unary::UToI => self.integer_unary(op, d, a),
        }
    }

    pub(super) fn binary(&mut self, op: Binary, d: Reg, a: Reg, b: Reg) {
        match op {
            Binary::AddF => self.floats(d, a, b, |x, y| x + y),
            Binary::SubF => self.floats(d, a, b, |x, y| x - y),
            Binary::MulF => self.floats(d, a, b, |x, y| x * y),
            Binary::DivF => self.floats(d, a, b, |x, y| x / y),
            Binary::RemF => self.floats(d, a, b, |x, y| x - y * (x / y).trunc()),
            Binary::MinF => self.floats(d, a, b, f32::min),
            Binary::MaxF => self.floats(d, a, b, f32::max),
            Binary::Pow => self.floats(d, a, b, f32::powf),
            Binary::Atan2 => self.floats(d, a, b, f32::atan2),
            Binary::Step => self.floats(d, a, b, |edge, x| if edge <= x { 1.0 } else { 0.0 }),
            // An exponent is far inside f64's range.
            Binary::Ldexp => {
                self.zip(d, a, b, |x, y| ((f64::from(f32::from_bits(x)) * f64::from(y as i32).exp2()) as f32).to_bits())
            }
            Binary::EqF => self.compare(d, a, b, |x, y| x == y),
            Binary::NeF => self.compare(d, a, b, |x, y| x != y),
            Binary::LtF => self.compare(d, a, b, |x, y| x < y),
            Binary::LeF => self.compare(d, a, b, |x, y| x <= y),
            Binary::And => self.zip(d, a, b, |x, y| x & y),
            Binary::Or => self.zip(d, a, b, |x, y| x | y),
            Binary::Xor => self.zip(d, a, b, |x, y| x ^ y),
            Binary::Eq => self.zip(d, a, b, |x, y| u32::from(x == y)),
            Binary::Ne => self.zip(d, a, b, |x, y| u32::from(x != y)),
            Binary::LtI => self.zip(d, a, b, |x, y| u32::from((x as i32) < y as i32)),
            Binary::LeI => self.zip(d, a, b, |x, y| u32::from(x as i32 <= y as i32)),
            Binary::LtU => self.zip(d, a, b, |x, y| u32::from(x < y)),
            Binary::LeU => self.zip(d, a, b, |x, y| u32::from(x <= y)),
            _ => self.integer_binary(op, d, a, b),
        }
    }
}

fn first_leading(x: u32) -> u32 {
    if x == 0 { u32::MAX } else { 31 - x.leading_zeros() }
}
