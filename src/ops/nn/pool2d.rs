//! What pooling ops share: where windows lie along an axis, the parameters of kernels, and how planes are handed to threads.

use crate::ops::cpu::{Float, parallel};
use crate::ops::kernel::{params, to_u32};
use crate::tensor::Shape;
use crate::{Error, Result};

/// Invocations in a workgroup.
pub(super) const WORKGROUP_SIZE: u32 = 64;

/// The most cells of an axis with its padding: kernels for GPUs compute places in 32 bits, with a sign.
pub(super) const MAX_EXTENT: usize = i32::MAX as usize;

/// Planes that a thread takes at a time: a plane of a late layer is a few dozen elements, too little for one hand-over.
const PLANES_PER_PIECE: usize = 16;

params! {
    /// Those of lib/pool2d.wgsl.
    pub(super) struct Params {
        num_elems: u32,
        input_height: u32,
        input_width: u32,
        output_height: u32,
        output_width: u32,
        kernel_height: u32,
        kernel_width: u32,
        stride_y: u32,
        stride_x: u32,
        padding_y: u32,
        padding_x: u32,
        dilation_y: u32,
        dilation_x: u32,
        count_padding: u32,
        divisor: u32,
    }
}

impl Params {
    /// For so many invocations, with 0 for what means count and divide by.
    pub fn of(num_elems: usize, input: &Shape, output: &Shape, [vertical, horizontal]: [Windows; 2]) -> Params {
        Params {
            num_elems: to_u32(num_elems),
            input_height: to_u32(input[2]),
            input_width: to_u32(input[3]),
            output_height: to_u32(output[2]),
            output_width: to_u32(output[3]),
            kernel_height: to_u32(vertical.kernel_size),
            kernel_width: to_u32(horizontal.kernel_size),
            stride_y: to_u32(vertical.stride),
            stride_x: to_u32(horizontal.stride),
            padding_y: to_u32(vertical.padding),
            padding_x: to_u32(horizontal.padding),
            dilation_y: to_u32(vertical.dilation),
            dilation_x: to_u32(horizontal.dilation),
            count_padding: 0,
            divisor: 0,
        }
    }
}

/// Height and width of a shape (N, C, H, W).
pub(super) fn plane(shape: &Shape) -> [usize; 2] {
    [shape[2], shape[3]]
}

/// Windows along one axis of the input, as pooling and convolution position them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub kernel_size: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
    pub ceil_mode: bool,
}

impl Windows {
    /// From the first cell of a window to its last, both included. Where that is more than can be counted, no axis has room.
    fn extent(&self) -> usize {
        self.dilation.saturating_mul(self.kernel_size - 1).saturating_add(1)
    }

    /// The number of windows over an axis of `input` cells. With `ceil_mode` a last window may reach beyond the
    /// padding, but not start in the padding after the input (PyTorch's `pooling_output_shape`).
    pub fn count(&self, op: &str, input: usize) -> Result<usize> {
        let Windows { kernel_size, stride, padding, dilation, ceil_mode } = *self;
        if kernel_size == 0 || stride == 0 || dilation == 0 {
            let got = format!("kernel size {kernel_size}, stride {stride}, dilation {dilation}");
            return Err(Error::operand(op, "a kernel size, stride and dilation of at least 1", got));
        }
        if padding > self.extent() / 2 {
            let expected = format!("a padding of at most half the window's extent of {}", self.extent());
            return Err(Error::operand(op, expected, padding.to_string()));
        }
        let room = input.saturating_add(2 * padding).saturating_add(if ceil_mode { stride - 1 } else { 0 });
        if room.max(stride) > MAX_EXTENT {
            let got = format!("{input} cells, padding {padding}, stride {stride}");
            return Err(Error::operand(op, format!("an axis and a stride of at most {MAX_EXTENT} cells"), got));
        }
        if input == 0 || room < self.extent() {
            let expected = format!("an axis that a window of extent {} fits, padding included", self.extent());
            return Err(Error::operand(op, expected, format!("{input} cells with a padding of {padding}")));
        }
        let count = (room - self.extent()) / stride + 1;
        let starts_behind = ceil_mode && (count - 1) * stride >= input + padding;
        let count = count - usize::from(starts_behind);
        match (0..count).find(|&window| self.cells(window, input).next().is_none()) {
            // A dilated kernel can step over a short axis; there is nothing to pool then.
            Some(window) => {
                let got = format!("window {window} of {self:?} over {input} cells");
                Err(Error::operand(op, "windows that each meet the input", got))
            }
            None => Ok(count),
        }
    }

