//! What a pixel becomes before the first layer: `(pixel / 255 − mean[c]) / std[c]`. This module alone knows the
//! formula's constants: what they are ([`Normalize`]), and what follows from them on the host
//! ([`ChannelStats::apply`]), on the device ([`ChannelStats::gather`], whose kernel computes it), in an ONNX file
//! ([`ChannelStats::of_bytes`]) and for the black around an image ([`ChannelStats::black`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::ops::GatherBatch;
use crate::{Error, Result};

/// A mean and a standard deviation for each channel, of pixels scaled to 0..1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelStats {
    /// Means (C).
    pub mean: Vec<f64>,
    /// Standard deviations (C).
    pub std: Vec<f64>,
}

/// Which constants pixels are normalised with (torchvision's `ToTensor`, then `Normalize(mean, std)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Mean 0 and standard deviation 1: pixels are only scaled to 0..1.
    None,
    /// Mean 0.5 and standard deviation 0.5: pixels from −1 to 1.
    Half,
    /// Those of the data set's training images: the published constants, or computed from the images.
    #[default]
    Dataset,
}

impl Normalize {
    /// The constants for a data set. The `dataset` ones are the published ones of its [`Source`](super::Source); where
    /// there are none, those of all images of the training split, whichever part of it `data` is; for arrays, those of
    /// `data` itself. A channel that is the same in every pixel gets a standard deviation of 1.
    ///
    /// # Errors
    /// [`Error::Operand`] where they are computed from no images.
    pub fn stats(self, data: &Dataset) -> Result<ChannelStats> {
        let [num_channels, ..] = data.shape();
        let same = |mean, std| ChannelStats { mean: vec![mean; num_channels], std: vec![std; num_channels] };
        match (self, data.stats()) {
            (Normalize::None, _) => Ok(same(0.0, 1.0)),
            (Normalize::Half, _) => Ok(same(0.5, 0.5)),
            (Normalize::Dataset, Some(stats)) => Ok(stats.clone().usable()),
            (Normalize::Dataset, None) => Ok(data.statistics()?.usable()),
        }
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Normalize::None => "none",
            Normalize::Half => "half",
            Normalize::Dataset => "dataset",
        })
    }
}

impl FromStr for Normalize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Normalize::None, Normalize::Half, Normalize::Dataset]
            .into_iter()
            .find(|normalize| normalize.to_string() == text)
            .ok_or_else(|| Error::setting("normalize", "none, half or dataset", text))
    }
}

impl ChannelStats {
    /// For the device's gather, which normalises a batch while it collects it.
    pub fn gather(&self) -> GatherBatch {
        GatherBatch { mean: self.mean.clone(), std: self.std.clone() }
    }

    /// (mean, std) of each channel on the scale of bytes, 0 to 255: `(byte − mean) / std` is the same number.
    pub fn of_bytes(&self) -> Vec<(f64, f64)> {
        self.mean.iter().zip(&self.std).map(|(mean, std)| (255.0 * mean, 255.0 * std)).collect()
    }

    /// What a byte of 0 becomes in each channel: the black around an image.
    pub fn black(&self) -> Vec<f64> {
        self.mean.iter().zip(&self.std).map(|(mean, std)| -mean / std).collect()
    }

    /// Images (C, H, W) as floats, one after another; in f32, as the device computes.
    ///
    /// # Errors
    /// [`Error::Operand`] where there are not as many statistics as channels.
    pub(super) fn apply<'a>(&self, images: impl Iterator<Item = &'a [u8]>, num_channels: usize) -> Result<Vec<f32>> {
        if self.mean.len() != num_channels || self.std.len() != num_channels {
            let got = format!("{} and {}", self.mean.len(), self.std.len());
            let expected = format!("means and standard deviations of {num_channels} channels");
            return Err(Error::operand("normalize", expected, got));
        }
        let scale: Vec<(f32, f32)> =
            self.mean.iter().zip(&self.std).map(|(&mean, &std)| (mean as f32, std as f32)).collect();
        let mut floats = Vec::new();
        for image in images {
            for (plane, &(mean, std)) in image.chunks_exact(image.len() / num_channels).zip(&scale) {
                floats.extend(plane.iter().map(|&pixel| (f32::from(pixel) / 255.0 - mean) / std));
            }
        }
        Ok(floats)
    }

    /// The same with 1 for a standard deviation of 0, by which nothing can be divided.
    fn usable(mut self) -> ChannelStats {
        self.std.iter_mut().filter(|std| **std == 0.0).for_each(|std| *std = 1.0);
        self
    }
}

impl Dataset {
    /// The mean and standard deviation (divided by the count, not the count less one) of each channel's pixels, scaled
    /// to 0..1. Integer sums make them the same in any order.
    ///
    /// # Errors
    /// [`Error::Operand`] if there are no images.
    pub fn statistics(&self) -> Result<ChannelStats> {
        let [num_channels, height, width] = self.shape();
        if self.is_empty() {
            return Err(Error::operand("statistics", "at least one image", "none"));
        }
        // Integer sums are exact, so the variance as E[x²] − E[x]² loses nothing.
        let (mut sums, mut squares) = (vec![0u64; num_channels], vec![0u64; num_channels]);
        for image in self.images() {
            for (channel, plane) in image.chunks_exact(height * width).enumerate() {
                for &pixel in plane {
                    sums[channel] += u64::from(pixel);
                    squares[channel] += u64::from(pixel).pow(2);
                }
            }
        }
        let count = (self.len() * height * width) as u128;
        let mean = sums.iter().map(|&sum| sum as f64 / count as f64 / 255.0).collect();
        let std = sums.iter().zip(&squares).map(|(&sum, &square)| {
            let variance = count * u128::from(square) - u128::from(sum).pow(2);
            (variance as f64).sqrt() / count as f64 / 255.0
        });
        Ok(ChannelStats { mean, std: std.collect() })
    }
}
