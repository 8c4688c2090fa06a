//! Convolution on the CPU. In f32 the direct kernels of `ops/cpu/conv` compute most of it. The rest, and all of it in
//! f64, goes the plain way: each image's patches are laid out as a matrix (im2col), which the weight multiplies; the
//! gradients go the same way back. Images are independent, and weight gradients are summed over fixed groups of them
//! in order, so threads never change a result.

use super::{Conv2d, Geometry};
use crate::ops::cpu::conv::{self, Finish, Layer};
use crate::ops::cpu::gemm::{Matrix, Store, gemm};
use crate::ops::cpu::{Float, isa, parallel, scratch};
use crate::ops::nn::activation::Activation;

/// Images whose weight gradients are summed before the groups are.
pub(super) const IMAGES_PER_GROUP: usize = 16;

/// `out = activation(conv(input, weight) + bias)`.
pub fn forward<F: Float>(geometry: &Geometry, input: &[F], weight: &[F], bias: Option<&[F]>, out: &mut [F]) {
    let (layer, groups) = (group_layer(geometry), geometry.conv.groups);
    // A stride takes the kernel with output channels in the lanes, of which a group may have few.
    let is_direct = groups == 1 || layer.stride == [1, 1] || 2 * layer.out_channels > isa::lanes();
    if let Some((inputs, finish)) = direct(geometry, [input, weight], bias).filter(|_| is_direct) {
        let out = F::as_f32_mut(out).expect("all operands are of one type");
        return conv::forward(&layer, groups, inputs, finish, out);
    }
    forward_by_patches(geometry, input, weight, bias, out);
}

