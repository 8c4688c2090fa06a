//! The gradients that are not 0, gathered from those of a channel: a loop over them alone has no branch that depends on
//! the data, and it is as long as a few images make it.

use pulp::{Simd, WithSimd};

use super::Pooled;
use crate::ops::cpu::conv::rows::layout::Rows;
use crate::ops::cpu::isa;
use crate::ops::cpu::parallel::LANES;

/// Room for gradients that are not 0 and for where their windows begin.
pub(super) struct Live<'a> {
    pub grads: &'a mut [f32],
    pub places: &'a mut [u32],
}

impl Live<'_> {
    /// Elements of each slice that `count` gradients need, which is more than are listed: whole vectors are written, and
    /// the list is filled up.
    pub const fn elems(count: usize) -> usize {
        count + 2 * LANES
    }

    /// Lists the gradients of a channel in images side by side, each `image_elems` after the one before; gives their
    /// number, filled up with gradients of 0 to a multiple of `step`.
    pub fn list(&mut self, pooled: &Pooled<'_>, rows: &Rows, channel: usize, step: usize) -> usize {
        let len = isa::dispatch(List { live: self, pooled, rows, channel });
        let filled = len.next_multiple_of(step);
        self.grads[len..filled].fill(0.0);
        self.places[len..filled].fill(0);
        filled
    }
}

struct List<'l, 'a, 'p> {
    live: &'l mut Live<'a>,
    pooled: &'p Pooled<'p>,
    rows: &'p Rows,
    channel: usize,
}

impl WithSimd for List<'_, '_, '_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let List { live, pooled, rows, channel } = self;
        let (windows, channels) = (pooled.windows(), rows.layer.out_channels);
        let (places, image_elems) = (Places::new(rows), rows.image_elems() as u32);
        let (mut len, mut first) = (0, 0);
        for image in 0..pooled.grad.len() / (channels * windows) {
            let start = (image * channels + channel) * windows;
            let (grad, indices) = (&pooled.grad[start..][..windows], &pooled.indices[start..][..windows]);
            let ((grads, grads_rest), (cells, cells_rest)) = (grad.as_chunks(), indices.as_chunks());
            for (grads, cells) in grads.iter().zip(cells) {
                len += append(simd, grads, &places.of(cells, first), live, len);
            }
            if !grads_rest.is_empty() {
                let (mut grads, mut cells) = ([0.0; LANES], [0; LANES]);
                grads[..grads_rest.len()].copy_from_slice(grads_rest);
                cells[..cells_rest.len()].copy_from_slice(cells_rest);
                len += append(simd, &grads, &places.of(&cells, first), live, len);
            }
            first += image_elems;
        }
        len
    }
}

/// Where the windows of cells of the output plane begin in an image with its channels last.
struct Places {
    /// One over the cells of a row.
    inverse: f32,
    channels: u32,
    /// From the end of a row of cells to the next one's start, in the image.
    skip: u32,
}

/// The most cells of a plane whose rows are found by multiplication: rounding changes a place by less than half a cell.
pub(crate) const MOST_CELLS_OF_PLANE: usize = 1 << 20;

impl Places {
    fn new(rows: &Rows) -> Places {
        let (width, channels) = (rows.layer.output[1], rows.layer.in_channels);
        let skip = rows.row_elems - width * channels;
        Places { inverse: 1.0 / width as f32, channels: channels as u32, skip: skip as u32 }
    }

    #[inline(always)]
    fn of(&self, cells: &[u32; LANES], first: u32) -> [u32; LANES] {
        /// Added to a number between −2²² and 2²², it leaves the nearest integer in the low bits.
        const SHIFT: f32 = (3 << 22) as f32;
        let mut places = [0; LANES];
        for (place, &cell) in places.iter_mut().zip(cells) {
            let row = ((cell as i32 as f32 + 0.5) * self.inverse - 0.5 + SHIFT).to_bits() - SHIFT.to_bits();
            *place = first + cell * self.channels + row * self.skip;
        }
        places
    }
}

#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "the instruction set only matters there"))]
/// Appends what belongs to gradients other than 0 after `len` of them; gives how many they are.
#[inline(always)]
fn append<S: Simd>(simd: S, grads: &[f32; LANES], places: &[u32; LANES], live: &mut Live<'_>, len: usize) -> usize {
    let to_grads = live.grads[len..].first_chunk_mut::<LANES>().expect("there is room for a vector");
    let to_places = live.places[len..].first_chunk_mut::<LANES>().expect("there is room for a vector");
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
        let (avx, from) = (simd.avx512f, pulp::cast(*grads));
        let mask = avx._mm512_cmpneq_ps_mask(from, avx._mm512_setzero_ps());
        *to_grads = pulp::cast(avx._mm512_maskz_compress_ps(mask, from));
        *to_places = pulp::cast(avx._mm512_maskz_compress_epi32(mask, pulp::cast(*places)));
        return mask.count_ones() as usize;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V3>() {
        let (from, places): ([[f32; 8]; 2], [[u32; 8]; 2]) = (pulp::cast(*grads), pulp::cast(*places));
        let mut count = 0;
        for (from, places) in from.into_iter().zip(places) {
            let zero = simd.avx._mm256_setzero_ps();
            let is_live = simd.avx._mm256_cmp_ps::<{ std::arch::x86_64::_CMP_NEQ_UQ }>(pulp::cast(from), zero);
            let mask = simd.avx._mm256_movemask_ps(is_live) as u8;
            let order = simd.avx2._mm256_cvtepu8_epi32(pulp::cast([ORDERS[usize::from(mask)], 0]));
            let permuted = |elems| simd.avx2._mm256_permutevar8x32_ps(elems, order);
            to_grads[count..count + 8].copy_from_slice(&pulp::cast::<_, [f32; 8]>(permuted(pulp::cast(from))));
            to_places[count..count + 8].copy_from_slice(&pulp::cast::<_, [u32; 8]>(permuted(pulp::cast(places))));
            count += mask.count_ones() as usize;
        }
        return count;
    }
    let mut count = 0;
    for (&grad, &place) in grads.iter().zip(places) {
        (to_grads[count], to_places[count]) = (grad, place);
        // Without a branch: it would be mispredicted every other time.
        count += usize::from(grad != 0.0);
    }
    count
}

/// For each set of lanes, given as bits, the lanes of a vector with those of the set first, a byte each.
#[cfg(target_arch = "x86_64")]
const ORDERS: [u64; 256] = {
    let mut orders = [0; 256];
    let mut set = 0;
    while set < orders.len() {
        let (mut lane, mut place) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                orders[set] |= lane << (8 * place);
                place += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    orders
};
