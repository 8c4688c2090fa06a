//! Batches out of a data set that lies on the device as bytes, normalised on the way.

use crate::graph::{Graph, NodeKind, Value};
use crate::ops::batch::{Along, BatchForm, Part, PartInput};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        batch_size: u32,
        image_elems: u32,
        plane_elems: u32,
        num_first: u32,
        num_images: u32,
        num_positions: u32,
        scale_0: f32,
        scale_1: f32,
        scale_2: f32,
        scale_3: f32,
        shift_0: f32,
        shift_1: f32,
        shift_2: f32,
        shift_3: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "gather",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/gather.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Elements that one invocation of the shader computes.
const PIXELS: usize = 4;

/// Channels that the shader has constants for.
const MAX_CHANNELS: usize = 4;

/// How images are normalised: `(byte / 255 − mean) / std`, one pair for each channel
/// (`torchvision.transforms.ToTensor` followed by `Normalize`).
#[derive(Clone, Debug, PartialEq)]
pub struct GatherBatch {
    /// The mean of each channel, at most 4, on the scale of 0 to 1.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel, on the same scale.
    pub std: Vec<f64>,
}

impl GatherBatch {
    /// `byte / 255` in each of `num_channels` channels.
    pub fn unit(num_channels: usize) -> Self {
        GatherBatch { mean: vec![0.0; num_channels], std: vec![1.0; num_channels] }
    }
}

/// `(images, labels)` of one batch, from (images_0, images_1, labels, permutation, start). With one shard, images_1
/// is images_0 again and never read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gather {
    pub normalize: GatherBatch,
    pub batch_size: usize,
    pub num_shards: usize,
}

/// Where a batch's images lie.
struct Source {
    num_first: usize,
    num_images: usize,
    image_elems: usize,
    plane_elems: usize,
}

impl Gather {
    fn source(&self, images: &TensorType, more: &TensorType) -> Source {
        let dims = images.shape.dims();
        let num_second = if self.num_shards == 1 { 0 } else { more.shape[0] };
        Source {
            num_first: dims[0],
            num_images: dims[0] + num_second,
            image_elems: dims[1..].iter().product(),
            plane_elems: dims[2..].iter().product(),
        }
    }

    /// The image of a row of the part of the batch that a context has.
    fn image_of<F: Float>(&self, ctx: &CpuContext<'_, F>, row: usize) -> usize {
        let (permutation, start) = (ctx.u32(3), ctx.u32(4)[0] as usize);
        let position = (start.min(permutation.len()) + ctx.first_row + row).min(permutation.len() - 1);
        (permutation[position] as usize).min(self.source(&ctx.inputs[0], &ctx.inputs[1]).num_images - 1)
    }

    fn gather_labels<F: Float>(&self, ctx: &CpuContext<'_, F>, batch: &mut [u32]) {
        let labels = ctx.u32(2);
        batch.iter_mut().enumerate().for_each(|(row, label)| *label = labels[self.image_of(ctx, row)]);
    }

    fn gather_images<F: Float>(&self, ctx: &CpuContext<'_, F>, batch: &mut [F]) {
        let (first, second) = (ctx.u8(0), ctx.u8(1));
        let source = self.source(&ctx.inputs[0], &ctx.inputs[1]);
        let image_of = |row| self.image_of(ctx, row);
        parallel::for_chunks(
            batch,
            source.image_elems,
            1,
            #[inline(always)]
            |row, batch| {
                let image = image_of(row);
                let (shard, at) =
                    if image < source.num_first { (first, image) } else { (second, image - source.num_first) };
                let bytes = &shard[at * source.image_elems..][..source.image_elems];
                let planes = batch.chunks_exact_mut(source.plane_elems).zip(bytes.chunks_exact(source.plane_elems));
                for ((plane, bytes), (mean, std)) in planes.zip(self.normalize.mean.iter().zip(&self.normalize.std)) {
                    // As the shader does it.
                    let (scale, shift) = (F::from_f64(1.0 / (255.0 * std)), F::from_f64(-mean / std));
                    for (y, &byte) in plane.iter_mut().zip(bytes) {
                        *y = F::from_f64(f64::from(byte)) * scale + shift;
                    }
                }
            },
        );
    }

