//! What a pixel becomes before the first layer: `(pixel / 255 − mean[c]) / std[c]`. The device computes it while it
//! gathers a batch; this module only says which constants it uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Dataset, DatasetName};
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
    /// Mean 0 and deviation 1: pixels are only scaled to 0..1.
    None,
    /// Mean 0.5 and deviation 0.5: pixels from −1 to 1.
    Half,
    /// The published constants of the data set's training images.
    #[default]
    Dataset,
}

impl Normalize {
    /// The constants for a data set. The `dataset` ones: MNIST .1307/.3081; FashionMNIST .2860/.3530; CIFAR-10
    /// (.4914, .4822, .4465)/(.2470, .2435, .2616), the deviation over all pixels, not the widely copied .2023 and so
    /// on, which is the mean of each image's own.
    pub fn stats(self, name: DatasetName) -> ChannelStats {
        let num_channels = name.image_shape()[0];
        let same = |mean, std| ChannelStats { mean: vec![mean; num_channels], std: vec![std; num_channels] };
        match (self, name) {
            (Normalize::None, _) => same(0.0, 1.0),
            (Normalize::Half, _) => same(0.5, 0.5),
            (Normalize::Dataset, DatasetName::Mnist) => same(0.1307, 0.3081),
            (Normalize::Dataset, DatasetName::FashionMnist) => same(0.2860, 0.3530),
            (Normalize::Dataset, DatasetName::Cifar10) => {
                ChannelStats { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2470, 0.2435, 0.2616] }
            }
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
    /// See [`Dataset::statistics`].
    pub(super) fn of(dataset: &Dataset) -> Result<Self> {
        let [num_channels, height, width] = dataset.shape;
        if dataset.is_empty() {
            return Err(Error::operand("statistics", "at least one image", "none"));
        }
        // Integer sums are exact, so the variance as E[x²] − E[x]² loses nothing.
        let (mut sums, mut squares) = (vec![0u64; num_channels], vec![0u64; num_channels]);
        for (index, plane) in dataset.images.chunks_exact(height * width).enumerate() {
            for &pixel in plane {
                sums[index % num_channels] += u64::from(pixel);
                squares[index % num_channels] += u64::from(pixel).pow(2);
            }
        }
        let count = (dataset.len() * height * width) as u128;
        let mean = sums.iter().map(|&sum| sum as f64 / count as f64 / 255.0).collect();
        let std = sums.iter().zip(&squares).map(|(&sum, &square)| {
            let variance = count * u128::from(square) - u128::from(sum).pow(2);
            (variance as f64).sqrt() / count as f64 / 255.0
        });
        Ok(ChannelStats { mean, std: std.collect() })
    }
}
