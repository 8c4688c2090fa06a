//! Depthwise convolution and its gradients on real GPUs: threads keep a channel's filter, or its gradient's sums, in registers and
//! go down a few rows of a plane. `gpu.rs` asks here first.

use super::Geometry;
use super::added::Added;
use super::gpu::{Params, with_constants};
use super::grad_weight::Slicing;
use super::staged::Direction;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, to_u32};

pub static SHADER: Shader = Shader {
    name: "conv2d_depthwise",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/activation.wgsl"),
        include_str!("../../../../shaders/lib/added.wgsl"),
        include_str!("../../../../shaders/lib/depthwise.wgsl"),
        include_str!("../../../../shaders/conv2d_depthwise.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};
pub static WEIGHT_SHADER: Shader = Shader {
    name: "conv2d_depthwise_weight",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/depthwise.wgsl"),
        include_str!("../../../../shaders/conv2d_depthwise_weight.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// The largest kernel, since drivers took minutes for the loops of one of seven that are written out, and output channels of
/// an input channel whose gradients a thread adds up.
const MAX_KERNEL: usize = 5;
const MAX_MULTIPLIER: usize = 8;
/// Pixels of a quad. Where rows are whole quads a thread has one, in fewer rows than where it has a pixel or two.
const QUAD: usize = 4;
const ROWS_OF_QUADS: usize = 4;
const ROWS_OF_PIXELS: usize = 8;
/// Rows and columns of the other plane under them that are written out.
const MAX_ROWS_UNDER: usize = 12;
const MAX_COLUMNS: usize = 16;
const THREADS: usize = 128;
/// Half as many threads as an H100 has places for, each of which has several loads on their way: with fewer, they have fewer rows.
const MANY_THREADS: usize = 1 << 16;

/// The sums of a tap in workgroup memory besides those of the threads, and how many floats every device has there.
const PARTS: usize = 8;
const WORKGROUP_FLOATS: usize = 4096;
const MIN_WEIGHT_THREADS: usize = 64;
/// Strips that a thread of the gradient by the weight waits for, one after another, if that does not make too many slices.
const MAX_ROUNDS: usize = 8;

/// What a thread has of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Strip {
    direction: Direction,
    width: usize,
    rows: usize,
    /// Whether the other plane is read by quads.
    by_quads: bool,
    /// Strips across the plane, and down.
    across: usize,
    down: usize,
}

impl Strip {
    /// The strip for a convolution that is depthwise and one for the kernels. A thread has fewer rows if otherwise `planes` planes
    /// made fewer strips than `many`.
    fn of(geometry: &Geometry, direction: Direction, planes: usize, many: usize) -> Option<Strip> {
        let conv = &geometry.conv;
        let is_transposed = direction == Direction::Transposed;
        let ([height, width], source) =
            if is_transposed { (geometry.input, geometry.output) } else { (geometry.output, geometry.input) };
        let is_depthwise = conv.groups > 1 && geometry.group_in() == 1 && geometry.group_out() <= MAX_MULTIPLIER;
        if !is_depthwise || geometry.kernel.iter().any(|&size| size > MAX_KERNEL) {
            return None;
        }
        // Strips begin at multiples of these, so that all meet the same taps.
        let spread = if is_transposed { conv.stride } else { [1, 1] };
        let is_whole = width.is_multiple_of(QUAD);
        let by_quads = spread[1] == 1 && is_whole && source[1].is_multiple_of(QUAD);
        let is_wide = by_quads || spread[1] > 1 && is_whole && QUAD.is_multiple_of(spread[1]);
        let strip = |width, by_quads| Strip { direction, width, rows: 1, by_quads, across: 0, down: 0 };
        let strips = [strip(if is_wide { QUAD } else { spread[1] }, by_quads), strip(spread[1], false)];
        let is_taken = |strip: &Strip| strip.width <= QUAD && strip.columns(geometry) <= MAX_COLUMNS;
        let mut strip = strips.into_iter().find(is_taken)?;
        let most = if strip.width > 2 { ROWS_OF_QUADS.max(spread[0]) } else { ROWS_OF_PIXELS };
        let fits = |&rows: &usize| Strip { rows, ..strip }.rows_under(geometry) <= MAX_ROWS_UNDER;
        let most = (spread[0]..=most).step_by(spread[0]).take_while(fits).last()?;
        strip.rows = height.div_ceil(height.div_ceil(most)).next_multiple_of(spread[0]);
        strip.across = width.div_ceil(strip.width);
        while planes * strip.across * height.div_ceil(strip.rows) < many && strip.rows > spread[0] {
            strip.rows = strip.rows.div_ceil(2).next_multiple_of(spread[0]);
        }
        strip.down = height.div_ceil(strip.rows);
        Some(strip)
    }

    /// Of the other plane how many rows, or columns, so many neighbours meet: as lib/depthwise.wgsl counts them.
    fn under(&self, geometry: &Geometry, axis: usize, neighbours: usize) -> usize {
        let Geometry { kernel, conv, .. } = geometry;
        let (kernel, stride, dilation) = (kernel[axis], conv.stride[axis], conv.dilation[axis]);
        if self.direction == Direction::Transposed {
            let lift = conv.padding[axis] + stride * kernel * dilation;
            return (neighbours - 1 + lift) / stride + 1 - self.first(geometry, axis);
        }
        (neighbours - 1) * stride + (kernel - 1) * dilation + 1
    }

    /// Of a transposed one the first of these for the last tap.
    fn first(&self, geometry: &Geometry, axis: usize) -> usize {
        let Geometry { kernel, conv, .. } = geometry;
        let (kernel, stride, dilation) = (kernel[axis], conv.stride[axis], conv.dilation[axis]);
        (conv.padding[axis] + stride * kernel * dilation - (kernel - 1) * dilation).div_ceil(stride)
    }

    fn rows_under(&self, geometry: &Geometry) -> usize {
        self.under(geometry, 0, self.rows)
    }

    /// Columns of a window, those that it begins too early included.
    fn columns(&self, geometry: &Geometry) -> usize {
        let first = match self.direction {
            Direction::Transposed => self.first(geometry, 1) + 3 * geometry.kernel[1] * geometry.conv.dilation[1],
            Direction::Forward { .. } => 3 * geometry.conv.padding[1],
        };
        let offset = if self.by_quads { first % QUAD } else { 0 };
        offset + self.under(geometry, 1, self.width)
    }

    fn constants(&self, dispatch: Dispatch, geometry: &Geometry) -> Dispatch {
        let dispatch = dispatch
            .constant("MULTIPLIER", to_u32(geometry.group_out()))
            .constant("WIDTH", to_u32(self.width))
            .constant("ROWS", to_u32(self.rows))
            .constant("BY_QUADS", u32::from(self.by_quads))
            .constant("STRIPS", to_u32(self.across))
            .constant("BLOCKS", to_u32(self.down));
        with_constants(dispatch, geometry)
    }
}

/// The convolution, or its gradient by the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depthwise {
    strip: Strip,
    /// Strips in all.
    num_strips: usize,
}

impl Depthwise {
    pub fn of(geometry: &Geometry, direction: Direction, gpu: GpuTraits) -> Option<Depthwise> {
        if gpu.is_software {
            return None;
        }
        let channels = if direction == Direction::Transposed { geometry.in_channels } else { geometry.out_channels };
        let planes = geometry.batch * channels;
        let strip = Strip::of(geometry, direction, planes, MANY_THREADS)?;
        Some(Depthwise { strip, num_strips: planes * strip.across * strip.down })
    }

    /// Operand 2 of a gradient is what is added to it.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        let (activation, has_bias) = match self.strip.direction {
            Direction::Forward { has_bias } => (geometry.conv.activation.code(), has_bias),
            Direction::Transposed => (0, false),
        };
        // Without a bias the weight is bound instead, and not read.
        let bindings = [
            Binding::Input(0),
            Binding::Input(0),
            Binding::Input(1),
            Binding::Input(if has_bias { 2 } else { 1 }),
            Binding::Output(0),
            Added::binding(added, Binding::Input(1)),
        ];
        let result = if self.strip.direction == Direction::Transposed { geometry.input } else { geometry.output };
        let is_whole = self.strip.width == QUAD && result[1].is_multiple_of(QUAD);
        let entry_point = if is_whole { "strips_vec4" } else { "strips" };
        let work = grid(self.num_strips, to_u32(THREADS)).short_loops();
        let dispatch = Dispatch::new(&SHADER, entry_point, &Params::of(geometry), bindings, work)
            .constant("HAS_BIAS", u32::from(has_bias))
            .constant("ACTIVATION", activation)
            .constant("TRANSPOSED", u32::from(self.strip.direction == Direction::Transposed))
            .constant("THREADS", to_u32(THREADS));
        self.strip.constants(Added::constants(added, dispatch), geometry).into()
    }
}

