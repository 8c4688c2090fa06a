//! The dispatches of batch normalisation: slices of each channel, then all elements. On software adapters one invocation
//! per channel merges the slices in between; on GPUs, where a dispatch that waits costs more, every workgroup of the last
//! dispatch does so for its channel.

use super::{BatchNorm2d, BatchNormBackward, BatchNormEval, BatchNormTrain, Planes, Statistics};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, Work, grid, params, to_u32};
use crate::ops::nn::activation::Activation;

params! {
    struct Params {
        num_images: u32,
        num_channels: u32,
        plane: u32,
        slice_elems: u32,
        num_slices: u32,
        training: u32,
        eps: f32,
        momentum: f32,
    }
}

macro_rules! shader {
    ($name:literal) => {
        Shader {
            name: $name,
            source: concat!(
                include_str!("../../../../shaders/lib/index.wgsl"),
                include_str!("../../../../shaders/lib/batch_norm2d.wgsl"),
                include_str!("../../../../shaders/lib/nan.wgsl"),
                include_str!("../../../../shaders/lib/math.wgsl"),
                include_str!("../../../../shaders/lib/activation.wgsl"),
                include_str!("../../../../shaders/lib/activation_gradient.wgsl"),
                include_str!("../../../../shaders/lib/batch_norm2d_gradient.wgsl"),
                include_str!(concat!("../../../../shaders/", $name, ".wgsl"))
            ),
            params: Params::FIELDS,
            needs_subgroups: false,
        }
    };
}

static SHADER: Shader = shader!("batch_norm2d");
/// Its kernels merge slices in every workgroup instead of once in a dispatch between: for real GPUs.
static MERGED: Shader = shader!("batch_norm2d_merged");
pub static SHADERS: &[&Shader] = &[&SHADER, &MERGED];

const WORKGROUP_SIZE: u32 = 64;

/// Values of a channel that a workgroup reduces, unless that makes too many slices.
const SLICE_ELEMS: usize = 2048;

/// The most slices of a channel: one invocation merges them, or one workgroup.
const MAX_SLICES: usize = 128;

/// Values of a channel that an invocation of the merged kernels computes.
const BLOCK_ELEMS: usize = 8;

/// Workgroup of the merged kernels where there are many slices, as after a convolution that has one for each of its tiles:
/// each workgroup reads all of a channel's, so that there should be few.
const LARGE_WORKGROUP_SIZE: u32 = 256;

/// The most slices that are worth it: four for each invocation.
pub const MAX_MERGED_SLICES: usize = 4 * LARGE_WORKGROUP_SIZE as usize;

/// What happens to an element after it is normalized, in the same kernel: the element of a residual, another operand of
/// the op, is added, and an activation applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ops::nn) struct Finish {
    pub residual: Option<usize>,
    pub activation: Activation,
}

impl Finish {
    /// The dispatch over all elements, given what the plain kernel is bound to.
    fn normalize(self, planes: Planes, settings: Settings, plain: [Binding; 6]) -> Dispatch {
        let work = grid(planes.num_elems(), WORKGROUP_SIZE);
        if self == Finish::default() {
            return planes.dispatch("normalize", settings, plain, work);
        }
        let mut bindings = Vec::from(plain);
        // Without a residual x is bound instead, and not read.
        bindings.push(Binding::Input(self.residual.unwrap_or(0)));
        planes
            .dispatch("normalize_activate", settings, bindings, work)
            .constant("HAS_RESIDUAL", u32::from(self.residual.is_some()))
            .constant("ACTIVATION", self.activation.code())
    }
}

pub fn train(op: &BatchNormTrain, finish: Finish, ctx: &DispatchContext<'_>) -> Dispatches {
    use Binding::{Input, Output, Scalar, Scratch, ScratchMut, Updated};
    let planes = Planes::of(&ctx.inputs[0]);
    let (_, num_slices) = planes.gpu_slices();
    let channels = planes.num_channels;
    let settings = Settings::of_training(op);
    if !ctx.gpu.is_software {
        return merged_train(op, finish, ctx);
    }
    let slices = planes.dispatch("slices", settings, [Input(0), ScratchMut(0)], grid(num_slices * channels, 1));
    let mut merge = vec![Scratch(0), Output(1), Output(2), Updated(3), Updated(4), ScratchMut(1), ScratchMut(2)];
    // The count of batches is read as a uniform, where there is no momentum.
    let is_cumulative = op.attributes.momentum.is_none();
    merge.extend(is_cumulative.then_some(Scalar(5)));
    let entry_point = if is_cumulative { "merge_cumulative" } else { "merge" };
    let plain = [Input(0), Scratch(1), Scratch(2), Input(1), Input(2), Output(0)];
    let mut list = vec![
        slices,
        planes.dispatch(entry_point, settings, merge, grid(channels, WORKGROUP_SIZE)),
        finish.normalize(planes, settings, plain),
    ];
    if op.counts_batches {
        list.push(planes.dispatch("count", settings, [Updated(5)], Grid::ONE));
    }
    Dispatches { list, scratch_elems: vec![2 * num_slices * channels, channels, channels] }
}

