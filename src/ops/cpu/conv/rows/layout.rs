//! How images and kernels lie in memory where channels are last.

use pulp::{Simd, WithSimd};

use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::transpose::{FEW, TILE, few_to_first, few_to_last, transpose_tile};
use crate::ops::cpu::unroll::unroll;

/// A layer with images whose channels lie last. A kernel is computed with in passes: of some rows at a time, and of so
/// many vectors side by side in each.
#[derive(Clone, Copy)]
pub(in super::super) struct Rows {
    pub layer: Layer,
    /// Elements of a row of the padded image.
    pub row_elems: usize,
    /// Lanes of a vector.
    pub lanes: usize,
    /// Vectors side by side in a pass.
    pub width: usize,
    /// Passes that hold a row of the kernel, the last with unused elements.
    pub num_passes: usize,
}

impl Rows {
    pub fn new(layer: &Layer, lanes: usize, width: usize) -> Rows {
        let row_elems = layer.padded()[1] * layer.in_channels;
        let num_passes = Rows::vectors(layer, lanes).div_ceil(width);
        Rows { layer: *layer, row_elems, lanes, width, num_passes }
    }

    /// Vectors that hold a row of the kernel.
    pub fn vectors(layer: &Layer, lanes: usize) -> usize {
        (layer.kernel[1] * layer.in_channels).div_ceil(lanes)
    }

    /// Vectors that hold a kernel: (passes, rows, width).
    pub fn kernel_vectors(&self) -> usize {
        self.num_passes * self.layer.kernel[0] * self.width
    }

    /// Elements of a kernel's vectors.
    pub fn kernel_elems(&self) -> usize {
        self.kernel_vectors() * self.lanes
    }

    /// Elements of an image, with room for the last vectors of the last row and for a whole tile's.
    pub fn image_elems(&self) -> usize {
        self.layer.padded()[0] * self.row_elems + (self.width * self.lanes).max(TILE * FEW)
    }

    /// Rows of pixels that are contiguous in the padded image, and their pixels.
    fn strips(&self) -> [usize; 2] {
        if self.layer.padding == [0, 0] { [1, self.layer.in_pixels()] } else { self.layer.input }
    }
}

/// Lays an image out with its channels last, inside its padding.
pub(in super::super) struct ChannelsLast<'a> {
    pub rows: Rows,
    pub planes: &'a [f32],
    pub image: &'a mut [f32],
}

impl WithSimd for ChannelsLast<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Layer { in_channels, padding: [top, left], .. } = self.rows.layer;
        let [height, width] = self.rows.strips();
        if in_channels == 1 {
            for (y, row) in self.planes.chunks_exact(width).enumerate() {
                self.image[(y + top) * self.rows.row_elems + left..][..width].copy_from_slice(row);
            }
            return;
        }
        let pixels = height * width;
        if in_channels <= FEW {
            return self.few(simd);
        }
        for (part, planes) in self.planes.chunks(TILE * pixels).enumerate() {
            let channels = planes.len() / pixels;
            for y in 0..height {
                let to = &mut self.image[(y + top) * self.rows.row_elems + left * in_channels + part * TILE..];
                for x in (0..width).step_by(TILE) {
                    let count = TILE.min(width - x);
                    let mut tile = [[0.0; TILE]; TILE];
                    for (row, plane) in tile.iter_mut().zip(planes.chunks_exact(pixels)) {
                        let from = &plane[y * width + x..][..count];
                        if count == TILE { row.copy_from_slice(from) } else { row[..count].copy_from_slice(from) }
                    }
                    transpose_tile(simd, &mut tile);
                    for (pixel, values) in tile[..count].iter().enumerate() {
                        // Whole vectors are stored fastest. What reaches beyond the last channel is overwritten by the
                        // next pixel's, which there must be, and must not be what other channels left there.
                        let to = &mut to[(x + pixel) * in_channels..];
                        let is_alone = channels == TILE || in_channels <= TILE;
                        if is_alone && x + pixel + TILE < width {
                            to[..TILE].copy_from_slice(values);
                        } else {
                            to[..channels].copy_from_slice(&values[..channels]);
                        }
                    }
                }
            }
        }
    }
}