/// The first pass of the gradient by the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseWeight {
    strip: Strip,
    threads: usize,
}

impl DepthwiseWeight {
    pub fn of(geometry: &Geometry, gpu: GpuTraits) -> Option<DepthwiseWeight> {
        if gpu.is_software {
            return None;
        }
        // The input's planes meet those of the gradient as they meet the output.
        let direction = Direction::Forward { has_bias: false };
        let strip = Strip::of(geometry, direction, geometry.batch, MIN_WEIGHT_THREADS)?;
        let is_full = geometry.batch * strip.across * strip.down >= THREADS;
        let fits = num_sums(geometry) * (THREADS + PARTS) <= WORKGROUP_FLOATS;
        Some(DepthwiseWeight { strip, threads: if is_full && fits { THREADS } else { MIN_WEIGHT_THREADS } })
    }

    /// The slices that the rows of a batch are cut into, at most `most_slices` and with about `target` workgroups: whole images, or
    /// parts of one.
    pub fn slicing(&self, geometry: &Geometry, target: usize, most_slices: usize) -> Slicing {
        let Strip { rows, across, down, .. } = self.strip;
        let strips = geometry.batch * across * down;
        let to_fill = target.div_ceil(geometry.out_channels).min(strips / self.threads);
        let wanted = to_fill.max(strips.div_ceil(MAX_ROUNDS * self.threads)).clamp(1, most_slices);
        let num_rows = geometry.batch * geometry.output[0];
        let rows_per_slice = match geometry.batch / wanted {
            0 => (rows * down.div_ceil(wanted.div_ceil(geometry.batch))).min(geometry.output[0]),
            images => images * geometry.output[0],
        };
        // Of images that go into slices badly not more than there may be.
        let rows_per_slice = rows_per_slice.max(num_rows.div_ceil(most_slices));
        Slicing {
            threads: self.threads,
            groups_per_slice: geometry.out_channels,
            rows_per_slice,
            num_slices: num_rows.div_ceil(rows_per_slice),
        }
    }

