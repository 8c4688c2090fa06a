//! The sizes of a convolution, from the shapes of what it reads.

use super::Conv2d;
use crate::ops::count_ops;
use crate::ops::nn::pool2d::MAX_EXTENT;
use crate::tensor::{MAX_ELEMS, Shape};
use crate::{Error, Result};

/// All sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub batch: usize,
    pub in_channels: usize,
    pub input: [usize; 2],
    pub out_channels: usize,
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub conv: Conv2d,
}

impl Geometry {
    /// Input channels that one output channel sees.
    pub fn group_in(&self) -> usize {
        self.in_channels / self.conv.groups
    }

    pub fn group_out(&self) -> usize {
        self.out_channels / self.conv.groups
    }

    /// Products summed into one output.
    pub fn patch_elems(&self) -> usize {
        self.group_in() * self.kernel[0] * self.kernel[1]
    }

    /// What the error of a sum of so many products grows with. Winograd's filtering of 3×3 and 5×5 kernels, by which f32
    /// may be computed on the CPU, is off by some three or four times what a direct sum is: by as much as one of nine or 16
    /// times the terms.
    pub fn error_terms(&self, num_products: usize) -> usize {
        let Conv2d { stride, dilation, .. } = self.conv;
        match self.kernel {
            _ if stride != [1, 1] || dilation != [1, 1] => num_products,
            [3, 3] => 9 * num_products,
            [5, 5] => 16 * num_products,
            _ => num_products,
        }
    }

    pub fn in_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub fn out_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    pub fn flops(&self) -> u64 {
        let num_outputs = self.batch * self.out_channels * self.out_pixels();
        count_ops([2, num_outputs, self.patch_elems()])
    }
}

impl Conv2d {
    /// The sizes for an input (N, C, H, W) and a weight (O, C/groups, KH, KW), or what does not fit.
    pub(in crate::ops::nn) fn geometry(&self, input: &Shape, weight: &Shape) -> Result<Geometry> {
        let wrong = |expected: String, got: String| Error::operand("conv2d", expected, got);
        let (&[batch, in_channels, h, w], &[out_channels, group_in, kh, kw]) = (input.dims(), weight.dims()) else {
            let got = format!("{input} and {weight}");
            return Err(wrong("an input (N, C, H, W) and a weight (O, C/groups, KH, KW)".into(), got));
        };
        if self.groups == 0 || self.stride.contains(&0) || self.dilation.contains(&0) {
            return Err(wrong("groups, stride and dilation of at least 1".into(), format!("{self:?}")));
        }
        if in_channels % self.groups != 0 || out_channels % self.groups != 0 || in_channels / self.groups != group_in {
            let expected =
                format!("{in_channels} input channels in {} groups, each as wide as the weight", self.groups);
            return Err(wrong(expected, format!("a weight of shape {weight}")));
        }
        let extent = |axis: usize, size: usize, kernel: usize| {
            let reach = self.dilation[axis].checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
            let padded = self.padding[axis].checked_mul(2)?.checked_add(size)?;
            let fits = padded.max(self.stride[axis]) <= MAX_EXTENT;
            fits.then_some(padded.checked_sub(reach)? / self.stride[axis] + 1)
        };
        let (Some(out_h), Some(out_w)) = (extent(0, h, kh), extent(1, w, kw)) else {
            let expected =
                format!("a kernel, dilated by {:?}, within {input} padded by {:?}", self.dilation, self.padding);
            let at_most = match self.stride.into_iter().chain(self.padding).max() {
                Some(most) if most > MAX_EXTENT / 2 => format!(", with extents and strides of at most {MAX_EXTENT}"),
                _ => String::new(),
            };
            return Err(wrong(expected + &at_most, format!("a weight of shape {weight}")));
        };
        // Kernels for the CPU pad an image at a time.
        let padded = [in_channels, h + 2 * self.padding[0], w + 2 * self.padding[1]];
        if padded.into_iter().try_fold(1, usize::checked_mul).is_none_or(|elems| elems > MAX_ELEMS) {
            let expected = format!("an image that has at most {MAX_ELEMS} elements with its padding");
            return Err(wrong(expected, format!("{input} padded by {:?}", self.padding)));
        }
        Ok(Geometry {
            batch,
            in_channels,
            input: [h, w],
            out_channels,
            output: [out_h, out_w],
            kernel: [kh, kw],
            conv: *self,
        })
    }
    pub(super) fn checked(&self, input: &Shape, weight: &Shape) -> Geometry {
        self.geometry(input, weight).expect("infer checked the shapes")
    }
}
