//! A convolution with its activation, and the largest of each 2×2 window of it: the full-size result is never stored.

use crate::Result;
use crate::ops::cpu::{CpuContext, Float, scratch};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, GpuTraits, Shader, grid, to_u32};
use crate::ops::nn::conv2d::{
    self, CHANNELS, Conv2d, Geometry, MAX_VEC4_KERNEL, Params, pairs_per_thread, strips_per_group, with_constants,
    with_tile_rows,
};
use crate::ops::nn::max_pool2d::MaxPool2d;
use crate::tensor::{Shape, Tensor};

macro_rules! shader {
    ($share:literal, $needs_subgroups:literal) => {
        Shader {
            name: "conv2d_pool",
            source: concat!(
                include_str!("../../../../shaders/lib/conv2d.wgsl"),
                include_str!("../../../../shaders/lib/conv2d_strip.wgsl"),
                include_str!("../../../../shaders/lib/nan.wgsl"),
                include_str!("../../../../shaders/lib/math.wgsl"),
                include_str!("../../../../shaders/lib/activation.wgsl"),
                include_str!("../../../../shaders/lib/largest.wgsl"),
                include_str!("../../../../shaders/lib/register_tile.wgsl"),
                include_str!("../../../../shaders/lib/shared_rows.wgsl"),
                include_str!("../../../../shaders/lib/row_window.wgsl"),
                include_str!("../../../../shaders/lib/kernel_taps.wgsl"),
                include_str!($share),
                include_str!("../../../../shaders/conv2d_pool.wgsl"),
            ),
            params: Params::FIELDS,
            needs_subgroups: $needs_subgroups,
        }
    };
}

static BY_WORKGROUP: Shader = shader!("../../../../shaders/lib/share_workgroup.wgsl", false);
static BY_SUBGROUP: Shader = shader!("../../../../shaders/lib/share_subgroup.wgsl", true);
pub static SHADERS: &[&Shader] = &[&BY_WORKGROUP, &BY_SUBGROUP];

/// Floats of workgroup memory that every device has.
const WORKGROUP_FLOATS: usize = 4096;

/// Two strips of windows, by which a software adapter goes.
const STRIP_WINDOWS: usize = 2;

/// Workgroups that fill a GPU: with fewer a thread takes one channel, which makes more.
const MANY_WORKGROUPS: usize = 512;

/// The tile of a workgroup on a real GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    windows: [usize; 2],
    channels: usize,
    per_thread: usize,
    chunk: usize,
}

/// Inputs: an image, a weight and, where there is one, a bias. Outputs: the maxima and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvPool {
    pub conv: Conv2d,
}

impl ConvPool {
    /// The fused op, if there are kernels for this convolution and pooling on this kind of GPU or, without one, on a CPU.
    pub fn new(
        conv: Conv2d,
        pool: &MaxPool2d,
        [input, weight]: [&Shape; 2],
        gpu: Option<GpuTraits>,
    ) -> Option<ConvPool> {
        let plain = Conv2d { padding: conv.padding, activation: conv.activation, ..Conv2d::default() };
        let geometry = conv.geometry(input, weight).ok()?;
        let [height, width] = geometry.output;
        let is_plain = conv == plain && *pool == MaxPool2d { ceil_mode: pool.ceil_mode, ..MaxPool2d::new([2, 2]) };
        // With `ceil_mode` a last window may reach beyond an odd extent.
        let is_whole = height >= 2 && width >= 2 && (!pool.ceil_mode || height % 2 == 0 && width % 2 == 0);
        let has_kernel = match gpu {
            Some(gpu) if gpu.is_software => {
                geometry.kernel[1] <= MAX_VEC4_KERNEL && [geometry.input[1], width].iter().all(|w| w % 4 == 0)
            }
            Some(_) => Self::tile(&geometry).is_some(),
            None => conv2d::is_pooled_on_cpu(&geometry),
        };
        (is_plain && is_whole && has_kernel).then_some(ConvPool { conv })
    }

