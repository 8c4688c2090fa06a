//! What a kernel costs a GPU, counted while it runs: arithmetic by kind, how well accesses of 32 neighbours fall
//! together, bank conflicts, barriers, loads that wait for each other.
//!
//! Counts are exact for the code as it is written. What a driver makes of it is not known: it drops common
//! subexpressions, so that integers are counted two to three times too high, and it may unroll loops, which shortens
//! chains of loads. Products that are added are counted as one operation, as every GPU's compiler has it.

use std::collections::HashSet;

use super::code::{Binary, Code, Op, Pc, Reg, Unary};
use super::exec::WIDTH;
use super::masks::Masks;

/// Bytes that a GPU's memory moves at least.
const SECTOR_WORDS: u64 = 8;

/// Banks of workgroup memory, a word wide.
const BANKS: u64 = 32;

/// Cycles until a result may be used: published numbers for NVIDIA's GPUs, rounded. Loads are hits of the second-level
/// cache.
const LOAD_CYCLES: u64 = 260;
const SHARED_CYCLES: u64 = 30;
const BARRIER_CYCLES: u64 = 30;
const ARITHMETIC_CYCLES: u64 = 4;
const SPECIAL_CYCLES: u64 = 20;

/// Warps that a multiprocessor issues an instruction of in a cycle.
pub(super) const SCHEDULERS: u64 = 4;

/// Counts of one dispatch, over the workgroups that ran.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Multiply-adds, by invocation.
    pub multiply_adds: u64,
    /// Other additions, multiplications, comparisons and so on of floats, by invocation.
    pub float_operations: u64,
    /// Divisions, roots, exponentials and the like, by invocation.
    pub special_operations: u64,
    /// Operations on integers, by invocation.
    pub integer_operations: u64,
    /// Instructions of warps of 32 that anything was to be done for.
    pub warp_instructions: u64,
    /// Accesses to global memory by warps of 32.
    pub global_accesses: u64,
    /// Sectors of 32 bytes that they touch, and the fewest that could hold the words they want.
    pub sectors: [u64; 2],
    /// Words of global memory that were touched at least once.
    pub footprint_words: u64,
    /// Passes over the banks of workgroup memory, and the fewest possible for as many words.
    pub bank_passes: [u64; 2],
    /// Barriers, by workgroup.
    pub barriers: u64,
    /// The most loads from global memory in one workgroup that wait for each other: those whose addresses come out of
    /// loads, and one for each iteration of a loop that uses what it loads.
    pub load_chain: u64,
    /// Cycles of the slowest workgroup with a multiprocessor to itself, if no loop is unrolled.
    pub cycles: u64,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u64,
    /// Scalars of an invocation that are alive at once, at most, if nothing is computed again: a rough bound of the
    /// registers.
    pub live_registers: u32,
}

/// Counters at work.
#[derive(Debug)]
pub(super) struct Counting {
    pub total: Counters,
    classes: Vec<Class>,
    /// For each register, the cycle at which it may be used and the loads that it waits for.
    ready: Vec<u64>,
    depth: Vec<u64>,
    now: u64,
    depth_now: u64,
    /// When the last instruction of the block could begin, and the loads it waited for.
    latest: u64,
    latest_depth: u64,
    touched: HashSet<(usize, u64)>,
    /// For each variable, whether it lies in global memory.
    is_global: Vec<bool>,
}

/// What an instruction costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Free,
    MultiplyAdd,
    Float,
    Special,
    Integer,
    Access,
    Barrier,
}

impl Counting {
    pub fn new(code: &Code) -> Counting {
        let is_fused = fused_products(code);
        let mut classes: Vec<Class> = code.ops.iter().map(|op| class(code, op)).collect();
        for (pc, &is_product) in is_fused.iter().enumerate() {
            if is_product {
                classes[pc] = Class::Free;
            }
        }
        mark_multiply_adds(code, &is_fused, &mut classes);
        let total = Counters {
            workgroup_bytes: u64::from(code.workgroup_words) * 4,
            live_registers: super::live::live_registers(code),
            ..Counters::default()
        };
        Counting {
            total,
            classes,
            ready: vec![0; code.num_regs as usize],
            depth: vec![0; code.num_regs as usize],
            now: 0,
            depth_now: 0,
            latest: 0,
            latest_depth: 0,
            touched: HashSet::new(),
            is_global: code.globals.iter().map(|global| global.binding.is_some() && !global.is_uniform).collect(),
        }
    }

    pub fn begin_group(&mut self) {
        self.ready.fill(0);
        self.depth.fill(0);
        (self.now, self.depth_now, self.latest, self.latest_depth) = (0, 0, 0, 0);
    }

