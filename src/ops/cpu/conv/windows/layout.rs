//! The layout of images for tiles of cells that are two cells wide and a few high: for each channel and each column of a
//! kernel or the one after it, moved by that column's place, first the rows that the topmost cells of tiles begin at, those
//! of the images in turn, then the rows below them, and so on, with every second element of each. The elements that a tap
//! meets in one cell of all tiles are contiguous then, rows of tiles, images and all.

use pulp::{Simd, WithSimd};

use crate::ops::cpu::conv::Layer;
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::transpose::{PAIRS, TILE, every_second, every_second_of_four};

/// The sizes of a layer's tiles, of so many rows of cells, and of images laid out for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split<const HEIGHT: usize> {
    pub layer: Layer,
    /// Whether tiles are of whole windows.
    pub is_pooled: bool,
    /// Images that are laid out together.
    pub images: usize,
    /// Rows and columns of an image's tiles.
    pub tiles: [usize; 2],
    /// Rows of tiles, and those after them that the kernel meets.
    rows: usize,
}

/// The widest kernel: what a piece of tiles meets are few enough elements then.
pub(super) const MOST_COLUMNS: usize = 9;

/// Elements that vectors may reach beyond the last tile.
const SLACK: usize = 2 * LANES;

/// Elements that a piece of a row may reach beyond the end of a phase.
const PHASE_SLACK: usize = 16;

impl<const HEIGHT: usize> Split<HEIGHT> {
    /// Tiles that have all cells of windows.
    pub fn pooled(layer: &Layer, images: usize) -> Self {
        Split::new(layer, true, images)
    }

    /// Tiles that have all cells of rows of even length.
    pub fn whole(layer: &Layer, images: usize) -> Self {
        Split::new(layer, false, images)
    }

    fn new(layer: &Layer, is_pooled: bool, images: usize) -> Self {
        let height = if is_pooled { layer.output[0] / 2 * 2 } else { layer.output[0] };
        let tiles = [height.div_ceil(HEIGHT), layer.output[1] / 2];
        let rows = tiles[0] + (HEIGHT + layer.kernel[0] - 2) / HEIGHT;
        Split { layer: *layer, is_pooled, images, tiles, rows }
    }

    /// Tiles of all images.
    pub fn num_tiles(&self) -> usize {
        self.images * self.tiles[0] * self.tiles[1]
    }

    /// Elements of a row of tiles.
    pub fn row(&self) -> usize {
        self.images * self.tiles[1]
    }

    /// Elements of every so many rows of a moved plane.
    fn phase(&self) -> usize {
        self.rows * self.row() + PHASE_SLACK
    }

    /// Elements of a channel.
    pub fn channel_elems(&self) -> usize {
        (self.layer.kernel[1] + 1) * HEIGHT * self.phase()
    }

    /// Elements of so many channels.
    pub fn num_elems(&self, channels: usize) -> usize {
        channels * self.channel_elems() + SLACK
    }

    /// Where the first tile's element lies that is `i` rows and `j` columns from the tile's first.
    #[inline(always)]
    pub fn offset(&self, channel: usize, i: usize, j: usize) -> usize {
        let phase = HEIGHT * j + i % HEIGHT;
        channel * self.channel_elems() + phase * self.phase() + i / HEIGHT * self.row()
    }

    /// Elements of the places of tiles.
    pub fn num_places(&self) -> usize {
        self.num_tiles() + SLACK
    }

    /// Writes where each tile's first cell lies in the output's plane, as bits.
    pub fn write_places(&self, places: &mut [f32]) {
        let ([_, columns], row_cells) = (self.tiles, HEIGHT * self.layer.output[1]);
        for (index, places) in places.chunks_exact_mut(columns).take(self.images * self.tiles[0]).enumerate() {
            let first = index / self.images * row_cells;
            for (column, place) in places.iter_mut().enumerate() {
                *place = f32::from_bits((first + 2 * column) as u32);
            }
        }
    }

    /// Where vectors of so many tiles begin: one after the other, the last moved back to end with the tiles, unless there
    /// are fewer tiles than it has lanes.
    #[inline(always)]
    pub fn positions(&self, step: usize) -> impl Iterator<Item = usize> + use<HEIGHT> {
        let num_tiles = self.num_tiles();
        (0..num_tiles).step_by(step).map(move |position| position.min(num_tiles.saturating_sub(step)))
    }
}

/// Lays images out.
pub(super) struct LayOut<'a, const HEIGHT: usize> {
    pub split: Split<HEIGHT>,
    pub padded: &'a [f32],
    pub image: &'a mut [f32],
}

impl<const HEIGHT: usize> WithSimd for LayOut<'_, HEIGHT> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channel_elems = self.split.channel_elems();
        for channel in 0..self.split.layer.in_channels {
            self.split.lay_out(simd, self.padded, channel, &mut self.image[channel * channel_elems..]);
        }
    }
}

