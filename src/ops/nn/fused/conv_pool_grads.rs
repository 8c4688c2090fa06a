//! The gradients of a convolution whose output went into 2×2 max-pooling, by its input and by its weight: the gradient
//! before pooling is never stored. For real GPUs; a software adapter would gain nothing from workgroup memory.

use crate::Result;
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, to_u32};
use crate::ops::nn::activation::Activation;
use crate::ops::nn::conv2d::{Conv2d, Geometry, MAX_VEC4_KERNEL, Params, with_constants};
use crate::tensor::Shape;

static GRAD_INPUT: Shader = Shader {
    name: "conv2d_pool_grad_input",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/row_window.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/activation_gradient.wgsl"),
        include_str!("../../../../shaders/conv2d_pool_grad_input.wgsl"),
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};
static GRAD_WEIGHT: Shader = Shader {
    name: "conv2d_pool_grad_weight",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/conv2d_pool_grad_weight.wgsl"),
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};
pub static SHADERS: &[&Shader] = &[&GRAD_INPUT, &GRAD_WEIGHT];

/// Floats of workgroup memory that every device has.
const WORKGROUP_FLOATS: usize = 4096;
/// The most threads of a workgroup here: four subgroups of 32.
const MAX_THREADS: usize = 128;
/// The most slices, which one thread of the update adds up.
const MAX_SLICES: usize = 64;
/// The most pixels in a row, by fours, and channels, by twos, of a workgroup of the gradient by the input.
const MAX_QUADS: usize = 8;
const MAX_PAIRS: usize = 4;
/// Workgroups that fill a GPU.
const MANY_WORKGROUPS: usize = 512;
/// The most floats of partial sums that are worth a dispatch less.
const MAX_PARTIALS: usize = 1 << 20;
/// Floats that a thread of the gradient by the weight hands over.
const SUMS: usize = 6;

/// Whether a convolution, of those that [`ConvPool`] takes, has its edges where the kernels expect them.
fn is_plain(conv: &Conv2d, geometry: &Geometry) -> bool {
    let plain = Conv2d { padding: conv.padding, ..Conv2d::default() };
    *conv == plain && (0..2).all(|axis| conv.padding[axis] < geometry.kernel[axis] && geometry.output[axis] >= 2)
}

/// The gradient by the input. Inputs: the pooled gradient, indices, the weight and, with an activation, what that gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvPoolGradInput {
    pub conv: Conv2d,
    pub input: Shape,
    /// The activation before the convolution, whose gradient is taken as well.
    pub activation: Activation,
}

impl ConvPoolGradInput {
    /// The fused op, if there is a kernel for this convolution.
    pub fn new(conv: Conv2d, input: &Shape, weight: &Shape, activation: Activation) -> Option<Self> {
        let geometry = conv.geometry(input, weight).ok()?;
        let found = is_plain(&conv, &geometry) && Self::tile(&geometry).is_some();
        found.then(|| ConvPoolGradInput { conv, input: input.clone(), activation })
    }

    /// How a workgroup goes about it, if its memory has room for one output channel.
    fn tile(geometry: &Geometry) -> Option<InputTile> {
        let [in_h, in_w] = geometry.input;
        let [kernel_h, kernel_w] = geometry.kernel;
        let quads = in_w.div_ceil(4).min(MAX_QUADS);
        let pairs = geometry.in_channels.div_ceil(2).min(MAX_PAIRS);
        let tiles = |height: usize| {
            let of_image = in_h.div_ceil(height) * in_w.div_ceil(4 * quads) * geometry.in_channels.div_ceil(2 * pairs);
            geometry.batch * of_image
        };
        // As many rows as there are threads for, and all workgroups of an image with about as many.
        let rows = |sharers: usize| {
            let most = (MAX_THREADS / (quads * pairs * sharers)).clamp(1, in_h);
            in_h.div_ceil(in_h.div_ceil(most))
        };
        let is_shared = tiles(rows(1)) < MANY_WORKGROUPS;
        let height = rows(1 + usize::from(is_shared));
        let around = [height + kernel_h - 1, 4 * (quads + 1)];
        let windows = [0, 1].map(|axis| (around[axis] / 2 + 1).min(geometry.output[axis] / 2));
        let weights = 2 * pairs * kernel_h * kernel_w;
        let floats = around.iter().product::<usize>() + 2 * windows.iter().product::<usize>() + weights;
        let most = (WORKGROUP_FLOATS / floats).min(geometry.out_channels);
        let fits = most > 0 && kernel_w <= MAX_VEC4_KERNEL;
        fits.then(|| {
            let chunk = geometry.out_channels.div_ceil(geometry.out_channels.div_ceil(most));
            InputTile { height, quads, pairs, is_shared, windows, chunk }
        })
    }

    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.conv.geometry(&self.input, &ctx.inputs[2].shape)?;
        let tile = Self::tile(&geometry).expect("new() found one");
        let InputTile { height, quads, pairs, is_shared, windows: [windows_h, windows_w], chunk } = tile;
        let units = geometry.batch
            * geometry.input[0].div_ceil(height)
            * geometry.input[1].div_ceil(4 * quads)
            * geometry.in_channels.div_ceil(2 * pairs);
        let threads = height * quads * pairs * (1 + usize::from(is_shared));
        // Each chunk fills the memory, or less, and is walked over by rows of the kernel.
        let staged = 3 + 2 * WORKGROUP_FLOATS / threads;
        let work = grid(units, 1).iterations(
            geometry.out_channels * (1 + geometry.kernel[0]) + geometry.out_channels.div_ceil(chunk) * staged,
        );
        // Without an activation the weight is bound instead, and not read.
        let activated = Binding::Input(if self.activation == Activation::None { 2 } else { 3 });
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Input(2), activated, Binding::Output(0)];
        let dispatch = Dispatch::new(&GRAD_INPUT, "staged", &Params::of(&geometry), bindings, work)
            .constant("TILE_H", to_u32(height))
            .constant("TILE_QUADS", to_u32(quads))
            .constant("PAIRS", to_u32(pairs))
            .constant("SHARED", u32::from(is_shared))
            .constant("THREADS", to_u32(threads))
            .constant("WINDOWS_H", to_u32(windows_h))
            .constant("WINDOWS_W", to_u32(windows_w))
            .constant("CHUNK", to_u32(chunk))
            .constant("GRADIENT_OF", self.activation.code());
        Ok(with_constants(dispatch, &geometry).into())
    }
}

