//! Built-in functions, the compound ones written out in simple ones.

use naga::{Expression, Handle, MathFunction, ScalarKind};

use super::{Frame, Lowered, Lowering};
use crate::sanitize::code::{Binary, Op, Reg, Unary};

impl<'a> Lowering<'a> {
    pub(super) fn math(
        &mut self,
        frame: &mut Frame<'a>,
        fun: MathFunction,
        arguments: &[Handle<Expression>],
    ) -> Lowered<Vec<Reg>> {
        let kind = self.kind(frame, arguments[0])?;
        let regs: Vec<_> = arguments.iter().map(|&argument| self.regs(frame, argument)).collect::<Lowered<_>>()?;
        if let Some(op) = unary_of(fun, kind) {
            return Ok(regs[0].iter().map(|&reg| self.unary(op, reg)).collect());
        }
        if let Some(whole) = self.of_vectors(fun, kind, &regs.iter().map(|regs| &regs[..]).collect::<Vec<_>>())? {
            return Ok(whole);
        }
        let count = regs.iter().map(|regs| regs.len()).max().unwrap_or(0);
        (0..count)
            .map(|at| {
                let scalars: Vec<Reg> = regs.iter().map(|regs| regs[at.min(regs.len() - 1)]).collect();
                self.componentwise(fun, kind, &scalars)
            })
            .collect()
    }

    fn float(&mut self, value: f32) -> Reg {
        self.constant(value.to_bits())
    }

    /// The same operator on every pair of components.
    fn each(&mut self, op: Binary, a: &[Reg], b: &[Reg]) -> Vec<Reg> {
        let last = b.len() - 1;
        a.iter().enumerate().map(|(at, &a)| self.binary(op, a, b[at.min(last)])).collect()
    }

    fn dot(&mut self, kind: ScalarKind, a: &[Reg], b: &[Reg]) -> Reg {
        let (mul, add) = match kind {
            ScalarKind::Float => (Binary::MulF, Binary::AddF),
            ScalarKind::Sint => (Binary::MulI, Binary::AddI),
            _ => (Binary::MulU, Binary::AddU),
        };
        let terms = self.each(mul, a, b);
        terms[1..].iter().fold(terms[0], |sum, &term| self.binary(add, sum, term))
    }

    fn length(&mut self, a: &[Reg]) -> Reg {
        let square = self.dot(ScalarKind::Float, a, a);
        self.unary(Unary::Sqrt, square)
    }

    /// Functions of whole vectors; `None` for those that go component by component.
    fn of_vectors(&mut self, fun: MathFunction, kind: ScalarKind, regs: &[&[Reg]]) -> Lowered<Option<Vec<Reg>>> {
        use MathFunction as M;
        let a = regs[0];
        Ok(Some(match fun {
            M::Dot => vec![self.dot(kind, a, regs[1])],
            M::Length => vec![self.length(a)],
            M::Distance => {
                let difference = self.each(Binary::SubF, a, regs[1]);
                vec![self.length(&difference)]
            }
            M::Normalize => {
                let length = self.length(a);
                self.each(Binary::DivF, a, &[length])
            }
            M::Cross => {
                let b = regs[1];
                let mut component = |i: usize, j: usize| {
                    let (left, right) = (self.binary(Binary::MulF, a[i], b[j]), self.binary(Binary::MulF, a[j], b[i]));
                    self.binary(Binary::SubF, left, right)
                };
                vec![component(1, 2), component(2, 0), component(0, 1)]
            }
            M::Reflect => {
                let dot = self.dot(kind, regs[1], a);
                let twice = self.binary(Binary::AddF, dot, dot);
                let along = self.each(Binary::MulF, regs[1], &[twice]);
                self.each(Binary::SubF, a, &along)
            }
            M::Transpose => {
                // Square matrices apart, the number of columns is not known from registers alone.
                let size = (a.len() as f64).sqrt() as usize;
                if size * size != a.len() {
                    return Err("transpose of a matrix that is not square".to_owned());
                }
                (0..a.len()).map(|at| a[at % size * size + at / size]).collect()
            }
            _ => return Ok(None),
        }))
    }

