//! Convolution kernels that only f32 has: direct, over NCHW, without a matrix of patches. A convolution is a list of
//! taps, the offsets in a padded image of what the weights of one output meet, so kernel size, dilation and the number
//! of channels are all the same to them. `ops/nn/conv2d` decides what runs here and what goes through patches.

mod blocks;
mod columns;
mod largest;
mod lines;
pub(crate) mod pooled;
mod rows;
mod strided;
mod taps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod windows;
mod winograd;

use std::cell::RefCell;

use pulp::Simd;

use super::parallel::LANES;
use super::{isa, parallel, scratch};

/// The sizes of a convolution of one image, one group of channels, stride 1 along rows' elements or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub in_channels: usize,
    /// Height and width of the image, without padding.
    pub input: [usize; 2],
    pub out_channels: usize,
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Zeros before the rows and columns of the image, and after them.
    pub padding: [usize; 2],
    pub end_padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl Layer {
    /// Products summed into one output.
    pub fn num_taps(&self) -> usize {
        self.in_channels * self.kernel[0] * self.kernel[1]
    }

    pub fn in_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub fn out_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Height and width of the padded image.
    fn padded(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.padding[axis] + self.input[axis] + self.end_padding[axis])
    }

    /// Elements of one channel of a padded image.
    fn plane_elems(&self) -> usize {
        let [height, width] = self.padded();
        height * width
    }

    /// The convolution that gives the gradient by the input from that by the output, under weights that are flipped and
    /// have their channels exchanged; `None` where there is none of stride 1 without negative padding.
    fn transposed(&self) -> Option<Layer> {
        let (mut padding, mut end_padding) = ([0; 2], [0; 2]);
        for axis in [0, 1] {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1);
            padding[axis] = reach.checked_sub(self.padding[axis])?;
            end_padding[axis] = reach.checked_sub(self.end_padding[axis])?;
        }
        let swapped = Layer {
            in_channels: self.out_channels,
            input: self.output,
            out_channels: self.in_channels,
            output: self.input,
            padding,
            end_padding,
            ..*self
        };
        (self.stride == [1, 1]).then_some(swapped)
    }

    /// Writes the offset of each tap in the padded image, in the order of the weights.
    fn write_offsets(&self, offsets: &mut [u32]) {
        let [height, width] = self.padded();
        let mut offsets = offsets.iter_mut();
        for channel in 0..self.in_channels {
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let at = (channel * height + i * self.dilation[0]) * width + j * self.dilation[1];
                    let offset = offsets.next().expect("one for each tap");
                    // An image has far fewer than 2^32 elements.
                    *offset = at as u32;
                }
            }
        }
    }

    /// Calls `body` with the offset of each tap.
    fn with_offsets<R>(&self, body: impl FnOnce(&[u32]) -> R) -> R {
        scratch::with(self.num_taps(), |offsets: &mut [u32]| {
            self.write_offsets(offsets);
            body(offsets)
        })
    }

    /// Calls `body` with each of the images between zeros, and `slack` elements of no meaning after them.
    #[inline(always)]
    fn with_padded<R>(&self, images: &[f32], slack: usize, body: impl FnOnce(&[f32]) -> R) -> R {
        if self.padded() == self.input && slack == 0 {
            return body(images);
        }
        scratch::with(images.len() / self.in_pixels() * self.plane_elems() + slack, |padded: &mut [f32]| {
            self.pad(images, padded);
            body(padded)
        })
    }

    /// Copies images between zeros.
    #[inline(always)]
    fn pad(&self, images: &[f32], padded: &mut [f32]) {
        let [height, width] = self.padded();
        let ([in_height, in_width], [top, left]) = (self.input, self.padding);
        if self.padded() == self.input {
            padded[..images.len()].copy_from_slice(images);
            return;
        }
        for (plane, padded) in images.chunks_exact(in_height * in_width).zip(padded.chunks_exact_mut(height * width)) {
            padded[..top * width].fill(0.0);
            padded[(top + in_height) * width..].fill(0.0);
            let rows = padded[top * width..][..in_height * width].chunks_exact_mut(width);
            for (row, padded) in plane.chunks_exact(in_width).zip(rows) {
                padded[..left].fill(0.0);
                padded[left..left + in_width].copy_from_slice(row);
                padded[left + in_width..].fill(0.0);
            }
        }
    }
}

