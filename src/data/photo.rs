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
        assert_eq!(flag().fitted([1, 4, 4], PhotoOptions::default()), [76; 16]);
        // The filter is as wide as the scale, so cropped pixels contribute to the rest, as in torchvision.
        assert_eq!(flag().fitted([1, 2, 2], PhotoOptions::default()), [98, 67, 98, 67]);
        let inverted = flag().fitted([1, 4, 4], PhotoOptions { invert: true, ..PhotoOptions::default() });
        assert_eq!(inverted, [179; 16]);

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
        let html = b"<!doctype html><title>404</title>";
        for (contents, what) in [
            (&bytes[..40], "a PNG image that is cut off after 40 bytes"),
            (b"no image at all", "got text"),
            (html, "an HTML page"),
            (b"", "an empty file"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xaeB`\x82", "IHDR"),
        ] {
            std::fs::write(&path, contents).unwrap();
            let error = Photo::read(&path).unwrap_err();
            assert!(matches!(error, Error::Data { .. }) && error.to_string().contains(what), "{what}: {error}");
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

    /// A PNG or JPEG of noise, so that its data is long.
    fn noise(format: image::ImageFormat) -> Vec<u8> {
        let value = |x: u32, y: u32| (x * 97 + y * 61 + x * y * 13) as u8;
        let image = RgbImage::from_fn(48, 40, |x, y| image::Rgb([value(x, y), value(y, x), 7]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_refused() {
        for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg] {
            let whole = noise(format);
            let decode = |bytes: &[u8]| Photo::decode(Path::new("photo"), bytes);
            assert_eq!(decode(&whole).unwrap().size(), (48, 40));
            for cut in 0..whole.len() - 1 {
                let error = decode(&whole[..cut]).unwrap_err();
                assert!(matches!(error, Error::Data { .. }), "{format:?} after {cut} bytes: {error}");
            }
            // Cameras put a film after the image.
            assert!(decode(&[&whole[..], b"film"].concat()).is_ok(), "{format:?}");
        }
    }

    #[test]
    fn an_image_that_would_take_too_much_memory_is_refused_before_it_is_decoded() {
        // Only the header of a 20,000×20,000 grey PNG: what follows would be an error if it were read.
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |name: &[u8; 4], body: &[u8]| {
            let mut crc = crc32fast::Hasher::new();
            crc.update(name);
            crc.update(body);
            let len = u32::try_from(body.len()).unwrap().to_be_bytes();
            bytes.extend([&len[..], name, body, &crc.finalize().to_be_bytes()].concat());
        };
        let side = 20_000_u32.to_be_bytes();
        chunk(b"IHDR", &[&side[..], &side, &[8, 0, 0, 0, 0]].concat());
        chunk(b"IDAT", b"nothing of use");
        chunk(b"IEND", b"");
        let error = Photo::decode(Path::new("huge.png"), &bytes).unwrap_err().to_string();
        assert!(error.contains("20000×20000") && error.contains("1525 MiB") && error.contains("512 MiB"), "{error}");
    }

    #[test]
    fn crops_are_those_of_torchvision() {
        // Width, height, size; then the first row, the checksum of the grey image and of the colour planes that Pillow
        // 12 gives for `Resize(size)` and `CenterCrop(size)`; the rest beside the crop is odd in most.
        let cases: [(u32, u32, usize, [u8; 6], u32, u32); 6] = [
            (33, 20, 6, [104, 129, 116, 121, 109, 133], 0xb33d_3f5f, 0xff7c_9bd2),
            (13, 31, 8, [62, 125, 149, 72, 101, 148], 0xa420_5e18, 0xf420_5139),
            (5, 7, 12, [14, 18, 31, 43, 50, 56], 0xafd5_0bbe, 0xfa67_4222),
            (9, 4, 4, [53, 64, 76, 88, 62, 77], 0xa181_a835, 0xf9ba_7b5f),
            (50, 8, 7, [66, 74, 88, 102, 114, 129], 0x17f6_dd3b, 0xebdf_fd6e),
            (11, 6, 6, [53, 64, 76, 88, 100, 35], 0x0450_f6d5, 0x539a_d12a),
        ];
        for (width, height, size, first, grey, colour) in cases {
            let pixel = |index: u32| {
                let (x, y) = (index % width, index / width);
                [x * 37 + y * 11, x * y * 5 + 3 * x, (255 + y * y).wrapping_sub(x * 9)].map(|value| value as u8)
            };
            let photo = Photo::from_rgb(width, height, (0..width * height).flat_map(pixel).collect()).unwrap();
            let fitted = |channels| photo.fitted([channels, size, size], PhotoOptions::default());
            assert_eq!(fitted(1)[..6], first, "{width}×{height}");
            let checksums = [1, 3].map(|channels| crc32fast::hash(&fitted(channels)));
            assert_eq!(checksums, [grey, colour], "{width}×{height}");
        }
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