    fn componentwise(&mut self, fun: MathFunction, kind: ScalarKind, a: &[Reg]) -> Lowered<Reg> {
        use Binary as B;
        use MathFunction as M;
        let pick = |float, signed, unsigned| match kind {
            ScalarKind::Float => float,
            ScalarKind::Sint => signed,
            _ => unsigned,
        };
        let (min, max) = (pick(B::MinF, B::MinI, B::MinU), pick(B::MaxF, B::MaxI, B::MaxU));
        Ok(match fun {
            M::Min => self.binary(min, a[0], a[1]),
            M::Max => self.binary(max, a[0], a[1]),
            M::Clamp => {
                let low = self.binary(max, a[0], a[1]);
                self.binary(min, low, a[2])
            }
            M::Pow => self.binary(B::Pow, a[0], a[1]),
            M::Atan2 => self.binary(B::Atan2, a[0], a[1]),
            M::Step => self.binary(B::Step, a[0], a[1]),
            M::Ldexp => self.binary(B::Ldexp, a[0], a[1]),
            M::Fma => {
                let d = self.fresh(1);
                self.emit(Op::Fma { d, a: a[0], b: a[1], c: a[2] });
                d
            }
            M::Mix => {
                let one = self.float(1.0);
                let rest = self.binary(B::SubF, one, a[2]);
                let (left, right) = (self.binary(B::MulF, a[0], rest), self.binary(B::MulF, a[1], a[2]));
                self.binary(B::AddF, left, right)
            }
            M::SmoothStep => {
                let (over, width) = (self.binary(B::SubF, a[2], a[0]), self.binary(B::SubF, a[1], a[0]));
                let share = self.binary(B::DivF, over, width);
                let t = self.unary(Unary::Saturate, share);
                let (three, two) = (self.float(3.0), self.float(2.0));
                let twice = self.binary(B::MulF, two, t);
                let rest = self.binary(B::SubF, three, twice);
                let square = self.binary(B::MulF, t, t);
                self.binary(B::MulF, square, rest)
            }
            M::Degrees => {
                let factor = self.float(180.0 / std::f32::consts::PI);
                self.binary(B::MulF, a[0], factor)
            }
            M::Radians => {
                let factor = self.float(std::f32::consts::PI / 180.0);
                self.binary(B::MulF, a[0], factor)
            }
            M::ExtractBits => self.extract_bits(kind, a),
            other => return Err(format!("the function {other:?}")),
        })
    }

    /// `count` bits of a from `offset` on, the sign extended for signed numbers.
    fn extract_bits(&mut self, kind: ScalarKind, a: &[Reg]) -> Reg {
        let width = self.constant(32);
        let offset = self.binary(Binary::MinU, a[1], width);
        let room = self.binary(Binary::SubU, width, offset);
        let count = self.binary(Binary::MinU, a[2], room);
        // Up, so that the highest bit wanted is the highest of the word, and down again.
        let used = self.binary(Binary::AddU, offset, count);
        let up = self.binary(Binary::SubU, width, used);
        let down = self.binary(Binary::SubU, width, count);
        // A shift by the whole width happens for a count of 0 alone, whose result is 0.
        let last = self.constant(31);
        let (up, down) = (self.binary(Binary::MinU, up, last), self.binary(Binary::MinU, down, last));
        let raised = self.binary(Binary::Shl, a[0], up);
        // A shift that drops bits on purpose.
        let raised = self.unary(Unary::Copy, raised);
        let shift = if kind == ScalarKind::Sint { Binary::ShrI } else { Binary::ShrU };
        let lowered = self.binary(shift, raised, down);
        let zero = self.constant(0);
        let is_none = self.binary(Binary::Eq, count, zero);
        self.select(is_none, zero, lowered)
    }
}

fn unary_of(fun: MathFunction, kind: ScalarKind) -> Option<Unary> {
    use MathFunction as M;
    let is_float = kind == ScalarKind::Float;
    let is_signed = kind == ScalarKind::Sint;
    Some(match fun {
        M::Abs if is_float => Unary::AbsF,
        M::Abs if is_signed => Unary::AbsI,
        M::Abs => Unary::Copy,
        M::Sign if is_float => Unary::SignF,
        M::Sign => Unary::SignI,
        M::Saturate => Unary::Saturate,
        M::Floor => Unary::Floor,
        M::Ceil => Unary::Ceil,
        M::Round => Unary::Round,
        M::Trunc => Unary::Trunc,
        M::Fract => Unary::Fract,
        M::Sqrt => Unary::Sqrt,
        M::InverseSqrt => Unary::InverseSqrt,
        M::Exp => Unary::Exp,
        M::Exp2 => Unary::Exp2,
        M::Log => Unary::Log,
        M::Log2 => Unary::Log2,
        M::Sin => Unary::Sin,
        M::Cos => Unary::Cos,
        M::Tan => Unary::Tan,
        M::Asin => Unary::Asin,
        M::Acos => Unary::Acos,
        M::Atan => Unary::Atan,
        M::Sinh => Unary::Sinh,
        M::Cosh => Unary::Cosh,
        M::Tanh => Unary::Tanh,
        M::Asinh => Unary::Asinh,
        M::Acosh => Unary::Acosh,
        M::Atanh => Unary::Atanh,
        M::CountOneBits => Unary::CountOnes,
        M::CountLeadingZeros => Unary::LeadingZeros,
        M::CountTrailingZeros => Unary::TrailingZeros,
        M::ReverseBits => Unary::ReverseBits,
        M::FirstLeadingBit if is_signed => Unary::FirstLeadingI,
        M::FirstLeadingBit => Unary::FirstLeadingU,
        M::FirstTrailingBit => Unary::FirstTrailing,
        _ => return None,
    })
}
