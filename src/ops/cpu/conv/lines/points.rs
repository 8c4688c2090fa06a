//! Rows at the points and back: elementwise along a row, a transform from row to row.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::transform::{POINTS, TILE};
use crate::ops::cpu::conv::winograd::Transform;
use crate::ops::cpu::isa;
use crate::ops::cpu::parallel::LANES;
use crate::ops::cpu::unroll::unroll;

/// Planes (images, channels, height, width), and the tiles of rows that they are cut into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub images: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Rows of zeros before the first one.
    pub padding: usize,
    /// Tiles of a plane. Each begins [`TILE`] rows after the one before.
    pub tiles: usize,
}

impl Planes {
    /// Rows of all images' tiles.
    pub fn rows(&self) -> usize {
        self.images * self.tiles
    }

    /// Elements of the values at a point, (channels, images, tiles, width), and room for a vector that reaches beyond.
    pub fn point_elems(&self) -> usize {
        self.channels * self.rows() * self.width + LANES
    }

    /// Where the values at a point lie.
    pub fn of_point(&self, point: usize) -> Range<usize> {
        let start = point * self.point_elems();
        start..start + self.channels * self.rows() * self.width
    }

    /// Elements of the values at all points.
    pub fn num_elems(&self) -> usize {
        POINTS * self.point_elems()
    }

    /// Writes N rows of each tile to what they are at the points.
    pub fn write_points<T: Transform<N, POINTS>, const N: usize>(
        self,
        transform: T,
        planes: &[f32],
        points: &mut [f32],
    ) {
        self.dispatch(ToPoints { layout: self, transform, planes, points });
    }

    /// Writes the rows of planes: of those of neighbouring tiles that meet the sum. Where each plane is one tile, it may
    /// have more rows than [`TILE`].
    pub fn write_rows<T: Transform<POINTS, M>, const M: usize>(self, transform: T, points: &[f32], planes: &mut [f32]) {
        self.dispatch(FromPoints { layout: self, transform, points, planes });
    }

    /// Runs a pass with vectors that are no longer than rows need.
    fn dispatch(&self, pass: impl WithSimd<Output = ()>) {
        if self.width <= isa::narrow_lanes() { isa::dispatch_narrow(pass) } else { isa::dispatch(pass) }
    }
}

struct ToPoints<'a, T, const N: usize> {
    layout: Planes,
    transform: T,
    planes: &'a [f32],
    points: &'a mut [f32],
}

impl<T: Transform<N, POINTS>, const N: usize> WithSimd for ToPoints<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ToPoints { layout, transform, planes, points } = self;
        let Planes { images, channels, height, width, padding, tiles } = layout;
        let (point_elems, zero) = (layout.point_elems(), simd.splat_f32s(0.0));
        // All of one length, so that a place is checked once and not at each point.
        let mut at_points = points.chunks_exact_mut(point_elems);
        let points: [&mut [f32]; POINTS] =
            std::array::from_fn(|_| at_points.next().map_or(&mut [][..], |values| &mut values[..point_elems]));
        // Images in turn, as they lie. A vector may reach beyond a short row: into those of the next tiles or images, which
        // come later, but not into the next channel's, the first of which are there already.
        let (plane_elems, channel_elems) = (height * width, layout.rows() * width);
        for plane in 0..images * channels {
            let (image, channel) = (plane / channels, plane % channels);
            let planes = &planes[plane * plane_elems..];
            for tile in 0..tiles {
                let place = (channel * images + image) * tiles * width + tile * width;
                let leaves_channel = (image * tiles + tile) * width + S::F32_LANES > channel_elems;
                for x in (0..width).step_by(S::F32_LANES) {
                    // The last vector of a long row ends with it.
                    let x = x.min(width.saturating_sub(S::F32_LANES));
                    let mut rows = [zero; N];
                    unroll!(i in 0..N, up to 8 => {
                        let y = (tile * TILE + i).wrapping_sub(padding);
                        if y < height {
                            rows[i] = load(simd, &planes[y * width + x..]);
                        }
                    });
                    let values = transform.apply(simd, rows);
                    if leaves_channel && width < S::F32_LANES {
                        unroll!(p in 0..POINTS, up to 8 => {
                            simd.partial_store_f32s(&mut points[p][place..][..width], values[p]);
                        });
                    } else {
                        unroll!(p in 0..POINTS, up to 8 => {
                            S::as_mut_simd_f32s(&mut points[p][place + x..][..S::F32_LANES]).0[0] = values[p];
                        });
                    }
                }
            }
        }
    }
}

/// A vector from the first elements, which may be fewer.
#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match from.get(..S::F32_LANES) {
        Some(from) => S::as_simd_f32s(from).0[0],
        None => simd.partial_load_f32s(from),
    }
}

struct FromPoints<'a, T, const M: usize> {
    layout: Planes,
    transform: T,
    points: &'a [f32],
    planes: &'a mut [f32],
}

impl<T: Transform<POINTS, M>, const M: usize> WithSimd for FromPoints<'_, T, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FromPoints { layout, transform, points, planes } = self;
        let Planes { images, channels, height, width, tiles, .. } = layout;
        let (point_elems, zero) = (layout.point_elems(), simd.splat_f32s(0.0));
        // As above.
        let points: [&[f32]; POINTS] = std::array::from_fn(|p| &points[p * point_elems..][..point_elems]);
        // In the order of planes and rows: a vector may reach beyond a short row into the next one.
        for plane in 0..images * channels {
            let (image, channel) = (plane / channels, plane % channels);
            let first = (channel * images + image) * tiles;
            let planes = &mut planes[plane * height * width..];
            for x in (0..width).step_by(S::F32_LANES) {
                // The last vector of a long row ends with it.
                let x = x.min(width.saturating_sub(S::F32_LANES));
                // The rows of a tile, to which those of the tile before add.
                let mut rows = [zero; M];
                for tile in 0..tiles {
                    let place = (first + tile) * width + x;
                    let mut at_points = [zero; POINTS];
                    unroll!(p in 0..POINTS, up to 8 => {
                        at_points[p] = S::as_simd_f32s(&points[p][place..][..S::F32_LANES]).0[0];
                    });
                    let tile_rows = transform.apply(simd, at_points);
                    unroll!(i in 0..M, up to 8 => { rows[i] = simd.add_f32s(rows[i], tile_rows[i]); });
                    if tile + 1 < tiles {
                        unroll!(i in 0..TILE, up to 8 => { store(simd, &layout, planes, [tile * TILE + i, x], rows[i]); });
                        unroll!(i in 0..M, up to 8 => {
                            rows[i] = if i + TILE < M { rows[(i + TILE) % M] } else { zero };
                        });
                    }
                }
                unroll!(i in 0..M, up to 8 => { store(simd, &layout, planes, [(tiles - 1) * TILE + i, x], rows[i]); });
            }
        }
    }
}

/// Stores a vector of a row, unless that is one of the padding.
#[inline(always)]
fn store<S: Simd>(simd: S, layout: &Planes, planes: &mut [f32], [row, x]: [usize; 2], values: S::f32s) {
    let Some(y) = row.checked_sub(layout.padding).filter(|&y| y < layout.height) else { return };
    let to = &mut planes[y * layout.width + x..];
    match to.get_mut(..S::F32_LANES) {
        Some(to) => S::as_mut_simd_f32s(to).0[0] = values,
        None => simd.partial_store_f32s(to, values),
    }
}
