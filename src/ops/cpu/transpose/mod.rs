//! Transposes between channels that lie across a vector's lanes and pixels that lie side by side in memory.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use pulp::Simd;

use crate::ops::cpu::unroll::unroll;

/// Gives what a function of `avx512` or `avx2` gives where the vectors are those; the compiler makes plain loops of it for
/// the others, which take several times as long on x86.
macro_rules! shuffled {
    ($simd:expr, $function:ident($($operand:expr),*)) => {
        #[cfg(target_arch = "x86_64")]
        {
            let simd = &$simd as &dyn std::any::Any;
            if let Some(&simd) = simd.downcast_ref::<pulp::x86::V4>() {
                return avx512::$function(simd, $($operand),*);
            }
            if let Some(&simd) = simd.downcast_ref::<pulp::x86::V3>() {
                return avx2::$function(simd, $($operand),*);
            }
        }
    };
}

/// Rows and columns of a tile.
pub(crate) const TILE: usize = 16;

/// The transpose of a tile.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn transpose_tile<S: Simd>(simd: S, tile: &mut [[f32; TILE]; TILE]) {
    shuffled!(simd, transpose(tile));
    #[expect(clippy::needless_range_loop, reason = "both indices are a row and a column")]
    for i in 0..TILE {
        for j in 0..i {
            (tile[i][j], tile[j][i]) = (tile[j][i], tile[i][j]);
        }
    }
}

/// Rows of a tile of few channels.
pub(crate) const FEW: usize = TILE / 2;

/// The transpose of a tile of few columns.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn few_to_first<S: Simd>(simd: S, pixels: &[[f32; FEW]; TILE]) -> [[f32; TILE]; FEW] {
    shuffled!(simd, few_to_first(pixels));
    std::array::from_fn(|channel| std::array::from_fn(|pixel| pixels[pixel][channel]))
}

/// The transpose of a tile of few rows.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn few_to_last<S: Simd>(simd: S, rows: &[[f32; TILE]; FEW]) -> [[f32; FEW]; TILE] {
    shuffled!(simd, few_to_last(rows));
    std::array::from_fn(|pixel| std::array::from_fn(|channel| rows[channel][pixel]))
}

/// The transpose of half a tile of few rows.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn transpose_few<S: Simd>(simd: S, rows: &[[f32; FEW]; FEW]) -> [[f32; FEW]; FEW] {
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V3>() {
        return avx2::transpose_few(simd, rows);
    }
    std::array::from_fn(|j| std::array::from_fn(|i| rows[i][j]))
}

/// Elements that [`every_second`] takes its own from.
pub(crate) const PAIRS: usize = 2 * TILE;

/// Calls `store(first, …)` for each `first` in `0..count` with the elements `first`, `first` + 2 and so on, of which those
/// beyond the row are of no meaning.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn every_second<S: Simd>(
    simd: S,
    row: &[f32; PAIRS],
    count: usize,
    mut store: impl FnMut(usize, &[f32; TILE]),
) {
    shuffled!(simd, every_second(row, count, store));
    for first in 0..count {
        let mut elems = [0.0; TILE];
        for (to, from) in elems.iter_mut().zip(row[first..].iter().step_by(2)) {
            *to = *from;
        }
        store(first, &elems);
    }
}

/// [`every_second`] with four elements of each of four rows.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn every_second_of_four<S: Simd>(
    simd: S,
    rows: [&[f32; TILE]; 4],
    count: usize,
    mut store: impl FnMut(usize, &[f32; TILE]),
) {
    shuffled!(simd, every_second_of_four(rows, count, store));
    for first in 0..count {
        let mut elems = [0.0; TILE];
        for (to, row) in elems.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            to.iter_mut().zip(row[first..].iter().step_by(2)).for_each(|(to, from)| *to = *from);
        }
        store(first, &elems);
    }
}

