//! Statements: control flow, stores, calls, barriers, atomics and subgroup operations.

use naga::{
    AtomicFunction, Block, CollectiveOperation, Direction, Expression, GatherMode, Handle, ScalarKind, Statement,
    SubgroupOperation, SwitchCase, SwitchValue,
};

use super::place::{Place, Root};
use super::{Frame, Lowered, Lowering, Value};
use crate::sanitize::code::{Atomic, Binary, Combine, Gather, Op, Pc, Reg, Scan};

/// Whether a function returns in its last statement and nowhere else.
pub(super) fn returns_last(body: &Block) -> bool {
    let count = body.len();
    body.iter().enumerate().all(|(at, statement)| match statement {
        Statement::Return { .. } => at + 1 == count,
        statement => !has_return(statement),
    })
}

fn has_return(statement: &Statement) -> bool {
    let any = |block: &Block| block.iter().any(has_return);
    match statement {
        Statement::Return { .. } => true,
        Statement::Block(block) => any(block),
        Statement::If { accept, reject, .. } => any(accept) || any(reject),
        Statement::Switch { cases, .. } => cases.iter().any(|case| any(&case.body)),
        Statement::Loop { body, continuing, .. } => any(body) || any(continuing),
        _ => false,
    }
}

impl<'a> Lowering<'a> {
    pub(super) fn block(&mut self, frame: &mut Frame<'a>, block: &'a Block) -> Lowered<()> {
        for (statement, &span) in block.span_iter() {
            self.at(span);
            self.statement(frame, statement)?;
            if frame.depth == 0 && !frame.returns_last && has_return(statement) {
                frame.to_end.push(self.here());
                self.emit(Op::SkipIfNone { to: 0 });
            }
        }
        Ok(())
    }

    fn nested(&mut self, frame: &mut Frame<'a>, block: &'a Block) -> Lowered<()> {
        frame.depth += 1;
        let done = self.block(frame, block);
        frame.depth -= 1;
        done
    }

    fn statement(&mut self, frame: &mut Frame<'a>, statement: &'a Statement) -> Lowered<()> {
        match statement {
            Statement::Emit(range) => {
                for handle in range.clone() {
                    self.expression(frame, handle)?;
                }
            }
            Statement::Block(block) => self.nested(frame, block)?,
            Statement::If { condition, accept, reject } => {
                let c = self.regs(frame, *condition)?[0];
                self.branch(frame, c, accept, reject)?;
            }
            Statement::Switch { selector, cases } => self.switch(frame, *selector, cases)?,
            Statement::Loop { body, continuing, break_if } => self.iterate(frame, body, continuing, *break_if)?,
            Statement::Break => drop(self.emit(Op::Break)),
            Statement::Continue => drop(self.emit(Op::Continue)),
            Statement::Return { value } => self.give_back(frame, *value)?,
            Statement::ControlBarrier(barrier) => {
                let workgroup = barrier.contains(naga::Barrier::WORK_GROUP);
                self.emit(Op::Barrier { workgroup, storage: barrier.contains(naga::Barrier::STORAGE) });
            }
            Statement::Store { pointer, value } => {
                let value = self.regs(frame, *value)?;
                let place = self.place(frame, *pointer)?;
                self.store(&place, &value);
            }
            Statement::Atomic { pointer, fun, value, result } => {
                self.atomic(frame, *pointer, fun, (*value, *result))?;
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                let place = self.place(frame, *pointer)?;
                let Root::Global(global) = place.root else {
                    return Err("workgroupUniformLoad of what is not in workgroup memory".to_owned());
                };
                self.emit(Op::Barrier { workgroup: true, storage: false });
                self.emit(Op::UniformCheck { at: place.address(global) });
                let regs = self.load(&place)?;
                frame.values[result.index()] = Some(Value::Regs(regs.into()));
                self.emit(Op::Barrier { workgroup: true, storage: false });
            }
            Statement::Call { function, arguments, result } => {
                let arguments =
                    arguments.iter().map(|&argument| self.value(frame, argument)).collect::<Lowered<Vec<_>>>()?;
                let module = self.module;
                let line = self.line;
                let value = self.inline(&module.functions[*function], &self.info[*function], arguments, false)?;
                self.line = line;
                if let Some(result) = result {
                    frame.values[result.index()] = value;
                }
            }
            Statement::SubgroupBallot { result, predicate } => {
                let a = predicate.map(|predicate| self.regs(frame, predicate)).transpose()?.map(|regs| regs[0]);
                self.code.uses_subgroups = true;
                let d = self.fresh(4);
                self.emit(Op::Ballot { d, a });
                frame.values[result.index()] = Some(Value::Regs((d..d + 4).collect()));
            }
            Statement::SubgroupGather { mode, argument, result } => {
                let from = self.gather_mode(frame, *mode)?;
                self.each_lane(frame, *argument, *result, |d, a| Op::Gather { d, a, from })?;
            }
            Statement::SubgroupCollectiveOperation { op, collective_op, argument, result } => {
                let with = combine(*op, self.kind(frame, *argument)?)?;
                let scan = match collective_op {
                    CollectiveOperation::Reduce => Scan::Reduce,
                    CollectiveOperation::InclusiveScan => Scan::Inclusive,
                    CollectiveOperation::ExclusiveScan => Scan::Exclusive,
                };
                self.each_lane(frame, *argument, *result, |d, a| Op::Scan { d, a, scan, with })?;
            }
            other => return Err(format!("statements of the form {other:?}")),
        }
        Ok(())
    }

