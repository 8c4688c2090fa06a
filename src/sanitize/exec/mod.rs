//! Runs a workgroup: every instruction for all invocations before the next one, those that are not active masked out.
//!
//! Without a race the order of invocations between two barriers does not matter, and with one it is reported; so lock
//! step stands for every order.

mod access;
mod arithmetic;
mod control;
mod integer;
pub(super) mod masks;
mod subgroup;

use super::code::{Code, Input, Op, Pc, Reg};
use super::counters::Counting;
use super::memory::{Buffer, Interval, Memory};
use super::report::{Findings, Found, Kind};
use masks::Masks;

/// Invocations that one step of the innermost loops goes over: a constant, so that they are unrolled and vectorised.
pub(super) const WIDTH: usize = 32;

/// One scalar of [`WIDTH`] invocations.
pub(super) type Block = [u32; WIDTH];

/// Where a variable lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Index into the buffers of the memory; `None` for workgroup memory.
    pub buffer: Option<usize>,
    /// Its first word there, and its number of words.
    pub base: usize,
    pub len: usize,
    /// Whether anyone may write to it during the dispatch, so that accesses are held against each other.
    pub is_shared: bool,
    /// Whether it may have words that nobody wrote.
    pub may_be_unwritten: bool,
}

/// What a run is told besides the kernel and its bindings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub subgroup_size: u32,
    pub max_iterations: u64,
    pub count: bool,
}

/// A workgroup at work.
pub(super) struct Machine<'a> {
    code: &'a Code,
    settings: Settings,
    memory: &'a mut Memory,
    targets: Vec<Target>,
    /// Workgroup memory, with its shadow.
    shared: Buffer,
    num_blocks: usize,
    regs: Vec<Block>,
    masks: Masks,
    /// For each register, whether some invocation's integer differs from what it would be without limits.
    is_wild: Vec<bool>,
    /// By how much, for registers of which it is true, and the instruction where it began.
    excess: Vec<i64>,
    origin: Vec<Pc>,
    loop_counts: Vec<u64>,
    iterations: Vec<Block>,
    pub loop_maxima: Vec<u64>,
    pub max_iterations: u64,
    tries: u64,
    pub max_tries: u64,
    pub operations: u64,
    pub findings: Findings,
    pub counting: Option<Counting>,
    dispatch_start: u32,
    group_start: u32,
    /// The interval of workgroup memory and that of storage buffers.
    now: [u32; 2],
    pc: Pc,
    group: [u32; 3],
    is_stopped: bool,
}

impl<'a> Machine<'a> {
    pub fn new(code: &'a Code, memory: &'a mut Memory, targets: Vec<Target>, settings: Settings) -> Self {
        let lanes: u32 = code.workgroup_size.iter().product();
        let num_blocks = (lanes as usize).div_ceil(WIDTH);
        memory.stamp += 1;
        let dispatch_start = memory.stamp;
        let num_regs = code.num_regs as usize;
        let words = code.workgroup_words as usize;
        let mut machine = Machine {
            code,
            settings,
            targets,
            shared: Buffer {
                words: vec![u32::MAX; words],
                written: vec![false; words],
                cells: vec![Default::default(); words],
            },
            num_blocks,
            regs: vec![[0; WIDTH]; num_regs * num_blocks],
            masks: Masks::new(lanes),
            is_wild: vec![false; num_regs],
            excess: Vec::new(),
            origin: vec![0; num_regs],
            loop_counts: Vec::new(),
            iterations: vec![[0; WIDTH]; num_blocks],
            loop_maxima: vec![0; code.loops.len()],
            max_iterations: 0,
            tries: 0,
            max_tries: 0,
            operations: 0,
            findings: Findings::default(),
            counting: settings.count.then(|| Counting::new(code)),
            dispatch_start,
            group_start: dispatch_start,
            now: [dispatch_start; 2],
            pc: 0,
            group: [0; 3],
            is_stopped: false,
            memory,
        };
        for &(reg, bits) in &code.constants {
            machine.fill(reg, |_| bits);
        }
        machine
    }

    /// Sets a register by invocation.
    fn fill(&mut self, reg: Reg, value: impl Fn(u32) -> u32) {
        let start = reg as usize * self.num_blocks;
        for (block, values) in self.regs[start..start + self.num_blocks].iter_mut().enumerate() {
            for (lane, out) in values.iter_mut().enumerate() {
                // A workgroup has at most a few thousand invocations.
                *out = value((block * WIDTH + lane) as u32);
            }
        }
    }

    /// A register's scalar of one invocation.
    fn scalar(&self, reg: Reg, lane: usize) -> u32 {
        self.regs[reg as usize * self.num_blocks + lane / WIDTH][lane % WIDTH]
    }

    fn set_scalar(&mut self, reg: Reg, lane: usize, value: u32) {
        self.regs[reg as usize * self.num_blocks + lane / WIDTH][lane % WIDTH] = value;
    }

