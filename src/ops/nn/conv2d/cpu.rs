//! Convolution on the CPU: each image's patches are laid out as a matrix (im2col), which the weight multiplies; the
//! gradients go the same way back. Images are independent, and weight gradients are summed over fixed groups of them
//! in order, so threads never change a result.

use rayon::prelude::*;

use super::Geometry;
use crate::ops::cpu::gemm::{Matrix, Store, gemm};
use crate::ops::cpu::{Float, parallel};

/// Images whose weight gradients are summed before the groups are.
const IMAGES_PER_GROUP: usize = 8;

/// The range of output positions along one axis whose kernel element reaches into the image.
fn reaching(geometry: &Geometry, axis: usize, element: usize) -> std::ops::Range<usize> {
    let (stride, padding) = (geometry.conv.stride[axis], geometry.conv.padding[axis]);
    let shift = element * geometry.conv.dilation[axis];
    let first = padding.saturating_sub(shift).div_ceil(stride);
    let last = (geometry.input[axis] + padding).saturating_sub(shift).div_ceil(stride);
    let last = last.min(geometry.output[axis]);
    first.min(last)..last
}

/// Calls `row(patch row, output start, input start, length)` for every run of outputs in a row that one kernel
/// element reads from one input row of a group; from one to the next the input moves by the stride.
#[inline(always)]
fn for_runs(geometry: &Geometry, mut run: impl FnMut(usize, usize, usize, usize)) {
    let [kernel_h, kernel_w] = geometry.kernel;
    let [stride_h, stride_w] = geometry.conv.stride;
    let [padding_h, padding_w] = geometry.conv.padding;
    let [dilation_h, dilation_w] = geometry.conv.dilation;
    let mut patch_row = 0;
    for channel in 0..geometry.group_in() {
        for i in 0..kernel_h {
            let rows = reaching(geometry, 0, i);
            for j in 0..kernel_w {
                let columns = reaching(geometry, 1, j);
                let rows = if columns.is_empty() { 0..0 } else { rows.clone() };
                for y in rows {
                    let in_y = y * stride_h + i * dilation_h - padding_h;
                    let in_x = columns.start * stride_w + j * dilation_w - padding_w;
                    let in_start = (channel * geometry.input[0] + in_y) * geometry.input[1] + in_x;
                    run(patch_row, y * geometry.output[1] + columns.start, in_start, columns.len());
                }
                patch_row += 1;
            }
        }
    }
}

/// Lays out the patches of a group of channels of one image as (patch element, output pixel).
#[inline(always)]
fn im2col<F: Float>(geometry: &Geometry, image: &[F], patches: &mut [F]) {
    if geometry.conv.padding != [0, 0] {
        patches.fill(F::ZERO);
    }
    let (pixels, stride) = (geometry.out_pixels(), geometry.conv.stride[1]);
    for_runs(geometry, |patch_row, out_start, in_start, len| {
        let to = &mut patches[patch_row * pixels + out_start..][..len];
        if stride == 1 {
            to.copy_from_slice(&image[in_start..in_start + len]);
        } else {
            to.iter_mut().enumerate().for_each(|(x, to)| *to = image[in_start + x * stride]);
        }
    });
}

/// Adds patches back to where they came from: the transpose of [`im2col`].
#[inline(always)]
fn col2im<F: Float>(geometry: &Geometry, patches: &[F], image: &mut [F]) {
    let (pixels, stride) = (geometry.out_pixels(), geometry.conv.stride[1]);
    for_runs(geometry, |patch_row, out_start, in_start, len| {
        let from = &patches[patch_row * pixels + out_start..][..len];
        if stride == 1 {
            image[in_start..in_start + len].iter_mut().zip(from).for_each(|(to, &from)| *to += from);
        } else {
            from.iter().enumerate().for_each(|(x, &from)| image[in_start + x * stride] += from);
        }
    });
}

fn new_patches<F: Float>(geometry: &Geometry) -> Vec<F> {
    vec![F::ZERO; geometry.patch_elems() * geometry.out_pixels()]
}

