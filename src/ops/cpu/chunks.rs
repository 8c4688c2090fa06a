//! Slices that threads write to, each its own chunks.

use super::threads::run;

/// Calls `body(index, chunk)` for every chunk of `out` of `chunk_len` elements, the last one maybe shorter.
pub(crate) fn for_chunks<T: Send>(out: &mut [T], chunk_len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let chunks = Chunks::new(out, chunk_len);
    run(chunks.count(), |index| body(index, chunks.get(index)));
}

/// [`for_chunks`] over two slices that are cut into as many chunks.
pub(crate) fn for_chunk_pairs<T: Send, U: Send>(
    (first, first_len): (&mut [T], usize),
    (second, second_len): (&mut [U], usize),
    body: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let (first, second) = (Chunks::new(first, first_len), Chunks::new(second, second_len));
    assert_eq!(first.count(), second.count(), "both slices have as many chunks");
    run(first.count(), |index| body(index, first.get(index), second.get(index)));
}

/// A slice that is handed out chunk by chunk. Private, since only the functions above see to it that no
/// chunk is handed out twice.
struct Chunks<'a, T> {
    start: *mut T,
    len: usize,
    chunk_len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

#[expect(unsafe_code, reason = "threads write to different chunks of one slice")]
// SAFETY: a `Chunks` stands for a `&mut [T]` that is cut up, and those may be sent where T may be.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    fn new(slice: &'a mut [T], chunk_len: usize) -> Self {
        let lifetime = std::marker::PhantomData;
        Chunks { start: slice.as_mut_ptr(), len: slice.len(), chunk_len: chunk_len.max(1), lifetime }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk_len)
    }

    #[expect(unsafe_code, reason = "threads write to different chunks of one slice")]
    fn get(&self, index: usize) -> &'a mut [T] {
        let first = index * self.chunk_len;
        assert!(first < self.len, "chunk {index} of {}", self.count());
        // SAFETY: the chunk lies within the slice by the assertion and the minimum, chunks of different indices do not
        // overlap, and `run` calls a task once for each index, so that no chunk is handed out twice.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), self.chunk_len.min(self.len - first)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::threads::Threads;

    #[test]
    fn chunks_are_disjoint_and_whole() {
        let (mut values, mut marks) = (vec![0usize; 1003], vec![0u8; 101]);
        Threads::new(4).install(|| {
            for_chunk_pairs((&mut values, 10), (&mut marks, 1), |index, chunk, mark| {
                chunk.iter_mut().enumerate().for_each(|(i, value)| *value += index * 10 + i);
                mark[0] += 1;
            });
        });
        assert!(values.iter().enumerate().all(|(i, &value)| value == i));
        assert!(marks.iter().all(|&mark| mark == 1));
    }
}