    pub fn end_group(&mut self) {
        let last = self.ready.iter().copied().max().unwrap_or(0);
        self.total.cycles = self.total.cycles.max(self.now.max(last));
        let depth = self.depth.iter().copied().max().unwrap_or(0);
        self.total.load_chain = self.total.load_chain.max(self.latest_depth.max(depth));
        self.total.footprint_words = self.touched.len() as u64;
    }

    /// Counts an instruction and moves the clock on. It begins once what it reads is there. Compilers move instructions
    /// within a block, so that only the end of a block waits for all of it: a barrier, or the end of an iteration.
    pub fn issue(&mut self, pc: Pc, op: &Op, masks: &Masks) {
        let class = self.classes[pc as usize];
        let lanes = u64::from(masks.active());
        if lanes == 0 {
            return;
        }
        if class == Class::Free {
            return self.pass_on(op);
        }
        let warps = masks.blocks().iter().filter(|block| block.iter().any(|&lane| lane != 0)).count() as u64;
        self.total.warp_instructions += warps;
        match class {
            Class::MultiplyAdd => self.total.multiply_adds += lanes,
            Class::Float => self.total.float_operations += lanes,
            Class::Special => self.total.special_operations += lanes,
            Class::Integer => self.total.integer_operations += lanes,
            Class::Barrier => self.total.barriers += 1,
            Class::Access | Class::Free => {}
        }
        let (mut start, mut depth) = (self.now, self.depth_now);
        op.reads(|reg| {
            start = start.max(self.ready[reg as usize]);
            depth = depth.max(self.depth[reg as usize]);
        });
        self.latest = self.latest.max(start);
        self.latest_depth = self.latest_depth.max(depth);
        self.now += warps.div_ceil(SCHEDULERS);
        match op {
            // What follows depends on the condition.
            Op::If { .. } | Op::BreakIf { .. } => {
                self.now = self.now.max(start);
                self.depth_now = self.depth_now.max(depth);
            }
            // All of the block has begun before the next one does.
            Op::Repeat { .. } | Op::Barrier { .. } => {
                self.now = self.now.max(self.latest);
                self.depth_now = self.latest_depth;
            }
            _ => {}
        }
        let is_load =
            matches!(op, Op::Load { at, .. } | Op::AtomicLoad { at, .. } if self.is_global[usize::from(at.global)]);
        let latency = match class {
            Class::Access if is_load => LOAD_CYCLES,
            Class::Access => SHARED_CYCLES,
            Class::Barrier => {
                self.now += BARRIER_CYCLES;
                0
            }
            Class::Special => SPECIAL_CYCLES,
            _ => ARITHMETIC_CYCLES,
        };
        if let Some((first, count)) = op.writes() {
            for reg in first..first + count {
                self.ready[reg as usize] = start + latency;
                self.depth[reg as usize] = depth + u64::from(is_load);
            }
        }
    }

    /// A move, which a compiler leaves out, and a product that a sum takes up wait for nothing themselves.
    fn pass_on(&mut self, op: &Op) {
        let (mut ready, mut depth) = (0, 0);
        op.reads(|reg| {
            ready = ready.max(self.ready[reg as usize]);
            depth = depth.max(self.depth[reg as usize]);
        });
        if let Some((first, count)) = op.writes() {
            for reg in first..first + count {
                self.ready[reg as usize] = ready;
                self.depth[reg as usize] = depth;
            }
        }
    }

    /// Counts an access of each invocation to `num_words` words in a row: where it starts, if it is active.
    pub fn access(&mut self, addresses: &[Option<u64>], num_words: u32, (base, variable): (u64, usize)) {
        let is_global = self.is_global[variable];
        for warp in addresses.chunks(WIDTH) {
            let starts: Vec<u64> = warp.iter().flatten().map(|&start| base + start).collect();
            if starts.is_empty() {
                continue;
            }
            let words: HashSet<u64> = starts.iter().flat_map(|&start| start..start + u64::from(num_words)).collect();
            if is_global {
                let sectors: HashSet<u64> = words.iter().map(|word| word / SECTOR_WORDS).collect();
                self.total.global_accesses += 1;
                self.total.sectors[0] += sectors.len() as u64;
                self.total.sectors[1] += (words.len() as u64).div_ceil(SECTOR_WORDS);
                self.touched.extend(words.into_iter().map(|word| (variable, word)));
            } else {
                self.total.bank_passes[0] += bank_passes(&starts, u64::from(num_words));
                self.total.bank_passes[1] += (words.len() as u64).div_ceil(BANKS);
            }
        }
    }
}

