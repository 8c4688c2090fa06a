//! Weights at the points. A thread keeps what it made of the last few layers' weights: they are the same for all images of
//! a step, and from call to call where nothing is trained, and to compare them takes far less than to transform them.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use super::{MET, Rows, transform};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::conv::winograd::{self, Transform};
use crate::ops::cpu::transpose::turn;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Layers whose weights a thread keeps.
const MOST_KEPT: usize = 8;

/// Floats at the points that are kept; to transform more is little beside the products with them.
const MOST_FLOATS: usize = 1 << 16;

/// Weights, and what they are at the points.
struct Kept {
    layer: Layer,
    rows: Rows,
    /// Where they were; what was there is compared as well.
    address: usize,
    weight: Vec<f32>,
    at_points: Vec<scratch::Line>,
}

thread_local! {
    /// The last used is the last.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with weights (O, C, 5, 5) at the points: (blocks of O, row points, C, column points or columns, lanes).
pub(in super::super) fn with_packed<R>(layer: &Layer, rows: Rows, weight: &[f32], body: impl FnOnce(&[f32]) -> R) -> R {
    let outputs = layer.out_channels.next_multiple_of(isa::lanes());
    let len = outputs * layer.in_channels * MET[0] * rows.num_weights();
    if len > MOST_FLOATS {
        return scratch::with(len, |packed: &mut [f32]| {
            pack(layer, rows, weight, packed);
            body(packed)
        });
    }
    let address = weight.as_ptr() as usize;
    let is_same = |kept: &Kept| (kept.layer, kept.rows, kept.address) == (*layer, rows, address);
    let kept = KEPT.with_borrow_mut(|all| match all.iter().position(is_same) {
        Some(index) => Some(all.remove(index)),
        None if all.len() == MOST_KEPT => Some(all.remove(0)),
        None => None,
    });
    let mut kept =
        kept.unwrap_or_else(|| Kept { layer: *layer, rows, address, weight: Vec::new(), at_points: Vec::new() });
    let bits = bytemuck::cast_slice::<f32, u32>;
    if !is_same(&kept) || bits(&kept.weight) != bits(weight) {
        (kept.layer, kept.rows, kept.address) = (*layer, rows, address);
        kept.weight.clear();
        kept.weight.extend_from_slice(weight);
        let num_lines = (len * size_of::<f32>()).div_ceil(size_of::<scratch::Line>());
        kept.at_points.resize(num_lines, scratch::Line::ZERO);
        pack(layer, rows, weight, &mut bytemuck::cast_slice_mut(&mut kept.at_points)[..len]);
    }
    let result = body(&bytemuck::cast_slice(&kept.at_points)[..len]);
    KEPT.with_borrow_mut(|all| all.push(kept));
    result
}

/// Weights at the points.
fn pack(layer: &Layer, rows: Rows, weight: &[f32], packed: &mut [f32]) {
    let (lanes, taps) = (isa::lanes(), layer.num_taps());
    let packed = packed.chunks_exact_mut(lanes * layer.in_channels * MET[0] * rows.num_weights());
    scratch::with(taps * lanes, |turned: &mut [f32]| {
        for (weight, packed) in weight.chunks(lanes * taps).zip(packed) {
            isa::dispatch(Pack { channels: layer.in_channels, rows, weight, turned, packed });
        }
    });
}

/// The weights of a block.
struct Pack<'a> {
    channels: usize,
    rows: Rows,
    /// (channels of the block, taps).
    weight: &'a [f32],
    /// Room for (taps, lanes).
    turned: &'a mut [f32],
    packed: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const K: usize = transform::KERNEL;
        let Pack { channels, rows, weight, turned, packed } = self;
        let taps = channels * K * K;
        turn(simd, [weight.len() / taps, taps], (weight, taps), turned);
        let ((kernels, _), (packed, _)) = (S::as_simd_f32s(turned), S::as_mut_simd_f32s(packed));
        let (num_weights, zero) = (rows.num_weights(), simd.splat_f32s(0.0));
        for (channel, kernel) in kernels.as_chunks::<{ K * K }>().0.iter().enumerate() {
            let mut at_points = [[zero; K]; MET[0]];
            for j in 0..K {
                let mut column = [zero; K];
                unroll!(i in 0..K, up to 8 => { column[i] = kernel[i * K + j]; });
                let column = transform::Kernel.apply(simd, column);
                unroll!(i in 0..MET[0], up to 8 => { at_points[i][j] = column[i]; });
            }
            for (i, row) in at_points.into_iter().enumerate() {
                let to = &mut packed[(i * channels + channel) * num_weights..][..num_weights];
                match rows {
                    Rows::Direct => to.copy_from_slice(&row),
                    Rows::Winograd => {
                        let row: [S::f32s; winograd::POINTS] = winograd::Kernel.apply(simd, row);
                        to.copy_from_slice(&row);
                    }
                }
            }
        }
    }
}
