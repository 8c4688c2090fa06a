//! What training does to images, as a run's configuration says it. The device does the work
//! ([`Graph::augment`](crate::Graph::augment)).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ChannelStats;
use crate::ops::{Augment, Border};
use crate::{Error, Result};

/// Random changes to training images. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transforms {
    /// Pixels that images are padded by on each side before a piece of their size is cut out at random. Default 0.
    pub crop_padding: usize,
    /// The probability of a horizontal flip. Default 0.
    pub flip_probability: f64,
    /// Rotations are uniform in ± this many degrees. Default 0.
    pub max_rotation_degrees: f64,
    /// Shifts are uniform in ± this many pixels along each axis. Default 0.
    pub max_shift: f64,
    /// What lies beyond the border. Default black.
    pub border: BorderColor,
}

/// What images are surrounded by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BorderColor {
    /// Black, as torchvision pads: a byte of 0, which is not 0 after normalisation.
    #[default]
    Black,
    /// The nearest pixel.
    Edge,
}

impl Transforms {
    /// Checks the settings for images of this shape, (channels, height, width).
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting.
    pub fn validate(&self, [_, height, width]: [usize; 3]) -> Result<()> {
        let within = |option: &str, value: f64, most: f64| match (0.0..=most).contains(&value) {
            true => Ok(()),
            false => Err(Error::setting(option, format!("a number from 0 to {most}"), value)),
        };
        // Images have extents far below 2^53.
        let longer_side = height.max(width) as f64;
        within("crop_padding", self.crop_padding as f64, longer_side)?;
        within("flip_probability", self.flip_probability, 1.0)?;
        within("max_rotation_degrees", self.max_rotation_degrees, 180.0)?;
        within("max_shift", self.max_shift, longer_side)?;
        let shows_border = self.crop_padding > 0 || self.max_rotation_degrees > 0.0 || self.max_shift > 0.0;
        if self.border == BorderColor::Edge && !shows_border {
            let expected = "crop_padding, max_rotation_degrees or max_shift above 0 with it";
            return Err(Error::setting("border", expected, "none of them"));
        }
        Ok(())
    }

    /// The op's settings for images normalised so; `None` where nothing is changed.
    pub fn augment(&self, normalize: &ChannelStats) -> Option<Augment> {
        let Transforms { crop_padding, flip_probability, max_rotation_degrees, max_shift, border } = *self;
        let border = match border {
            BorderColor::Black => Border::Fill(normalize.black()),
            BorderColor::Edge => Border::Edge,
        };
        let augment = Augment { crop_padding, flip_probability, max_rotation_degrees, max_shift, border };
        (!augment.is_identity()).then_some(augment)
    }
}

impl fmt::Display for Transforms {
    /// Such as "flips with probability 0.5, rotations up to 10°"; nothing where images stay as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transforms { crop_padding, flip_probability, max_rotation_degrees, max_shift, border } = *self;
        let has_border = crop_padding > 0 || max_rotation_degrees > 0.0 || max_shift > 0.0;
        let all = [
            (crop_padding > 0, format!("crops out of {crop_padding} pixels more on each side")),
            (flip_probability > 0.0, format!("flips with probability {flip_probability}")),
            (max_rotation_degrees > 0.0, format!("rotations up to {max_rotation_degrees}°")),
            (max_shift > 0.0, format!("shifts up to {max_shift} pixels")),
            (has_border && border == BorderColor::Edge, "borders of the nearest pixel".to_owned()),
        ];
        let on: Vec<String> = all.into_iter().filter(|(is_on, _)| *is_on).map(|(_, words)| words).collect();
        f.write_str(&on.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_is_what_a_byte_of_0_is_normalised_to_and_nothing_is_no_op() {
        let normalize = ChannelStats { mean: vec![0.5, 0.25], std: vec![0.5, 0.125] };
        assert_eq!(Transforms::default().augment(&normalize), None);
        let crop = Transforms { crop_padding: 4, ..Transforms::default() };
        assert_eq!(crop.augment(&normalize).map(|augment| augment.border), Some(Border::Fill(vec![-1.0, -2.0])));
        let shape = [2, 8, 6];
        assert!(Transforms { flip_probability: 1.5, ..crop }.validate(shape).is_err());
        assert!(Transforms { max_shift: f64::NAN, ..crop }.validate(shape).is_err());
        assert!(Transforms { crop_padding: 9, ..crop }.validate(shape).is_err());
        assert!(crop.validate(shape).is_ok());
    }
}