    /// Runs one workgroup of a grid.
    pub fn run_group(&mut self, group: [u32; 3], grid: [u32; 3]) {
        self.group = group;
        self.memory.stamp += 1;
        self.group_start = self.memory.stamp;
        self.now = [self.group_start; 2];
        self.masks.reset();
        self.shared.written.fill(false);
        self.shared.words.fill(u32::MAX);
        self.is_wild.fill(false);
        self.loop_counts.clear();
        self.iterations.fill([0; WIDTH]);
        self.tries = 0;
        self.set_inputs(grid);
        if let Some(counting) = &mut self.counting {
            counting.begin_group();
        }
        let code = self.code;
        let mut pc = 0;
        while let Some(op) = code.ops.get(pc as usize) {
            if self.is_stopped {
                return;
            }
            self.pc = pc;
            let active = self.masks.active();
            self.operations += u64::from(active);
            if let Some(counting) = &mut self.counting {
                counting.issue(pc, op, &self.masks);
            }
            pc = self.step(op).unwrap_or(pc + 1);
        }
        let most = self.iterations.iter().flatten().copied().max().unwrap_or(0);
        self.max_iterations = self.max_iterations.max(u64::from(most));
        self.max_tries = self.max_tries.max(self.tries);
        if let Some(counting) = &mut self.counting {
            counting.end_group();
        }
    }

    fn set_inputs(&mut self, grid: [u32; 3]) {
        let size = self.code.workgroup_size;
        let subgroup = self.settings.subgroup_size;
        let local = move |lane: u32, axis: usize| match axis {
            0 => lane % size[0],
            1 => lane / size[0] % size[1],
            _ => lane / size[0] / size[1],
        };
        let group = self.group;
        let lanes: u32 = size.iter().product();
        for &(reg, input) in &self.code.inputs {
            match input {
                Input::GlobalId(axis) => {
                    let base = group[axis].wrapping_mul(size[axis]);
                    self.fill(reg, |lane| base.wrapping_add(local(lane, axis)));
                }
                Input::LocalId(axis) => self.fill(reg, |lane| local(lane, axis)),
                Input::LocalIndex => self.fill(reg, |lane| lane),
                Input::WorkgroupId(axis) => self.fill(reg, |_| group[axis]),
                Input::NumWorkgroups(axis) => self.fill(reg, |_| grid[axis]),
                Input::SubgroupSize => self.fill(reg, |_| subgroup),
                Input::SubgroupLane => self.fill(reg, |lane| lane % subgroup),
                Input::SubgroupId => self.fill(reg, |lane| lane / subgroup),
                Input::NumSubgroups => self.fill(reg, |_| lanes.div_ceil(subgroup)),
            }
        }
    }

    /// Runs one instruction; returns the next one to run, if it is not the one that follows.
    fn step(&mut self, op: &Op) -> Option<Pc> {
        match *op {
            Op::Unary { op, d, a } => self.unary(op, d, a),
            Op::Binary { op, d, a, b } => self.binary(op, d, a, b),
            Op::Fma { d, a, b, c } => self.fma(d, [a, b, c]),
            Op::Select { d, c, a, b } => self.select(d, c, [a, b]),
            Op::Set { d, a } => self.set(d, a),
            Op::GetIndexed { d, base, index, n } => self.get_indexed(d, base, index, n),
            Op::SetIndexed { base, index, a, n } => self.set_indexed(base, index, a, n),
            Op::CheckWritten { flag, name } => self.check_written(flag, name),
            Op::Index { d, base, index, stride, len, name } => self.index(d, base, (index, stride), (len, name)),
            Op::Load { d, at, words } => self.load(d, at, words),
            Op::Store { a, at, words } => self.store(a, at, words),
            Op::AtomicLoad { d, at } => self.atomic_load(d, at),
            Op::AtomicStore { a, at } => self.atomic_store(a, at),
            Op::Atomic { fun, d, at, a } => self.atomic(fun, d, at, a),
            Op::ArrayLength { d, global, offset, stride } => {
                let len = self.runtime_length(global, offset, stride);
                self.fill(d, |_| len);
            }
            Op::Barrier { workgroup, storage } => self.barrier(workgroup, storage),
            Op::UniformCheck { at } => self.uniform_check(at),
            Op::Gather { d, a, from } => self.gather(d, a, from),
            Op::Scan { d, a, scan, with } => self.scan(d, a, scan, with),
            Op::Ballot { d, a } => self.ballot(d, a),
            _ => return self.control(op),
        }
        None
    }

    fn barrier(&mut self, workgroup: bool, storage: bool) {
        if !self.masks.is_full() && self.masks.active() > 0 {
            let lane = self.masks.first_inactive();
            let active = self.masks.active();
            self.report(Kind::NonUniform, lane, None, || format!("a barrier that {active} invocations reach"));
        }
        self.memory.stamp += 1;
        let stamp = self.memory.stamp;
        if workgroup {
            self.now[0] = stamp;
        }
        if storage {
            self.now[1] = stamp;
        }
    }

    /// The intervals of a variable's accesses.
    fn interval(&self, target: &Target) -> Interval {
        let now = self.now[usize::from(target.buffer.is_some())];
        let group = self.group_start;
        // Nobody else has this workgroup's memory.
        let dispatch = if target.buffer.is_some() { self.dispatch_start } else { group };
        Interval { dispatch, group, now }
    }

    fn report(&mut self, kind: Kind, lane: usize, other: Option<(Pc, Option<u32>)>, detail: impl FnOnce() -> String) {
        let (pc, workgroup) = (self.pc, self.group);
        let make = || Found {
            kind,
            pc,
            other,
            workgroup,
            // A workgroup has at most a few thousand invocations.
            invocation: lane as u32,
            detail: detail(),
            count: 1,
        };
        self.findings.add(kind, pc, other.map(|(pc, _)| pc), make);
    }
}
