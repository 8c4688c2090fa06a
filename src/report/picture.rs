//! A finished picture, and its file.

use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use crate::{Error, Result, files};

/// A finished picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    image: RgbImage,
}

impl Picture {
    pub(super) fn of(image: RgbImage) -> Picture {
        Picture { image }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.image.width()
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.image.height()
    }

    /// Red, green and blue of every pixel, row by row.
    pub fn rgb(&self) -> &[u8] {
        self.image.as_raw()
    }

    /// Reads a picture back that [`Picture::save`] wrote, or any other PNG file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] where it is no picture.
    pub fn open(path: &Path) -> Result<Picture> {
        let bytes = files::read(path).map_err(Error::io("read", path))?;
        let image = image::load_from_memory(&bytes)
            .map_err(|error| Error::data(path, "a picture in PNG", error.to_string()))?;
        Ok(Picture { image: image.into_rgb8() })
    }

    /// Writes the picture to a PNG file, and makes its folder where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            files::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        files::write_whole(path, &self.png())
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
            .write_image(self.image.as_raw(), self.width(), self.height(), ExtendedColorType::Rgb8)
            .expect("a picture's buffer has its size, and memory takes what is written to it");
        bytes
    }
}
