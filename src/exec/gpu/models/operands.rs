//! What expressions and statements refer to, visited one by one: of naga's IR the part that kernels of a compute pass on
//! buffers have.

use wgpu::naga;

use naga::{Expression, GatherMode, Handle, Statement};

/// Changes the expressions that an expression is made of.
///
/// # Errors
/// What `change` returns; for expressions that these kernels do not have.
pub(super) fn of_expression(
    expression: &mut Expression,
    change: &mut dyn FnMut(&mut Handle<Expression>) -> Result<(), String>,
) -> Result<(), String> {
    use Expression as E;
    match expression {
        E::Literal(_)
        | E::Constant(_)
        | E::Override(_)
        | E::ZeroValue(_)
        | E::FunctionArgument(_)
        | E::GlobalVariable(_)
        | E::LocalVariable(_)
        | E::CallResult(_)
        | E::AtomicResult { .. }
        | E::WorkGroupUniformLoadResult { .. }
        | E::SubgroupBallotResult
        | E::SubgroupOperationResult { .. } => Ok(()),
        E::Compose { components, .. } => components.iter_mut().try_for_each(change),
        E::Access { base, index } => [base, index].into_iter().try_for_each(change),
        E::AccessIndex { base, .. } => change(base),
        E::Splat { value, .. } => change(value),
        E::Swizzle { vector, .. } => change(vector),
        E::Load { pointer } => change(pointer),
        E::Unary { expr, .. } | E::As { expr, .. } => change(expr),
        E::Binary { left, right, .. } => [left, right].into_iter().try_for_each(change),
        E::Select { condition, accept, reject } => [condition, accept, reject].into_iter().try_for_each(change),
        E::Relational { argument, .. } => change(argument),
        E::Math { arg, arg1, arg2, arg3, .. } => {
            [Some(arg), arg1.as_mut(), arg2.as_mut(), arg3.as_mut()].into_iter().flatten().try_for_each(change)
        }
        other => Err(format!("{other:?}")),
    }
}

/// What is found in a statement.
pub(super) enum Found<'a> {
    /// An expression that it uses.
    Use(&'a mut Handle<Expression>),
    /// The expressions that it computes.
    Emit(&'a mut naga::Range<Expression>),
}

/// Changes what the statements of a block refer to, inner blocks included.
///
/// # Errors
/// What `change` returns; for statements that these kernels do not have.
pub(super) fn of_block(
    block: &mut [Statement],
    change: &mut dyn FnMut(Found<'_>) -> Result<(), String>,
) -> Result<(), String> {
    use Statement as S;
    for statement in block {
        match statement {
            S::Break | S::Continue | S::ControlBarrier(_) | S::MemoryBarrier(_) => {}
            S::Emit(range) => change(Found::Emit(range))?,
            S::Block(block) => of_block(block, change)?,
            S::If { condition, accept, reject } => {
                change(Found::Use(condition))?;
                of_block(accept, change)?;
                of_block(reject, change)?;
            }
            S::Switch { selector, cases } => {
                change(Found::Use(selector))?;
                cases.iter_mut().try_for_each(|case| of_block(&mut case.body, change))?;
            }
            S::Loop { body, continuing, break_if } => {
                of_block(body, change)?;
                of_block(continuing, change)?;
                uses(break_if.as_mut(), change)?;
            }
            S::Return { value } => uses(value.as_mut(), change)?,
            S::Store { pointer, value } => uses([pointer, value], change)?,
            S::Atomic { pointer, value, result, .. } => {
                uses([pointer, value], change)?;
                uses(result.as_mut(), change)?;
            }
            S::WorkGroupUniformLoad { pointer, result } => uses([pointer, result], change)?,
            S::Call { arguments, result, .. } => {
                uses(arguments, change)?;
                uses(result.as_mut(), change)?;
            }
            S::SubgroupGather { mode, argument, result } => {
                let lane = match mode {
                    GatherMode::BroadcastFirst | GatherMode::QuadSwap(_) => None,
                    GatherMode::Broadcast(lane)
                    | GatherMode::Shuffle(lane)
                    | GatherMode::ShuffleDown(lane)
                    | GatherMode::ShuffleUp(lane)
                    | GatherMode::ShuffleXor(lane)
                    | GatherMode::QuadBroadcast(lane) => Some(lane),
                };
                uses(lane, change)?;
                uses([argument, result], change)?;
            }
            S::SubgroupCollectiveOperation { argument, result, .. } => uses([argument, result], change)?,
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(())
}

fn uses<'a>(
    handles: impl IntoIterator<Item = &'a mut Handle<Expression>>,
    change: &mut dyn FnMut(Found<'_>) -> Result<(), String>,
) -> Result<(), String> {
    handles.into_iter().try_for_each(|handle| change(Found::Use(handle)))
}
