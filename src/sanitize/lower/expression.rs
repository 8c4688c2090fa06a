//! Expressions. Taking vectors apart and putting them together makes no code: it only names registers.

use std::rc::Rc;

use naga::{BinaryOperator, Expression, Handle, Literal, RelationalFunction, ScalarKind, TypeInner, UnaryOperator};

use super::place::{Place, Root};
use super::types::{self, Inner};
use super::{Frame, Lowered, Lowering, Value};
use crate::sanitize::code::{Binary, Op, Reg, Unary};

impl<'a> Lowering<'a> {
    pub(super) fn unary(&mut self, op: Unary, a: Reg) -> Reg {
        let d = self.fresh(1);
        self.emit(Op::Unary { op, d, a });
        d
    }

    pub(super) fn binary(&mut self, op: Binary, a: Reg, b: Reg) -> Reg {
        let d = self.fresh(1);
        self.emit(Op::Binary { op, d, a, b });
        d
    }

    pub(super) fn select(&mut self, c: Reg, a: Reg, b: Reg) -> Reg {
        let d = self.fresh(1);
        self.emit(Op::Select { d, c, a, b });
        d
    }

    pub(super) fn literal(&mut self, literal: Literal) -> Lowered<Reg> {
        let bits = match literal {
            Literal::F32(value) => value.to_bits(),
            Literal::U32(value) => value,
            // The same bits.
            Literal::I32(value) => value as u32,
            Literal::Bool(value) => u32::from(value),
            other => return Err(format!("the literal {other:?}")),
        };
        Ok(self.constant(bits))
    }

    /// The type of an expression.
    pub(super) fn inner(&self, frame: &Frame<'a>, handle: Handle<Expression>) -> Inner {
        frame.info[handle].ty.inner_with(&self.module.types).clone()
    }

    /// The scalar kind of an expression.
    pub(super) fn kind(&self, frame: &Frame<'a>, handle: Handle<Expression>) -> Lowered<ScalarKind> {
        let inner = self.inner(frame, handle);
        types::kind(&inner).ok_or_else(|| format!("arithmetic on {inner:?}"))
    }