    /// Each image on its own, so that a context may have some of a batch.
    pub fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let geometry =
            self.conv.geometry(&ctx.inputs[0].shape, &ctx.inputs[1].shape).expect("infer checked the shapes");
        let (inputs, bias) = ([ctx.float(0), ctx.float(1)], (ctx.inputs.len() == 3).then(|| ctx.float(2)));
        let (maxima, indices) = (ctx.output(0), ctx.output_u32(1));
        if conv2d::forward_pooled(&geometry, inputs, bias, (&mut *maxima, &mut *indices)).is_some() {
            return;
        }
        let num_elems = geometry.batch * geometry.out_channels * geometry.out_pixels();
        scratch::with(num_elems, |whole: &mut [F]| {
            conv2d::forward(&geometry, inputs[0], inputs[1], bias, whole);
            let windows = geometry.output.map(|extent| extent / 2);
            MaxPool2d::new([2, 2]).pool(geometry.output, windows, whole, (maxima, indices));
        });
    }

    /// Tiles that waste few threads: narrow where the image is, and for few channels more windows.
    fn tile(geometry: &Geometry) -> Option<Tile> {
        let [rows, columns] = geometry.output.map(|extent| extent / 2);
        let windows = if columns > 4 && geometry.out_channels <= 8 { [4, 8] } else { [4, 4] };
        let tiles = geometry.batch * rows.div_ceil(windows[0]) * columns.div_ceil(windows[1]);
        let lanes = 64 / (windows[0] * windows[1]);
        // Four channels a thread where that still makes many workgroups.
        let per_thread = if tiles * geometry.out_channels.div_ceil(4 * lanes) >= MANY_WORKGROUPS { 4 } else { 1 };
        let channels = lanes * per_thread;
        let [patch_h, patch_w] = [0, 1].map(|axis| 2 * windows[axis] + geometry.kernel[axis] - 1);
        let floats = patch_h * patch_w + geometry.kernel[0] * geometry.kernel[1] * channels;
        let chunk = (WORKGROUP_FLOATS / floats).min(geometry.in_channels);
        (chunk > 0).then_some(Tile { windows, channels, per_thread, chunk })
    }

    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let geometry = self.conv.geometry(&ctx.inputs[0].shape, &ctx.inputs[1].shape)?;
        let has_bias = ctx.inputs.len() == 3;
        let [out_h, out_w] = geometry.output;
        let params = Params::of(&geometry);
        // Without a bias the weight is bound instead, and not read.
        let bias = Binding::Input(if has_bias { 2 } else { 1 });
        let bindings = [Binding::Input(0), Binding::Input(1), bias, Binding::Output(0), Binding::Output(1)];
        let dispatch = if ctx.gpu.is_software {
            let per_group = strips_per_group(ctx.gpu);
            let window_rows = pairs_per_thread(out_h / 2);
            // Of each channel rows before the first kernel row, then those; and the rows that are stored.
            let iterations =
                geometry.in_channels * (2 + 2 * window_rows + geometry.kernel[0]) + window_rows * (1 + CHANNELS);
            let strips = geometry.batch * (out_h / 2).div_ceil(window_rows) * (out_w / (2 * STRIP_WINDOWS));
            let groups = grid(strips.div_ceil(per_group as usize) * geometry.out_channels.div_ceil(CHANNELS), 1);
            let shader = if ctx.gpu.has_shuffles { &BY_SUBGROUP } else { &BY_WORKGROUP };
            let dispatch = Dispatch::new(shader, "strips", &params, bindings, groups.iterations(iterations))
                .constant("WORKGROUP", per_group)
                .constant("WINDOW_ROWS", to_u32(window_rows));
            with_tile_rows(dispatch, geometry.out_channels, ctx.gpu)
        } else {
            let iterations = geometry.in_channels * (1 + geometry.kernel[0] * (1 + geometry.kernel[1]));
            let tile = Self::tile(&geometry).expect("new() found one");
            let threads = tile.windows[0] * tile.windows[1] * tile.channels / tile.per_thread;
            let units = geometry.batch
                * (out_h / 2).div_ceil(tile.windows[0])
                * (out_w / 2).div_ceil(tile.windows[1])
                * geometry.out_channels.div_ceil(tile.channels);
            // Two loops that stage a chunk, each slot once.
            let staging = geometry.in_channels.div_ceil(tile.chunk) * (2 + WORKGROUP_FLOATS / threads);
            Dispatch::new(&BY_WORKGROUP, "staged", &params, bindings, grid(units, 1).iterations(iterations + staging))
                .constant("TILE_H", to_u32(tile.windows[0]))
                .constant("TILE_W", to_u32(tile.windows[1]))
                .constant("TILE_CHANNELS", to_u32(tile.channels))
                .constant("PER_THREAD", to_u32(tile.per_thread))
                .constant("CHUNK", to_u32(tile.chunk))
                .constant("STAGED_THREADS", to_u32(threads))
        };
        let dispatch =
            dispatch.constant("HAS_BIAS", u32::from(has_bias)).constant("ACTIVATION", self.conv.activation.code());
        Ok(with_constants(dispatch, &geometry).into())
    }

    /// The value at the cell that was chosen for a window.
    pub fn chosen(&self, output: usize, inputs: &[Tensor], index: usize, choice: u32) -> Option<f64> {
        if output != 1 {
            return None;
        }
        let geometry = self.conv.geometry(inputs[0].shape(), inputs[1].shape()).ok()?;
        let values: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64_vec).collect();
        let [rows, columns] = geometry.output.map(|extent| extent / 2);
        let plane = index / (rows * columns);
        let (image, o) = (plane / geometry.out_channels, plane % geometry.out_channels);
        let (y, x) = (choice as usize / geometry.output[1], choice as usize % geometry.output[1]);
        let mut sum = values.get(2).map_or(0.0, |bias| bias[o]);
        for c in 0..geometry.in_channels {
            for i in 0..geometry.kernel[0] {
                for j in 0..geometry.kernel[1] {
                    let at = [y + i, x + j];
                    let [padding_y, padding_x] = self.conv.padding;
                    if at[0] < padding_y || at[1] < padding_x {
                        continue;
                    }
                    let (row, column) = (at[0] - padding_y, at[1] - padding_x);
                    if row < geometry.input[0] && column < geometry.input[1] {
                        let pixel =
                            ((image * geometry.in_channels + c) * geometry.input[0] + row) * geometry.input[1] + column;
                        let tap = ((o * geometry.in_channels + c) * geometry.kernel[0] + i) * geometry.kernel[1] + j;
                        sum += values[0][pixel] * values[1][tap];
                    }
                }
            }
        }
        Some(self.conv.activation.function().map_or(sum, |function| function.value(sum)))
    }
}
