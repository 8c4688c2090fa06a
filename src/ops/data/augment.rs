//! Random changes to a batch of images: crop with padding, horizontal flip, rotation, shift
//! (`torchvision.transforms`: `RandomCrop`, `RandomHorizontalFlip`, `RandomAffine`). What happens to an image is a pure
//! function of seed, step and its row in the batch, so CPU and GPU draw the same bits and a resumed run is
//! bit-identical. No gradient flows through it: images are data.

use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::rng::{Domain, key, random_words, unit_f32};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        num_rows: u32,
        channels: u32,
        height: u32,
        width: u32,
        key_0: u32,
        key_1: u32,
        crop_padding: u32,
        flip_below: u32,
        flip_always: u32,
        use_edge: u32,
        max_radians: f32,
        max_shift: f32,
        fill_0: f32,
        fill_1: f32,
        fill_2: f32,
        fill_3: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "augment",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/philox.wgsl"),
        include_str!("../../../shaders/augment.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Channels that the shader has constants for.
const MAX_CHANNELS: usize = 4;

/// Simple operations that an interpolated element takes, about.
const SAMPLE_COST: usize = 16;

/// Random changes to images. The default changes nothing; each part is on where its number is above 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Augment {
    /// The image is padded by this many pixels on each side, and cropped to its old size at a random position.
    pub crop_padding: usize,
    /// The probability of a horizontal flip, in [0, 1].
    pub flip_probability: f64,
    /// Rotations about the middle are uniform in ± this many degrees, at most 180.
    pub max_rotation_degrees: f64,
    /// Shifts are uniform in ± this many pixels, along each axis on its own; fractions are interpolated.
    pub max_shift: f64,
    /// What lies beyond the border.
    pub border: Border,
}

/// What an image is surrounded by.
#[derive(Clone, Debug, PartialEq)]
pub enum Border {
    /// The nearest pixel of the image.
    Edge,
    /// A value for each channel, at most 4 channels. In normalised images black is `−mean / std`, not 0.
    Fill(Vec<f64>),
}

impl Default for Augment {
    fn default() -> Self {
        Augment {
            crop_padding: 0,
            flip_probability: 0.0,
            max_rotation_degrees: 0.0,
            max_shift: 0.0,
            border: Border::Edge,
        }
    }
}

/// Changes the images of its first input under the step that its second is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AugmentImages {
    pub augment: Augment,
    pub seed: u64,
}

/// What was drawn for one image.
#[derive(Clone, Copy, Debug)]
struct Draw {
    /// Where the piece is cut out, relative to the image: −padding to padding.
    crop: [isize; 2],
    flip: bool,
    radians: f64,
    /// By how much the content moves down and right.
    shift: [f64; 2],
}

impl Augment {
    /// Whether no image is ever changed.
    pub fn is_identity(&self) -> bool {
        self.crop_padding == 0 && self.flip_probability == 0.0 && !self.interpolates()
    }

    /// Whether pixels of the result lie between pixels of the image.
    fn interpolates(&self) -> bool {
        self.max_rotation_degrees > 0.0 || self.max_shift > 0.0
    }

    /// Words below this flip; a probability of 1 is beyond what a word can say and stands apart.
    fn flip_below(&self) -> u32 {
        // From [0, 2^32], where the cast saturates.
        (self.flip_probability * 4_294_967_296.0).round() as u32
    }

    fn flips_always(&self) -> bool {
        self.flip_probability >= 1.0
    }

    fn check(&self, channels: usize, extents: [usize; 2]) -> Result<()> {
        let fail = |expected: String, got: String| Err(Error::operand("augment", expected, got));
        if !(0.0..=1.0).contains(&self.flip_probability) {
            return fail("a flip probability in [0, 1]".into(), self.flip_probability.to_string());
        }
        if !(0.0..=180.0).contains(&self.max_rotation_degrees) {
            return fail("a rotation of 0 to 180 degrees".into(), self.max_rotation_degrees.to_string());
        }
        let [height, width] = extents;
        let largest = height.max(width);
        if !(0.0..=largest as f64).contains(&self.max_shift) || self.crop_padding > largest {
            let got = format!("a shift of {} and a crop padding of {}", self.max_shift, self.crop_padding);
            return fail(format!("shifts of 0 to {largest} pixels, the image's longer side"), got);
        }
        match &self.border {
            Border::Edge => Ok(()),
            Border::Fill(fill)
                if fill.len() == channels && channels <= MAX_CHANNELS && fill.iter().all(|fill| fill.is_finite()) =>
            {
                Ok(())
            }
            Border::Fill(fill) => fail(
                format!("a finite fill for each of {channels} channels, at most {MAX_CHANNELS}"),
                format!("{fill:?}"),
            ),
        }
    }
}