    fn check_constants(&self, num_channels: usize) -> Result<()> {
        let GatherBatch { mean, std } = &self.normalize;
        if num_channels > MAX_CHANNELS || mean.len() != num_channels || std.len() != num_channels {
            let expected = format!("at most {MAX_CHANNELS} channels with a mean and a deviation for each");
            let got = format!("{num_channels} channels, {} means, {} deviations", mean.len(), std.len());
            return Err(Error::operand("gather", expected, got));
        }
        if mean.iter().any(|mean| !mean.is_finite()) || std.iter().any(|&std| !(std.is_finite() && std > 0.0)) {
            let expected = "finite means and deviations above 0";
            return Err(Error::operand("gather", expected, format!("{mean:?} and {std:?}")));
        }
        Ok(())
    }
}

impl Operation for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [images, more, labels, permutation, start] = check::arity("gather", inputs)?;
        for (ty, dtype) in inputs.iter().zip([DType::U8, DType::U8, DType::U32, DType::U32, DType::U32]) {
            check::dtype("gather", ty, dtype)?;
        }
        let (dims, more_dims) = (images.shape.dims(), more.shape.dims());
        let &[_, channels, height, width] = dims else {
            return Err(Error::operand("gather", "images of shape (n, C, H, W)", images.to_string()));
        };
        if more_dims.len() != dims.len() || more_dims[1..] != dims[1..] {
            let expected = format!("shards of one image shape, like {}", images.shape);
            return Err(Error::operand("gather", expected, more.to_string()));
        }
        self.check_constants(channels)?;
        let source = self.source(images, more);
        if source.num_images == 0 || source.image_elems == 0 {
            return Err(Error::operand("gather", "at least one image of at least one pixel", images.to_string()));
        }
        if labels.shape.dims() != [source.num_images] {
            let expected = format!("{} labels, one for each image", source.num_images);
            return Err(Error::operand("gather", expected, labels.to_string()));
        }
        if permutation.shape.rank() != 1 || permutation.shape[0] < self.batch_size {
            let expected = format!("a permutation of shape (n) with n at least the batch size {}", self.batch_size);
            return Err(Error::operand("gather", expected, permutation.to_string()));
        }
        if self.batch_size == 0 || start.shape.rank() != 0 {
            let got = format!("batch size {} and start {start}", self.batch_size);
            return Err(Error::operand("gather", "a batch size of at least 1 and a start of shape ()", got));
        }
        let batch = TensorType::f32([self.batch_size, channels, height, width]);
        Ok(vec![batch, TensorType::u32([self.batch_size])])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (images, labels) = (ctx.output(0), ctx.output_u32(1));
        self.gather_labels(ctx, labels);
        self.gather_images(ctx, images);
    }

    /// The labels, which are small and tell a loss what it divides by, then the images, as they are needed.
    fn parts(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> Vec<Part> {
        let inputs: Vec<PartInput> = (0..inputs.len()).map(PartInput::Input).collect();
        let form = BatchForm::new(vec![Along::Whole; inputs.len()], [Along::Rows]);
        vec![
            Part { inputs: inputs.clone(), outputs: vec![1], updates: Vec::new(), form: None },
            Part { inputs, outputs: vec![0], updates: Vec::new(), form },
        ]
    }

    fn run_part<F: Float>(&self, part: usize, ctx: &mut CpuContext<'_, F>) {
        if part == 0 {
            let labels = ctx.output_u32(0);
            self.gather_labels(ctx, labels);
        } else {
            let images = ctx.output(0);
            self.gather_images(ctx, images);
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let source = self.source(&ctx.inputs[0], &ctx.inputs[1]);
        let GatherBatch { mean, std } = &self.normalize;
        // Kernels compute in f32. Channels that are not there are never asked for.
        let scale = |channel: usize| std.get(channel).map_or(0.0, |std| (1.0 / (255.0 * std)) as f32);
        let shift = |channel: usize| std.get(channel).map_or(0.0, |std| (-mean[channel] / std) as f32);
        let params = Params {
            batch_size: to_u32(self.batch_size),
            image_elems: to_u32(source.image_elems),
            plane_elems: to_u32(source.plane_elems),
            num_first: to_u32(source.num_first),
            num_images: to_u32(source.num_images),
            num_positions: to_u32(ctx.inputs[3].shape.num_elems()),
            scale_0: scale(0),
            scale_1: scale(1),
            scale_2: scale(2),
            scale_3: scale(3),
            shift_0: shift(0),
            shift_1: shift(1),
            shift_2: shift(2),
            shift_3: shift(3),
        };
        let bindings = [
            Binding::Input(0),
            Binding::Input(1),
            Binding::Input(2),
            Binding::Input(3),
            Binding::Scalar(4),
            Binding::Output(0),
            Binding::Output(1),
        ];
        let num_invocations = self.batch_size * source.image_elems.div_ceil(PIXELS);
        let groups = grid(num_invocations, WORKGROUP_SIZE);
        let entry_point = if source.image_elems.is_multiple_of(PIXELS) { "forward_vec4" } else { "forward" };
        Ok(Dispatch::new(&SHADER, entry_point, &params, bindings, groups.iterations(PIXELS))
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn flops(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs[0].shape.num_elems() as u64
    }

    fn bytes(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        // Of the data set only the batch: a byte for each pixel, a position and a label for each image.
        let [batch, labels] = [&outputs[0], &outputs[1]].map(|ty| ty.size_bytes() as u64);
        batch + batch / 4 + 3 * labels
    }

    fn ulps(&self) -> f64 {
        // value · scale + shift with rounded constants, where the two nearly cancel for values near the mean.
        8.0
    }

    fn describe(&self) -> String {
        format!("batch {}, mean {:?}, std {:?}", self.batch_size, self.normalize.mean, self.normalize.std)
    }
}

/// Where [`Graph::gather_batch`] finds a data set and which part of it to take.
#[derive(Clone, Copy, Debug)]
pub struct BatchSource<'a> {
    /// Images as bytes, (n, C, H, W); one value, or two where one exceeds what a device binds at once: the second
    /// then holds the images that follow those of the first.
    pub images: &'a [Value],
    /// One u32 for each image, (total).
    pub labels: Value,
    /// The order in which images are taken, u32, at least `batch_size` long.
    pub permutation: Value,
    /// The batch's first position in the permutation, a u32 scalar ([`Graph::scalar`]).
    pub start: Value,
    /// Images in a batch.
    pub batch_size: usize,
}

impl Graph {
    /// A batch out of a resident data set: `(images (B, C, H, W), labels (B))`, where row i is the image
    /// `permutation[start + i]`, normalised to `(byte / 255 − mean) / std`. No gradient flows through it.
    ///
    /// Positions beyond the permutation, or images beyond the data set, are clamped to the last one; the caller that
    /// fills the step table keeps `start + batch_size` in range.
    ///
    /// # Errors
    /// [`Error::Operand`] where there are not one or two shards of one image shape with a label for each image, where
    /// the constants do not match the channels or the standard deviations are not above 0, or where `start` is not a
    /// scalar.
    pub fn gather_batch(&mut self, normalize: GatherBatch, source: BatchSource<'_>) -> Result<(Value, Value)> {
        let BatchSource { images, labels, permutation, start, batch_size } = source;
        let (first, second) = match *images {
            [only] => (only, only),
            [first, second] => (first, second),
            _ => return Err(Error::operand("gather", "one or two shards of images", images.len().to_string())),
        };
        self.check_scalar("gather", start)?;
        let op = Gather { normalize, batch_size, num_shards: images.len() };
        let batch = self.push(op, &[first, second, labels, permutation, start])?;
        Ok((batch[0], batch[1]))
    }

    /// That a value is a number given for every step, which kernels bind as such.
    pub(crate) fn check_scalar(&self, op: &str, value: Value) -> Result<()> {
        self.check(value)?;
        match self.node(value).kind {
            NodeKind::Scalar(_) => Ok(()),
            _ => Err(Error::operand(op, "a value made by Graph::scalar", self.ty(value).to_string())),
        }
    }
}
