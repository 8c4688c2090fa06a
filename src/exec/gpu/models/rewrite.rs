//! One function of a kernel with the model axis. Expressions are an arena in which each stands after those that it is made
//! of, so that inserting some means building the arena anew.

use std::collections::HashMap;

use wgpu::naga;

use naga::valid::FunctionInfo;
use naga::{
    Arena, BinaryOperator, Block, BuiltIn, Expression, Function, FunctionArgument, GlobalVariable, Handle, Literal,
    Range, ScalarKind, Span, Statement, Type, UniqueArena,
};

use super::operands::{Found, of_block, of_expression};

/// For each storage buffer, the number that indices into it are moved on by.
pub(super) type Offsets = HashMap<Handle<GlobalVariable>, Handle<GlobalVariable>>;

/// Moves indices into storage buffers on by the numbers that the kernel's [`Prologue`] computes.
///
/// # Errors
/// For what these kernels do not have, such as a buffer that is passed on as a whole.
pub(super) fn rewrite(
    function: &mut Function,
    info: &FunctionInfo,
    types: &UniqueArena<Type>,
    offsets: &Offsets,
) -> Result<(), String> {
    let old = std::mem::take(&mut function.expressions);
    let mut moved = Moved { expressions: Arena::new(), of_old: Vec::with_capacity(old.len()), buffers: HashMap::new() };
    let mut constants = HashMap::new();
    // What is not computed stands first, outside of every range of what a statement computes.
    for (_, expression) in old.iter() {
        match *expression {
            Expression::GlobalVariable(global) if offsets.contains_key(&global) => {
                let first = moved.append(Expression::GlobalVariable(offsets[&global]));
                moved.buffers.insert(global, first);
            }
            Expression::AccessIndex { index, .. } => {
                constants.entry(index).or_insert_with(|| moved.append(Expression::Literal(Literal::U32(index))));
            }
            _ => {}
        }
    }
    for (handle, expression) in old.iter() {
        let mut expression = expression.clone();
        let before = moved.expressions.len();
        let base = match expression {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => Some(base),
            _ => None,
        };
        let buffer = base.and_then(|base| match old[base] {
            Expression::GlobalVariable(global) => moved.buffers.get(&global).copied(),
            _ => None,
        });
        match (buffer, &mut expression) {
            (Some(first), &mut Expression::Access { base, index }) => {
                let is_signed = info[index].ty.inner_with(types).scalar_kind() == Some(ScalarKind::Sint);
                let index = moved.moved(index);
                moved.access(base, index, first, is_signed);
            }
            (Some(first), &mut Expression::AccessIndex { base, index }) => {
                moved.access(base, constants[&index], first, false);
            }
            _ => {
                of_expression(&mut expression, &mut |operand| moved.change(&old, operand))?;
                moved.append(expression);
            }
        }
        let last = moved.expressions.len() - 1;
        debug_assert_eq!(handle.index(), moved.of_old.len());
        moved.of_old.push((before, last));
    }
    moved.finish(function, &old)
}

/// The arena under construction.
struct Moved {
    expressions: Arena<Expression>,
    /// For each expression so far the places of the first and last that it has become.
    of_old: Vec<(usize, usize)>,
    /// For each buffer the expression that is its number.
    buffers: HashMap<Handle<GlobalVariable>, Handle<Expression>>,
}

impl Moved {
    fn append(&mut self, expression: Expression) -> Handle<Expression> {
        self.expressions.append(expression, Span::UNDEFINED)
    }

    /// What an expression has become.
    fn moved(&self, old: Handle<Expression>) -> Handle<Expression> {
        self.at(self.of_old[old.index()].1)
    }

    fn at(&self, place: usize) -> Handle<Expression> {
        // An arena has at most 2^32 expressions.
        let place = place as u32;
        let range = Range::from_index_range(place..place + 1, &self.expressions);
        range.first_and_last().expect("a range of one has a first").0
    }

    /// An element of a buffer.
    fn access(
        &mut self,
        base: Handle<Expression>,
        mut index: Handle<Expression>,
        first: Handle<Expression>,
        is_signed: bool,
    ) {
        if is_signed {
            let kind = ScalarKind::Uint;
            index = self.append(Expression::As { expr: index, kind, convert: Some(4) });
        }
        let first = self.append(Expression::Load { pointer: first });
        let index = self.append(Expression::Binary { op: BinaryOperator::Add, left: first, right: index });
        self.append(Expression::Access { base: self.moved(base), index });
    }

    fn change(&self, old: &Arena<Expression>, operand: &mut Handle<Expression>) -> Result<(), String> {
        match old[*operand] {
            Expression::GlobalVariable(global) if self.buffers.contains_key(&global) => {
                Err("a storage buffer that is used as a whole".to_owned())
            }
            _ => {
                *operand = self.moved(*operand);
                Ok(())
            }
        }
    }