/// Stores elements of two vectors in turn.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
pub(crate) fn store_in_turn<S: Simd>(simd: S, [even, odd]: [S::f32s; 2], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        let (set, even, odd) = (&simd as &dyn std::any::Any, &even as &dyn std::any::Any, &odd as &dyn std::any::Any);
        if let (Some(&simd), Some(&even), Some(&odd)) =
            (set.downcast_ref::<pulp::x86::V4>(), even.downcast_ref(), odd.downcast_ref())
        {
            let both: [f32; 2 * TILE] = pulp::cast(avx512::in_turn(
                simd,
                pulp::cast::<pulp::f32x16, _>(even),
                pulp::cast::<pulp::f32x16, _>(odd),
            ));
            to[..2 * TILE].copy_from_slice(&both);
            return;
        }
        if let (Some(&simd), Some(&even), Some(&odd)) =
            (set.downcast_ref::<pulp::x86::V3>(), even.downcast_ref(), odd.downcast_ref())
        {
            let both: [f32; 2 * FEW] =
                pulp::cast(avx2::in_turn(simd, pulp::cast::<pulp::f32x8, _>(even), pulp::cast::<pulp::f32x8, _>(odd)));
            to[..2 * FEW].copy_from_slice(&both);
            return;
        }
    }
    let [even, odd]: [&[f32]; 2] =
        [bytemuck::cast_slice(std::slice::from_ref(&even)), bytemuck::cast_slice(std::slice::from_ref(&odd))];
    for (to, (&even, &odd)) in to.as_chunks_mut().0.iter_mut().zip(even.iter().zip(odd)) {
        *to = [even, odd];
    }
}

/// (rows, k) with a stride as (k, lanes); lanes beyond the rows are 0.
#[inline(always)]
pub(crate) fn turn<S: Simd>(simd: S, [rows, k]: [usize; 2], (from, stride): (&[f32], usize), to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while lanes == TILE && first + TILE <= k {
        let mut tile = [[0.0; TILE]; TILE];
        for (row, tile) in tile[..rows].iter_mut().enumerate() {
            tile.copy_from_slice(&from[row * stride + first..][..TILE]);
        }
        transpose_tile(simd, &mut tile);
        to[first * TILE..][..TILE * TILE].copy_from_slice(tile.as_flattened());
        first += TILE;
    }
    while lanes == FEW && FEW <= k && first < k {
        // The last tile is moved back to end with the rows.
        let at = first.min(k - FEW);
        let mut tile = [[0.0; FEW]; FEW];
        if rows == FEW {
            unroll!(row in 0..8, up to 8 => { tile[row].copy_from_slice(&from[row * stride + at..][..FEW]); });
        } else {
            for (row, tile) in tile[..rows].iter_mut().enumerate() {
                tile.copy_from_slice(&from[row * stride + at..][..FEW]);
            }
        }
        let tile = transpose_few(simd, &tile);
        to[at * FEW..][..FEW * FEW].copy_from_slice(tile.as_flattened());
        first += FEW;
    }
    for at in first..k {
        let to = &mut to[at * lanes..(at + 1) * lanes];
        to[rows..].fill(0.0);
        for (row, to) in to[..rows].iter_mut().enumerate() {
            *to = from[row * stride + at];
        }
    }
}

/// `planes` (C, pixels) as (pixels, lanes), channels beyond C being 0: `to` holds `lanes` values for each pixel.
#[inline(always)]
pub(crate) fn channels_last<S: Simd>(simd: S, planes: &[f32], pixels: usize, to: &mut [f32]) {
    turn(simd, [planes.len() / pixels, pixels], (planes, pixels), to);
}

/// (pixels, lanes) as rows (C, pixels) with a stride, of as many channels as there are: what [`turn`] turned.
#[inline(always)]
pub(crate) fn channels_first<S: Simd>(
    simd: S,
    [channels, pixels]: [usize; 2],
    from: &[f32],
    (to, stride): (&mut [f32], usize),
) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while lanes == TILE && first + TILE <= pixels {
        let mut tile = [[0.0; TILE]; TILE];
        tile.as_flattened_mut().copy_from_slice(&from[first * TILE..][..TILE * TILE]);
        transpose_tile(simd, &mut tile);
        for (channel, row) in tile[..channels].iter().enumerate() {
            to[channel * stride + first..][..TILE].copy_from_slice(row);
        }
        first += TILE;
    }
    while lanes == FEW && FEW <= pixels && first < pixels {
        // As above.
        let at = first.min(pixels - FEW);
        let mut tile = [[0.0; FEW]; FEW];
        tile.as_flattened_mut().copy_from_slice(&from[at * FEW..][..FEW * FEW]);
        let tile = transpose_few(simd, &tile);
        for (channel, row) in tile[..channels].iter().enumerate() {
            to[channel * stride + at..][..FEW].copy_from_slice(row);
        }
        first += FEW;
    }
    for channel in 0..if first < pixels { channels } else { 0 } {
        let to = &mut to[channel * stride..][..pixels];
        for (to, from) in to[first..].iter_mut().zip(from[first * lanes..].chunks_exact(lanes)) {
            *to = from[channel];
        }
    }
}
