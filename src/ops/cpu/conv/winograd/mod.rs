//! Convolutions of stride 1 by Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): 36 products for each pair of channels give a tile of 4×4 outputs under a 3×3 kernel, which took 144, or
//! of 2×2 under a 5×5 kernel, which took 100: F(4×4, 3×3) and F(2×2, 5×5). The input gradient is a convolution as well, and
//! the weight gradient of 3×3 kernels takes the same tiles by F(3×3, 4×4).
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
pub(super) use transform::{Input, Kernel, LARGE_KERNEL, Output, POINTS, Transform, add_product, scale};
pub(super) use weight::grad_weight;

use band::Band;
use transform::{KERNEL, PRODUCTS};

use super::Layer;
use crate::ops::cpu::isa;

/// Images that share what there is to do once for a call, as the cost is reckoned: a fixed number, so that the way a
/// layer is computed does not depend on the size of the batch.
pub(super) const IMAGES: usize = 16;

/// What a tile takes beside its products for each channel, in products, fitted to times on a Zen 4 core with AVX-512:
/// getting its channels into lanes and back, and transforms. Small tiles have less of it.
const TRANSFORM: usize = 650;
const LARGE_TRANSFORM: usize = 400;

/// What the transform of a kernel takes, in products.
const WEIGHT: usize = 200;

impl Layer {
    fn takes_winograd(&self) -> bool {
        let is_of_size = [KERNEL, LARGE_KERNEL].iter().any(|&size| self.kernel == [size; 2]);
        is_of_size && self.stride == [1, 1] && self.dilation == [1, 1]
    }

    /// Outputs along an axis of a tile.
    fn tile(&self) -> usize {
        POINTS + 1 - self.kernel[0]
    }

    /// Rows and columns of tiles.
    fn tiles(&self) -> [usize; 2] {
        self.output.map(|extent| extent.div_ceil(self.tile()))
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
            step: self.tile(),
            width: columns * self.tile() + self.kernel[1] - 1,
            padding: self.padding,
        }
    }
}

/// What the forward pass takes for an image, in products of one lane; `None` where no tile serves it.
pub(super) fn cost(layer: &Layer) -> Option<usize> {
    if !layer.takes_winograd() {
        return None;
    }
    let ([tile_rows, tile_columns], [inputs, outputs]) = (layer.tiles(), layer.whole_blocks());
    let transform = if layer.kernel[0] == KERNEL { TRANSFORM } else { LARGE_TRANSFORM };
    let tile = PRODUCTS * layer.in_channels * outputs + transform * (inputs + outputs);
    let weights = WEIGHT * layer.in_channels * outputs / IMAGES;
    Some(tile_rows * tile_columns * tile + weights)
}

/// What the weight gradient takes for an image, in products of one lane; `None` where no tile serves it.
pub(super) fn grad_weight_cost(layer: &Layer) -> Option<usize> {
    if !layer.takes_winograd() || layer.kernel != [KERNEL; 2] {
        return None;
    }
    let ([tile_rows, tile_columns], [inputs, outputs]) = (layer.tiles(), layer.whole_blocks());
    let tile = PRODUCTS * inputs * outputs + TRANSFORM * (inputs + outputs);
    let weights = WEIGHT * inputs * outputs / IMAGES;
    Some(tile_rows * tile_columns * tile + weights)
}
