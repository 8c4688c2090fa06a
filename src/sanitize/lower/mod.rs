//! From naga's validated IR to [`Code`]: one entry point with its overrides settled and every call inlined.

mod expression;
mod math;
mod place;
mod statement;
mod types;
mod written;

use std::collections::HashMap;
use std::rc::Rc;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{AddressSpace, BuiltIn, Expression, Function, Handle, Module, Span, StorageAccess, TypeInner};

use super::code::{Code, Global, Input, Op, Pc, Reg};
use place::{Place, Root, Variable};

/// What is not supported, in words.
type Failure = String;
type Lowered<T> = std::result::Result<T, Failure>;

/// The value of an expression.
#[derive(Clone)]
enum Value {
    Regs(Rc<[Reg]>),
    Pointer(Place),
}

/// Lowers the entry point at `index` of a module without overrides.
pub(super) fn lower(module: &Module, info: &ModuleInfo, source: &str, index: usize) -> Lowered<Code> {
    let entry = &module.entry_points[index];
    let mut lowering = Lowering::new(module, info, source);
    lowering.code.workgroup_size = entry.workgroup_size;
    lowering.declare_globals(index)?;
    let arguments = lowering.inputs(&entry.function)?;
    lowering.inline(&entry.function, info.get_entry_point(index), arguments, true)?;
    lowering.code.num_regs = lowering.next_reg;
    Ok(lowering.code)
}

struct Lowering<'a> {
    module: &'a Module,
    info: &'a ModuleInfo,
    /// Where each line of the source begins.
    line_starts: Vec<usize>,
    /// The line that code is made for.
    line: u32,
    code: Code,
    next_reg: Reg,
    constants: HashMap<u32, Reg>,
    variables: Vec<Variable>,
    globals: HashMap<Handle<naga::GlobalVariable>, Root>,
}

/// A function while it is inlined.
struct Frame<'a> {
    function: &'a Function,
    info: &'a FunctionInfo,
    values: Vec<Option<Value>>,
    arguments: Vec<Value>,
    /// For each local variable, its index in [`Lowering::variables`].
    locals: Vec<usize>,
    /// Whether the only return is the last statement, so that no masks are needed.
    returns_last: bool,
    result: Option<Rc<[Reg]>>,
    /// Jumps to the end of the function.
    to_end: Vec<Pc>,
    /// Blocks around the statement at work.
    depth: usize,
}

impl<'a> Lowering<'a> {
    fn new(module: &'a Module, info: &'a ModuleInfo, source: &str) -> Self {
        let line_starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lowering {
            module,
            info,
            line_starts,
            line: 0,
            code: Code::default(),
            next_reg: 0,
            constants: HashMap::new(),
            variables: Vec::new(),
            globals: HashMap::new(),
        }
    }

    /// Code made from here on belongs to the line where `span` begins.
    fn at(&mut self, span: Span) {
        if let Some(range) = span.to_range() {
            // A source has fewer than 4 Gi lines.
            self.line = self.line_starts.partition_point(|&start| start <= range.start) as u32;
        }
    }

    fn emit(&mut self, op: Op) -> Pc {
        self.code.ops.push(op);
        self.code.lines.push(self.line);
        self.here() - 1
    }

    fn here(&self) -> Pc {
        // A kernel has far fewer than 4 Gi instructions.
        self.code.ops.len() as Pc
    }

    /// `count` new registers in a row.
    fn fresh(&mut self, count: u32) -> Reg {
        let first = self.next_reg;
        self.next_reg += count;
        first
    }

    fn constant(&mut self, bits: u32) -> Reg {
        if let Some(&reg) = self.constants.get(&bits) {
            return reg;
        }
        let reg = self.fresh(1);
        self.constants.insert(bits, reg);
        self.code.constants.push((reg, bits));
        reg
    }

    fn name(&mut self, name: &str) -> u16 {
        if let Some(known) = self.code.names.iter().position(|known| known == name) {
            return known as u16;
        }
        self.code.names.push(name.to_owned());
        // A kernel has far fewer than 64 Ki variables.
        (self.code.names.len() - 1) as u16
    }

    /// Places every variable of the module that the entry point uses.
    fn declare_globals(&mut self, entry: usize) -> Lowered<()> {
        let module = self.module;
        for (handle, variable) in module.global_variables.iter() {
            if self.info.get_entry_point(entry)[handle].is_empty() {
                continue;
            }
            if let Some(what) = types::unsupported(module, variable.ty) {
                return Err(what);
            }
            let inner = &module.types[variable.ty].inner;
            let name = variable.name.clone().unwrap_or_else(|| "a variable without a name".to_owned());
            if variable.space == AddressSpace::Private {
                let variable_index = self.declare(&name, inner, variable.init.is_none());
                self.globals.insert(handle, Root::Local(variable_index));
                let init = variable.init.map(|init| self.global_expression(init)).transpose()?;
                self.initialize(variable_index, init);
                continue;
            }
            let (words, align) = types::memory_size(module, inner);
            let mut global = Global {
                name,
                binding: variable.binding.map(|binding| (binding.group, binding.binding)),
                writable: true,
                is_uniform: variable.space == AddressSpace::Uniform,
                base: 0,
                words,
            };
            match variable.space {
                AddressSpace::WorkGroup => {
                    global.base = self.code.workgroup_words.next_multiple_of(align.max(4));
                    self.code.workgroup_words = global.base + words;
                }
                AddressSpace::Uniform => global.writable = false,
                AddressSpace::Storage { access } => global.writable = access.contains(StorageAccess::STORE),
                space => return Err(format!("variables in address space {space:?}")),
            }
            self.code.globals.push(global);
            // A module has far fewer than 64 Ki variables.
            self.globals.insert(handle, Root::Global((self.code.globals.len() - 1) as u16));
        }
        Ok(())
    }