/// `out = activation(weight · patches + bias)`, image by image.
pub fn forward<F: Float>(geometry: &Geometry, input: &[F], weight: &[F], bias: Option<&[F]>, out: &mut [F]) {
    let (pixels, patch, activation) = (geometry.out_pixels(), geometry.patch_elems(), geometry.conv.activation);
    let image_in = geometry.in_channels * geometry.in_pixels();
    let group_in = geometry.group_in() * geometry.in_pixels();
    let images = out.par_chunks_mut((geometry.out_channels * pixels).max(1)).zip(input.par_chunks(image_in.max(1)));
    images.for_each_init(
        || new_patches(geometry),
        |patches, (out, image)| {
            parallel::simd(|| {
                for group in 0..geometry.conv.groups {
                    im2col(geometry, &image[group * group_in..], patches);
                    let channels = geometry.group_out();
                    let out = &mut out[group * channels * pixels..(group + 1) * channels * pixels];
                    let weight = Matrix::new(&weight[group * channels * patch..], patch);
                    gemm(
                        [channels, pixels, patch],
                        weight,
                        Matrix::new(patches, pixels),
                        out,
                        pixels,
                        Store::Overwrite,
                    );
                    for (channel, row) in out.chunks_exact_mut(pixels).enumerate() {
                        let bias = bias.map_or(F::ZERO, |bias| bias[group * channels + channel]);
                        activation.finish_row(row, bias);
                    }
                }
            });
        },
    );
}

/// `grad_input = col2im(weightᵀ · grad_output)`, image by image.
pub fn grad_input<F: Float>(geometry: &Geometry, grad: &[F], weight: &[F], grad_input: &mut [F]) {
    let (pixels, patch, channels) = (geometry.out_pixels(), geometry.patch_elems(), geometry.group_out());
    let image_in = geometry.in_channels * geometry.in_pixels();
    let group_in = geometry.group_in() * geometry.in_pixels();
    let image_out = geometry.out_channels * pixels;
    let images = grad_input.par_chunks_mut(image_in.max(1)).zip(grad.par_chunks(image_out.max(1)));
    images.for_each_init(
        || new_patches(geometry),
        |patches, (image, grad)| {
            parallel::simd(|| {
                image.fill(F::ZERO);
                for group in 0..geometry.conv.groups {
                    let weight = Matrix::transposed(&weight[group * channels * patch..], patch);
                    let grad = Matrix::new(&grad[group * channels * pixels..], pixels);
                    gemm([patch, pixels, channels], weight, grad, patches, pixels, Store::Overwrite);
                    col2im(geometry, patches, &mut image[group * group_in..(group + 1) * group_in]);
                }
            });
        },
    );
}

/// `grad_weight = Σ grad_output · patchesᵀ` and `grad_bias = Σ grad_output`, over groups of images in order.
pub fn grad_weight<F: Float>(
    geometry: &Geometry,
    grad: &[F],
    input: &[F],
    grad_weight: &mut [F],
    grad_bias: Option<&mut [F]>,
) {
    let (pixels, patch, channels) = (geometry.out_pixels(), geometry.patch_elems(), geometry.group_out());
    let image_in = geometry.in_channels * geometry.in_pixels();
    let group_in = geometry.group_in() * geometry.in_pixels();
    let image_out = geometry.out_channels * pixels;
    let has_bias = grad_bias.is_some();
    let partials = parallel::map(geometry.batch.div_ceil(IMAGES_PER_GROUP), |index| {
        let mut weights = vec![F::ZERO; geometry.out_channels * patch];
        let mut biases = vec![F::ZERO; if has_bias { geometry.out_channels } else { 0 }];
        let mut patches = new_patches(geometry);
        for image in index * IMAGES_PER_GROUP..geometry.batch.min((index + 1) * IMAGES_PER_GROUP) {
            let grad = &grad[image * image_out..(image + 1) * image_out];
            for group in 0..geometry.conv.groups {
                im2col(geometry, &input[image * image_in + group * group_in..], &mut patches);
                let rows = group * channels * pixels..(group + 1) * channels * pixels;
                let weights = &mut weights[group * channels * patch..(group + 1) * channels * patch];
                let (grad, patches) = (Matrix::new(&grad[rows], pixels), Matrix::transposed(&patches, pixels));
                gemm([channels, patch, pixels], grad, patches, weights, patch, Store::Accumulate);
            }
            for (sum, row) in biases.iter_mut().zip(grad.chunks_exact(pixels)) {
                *sum += parallel::sum(pixels, |i| row[i]);
            }
        }
        (weights, biases)
    });
    add_up(grad_weight, partials.iter().map(|(weights, _)| weights));
    if let Some(grad_bias) = grad_bias {
        add_up(grad_bias, partials.iter().map(|(_, biases)| biases));
    }
}

fn add_up<'a, F: Float>(total: &mut [F], partials: impl Iterator<Item = &'a Vec<F>>) {
    total.fill(F::ZERO);
    for partial in partials {
        total.iter_mut().zip(partial).for_each(|(total, &partial)| *total += partial);
    }
}
