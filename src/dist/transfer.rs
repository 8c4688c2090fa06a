//! Messages that move while a rank computes.

use std::ops::Range;

/// Messages between this rank and others under one tag, and the memory that they are sent from and arrive in. Between two
/// ranks those of one tag arrive in the order in which they were sent, so every rank starts its transfers of a tag in the
/// same order, and lists the messages that another sends it in that one's order.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    /// Tells transfers apart that are on their way at a time.
    pub tag: u16,
    /// Where the messages lie.
    pub memory: Bytes,
    /// The rank that each message goes to, and its bytes in `memory`.
    pub to: Vec<(usize, Range<usize>)>,
    /// The rank that each message comes from, and where it goes in `memory`: apart from each other and from what is sent.
    pub from: Vec<(usize, Range<usize>)>,
}

/// Bytes at an address that suits numbers of up to eight bytes.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    words: Vec<u64>,
    len: usize,
}

impl Bytes {
    /// No bytes, in the same memory as before.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes it this long; what is added is whatever was there before, or 0.
    pub fn resize(&mut self, len: usize) {
        let num_words = len.div_ceil(size_of::<u64>());
        if self.words.len() < num_words {
            self.words.resize(num_words, 0);
        }
        self.len = len;
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let start = self.len;
        self.resize(start + bytes.len());
        self[start..].copy_from_slice(bytes);
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl std::ops::DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}
