//! How CPU kernels cut their work up. Pieces are cut by shape alone, never by the number of threads, so results do not
//! depend on the machine's cores.

use super::{Float, chunks, scratch};

pub(crate) use super::isa::simd;

/// Below this many simple operations work is not worth handing over to another thread.
const MIN_PARALLEL_ELEMS: usize = 8 * 1024;

/// Elements of a piece of elementwise work: fits the first-level cache with its operands.
const CHUNK_ELEMS: usize = 8 * 1024;

/// Calls `body(start, piece)` for pieces of `out`, in parallel where it is long enough.
pub fn for_pieces<T: Send>(out: &mut [T], body: impl Fn(usize, &mut [T]) + Send + Sync) {
    for_chunks(out, CHUNK_ELEMS, 1, |index, chunk| body(index * CHUNK_ELEMS, chunk));
}

/// Calls `body(index, chunk)` for chunks of `out` of `chunk_len` elements, in parallel where the work is large enough:
/// `cost` is roughly how many simple operations an element takes.
pub fn for_chunks<T: Send>(out: &mut [T], chunk_len: usize, cost: usize, body: impl Fn(usize, &mut [T]) + Send + Sync) {
    let chunk_len = chunk_len.max(1);
    let vectorized = |index: usize, chunk: &mut [T]| {
        simd(
            #[inline(always)]
            || body(index, chunk),
        )
    };
    if out.len() <= chunk_len || out.len().saturating_mul(cost) < MIN_PARALLEL_ELEMS {
        out.chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| vectorized(index, chunk));
    } else {
        chunks::for_chunks(out, chunk_len, vectorized);
    }
}

/// [`for_chunks`] over two outputs with a chunk length each, cut into as many chunks; `cost` is of an element of the
/// first.
pub fn for_chunk_pairs<T: Send, U: Send>(
    first: (&mut [T], usize),
    second: (&mut [U], usize),
    cost: usize,
    body: impl Fn(usize, &mut [T], &mut [U]) + Send + Sync,
) {
    let vectorized = |index: usize, a: &mut [T], b: &mut [U]| {
        simd(
            #[inline(always)]
            || body(index, a, b),
        )
    };
    if first.0.len() <= first.1 || first.0.len().saturating_mul(cost) < MIN_PARALLEL_ELEMS {
        let chunks = first.0.chunks_mut(first.1).zip(second.0.chunks_mut(second.1));
        chunks.enumerate().for_each(|(index, (a, b))| vectorized(index, a, b));
    } else {
        chunks::for_chunk_pairs(first, second, vectorized);
    }
}

/// Computes `body(index)` for `0..count` in parallel and gives the results in order.
pub fn map<T: Send>(count: usize, body: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    chunks::for_chunks(&mut results, 1, |index, result| {
        result[0] = Some(simd(
            #[inline(always)]
            || body(index),
        ));
    });
    results.into_iter().flatten().collect()
}

/// The sums of `count` rows of partial sums as long as `total`: `body(index, partial)` adds row `index` to zeros, in
/// parallel, and rows are added up in order.
pub fn sum_partials<F: Float>(total: &mut [F], count: usize, body: impl Fn(usize, &mut [F]) + Send + Sync) {
    let vectorized = |index: usize, partial: &mut [F]| {
        simd(
            #[inline(always)]
            || {
                partial.fill(F::ZERO);
                body(index, partial);
            },
        );
    };
    if count <= 1 {
        return if count == 0 { total.fill(F::ZERO) } else { vectorized(0, total) };
    }
    scratch::with(count * total.len(), |partials: &mut [F]| {
        chunks::for_chunks(partials, total.len(), vectorized);
        sum_rows(partials, total);
    });
}

/// `total` = the sum of the rows of `partials`, added in order.
pub fn sum_rows<F: Float>(partials: &[F], total: &mut [F]) {
    let (len, rows) = (total.len(), partials.len() / total.len().max(1));
    for_chunks(total, CHUNK_ELEMS, rows, |index, total| {
        let first = index * CHUNK_ELEMS;
        total.copy_from_slice(&partials[first..first + total.len()]);
        for row in partials.chunks_exact(len).skip(1) {
            total.iter_mut().zip(&row[first..]).for_each(|(total, &partial)| *total += partial);
        }
    });
}

/// Partial sums that [`sum`] keeps side by side: as many as the widest vector unit has lanes for f32.
pub const LANES: usize = 16;

