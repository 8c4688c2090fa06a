//! The dispatches of the losses: a single one if a workgroup can reduce the batch, else slices of rows and a merge.

use std::ops::RangeInclusive;

use super::{ClassLoss, Reduction, Scores, dims};
use crate::ops::kernel::{
    Binding, Dispatch, DispatchContext, Dispatches, GpuTraits, Grid, Shader, grid, params, to_u32,
};

params! {
    struct Params {
        num_rows: u32,
        num_classes: u32,
        ignore_index: u32,
        slice_rows: u32,
        label_smoothing: f32,
    }
}

pub static SHADER: Shader = Shader {
    name: "cross_entropy",
    source: concat!(
        include_str!("../../../../shaders/lib/index.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/in_order.wgsl"),
        include_str!("../../../../shaders/lib/ahead.wgsl"),
        include_str!("../../../../shaders/lib/row_loss.wgsl"),
        include_str!("../../../../shaders/cross_entropy.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Rows that a workgroup of a GPU computes at a time; a software adapter's takes `WORKGROUP_SIZE`.
const MAX_THREADS: usize = 256;

/// Classes of which a GPU's workgroup takes a row of the gradient, with up to eight for each invocation: with fewer, one
/// invocation has all of them on their way at once.
const ROW_CLASSES: RangeInclusive<usize> = 33..=8 * WORKGROUP_SIZE as usize;

/// Rows that a workgroup reduces, if they have few enough classes; up to this many, one dispatch does everything.
const SLICE_ROWS: usize = 1024;

/// With more classes than this a workgroup takes one row for each invocation: there is work enough, and the walks over
/// classes stay short enough for llvmpipe, which stops long loops.
const MANY_CLASSES: usize = 512;

pub fn forward(op: &ClassLoss, ctx: &DispatchContext<'_>) -> Dispatches {
    use Binding::{Input, Output, Scratch, ScratchMut};
    let dims @ [num_rows, num_classes] = dims(&ctx.inputs[0]);
    let dispatch = |entry_point, bindings: Vec<Binding>, workgroups| {
        op.dispatch(entry_point, dims, bindings, workgroups).constant("AHEAD", u32::from(!ctx.gpu.is_software))
    };
    if op.attributes.reduction == Reduction::None {
        let bindings = vec![Input(0), Input(1), Input(2), Output(0)];
        return dispatch("each", bindings, grid(num_rows, WORKGROUP_SIZE)).into();
    }
    let slice_rows = slice_rows(num_classes);
    let threads = to_u32(row_threads(num_rows.min(slice_rows), ctx.gpu));
    if num_rows <= slice_rows {
        let bindings = vec![Input(0), Input(1), Input(2), Output(0), Output(1)];
        return dispatch("whole", bindings, Grid::ONE).constant("THREADS", threads).into();
    }
    let num_slices = num_rows.div_ceil(slice_rows);
    let slices = vec![Input(0), Input(1), Input(2), ScratchMut(0)];
    let merge = vec![Scratch(0), Output(0), Output(1)];
    let slices = dispatch("slices", slices, grid(num_slices, 1)).constant("THREADS", threads);
    let list = vec![slices, dispatch("merge", merge, Grid::ONE)];
    Dispatches { list, scratch_elems: vec![2 * num_slices] }
}

pub fn backward(op: &ClassLoss, ctx: &DispatchContext<'_>) -> Dispatches {
    use Binding::{Input, Output};
    let dims = dims(&ctx.inputs[0]);
    // The kernel reads the sum of the weights for the mean only; otherwise another input is bound instead.
    let total_weight = if op.is_mean() { Input(4) } else { Input(3) };
    let bindings = [Input(0), Input(1), Input(2), Input(3), total_weight, Output(0)];
    let backward = match !ctx.gpu.is_software && ROW_CLASSES.contains(&dims[1]) {
        true => op
            .dispatch("backward_row", dims, bindings, grid(dims[0], 1))
            .constant("ROW", to_u32(dims[1].next_multiple_of(4))),
        false => op.dispatch("backward", dims, bindings, grid(dims[0], WORKGROUP_SIZE)),
    };
    backward.constant("AHEAD", u32::from(!ctx.gpu.is_software)).into()
}

/// Rows that a workgroup computes at a time, of so many: whole `WORKGROUP_SIZE`s.
pub(in crate::ops::nn) fn row_threads(rows: usize, gpu: GpuTraits) -> usize {
    let most = if gpu.is_software { WORKGROUP_SIZE as usize } else { MAX_THREADS };
    rows.next_multiple_of(WORKGROUP_SIZE as usize).clamp(WORKGROUP_SIZE as usize, most)
}

/// Rows that a workgroup reduces.
fn slice_rows(num_classes: usize) -> usize {
    if num_classes > MANY_CLASSES { WORKGROUP_SIZE as usize } else { SLICE_ROWS }
}

impl ClassLoss {
    fn params(&self, [num_rows, num_classes]: [usize; 2]) -> Params {
        Params {
            num_rows: to_u32(num_rows),
            num_classes: to_u32(num_classes),
            // No class has this index, so it ignores nothing that is not ignored anyway.
            ignore_index: self.attributes.ignore_index.unwrap_or(u32::MAX),
            slice_rows: to_u32(slice_rows(num_classes)),
            // Kernels compute in f32.
            label_smoothing: self.attributes.label_smoothing as f32,
        }
    }

    fn dispatch(
        &self,
        entry_point: &'static str,
        dims: [usize; 2],
        bindings: impl Into<Vec<Binding>>,
        workgroups: Grid,
    ) -> Dispatch {
        let reduction: u32 = match self.attributes.reduction {
            Reduction::None => 0,
            Reduction::Sum => 1,
            Reduction::Mean => 2,
        };
        let workgroup_size = WORKGROUP_SIZE as usize;
        // Up to four walks over a row's classes: maximum, sum, weights, gradient. What threads give is added up in four steps.
        let row_iterations = 5 + 4 * dims[1];
        let iterations = match entry_point {
            "merge" => dims[0].div_ceil(slice_rows(dims[1])).div_ceil(workgroup_size),
            "whole" | "slices" => slice_rows(dims[1]).min(dims[0]).div_ceil(workgroup_size) * row_iterations,
            _ => row_iterations,
        };
        let work = workgroups.iterations(iterations + workgroup_size);
        Dispatch::new(&SHADER, entry_point, &self.params(dims), bindings, work)
            .constant("WG", WORKGROUP_SIZE)
            .constant("LOG_PROBS", u32::from(self.scores == Scores::LogProbs))
            .constant("REDUCTION", reduction)
    }
}
