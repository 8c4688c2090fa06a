//! Threads and vector units for CPU kernels. Work is cut into pieces by its shape alone, never by the number of
//! threads, so results do not depend on the machine's cores.

use rayon::prelude::*;

use super::Float;

/// Below this many elements a piece of work is not worth waking a thread for: a rayon hand-over costs about as long
/// as some ten thousand simple operations.
const MIN_PARALLEL_ELEMS: usize = 16 * 1024;

/// Elements of a piece of elementwise work: fits the first-level cache with its operands.
const CHUNK_ELEMS: usize = 8 * 1024;

/// Runs `body` compiled for the widest vector unit that the processor has.
#[inline(always)]
pub fn simd<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Calls `body(start, piece)` for pieces of `out`, in parallel where it is long enough.
pub fn for_pieces<T: Send>(out: &mut [T], body: impl Fn(usize, &mut [T]) + Send + Sync) {
    for_chunks(out, CHUNK_ELEMS, 1, |index, chunk| body(index * CHUNK_ELEMS, chunk));
}

/// Calls `body(index, chunk)` for chunks of `out` of `chunk_len` elements, in parallel where the work is large enough:
/// `cost` is roughly how many simple operations an element takes.
pub fn for_chunks<T: Send>(out: &mut [T], chunk_len: usize, cost: usize, body: impl Fn(usize, &mut [T]) + Send + Sync) {
    let chunk_len = chunk_len.max(1);
    if out.len() <= chunk_len || out.len().saturating_mul(cost) < MIN_PARALLEL_ELEMS {
        for (index, chunk) in out.chunks_mut(chunk_len).enumerate() {
            simd(|| body(index, chunk));
        }
    } else {
        out.par_chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| simd(|| body(index, chunk)));
    }
}

/// Computes `body(index)` for `0..count` in parallel and gives the results in order.
pub fn map<T: Send>(count: usize, body: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    (0..count).into_par_iter().map(|index| simd(|| body(index))).collect()
}

/// Partial sums that [`sum`] keeps side by side: as many as the widest vector unit has lanes for f32.
const LANES: usize = 16;

/// The sum of `term(i)` over `0..count` in a fixed order: `LANES` partial sums side by side, then those in turn.
#[inline(always)]
pub fn sum<F: Float>(count: usize, term: impl Fn(usize) -> F) -> F {
    let mut lanes = [F::ZERO; LANES];
    let whole = count - count % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, partial) in lanes.iter_mut().enumerate() {
            *partial += term(start + lane);
        }
    }
    for index in whole..count {
        lanes[index - whole] += term(index);
    }
    lanes.into_iter().sum()
}
