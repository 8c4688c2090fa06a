//! Memory of a program that is lent: states that lie together, from which messages are sent and into which they arrive,
//! with no copy in between. The program leaves them alone meanwhile, and checks that before it touches a state.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory of states that can be lent, to one at a time.
pub(crate) struct Lendable {
    start: *mut u8,
    len: usize,
    is_lent: AtomicBool,
    /// Owns what `start` points to.
    _owner: Arc<dyn Any + Send + Sync>,
}

#[expect(unsafe_code, reason = "memory is lent by address")]
// SAFETY: the address is followed by the one `Lent` there is at a time.
unsafe impl Send for Lendable {}
#[expect(unsafe_code, reason = "memory is lent by address")]
// SAFETY: as above.
unsafe impl Sync for Lendable {}

/// What the borrower may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Bytes in the memory of a program, which leaves them alone until this is dropped.
pub struct Lent {
    of: Arc<Lendable>,
    access: Access,
}

impl Lendable {
    /// The `len` bytes from `start` on.
    ///
    /// # Safety
    /// They are initialized, and lie in memory that `owner` keeps where it is. Whoever else uses them asks
    /// [`Lendable::is_lent`] before, and does not write to them while they are lent, nor read them while they are lent for
    /// writing.
    #[expect(unsafe_code, reason = "memory is lent by address")]
    pub unsafe fn new(start: *mut u8, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Arc<Lendable> {
        Arc::new(Lendable { start, len, is_lent: AtomicBool::new(false), _owner: owner })
    }

    pub fn is_lent(&self) -> bool {
        self.is_lent.load(Ordering::Acquire)
    }

    /// Lends it.
    ///
    /// # Panics
    /// If it is lent already.
    pub fn lend(self: &Arc<Self>, access: Access) -> Lent {
        assert!(!self.is_lent.swap(true, Ordering::AcqRel), "memory is lent to one at a time");
        Lent { of: Arc::clone(self), access }
    }
}

#[cfg(feature = "mpi")]
impl Lent {
    /// The address of the first byte, for those who read and write by address.
    pub(crate) fn start(&self) -> *mut u8 {
        self.of.start
    }

    /// Whether it was lent for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.access == Access::Write
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.of.is_lent.store(false, Ordering::Release);
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        #[expect(unsafe_code, reason = "memory is lent by address")]
        // SAFETY: by the contract of `Lendable::new`; there is no other `Lent` of it.
        unsafe {
            std::slice::from_raw_parts(self.of.start, self.of.len)
        }
    }
}

impl DerefMut for Lent {
    /// # Panics
    /// If it was lent for reading.
    fn deref_mut(&mut self) -> &mut [u8] {
        assert_eq!(self.access, Access::Write, "what is lent for reading is not written");
        #[expect(unsafe_code, reason = "memory is lent by address")]
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(self.of.start, self.of.len)
        }
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes lent: {:?}", self.of.len, self.access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "memory is lent by address")]
    fn lendable() -> Arc<Lendable> {
        let mut memory = vec![0_u8; 10];
        let start = memory.as_mut_ptr();
        // SAFETY: nothing else uses the memory, which the owner keeps on the heap.
        unsafe { Lendable::new(start, memory.len(), Arc::new(memory)) }
    }

    #[test]
    fn what_one_borrower_writes_the_next_one_reads() {
        let memory = lendable();
        let mut lent = memory.lend(Access::Write);
        lent[3] = 7;
        assert!(memory.is_lent());
        drop(lent);
        assert!(!memory.is_lent());
        assert_eq!(*memory.lend(Access::Read), [0, 0, 0, 7, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "lent to one at a time")]
    fn nothing_is_lent_twice() {
        let memory = lendable();
        let _first = memory.lend(Access::Read);
        memory.lend(Access::Read);
    }

    #[test]
    #[should_panic(expected = "not written")]
    fn what_is_lent_for_reading_is_not_written() {
        lendable().lend(Access::Read)[0] = 1;
    }
}
