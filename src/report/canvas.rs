//! A white sheet to draw on, in logical pixels with y downwards: polygons, strokes, text, pixel images. Shapes are
//! filled by the area of each pixel that they cover, so that edges are smooth. It knows nothing of charts.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, OutlineCurve, ScaleFont};
use ab_glyph_rasterizer::{Point as RasterPoint, Rasterizer};
use image::RgbImage;

use super::color::Color;
use super::picture::Picture;

/// Pixels of the file for a logical pixel: sharp on screens of high density and in print.
const SCALE: f32 = 2.0;

/// x and y in logical pixels.
pub(super) type Point = (f32, f32);

/// A rectangle in logical pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Rect {
    pub fn right(self) -> f32 {
        self.x + self.width
    }

    pub fn bottom(self) -> f32 {
        self.y + self.height
    }

    pub fn center(self) -> Point {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }
}

/// Where a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Center,
    Right,
}

/// The style of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextStyle {
    pub size: f32,
    pub color: Color,
    pub align: Align,
    pub bold: bool,
    /// Turned to read from bottom to top.
    pub upward: bool,
}

impl TextStyle {
    pub const fn new(size: f32) -> TextStyle {
        TextStyle { size, color: Color::BLACK, align: Align::Left, bold: false, upward: false }
    }

    pub const fn color(self, color: Color) -> TextStyle {
        TextStyle { color, ..self }
    }

    pub const fn align(self, align: Align) -> TextStyle {
        TextStyle { align, ..self }
    }

    pub const fn bold(self) -> TextStyle {
        TextStyle { bold: true, ..self }
    }

    pub const fn upward(self) -> TextStyle {
        TextStyle { upward: true, ..self }
    }

    fn font(&self) -> &'static FontRef<'static> {
        static REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans.ttf");
        static BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold.ttf");
        static FONTS: LazyLock<[FontRef<'static>; 2]> = LazyLock::new(|| {
            [REGULAR, BOLD].map(|bytes| FontRef::try_from_slice(bytes).expect("bundled fonts are whole"))
        });
        &FONTS[usize::from(self.bold)]
    }

    /// The width of a text in logical pixels.
    pub fn width(&self, text: &str) -> f32 {
        let font = self.font().as_scaled(self.size);
        glyphs(self.font(), text).map(|glyph| font.h_advance(glyph)).sum()
    }

    /// The text, cut with an ellipsis where it is wider than `width`.
    pub fn fit(&self, text: &str, width: f32) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let mut cut: String = text.to_owned();
        while !cut.is_empty() && self.width(&format!("{cut}…")) > width {
            cut.pop();
        }
        format!("{}…", cut.trim_end())
    }
}

fn glyphs<'a>(font: &'a FontRef<'static>, text: &'a str) -> impl Iterator<Item = GlyphId> + 'a {
    // Signs that the cut-down font lacks appear as its box, not as nothing.
    text.chars().map(|sign| font.glyph_id(sign))
}