impl ChannelsLast<'_> {
    /// An image of as many channels as a small tile has.
    #[inline(always)]
    fn few<S: Simd>(self, simd: S) {
        let Layer { in_channels, padding: [top, left], .. } = self.rows.layer;
        let [height, width] = self.rows.strips();
        let is_unpadded = self.rows.layer.padding == [0, 0];
        for y in 0..height {
            let to = &mut self.image[(y + top) * self.rows.row_elems + left * in_channels..];
            let mut x = 0;
            // As above. Without padding there is one strip, and what lies after it has no meaning.
            while if is_unpadded { x + TILE <= width } else { x + TILE + FEW < width } {
                let planes = &self.planes[y * width + x..];
                let mut tile = [[0.0; TILE]; FEW];
                unroll!(channel in 0..FEW, up to 8 => {
                    if channel < in_channels {
                        tile[channel].copy_from_slice(&planes[channel * height * width..][..TILE]);
                    }
                });
                let (pixels, to) = (few_to_last(simd, &tile), &mut to[x * in_channels..][..TILE * FEW]);
                unroll!(pixel in 0..TILE, up to 16 => { to[pixel * in_channels..][..FEW].copy_from_slice(&pixels[pixel]) });
                x += TILE;
            }
            while x < width {
                let count = TILE.min(width - x);
                let mut tile = [[0.0; TILE]; FEW];
                for (row, plane) in tile.iter_mut().zip(self.planes.chunks_exact(height * width)) {
                    row[..count].copy_from_slice(&plane[y * width + x..][..count]);
                }
                for (pixel, values) in few_to_last(simd, &tile)[..count].iter().enumerate() {
                    to[(x + pixel) * in_channels..][..in_channels].copy_from_slice(&values[..in_channels]);
                }
                x += count;
            }
        }
    }
}

/// Lays an image whose channels are last out plane by plane, without its padding.
pub(in super::super) struct ChannelsFirst<'a> {
    pub rows: Rows,
    pub image: &'a [f32],
    pub out: &'a mut [f32],
}

impl WithSimd for ChannelsFirst<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Layer { in_channels, padding: [top, left], .. } = self.rows.layer;
        let [height, width] = self.rows.strips();
        let pixels = height * width;
        if in_channels <= FEW {
            return self.few(simd);
        }
        for (part, planes) in self.out.chunks_mut(TILE * pixels).enumerate() {
            for y in 0..height {
                let from = &self.image[(y + top) * self.rows.row_elems + left * in_channels + part * TILE..];
                for x in (0..width).step_by(TILE) {
                    let count = TILE.min(width - x);
                    let mut tile = [[0.0; TILE]; TILE];
                    for (pixel, values) in tile[..count].iter_mut().enumerate() {
                        // There is room for a whole vector after the last pixel.
                        values.copy_from_slice(&from[(x + pixel) * in_channels..][..TILE]);
                    }
                    transpose_tile(simd, &mut tile);
                    for (plane, row) in planes.chunks_exact_mut(pixels).zip(&tile) {
                        let to = &mut plane[y * width + x..][..count];
                        if count == TILE { to.copy_from_slice(row) } else { to.copy_from_slice(&row[..count]) }
                    }
                }
            }
        }
    }
}

impl ChannelsFirst<'_> {
    /// An image of as many channels as a small tile has.
    #[inline(always)]
    fn few<S: Simd>(self, simd: S) {
        let Layer { in_channels, padding: [top, left], .. } = self.rows.layer;
        let [height, width] = self.rows.strips();
        for y in 0..height {
            let from = &self.image[(y + top) * self.rows.row_elems + left * in_channels..];
            let mut x = 0;
            while x + TILE <= width {
                let mut tile = [[0.0; FEW]; TILE];
                // There is room for a whole vector after the last pixel.
                let from = &from[x * in_channels..][..TILE * FEW];
                unroll!(pixel in 0..TILE, up to 16 => { tile[pixel].copy_from_slice(&from[pixel * in_channels..][..FEW]) });
                let (rows, to) = (few_to_first(simd, &tile), &mut self.out[y * width + x..]);
                unroll!(channel in 0..FEW, up to 8 => {
                    if channel < in_channels {
                        to[channel * height * width..][..TILE].copy_from_slice(&rows[channel]);
                    }
                });
                x += TILE;
            }
            if x < width {
                let mut tile = [[0.0; FEW]; TILE];
                for (pixel, values) in tile[..width - x].iter_mut().enumerate() {
                    values.copy_from_slice(&from[(x + pixel) * in_channels..][..FEW]);
                }
                for (plane, row) in self.out.chunks_exact_mut(height * width).zip(&few_to_first(simd, &tile)) {
                    plane[y * width + x..][..width - x].copy_from_slice(&row[..width - x]);
                }
            }
        }
    }
}
