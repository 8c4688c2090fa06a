//! Image files of any size and colour, made into what a network takes. A file is read as a viewer shows it: turned as
//! its EXIF orientation says, transparency over white. Nothing here knows what is in the image; digits are not
//! centred by their mass, as MNIST's were.

use std::io::{Cursor, Read};
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, RgbImage};

use super::resample::{Plane, Window};
use super::whole::{self, Whole};
use crate::{Error, Result, files};

/// What reading an image may take in memory.
const MAX_BYTES: u64 = 512 << 20;

/// An image file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    rgb: RgbImage,
}

/// How an image of another aspect ratio fills the network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The image is scaled until its shorter side fits, and the middle of it is taken: torchvision's `Resize(size)` and
    /// `CenterCrop(size)` on a PIL image, byte for byte (up to Pillow 12; 13 may differ by 1). The ends of the longer
    /// side are lost.
    #[default]
    Crop,
    /// The whole image is scaled, and bars beside it have the colour of its border (the median of each channel).
    Pad,
}

/// How an image becomes one that a network takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhotoOptions {
    /// How it fills the network's aspect ratio.
    pub fit: Fit,
    /// Whether bright becomes dark: for ink on paper, where the network knows light on black.
    pub invert: bool,
}

impl Photo {
    /// Reads a PNG or JPEG file, whichever its first bytes say it is.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::Data`] where it is of another format, truncated, damaged, or
    /// would take more than 512 MiB in memory, which is found before it is decoded.
    pub fn read(path: &Path) -> Result<Photo> {
        let (mut file, num_bytes) = files::open(path).map_err(Error::io("read", path))?;
        if num_bytes > MAX_BYTES {
            return Err(Error::data(path, "an image file of at most 512 MiB", format!("{num_bytes} bytes")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Photo::decode(path, &bytes)
    }

    /// [`read`](Self::read) from bytes already in memory; `path` is for messages only. Errors as there.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Photo> {
        const EXPECTED: &str = "a whole PNG or JPEG image";
        let whole = whole::check(bytes).map_err(|got| Error::data(path, EXPECTED, got))?;
        let damaged = |error: image::ImageError| Error::data(path, EXPECTED, error.to_string());
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io("read", path))?;
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        let needed = u64::from(width) * u64::from(height) * bytes_per_pixel(decoder.color_type(), whole);
        if needed > MAX_BYTES {
            let got = format!("{width}×{height} pixels, which take {} MiB; make it smaller", needed >> 20);
            return Err(Error::data(path, "an image that takes at most 512 MiB in memory", got));
        }
        let orientation = decoder.orientation().map_err(damaged)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        image.apply_orientation(orientation);
        Ok(Photo { rgb: over_white(image) })
    }

    /// An image from red, green and blue of every pixel, row by row.
    ///
    /// # Errors
    /// [`Error::Operand`] where there are not 3·`width`·`height` bytes, or none at all.
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Result<Photo> {
        let got = format!("{} bytes for {width}×{height} pixels", rgb.len());
        match RgbImage::from_raw(width, height, rgb).filter(|rgb| width > 0 && height > 0 && !rgb.is_empty()) {
            Some(rgb) => Ok(Photo { rgb }),
            None => Err(Error::operand("photo", "3 bytes for each of at least 1 pixel", got)),
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.rgb.dimensions()
    }

    /// The pixels (C, H, W) of `shape`, 0 to 255; C is 1 (grey, as Pillow converts to "L") or 3. Scaled with Pillow's
    /// `BILINEAR`, a triangle filter as wide as the source asks for.
    pub fn fitted(&self, shape: [usize; 3], options: PhotoOptions) -> Vec<u8> {
        let [channels, height, width] = shape;
        let fit = match options.fit {
            Fit::Crop => crop,
            Fit::Pad => pad,
        };
        let fitted = |channel| {
            let mut plane = self.plane(channels, channel);
            if options.invert {
                plane.pixels.iter_mut().for_each(|pixel| *pixel = 255 - *pixel);
            }
            fit(&plane, width, height).pixels
        };
        (0..channels).flat_map(fitted).collect()
    }

    /// The image scaled down so that no side is longer than `side`, as pixels (3, H, W) and their shape; smaller images
    /// stay as they are.
    pub fn thumbnail(&self, side: u32) -> (Vec<u8>, [usize; 3]) {
        let (width, height) = self.size();
        let scale = (f64::from(side) / f64::from(width.max(height))).min(1.0);
        let (width, height) = (scaled(width as usize, scale), scaled(height as usize, scale));
        let whole = Window { left: 0, top: 0, width, height };
        let planes = (0..3).flat_map(|channel| self.plane(3, channel).resample(width, height, whole).pixels);
        (planes.collect(), [3, height, width])
    }

    /// One of so many channels: grey, where there is one.
    fn plane(&self, num_channels: usize, channel: usize) -> Plane {
        let grey = |[r, g, b]: [u8; 3]| {
            let [r, g, b] = [r, g, b].map(u32::from);
            // ITU-R BT.601's luma with weights in 16 bits that sum to 65,536, so at most 255.
            ((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8
        };
        let pixels =
            self.rgb.pixels().map(|pixel| if num_channels == 1 { grey(pixel.0) } else { pixel.0[channel % 3] });
        let (width, height) = self.size();
        Plane { width: width as usize, height: height as usize, pixels: pixels.collect() }
    }
}

/// Whether the outermost pixels of (C, H, W) are bright rather than dark, by their median: what paper is, and what the
/// background of MNIST and FashionMNIST is not.
pub fn has_bright_border(pixels: &[u8], shape: [usize; 3]) -> bool {
    let [channels, height, width] = shape;
    let mut border: Vec<u8> = (0..channels * height * width)
        .filter(|index| {
            let (row, column) = (index / width % height, index % width);
            row == 0 || row + 1 == height || column == 0 || column + 1 == width
        })
        .filter_map(|index| pixels.get(index).copied())
        .collect();
    median(&mut border) > 127
}

/// The most memory for each pixel at any time: decoding, turning, converting, one channel beside the whole.
fn bytes_per_pixel(color: ColorType, whole: Whole) -> u64 {
    let decoded = u64::from(color.bytes_per_pixel());
    // A 16-bit coefficient of each of three channels.
    let decoding = if whole == (Whole::Jpeg { is_progressive: true }) { decoded + 6 } else { decoded };
    let turning = 2 * decoded;
    let converting = match (color, color.has_alpha()) {
        (ColorType::Rgb8, _) => decoded,
        (_, true) => decoded + 4,
        (_, false) => decoded + 3,
    };
    // Without transparency there is no second conversion.
    let flattening = if color.has_alpha() { 4 + 3 } else { 0 };
    decoding.max(turning).max(converting).max(flattening).max(3 + 1)
}

fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, alpha] = rgba.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        // A mean of two bytes, rounded.
        image::Rgb([r, g, b].map(|color| ((u32::from(color) * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

/// Scales until one side fits and the other is no shorter, rounding it down, and crops the centre. Where the centre is
/// between two pixels, the crop starts at the even one: torchvision rounds with Python's `round`.
fn crop(plane: &Plane, width: usize, height: usize) -> Plane {
    let (scaled_width, scaled_height) = if plane.width * height <= plane.height * width {
        (width, (plane.height * width / plane.width).max(height))
    } else {
        ((plane.width * height / plane.height).max(width), height)
    };
    let middle = |rest: usize| rest / 2 + usize::from(rest % 4 == 3);
    let window = Window { left: middle(scaled_width - width), top: middle(scaled_height - height), width, height };
    plane.resample(scaled_width, scaled_height, window)
}

fn pad(plane: &Plane, width: usize, height: usize) -> Plane {
    // Extents are far below 2^53.
    let scale = (width as f64 / plane.width as f64).min(height as f64 / plane.height as f64);
    let (piece_width, piece_height) = (scaled(plane.width, scale).min(width), scaled(plane.height, scale).min(height));
    let at_border = |index: usize| {
        let (row, column) = (index / plane.width, index % plane.width);
        row == 0 || column == 0 || row + 1 == plane.height || column + 1 == plane.width
    };
    let mut border: Vec<u8> =
        plane.pixels.iter().enumerate().filter(|(index, _)| at_border(*index)).map(|(_, &pixel)| pixel).collect();
    let mut pixels = vec![median(&mut border); width * height];
    let whole = Window { left: 0, top: 0, width: piece_width, height: piece_height };
    let piece = plane.resample(piece_width, piece_height, whole);
    let (left, top) = ((width - piece_width) / 2, (height - piece_height) / 2);
    for (row, line) in piece.pixels.chunks_exact(piece_width).enumerate() {
        pixels[(top + row) * width + left..][..piece_width].copy_from_slice(line);
    }
    Plane { width, height, pixels }
}

/// A length under a scale: at least one pixel.
fn scaled(length: usize, scale: f64) -> usize {
    // A cast from a float saturates.
    ((length as f64 * scale).round() as usize).max(1)
}

fn median(values: &mut [u8]) -> u8 {
    if values.is_empty() {
        return 0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests;