/// `out = finish(input ⋆ weight)` for images side by side, of one group of channels after the other; weights are
/// (groups · O, C, KH, KW).
pub(crate) fn forward(layer: &Layer, groups: usize, [input, weight]: [&[f32]; 2], finish: Finish<'_>, out: &mut [f32]) {
    if groups == 1 {
        return forward_group(layer, input, weight, finish, out);
    }
    let (group_in, group_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    parallel::for_chunks(out, groups * group_out, layer.num_taps(), |index, out| {
        let channels = input[index * groups * group_in..].chunks_exact(group_in);
        let weights = weight.chunks_exact(layer.out_channels * layer.num_taps());
        for (group, ((out, input), weight)) in out.chunks_exact_mut(group_out).zip(channels).zip(weights).enumerate() {
            let bias = finish.bias.map(|bias| &bias[group * layer.out_channels..][..layer.out_channels]);
            forward_group(layer, input, weight, Finish { bias, ..finish }, out);
        }
    });
}

/// `out = finish(input ⋆ weight)` for images side by side; weights are (O, C, KH, KW). Takes the kernel that computes
/// least.
fn forward_group(layer: &Layer, input: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    match kernel(layer) {
        Kernel::Tiles(rows) => windows::forward(layer, rows, [input, weight], finish, out),
        Kernel::Winograd => winograd::forward(layer, input, weight, finish, out),
        Kernel::Columns => columns::forward(layer, input, weight, finish, out),
        Kernel::Blocks | Kernel::Lines => blocks::forward(layer, input, weight, finish, out),
    }
}

/// Whether there is a [`forward_pooled`] for a layer, which takes less than the convolution and its pooling by themselves.
pub(crate) fn is_pooled(layer: &Layer) -> bool {
    pooled_kernel(layer).is_some()
}

/// The largest of each 2×2 window of `finish(input ⋆ weight)` (images, O, rows of windows, columns of them), windows being
/// side by side, and which cell of the output's plane it is. `None`, with nothing written, for layers that [`is_pooled`]
/// does not find.
pub(crate) fn forward_pooled(
    layer: &Layer,
    inputs: [&[f32]; 2],
    finish: Finish<'_>,
    outputs: (&mut [f32], &mut [u32]),
) -> Option<()> {
    match pooled_kernel(layer)? {
        PooledKernel::Blocks => blocks::forward_pooled(layer, inputs, finish, outputs),
        PooledKernel::Windows(kernel) => windows::forward_pooled(layer, kernel, inputs, finish, outputs),
    }
    Some(())
}

/// The forward kernels with pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PooledKernel {
    Blocks,
    Windows(windows::Kernel),
}

/// What max-pooling takes by itself for an element that it reads, in products of one lane, fitted to times on a Zen 4
/// core.
const POOL: usize = 8;

/// Whether vectors are among those that kernels with windows in the lanes were measured with. On others images are laid out
/// by plain loops.
fn has_windows() -> bool {
    isa::lanes() >= LANES / 2
}

/// A constant of a cost that is not the same for all vectors, fitted to times on a Zen 4 core: with the sixteen lanes of
/// AVX-512, which also stand for what was not measured, and with the eight of AVX2.
fn by_lanes([sixteen, eight]: [usize; 2]) -> usize {
    if isa::lanes() == LANES / 2 { eight } else { sixteen }
}

/// Layers whose kernels a thread remembers: to compare their costs takes as long as some rows of an image.
const MOST_REMEMBERED: usize = 8;

