//! The rows of an image that a row of tiles meets, channels last and between zeros.

use pulp::{Simd, WithSimd};

use crate::ops::cpu::transpose::{FEW, turn};
use crate::ops::cpu::{isa, scratch};

/// The shape of a band. Its values are (blocks of channels, rows, width, lanes).
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    pub channels: usize,
    /// Height and width of the image.
    pub image: [usize; 2],
    pub rows: usize,
    /// Rows from one band to the next: those beyond are in both.
    pub step: usize,
    pub width: usize,
    /// Zeros above and to the left of the image.
    pub padding: [usize; 2],
}

impl Band {
    /// Vectors of a block of channels.
    pub fn block_len(&self) -> usize {
        self.rows * self.width
    }

    /// Floats of a band.
    pub fn num_elems(&self) -> usize {
        self.channels.next_multiple_of(isa::lanes()) * self.block_len()
    }

    /// Fills `band` with rows `index · step` and those after of the padded image (C, H, W). But for the first band, the
    /// one before is to be there, whose last rows are used again.
    pub fn fill(&self, index: usize, image: &[f32], band: &mut [f32]) {
        let (lanes, [height, width], [top, left]) = (isa::lanes(), self.image, self.padding);
        let kept = if index == 0 { 0 } else { self.rows - self.step };
        // Rows of the image, of those that are new.
        let first = index * self.step;
        let start = (first + kept).clamp(top, top + height) - top;
        let end = (first + self.rows).clamp(top, top + height) - top;
        // Where rows are whole tiles, each is turned to its place.
        let is_in_place = lanes < FEW || width.is_multiple_of(lanes);
        scratch::with(if is_in_place { 0 } else { (end - start) * width * lanes }, |turned: &mut [f32]| {
            let planes = image.chunks(lanes * height * width);
            for (planes, block) in planes.zip(band.chunks_exact_mut(self.block_len() * lanes)) {
                block.copy_within(self.step * self.width * lanes..(self.step + kept) * self.width * lanes, 0);
                let (channels, stride) = (planes.len() / (height * width), height * width);
                if !is_in_place {
                    let shape = [channels, turned.len() / lanes];
                    isa::dispatch(Turn { planes: &planes[start * width..], stride, shape, turned });
                }
                for (row, to) in block.chunks_exact_mut(self.width * lanes).enumerate().skip(kept) {
                    let Some(row) = (first + row).checked_sub(top).filter(|row| (start..end).contains(row)) else {
                        to.fill(0.0);
                        continue;
                    };
                    to[..left * lanes].fill(0.0);
                    to[(left + width) * lanes..].fill(0.0);
                    let to = &mut to[left * lanes..(left + width) * lanes];
                    if is_in_place {
                        let shape = [channels, width];
                        isa::dispatch(Turn { planes: &planes[row * width..], stride, shape, turned: to });
                    } else {
                        to.copy_from_slice(&turned[(row - start) * width * lanes..][..width * lanes]);
                    }
                }
            }
        });
    }
}

/// Planes (channels, pixels) with a stride as (pixels, lanes).
struct Turn<'a> {
    planes: &'a [f32],
    stride: usize,
    shape: [usize; 2],
    turned: &'a mut [f32],
}

impl WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        turn(simd, self.shape, (self.planes, self.stride), self.turned);
    }
}
