//! 3×3 convolutions of stride 1 by Winograd's minimal filtering, F(4×4, 3×3): tiles of 4×4 outputs take 36 products for
//! each pair of channels where they took 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
//! The input gradient is a convolution as well, and the weight gradient takes the same tiles by F(3×3, 4×4).
//!
//! Everything lies in blocks of channels with the channels in a vector's lanes, so transforms are plain arithmetic on
//! vectors and products read their operands in order. Tiles of one image, or of several small ones, are worked on
//! together, as many as keep the transformed values in a core's cache.
//!
//! A value that is no number spreads over its tile, and not just over the outputs that it meets.

mod band;
mod forward;
mod points;
mod product;
#[cfg(test)]
mod tests;
mod transform;
mod weight;

pub(super) use forward::forward;
pub(super) use weight::grad_weight;

use band::Band;
use transform::{KERNEL, POINTS, PRODUCTS, TILE};

use super::Layer;
use crate::ops::cpu::isa;

/// Images that share what there is to do once for a call, as the cost is reckoned: a fixed number, so that the way a
/// layer is computed does not depend on the size of the batch.
const IMAGES: usize = 16;

/// What a tile's transform takes for each channel, in products.
const TRANSFORM: usize = 200;

impl Layer {
    fn takes_winograd(&self) -> bool {
        self.kernel == [KERNEL; 2] && self.stride == [1, 1] && self.dilation == [1, 1]
    }

    /// Rows and columns of tiles.
    fn tiles(&self) -> [usize; 2] {
        self.output.map(|extent| extent.div_ceil(TILE))
    }

    /// Channels up to whole blocks.
    fn whole_blocks(&self) -> [usize; 2] {
        [self.in_channels, self.out_channels].map(|channels| channels.next_multiple_of(isa::lanes()))
    }

    /// The rows of inputs that a row of tiles meets.
    fn input_band(&self) -> Band {
        let [_, columns] = self.tiles();
        Band {
            channels: self.in_channels,
            image: self.input,
            rows: POINTS,
            step: TILE,
            width: columns * TILE + KERNEL - 1,
            padding: self.padding,
        }
    }
}

/// What the forward pass takes for an image, in products of one lane; `None` where it is no 3×3 convolution of stride 1.
pub(super) fn cost(layer: &Layer) -> Option<usize> {
    let ([tile_rows, tile_columns], [inputs, outputs]) = (layer.tiles(), layer.whole_blocks());
    let tile = PRODUCTS * layer.in_channels * outputs + TRANSFORM * (inputs + outputs);
    let weights = TRANSFORM * layer.in_channels * outputs / IMAGES;
    layer.takes_winograd().then_some(tile_rows * tile_columns * tile + weights)
}

/// What the weight gradient takes for an image, in products of one lane.
pub(super) fn grad_weight_cost(layer: &Layer) -> Option<usize> {
    let ([tile_rows, tile_columns], [inputs, outputs]) = (layer.tiles(), layer.whole_blocks());
    let tile = PRODUCTS * inputs * outputs + TRANSFORM * (inputs + outputs);
    let weights = TRANSFORM * inputs * outputs / IMAGES;
    layer.takes_winograd().then_some(tile_rows * tile_columns * tile + weights)
}