    /// Puts the new arena into the function.
    fn finish(self, function: &mut Function, old: &Arena<Expression>) -> Result<(), String> {
        of_block(&mut function.body, &mut |found| match found {
            Found::Use(operand) => self.change(old, operand),
            Found::Emit(range) => {
                if let Some((first, last)) = range.first_and_last() {
                    let (first, last) = (self.of_old[first.index()].0, self.of_old[last.index()].1);
                    *range = Range::from_index_range(first as u32..last as u32 + 1, &self.expressions);
                }
                Ok(())
            }
        })?;
        for (_, variable) in function.local_variables.iter_mut() {
            variable.init.iter_mut().try_for_each(|init| self.change(old, init))?;
        }
        let named = std::mem::take(&mut function.named_expressions);
        function.named_expressions = named.into_iter().map(|(handle, name)| (self.moved(handle), name)).collect();
        function.expressions = self.expressions;
        Ok(())
    }
}

/// What a kernel does first: finds its model, where the model's part of each buffer begins, and its uniforms.
pub(super) struct Prologue {
    pub members: Handle<GlobalVariable>,
    pub strides: Handle<GlobalVariable>,
    /// `vec3<u32>`.
    pub vector: Handle<Type>,
    pub offsets: Vec<Offset>,
    /// Uniforms of all models, and the copy of one.
    pub copies: Vec<(Handle<GlobalVariable>, Handle<GlobalVariable>)>,
}

/// Where the model's part of a buffer begins.
pub(super) struct Offset {
    pub first: Handle<GlobalVariable>,
    pub binding: u32,
    /// Words of an element.
    pub elem_words: u32,
}

impl Prologue {
    /// Puts it before an entry point's body.
    pub fn insert(&self, entry: &mut Function) {
        let workgroup = self.workgroup(entry);
        let arena = &mut entry.expressions;
        let mut given = |expression| arena.append(expression, Span::UNDEFINED);
        // What is not computed first, so that what is computed is one range.
        let workgroup = given(Expression::FunctionArgument(workgroup));
        let [members, strides] = [self.members, self.strides].map(|global| given(Expression::GlobalVariable(global)));
        let words: Vec<_> =
            self.offsets.iter().map(|offset| given(Expression::Literal(Literal::U32(offset.elem_words)))).collect();
        let global = |global: &Handle<GlobalVariable>| Expression::GlobalVariable(*global);
        let firsts: Vec<_> = self.offsets.iter().map(|offset| given(global(&offset.first))).collect();
        let all: Vec<_> = self.copies.iter().map(|(all, _)| given(global(all))).collect();
        let copies: Vec<_> = self.copies.iter().map(|(_, copy)| given(global(copy))).collect();

        let before = entry.expressions.len();
        let arena = &mut entry.expressions;
        let mut emit = |expression| arena.append(expression, Span::UNDEFINED);
        let z = emit(Expression::AccessIndex { base: workgroup, index: 2 });
        let cell = emit(Expression::Access { base: members, index: z });
        let pointer = emit(Expression::AccessIndex { base: cell, index: 0 });
        let model = emit(Expression::Load { pointer });
        let mut stores = Vec::new();
        for ((offset, words), first) in self.offsets.iter().zip(words).zip(firsts) {
            let cell = emit(Expression::AccessIndex { base: strides, index: offset.binding });
            let pointer = emit(Expression::AccessIndex { base: cell, index: 0 });
            let stride = emit(Expression::Load { pointer });
            let (op, left) = (BinaryOperator::Divide, stride);
            let stride = emit(Expression::Binary { op, left, right: words });
            let (op, left) = (BinaryOperator::Multiply, model);
            let value = emit(Expression::Binary { op, left, right: stride });
            stores.push(Statement::Store { pointer: first, value });
        }
        for (all, copy) in all.into_iter().zip(copies) {
            let cell = emit(Expression::Access { base: all, index: model });
            let pointer = emit(Expression::AccessIndex { base: cell, index: 0 });
            let value = emit(Expression::Load { pointer });
            stores.push(Statement::Store { pointer: copy, value });
        }
        let computed = Statement::Emit(entry.expressions.range_from(before));
        let body = std::mem::take(&mut entry.body);
        entry.body = Block::from_vec([computed].into_iter().chain(stores).collect());
        entry.body.extend_block(body);
    }

    /// The argument that is the workgroup's place in the grid; added where the kernel has none.
    fn workgroup(&self, entry: &mut Function) -> u32 {
        let is_workgroup = |argument: &FunctionArgument| {
            matches!(argument.binding, Some(naga::Binding::BuiltIn(BuiltIn::WorkGroupId)))
        };
        let known = entry.arguments.iter().position(is_workgroup);
        let place = known.unwrap_or_else(|| {
            entry.arguments.push(FunctionArgument {
                name: Some("model_workgroup".to_owned()),
                ty: self.vector,
                binding: Some(naga::Binding::BuiltIn(BuiltIn::WorkGroupId)),
            });
            entry.arguments.len() - 1
        });
        // A kernel has at most a handful.
        place as u32
    }
}