    /// The sums of each slice, into `partials`.
    pub fn dispatch(&self, geometry: &Geometry, slicing: Slicing, partials: Binding) -> Dispatch {
        // Blocks of rows at both ends may be another slice's as well.
        let blocks = 2 + slicing.rows_per_slice.div_ceil(geometry.output[0]) * self.strip.down;
        let rounds = (blocks * self.strip.across).div_ceil(self.threads);
        let part_rounds = (PARTS * num_sums(geometry)).div_ceil(self.threads);
        let iterations = rounds + part_rounds * (2 + self.threads / PARTS) + PARTS + 3;
        let work = grid(slicing.groups_per_slice * slicing.num_slices, 1).iterations(iterations);
        let params = Params { rows_per_slice: to_u32(slicing.rows_per_slice), ..Params::of(geometry) };
        let bindings = [Binding::Input(1), Binding::Input(1), Binding::Input(0), Binding::Input(0), partials];
        let dispatch =
            Dispatch::new(&WEIGHT_SHADER, "slices", &params, bindings, work).constant("THREADS", to_u32(self.threads));
        self.strip.constants(dispatch, geometry)
    }
}

/// The sums for a channel: of its taps, and of the bias.
fn num_sums(geometry: &Geometry) -> usize {
    geometry.kernel[0] * geometry.kernel[1] + 1
}
