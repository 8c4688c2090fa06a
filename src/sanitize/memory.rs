//! Memory with a shadow: beside each word, whether it was written and who used it last.

/// A buffer of a [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub(super) usize);

/// The buffers that kernels run on. Words are 32 bits; a byte buffer holds four bytes a word, low byte first.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) buffers: Vec<Buffer>,
    /// Grows with every barrier of every workgroup of every dispatch, so that shadows of earlier ones tell themselves.
    pub(super) stamp: u32,
}

#[derive(Debug)]
pub(super) struct Buffer {
    pub words: Vec<u32>,
    pub written: Vec<bool>,
    /// One for each word, made when a kernel first may write to the buffer.
    pub cells: Vec<Cell>,
}

impl Memory {
    /// No buffers.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// A buffer of words that the host has written.
    pub fn buffer(&mut self, words: Vec<u32>) -> BufferId {
        let written = vec![true; words.len()];
        self.buffers.push(Buffer { words, written, cells: Vec::new() });
        BufferId(self.buffers.len() - 1)
    }

    /// A buffer of floats that the host has written.
    pub fn floats(&mut self, values: &[f32]) -> BufferId {
        self.buffer(values.iter().map(|value| value.to_bits()).collect())
    }

    /// A buffer of `num_words` words that nobody has written; they hold NaNs, should a kernel read them all the same.
    pub fn uninitialized(&mut self, num_words: usize) -> BufferId {
        let id = self.buffer(vec![u32::MAX; num_words]);
        self.forget(id, 0..num_words);
        id
    }

    /// Makes words count as not written.
    pub fn forget(&mut self, id: BufferId, range: std::ops::Range<usize>) {
        let buffer = &mut self.buffers[id.0];
        buffer.words[range.clone()].fill(u32::MAX);
        buffer.written[range].fill(false);
    }

    /// Writes words as the host.
    pub fn write(&mut self, id: BufferId, offset: usize, words: &[u32]) {
        let buffer = &mut self.buffers[id.0];
        buffer.words[offset..offset + words.len()].copy_from_slice(words);
        buffer.written[offset..offset + words.len()].fill(true);
    }

    /// The words of a buffer.
    pub fn words(&self, id: BufferId) -> &[u32] {
        &self.buffers[id.0].words
    }

    /// For each word of a buffer, whether the host or a kernel has written it.
    pub fn written(&self, id: BufferId) -> &[bool] {
        &self.buffers[id.0].written
    }
}

/// An access as a shadow remembers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The interval between two barriers it was in; 0 for none.
    pub stamp: u32,
    pub pc: u32,
    pub lane: u32,
}

/// A lane number for several.
pub(super) const MANY: u32 = u32::MAX;

/// Who used a word last, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    write: Mark,
    read: Mark,
    /// A read by an earlier workgroup of the dispatch.
    read_before: Mark,
    atomic: Mark,
}

/// Which intervals an access has to be held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    /// The first of the dispatch: earlier ones are over.
    pub dispatch: u32,
    /// The first of the workgroup: those between are of other workgroups, which nothing orders.
    pub group: u32,
    /// The one under way.
    pub now: u32,
}

impl Interval {
    /// Whether an earlier access may happen at the same time as one by `lane` now.
    fn clashes(&self, mark: Mark, lane: u32) -> bool {
        let is_other_group = mark.stamp >= self.dispatch && mark.stamp < self.group;
        is_other_group || (mark.stamp >= self.now && mark.lane != lane)
    }
}

impl Cell {
    /// Notes a read; gives a conflicting access.
    pub fn read(&mut self, interval: Interval, mark: Mark) -> Option<Mark> {
        if self.read.stamp >= interval.dispatch && self.read.stamp < interval.group {
            self.read_before = self.read;
        }
        self.read = match self.read.stamp == mark.stamp && self.read.lane != mark.lane {
            true => Mark { lane: MANY, ..self.read },
            false => mark,
        };
        [self.write, self.atomic].into_iter().find(|&other| interval.clashes(other, mark.lane))
    }

    /// Notes a write; gives a conflicting access.
    pub fn write(&mut self, interval: Interval, mark: Mark) -> Option<Mark> {
        let others = [self.write, self.read, self.read_before, self.atomic];
        self.write = mark;
        others.into_iter().find(|&other| interval.clashes(other, mark.lane))
    }

    /// Notes an atomic access, which conflicts with all but atomic ones.
    pub fn atomic(&mut self, interval: Interval, mark: Mark) -> Option<Mark> {
        let others = [self.write, self.read, self.read_before];
        self.atomic = match self.atomic.stamp == mark.stamp && self.atomic.lane != mark.lane {
            true => Mark { lane: MANY, ..mark },
            false => mark,
        };
        others.into_iter().find(|&other| interval.clashes(other, mark.lane))
    }
}