thread_local! {
    static POOLED_KERNELS: RefCell<Vec<(Layer, Option<PooledKernel>)>> = const { RefCell::new(Vec::new()) };
}

/// The kernel that computes least, if that is less than what convolution and pooling take by themselves.
fn pooled_kernel(layer: &Layer) -> Option<PooledKernel> {
    if !has_windows() {
        return None;
    }
    POOLED_KERNELS.with_borrow_mut(|known| {
        if let Some((_, kernel)) = known.iter().find(|(of, _)| of == layer) {
            return *kernel;
        }
        let kernel = cheapest_pooled_kernel(layer);
        known.truncate(MOST_REMEMBERED - 1);
        known.insert(0, (*layer, kernel));
        kernel
    })
}

fn cheapest_pooled_kernel(layer: &Layer) -> Option<PooledKernel> {
    let (_, apart) = kernel_and_cost(layer);
    let windows =
        windows::Kernel::ALL.map(|kernel| kernel.cost(layer).map(|cost| (cost, PooledKernel::Windows(kernel))));
    // With 16 registers the compiler leaves sums in memory.
    let has_blocks = blocks::is_pooled(layer) && isa::has_32_registers();
    let blocks = has_blocks.then(|| (blocks::cost(layer), PooledKernel::Blocks));
    let (cost, kernel) = windows.into_iter().chain([blocks]).flatten().min_by_key(|(cost, _)| *cost)?;
    (cost < apart + POOL * layer.out_channels * layer.out_pixels()).then_some(kernel)
}

/// The kernels that there are without pooling, `Blocks` being `taps` for weight gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// Those of windows.
    Tiles(windows::Rows),
    /// Of gradients alone.
    Lines,
    Winograd,
    Columns,
    Blocks,
}

/// The kernel that computes least.
fn kernel(layer: &Layer) -> Kernel {
    kernel_and_cost(layer).0
}

/// With what it takes for an image, in products of one lane.
fn kernel_and_cost(layer: &Layer) -> (Kernel, usize) {
    let columns = (layer.stride == [1, 1]).then(|| (Kernel::Columns, columns::cost(layer)));
    let winograd = winograd::cost(layer).map(|cost| (Kernel::Winograd, cost));
    let tiles = windows::cost(layer).filter(|_| has_windows()).map(|(cost, rows)| (Kernel::Tiles(rows), cost));
    let blocks = (Kernel::Blocks, blocks::cost(layer));
    // The first of those that take as much.
    columns.into_iter().chain([blocks]).chain(winograd).chain(tiles).min_by_key(|(_, cost)| *cost).unwrap_or(blocks)
}

/// Adds the weight gradient of images side by side to `total` (O, C, KH, KW), on the calling thread.
pub(crate) fn grad_weight(layer: &Layer, grad: &[f32], input: &[f32], total: &mut [f32]) {
    match grad_weight_kernel(layer).0 {
        Kernel::Lines => lines::grad_weight(layer, grad, input, total),
        Kernel::Winograd => winograd::grad_weight(layer, grad, input, total),
        Kernel::Columns => columns::grad_weight(layer, grad, input, total),
        _ => taps::grad_weight(layer, grad, input, total),
    }
}

/// The kernel of the weight gradient that computes least, and what it takes for an image.
fn grad_weight_kernel(layer: &Layer) -> (Kernel, usize) {
    let blocks = (Kernel::Blocks, taps::cost(layer));
    let columns = columns::grad_weight_cost(layer).map(|cost| (Kernel::Columns, cost));
    let winograd = winograd::grad_weight_cost(layer).map(|cost| (Kernel::Winograd, cost));
    // Sums at a point are of fewer products, and take as long to be put where they belong.
    let line = |line: &Layer| Some(grad_weight_kernel(line).1 / 8 * 11);
    let lines = lines::cost(layer, line).map(|cost| (Kernel::Lines, cost));
    let others = columns.into_iter().chain(winograd).chain(lines);
    [blocks].into_iter().chain(others).min_by_key(|(_, cost)| *cost).unwrap_or(blocks)
}

