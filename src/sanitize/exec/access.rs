//! Indices and accesses to memory, held against its shadow.

use super::{Block, Machine, Target, WIDTH};
use crate::sanitize::code::{Address, Atomic, Length, Offsets, Pc, Reg};
use crate::sanitize::memory::{Buffer, Cell, Interval, MANY, Mark};
use crate::sanitize::report::Kind;

/// The index of an invocation whose index was out of bounds: its reads give 0 and its writes nothing.
const ASTRAY: u32 = u32::MAX;

/// How a word is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    Atomic,
}

impl Machine<'_> {
    pub(super) fn runtime_length(&self, global: u16, offset: u32, stride: u32) -> u32 {
        let len = self.targets[usize::from(global)].len;
        // A binding has far fewer than 4 Gi words.
        (len.saturating_sub(offset as usize) / stride.max(1) as usize) as u32
    }

    pub(super) fn index(&mut self, d: Reg, base: Option<Reg>, (index, stride): (Reg, u32), (len, name): (Length, u16)) {
        let len = match len {
            Length::Fixed(len) => len,
            Length::Runtime { global, offset, stride } => self.runtime_length(global, offset, stride),
        };
        let n = self.num_blocks;
        let mut bad = 0;
        for (block, mask) in self.masks.blocks().iter().enumerate() {
            let x = self.regs[index as usize * n + block];
            let start: Block = base.map_or([0; WIDTH], |base| self.regs[base as usize * n + block]);
            let out = &mut self.regs[d as usize * n + block];
            for lane in 0..WIDTH {
                let is_in = x[lane] < len && start[lane] != ASTRAY;
                out[lane] = if is_in { start[lane].wrapping_add(x[lane].wrapping_mul(stride)) } else { ASTRAY };
                bad |= mask[lane] & u32::from(x[lane] >= len);
            }
        }
        if bad != 0 {
            let lane = self.masks.lanes().find(|&lane| self.scalar(index, lane) >= len).expect("one was found above");
            let at = self.scalar(index, lane);
            let name = self.code.names[usize::from(name)].clone();
            self.report(Kind::OutOfBounds, lane, None, || format!("index {at} into {len} elements of {name}"));
        }
        if self.is_wild[index as usize] {
            self.check_overflow(index, name);
        }
    }

    fn check_overflow(&mut self, index: Reg, name: u16) {
        let Some(lane) = self.masks.lanes().find(|&lane| self.lane_excess(index, lane) != 0) else { return };
        let (at, excess) = (self.scalar(index, lane), self.lane_excess(index, lane));
        let name = self.code.names[usize::from(name)].clone();
        let origin = self.origin[index as usize];
        let exact = i64::from(at).saturating_add(excess);
        // A lane number is far below 4 Gi.
        let other = Some((origin, Some(lane as u32)));
        self.report(Kind::IndexOverflow, lane, other, || format!("index {at} into {name}, {exact} without overflow"));
    }

    pub(super) fn get_indexed(&mut self, d: Reg, base: Reg, index: Reg, n: u32) {
        for lane in 0..self.num_blocks * WIDTH {
            let at = self.scalar(index, lane);
            for scalar in 0..n {
                let is_real = at != ASTRAY && base + at + scalar < self.code.num_regs;
                let value = if is_real { self.scalar(base + at + scalar, lane) } else { 0 };
                self.set_scalar(d + scalar, lane, value);
            }
        }
    }

    pub(super) fn set_indexed(&mut self, base: Reg, index: Reg, a: Reg, n: u32) {
        for lane in 0..self.num_blocks * WIDTH {
            let at = self.scalar(index, lane);
            if self.masks.is_on(lane) && at != ASTRAY {
                for scalar in 0..n {
                    let value = self.scalar(a + scalar, lane);
                    self.set_scalar(base + at + scalar, lane, value);
                }
            }
        }
    }

    pub(super) fn check_written(&mut self, flag: Reg, name: u16) {
        let n = self.num_blocks;
        let mut bad = 0;
        for (block, mask) in self.masks.blocks().iter().enumerate() {
            let written = &self.regs[flag as usize * n + block];
            for lane in 0..WIDTH {
                bad |= mask[lane] & u32::from(written[lane] == 0);
            }
        }
        if bad != 0 {
            let lane = self.masks.lanes().find(|&lane| self.scalar(flag, lane) == 0).expect("one was found above");
            let name = self.code.names[usize::from(name)].clone();
            self.report(Kind::Unwritten, lane, None, || format!("variable {name}"));
        }
    }

    pub(super) fn load(&mut self, d: Reg, at: Address, words: Offsets) {
        let target = self.targets[usize::from(at.global)];
        let is_plain = !target.is_shared && !target.may_be_unwritten;
        self.count_access(at, words, target);
        for word in 0..words.len {
            let offset = u64::from(at.offset) + u64::from(self.code.offsets[(words.start + word) as usize]);
            match at.index {
                None => self.load_same(d + word, target, offset, at.global),
                Some(index) if is_plain => self.load_plain(d + word, target, (index, offset), at.global),
                Some(index) => {
                    for lane in 0..self.num_blocks * WIDTH {
                        let place = self.scalar(index, lane);
                        let is_used = self.masks.is_on(lane) && place != ASTRAY;
                        let value = match is_used {
                            true => self.touch(target, lane, u64::from(place) + offset, (at.global, Use::Read)),
                            false => None,
                        };
                        let value = value.map_or(0, |word| self.buffer(target).words[word]);
                        self.set_scalar(d + word, lane, value);
                    }
                }
            }
        }
    }

    /// A load of one word by all.
    fn load_same(&mut self, d: Reg, target: Target, offset: u64, global: u16) {
        let mut value = 0;
        if (offset as usize) < target.len {
            value = self.buffer(target).words[target.base + offset as usize];
        }
        let is_plain = !target.is_shared && !target.may_be_unwritten && (offset as usize) < target.len;
        if !is_plain {
            let lanes: Vec<usize> = self.masks.lanes().collect();
            for lane in lanes {
                self.touch(target, lane, offset, (global, Use::Read));
            }
        }
        self.fill(d, |_| value);
    }

    /// A load from words that were all written and that nobody writes.
    fn load_plain(&mut self, d: Reg, target: Target, (index, offset): (Reg, u64), global: u16) {
        let n = self.num_blocks;
        let Some(buffer) = target.buffer else { return };
        let words = &self.memory.buffers[buffer].words[target.base..target.base + target.len];
        let mut bad = 0;
        for (block, mask) in self.masks.blocks().iter().enumerate() {
            let x = self.regs[index as usize * n + block];
            let out = &mut self.regs[d as usize * n + block];
            for lane in 0..WIDTH {
                match words.get((u64::from(x[lane]) + offset) as usize) {
                    Some(&word) => out[lane] = word,
                    None => {
                        out[lane] = 0;
                        bad |= mask[lane] & u32::from(x[lane] != ASTRAY);
                    }
                }
            }
        }
        if bad != 0 {
            let lanes: Vec<usize> = self.masks.lanes().collect();
            for lane in lanes {
                let place = self.scalar(index, lane);
                if place != ASTRAY {
                    self.touch(target, lane, u64::from(place) + offset, (global, Use::Read));
                }
            }
        }
    }

    pub(super) fn store(&mut self, a: Reg, at: Address, words: Offsets) {
        let target = self.targets[usize::from(at.global)];
        self.count_access(at, words, target);
        for word in 0..words.len {
            let offset = u64::from(at.offset) + u64::from(self.code.offsets[(words.start + word) as usize]);
            for lane in 0..self.num_blocks * WIDTH {
                let Some(place) = self.lane_address(at, lane) else { continue };
                if let Some(found) =
                    self.touch(target, lane, place - u64::from(at.offset) + offset, (at.global, Use::Write))
                {
                    let value = self.scalar(a + word, lane);
                    let buffer = self.buffer_mut(target);
                    buffer.words[found] = value;
                    buffer.written[found] = true;
                }
            }
        }
    }

    /// The word that an active invocation means, from the start of the variable.
    fn lane_address(&self, at: Address, lane: usize) -> Option<u64> {
        if !self.masks.is_on(lane) {
            return None;
        }
        let index = at.index.map_or(0, |index| self.scalar(index, lane));
        (index != ASTRAY).then(|| u64::from(index) + u64::from(at.offset))
    }

    fn buffer(&self, target: Target) -> &Buffer {
        target.buffer.map_or(&self.shared, |buffer| &self.memory.buffers[buffer])
    }

    fn buffer_mut(&mut self, target: Target) -> &mut Buffer {
        match target.buffer {
            Some(buffer) => &mut self.memory.buffers[buffer],
            None => &mut self.shared,
        }
    }

    /// Notes that an invocation uses a word, and gives its place in the buffer if it is there.
    fn touch(&mut self, target: Target, lane: usize, offset: u64, (global, how): (u16, Use)) -> Option<usize> {
        if offset >= target.len as u64 {
            let (name, len) = (&self.code.globals[usize::from(global)].name, target.len);
            let detail = format!("word {offset} of {name}, which has {len}");
            self.report(Kind::OutOfBounds, lane, None, || detail);
            return None;
        }
        let at = target.base + offset as usize;
        let interval = self.interval(&target);
        // A workgroup has at most a few thousand invocations.
        let mark = Mark { stamp: interval.now, pc: self.pc, lane: lane as u32 };
        let buffer = self.buffer_mut(target);
        let is_unwritten = how != Use::Write && !buffer.written[at];
        let clash = if target.is_shared { clash(&mut buffer.cells[at], interval, mark, how) } else { None };
        if is_unwritten {
            let name = &self.code.globals[usize::from(global)].name;
            let detail = format!("word {offset} of {name}");
            self.report(Kind::Unwritten, lane, None, || detail);
        }
        if let Some(other) = clash {
            let same_group = other.stamp >= self.group_start;
            let name = &self.code.globals[usize::from(global)].name;
            let between = if same_group { "within a workgroup" } else { "between workgroups" };
            let detail = format!("word {offset} of {name}, {between}");
            let by = (other.lane != MANY).then_some(other.lane);
            self.report(Kind::Race, lane, Some((other.pc as Pc, by)), || detail);
        }
        Some(at)
    }

    /// An atomic access by each active invocation in turn.
    fn each_atomic(&mut self, at: Address, mut f: impl FnMut(&mut Self, usize, u32) -> Option<u32>) {
        let target = self.targets[usize::from(at.global)];
        for lane in 0..self.num_blocks * WIDTH {
            let Some(offset) = self.lane_address(at, lane) else { continue };
            let Some(found) = self.touch(target, lane, offset, (at.global, Use::Atomic)) else { continue };
            let old = self.buffer(target).words[found];
            if let Some(new) = f(self, lane, old) {
                let buffer = self.buffer_mut(target);
                buffer.words[found] = new;
                buffer.written[found] = true;
            }
        }
    }

    pub(super) fn atomic_load(&mut self, d: Reg, at: Address) {
        self.each_atomic(at, |machine, lane, old| {
            machine.set_scalar(d, lane, old);
            None
        });
    }

    pub(super) fn atomic_store(&mut self, a: Reg, at: Address) {
        self.mark_written(at);
        self.each_atomic(at, |machine, lane, _| Some(machine.scalar(a, lane)));
    }

    /// A store needs no value to have been there.
    fn mark_written(&mut self, at: Address) {
        let target = self.targets[usize::from(at.global)];
        for lane in 0..self.num_blocks * WIDTH {
            if let Some(offset) = self.lane_address(at, lane)
                && offset < target.len as u64
            {
                self.buffer_mut(target).written[target.base + offset as usize] = true;
            }
        }
    }

    pub(super) fn atomic(&mut self, fun: Atomic, d: Option<Reg>, at: Address, a: Reg) {
        self.each_atomic(at, |machine, lane, old| {
            let value = machine.scalar(a, lane);
            let mut is_equal = true;
            let new = match fun {
                Atomic::Add => old.wrapping_add(value),
                Atomic::Sub => old.wrapping_sub(value),
                Atomic::And => old & value,
                Atomic::Or => old | value,
                Atomic::Xor => old ^ value,
                // Signed numbers are the same bits.
                Atomic::MinI => (old as i32).min(value as i32) as u32,
                Atomic::MaxI => (old as i32).max(value as i32) as u32,
                Atomic::MinU => old.min(value),
                Atomic::MaxU => old.max(value),
                Atomic::Exchange => value,
                Atomic::CompareExchange(compare) => {
                    is_equal = old == machine.scalar(compare, lane);
                    if is_equal { value } else { old }
                }
            };
            if let Some(d) = d {
                machine.set_scalar(d, lane, old);
                if matches!(fun, Atomic::CompareExchange(_)) {
                    machine.set_scalar(d + 1, lane, u32::from(is_equal));
                }
            }
            Some(new)
        });
    }

    pub(super) fn uniform_check(&mut self, at: Address) {
        let lanes: Vec<usize> = self.masks.lanes().collect();
        let addresses: Vec<_> = lanes.iter().map(|&lane| self.lane_address(at, lane)).collect();
        if let Some(at) = addresses.iter().position(|address| *address != addresses[0]) {
            self.report(Kind::NonUniform, lanes[at], None, || "workgroupUniformLoad of different words".to_owned());
        }
    }

    fn count_access(&mut self, at: Address, words: Offsets, target: Target) {
        let is_uniform = self.code.globals[usize::from(at.global)].is_uniform;
        if self.counting.is_none() || is_uniform {
            return;
        }
        let addresses: Vec<Option<u64>> =
            (0..self.num_blocks * WIDTH).map(|lane| self.lane_address(at, lane)).collect();
        if let Some(counting) = &mut self.counting {
            counting.access(&addresses, words.len, (target.base as u64, usize::from(at.global)));
        }
    }
}

fn clash(cell: &mut Cell, interval: Interval, mark: Mark, how: Use) -> Option<Mark> {
    match how {
        Use::Read => cell.read(interval, mark),
        Use::Write => cell.write(interval, mark),
        Use::Atomic => cell.atomic(interval, mark),
    }
}
