//! Working memory of CPU kernels (packed weights, padded images, patches): each thread keeps what it was lent, so that
//! after the first step nothing is allocated.

use std::cell::RefCell;

use bytemuck::{Pod, Zeroable};

/// A cache line, so that vectors never straddle two without need.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u64; 8]);

impl Line {
    pub const ZERO: Line = Line([0; 8]);
}

/// Zeros: enough lines for so many bytes; `None` where there is no memory for them.
pub(crate) fn lines(num_bytes: usize) -> Option<Vec<Line>> {
    let num_lines = num_bytes.div_ceil(size_of::<Line>());
    let mut lines = Vec::new();
    lines.try_reserve_exact(num_lines).ok()?;
    lines.resize(num_lines, Line::ZERO);
    Some(lines)
}

thread_local! {
    /// Memory that no kernel on this thread is using.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with `len` elements of memory, whose contents are what the last user left there. To be called around a
/// kernel and not in one: a closure is not compiled for the kernel's instruction set unless it is inlined.
#[inline]
pub(crate) fn with<T: Pod, R>(len: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    let mut lines = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    let num_lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    if lines.len() < num_lines {
        lines.resize(num_lines, Line::ZERO);
    }
    let result = body(&mut bytemuck::cast_slice_mut(&mut lines)[..len]);
    FREE.with_borrow_mut(|free| free.push(lines));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_distinct_and_comes_back() {
        let start = |slice: &[f32]| slice.as_ptr() as usize;
        let first = with(100, |outer: &mut [f32]| {
            outer.fill(1.0);
            with(7, |inner: &mut [f64]| {
                inner.fill(2.0);
                assert_eq!((outer.len(), inner.len(), inner.as_ptr() as usize % 64), (100, 7, 0));
            });
            assert!(outer.iter().all(|&x| x == 1.0) && start(outer).is_multiple_of(64));
            start(outer)
        });
        assert_eq!(with(100, |again: &mut [f32]| start(again)), first, "the same memory is lent again");
    }
}
