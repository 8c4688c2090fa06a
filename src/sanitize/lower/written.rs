//! Which local variables are stored to before any use. `var x = f(y);` is such: naga makes a variable without a first
//! value and a store of it. A variable that is not has to be watched when it is read.

use naga::{Block, Expression, Function, Handle, LocalVariable, Statement};

/// Whether the first mention of a variable is a store to all of it, and all others stand in the block of that store.
pub(super) fn is_stored_first(function: &Function, variable: Handle<LocalVariable>) -> bool {
    let mut search = Search { function, variable, path: Vec::new(), next_block: 0, store: None, holds: true };
    search.block(&function.body);
    search.holds && search.store.is_some()
}

struct Search<'a> {
    function: &'a Function,
    variable: Handle<LocalVariable>,
    /// Numbers of the blocks around the statement.
    path: Vec<usize>,
    next_block: usize,
    /// The block of the first store.
    store: Option<usize>,
    holds: bool,
}

impl Search<'_> {
    fn block(&mut self, block: &Block) {
        self.path.push(self.next_block);
        self.next_block += 1;
        for statement in block {
            self.statement(statement);
        }
        self.path.pop();
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Store { pointer, value } => {
                let is_whole =
                    matches!(self.function.expressions[*pointer], Expression::LocalVariable(v) if v == self.variable);
                self.mention(*value);
                if is_whole && self.store.is_none() {
                    self.store = self.path.last().copied();
                } else {
                    self.mention(*pointer);
                }
            }
            Statement::Emit(range) => range.clone().for_each(|handle| self.mention(handle)),
            Statement::Call { arguments, .. } => arguments.iter().for_each(|&argument| self.mention(argument)),
            // naga puts what stands in the source's own block into a block of the IR; it is no scope of its own here.
            Statement::Block(block) => self.block(block),
            Statement::If { accept, reject, .. } => {
                self.block(accept);
                self.block(reject);
            }
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| self.block(&case.body)),
            Statement::Loop { body, continuing, .. } => {
                // What the body declares is in scope of the continuing block too.
                self.path.push(self.next_block);
                self.next_block += 1;
                body.iter().for_each(|statement| self.statement(statement));
                continuing.iter().for_each(|statement| self.statement(statement));
                self.path.pop();
            }
            _ => {}
        }
    }

    /// A use of an expression: if it is the variable or a part of it, the store has to be in a block around.
    fn mention(&mut self, handle: Handle<Expression>) {
        let of = |mut handle: Handle<Expression>| loop {
            match self.function.expressions[handle] {
                Expression::LocalVariable(variable) => return variable == self.variable,
                Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => handle = base,
                Expression::Load { pointer } => handle = pointer,
                _ => return false,
            }
        };
        if of(handle) {
            self.holds &= self.store.is_some_and(|block| self.path.contains(&block));
        }
    }
}