impl AugmentImages {
    /// What happens to the image in row `row`: the same words, from the same counters, as in the shader.
    fn draw(&self, step: u32, row: usize) -> Draw {
        // A batch has fewer than 2^32 rows.
        let words = |block| random_words([row as u32, block, step], Domain::Augmentation, key(self.seed));
        let ([crop_y, crop_x, flip, angle], [shift_y, shift_x, ..]) = (words(0), words(1));
        let padding = self.augment.crop_padding;
        // The upper word of a product: uniform in 0..=2·padding, which is far below 2^32.
        let below = |word: u32| ((u64::from(word) * (2 * padding as u64 + 1)) >> 32) as isize - padding as isize;
        let symmetric = |word| 2.0 * f64::from(unit_f32(word)) - 1.0;
        Draw {
            crop: [below(crop_y), below(crop_x)],
            flip: self.augment.flips_always() || flip < self.augment.flip_below(),
            radians: symmetric(angle) * self.augment.max_rotation_degrees.to_radians(),
            shift: [shift_y, shift_x].map(|word| symmetric(word) * self.augment.max_shift),
        }
    }

    fn fill<F: Float>(&self, channel: usize) -> Option<F> {
        match &self.augment.border {
            Border::Edge => None,
            Border::Fill(fill) => Some(F::from_f64(fill[channel])),
        }
    }
}

impl Operation for AugmentImages {
    fn name(&self) -> &'static str {
        "augment"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x, step] = check::arity("augment", inputs)?;
        let [_, channels, height, width] = check::rank("augment", x, "(N, C, H, W)")?;
        check::dtype("augment", step, DType::U32)?;
        self.augment.check(channels, [height, width])?;
        Ok(vec![x.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, step, y) = (ctx.float(0), ctx.u32(1)[0], ctx.output(0));
        let [_, channels, height, width] = ctx.dims(0);
        let (plane_elems, image_elems) = (height * width, channels * height * width);
        let interpolates = self.augment.interpolates();
        let cost = if interpolates { SAMPLE_COST } else { 1 };
        let first = ctx.first_row;
        parallel::for_chunks(
            y,
            image_elems,
            cost,
            #[inline(always)]
            |row, y| {
                let draw = self.draw(step, first + row);
                let x = &x[row * image_elems..][..image_elems];
                let planes = y.chunks_exact_mut(plane_elems).zip(x.chunks_exact(plane_elems));
                for (channel, (y, x)) in planes.enumerate() {
                    let fill = self.fill(channel);
                    if interpolates {
                        sample_plane(y, x, [height, width], &draw, fill);
                    } else {
                        shift_plane(y, x, [height, width], &draw, fill);
                    }
                }
            },
        );
    }

    fn batch_form(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::new([Along::Rows, Along::Whole], [Along::Rows])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let [batch, channels, height, width]: [usize; 4] = check::rank("augment", &ctx.inputs[0], "(N, C, H, W)")?;
        let [key_0, key_1] = key(self.seed);
        // Kernels compute in f32. Channels that are not there are never asked for.
        let fill = |channel: usize| match &self.augment.border {
            Border::Fill(fill) => fill.get(channel).map_or(0.0, |&fill| fill as f32),
            Border::Edge => 0.0,
        };
        let num_rows = batch * channels * height;
        let params = Params {
            num_rows: to_u32(num_rows),
            channels: to_u32(channels),
            height: to_u32(height),
            width: to_u32(width),
            key_0,
            key_1,
            crop_padding: to_u32(self.augment.crop_padding),
            flip_below: self.augment.flip_below(),
            flip_always: u32::from(self.augment.flips_always()),
            use_edge: u32::from(self.augment.border == Border::Edge),
            max_radians: self.augment.max_rotation_degrees.to_radians() as f32,
            max_shift: self.augment.max_shift as f32,
            fill_0: fill(0),
            fill_1: fill(1),
            fill_2: fill(2),
            fill_3: fill(3),
        };
        let bindings = [Binding::Input(0), Binding::Scalar(1), Binding::Output(0)];
        let entry = if self.augment.interpolates() { "sample" } else { "shift" };
        let groups = grid(num_rows, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, entry, &params, bindings, groups.iterations(width))
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn vjp(&self, _vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![None, None])
    }

    fn flops(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        let per_elem = if self.augment.interpolates() { SAMPLE_COST as u64 } else { 0 };
        per_elem * outputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        // An error of an epsilon in a position, relative to the longer side, moves the result by that share of the
        // difference of two neighbours: the bound grows with the side itself, and this number counts by its root.
        if self.augment.interpolates() {
            inputs[0].shape.dims()[2..].iter().max().map_or(1, |side| side * side)
        } else {
            1
        }
    }

    fn ulps(&self) -> f64 {
        // The position: angle, its sine and cosine through two doublings, two products and a sum, each of about an
        // epsilon; then the four weights. Nothing of this happens where pixels are only copied.
        if self.augment.interpolates() { 32.0 } else { 1.0 }
    }

    fn describe(&self) -> String {
        let Augment { crop_padding, flip_probability, max_rotation_degrees, max_shift, border } = &self.augment;
        format!(
            "crop {crop_padding}, flip {flip_probability}, rotate {max_rotation_degrees}, shift {max_shift}, {border:?}"
        )
    }
}