/// The gradient by the input of images side by side, of one group of channels after the other; `None`, with nothing
/// written, where the direct kernels have none.
pub(crate) fn grad_input(layer: &Layer, groups: usize, [grad, weight]: [&[f32]; 2], out: &mut [f32]) -> Option<()> {
    if layer.stride != [1, 1] {
        return if groups == 1 { strided::grad_input(layer, grad, weight, out) } else { None };
    }
    let (transposed, group_len) = (layer.transposed(), layer.out_channels * layer.num_taps());
    match grad_input_kernel(layer, transposed.as_ref()) {
        Some((InputKernel::Lines, _)) if groups == 1 => lines::grad_input(layer, grad, weight, out),
        Some((InputKernel::Rows, _)) if groups == 1 => rows::input::grad_input(layer, grad, weight, out),
        _ => {
            let transposed = transposed?;
            scratch::with(weight.len(), |flipped: &mut [f32]| {
                for (weight, flipped) in weight.chunks_exact(group_len).zip(flipped.chunks_exact_mut(group_len)) {
                    flip_weights(layer, weight, flipped);
                }
                forward(&transposed, groups, [grad, flipped], Finish::NONE, out);
            });
        }
    }
    Some(())
}

/// The kernels of the gradient by the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputKernel {
    Lines,
    Rows,
    /// Those of the convolution under turned weights.
    Transposed,
}

/// The kernel of an input gradient that computes least, and what it takes for an image; `transposed` is the convolution
/// under turned weights, where there is one.
fn grad_input_kernel(layer: &Layer, transposed: Option<&Layer>) -> Option<(InputKernel, usize)> {
    let rows = rows::input::cost(layer).filter(|_| has_windows()).map(|cost| (InputKernel::Rows, cost));
    let transposed = transposed.map(|transposed| (InputKernel::Transposed, kernel_and_cost(transposed).1));
    let line = |line: &Layer| grad_input_kernel(line, line.transposed().as_ref()).map(|(_, cost)| cost);
    let lines = lines::cost(layer, line).map(|cost| (InputKernel::Lines, cost * by_lanes([2, 3]) / 2));
    // The first of those that take as much.
    transposed.into_iter().chain(rows).chain(lines).min_by_key(|(_, cost)| *cost)
}

/// Weights (O, C, KH, KW) as those of [`Layer::transposed`]: (C, O, KH, KW), each kernel turned around.
fn flip_weights(layer: &Layer, weight: &[f32], flipped: &mut [f32]) {
    let elems = layer.kernel[0] * layer.kernel[1];
    for out_channel in 0..layer.out_channels {
        for in_channel in 0..layer.in_channels {
            let from = &weight[(out_channel * layer.in_channels + in_channel) * elems..][..elems];
            let to = &mut flipped[(in_channel * layer.out_channels + out_channel) * elems..][..elems];
            to.iter_mut().zip(from.iter().rev()).for_each(|(to, &from)| *to = from);
        }
    }
}

/// What is done to a sum before it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish<'a> {
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
}

impl Finish<'_> {
    /// The sum as it is.
    const NONE: Finish<'static> = Finish { bias: None, relu: false };

    fn bias(&self, channel: usize) -> f32 {
        self.bias.map_or(0.0, |bias| bias[channel])
    }
}

/// max(x, 0), where not-a-number stays.
#[inline(always)]
fn rectify<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    if S::F32_LANES == 1 {
        // One lane's maximum is the number where the other is none.
        return simd.select_f32s(simd.less_than_or_equal_f32s(x, zero), zero, x);
    }
    // The vector instructions of x86 give their second operand where either is no number, and NEON's keep it.
    simd.max_f32s(zero, x)
}