    fn branch(&mut self, frame: &mut Frame<'a>, c: Reg, accept: &'a Block, reject: &'a Block) -> Lowered<()> {
        let begin = self.emit(Op::If { c, otherwise: 0 });
        self.nested(frame, accept)?;
        let mut end = self.here();
        if !reject.is_empty() {
            let middle = self.emit(Op::Else { end: 0 });
            self.nested(frame, reject)?;
            end = self.here();
            self.code.ops[middle as usize] = Op::Else { end };
            self.code.ops[begin as usize] = Op::If { c, otherwise: middle };
        } else {
            self.code.ops[begin as usize] = Op::If { c, otherwise: end };
        }
        self.emit(Op::EndIf);
        Ok(())
    }

    /// WGSL's cases exclude each other, so each is a branch of its own. Cases that fall through are the selectors of one.
    fn switch(&mut self, frame: &mut Frame<'a>, selector: Handle<Expression>, cases: &'a [SwitchCase]) -> Lowered<()> {
        let selector = self.regs(frame, selector)?[0];
        let no = self.constant(0);
        let mut groups: Vec<(Reg, bool, &'a Block)> = Vec::new();
        let (mut matched, mut any, mut is_default) = (no, no, false);
        for case in cases {
            let value = match case.value {
                // The same bits.
                SwitchValue::I32(value) => Some(value as u32),
                SwitchValue::U32(value) => Some(value),
                SwitchValue::Default => None,
            };
            match value {
                Some(value) => {
                    let value = self.constant(value);
                    let equal = self.binary(Binary::Eq, selector, value);
                    matched = self.binary(Binary::Or, matched, equal);
                    any = self.binary(Binary::Or, any, equal);
                }
                None => is_default = true,
            }
            if case.fall_through && !case.body.is_empty() {
                return Err("a case that falls through to the next".to_owned());
            }
            if !case.fall_through {
                groups.push((matched, is_default, &case.body));
                (matched, is_default) = (no, false);
            }
        }
        let none = self.unary(crate::sanitize::code::Unary::NotB, any);
        self.emit(Op::Switch);
        for (matched, is_default, body) in groups {
            let c = if is_default { self.binary(Binary::Or, matched, none) } else { matched };
            let begin = self.emit(Op::If { c, otherwise: 0 });
            self.nested(frame, body)?;
            let end = self.emit(Op::EndIf);
            self.code.ops[begin as usize] = Op::If { c, otherwise: end };
        }
        self.emit(Op::EndSwitch);
        Ok(())
    }

    fn iterate(
        &mut self,
        frame: &mut Frame<'a>,
        body: &'a Block,
        continuing: &'a Block,
        break_if: Option<Handle<Expression>>,
    ) -> Lowered<()> {
        // A kernel has far fewer than 64 Ki loops.
        let id = self.code.loops.len() as u16;
        self.code.loops.push(self.line);
        self.emit(Op::Loop);
        let head: Pc = self.emit(Op::Head { id, end: 0 });
        self.nested(frame, body)?;
        self.emit(Op::Continuing);
        self.nested(frame, continuing)?;
        if let Some(condition) = break_if {
            let c = self.regs(frame, condition)?[0];
            self.emit(Op::BreakIf { c });
        }
        self.emit(Op::Repeat { head });
        let end = self.emit(Op::EndLoop);
        self.code.ops[head as usize] = Op::Head { id, end };
        Ok(())
    }

    fn give_back(&mut self, frame: &mut Frame<'a>, value: Option<Handle<Expression>>) -> Lowered<()> {
        let regs = value.map(|value| self.regs(frame, value)).transpose()?;
        if frame.returns_last {
            frame.result = regs;
            return Ok(());
        }
        if let (Some(regs), Some(result)) = (regs, frame.result.clone()) {
            for (&d, &a) in result.iter().zip(regs.iter()) {
                self.emit(Op::Set { d, a });
            }
        }
        self.emit(Op::Return);
        Ok(())
    }

    fn atomic(
        &mut self,
        frame: &mut Frame<'a>,
        pointer: Handle<Expression>,
        fun: &AtomicFunction,
        (value, result): (Handle<Expression>, Option<Handle<Expression>>),
    ) -> Lowered<()> {
        let is_signed = self.kind(frame, value)? == ScalarKind::Sint;
        let a = self.regs(frame, value)?[0];
        let place: Place = self.place(frame, pointer)?;
        let Root::Global(global) = place.root else {
            return Err("an atomic in registers".to_owned());
        };
        let fun = match fun {
            AtomicFunction::Add => Atomic::Add,
            AtomicFunction::Subtract => Atomic::Sub,
            AtomicFunction::And => Atomic::And,
            AtomicFunction::ExclusiveOr => Atomic::Xor,
            AtomicFunction::InclusiveOr => Atomic::Or,
            AtomicFunction::Min if is_signed => Atomic::MinI,
            AtomicFunction::Max if is_signed => Atomic::MaxI,
            AtomicFunction::Min => Atomic::MinU,
            AtomicFunction::Max => Atomic::MaxU,
            AtomicFunction::Exchange { compare: None } => Atomic::Exchange,
            AtomicFunction::Exchange { compare: Some(compare) } => {
                Atomic::CompareExchange(self.regs(frame, *compare)?[0])
            }
        };
        let count = if matches!(fun, Atomic::CompareExchange(_)) { 2 } else { 1 };
        let d = result.map(|_| self.fresh(count));
        self.emit(Op::Atomic { fun, d, at: place.address(global), a });
        if let (Some(result), Some(d)) = (result, d) {
            frame.values[result.index()] = Some(Value::Regs((d..d + count).collect()));
        }
        Ok(())
    }

    fn gather_mode(&mut self, frame: &mut Frame<'a>, mode: GatherMode) -> Lowered<Gather> {
        let mut lane = |handle| self.regs(frame, handle).map(|regs| regs[0]);
        Ok(match mode {
            GatherMode::BroadcastFirst => Gather::First,
            GatherMode::Broadcast(handle) | GatherMode::Shuffle(handle) => Gather::Lane(lane(handle)?),
            GatherMode::ShuffleDown(handle) => Gather::Down(lane(handle)?),
            GatherMode::ShuffleUp(handle) => Gather::Up(lane(handle)?),
            GatherMode::ShuffleXor(handle) => Gather::Xor(lane(handle)?),
            GatherMode::QuadBroadcast(handle) => Gather::QuadLane(lane(handle)?),
            GatherMode::QuadSwap(Direction::X) => Gather::QuadSwap(1),
            GatherMode::QuadSwap(Direction::Y) => Gather::QuadSwap(2),
            GatherMode::QuadSwap(Direction::Diagonal) => Gather::QuadSwap(3),
        })
    }

    /// A subgroup operation on every scalar of an argument.
    fn each_lane(
        &mut self,
        frame: &mut Frame<'a>,
        argument: Handle<Expression>,
        result: Handle<Expression>,
        op: impl Fn(Reg, Reg) -> Op,
    ) -> Lowered<()> {
        self.code.uses_subgroups = true;
        let regs = self.regs(frame, argument)?;
        let first = self.fresh(regs.len() as u32);
        for (d, &a) in (first..).zip(regs.iter()) {
            self.emit(op(d, a));
        }
        frame.values[result.index()] = Some(Value::Regs((first..first + regs.len() as u32).collect()));
        Ok(())
    }
}

fn combine(op: SubgroupOperation, kind: ScalarKind) -> Lowered<Combine> {
    use SubgroupOperation as S;
    let pick = |float: (Binary, f32), signed: (Binary, i32), unsigned: (Binary, u32)| match kind {
        ScalarKind::Float => Combine::With(float.0, float.1.to_bits()),
        // The same bits.
        ScalarKind::Sint => Combine::With(signed.0, signed.1 as u32),
        _ => Combine::With(unsigned.0, unsigned.1),
    };
    Ok(match op {
        S::All => Combine::All,
        S::Any => Combine::Any,
        S::Add => pick((Binary::AddF, 0.0), (Binary::AddI, 0), (Binary::AddU, 0)),
        S::Mul => pick((Binary::MulF, 1.0), (Binary::MulI, 1), (Binary::MulU, 1)),
        S::Min => pick((Binary::MinF, f32::INFINITY), (Binary::MinI, i32::MAX), (Binary::MinU, u32::MAX)),
        S::Max => pick((Binary::MaxF, f32::NEG_INFINITY), (Binary::MaxI, i32::MIN), (Binary::MaxU, 0)),
        S::And => Combine::With(Binary::And, u32::MAX),
        S::Or => Combine::With(Binary::Or, 0),
        S::Xor => Combine::With(Binary::Xor, 0),
    })
}
