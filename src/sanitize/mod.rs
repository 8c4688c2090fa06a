//! A checker for kernels: runs WGSL as its specification has it, on the CPU, over memory that remembers.
//!
//! An adapter hides what is wrong with a kernel: it clamps what is out of bounds, zeroes what nobody wrote, runs racing
//! invocations in an order that happens to be right, and ends loops that are too long. This interpreter of naga's
//! validated IR reports all of that, with the line and the invocations: see [`Kind`]. It knows nothing of the rest of
//! wgrad and takes any compute shader of 32-bit scalars without textures:
//!
//! ```
//! use wgrad::sanitize::{Bound, Kernel, Kind, Memory, Options};
//!
//! let source = "
//!     @group(0) @binding(0) var<storage, read_write> x: array<f32>;
//!     @compute @workgroup_size(64) fn shift(@builtin(local_invocation_index) lane: u32) {
//!         if lane > 0u { x[lane] = x[lane - 1u]; }
//!     }";
//! let kernel = Kernel::compile("shift", source, "shift", &[])?;
//! let mut memory = Memory::new();
//! let x = memory.floats(&[0.0; 64]);
//! let report = kernel.run(&mut memory, &[Bound::whole(0, x)], [1, 1, 1], &Options::default())?;
//! assert_eq!(report.findings[0].kind, Kind::Race);
//! # Ok::<(), wgrad::Error>(())
//! ```
//!
//! What it can tell: everything about the paths that the given inputs take. What it cannot: anything about others, what
//! a driver's compiler does, and times, of which [`estimate`] gives a rough idea.

mod code;
mod counters;
pub mod estimate;
mod exec;
mod executor;
mod live;
mod lower;
mod memory;
mod operands;
mod plan;
mod report;

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{Module, ShaderStage};

use crate::{Error, Result};
use code::Code;
pub use counters::Counters;
use exec::{Machine, Settings, Target, masks};
pub use memory::{BufferId, Memory};
pub use plan::{Interpreter, KernelUse, PlanReport};
use report::Found;
pub use report::{Finding, Kind, Report, Site};

/// What [`Error`]s call the interpreter.
const NAME: &str = "wgrad's interpreter";

/// A compiled entry point.
#[derive(Debug)]
pub struct Kernel {
    name: String,
    source: String,
    code: Code,
}

/// A part of a buffer, bound to a number of group 0.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// `@binding`.
    pub binding: u32,
    /// The buffer.
    pub buffer: BufferId,
    /// The first word.
    pub offset: usize,
    /// The number of words; `None` for all from the first on.
    pub num_words: Option<usize>,
}

impl Bound {
    /// All of a buffer.
    pub fn whole(binding: u32, buffer: BufferId) -> Bound {
        Bound { binding, buffer, offset: 0, num_words: None }
    }
}

/// How a dispatch is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Invocations in a subgroup: neighbours by `local_invocation_index`.
    pub subgroup_size: u32,
    /// The order of workgroups.
    pub order: Order,
    /// The most workgroups to run, spread evenly over the grid, its first and last among them; `None` runs all.
    pub max_workgroups: Option<usize>,
    /// Iterations of one loop after which it counts as endless.
    pub max_iterations: u64,
    /// Whether to fill [`Report::counters`].
    pub count: bool,
}

impl Default for Options {
    /// Subgroups of 32, all workgroups in order, loops of at most 2²⁴ iterations, no counters.
    fn default() -> Self {
        Options {
            subgroup_size: 32,
            order: Order::Forward,
            max_workgroups: None,
            max_iterations: 1 << 24,
            count: false,
        }
    }
}

/// The order in which workgroups run; a kernel without races gives the same bytes in every one, atomics apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// x fastest, from the first on.
    Forward,
    /// The other way round.
    Reverse,
}

impl Kernel {
    /// Compiles an entry point of a module, with values for its `override` constants.
    ///
    /// # Errors
    /// [`Error::Kernel`] where the module does not compile, has no such entry point or uses what the interpreter lacks:
    /// textures, 16- and 64-bit scalars, functions that are rarely used.
    pub fn compile(name: &str, source: &str, entry_point: &str, constants: &[(&str, f64)]) -> Result<Kernel> {
        let fail = |message: String| Error::Kernel { kernel: name.to_owned(), adapter: NAME.to_owned(), message };
        let module = naga::front::wgsl::parse_str(source).map_err(|error| fail(error.emit_to_string(source)))?;
        // Whether control flow is uniform is found out by running it.
        let flags = ValidationFlags::all() - ValidationFlags::CONTROL_FLOW_UNIFORMITY;
        let info = Validator::new(flags, Capabilities::all())
            .subgroup_stages(ShaderStages::COMPUTE)
            .subgroup_operations(SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|error| fail(error.emit_to_string(source)))?;
        let constants = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let settled = process_overrides(&module, &info, Some((ShaderStage::Compute, entry_point)), &constants);
        let (module, info) = settled.map_err(|error| fail(error.to_string()))?;
        let is_wanted = |module: &Module| module.entry_points.iter().position(|entry| entry.name == entry_point);
        let index = is_wanted(&module).ok_or_else(|| fail(format!("there is no entry point {entry_point}")))?;
        let code = lower::lower(&module, &info, source, index)
            .map_err(|what| fail(format!("the interpreter does not know {what}")))?;
        Ok(Kernel { name: name.to_owned(), source: source.to_owned(), code })
    }

