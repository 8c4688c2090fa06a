//! How long a step would take on a GPU that is not here, from what its kernels were counted to do.
//!
//! A roofline with a floor under it: each dispatch takes as long as the slowest of its arithmetic, its traffic and its
//! workgroup memory at the machine's rates, but no less than its chains of dependent instructions, and a fence to the
//! next. Rates are published numbers; nothing here was fitted to a measurement. `lenet profile --estimate h100` says
//! 65 µs for a step of LeNet-5, which took an H200 77 (`benches/gpu/run`). Expect times within a factor of two, an
//! order of variants that is mostly right, and a kernel that got worse (a load that no longer falls together with its
//! neighbours', a bank conflict, a longer chain) always to show. What a driver does with registers, loops and
//! dispatches that overlap is not known.

use super::counters::{Counters, SCHEDULERS};
use super::plan::KernelUse;
use crate::{Error, Result};

/// What is known of a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// What it is asked for by.
    pub name: &'static str,
    /// The card.
    pub description: &'static str,
    /// Streaming multiprocessors or cores, each issuing four instructions of 32 invocations in a cycle.
    pub multiprocessors: f64,
    /// Clock under load, in GHz.
    pub clock_ghz: f64,
    /// Bytes a second out of the second-level cache, in TB/s; infinite where no number was found.
    pub cache_tbytes: f64,
    /// Bytes a second out of memory, in TB/s.
    pub memory_tbytes: f64,
    /// From the end of a dispatch to the start of the next one that needs it, in µs.
    pub fence_us: f64,
    /// Bytes of workgroup memory in a multiprocessor.
    pub shared_bytes: f64,
    /// Registers of 32 bits in a multiprocessor.
    pub registers: f64,
    /// The most invocations in a multiprocessor at a time.
    pub invocations: f64,
}

/// The machines that estimates are made for.
pub const MACHINES: [Machine; 3] = [
    Machine {
        name: "h100",
        description: "NVIDIA H100 SXM",
        multiprocessors: 132.0,
        clock_ghz: 1.75,
        cache_tbytes: 5.5,
        memory_tbytes: 3.0,
        fence_us: 2.0,
        shared_bytes: 228.0 * 1024.0,
        registers: 65_536.0,
        invocations: 2048.0,
    },
    Machine {
        name: "4090",
        description: "NVIDIA RTX 4090",
        multiprocessors: 128.0,
        clock_ghz: 2.5,
        cache_tbytes: 5.0,
        memory_tbytes: 0.9,
        fence_us: 2.0,
        shared_bytes: 100.0 * 1024.0,
        registers: 65_536.0,
        invocations: 1536.0,
    },
    Machine {
        name: "m2",
        description: "Apple M2 with 10 cores",
        multiprocessors: 10.0,
        clock_ghz: 1.4,
        cache_tbytes: f64::INFINITY,
        memory_tbytes: 0.1,
        fence_us: 5.0,
        shared_bytes: 60.0 * 1024.0,
        registers: 52_000.0,
        invocations: 1024.0,
    },
];

/// How much longer a division or a root keeps a multiprocessor busy than a multiply-add.
const SPECIAL_COST: f64 = 8.0;

/// The share of integer operations that a driver leaves of those in the source: naga drops no common subexpressions.
const INTEGERS_LEFT: f64 = 0.5;

impl Machine {
    /// The machine of a name.
    ///
    /// # Errors
    /// [`Error::Setting`] where it is none of [`MACHINES`].
    pub fn named(name: &str) -> Result<&'static Machine> {
        let names = || MACHINES.map(|machine| machine.name).join(", ");
        MACHINES
            .iter()
            .find(|machine| machine.name == name)
            .ok_or_else(|| Error::setting("estimate", format!("one of {}", names()), name))
    }

    /// Multiply-adds a second, in units of 10¹² operations of which each is two.
    pub fn tflops(&self) -> f64 {
        2.0 * 32.0 * SCHEDULERS as f64 * self.multiprocessors * self.clock_ghz / 1e3
    }
}

/// What keeps a dispatch from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Instructions that wait for each other.
    Latency,
    /// Arithmetic.
    Arithmetic,
    /// The second-level cache.
    Cache,
    /// Memory.
    Memory,
    /// Workgroup memory.
    Shared,
}

impl Bound {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Latency => "latency",
            Bound::Arithmetic => "arithmetic",
            Bound::Cache => "cache",
            Bound::Memory => "memory",
            Bound::Shared => "workgroup memory",
        }
    }
}

/// An estimate of one dispatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Its time in µs, without the fence.
    pub us: f64,
    /// What it is bound by.
    pub bound: Bound,
    /// Workgroups that a multiprocessor has room for at a time.
    pub resident: f64,
}

/// Estimates a dispatch that was run with [`Options::count`](super::Options::count); `None` where it was not.
pub fn estimate(machine: &Machine, used: &KernelUse) -> Option<Estimate> {
    let counters = used.report.counters.as_ref()?;
    let [ran, total] = used.report.workgroups.map(|count| count as f64);
    // The workgroups that did not run are taken to be like those that did.
    let scale = if ran > 0.0 { total / ran } else { 0.0 };
    let threads: f64 = used.workgroup_size.iter().map(|&extent| f64::from(extent)).product();
    let resident = resident(machine, counters, threads);
    let waves = (total / (machine.multiprocessors * resident)).ceil();
    let cycles = machine.clock_ghz * 1e3;
    let lanes_per_us = machine.multiprocessors * SCHEDULERS as f64 * 32.0 * cycles;
    let work = (counters.multiply_adds + counters.float_operations) as f64
        + SPECIAL_COST * counters.special_operations as f64
        + INTEGERS_LEFT * counters.integer_operations as f64;
    let footprint = (scale * counters.footprint_words as f64).min(used.report.bound_words as f64) * 4.0;
    let bounds = [
        (Bound::Latency, waves * counters.cycles as f64 / cycles),
        (Bound::Arithmetic, scale * work / lanes_per_us),
        (Bound::Cache, scale * counters.sectors[0] as f64 * 32.0 / (machine.cache_tbytes * 1e6)),
        (Bound::Memory, footprint / (machine.memory_tbytes * 1e6)),
        (Bound::Shared, scale * counters.bank_passes[0] as f64 / (machine.multiprocessors * cycles)),
    ];
    let (bound, us) = bounds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Estimate { us, bound, resident })
}

/// Workgroups that a multiprocessor has room for: by invocations, workgroup memory and registers, and at most 32.
fn resident(machine: &Machine, counters: &Counters, threads: f64) -> f64 {
    // Room for addresses and what the compiler keeps besides.
    let registers = (f64::from(counters.live_registers) + 16.0).min(255.0);
    let by_memory = machine.shared_bytes / (counters.workgroup_bytes as f64).max(1.0);
    // A warp takes its registers whole.
    let by_registers = machine.registers / (registers * (threads / 32.0).ceil() * 32.0);
    let by_invocations = machine.invocations / threads.max(32.0);
    by_memory.min(by_registers).min(by_invocations).min(32.0).floor().max(1.0)
}
