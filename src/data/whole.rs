//! Detects truncated PNG and JPEG files. Decoders fill the missing part with grey or black, and a network would
//! classify the result.

use super::content::description;

/// A file that ends where its format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Png,
    /// Whether the image comes in several passes, whose coefficients are kept in memory until the last.
    Jpeg {
        is_progressive: bool,
    },
}

/// Which whole image the bytes are, or what they are instead.
pub(super) fn check(bytes: &[u8]) -> Result<Whole, String> {
    match bytes {
        [] => Err("an empty file".to_owned()),
        [0x89, b'P', b'N', b'G', ..] => {
            let cut = || format!("a PNG image that is cut off after {} bytes", bytes.len());
            png_end(bytes).map(|()| Whole::Png).ok_or_else(cut)
        }
        [0xff, 0xd8, 0xff, ..] => {
            let cut = || format!("a JPEG image that is cut off after {} bytes", bytes.len());
            jpeg_end(bytes).map(|is_progressive| Whole::Jpeg { is_progressive }).ok_or_else(cut)
        }
        _ => Err(description(bytes).unwrap_or("something else").to_owned()),
    }
}

/// Finds the last chunk (PNG specification, section 5): each is a length, a name, its bytes and a checksum.
fn png_end(bytes: &[u8]) -> Option<()> {
    let mut rest = bytes.get(8..)?;
    loop {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        rest = after.get(len.checked_add(4)?..)?;
        if name == b"IEND" {
            return Some(());
        }
    }
}

/// Finds the end-of-image marker (ITU-T T.81, annex B): segments have their length, except for the entropy-coded data
/// after a start of scan, in which a marker's 0xff is never followed by 0 or a restart marker. Says whether the frame
/// is progressive.
fn jpeg_end(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes.get(2..)?;
    let mut is_progressive = false;
    loop {
        // Whatever comes before a marker is padding or damage, which is left to the decoder.
        rest = rest.get(rest.iter().position(|&byte| byte == 0xff)?..)?;
        let marker = *rest.get(1)?;
        rest = match marker {
            0xd9 => return Some(is_progressive),
            0xff => &rest[1..],
            // Stuffed zeros, restarts and a start of image have no length.
            0x00 | 0x01 | 0xd0..=0xd8 => &rest[2..],
            _ => {
                is_progressive |= marker == 0xc2;
                let len = rest.get(2..)?.first_chunk::<2>()?;
                rest.get(2 + usize::from(u16::from_be_bytes(*len))..)?
            }
        };
    }
}
