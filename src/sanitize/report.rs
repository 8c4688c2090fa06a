//! What a run found and counted.

use std::collections::HashMap;
use std::fmt;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Two accesses to one word, at least one of them a write, that no barrier orders.
    Race,
    /// An index or address outside the array, vector or binding.
    OutOfBounds,
    /// A read of a word that nobody wrote: workgroup memory, a private or local variable, an output. WGSL makes
    /// variables zero; that the code relies on it is worth knowing all the same.
    Unwritten,
    /// A barrier or a subgroup operation that some invocations of the workgroup do not reach.
    NonUniform,
    /// An index that differs from what arithmetic without limits would give.
    IndexOverflow,
    /// An integer division or remainder by zero, or of the least integer by −1.
    DivisionByZero,
    /// A shift by the width of the word or more.
    ShiftTooFar,
    /// Not-a-number out of finite operands.
    NanFromFinite,
    /// A loop that was ended by the interpreter.
    EndlessLoop,
}

impl Kind {
    /// What it is, in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Race => "data race",
            Kind::OutOfBounds => "access out of bounds",
            Kind::Unwritten => "read before any write",
            Kind::NonUniform => "not reached by all invocations",
            Kind::IndexOverflow => "index that overflowed",
            Kind::DivisionByZero => "integer division by zero",
            Kind::ShiftTooFar => "shift too far",
            Kind::NanFromFinite => "NaN from finite operands",
            Kind::EndlessLoop => "loop without end",
        }
    }
}

/// A line of a kernel's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// From 1 on, in the text that was compiled; 0 where it is not known.
    pub line: u32,
    /// The text of the line.
    pub text: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// A fault, as it was first seen, and how often it was.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// The kernel.
    pub kernel: String,
    /// Where it shows.
    pub site: Site,
    /// The workgroup.
    pub workgroup: [u32; 3],
    /// `local_invocation_index` of the invocation.
    pub invocation: u32,
    /// The other access of a race, or the arithmetic that overflowed, and the invocation; `None` for several.
    pub other: Option<(Site, Option<u32>)>,
    /// The variable and the values.
    pub detail: String,
    /// Times it was seen.
    pub count: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.workgroup;
        write!(f, "{}: {}: {}\n    {}", self.kernel, self.kind.describe(), self.detail, self.site)?;
        if let Some((site, by)) = &self.other {
            let by = by.map_or("several invocations".to_owned(), |by| format!("invocation {by}"));
            write!(f, "\n    and {site} ({by})")?;
        }
        write!(f, "\n    first in invocation {} of workgroup ({x}, {y}, {z}), {} times", self.invocation, self.count)
    }
}

/// What one dispatch did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Faults, each place once.
    pub findings: Vec<Finding>,
    /// The most times that one entry of each loop began an iteration, with the loop's line.
    pub loops: Vec<(u32, u64)>,
    /// The most iterations of all loops together in one invocation.
    pub max_iterations: u64,
    /// The most times that the invocations of a workgroup together began an iteration of any loop, with those in which
    /// a loop found that it was over. llvmpipe ends all loops when this comes to 65,535 for a few neighbours.
    pub max_tries: u64,
    /// Instructions times invocations that ran.
    pub operations: u64,
    /// Workgroups that ran, and that the dispatch has.
    pub workgroups: [u64; 2],
    /// Words of the storage buffers that are bound.
    pub bound_words: u64,
    /// What was counted for the estimate, where it was asked for.
    pub counters: Option<super::counters::Counters>,
}

/// Findings while they are collected.
#[derive(Debug, Default)]
pub(super) struct Findings {
    known: HashMap<(Kind, u32, u32), usize>,
    pub list: Vec<Found>,
}

/// A finding before its lines are looked up.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub kind: Kind,
    pub pc: u32,
    pub other: Option<(u32, Option<u32>)>,
    pub workgroup: [u32; 3],
    pub invocation: u32,
    pub detail: String,
    pub count: u64,
}

impl Findings {
    /// Adds a fault or counts one more of a known one. `make` describes it, the first time only.
    pub fn add(&mut self, kind: Kind, pc: u32, other: Option<u32>, make: impl FnOnce() -> Found) {
        let key = (kind, pc, other.unwrap_or(u32::MAX));
        match self.known.get(&key) {
            Some(&at) => self.list[at].count += 1,
            None => {
                self.known.insert(key, self.list.len());
                self.list.push(make());
            }
        }
    }
}