/// The same for GPUs. The moments of slices may be there already, as an operand.
fn merged_train(op: &BatchNormTrain, finish: Finish, ctx: &DispatchContext<'_>) -> Dispatches {
    use Binding::{Input, Output, Scalar, Scratch, ScratchMut, Unused, Updated};
    let planes = Planes::of(&ctx.inputs[0]);
    let channels = planes.num_channels;
    let settings = Settings::of_training(op);
    let (mut list, mut scratch_elems) = (Vec::new(), Vec::new());
    let (moments, num_slices) = match op.moments() {
        Some(operand) => (Input(operand), ctx.inputs[operand].shape[1]),
        None => {
            let (_, num_slices) = planes.gpu_slices();
            let work = grid(num_slices * channels, 1);
            list.push(planes.merged("slices", settings, num_slices, [Input(0), ScratchMut(0)], work));
            scratch_elems.push(4 * num_slices * channels);
            (Scratch(0), num_slices)
        }
    };
    // Without a residual x is bound instead, and not read.
    let residual = Input(finish.residual.unwrap_or(0));
    let bindings = [Input(0), moments, Output(1), Input(1), Input(2), Output(0), residual, Output(2)];
    list.push(
        planes
            .merged("normalize", settings, num_slices, bindings, planes.blocks(num_slices))
            .constant("HAS_RESIDUAL", u32::from(finish.residual.is_some()))
            .constant("ACTIVATION", finish.activation.code()),
    );
    let mut follow = vec![Unused, moments, Unused, Updated(3), Updated(4), Unused, Unused];
    // The count of batches is read as a uniform, where there is no momentum.
    let is_cumulative = op.attributes.momentum.is_none();
    follow.extend(is_cumulative.then_some(Scalar(5)));
    let entry_point = if is_cumulative { "follow_cumulative" } else { "follow" };
    list.push(planes.merged(entry_point, settings, num_slices, follow, grid(channels, 1)));
    if op.counts_batches {
        list.push(planes.dispatch("count", settings, [Updated(5)], Grid::ONE));
    }
    Dispatches { list, scratch_elems }
}

pub fn eval(op: &BatchNormEval, finish: Finish, ctx: &DispatchContext<'_>) -> Dispatches {
    use Binding::{Input, Output};
    let planes = Planes::of(&ctx.inputs[0]);
    let settings = Settings { statistics: Statistics::Running, eps: op.eps, momentum: 0.0 };
    finish.normalize(planes, settings, [Input(0), Input(3), Input(4), Input(1), Input(2), Output(0)]).into()
}

/// `activation` is what the gradient goes through first, by its output, which is operand 5 then. Output 3, where there is
/// one, is the gradient that comes through it.
pub fn backward(op: &BatchNormBackward, activation: Activation, ctx: &DispatchContext<'_>) -> Dispatches {
    use Binding::{Input, Output, Scratch, ScratchMut};
    let planes = Planes::of(&ctx.inputs[1]);
    let (_, num_slices) = planes.gpu_slices();
    let settings = Settings { statistics: op.statistics, eps: op.eps, momentum: 0.0 };
    let channels = planes.num_channels;
    // Without an activation the gradient is bound instead, and not read.
    let activated = Input(if activation == Activation::None { 0 } else { 5 });
    if !ctx.gpu.is_software {
        return merged_backward(settings, op.sums(), activation, activated, ctx);
    }
    let mut slices = vec![Input(1), Input(3), Input(0), ScratchMut(0), activated];
    let entry_point = if ctx.outputs.len() == 4 {
        slices.push(Output(3));
        "grad_slices_through"
    } else {
        "grad_slices"
    };
    let merge = [Scratch(0), Input(3), Input(4), Input(2), Output(1), Output(2), ScratchMut(1)];
    let input = [Input(1), Scratch(1), Input(0), Output(0), activated];
    let through = |dispatch: Dispatch| dispatch.constant("GRADIENT_OF", activation.code());
    let list = vec![
        through(planes.dispatch(entry_point, settings, slices, grid(num_slices * channels, 1))),
        planes.dispatch("grad_merge", settings, merge, grid(channels, WORKGROUP_SIZE)),
        through(planes.dispatch("grad_input", settings, input, grid(planes.num_elems(), WORKGROUP_SIZE))),
    ];
    Dispatches { list, scratch_elems: vec![2 * num_slices * channels, 4 * channels] }
}