    /// The invocations of a workgroup in x, y and z.
    pub fn workgroup_size(&self) -> [u32; 3] {
        self.code.workgroup_size
    }

    /// Whether it exchanges values within subgroups, so that their size matters.
    pub fn uses_subgroups(&self) -> bool {
        self.code.uses_subgroups
    }

    /// Runs a dispatch.
    ///
    /// # Errors
    /// [`Error::Kernel`] where a binding is missing or not of group 0.
    pub fn run(&self, memory: &mut Memory, bound: &[Bound], workgroups: [u32; 3], options: &Options) -> Result<Report> {
        let targets = self.targets(memory, bound)?;
        let settings = Settings {
            subgroup_size: options.subgroup_size.max(1),
            max_iterations: options.max_iterations,
            count: options.count,
        };
        let bound_words = targets.iter().filter(|target| target.buffer.is_some()).map(|target| target.len as u64).sum();
        let mut machine = Machine::new(&self.code, memory, targets, settings);
        let groups = chosen_groups(workgroups, options);
        for &group in &groups {
            machine.run_group(group, workgroups);
        }
        let findings = machine.findings.list.iter().map(|found| self.finding(found)).collect();
        let loops = self.code.loops.iter().copied().zip(machine.loop_maxima.iter().copied()).collect();
        Ok(Report {
            findings,
            loops,
            max_iterations: machine.max_iterations,
            max_tries: machine.max_tries,
            operations: machine.operations,
            bound_words,
            workgroups: [groups.len() as u64, workgroups.iter().map(|&extent| u64::from(extent)).product()],
            counters: machine.counting.map(|counting| counting.total),
        })
    }

    /// Where each variable of the kernel lies.
    fn targets(&self, memory: &mut Memory, bound: &[Bound]) -> Result<Vec<Target>> {
        let fail = |message: String| Error::Kernel { kernel: self.name.clone(), adapter: NAME.to_owned(), message };
        let mut targets = Vec::new();
        for global in &self.code.globals {
            let Some((group, binding)) = global.binding else {
                // Workgroup memory, where others write between any two barriers.
                let (base, len) = (global.base as usize, global.words as usize);
                targets.push(Target { buffer: None, base, len, is_shared: true, may_be_unwritten: true });
                continue;
            };
            let part = bound.iter().find(|part| group == 0 && part.binding == binding);
            let part = part.ok_or_else(|| fail(format!("nothing is bound to {} ({group}, {binding})", global.name)))?;
            let buffer = &memory.buffers[part.buffer.0];
            let len = part.num_words.unwrap_or(buffer.words.len().saturating_sub(part.offset));
            let range = part.offset..part.offset + len;
            let written = buffer.written.get(range);
            let written = written.ok_or_else(|| fail(format!("{} reaches beyond its buffer", global.name)))?;
            let may_be_unwritten = written.contains(&false);
            targets.push(Target {
                buffer: Some(part.buffer.0),
                base: part.offset,
                len,
                is_shared: global.writable,
                may_be_unwritten,
            });
        }
        // A buffer that is bound to write is shared under every name.
        let written: Vec<usize> =
            targets.iter().filter(|target| target.is_shared).filter_map(|target| target.buffer).collect();
        for target in &mut targets {
            if let Some(buffer) = target.buffer
                && written.contains(&buffer)
            {
                target.is_shared = true;
                let buffer = &mut memory.buffers[buffer];
                buffer.cells.resize(buffer.words.len(), Default::default());
            }
        }
        Ok(targets)
    }

    fn finding(&self, found: &Found) -> Finding {
        let site = |pc: u32| {
            let line = self.code.lines[pc as usize];
            let text = self.source.lines().nth((line as usize).wrapping_sub(1)).unwrap_or("").trim().to_owned();
            Site { line, text }
        };
        Finding {
            kind: found.kind,
            kernel: self.name.clone(),
            site: site(found.pc),
            workgroup: found.workgroup,
            invocation: found.invocation,
            other: found.other.map(|(pc, by)| (site(pc), by)),
            detail: found.detail.clone(),
            count: found.count,
        }
    }
}

/// The workgroups that run, in order.
fn chosen_groups([x, y, z]: [u32; 3], options: &Options) -> Vec<[u32; 3]> {
    let total = u64::from(x) * u64::from(y) * u64::from(z);
    let count = options.max_workgroups.map_or(total, |most| total.min(most.max(1) as u64));
    let place = |index: u64| {
        let flat = if count == 1 { 0 } else { index * (total - 1) / (count - 1) };
        // Each is below its extent.
        [
            (flat % u64::from(x)) as u32,
            (flat / u64::from(x) % u64::from(y)) as u32,
            (flat / u64::from(x) / u64::from(y)) as u32,
        ]
    };
    let mut groups: Vec<[u32; 3]> = (0..count).map(place).collect();
    if options.order == Order::Reverse {
        groups.reverse();
    }
    groups
}