/// Crop and flip: every pixel is one of the image's or of the border's, to the bit.
#[inline(always)]
fn shift_plane<F: Float>(y: &mut [F], x: &[F], [height, width]: [usize; 2], draw: &Draw, fill: Option<F>) {
    let [crop_y, crop_x] = draw.crop;
    let last = height as isize - 1;
    // Columns of the result that lie within the image, before any flip.
    let start = (-crop_x).clamp(0, width as isize) as usize;
    let end = (width as isize - crop_x).clamp(0, width as isize) as usize;
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        let from = row as isize + crop_y;
        let x = &x[from.clamp(0, last) as usize * width..][..width];
        let outside = if (0..=last).contains(&from) { None } else { fill };
        if let Some(fill) = outside {
            y.fill(fill);
            continue;
        }
        if start < end {
            let source = (start as isize + crop_x) as usize;
            y[start..end].copy_from_slice(&x[source..source + (end - start)]);
        }
        y[..start].fill(fill.unwrap_or(x[0]));
        y[end..].fill(fill.unwrap_or(x[width - 1]));
        if draw.flip {
            y.reverse();
        }
    }
}

/// Rotation and shift on top: every pixel is interpolated between four of the image or of the border.
#[inline(always)]
fn sample_plane<F: Float>(y: &mut [F], x: &[F], [height, width]: [usize; 2], draw: &Draw, fill: Option<F>) {
    let (sin, cos) = draw.radians.sin_cos();
    let (last_y, last_x) = (height as isize - 1, width as isize - 1);
    let (center_y, center_x) = (last_y as f64 / 2.0, last_x as f64 / 2.0);
    let pixel = |row: isize, column: isize| {
        let is_inside = (0..=last_y).contains(&row) && (0..=last_x).contains(&column);
        match fill {
            Some(fill) if !is_inside => fill,
            // Clamped, so both are indices.
            _ => x[row.clamp(0, last_y) as usize * width + column.clamp(0, last_x) as usize],
        }
    };
    let [from_y, from_x] = draw.crop.map(|crop| crop as f64);
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        let dy = row as f64 - center_y - draw.shift[0];
        for (column, y) in y.iter_mut().enumerate() {
            let dx = column as f64 - center_x - draw.shift[1];
            let turned_x = center_x + dx * cos - dy * sin;
            let flipped_x = if draw.flip { last_x as f64 - turned_x } else { turned_x };
            let (at_y, at_x) = (center_y + dx * sin + dy * cos + from_y, flipped_x + from_x);
            let (floor_y, floor_x) = (at_y.floor(), at_x.floor());
            let (part_y, part_x) = (F::from_f64(at_y - floor_y), F::from_f64(at_x - floor_x));
            // Positions lie within a few sides of the image, far from the integers' ends.
            let (top, left) = (floor_y as isize, floor_x as isize);
            let [a, b, c, d] = if top >= 0 && left >= 0 && top < last_y && left < last_x {
                let at = top as usize * width + left as usize;
                [x[at], x[at + 1], x[at + width], x[at + width + 1]]
            } else {
                [pixel(top, left), pixel(top, left + 1), pixel(top + 1, left), pixel(top + 1, left + 1)]
            };
            let (upper, lower) = (a + (b - a) * part_x, c + (d - c) * part_x);
            *y = upper + (lower - upper) * part_y;
        }
    }
}

impl Graph {
    /// Images (N, C, H, W) changed at random, every one in its own way and anew in every `step`, a u32 scalar
    /// ([`Graph::scalar`]): cut out of the padded image (`torchvision.transforms.RandomCrop` with `padding`), flipped
    /// (`RandomHorizontalFlip`), rotated counter-clockwise and shifted (`RandomAffine`). For training only: an
    /// evaluation leaves it out.
    ///
    /// All of it is one resampling, where torchvision's chain makes several: a corner that the crop cut off and the
    /// rotation brings back is there again, and nothing is interpolated twice. Without rotation and shift, pixels are
    /// copied and bits stay as they are. No gradient flows back to `x`, as with [`Graph::detach`].
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` has another rank, a number is out of its range, the border's fill does not match
    /// the channels, or `step` is not a u32 scalar.
    pub fn augment(&mut self, x: Value, augment: Augment, seed: u64, step: Value) -> Result<Value> {
        self.check(x)?;
        self.check_scalar("augment", step)?;
        let [_, channels, height, width] = check::rank("augment", self.ty(x), "(N, C, H, W)")?;
        augment.check(channels, [height, width])?;
        if augment.is_identity() {
            return self.detach(x);
        }
        self.no_grad(|graph| graph.push1(AugmentImages { augment, seed }, &[x, step]))
    }
}
