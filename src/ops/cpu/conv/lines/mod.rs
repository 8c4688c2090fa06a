//! The gradients of 5×5 kernels by Winograd's F(4, 5) along columns: 8 products instead of 20 for each row of the kernel
//! and four rows of gradients. What is left at each of the eight points is a convolution by a kernel of one row, in which
//! the rows of all images' tiles are those of one image, and which the other kernels compute.

mod points;
#[cfg(test)]
mod tests;
pub(super) mod transform;

use points::Planes;
use transform::{Gradient, Input, InputGradient, KERNEL, Kernel, KernelGradient, POINTS, TILE};

use super::Layer;
use super::winograd::IMAGES;
use crate::ops::cpu::{isa, parallel, scratch};

/// Values at the points that are worked on together: those at one point stay in a second-level cache.
const MOST_ELEMS: usize = 256 * 1024;

/// What a vector of a tile takes to be transformed, in products of it, fitted to times on a Zen 4 core with AVX-512.
const TRANSFORM: usize = 60;

impl Layer {
    fn takes_lines(&self) -> bool {
        self.kernel == [KERNEL; 2] && self.stride == [1, 1] && self.dilation == [1, 1]
    }

    /// The tiles of rows of an image's gradients.
    fn row_tiles(&self) -> usize {
        self.output[0].div_ceil(TILE)
    }

    /// The convolution at a point, of the rows of so many images' tiles.
    fn line(&self, images: usize) -> Layer {
        let rows = images * self.row_tiles();
        Layer {
            input: [rows, self.input[1]],
            output: [rows, self.output[1]],
            kernel: [1, KERNEL],
            padding: [0, self.padding[1]],
            end_padding: [0, self.end_padding[1]],
            ..*self
        }
    }

    fn input_planes(&self, images: usize) -> Planes {
        let ([height, width], tiles) = (self.input, self.row_tiles());
        Planes { images, channels: self.in_channels, height, width, padding: self.padding[0], tiles }
    }

    fn output_planes(&self, images: usize) -> Planes {
        let ([height, width], tiles) = (self.output, self.row_tiles());
        Planes { images, channels: self.out_channels, height, width, padding: 0, tiles }
    }

    /// All kernels, as planes of one tile.
    fn kernel_planes(&self) -> Planes {
        let channels = self.out_channels * self.in_channels;
        Planes { images: 1, channels, height: KERNEL, width: KERNEL, padding: 0, tiles: 1 }
    }

    /// Images that are worked on together.
    fn images_of_lines(&self) -> usize {
        let elems = self.input_planes(1).num_elems() + self.output_planes(1).num_elems();
        (MOST_ELEMS / elems).clamp(1, IMAGES)
    }

    /// What transforms of an image's rows take, in products of one lane.
    fn transforms(&self) -> usize {
        let vectors = |channels: usize, width: usize| channels * width.div_ceil(isa::lanes());
        let of_row = vectors(self.in_channels, self.input[1]) + vectors(self.out_channels, self.output[1]);
        TRANSFORM * isa::lanes() * self.row_tiles() * of_row
    }
}

/// What a gradient takes for an image, in products of one lane, where that of a kernel of one row takes `line(layer)`;
/// `None` where there is none of a layer.
pub(super) fn cost(layer: &Layer, line: impl Fn(&Layer) -> Option<usize>) -> Option<usize> {
    if !layer.takes_lines() {
        return None;
    }
    Some(POINTS * line(&layer.line(1))? + layer.transforms())
}

/// Adds the weight gradient of images side by side to `total` (O, C, 5, 5), on the calling thread.
pub(super) fn grad_weight(layer: &Layer, grad: &[f32], input: &[f32], total: &mut [f32]) {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let images = layer.images_of_lines().min(input.len() / image_in);
    let kernels = layer.kernel_planes();
    let lens = [layer.input_planes(images), layer.output_planes(images), kernels].map(|planes| planes.num_elems());
    scratch::with(lens.iter().sum::<usize>() + total.len(), |memory: &mut [f32]| {
        let (inputs, memory) = memory.split_at_mut(lens[0]);
        let (grads, memory) = memory.split_at_mut(lens[1]);
        let (sums, gradient) = memory.split_at_mut(lens[2]);
        sums.fill(0.0);
        for (input, grad) in input.chunks(images * image_in).zip(grad.chunks(images * image_out)) {
            let images = input.len() / image_in;
            let (line, input_planes, grad_planes) =
                (layer.line(images), layer.input_planes(images), layer.output_planes(images));
            input_planes.write_points(Input, input, inputs);
            grad_planes.write_points(Gradient, grad, grads);
            for point in 0..POINTS {
                let sums = &mut sums[kernels.of_point(point)];
                super::grad_weight(
                    &line,
                    &grads[grad_planes.of_point(point)],
                    &inputs[input_planes.of_point(point)],
                    sums,
                );
            }
        }
        kernels.write_rows(KernelGradient, sums, gradient);
        total.iter_mut().zip(&*gradient).for_each(|(total, &gradient)| *total += gradient);
    });
}

/// The gradient by the input of images side by side.
pub(super) fn grad_input(layer: &Layer, grad: &[f32], weight: &[f32], out: &mut [f32]) {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let images = layer.images_of_lines();
    let kernels = layer.kernel_planes();
    scratch::with(kernels.num_elems(), |weights: &mut [f32]| {
        kernels.write_points(Kernel, weight, weights);
        let weights = &*weights;
        parallel::for_chunks(out, images * image_in, layer.out_channels * KERNEL * KERNEL, |index, out| {
            let images_here = out.len() / image_in;
            let grad = &grad[index * images * image_out..][..images_here * image_out];
            let (line, input_planes, grad_planes) =
                (layer.line(images_here), layer.input_planes(images_here), layer.output_planes(images_here));
            scratch::with(input_planes.num_elems() + grad_planes.num_elems(), |memory: &mut [f32]| {
                let (inputs, grads) = memory.split_at_mut(input_planes.num_elems());
                grad_planes.write_points(Gradient, grad, grads);
                for point in 0..POINTS {
                    let inputs = &mut inputs[input_planes.of_point(point)];
                    let (grad, weight) = (&grads[grad_planes.of_point(point)], &weights[kernels.of_point(point)]);
                    super::grad_input(&line, 1, [grad, weight], inputs).expect("the cost of a line is known");
                }
                input_planes.write_rows(InputGradient, inputs, out);
            });
        });
    });
}