/// A canvas under construction.
pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A white canvas of this size in logical pixels.
    pub fn new(width: f32, height: f32) -> Canvas {
        let pixels = |length: f32| ((length * SCALE).round() as u32).max(1);
        Canvas { image: RgbImage::from_pixel(pixels(width), pixels(height), image::Rgb([255; 3])) }
    }

    pub fn finish(self) -> Picture {
        Picture::of(self.image)
    }

    pub fn fill_rect(&mut self, rect: Rect, color: Color) {
        let (left, top, right, bottom) = (rect.x, rect.y, rect.right(), rect.bottom());
        self.fill_polygon(&[(left, top), (right, top), (right, bottom), (left, bottom)], color);
    }

    pub fn frame_rect(&mut self, rect: Rect, width: f32, color: Color) {
        let (left, top, right, bottom) = (rect.x, rect.y, rect.right(), rect.bottom());
        self.stroke(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], width, color);
    }

    pub fn fill_polygon(&mut self, points: &[Point], color: Color) {
        self.fill(std::slice::from_ref(&points.to_vec()), color);
    }

    pub fn circle(&mut self, center: Point, radius: f32, color: Color) {
        self.fill(&[disc(center, radius)], color);
    }

    /// A line through points, with round ends and corners. Points that are not finite leave a gap.
    pub fn stroke(&mut self, points: &[Point], width: f32, color: Color) {
        let mut shapes = Vec::new();
        for run in points.split(|point| !(point.0.is_finite() && point.1.is_finite())) {
            shapes.extend(run.windows(2).filter_map(|pair| segment(pair[0], pair[1], width)));
            // Hair lines have no corners to see, and many short segments would pay for them.
            if width > 1.2 {
                shapes.extend(run.iter().map(|&point| disc(point, width / 2.0)));
            }
        }
        self.fill(&shapes, color);
    }

    /// A line of dashes.
    pub fn stroke_dashed(&mut self, points: &[Point], width: f32, color: Color) {
        const DASH: f32 = 6.0;
        const GAP: f32 = 4.0;
        let mut shapes = Vec::new();
        let mut travelled = 0.0_f32;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            if !(length.is_finite() && length > 0.0) {
                continue;
            }
            let at = |distance: f32| (x0 + (x1 - x0) * distance / length, y0 + (y1 - y0) * distance / length);
            let mut from = 0.0;
            while from < length {
                let phase = (travelled + from) % (DASH + GAP);
                let (left, draws) = if phase < DASH { (DASH - phase, true) } else { (DASH + GAP - phase, false) };
                // A step of at least a hundredth of a pixel ends the loop whatever rounding does.
                let to = (from + left.max(0.01)).min(length);
                if draws {
                    shapes.extend(segment(at(from), at(to), width));
                }
                from = to;
            }
            travelled += length;
        }
        self.fill(&shapes, color);
    }

    /// Writes a text whose baseline passes through `at`.
    pub fn text(&mut self, text: &str, at: Point, style: TextStyle) {
        let font = style.font();
        let size = style.size * SCALE;
        let scaled = font.as_scaled(size);
        let start = match style.align {
            Align::Left => 0.0,
            Align::Center => -style.width(text) / 2.0,
            Align::Right => -style.width(text),
        };
        let place = |x: f32, y: f32| {
            // Along the baseline, and upwards from it, in pixels of the file.
            let x = x + start * SCALE;
            let (dx, dy) = if style.upward { (-y, -x) } else { (x, -y) };
            RasterPoint { x: at.0 * SCALE + dx, y: at.1 * SCALE + dy }
        };
        let mut pen = 0.0_f32;
        let mut curves = Vec::new();
        for glyph in glyphs(font, text) {
            if let Some(outline) = font.outline(glyph) {
                let (h, v) = (scaled.h_scale_factor(), scaled.v_scale_factor());
                let map = |point: ab_glyph::Point| place(pen + point.x * h, point.y * v);
                curves.extend(outline.curves.iter().map(|curve| match curve {
                    OutlineCurve::Line(a, b) => Curve::Line(map(*a), map(*b)),
                    OutlineCurve::Quad(a, b, c) => Curve::Quad(map(*a), map(*b), map(*c)),
                    OutlineCurve::Cubic(a, b, c, d) => Curve::Cubic(map(*a), map(*b), map(*c), map(*d)),
                }));
            }
            pen += scaled.h_advance(glyph);
        }
        self.fill_curves(&curves, style.color);
    }

    /// Writes a text whose capital letters are centred on `at`'s y (or x, where it reads upwards).
    pub fn text_middle(&mut self, text: &str, at: Point, style: TextStyle) {
        // Capitals of this font are 0.73 em high, and ab_glyph's size is 1.164 em (ascent plus descent).
        let half = style.size * 0.73 / 1.164 / 2.0;
        let at = if style.upward { (at.0 + half, at.1) } else { (at.0, at.1 + half) };
        self.text(text, at, style);
    }

    /// Draws an image of whole squares, scaled to fill `rect`; `pixel` is asked for each column and row.
    pub fn pixels(&mut self, rect: Rect, columns: usize, rows: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) {
        let edge = |length: f32| (length * SCALE).round().max(0.0) as u32;
        let (left, top) = (edge(rect.x), edge(rect.y));
        let (right, bottom) =
            (edge(rect.right()).min(self.image.width()), edge(rect.bottom()).min(self.image.height()));
        for y in top..bottom {
            let row = (y - top) as usize * rows / (bottom - top) as usize;
            for x in left..right {
                let column = (x - left) as usize * columns / (right - left) as usize;
                self.image.put_pixel(x, y, image::Rgb(pixel(column, row)));
            }
        }
    }

    fn fill(&mut self, shapes: &[Vec<Point>], color: Color) {
        let mut curves = Vec::new();
        for shape in shapes {
            let point = |(x, y): Point| RasterPoint { x: x * SCALE, y: y * SCALE };
            // All shapes turn the same way, so that where two overlap they add up instead of cancelling out.
            let turned = signed_area(shape) < 0.0;
            for (index, &from) in shape.iter().enumerate() {
                let to = shape[(index + 1) % shape.len()];
                let (from, to) = if turned { (to, from) } else { (from, to) };
                curves.push(Curve::Line(point(from), point(to)));
            }
        }
        self.fill_curves(&curves, color);
    }

    fn fill_curves(&mut self, curves: &[Curve], color: Color) {
        let points = || curves.iter().flat_map(Curve::points);
        if curves.is_empty() || points().any(|point| !(point.x.is_finite() && point.y.is_finite())) {
            return;
        }
        let bound = |value: fn(&RasterPoint) -> f32, limit: u32| {
            let low = points().map(|point| value(&point)).fold(f32::INFINITY, f32::min);
            let high = points().map(|point| value(&point)).fold(f32::NEG_INFINITY, f32::max);
            (low.floor().clamp(0.0, limit as f32) as u32, (high.ceil() + 1.0).clamp(0.0, limit as f32) as u32)
        };
        let (left, right) = bound(|point| point.x, self.image.width());
        let (top, bottom) = bound(|point| point.y, self.image.height());
        if left >= right || top >= bottom {
            return;
        }
        let mut rasterizer = Rasterizer::new((right - left) as usize, (bottom - top) as usize);
        // What lies left of the sheet still decides what is inside, so it is moved to the edge; above and below count
        // for nothing.
        let shift = |point: &RasterPoint| RasterPoint {
            x: (point.x - left as f32).clamp(0.0, (right - left) as f32),
            y: (point.y - top as f32).clamp(0.0, (bottom - top) as f32),
        };
        for curve in curves {
            match curve {
                Curve::Line(a, b) => rasterizer.draw_line(shift(a), shift(b)),
                Curve::Quad(a, b, c) => rasterizer.draw_quad(shift(a), shift(b), shift(c)),
                Curve::Cubic(a, b, c, d) => rasterizer.draw_cubic(shift(a), shift(b), shift(c), shift(d)),
            }
        }
        let image = &mut self.image;
        rasterizer.for_each_pixel_2d(|x, y, cover| {
            let opacity = cover.min(1.0) * color.alpha;
            if opacity > 0.002 {
                let pixel = image.get_pixel_mut(left + x, top + y);
                for (old, new) in pixel.0.iter_mut().zip(color.rgb) {
                    *old = (f32::from(*old) * (1.0 - opacity) + f32::from(new) * opacity).round() as u8;
                }
            }
        });
    }
}