/// A row in blocks of [`LANES`], the last one filled up with `fill`: short rows, such as those of ten classes, take as
/// long as one vector then.
#[inline(always)]
pub fn for_blocks<F: Float>(row: &[F], fill: F, mut body: impl FnMut([F; LANES])) {
    let (blocks, rest) = row.as_chunks::<LANES>();
    blocks.iter().for_each(|block| body(*block));
    if !rest.is_empty() {
        body(padded(rest, fill));
    }
}

/// Fewer elements than a block, filled up.
#[inline(always)]
pub fn padded<F: Float>(rest: &[F], fill: F) -> [F; LANES] {
    let mut block = [fill; LANES];
    block.iter_mut().zip(rest).for_each(|(to, &from)| *to = from);
    block
}

/// `to = value(from)`, element by element; `value` is also called with zeros.
#[inline(always)]
pub fn map_row<F: Float>(from: &[F], to: &mut [F], value: impl Fn(F) -> F) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<LANES>(), to.as_chunks_mut::<LANES>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = map_block(*from, &value);
    }
    if !to_rest.is_empty() {
        let block = map_block(padded(from_rest, F::ZERO), &value);
        to_rest.copy_from_slice(&block[..to_rest.len()]);
    }
}

/// As the array's own `map`, but a plain loop, which becomes vector instructions.
#[inline(always)]
fn map_block<F: Float>(mut block: [F; LANES], value: &impl Fn(F) -> F) -> [F; LANES] {
    block.iter_mut().for_each(|x| *x = value(*x));
    block
}

/// The largest element that is a number; −∞ of none.
#[inline(always)]
pub fn max_of<F: Float>(row: &[F]) -> F {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut lanes = padded(rest, -F::INFINITY);
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(max, &x)| *max = larger(x, *max));
    }
    largest_lane(lanes)
}

/// The largest of lanes, of which none is not a number.
#[inline(always)]
pub fn largest_lane<F: Float>(lanes: [F; LANES]) -> F {
    reduce_lanes(lanes, larger)
}

/// The second where the first is not a number.
#[inline(always)]
fn larger<F: Float>(a: F, b: F) -> F {
    if a > b { a } else { b }
}

/// The sum of lanes, in pairs: a sum of one after the other would wait for each addition.
#[inline(always)]
pub fn sum_lanes<F: Float>(lanes: [F; LANES]) -> F {
    reduce_lanes(lanes, |a, b| a + b)
}

/// Combines lanes in pairs. Written out: over a list of lengths the compiler makes scalar code with a branch for each lane.
#[inline(always)]
fn reduce_lanes<F: Float>(lanes: [F; LANES], combine: impl Fn(F, F) -> F) -> F {
    let mut eight = [F::ZERO; 8];
    for i in 0..8 {
        eight[i] = combine(lanes[i], lanes[i + 8]);
    }
    let mut four = [F::ZERO; 4];
    for i in 0..4 {
        four[i] = combine(eight[i], eight[i + 4]);
    }
    combine(combine(four[0], four[2]), combine(four[1], four[3]))
}

/// The sum of `term` of what lies at each place of N rows of one length, in a fixed order: [`LANES`] partial sums side by
/// side, then those in turn. Blocks of the rows are copied first: a loop that checks each index would have no vectors.
#[inline(always)]
pub fn sum<F: Float, const N: usize>(rows: [&[F]; N], term: impl Fn([F; N]) -> F) -> F {
    let (len, mut lanes) = (rows[0].len(), [F::ZERO; LANES]);
    let mut blocks = [[F::ZERO; LANES]; N];
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        for (block, row) in blocks.iter_mut().zip(rows) {
            block.copy_from_slice(&row[start..start + LANES]);
        }
        for (lane, partial) in lanes.iter_mut().enumerate() {
            *partial += term(column(&blocks, lane));
        }
    }
    for index in whole..len {
        lanes[index - whole] += term(column(&rows, index));
    }
    lanes.into_iter().sum()
}

/// What lies at one place of all rows.
#[inline(always)]
fn column<F: Float, R: AsRef<[F]>, const N: usize>(rows: &[R; N], index: usize) -> [F; N] {
    let mut column = [F::ZERO; N];
    column.iter_mut().zip(rows).for_each(|(x, row)| *x = row.as_ref()[index]);
    column
}

/// [`sum`] of `term(i)` over `0..count`, for what does not lie in rows.
#[inline(always)]
pub fn sum_by_index<F: Float>(count: usize, term: impl Fn(usize) -> F) -> F {
    let mut lanes = [F::ZERO; LANES];
    (0..count).for_each(|index| lanes[index % LANES] += term(index));
    lanes.into_iter().sum()
}
