//! Weights at the points.

use pulp::{Simd, WithSimd};

use super::{MET, Rows, transform};
use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::conv::winograd::{self, Transform};
use crate::ops::cpu::transpose::turn;
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{isa, scratch};

/// Floats of the weights at the points.
pub(in super::super) fn num_weights(layer: &Layer, rows: Rows) -> usize {
    layer.out_channels.next_multiple_of(isa::lanes()) * layer.in_channels * MET[0] * rows.num_weights()
}

/// Weights (O, C, 5, 5) at the points: (blocks of O, row points, C, column points or columns, lanes).
pub(in super::super) fn pack(layer: &Layer, rows: Rows, weight: &[f32], packed: &mut [f32]) {
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
