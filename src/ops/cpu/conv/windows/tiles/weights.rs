//! Weights at the points. A thread keeps what it made of the last few layers' weights: they are the same for all images of
//! a step, and from call to call where nothing is trained, and to compare them takes far less than to transform them.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use super::{MET, Rows, products};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::conv::lines::transform;
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

/// Calls `body` with weights (O, C, 5, 5) at the points: (groups of O, row points, C, column points or columns, O).
pub(in super::super) fn with_packed<R>(layer: &Layer, rows: Rows, weight: &[f32], body: impl FnOnce(&[f32]) -> R) -> R {
    let len = layer.out_channels * num_weights(layer, rows);
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

/// Floats at the points for an output channel.
pub(super) fn num_weights(layer: &Layer, rows: Rows) -> usize {
    layer.in_channels * MET[0] * rows.num_weights()
}

/// Weights at the points.
fn pack(layer: &Layer, rows: Rows, weight: &[f32], packed: &mut [f32]) {
    let (lanes, taps, num_weights) = (isa::lanes(), layer.num_taps(), num_weights(layer, rows));
    scratch::with((taps + num_weights) * lanes, |memory: &mut [f32]| {
        let (turned, block) = memory.split_at_mut(taps * lanes);
        for (weight, packed) in weight.chunks(lanes * taps).zip(packed.chunks_mut(lanes * num_weights)) {
            isa::dispatch(Pack { channels: layer.in_channels, rows, weight, turned, block, packed });
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
    /// Room for (row points, C, column points or columns, lanes).
    block: &'a mut [f32],
    packed: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const K: usize = transform::KERNEL;
        let Pack { channels, rows, weight, turned, block, packed } = self;
        let taps = channels * K * K;
        let outputs = weight.len() / taps;
        turn(simd, [outputs, taps], (weight, taps), turned);
        let ((kernels, _), (points, _)) = (S::as_simd_f32s(turned), S::as_mut_simd_f32s(block));
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
                let to = &mut points[(i * channels + channel) * num_weights..][..num_weights];
                match rows {
                    Rows::Direct => to.copy_from_slice(&row),
                    Rows::Winograd => {
                        let row: [S::f32s; winograd::POINTS] = winograd::Kernel.apply(simd, row);
                        to.copy_from_slice(&row);
                    }
                }
            }
        }
        let (mut first, len) = (0, packed.len() / outputs);
        while first < outputs {
            let group = products::group(rows, outputs - first);
            let to = &mut packed[first * len..][..group * len];
            match group {
                6 => copy_group::<S, 6>(block, first, to),
                4 => copy_group::<S, 4>(block, first, to),
                2 => copy_group::<S, 2>(block, first, to),
                _ => copy_group::<S, 1>(block, first, to),
            }
            first += group;
        }
    }
}

/// The lanes of a group of O channels.
#[inline(always)]
fn copy_group<S: Simd, const O: usize>(block: &[f32], first: usize, to: &mut [f32]) {
    for (to, lanes) in to.as_chunks_mut::<O>().0.iter_mut().zip(block.chunks_exact(S::F32_LANES)) {
        let lanes = &lanes[first..][..O];
        unroll!(o in 0..O, up to 8 => { to[o] = lanes[o]; });
    }
}