/// The same for GPUs. The sums over slices may be there already, as operand `sums`, of a gradient that went through the
/// activation.
fn merged_backward(
    settings: Settings,
    sums: Option<usize>,
    activation: Activation,
    activated: Binding,
    ctx: &DispatchContext<'_>,
) -> Dispatches {
    use Binding::{Input, Output, Scratch, ScratchMut, Unused};
    let planes = Planes::of(&ctx.inputs[1]);
    if let Some(operand) = sums {
        let num_slices = ctx.inputs[operand].shape[1];
        let bindings = [Input(1), Input(operand), Input(0), Output(0), Input(4), Output(2), Output(1), Input(2)];
        return planes.merged("grad_input_of_tiles", settings, num_slices, bindings, planes.blocks(num_slices)).into();
    }
    let (_, num_slices) = planes.gpu_slices();
    let (entry_point, through) =
        if ctx.outputs.len() == 4 { ("grad_slices_through", Output(3)) } else { ("grad_slices", Unused) };
    let slices = [Input(1), Input(3), Input(0), ScratchMut(0), activated, through, Input(4), Input(2)];
    let input = [Input(1), Scratch(0), Input(0), Output(0), activated, Output(2), Output(1)];
    let list = vec![
        planes.merged(entry_point, settings, num_slices, slices, grid(num_slices * planes.num_channels, 1)),
        planes.merged("grad_input", settings, num_slices, input, planes.blocks(num_slices)),
    ];
    let list = list.into_iter().map(|dispatch| dispatch.constant("GRADIENT_OF", activation.code())).collect();
    Dispatches { list, scratch_elems: vec![4 * (num_slices + 1) * planes.num_channels] }
}

/// Threads of a workgroup that merges so many slices.
fn merged_workgroup_size(num_slices: usize) -> u32 {
    if num_slices > MAX_SLICES { LARGE_WORKGROUP_SIZE } else { WORKGROUP_SIZE }
}

impl Planes {
    /// Workgroups for all values, each with those of one channel, where so many slices are merged.
    fn blocks(self, num_slices: usize) -> Grid {
        let block = BLOCK_ELEMS * merged_workgroup_size(num_slices) as usize;
        grid(self.num_values().div_ceil(block) * self.num_channels, 1)
    }

    /// Values in a slice on the GPU, and the number of slices.
    fn gpu_slices(self) -> (usize, usize) {
        let slice_elems = SLICE_ELEMS.max(self.num_values().div_ceil(MAX_SLICES));
        (slice_elems, self.num_values().div_ceil(slice_elems))
    }

    fn dispatch(
        self,
        entry_point: &'static str,
        settings: Settings,
        bindings: impl Into<Vec<Binding>>,
        workgroups: Grid,
    ) -> Dispatch {
        Dispatch::new(&SHADER, entry_point, &self.params(settings), bindings, self.work(workgroups))
            .constant("WG", WORKGROUP_SIZE)
    }

    fn merged(
        self,
        entry_point: &'static str,
        settings: Settings,
        num_slices: usize,
        bindings: impl Into<Vec<Binding>>,
        workgroups: Grid,
    ) -> Dispatch {
        let params = Params { num_slices: to_u32(num_slices), ..self.params(settings) };
        Dispatch::new(&MERGED, entry_point, &params, bindings, self.work(workgroups))
            .constant("WG", merged_workgroup_size(num_slices))
            .constant("AHEAD", 1u32)
    }

    fn params(self, settings: Settings) -> Params {
        let (slice_elems, num_slices) = self.gpu_slices();
        Params {
            num_images: to_u32(self.num_images),
            num_channels: to_u32(self.num_channels),
            plane: to_u32(self.plane),
            slice_elems: to_u32(slice_elems),
            num_slices: to_u32(num_slices),
            training: u32::from(settings.statistics == Statistics::Batch),
            // Kernels compute in f32.
            eps: settings.eps as f32,
            momentum: settings.momentum as f32,
        }
    }

    fn work(self, workgroups: Grid) -> Work {
        let (slice_elems, num_slices) = self.gpu_slices();
        // Two walks over a slice and their trees, or one over the slices, and one over a block; other kernels have no loops.
        let slice_iterations = 2 * (slice_elems.div_ceil(WORKGROUP_SIZE as usize) + WORKGROUP_SIZE as usize);
        workgroups.iterations(slice_iterations.max(num_slices))
    }
}

/// What all kernels are told of an op's attributes.
#[derive(Clone, Copy)]
struct Settings {
    statistics: Statistics,
    eps: f64,
    momentum: f64,
}

impl Settings {
    fn of_training(op: &BatchNormTrain) -> Settings {
        let BatchNorm2d { eps, momentum } = op.attributes;
        Settings { statistics: Statistics::Batch, eps, momentum: momentum.unwrap_or_default() }
    }
}