/// Operands of the direct kernels; `None` where they are no f32 or the activation is none that the kernels know.
fn direct<'a, F: Float>(
    geometry: &Geometry,
    [input, weight]: [&'a [F]; 2],
    bias: Option<&'a [F]>,
) -> Option<([&'a [f32]; 2], Finish<'a>)> {
    let relu = match geometry.conv.activation {
        Activation::None => false,
        Activation::Relu => true,
        _ => return None,
    };
    let bias = bias.map_or(Some(None), |bias| F::as_f32(bias).map(Some))?;
    Some(([F::as_f32(input)?, F::as_f32(weight)?], Finish { bias, relu }))
}

/// Whether [`forward_pooled`] has a kernel for it in f32.
pub fn is_pooled(geometry: &Geometry) -> bool {
    let is_known = matches!(geometry.conv.activation, Activation::None | Activation::Relu);
    is_known && direct_layer(geometry).is_some_and(|layer| conv::is_pooled(&layer))
}

/// The largest of each 2×2 window of [`forward`]'s result, and where in its plane it is; `None`, with nothing done, where
/// there is no kernel for it.
pub fn forward_pooled<F: Float>(
    geometry: &Geometry,
    inputs: [&[F]; 2],
    bias: Option<&[F]>,
    (maxima, indices): (&mut [F], &mut [u32]),
) -> Option<()> {
    let (layer, (inputs, finish)) = (direct_layer(geometry)?, direct(geometry, inputs, bias)?);
    conv::forward_pooled(&layer, inputs, finish, (F::as_f32_mut(maxima)?, indices))
}

/// The gradient by the input.
pub fn grad_input<F: Float>(geometry: &Geometry, grad: &[F], weight: &[F], grad_input: &mut [F]) {
    if let (Some(grad), Some(weight)) = (F::as_f32(grad), F::as_f32(weight)) {
        let out = F::as_f32_mut(grad_input).expect("all operands are of one type");
        if conv::grad_input(&group_layer(geometry), geometry.conv.groups, [grad, weight], out).is_some() {
            return;
        }
    }
    grad_input_by_patches(geometry, grad, weight, grad_input);
}

/// The gradients by weight and bias, summed over groups of images in order.
pub fn grad_weight<F: Float>(
    geometry: &Geometry,
    grad: &[F],
    input: &[F],
    grad_weight: &mut [F],
    grad_bias: Option<&mut [F]>,
) {
    if let Some(grad_bias) = grad_bias {
        sum_bias(geometry, grad, grad_bias);
    }
    // A stride takes the kernel with output channels in the lanes.
    let layer = direct_layer(geometry).filter(|layer| layer.stride == [1, 1] || 2 * layer.out_channels > isa::lanes());
    if let (Some(layer), Some(grad), Some(input)) = (layer, F::as_f32(grad), F::as_f32(input)) {
        let total = F::as_f32_mut(grad_weight).expect("all operands are of one type");
        let image_in = geometry.in_channels * geometry.in_pixels();
        let image_out = geometry.out_channels * geometry.out_pixels();
        return parallel::sum_partials(total, num_groups(geometry), |index, partial| {
            let images = images(geometry, index);
            let grad = &grad[images.start * image_out..images.end * image_out];
            conv::grad_weight(&layer, grad, &input[images.start * image_in..images.end * image_in], partial);
        });
    }
    grad_weight_by_patches(geometry, grad, input, grad_weight);
}

/// The convolution of one group of channels as the direct kernels take it.
fn group_layer(geometry: &Geometry) -> Layer {
    let Conv2d { stride, padding, dilation, .. } = geometry.conv;
    Layer {
        in_channels: geometry.group_in(),
        input: geometry.input,
        out_channels: geometry.group_out(),
        output: geometry.output,
        kernel: geometry.kernel,
        stride,
        padding,
        end_padding: padding,
        dilation,
    }
}

/// The convolution as the direct kernels take it that know no groups.
pub(super) fn direct_layer(geometry: &Geometry) -> Option<Layer> {
    (geometry.conv.groups == 1).then(|| group_layer(geometry))
}

/// Groups of images whose weight gradients are summed apart.
pub(super) fn num_groups(geometry: &Geometry) -> usize {
    geometry.batch.div_ceil(IMAGES_PER_GROUP)
}

/// The images of a group.
pub(super) fn images(geometry: &Geometry, group: usize) -> std::ops::Range<usize> {
    group * IMAGES_PER_GROUP..geometry.batch.min((group + 1) * IMAGES_PER_GROUP)
}

fn sum_bias<F: Float>(geometry: &Geometry, grad: &[F], grad_bias: &mut [F]) {
    let (pixels, image_out) = (geometry.out_pixels(), geometry.out_channels * geometry.out_pixels());
    parallel::sum_partials(
        grad_bias,
        num_groups(geometry),
        #[inline(always)]
        |index, biases| {
            for image in images(geometry, index) {
                let grad = &grad[image * image_out..(image + 1) * image_out];
                for (sum, row) in biases.iter_mut().zip(grad.chunks_exact(pixels)) {
                    *sum += parallel::sum(
                        [row],
                        #[inline(always)]
                        |[grad]| grad,
                    );
                }
            }
        },
    );
}

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

/// Calls `body` with room for the patches of a group of channels of one image.
#[inline(always)]
fn with_patches<F: Float>(geometry: &Geometry, body: impl FnOnce(&mut [F])) {
    scratch::with(geometry.patch_elems() * geometry.out_pixels(), body);
}

/// `out = activation(weight · patches + bias)`, image by image.
fn forward_by_patches<F: Float>(geometry: &Geometry, input: &[F], weight: &[F], bias: Option<&[F]>, out: &mut [F]) {
    let (pixels, patch, activation) = (geometry.out_pixels(), geometry.patch_elems(), geometry.conv.activation);
    let image_in = geometry.in_channels * geometry.in_pixels();
    let group_in = geometry.group_in() * geometry.in_pixels();
    let channels = geometry.group_out();
    parallel::for_chunks(out, geometry.out_channels * pixels, patch, |index, out| {
        let image = &input[index * image_in..(index + 1) * image_in];
        with_patches(geometry, |patches| {
            for group in 0..geometry.conv.groups {
                im2col(geometry, &image[group * group_in..], patches);
                let out = &mut out[group * channels * pixels..(group + 1) * channels * pixels];
                let weight = Matrix::new(&weight[group * channels * patch..], patch);
                let patches = Matrix::new(patches, pixels);
                gemm([channels, pixels, patch], weight, patches, out, pixels, Store::Overwrite);
                for (channel, row) in out.chunks_exact_mut(pixels).enumerate() {
                    let bias = bias.map_or(F::ZERO, |bias| bias[group * channels + channel]);
                    activation.finish_row(row, bias);
                }
            }
        });
    });
}

/// `grad_input = col2im(weightᵀ · grad_output)`, image by image.
fn grad_input_by_patches<F: Float>(geometry: &Geometry, grad: &[F], weight: &[F], grad_input: &mut [F]) {
    let (pixels, patch, channels) = (geometry.out_pixels(), geometry.patch_elems(), geometry.group_out());
    let image_in = geometry.in_channels * geometry.in_pixels();
    let group_in = geometry.group_in() * geometry.in_pixels();
    let image_out = geometry.out_channels * pixels;
    parallel::for_chunks(grad_input, image_in, patch, |index, image| {
        let grad = &grad[index * image_out..(index + 1) * image_out];
        image.fill(F::ZERO);
        with_patches(geometry, |patches| {
            for group in 0..geometry.conv.groups {
                let weight = Matrix::transposed(&weight[group * channels * patch..], patch);
                let grad = Matrix::new(&grad[group * channels * pixels..], pixels);
                gemm([patch, pixels, channels], weight, grad, patches, pixels, Store::Overwrite);
                col2im(geometry, patches, &mut image[group * group_in..(group + 1) * group_in]);
            }
        });
    });
}

/// `grad_weight = Σ grad_output · patchesᵀ`, over groups of images in order.
fn grad_weight_by_patches<F: Float>(geometry: &Geometry, grad: &[F], input: &[F], grad_weight: &mut [F]) {
    let (pixels, patch, channels) = (geometry.out_pixels(), geometry.patch_elems(), geometry.group_out());
    let image_in = geometry.in_channels * geometry.in_pixels();
    let group_in = geometry.group_in() * geometry.in_pixels();
    let image_out = geometry.out_channels * pixels;
    parallel::sum_partials(grad_weight, num_groups(geometry), |index, weights| {
        with_patches(geometry, |patches| {
            for image in images(geometry, index) {
                let grad = &grad[image * image_out..(image + 1) * image_out];
                for group in 0..geometry.conv.groups {
                    im2col(geometry, &input[image * image_in + group * group_in..], patches);
                    let rows = group * channels * pixels..(group + 1) * channels * pixels;
                    let weights = &mut weights[group * channels * patch..(group + 1) * channels * patch];
                    let (grad, patches) = (Matrix::new(&grad[rows], pixels), Matrix::transposed(patches, pixels));
                    gemm([channels, patch, pixels], grad, patches, weights, patch, Store::Accumulate);
                }
            }
        });
    });
}