/// A piece of an outline, in pixels of the file.
enum Curve {
    Line(RasterPoint, RasterPoint),
    Quad(RasterPoint, RasterPoint, RasterPoint),
    Cubic(RasterPoint, RasterPoint, RasterPoint, RasterPoint),
}

impl Curve {
    fn points(&self) -> Vec<RasterPoint> {
        match *self {
            Curve::Line(a, b) => vec![a, b],
            Curve::Quad(a, b, c) => vec![a, b, c],
            Curve::Cubic(a, b, c, d) => vec![a, b, c, d],
        }
    }
}

fn signed_area(shape: &[Point]) -> f32 {
    let next = shape.iter().cycle().skip(1);
    shape.iter().zip(next).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum()
}

/// The rectangle around a line, or nothing where it has no length.
fn segment((x0, y0): Point, (x1, y1): Point, width: f32) -> Option<Vec<Point>> {
    let length = (x1 - x0).hypot(y1 - y0);
    if length < 1e-4 {
        return None;
    }
    let (dx, dy) = (-(y1 - y0) / length * width / 2.0, (x1 - x0) / length * width / 2.0);
    Some(vec![(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)])
}

fn disc((x, y): Point, radius: f32) -> Vec<Point> {
    const CORNERS: usize = 24;
    let corner = |index: usize| {
        let (sin, cos) = (index as f32 / CORNERS as f32 * std::f32::consts::TAU).sin_cos();
        (x + radius * cos, y + radius * sin)
    };
    (0..CORNERS).map(corner).collect()
}
