//! Image files of any size and colour, made into what a network takes. A file is read as a viewer shows it: turned as
//! its EXIF orientation says, transparency over white. Nothing here knows what is in the image; digits are not
//! centred by their mass, as MNIST's were.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, RgbImage};

use crate::{Error, Result};

/// An image file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    rgb: RgbImage,
}

/// How an image of another aspect ratio fills the network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The largest centred piece of that ratio is scaled: what torchvision's `Resize` and `CenterCrop` to one size
    /// give. The ends of the longer side are lost.
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
    /// [`Error::Io`] where it cannot be read; [`Error::Data`] where it is of another format, damaged, or would take
    /// more than 512 MiB in memory.
    pub fn read(path: &Path) -> Result<Photo> {
        let io = Error::io("read", path);
        let reader = match ImageReader::open(path).and_then(ImageReader::with_guessed_format) {
            Ok(reader) => reader,
            Err(error) => return Err(io(error)),
        };
        let decode = || {
            let mut decoder = reader.into_decoder()?;
            let orientation = decoder.orientation()?;
            let mut image = DynamicImage::from_decoder(decoder)?;
            image.apply_orientation(orientation);
            Ok(image)
        };
        match decode() {
            Ok(image) => Ok(Photo { rgb: over_white(&image) }),
            Err(image::ImageError::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Err(io(error))
            }
            Err(error) => Err(Error::data(path, "a whole PNG or JPEG image", error.to_string())),
        }
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

    /// The pixels (C, H, W) of `shape`, 0 to 255; C is 1 (grey by ITU-R BT.601's luma, as Pillow and torchvision have
    /// it) or 3. Scaled with a triangle filter as wide as the source asks for, which is Pillow's `BILINEAR`.
    pub fn fitted(&self, shape: [usize; 3], options: PhotoOptions) -> Vec<u8> {
        let [channels, height, width] = shape;
        // Extents of a network's input are far below 2^32.
        let (width, height) = (width as u32, height as u32);
        let mut planes = self.planes(channels);
        if options.invert {
            planes.iter_mut().flat_map(|plane| plane.iter_mut()).for_each(|pixel| *pixel = 255 - *pixel);
        }
        let fit = match options.fit {
            Fit::Crop => crop,
            Fit::Pad => pad,
        };
        planes.iter().flat_map(|plane| fit(plane, width, height).into_raw()).collect()
    }

    /// The image scaled down so that no side is longer than `side`, as pixels (3, H, W) and their shape; smaller images
    /// stay as they are.
    pub fn thumbnail(&self, side: u32) -> (Vec<u8>, [usize; 3]) {
        let (width, height) = self.size();
        let scale = (f64::from(side) / f64::from(width.max(height))).min(1.0);
        let (width, height) = (scaled(width, scale), scaled(height, scale));
        let planes = self.planes(3).into_iter().flat_map(|plane| resize(&plane, width, height).into_raw());
        (planes.collect(), [3, height as usize, width as usize])
    }

    fn planes(&self, channels: usize) -> Vec<GrayImage> {
        let (width, height) = self.size();
        let plane = |value: &dyn Fn([u8; 3]) -> u8| {
            GrayImage::from_fn(width, height, |x, y| image::Luma([value(self.rgb.get_pixel(x, y).0)]))
        };
        if channels == 1 {
            return vec![plane(&|[r, g, b]| {
                let [r, g, b] = [r, g, b].map(u32::from);
                // At most 255, since the weights sum to 1000.
                ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
            })];
        }
        (0..channels).map(|channel| plane(&|rgb| rgb[channel % 3])).collect()
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

fn over_white(image: &DynamicImage) -> RgbImage {
    let rgba = image.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, alpha] = rgba.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        // A mean of two bytes, rounded.
        image::Rgb([r, g, b].map(|color| ((u32::from(color) * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

fn crop(plane: &GrayImage, width: u32, height: u32) -> GrayImage {
    let (have_width, have_height) = plane.dimensions();
    let scale = (f64::from(have_width) / f64::from(width)).min(f64::from(have_height) / f64::from(height));
    let (piece_width, piece_height) = (scaled(width, scale).min(have_width), scaled(height, scale).min(have_height));
    let (left, top) = ((have_width - piece_width) / 2, (have_height - piece_height) / 2);
    resize(&imageops::crop_imm(plane, left, top, piece_width, piece_height).to_image(), width, height)
}

fn pad(plane: &GrayImage, width: u32, height: u32) -> GrayImage {
    let (have_width, have_height) = plane.dimensions();
    let scale = (f64::from(width) / f64::from(have_width)).min(f64::from(height) / f64::from(have_height));
    let (piece_width, piece_height) = (scaled(have_width, scale).min(width), scaled(have_height, scale).min(height));
    let at_border = |x: u32, y: u32| x == 0 || y == 0 || x + 1 == have_width || y + 1 == have_height;
    let mut border: Vec<u8> =
        plane.enumerate_pixels().filter(|(x, y, _)| at_border(*x, *y)).map(|(_, _, pixel)| pixel.0[0]).collect();
    let mut sheet = GrayImage::from_pixel(width, height, image::Luma([median(&mut border)]));
    let (left, top) = ((width - piece_width) / 2, (height - piece_height) / 2);
    imageops::replace(&mut sheet, &resize(plane, piece_width, piece_height), left.into(), top.into());
    sheet
}

fn resize(plane: &GrayImage, width: u32, height: u32) -> GrayImage {
    if plane.dimensions() == (width, height) {
        // The filter would blur nothing, but a copy is a copy for sure.
        return plane.clone();
    }
    imageops::resize(plane, width, height, FilterType::Triangle)
}

/// A length under a scale: at least one pixel.
fn scaled(length: u32, scale: f64) -> u32 {
    // A cast from a float saturates.
    ((f64::from(length) * scale).round() as u32).max(1)
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
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;
    use crate::data::bundled;

    /// White on the left, red in the middle, black on the right, each 4×4.
    fn flag() -> Photo {
        let pixel = |index: usize| match index % 12 / 4 {
            0 => [255, 255, 255],
            1 => [255, 0, 0],
            _ => [0, 0, 0],
        };
        Photo::from_rgb(12, 4, (0..48).flat_map(pixel).collect()).unwrap()
    }

    #[test]
    fn a_crop_keeps_the_middle_and_padding_the_whole() {
        let red = flag().fitted([3, 4, 4], PhotoOptions::default());
        assert_eq!(red, [[255; 16], [0; 16], [0; 16]].concat());
        // Red is 76 of 255 by BT.601.
        assert_eq!(flag().fitted([1, 2, 2], PhotoOptions::default()), [76; 4]);
        let inverted = flag().fitted([1, 2, 2], PhotoOptions { invert: true, ..PhotoOptions::default() });
        assert_eq!(inverted, [179; 4]);

        let padded = flag().fitted([1, 12, 12], PhotoOptions { fit: Fit::Pad, invert: false });
        let row = |row: usize| padded[12 * row..12 * (row + 1)].to_vec();
        let middle = [[255; 4], [76; 4], [0; 4]].concat();
        assert!((4..8).all(|index| row(index) == middle), "{padded:?}");
        // 8 of the border's 28 pixels are red, 10 white and 10 black: the median is red.
        assert!([0, 3, 8, 11].iter().all(|&index| row(index) == [76; 12]), "{padded:?}");
    }

    #[test]
    fn an_image_of_the_networks_size_stays_as_it_is_and_extremes_are_no_trouble() {
        let image: Vec<u8> = (0..28 * 28).map(|index| (index * 7 % 251) as u8).collect();
        let rgb = image.iter().flat_map(|&value| [value; 3]).collect();
        let photo = Photo::from_rgb(28, 28, rgb).unwrap();
        for fit in [Fit::Crop, Fit::Pad] {
            assert_eq!(photo.fitted([1, 28, 28], PhotoOptions { fit, invert: false }), image);
            for (width, height) in [(1, 1), (1, 5000), (5000, 1)] {
                let photo = Photo::from_rgb(width, height, vec![200; (width * height * 3) as usize]).unwrap();
                assert_eq!(photo.fitted([3, 32, 32], PhotoOptions { fit, invert: false }), [200; 3 * 32 * 32]);
            }
        }
        assert!(Photo::from_rgb(0, 4, vec![]).is_err() && Photo::from_rgb(2, 2, vec![0; 11]).is_err());
    }

    #[test]
    fn files_are_read_as_a_viewer_shows_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.png");
        let pixels = [[0, 0, 0, 0], [0, 0, 0, 255], [100, 100, 100, 128], [9, 8, 7, 255]];
        RgbaImage::from_fn(4, 1, |x, _| Rgba(pixels[x as usize])).save(&path).unwrap();
        let photo = Photo::read(&path).unwrap();
        let (thumbnail, shape) = photo.thumbnail(64);
        assert_eq!(shape, [3, 1, 4]);
        assert_eq!(thumbnail, [255, 0, 177, 9, 255, 0, 177, 8, 255, 0, 177, 7]);
        assert_eq!(photo.thumbnail(2).1, [3, 1, 2]);

        // A PNG by its first bytes, whatever its name ends in.
        std::fs::rename(&path, folder.path().join("image.jpg")).unwrap();
        assert_eq!(Photo::read(&folder.path().join("image.jpg")).unwrap(), photo);
        let bytes = std::fs::read(folder.path().join("image.jpg")).unwrap();
        for (contents, what) in [(&bytes[..40], "cut short"), (b"no image at all", "a text"), (b"", "nothing")] {
            std::fs::write(&path, contents).unwrap();
            let error = Photo::read(&path).unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{what}: {error}");
        }
        assert!(matches!(Photo::read(&folder.path().join("none.png")).unwrap_err(), Error::Io { .. }));
    }

    #[test]
    fn a_picture_turned_by_its_exif_orientation_is_turned_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turned.jpg");
        let wide = RgbImage::from_fn(32, 16, |x, _| image::Rgb([if x < 16 { 255 } else { 0 }; 3]));
        wide.save(&path).unwrap();
        // APP1 with one tag, orientation 6: the first row is the right-hand side, so it is shown turned clockwise.
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut bytes = std::fs::read(&path).unwrap();
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        bytes.splice(2..2, [&[0xff, 0xe1], &length[..], exif].concat());
        std::fs::write(&path, bytes).unwrap();
        let photo = Photo::read(&path).unwrap();
        assert_eq!(photo.size(), (16, 32));
        let pixels = photo.thumbnail(32).0;
        assert!(pixels[0] > 250 && pixels[16 * 31] < 5, "white on top");
    }

    #[test]
    fn paper_is_told_from_the_background_of_training_images() {
        let data = bundled::fashion_mnist().unwrap().test;
        let shape = data.shape();
        let bright = |invert: u8| {
            let image = |pixels: &[u8]| -> Vec<u8> { pixels.iter().map(|pixel| pixel ^ invert).collect() };
            data.images().filter(|pixels| has_bright_border(&image(pixels), shape)).count()
        };
        let (wrong, right) = (bright(0), bright(255));
        assert!(wrong * 200 < data.len() && right * 100 > 99 * data.len(), "{wrong} and {right} of {}", data.len());
    }
}