impl<const HEIGHT: usize> Split<HEIGHT> {
    /// Lays a channel of padded images out.
    #[inline(always)]
    fn lay_out<S: Simd>(&self, simd: S, padded: &[f32], channel: usize, to: &mut [f32]) {
        let planes = &padded[channel * self.layer.plane_elems()..];
        // A row of tiles is one piece, or several, and a short one a quarter of one.
        match self.tiles[1] {
            4 if 4 % self.images == 0 => self.by_four_rows(simd, planes, to),
            ..=4 => self.by_pieces::<S, 4>(simd, planes, to),
            9..=12 => self.by_pieces::<S, 12>(simd, planes, to),
            13..=14 if self.layer.kernel[1] <= PAIRS - 27 => self.by_pieces::<S, 16>(simd, planes, to),
            _ => self.by_pieces::<S, 8>(simd, planes, to),
        }
        // Rows of cells that there are not.
        for y in self.laid_out_rows()..HEIGHT * self.rows {
            for j in 0..self.layer.kernel[1] + 1 {
                to[self.offset(0, y, j)..][..self.row()].fill(0.0);
            }
        }
    }

    /// Rows of a plane that tiles meet.
    #[inline(always)]
    fn laid_out_rows(&self) -> usize {
        self.layer.padded()[0].min(HEIGHT * self.rows)
    }

    /// From one image to the next.
    #[inline(always)]
    fn image_elems(&self) -> usize {
        self.layer.in_channels * self.layer.plane_elems()
    }

    /// Four rows of four tiles at a time, the last four ending with the phase, or in its slack where there are fewer.
    #[inline(always)]
    fn by_four_rows<S: Simd>(&self, simd: S, planes: &[f32], to: &mut [f32]) {
        let (width, step, image_elems) = (self.layer.padded()[1], self.offset(0, 0, 1), self.image_elems());
        let rows_together = 4 / self.images;
        for phase in 0..HEIGHT {
            let rows = (self.laid_out_rows() - phase).div_ceil(HEIGHT);
            for row in (0..rows).step_by(rows_together) {
                let row = row.min(rows.saturating_sub(rows_together));
                let planes = &planes[(HEIGHT * row + phase) * width..];
                let to = &mut to[self.offset(0, phase, 0) + 4 * row * self.images..];
                // Of the images in turn.
                let row_elems = HEIGHT * width;
                let starts = match self.images {
                    1 => [0, row_elems, 2 * row_elems, 3 * row_elems],
                    2 => [0, image_elems, row_elems, row_elems + image_elems],
                    _ => [0, image_elems, 2 * image_elems, 3 * image_elems],
                };
                let row = |index: usize| planes.get(starts[index]..).unwrap_or_default();
                let rows = [row(0), row(1), row(2), row(3)];
                let mut tails = [[0.0; TILE]; 4];
                let rows = if let [Some(a), Some(b), Some(c), Some(d)] =
                    [rows[0].first_chunk(), rows[1].first_chunk(), rows[2].first_chunk(), rows[3].first_chunk()]
                {
                    [a, b, c, d]
                } else {
                    // The end of the images.
                    for (tail, row) in tails.iter_mut().zip(rows) {
                        let len = row.len().min(TILE);
                        tail[..len].copy_from_slice(&row[..len]);
                    }
                    tails.each_ref()
                };
                every_second_of_four(
                    simd,
                    rows,
                    self.layer.kernel[1] + 1,
                    #[inline(always)]
                    |j, elems| to[j * step..][..TILE].copy_from_slice(elems),
                );
            }
        }
    }

    /// By pieces of N tiles. What a piece writes beyond the end of a row is overwritten by the next one, or is slack.
    #[inline(always)]
    fn by_pieces<S: Simd, const N: usize>(&self, simd: S, planes: &[f32], to: &mut [f32]) {
        let (width, columns, step) = (self.layer.padded()[1], self.tiles[1], self.offset(0, 0, 1));
        for phase in 0..HEIGHT {
            let mut start = self.offset(0, phase, 0);
            for y in (phase..self.laid_out_rows()).step_by(HEIGHT) {
                for image in 0..self.images {
                    let row = &planes[image * self.image_elems() + y * width..];
                    for at in (0..columns).step_by(N) {
                        let row = &row[2 * at..];
                        let mut tail = [0.0; PAIRS];
                        let row = if let Some(row) = row.first_chunk() {
                            row
                        } else {
                            // The end of the images.
                            tail[..row.len()].copy_from_slice(row);
                            &tail
                        };
                        let to = &mut to[start + at..];
                        every_second(
                            simd,
                            row,
                            self.layer.kernel[1] + 1,
                            #[inline(always)]
                            |j, elems| to[j * step..][..N].copy_from_slice(&elems[..N]),
                        );
                    }
                    start += columns;
                }
            }
        }
    }
}