/// The pixels and channels of a workgroup of the gradient by the input.
struct InputTile {
    height: usize,
    /// Four pixels in a row each.
    quads: usize,
    /// Two channels each.
    pairs: usize,
    /// Whether a thread takes one of a pair.
    is_shared: bool,
    /// Rows and columns of windows that are read.
    windows: [usize; 2],
    /// Output channels at a time.
    chunk: usize,
}

/// The gradients by weight and bias, one sum for each slice of images: shape (slices, weights and biases, each padded to
/// whole vec4s). Inputs: the pooled gradient, indices and the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvPoolGradWeight {
    pub conv: Conv2d,
    pub weight: Shape,
    pub images_per_slice: usize,
}

impl ConvPoolGradWeight {
    /// The fused op, if there is a kernel for this convolution.
    pub fn new(conv: Conv2d, input: &Shape, weight: &Shape) -> Option<Self> {
        let geometry = conv.geometry(input, weight).ok()?;
        let [tile_out, tile_in, _] = Self::tile(&geometry)?;
        let tiles = (geometry.out_channels / tile_out) * (geometry.in_channels / tile_in);
        let slices = MANY_WORKGROUPS.div_ceil(tiles).min(MAX_SLICES).min(geometry.batch);
        let images_per_slice = geometry.batch.div_ceil(slices);
        let op = ConvPoolGradWeight { conv, weight: weight.clone(), images_per_slice };
        let partials = geometry.batch.div_ceil(images_per_slice) * op.slice_elems();
        let is_small = geometry.kernel[1] <= MAX_VEC4_KERNEL && partials <= MAX_PARTIALS;
        (is_plain(&conv, &geometry) && is_small).then_some(op)
    }

    /// Where the sums for the bias begin in a slice.
    pub fn bias_offset(&self) -> usize {
        self.weight.num_elems().next_multiple_of(4)
    }

    /// Floats of a slice.
    pub fn slice_elems(&self) -> usize {
        self.bias_offset() + self.weight[0].next_multiple_of(4)
    }

    /// Output and input channels of a workgroup, and threads that share a kernel row: as many rows as there are threads
    /// and memory for.
    fn tile(geometry: &Geometry) -> Option<[usize; 3]> {
        let divisors = |count: usize| (1..=count).filter(move |divisor| count.is_multiple_of(*divisor));
        let [kernel_h, kernel_w] = geometry.kernel;
        let [out_h, out_w] = geometry.output;
        let plane = (out_h + kernel_h - 1) * (out_w + kernel_w - 1);
        let fits = |tile_out: usize, tile_in: usize| {
            let rows = tile_out * tile_in * kernel_h;
            let split = (MAX_THREADS / rows.max(1)).min(out_h);
            let floats = tile_in * plane + tile_out * out_h * out_w + SUMS * MAX_THREADS;
            (rows <= MAX_THREADS && floats <= WORKGROUP_FLOATS).then_some([tile_out, tile_in, split])
        };
        let pairs = divisors(geometry.out_channels)
            .flat_map(|tile_out| divisors(geometry.in_channels).filter_map(move |tile_in| fits(tile_out, tile_in)));
        pairs.max_by_key(|&[tile_out, tile_in, split]| (tile_out * tile_in * split, tile_in))
    }

    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.conv.geometry(&ctx.inputs[2].shape, &self.weight)?;
        let [tile_out, tile_in, split] = Self::tile(&geometry).expect("new() found one");
        let tiles = (geometry.out_channels / tile_out) * (geometry.in_channels / tile_in);
        let units = geometry.batch.div_ceil(self.images_per_slice) * tiles;
        let threads = (tile_out * tile_in * geometry.kernel[0] * split).next_multiple_of(32);
        let [out_h, out_w] = geometry.output;
        let image = 3 + WORKGROUP_FLOATS / threads + out_h.div_ceil(split) * (1 + out_w);
        let work = grid(units, 1).iterations(self.images_per_slice * image + SUMS * split);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Input(2), Binding::Output(0)];
        let params = Params { rows_per_slice: to_u32(self.images_per_slice), ..Params::of(&geometry) };
        let dispatch = Dispatch::new(&GRAD_WEIGHT, "staged", &params, bindings, work)
            .constant("TILE_OUT", to_u32(tile_out))
            .constant("TILE_IN", to_u32(tile_in))
            .constant("SPLIT", to_u32(split))
            .constant("OUT_H", to_u32(out_h))
            .constant("OUT_W", to_u32(out_w))
            .constant("THREADS", to_u32(threads));
        Ok(with_constants(dispatch, &geometry).into())
    }
}