    /// The registers of an expression that is no pointer.
    pub(super) fn regs(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Lowered<Rc<[Reg]>> {
        match self.value(frame, handle)? {
            Value::Regs(regs) => Ok(regs),
            Value::Pointer(_) => Err("a pointer where a value is needed".to_owned()),
        }
    }

    pub(super) fn place(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Lowered<Place> {
        match self.value(frame, handle)? {
            Value::Pointer(place) => Ok(place),
            Value::Regs(_) => Err("a value where a pointer is needed".to_owned()),
        }
    }

    /// The value of an expression: what was made when it was emitted, or a constant, argument or variable.
    pub(super) fn value(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Lowered<Value> {
        if let Some(value) = &frame.values[handle.index()] {
            return Ok(value.clone());
        }
        self.expression(frame, handle)
    }

    /// Makes code for an expression and keeps its value.
    pub(super) fn expression(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Lowered<Value> {
        let span = frame.function.expressions.get_span(handle);
        let needs_emit = !frame.function.expressions[handle].needs_pre_emit();
        if needs_emit {
            self.at(span);
        }
        let value = self.make(frame, handle)?;
        frame.values[handle.index()] = Some(value.clone());
        Ok(value)
    }

    fn make(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Lowered<Value> {
        let module = self.module;
        let regs: Vec<Reg> = match &frame.function.expressions[handle] {
            Expression::Literal(literal) => vec![self.literal(*literal)?],
            Expression::Constant(constant) => {
                return Ok(Value::Regs(self.global_expression(module.constants[*constant].init)?));
            }
            Expression::ZeroValue(ty) => {
                let zero = self.constant(0);
                vec![zero; types::num_scalars(module, &module.types[*ty].inner) as usize]
            }
            Expression::FunctionArgument(index) => return Ok(frame.arguments[*index as usize].clone()),
            Expression::GlobalVariable(variable) => {
                let root = self.globals.get(variable).copied().ok_or("a variable that nothing declared")?;
                let inner = module.types[module.global_variables[*variable].ty].inner.clone();
                return Ok(Value::Pointer(Place { root, offset: 0, index: None, inner }));
            }
            Expression::LocalVariable(variable) => {
                let root = Root::Local(frame.locals[variable.index()]);
                let inner = module.types[frame.function.local_variables[*variable].ty].inner.clone();
                return Ok(Value::Pointer(Place { root, offset: 0, index: None, inner }));
            }
            Expression::Compose { components, .. } => {
                let parts: Vec<_> = components.iter().map(|&part| self.regs(frame, part)).collect::<Lowered<_>>()?;
                parts.concat()
            }
            &Expression::Access { base, index } => return self.access(frame, base, index),
            &Expression::AccessIndex { base, index } => return self.access_part(frame, base, index),
            &Expression::Splat { size, value } => vec![self.regs(frame, value)?[0]; size as usize],
            Expression::Swizzle { size, vector, pattern } => {
                let vector = self.regs(frame, *vector)?;
                pattern[..*size as usize].iter().map(|component| vector[*component as usize]).collect()
            }
            &Expression::Load { pointer } => {
                let place = self.place(frame, pointer)?;
                self.load(&place)?
            }
            &Expression::Unary { op, expr } => self.unary_expression(frame, op, expr)?,
            &Expression::Binary { op, left, right } => self.binary_expression(frame, op, [left, right])?,
            &Expression::Select { condition, accept, reject } => {
                let [c, a, b] = [condition, accept, reject].map(|part| self.regs(frame, part));
                let (c, a, b) = (c?, a?, b?);
                (0..a.len()).map(|at| self.select(c[at.min(c.len() - 1)], a[at], b[at])).collect()
            }
            &Expression::Relational { fun, argument } => self.relational(frame, fun, argument)?,
            &Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let arguments: Vec<_> = [Some(arg), arg1, arg2, arg3].into_iter().flatten().collect();
                self.math(frame, fun, &arguments)?
            }
            &Expression::As { expr, kind, convert } => self.convert(frame, expr, (kind, convert))?,
            &Expression::ArrayLength(pointer) => {
                let Place { root: Root::Global(global), offset, inner, .. } = self.place(frame, pointer)? else {
                    return Err("the length of an array in registers".to_owned());
                };
                let (d, stride) = (self.fresh(1), types::stride(module, &inner));
                self.emit(Op::ArrayLength { d, global, offset, stride });
                vec![d]
            }
            other => return Err(format!("expressions of the form {other:?}")),
        };
        Ok(Value::Regs(regs.into()))
    }

    fn access(&mut self, frame: &mut Frame<'a>, base: Handle<Expression>, index: Handle<Expression>) -> Lowered<Value> {
        let index = self.regs(frame, index)?[0];
        let regs = match self.value(frame, base)? {
            Value::Pointer(place) => return Ok(Value::Pointer(self.place_element(&place, index))),
            Value::Regs(regs) => regs,
        };
        let inner = self.inner(frame, base);
        let stride = types::num_scalars(self.module, &types::element(self.module, &inner));
        let len = crate::sanitize::code::Length::Fixed(types::num_elements(self.module, &inner).unwrap_or(0));
        let name = self.name("a value");
        let base = self.contiguous(&regs);
        let (at, d) = (self.fresh(1), self.fresh(stride));
        self.emit(Op::Index { d: at, base: None, index, stride, len, name });
        self.emit(Op::GetIndexed { d, base, index: at, n: stride });
        Ok(Value::Regs((d..d + stride).collect()))
    }

    fn access_part(&mut self, frame: &mut Frame<'a>, base: Handle<Expression>, index: u32) -> Lowered<Value> {
        match self.value(frame, base)? {
            Value::Pointer(place) => Ok(Value::Pointer(self.place_part(&place, index))),
            Value::Regs(regs) => {
                let inner = self.inner(frame, base);
                let start = types::part_scalars(self.module, &inner, index) as usize;
                let count = types::num_scalars(self.module, &types::part(self.module, &inner, index)) as usize;
                Ok(Value::Regs(regs[start..start + count].into()))
            }
        }
    }

    fn unary_expression(
        &mut self,
        frame: &mut Frame<'a>,
        op: UnaryOperator,
        argument: Handle<Expression>,
    ) -> Lowered<Vec<Reg>> {
        let op = match (op, self.kind(frame, argument)?) {
            (UnaryOperator::Negate, ScalarKind::Float) => Unary::NegF,
            (UnaryOperator::Negate, _) => Unary::NegI,
            (UnaryOperator::LogicalNot, _) => Unary::NotB,
            (UnaryOperator::BitwiseNot, _) => Unary::NotBits,
        };
        let regs = self.regs(frame, argument)?;
        Ok(regs.iter().map(|&reg| self.unary(op, reg)).collect())
    }

    fn binary_expression(
        &mut self,
        frame: &mut Frame<'a>,
        op: BinaryOperator,
        [left, right]: [Handle<Expression>; 2],
    ) -> Lowered<Vec<Reg>> {
        let (a, b) = (self.regs(frame, left)?, self.regs(frame, right)?);
        let kind = self.kind(frame, left)?;
        let types = (self.inner(frame, left), self.inner(frame, right));
        if op == BinaryOperator::Multiply
            && let Some(product) = self.matrix_product(&types, &a, &b)
        {
            return Ok(product);
        }
        let (op, is_swapped) = binary_op(op, kind)?;
        let count = a.len().max(b.len());
        // A scalar goes with every component of a vector.
        let pick = |regs: &[Reg], at: usize| regs[if regs.len() == 1 { 0 } else { at }];
        let pair = |at| if is_swapped { (pick(&b, at), pick(&a, at)) } else { (pick(&a, at), pick(&b, at)) };
        Ok((0..count).map(|at| self.binary(op, pair(at).0, pair(at).1)).collect())
    }

    /// Products with a matrix and a vector or a matrix; `None` for componentwise ones.
    fn matrix_product(&mut self, types: &(Inner, Inner), a: &[Reg], b: &[Reg]) -> Option<Vec<Reg>> {
        let (rows, inner, columns) = match *types {
            (TypeInner::Matrix { columns: inner, rows, .. }, TypeInner::Matrix { columns, .. }) => {
                (rows as usize, inner as usize, columns as usize)
            }
            (TypeInner::Matrix { columns, rows, .. }, TypeInner::Vector { .. }) => (rows as usize, columns as usize, 1),
            (TypeInner::Vector { size, .. }, TypeInner::Matrix { columns, .. }) => (1, size as usize, columns as usize),
            _ => return None,
        };
        // Registers hold one column after the other.
        let mut product = Vec::new();
        for column in 0..columns {
            for row in 0..rows {
                let mut sum = self.binary(Binary::MulF, a[row], b[column * inner]);
                for k in 1..inner {
                    let term = self.binary(Binary::MulF, a[k * rows + row], b[column * inner + k]);
                    sum = self.binary(Binary::AddF, sum, term);
                }
                product.push(sum);
            }
        }
        Some(product)
    }

    fn relational(
        &mut self,
        frame: &mut Frame<'a>,
        fun: RelationalFunction,
        argument: Handle<Expression>,
    ) -> Lowered<Vec<Reg>> {
        let regs = self.regs(frame, argument)?;
        let mut fold = |op| {
            let first = regs[0];
            vec![regs[1..].iter().fold(first, |all, &reg| self.binary(op, all, reg))]
        };
        Ok(match fun {
            RelationalFunction::All => fold(Binary::And),
            RelationalFunction::Any => fold(Binary::Or),
            RelationalFunction::IsNan => regs.iter().map(|&reg| self.unary(Unary::IsNan, reg)).collect(),
            RelationalFunction::IsInf => regs.iter().map(|&reg| self.unary(Unary::IsInf, reg)).collect(),
        })
    }

    fn convert(
        &mut self,
        frame: &mut Frame<'a>,
        argument: Handle<Expression>,
        (to, convert): (ScalarKind, Option<naga::Bytes>),
    ) -> Lowered<Vec<Reg>> {
        use ScalarKind::{Bool, Float, Sint, Uint};
        let from = self.kind(frame, argument)?;
        let regs = self.regs(frame, argument)?;
        if convert.is_some_and(|width| width != 4 && to != Bool) {
            return Err(format!("conversions to {to:?} of other than 4 bytes"));
        }
        let op = match (from, to) {
            _ if convert.is_none() => Unary::Copy,
            _ if from == to => return Ok(regs.to_vec()),
            (Float, Sint) => Unary::FToI,
            (Float, Uint) => Unary::FToU,
            (Sint, Float) => Unary::IToF,
            (Uint, Float) => Unary::UToF,
            (Sint, Uint) => Unary::IToU,
            (Uint, Sint) => Unary::UToI,
            (Float, Bool) => Unary::FToB,
            (_, Bool) => Unary::IToB,
            (Bool, Float) => Unary::BToF,
            (Bool, _) => return Ok(regs.to_vec()),
            _ => return Err(format!("conversions from {from:?} to {to:?}")),
        };
        Ok(regs.iter().map(|&reg| self.unary(op, reg)).collect())
    }
}

/// The instruction of an operator, and whether its operands change places.
fn binary_op(op: BinaryOperator, kind: ScalarKind) -> Lowered<(Binary, bool)> {
    use Binary as B;
    use BinaryOperator as O;
    let pick = |float, signed, unsigned| match kind {
        ScalarKind::Float => float,
        ScalarKind::Sint => signed,
        _ => unsigned,
    };
    Ok(match op {
        O::Add => (pick(B::AddF, B::AddI, B::AddU), false),
        O::Subtract => (pick(B::SubF, B::SubI, B::SubU), false),
        O::Multiply => (pick(B::MulF, B::MulI, B::MulU), false),
        O::Divide => (pick(B::DivF, B::DivI, B::DivU), false),
        O::Modulo => (pick(B::RemF, B::RemI, B::RemU), false),
        O::Equal => (pick(B::EqF, B::Eq, B::Eq), false),
        O::NotEqual => (pick(B::NeF, B::Ne, B::Ne), false),
        O::Less => (pick(B::LtF, B::LtI, B::LtU), false),
        O::LessEqual => (pick(B::LeF, B::LeI, B::LeU), false),
        O::Greater => (pick(B::LtF, B::LtI, B::LtU), true),
        O::GreaterEqual => (pick(B::LeF, B::LeI, B::LeU), true),
        O::And | O::LogicalAnd => (B::And, false),
        O::InclusiveOr | O::LogicalOr => (B::Or, false),
        O::ExclusiveOr => (B::Xor, false),
        O::ShiftLeft => (B::Shl, false),
        O::ShiftRight => (pick(B::ShrU, B::ShrI, B::ShrU), false),
    })
}
