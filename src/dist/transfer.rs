//! Messages that move while a rank computes.

use std::ops::{Deref, DerefMut, Range};

use crate::exec::Lent;

/// Messages between this rank and others under one tag, and the memory that they are sent from and arrive in. Between two
/// ranks those of one tag arrive in the order in which they were sent, so every rank starts its transfers of a tag in the
/// same order, and lists the messages that another sends it in that one's order.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Tells transfers apart that are on their way at a time.
    pub tag: u16,
    /// Where the messages lie.
    pub memory: Vec<Region>,
    /// The messages that go to other ranks.
    pub to: Vec<Message>,
    /// Those that come from other ranks: apart from each other and from what is sent.
    pub from: Vec<Message>,
}

/// A message of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The rank that it goes to or comes from.
    pub rank: usize,
    /// Which memory of the transfer it lies in.
    pub region: usize,
    /// Its bytes there.
    pub bytes: Range<usize>,
}

/// Memory of a transfer, which goes with it and comes back.
#[derive(Debug)]
pub enum Region {
    /// Of its own.
    Own(Bytes),
    /// That of a program.
    Lent(Lent),
}

impl Region {
    /// The address of the first byte, which stays where it is.
    #[cfg(feature = "mpi")]
    pub(super) fn start(&mut self) -> *mut u8 {
        match self {
            Region::Own(bytes) => bytes.as_mut_ptr(),
            Region::Lent(lent) => lent.start(),
        }
    }

    /// Whether messages may arrive in it.
    #[cfg(feature = "mpi")]
    pub(super) fn is_writable(&self) -> bool {
        match self {
            Region::Own(_) => true,
            Region::Lent(lent) => lent.is_writable(),
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Region::Own(bytes) => bytes,
            Region::Lent(lent) => lent,
        }
    }
}

impl DerefMut for Region {
    /// # Panics
    /// If it was lent for reading.
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Region::Own(bytes) => bytes,
            Region::Lent(lent) => lent,
        }
    }
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

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}