    /// The cells of the input that a window covers, padding left out, in rising order.
    #[inline]
    pub fn cells(&self, window: usize, input: usize) -> impl Iterator<Item = usize> + use<> {
        let Windows { kernel_size, stride, padding, dilation, .. } = *self;
        let start = window * stride;
        // Not one by one: a kernel may be far longer than the axis.
        let first = if start < padding { (padding - start).div_ceil(dilation) } else { 0 };
        (first..kernel_size).map(move |k| start + k * dilation - padding).take_while(move |&at| at < input)
    }
}

/// Calls `body(plane, values)` for each plane of an array, in parallel where that pays: `cost` is roughly how many simple
/// operations go into an element.
pub(super) fn for_planes<F: Float>(
    values: &mut [F],
    plane_elems: usize,
    cost: usize,
    body: impl Fn(usize, &mut [F]) + Send + Sync,
) {
    parallel::for_chunks(
        values,
        PLANES_PER_PIECE * plane_elems,
        cost,
        #[inline(always)]
        |piece, values| {
            for (plane, values) in values.chunks_exact_mut(plane_elems).enumerate() {
                body(piece * PLANES_PER_PIECE + plane, values);
            }
        },
    );
}

/// [`for_planes`] over two arrays of planes of the same length.
pub(super) fn for_plane_pairs<F: Float>(
    values: &mut [F],
    indices: &mut [u32],
    plane_elems: usize,
    cost: usize,
    body: impl Fn(usize, &mut [F], &mut [u32]) + Send + Sync,
) {
    let piece_elems = PLANES_PER_PIECE * plane_elems;
    parallel::for_chunk_pairs(
        (values, piece_elems),
        (indices, piece_elems),
        cost,
        #[inline(always)]
        |piece, values, indices| {
            let planes = values.chunks_exact_mut(plane_elems).zip(indices.chunks_exact_mut(plane_elems));
            for (plane, (values, indices)) in planes.enumerate() {
                body(piece * PLANES_PER_PIECE + plane, values, indices);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(kernel_size: usize, stride: usize, padding: usize, dilation: usize, ceil_mode: bool) -> Windows {
        Windows { kernel_size, stride, padding, dilation, ceil_mode }
    }

    #[test]
    fn counts_are_pytorchs() {
        let table = [
            (windows(2, 2, 0, 1, false), 7, Some(3), "the odd cell is left over"),
            (windows(2, 2, 0, 1, true), 7, Some(4), "rounding up takes it in"),
            (windows(2, 2, 1, 1, true), 6, Some(4), "from the padding before into the padding after"),
            (windows(2, 3, 1, 1, true), 5, Some(2), "a third window would start past the input"),
            (windows(3, 2, 0, 1, true), 2, Some(1), "rounding up admits a window larger than the input"),
            (windows(3, 2, 0, 1, false), 2, None, "which otherwise does not fit"),
            (windows(3, 1, 1, 1, false), 5, Some(5), "padding keeps the extent"),
            (windows(3, 1, 2, 1, false), 5, None, "padding beyond half the kernel"),
            (windows(2, 1, 1, 2, false), 4, Some(4), "dilation widens the kernel and what may be padded"),
            (windows(2, 1, 1, 2, false), 1, None, "but the only window steps over the only cell"),
            (windows(0, 1, 0, 1, false), 4, None, "no kernel"),
            (windows(usize::MAX, 1, 4, 1, false), 4, None, "a kernel that nothing has room for"),
            (windows(2, 1, 0, usize::MAX, false), 4, None, "nor is there room for such a dilation"),
            (windows(usize::MAX, 1, usize::MAX / 2, 1, false), 4, None, "a padding beyond what can be counted"),
            (windows(2, usize::MAX, 1, 1, true), 4, None, "and a stride"),
            (windows(1 << 30, 1, 1 << 29, 1, false), 4, Some(5), "long windows are found without walking along them"),
        ];
        for (windows, input, count, why) in table {
            assert_eq!(windows.count("pool", input).ok(), count, "{why}");
        }
    }
}
