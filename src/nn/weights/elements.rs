//! The element types of model files: those of PyTorch's `half()`, `bfloat16()` and `double()` become 32-bit floats.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use crate::exec::StateDict;
use crate::tensor::{Tensor, TensorData};
use crate::{Error, Result};

/// What models may hold, in messages.
pub(super) const FLOATS: &str = "floating-point numbers (F32, F16, BF16 or F64)";

/// The elements of a stored tensor; 16-bit floats, all of which are 32-bit floats too, as those. `None` for types that
/// no state has.
pub(super) fn elements(view: &TensorView<'_>) -> Option<TensorData> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => TensorData::F32(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
        Dtype::F64 => TensorData::F64(bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()),
        Dtype::F16 => TensorData::F32(halves(bytes).map(from_f16).collect()),
        Dtype::BF16 => TensorData::F32(halves(bytes).map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        Dtype::U32 => TensorData::U32(bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()),
        Dtype::U8 => TensorData::U8(bytes.to_vec()),
        _ => return None,
    })
}

/// Tensors of 64-bit floats rounded to 32 bits.
///
/// # Errors
/// [`Error::Data`] where a tensor holds no floating-point numbers, or one beyond the largest of 32 bits.
pub(super) fn as_f32(path: &Path, tensors: StateDict) -> Result<StateDict> {
    let narrowed = |(name, tensor): (String, Tensor)| {
        let tensor = match tensor.data() {
            TensorData::F32(_) => tensor,
            TensorData::F64(values) => {
                // Narrowing rounds to nearest, and gives an infinity where that is beyond the largest.
                let is_too_large = |value: &&f64| value.is_finite() && !(**value as f32).is_finite();
                if let Some(value) = values.iter().find(is_too_large) {
                    let expected = format!("numbers up to {:e}, the largest of 32 bits", f32::MAX);
                    return Err(Error::data(path, expected, format!("{value:e} in tensor \"{name}\"")));
                }
                Tensor::f32(tensor.shape().clone(), values.iter().map(|&value| value as f32).collect::<Vec<f32>>())?
            }
            _ => {
                let got = format!("{:?} in tensor \"{name}\"", super::dtype(&tensor));
                return Err(Error::data(path, FLOATS, got));
            }
        };
        Ok((name, tensor))
    };
    tensors.into_iter().map(narrowed).collect()
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes))
}

/// The value of an IEEE 754 binary16: 5 bits of exponent with a bias of 15, 10 of the fraction.
fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) =
        (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Subnormal: multiples of 2⁻²⁴, which are normal in 32 bits.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        0x1f => f32::from_bits(sign | 0xff << 23 | fraction << 13),
        // The bias of 32 bits is 127.
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use safetensors::tensor::serialize;

    use super::*;
    use crate::nn::weights::{ModelFile, from_bytes};

    /// A file of another program with one tensor.
    fn read(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
        let num_elems = bytes.len() * 8 / dtype.bitsize();
        let view = TensorView::new(dtype, vec![num_elems], bytes).unwrap();
        let file = serialize([("w", view)], None).unwrap();
        let ModelFile { tensors, .. } = from_bytes(Path::new("model.safetensors"), &file)?;
        Ok(tensors["w"].to_f32_vec())
    }

    fn read_halves(dtype: Dtype, bits: &[u16]) -> Vec<f32> {
        read(dtype, &bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>()).unwrap()
    }

    #[test]
    fn half_precision_is_read_as_it_is() {
        // torch.tensor([…], dtype=torch.float16).view(torch.int16) of each value.
        let bits = [0x3c00, 0xc000, 0x3555, 0x7bff, 0x0400, 0x0001, 0x83ff, 0x0000, 0x7c00, 0xfc00];
        let want = [
            1.0,
            -2.0,
            0.333_251_95,
            65504.0,
            6.103_515_6e-5,
            5.960_464_5e-8,
            -6.097_555e-5,
            0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        assert_eq!(read_halves(Dtype::F16, &bits), want);
        assert_eq!(read_halves(Dtype::F16, &[0x8000])[0].to_bits(), (-0.0_f32).to_bits());
        assert!(read_halves(Dtype::F16, &[0x7e00])[0].is_nan());
        // The same of torch.bfloat16.
        let want = [1.0, -2.0, 0.333_984_38, 3.389_531_4e38];
        assert_eq!(read_halves(Dtype::BF16, &[0x3f80, 0xc000, 0x3eab, 0x7f7f]), want);
    }

    #[test]
    fn every_half_survives() {
        // Each finite value of binary16 is its sign times its integer times a power of two, exactly.
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            let significand = if exponent == 0 { fraction } else { fraction + 1024.0 };
            let size = significand * libm::exp2(f64::from(exponent.max(1) - 25));
            if exponent < 0x1f {
                let want = if bits >> 15 == 1 { -size } else { size };
                assert_eq!(f64::from(from_f16(bits)), want, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn double_precision_is_rounded_where_it_fits() {
        let doubles = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let values = [0.1, -1e-60, f64::from(f32::MAX), f64::INFINITY];
        assert_eq!(read(Dtype::F64, &doubles(&values)).unwrap(), [0.1_f32, -0.0, f32::MAX, f32::INFINITY]);
        let error = read(Dtype::F64, &doubles(&[1.0, -1e39])).unwrap_err().to_string();
        assert!(error.contains("numbers up to 3.4028235e38") && error.contains("-1e39 in tensor \"w\""), "{error}");
    }

    #[test]
    fn other_types_are_refused() {
        for dtype in [Dtype::I64, Dtype::U8, Dtype::U32] {
            let error = read(dtype, &[0; 8]).unwrap_err().to_string();
            assert!(error.contains(FLOATS) && error.contains(&format!("{dtype:?} in tensor \"w\"")), "{error}");
        }
    }
}