    /// Registers for the built-in values that an entry point takes.
    fn inputs(&mut self, function: &Function) -> Lowered<Vec<Value>> {
        let mut arguments = Vec::new();
        for argument in &function.arguments {
            let members = match &self.module.types[argument.ty].inner {
                TypeInner::Struct { members, .. } => members.iter().map(|member| &member.binding).collect(),
                _ => vec![&argument.binding],
            };
            let mut regs = Vec::new();
            for binding in members {
                let Some(naga::Binding::BuiltIn(builtin)) = binding else {
                    return Err("arguments of an entry point that are not built in".to_owned());
                };
                self.input(*builtin, &mut regs)?;
            }
            arguments.push(Value::Regs(regs.into()));
        }
        Ok(arguments)
    }

    fn input(&mut self, builtin: BuiltIn, regs: &mut Vec<Reg>) -> Lowered<()> {
        let size = self.code.workgroup_size;
        let vector = |input: fn(usize) -> Input| (0..3).map(input).collect();
        let inputs: Vec<Input> = match builtin {
            BuiltIn::GlobalInvocationId => vector(Input::GlobalId),
            BuiltIn::LocalInvocationId => vector(Input::LocalId),
            BuiltIn::WorkGroupId => vector(Input::WorkgroupId),
            BuiltIn::NumWorkGroups => vector(Input::NumWorkgroups),
            BuiltIn::LocalInvocationIndex => vec![Input::LocalIndex],
            BuiltIn::SubgroupSize => vec![Input::SubgroupSize],
            BuiltIn::SubgroupInvocationId => vec![Input::SubgroupLane],
            BuiltIn::SubgroupId => vec![Input::SubgroupId],
            BuiltIn::NumSubgroups => vec![Input::NumSubgroups],
            BuiltIn::WorkGroupSize => {
                regs.extend(size.map(|extent| self.constant(extent)));
                return Ok(());
            }
            other => return Err(format!("the built-in value {other:?}")),
        };
        for input in inputs {
            let reg = self.fresh(1);
            self.code.inputs.push((reg, input));
            regs.push(reg);
        }
        Ok(())
    }

    /// Lowers the body of a function in place and gives what it returns.
    fn inline(
        &mut self,
        function: &'a Function,
        info: &'a FunctionInfo,
        arguments: Vec<Value>,
        is_entry: bool,
    ) -> Lowered<Option<Value>> {
        let returns_last = !is_entry && statement::returns_last(&function.body);
        let mut frame = Frame {
            function,
            info,
            values: vec![None; function.expressions.len()],
            arguments,
            locals: Vec::new(),
            returns_last,
            result: None,
            to_end: Vec::new(),
            depth: 0,
        };
        self.declare_locals(&mut frame)?;
        if returns_last {
            self.block(&mut frame, &function.body)?;
            return Ok(frame.result.map(Value::Regs));
        }
        if let Some(result) = &function.result {
            let count = types::num_scalars(self.module, &self.module.types[result.ty].inner);
            let first = self.fresh(count);
            frame.result = Some((first..first + count).collect());
        }
        self.emit(Op::Enter);
        self.block(&mut frame, &function.body)?;
        let end = self.emit(Op::Leave);
        for at in frame.to_end {
            self.code.ops[at as usize] = Op::SkipIfNone { to: end };
        }
        Ok(frame.result.map(Value::Regs))
    }

    fn declare_locals(&mut self, frame: &mut Frame<'a>) -> Lowered<()> {
        for (handle, local) in frame.function.local_variables.iter() {
            if let Some(what) = types::unsupported(self.module, local.ty) {
                return Err(what);
            }
            self.at(frame.function.local_variables.get_span(handle));
            let name = local.name.clone().unwrap_or_else(|| "a variable without a name".to_owned());
            let is_watched = local.init.is_none() && !written::is_stored_first(frame.function, handle);
            let variable = self.declare(&name, &self.module.types[local.ty].inner, is_watched);
            let init = match local.init {
                Some(init) => Some(self.regs(frame, init)?),
                None => None,
            };
            // What is stored before any use needs no value of its own.
            if is_watched || init.is_some() {
                self.initialize(variable, init);
            }
            frame.locals.push(variable);
        }
        Ok(())
    }

    /// A constant expression of the module.
    fn global_expression(&mut self, handle: Handle<Expression>) -> Lowered<Rc<[Reg]>> {
        let module = self.module;
        let regs: Vec<Reg> = match &module.global_expressions[handle] {
            Expression::Literal(literal) => vec![self.literal(*literal)?],
            Expression::Constant(constant) => return self.global_expression(module.constants[*constant].init),
            Expression::ZeroValue(ty) => {
                let zero = self.constant(0);
                vec![zero; types::num_scalars(module, &module.types[*ty].inner) as usize]
            }
            Expression::Compose { components, .. } => {
                let parts: Vec<_> =
                    components.iter().map(|&part| self.global_expression(part)).collect::<Lowered<_>>()?;
                parts.concat()
            }
            Expression::Splat { size, value } => {
                let value = self.global_expression(*value)?;
                vec![value[0]; *size as usize]
            }
            other => return Err(format!("a constant of the form {other:?}")),
        };
        Ok(regs.into())
    }
}
