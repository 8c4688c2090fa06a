//! The dispatches of batch normalisation: slices of each channel, merged by one invocation per channel, then one
//! invocation per element.

use super::{BatchNorm2d, BatchNormBackward, BatchNormEval, BatchNormTrain, Planes, Statistics};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, grid, params, to_u32};
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

pub static SHADER: Shader = Shader {
    name: "batch_norm2d",
    source: concat!(
        include_str!("../../../../shaders/lib/index.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/activation.wgsl"),
        include_str!("../../../../shaders/lib/activation_gradient.wgsl"),
        include_str!("../../../../shaders/batch_norm2d.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Values of a channel that a workgroup reduces, unless that makes too many slices.
const SLICE_ELEMS: usize = 2048;

/// The most slices of a channel: one invocation merges them.
const MAX_SLICES: usize = 128;

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
    let BatchNorm2d { eps, momentum } = op.attributes;
    let settings = Settings { statistics: Statistics::Batch, eps, momentum: momentum.unwrap_or_default() };
    let channel_groups = grid(planes.num_channels, WORKGROUP_SIZE);
    let mut merge = vec![Scratch(0), Output(1), Output(2), Updated(3), Updated(4), ScratchMut(1), ScratchMut(2)];
    let entry_point = if momentum.is_none() {
        merge.push(Scalar(5));
        "merge_cumulative"
    } else {
        "merge"
    };
    let mut list = vec![
        planes.dispatch("slices", settings, [Input(0), ScratchMut(0)], grid(num_slices * planes.num_channels, 1)),
        planes.dispatch(entry_point, settings, merge, channel_groups),
        finish.normalize(planes, settings, [Input(0), Scratch(1), Scratch(2), Input(1), Input(2), Output(0)]),
    ];
    if op.counts_batches {
        list.push(planes.dispatch("count", settings, [Updated(5)], Grid::ONE));
    }
    let channels = planes.num_channels;
    Dispatches { list, scratch_elems: vec![2 * num_slices * channels, channels, channels] }
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

impl Planes {
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
        let (slice_elems, num_slices) = self.gpu_slices();
        let params = Params {
            num_images: to_u32(self.num_images),
            num_channels: to_u32(self.num_channels),
            plane: to_u32(self.plane),
            slice_elems: to_u32(slice_elems),
            num_slices: to_u32(num_slices),
            training: u32::from(settings.statistics == Statistics::Batch),
            // Kernels compute in f32.
            eps: settings.eps as f32,
            momentum: settings.momentum as f32,
        };
        // Two walks over a slice and their trees, or one over the slices; other kernels have no loops.
        let slice_iterations = 2 * (slice_elems.div_ceil(WORKGROUP_SIZE as usize) + WORKGROUP_SIZE as usize);
        let work = workgroups.iterations(slice_iterations.max(num_slices));
        Dispatch::new(&SHADER, entry_point, &params, bindings, work).constant("WG", WORKGROUP_SIZE)
    }
}

/// What all kernels are told of an op's attributes.
#[derive(Clone, Copy)]
struct Settings {
    statistics: Statistics,
    eps: f64,
    momentum: f64,
}