/// How often the banks have to be gone over: as often as the busiest has different words to give. Wide accesses are
/// served in parts of the warp that ask for 32 words together.
fn bank_passes(starts: &[u64], num_words: u64) -> u64 {
    let part = (BANKS / num_words.max(1)).max(1) as usize;
    let passes = |starts: &[u64]| {
        let words: HashSet<u64> = starts.iter().flat_map(|&start| start..start + num_words).collect();
        let mut load = [0u64; BANKS as usize];
        words.iter().for_each(|word| load[(word % BANKS) as usize] += 1);
        load.into_iter().max().unwrap_or(0)
    };
    starts.chunks(part).map(passes).sum()
}

/// For each instruction, whether it is a product whose only use is a sum.
fn fused_products(code: &Code) -> Vec<bool> {
    let mut uses = vec![0u32; code.num_regs as usize];
    let mut in_sum = vec![false; code.num_regs as usize];
    for op in &code.ops {
        op.reads(|reg| uses[reg as usize] += 1);
        if let Op::Binary { op: Binary::AddF | Binary::SubF, a, b, .. } = *op {
            in_sum[a as usize] = true;
            in_sum[b as usize] = true;
        }
    }
    let is_fused = |op: &Op| match *op {
        Op::Binary { op: Binary::MulF, d, .. } => uses[d as usize] == 1 && in_sum[d as usize],
        _ => false,
    };
    code.ops.iter().map(is_fused).collect()
}

/// Sums that take up a product are multiply-adds; a sum takes up one only.
fn mark_multiply_adds(code: &Code, is_fused: &[bool], classes: &mut [Class]) {
    let mut product_of: Vec<Option<usize>> = vec![None; code.num_regs as usize];
    for (pc, op) in code.ops.iter().enumerate() {
        if is_fused[pc]
            && let Some((d, _)) = op.writes()
        {
            product_of[d as usize] = Some(pc);
        }
        if let Op::Binary { op: Binary::AddF | Binary::SubF, a, b, .. } = *op {
            let products = [a, b].map(|reg: Reg| product_of[reg as usize]);
            if products.iter().any(Option::is_some) {
                classes[pc] = Class::MultiplyAdd;
            }
            if let [Some(_), Some(second)] = products {
                classes[second] = Class::Float;
            }
        }
    }
}

fn class(code: &Code, op: &Op) -> Class {
    match op {
        // Uniform values are constants to a GPU.
        Op::Load { at, .. } if code.globals[usize::from(at.global)].is_uniform => Class::Free,
        Op::Unary { op, .. } => match op {
            Unary::Copy | Unary::IToU | Unary::UToI => Class::Free,
            Unary::NegF | Unary::AbsF => Class::Free,
            Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Trunc
            | Unary::Fract
            | Unary::Saturate
            | Unary::SignF => Class::Float,
            Unary::NotB
            | Unary::NotBits
            | Unary::NegI
            | Unary::AbsI
            | Unary::SignI
            | Unary::IToB
            | Unary::FToB
            | Unary::BToF
            | Unary::IsNan
            | Unary::IsInf
            | Unary::CountOnes
            | Unary::LeadingZeros
            | Unary::TrailingZeros
            | Unary::ReverseBits
            | Unary::FirstLeadingU
            | Unary::FirstLeadingI
            | Unary::FirstTrailing => Class::Integer,
            _ => Class::Special,
        },
        Op::Binary { op, .. } => match op {
            Binary::AddF | Binary::SubF | Binary::MulF | Binary::MinF | Binary::MaxF | Binary::Step => Class::Float,
            Binary::EqF | Binary::NeF | Binary::LtF | Binary::LeF => Class::Float,
            Binary::DivF | Binary::RemF | Binary::Pow | Binary::Atan2 | Binary::Ldexp => Class::Special,
            Binary::DivI | Binary::DivU | Binary::RemI | Binary::RemU => Class::Special,
            _ => Class::Integer,
        },
        Op::Fma { .. } => Class::MultiplyAdd,
        Op::Select { .. } | Op::Index { .. } => Class::Integer,
        Op::Load { .. }
        | Op::Store { .. }
        | Op::AtomicLoad { .. }
        | Op::AtomicStore { .. }
        | Op::Atomic { .. }
        | Op::Gather { .. }
        | Op::Scan { .. }
        | Op::Ballot { .. }
        | Op::GetIndexed { .. }
        | Op::SetIndexed { .. } => Class::Access,
        Op::Barrier { .. } => Class::Barrier,
        Op::If { .. } | Op::BreakIf { .. } | Op::Repeat { .. } => Class::Integer,
        _ => Class::Free,
    }
}
