//! What images become, which files are refused, and which have a bright border.

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
