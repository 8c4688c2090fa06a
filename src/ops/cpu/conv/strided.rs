//! The input gradient of a convolution with a stride: the elements of an image that lie a stride apart meet the same taps,
//! and for each such class the gradient is a convolution of stride 1 under those taps, turned around.

use super::{Finish, Layer, forward_group};
use crate::ops::cpu::{parallel, scratch};

/// Images that a task takes, and that share what is done once for them.
const IMAGES: usize = 4;

/// The gradient by the input of images side by side; `None` where windows reach so far into the padding that a class
/// would have less than none, or where the kernel is dilated.
pub(super) fn grad_input(layer: &Layer, grad: &[f32], weight: &[f32], out: &mut [f32]) -> Option<()> {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let is_within = |axis: usize| {
        let (kernel, stride, padding) = (layer.kernel[axis], layer.stride[axis], layer.padding[axis]);
        (0..stride).all(|residue| (residue + padding) % stride >= kernel || residue + padding < kernel)
    };
    if layer.dilation != [1, 1] || ![0, 1].into_iter().all(is_within) {
        return None;
    }
    scratch::with(weight.len(), |weights: &mut [f32]| {
        let mut rest = &mut *weights;
        for class in classes(layer) {
            let (to, others) = rest.split_at_mut(class.num_weights());
            class.select_weights(weight, to);
            rest = others;
        }
        let weights = &*weights;
        parallel::for_chunks(out, IMAGES * image_in, layer.num_taps(), |index, out| {
            let num_images = out.len() / image_in;
            let grad = &grad[index * IMAGES * image_out..][..num_images * image_out];
            let mut rest = weights;
            for class in classes(layer) {
                let (weights, others) = rest.split_at(class.num_weights());
                rest = others;
                class.grad_input(num_images, grad, weights, out);
            }
        });
    });
    Some(())
}

/// All classes, row by row.
fn classes(layer: &Layer) -> impl Iterator<Item = Class<'_>> {
    let [rows, columns] = layer.stride;
    (0..rows).flat_map(move |row| (0..columns).map(move |column| Class { layer, residue: [row, column] }))
}

/// The elements of an image at a place modulo the stride.
struct Class<'a> {
    layer: &'a Layer,
    residue: [usize; 2],
}

impl Class<'_> {
    /// The first tap along an axis that meets the class: others follow a stride apart.
    fn first_tap(&self, axis: usize) -> usize {
        (self.residue[axis] + self.layer.padding[axis]) % self.layer.stride[axis]
    }

    /// Taps along the axes.
    fn kernel(&self) -> [usize; 2] {
        let taps = |axis: usize| self.layer.kernel[axis].saturating_sub(self.first_tap(axis));
        [0, 1].map(|axis| taps(axis).div_ceil(self.layer.stride[axis]))
    }

    fn num_weights(&self) -> usize {
        let [height, width] = self.kernel();
        self.layer.out_channels * self.layer.in_channels * height * width
    }

    /// The class's taps of weights (O, C, KH, KW) as (C, O, taps), each kernel turned around.
    fn select_weights(&self, weight: &[f32], to: &mut [f32]) {
        let (Layer { in_channels, out_channels, kernel, stride, .. }, [height, width]) = (self.layer, self.kernel());
        let mut to = to.iter_mut();
        for in_channel in 0..*in_channels {
            for out_channel in 0..*out_channels {
                let weight = &weight[(out_channel * in_channels + in_channel) * kernel[0] * kernel[1]..];
                for i in (0..height).rev().map(|i| self.first_tap(0) + i * stride[0]) {
                    for j in (0..width).rev().map(|j| self.first_tap(1) + j * stride[1]) {
                        *to.next().expect("as many as there are weights") = weight[i * kernel[1] + j];
                    }
                }
            }
        }
    }

    /// The convolution of the output's gradient that gives the class's.
    fn convolution(&self) -> Layer {
        let (layer, kernel) = (self.layer, self.kernel());
        let (mut padding, mut end_padding, mut output) = ([0; 2], [0; 2], [0; 2]);
        for axis in [0, 1] {
            // The last gradient that the class's first element meets.
            let last = (self.residue[axis] + layer.padding[axis]) / layer.stride[axis];
            output[axis] = layer.input[axis].saturating_sub(self.residue[axis]).div_ceil(layer.stride[axis]);
            padding[axis] = (kernel[axis] - 1) - last;
            end_padding[axis] = (output[axis] + last).saturating_sub(layer.output[axis]);
        }
        Layer {
            in_channels: layer.out_channels,
            input: layer.output,
            out_channels: layer.in_channels,
            output,
            kernel,
            stride: [1, 1],
            padding,
            end_padding,
            dilation: [1, 1],
        }
    }

    /// Writes the class's elements of the gradient of some images.
    fn grad_input(&self, num_images: usize, grad: &[f32], weights: &[f32], out: &mut [f32]) {
        if weights.is_empty() {
            return self.write(|_| None, out);
        }
        let convolution = self.convolution();
        if convolution.out_pixels() == 0 {
            return;
        }
        scratch::with(num_images * convolution.out_channels * convolution.out_pixels(), |values: &mut [f32]| {
            forward_group(&convolution, grad, weights, Finish::NONE, values);
            let width = convolution.output[1];
            self.write(|row| Some(&values[row * width..][..width]), out);
        });
    }

    /// Writes the rows of the class, counted through planes and images; zeros where there is none.
    fn write<'r>(&self, row: impl Fn(usize) -> Option<&'r [f32]>, out: &mut [f32]) {
        let ([_, width], [step_y, step_x]) = (self.layer.input, self.layer.stride);
        let planes = out.chunks_exact_mut(self.layer.in_pixels());
        let rows = planes.flat_map(|plane| plane.chunks_exact_mut(width).skip(self.residue[0]).step_by(step_y));
        for (index, to) in rows.enumerate() {
            let to = to.iter_mut().skip(self.residue[1]).step_by(step_x);
            match row(index) {
                Some(from) => to.zip(from).for_each(|(to, &from)| *to = from),
                None => to.for_each(|to| *to = 0.0),
            }
        }
    }
}
