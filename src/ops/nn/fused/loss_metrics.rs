//! The loss of a batch together with what training reports of it, where nothing else reads the loss.

use crate::Result;
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, params, to_u32};
use crate::ops::nn::cross_entropy::{CrossEntropy, Reduction, row_threads};

params! {
    struct Params {
        num_rows: u32,
        num_classes: u32,
        ignore_index: u32,
        table_rows: u32,
        label_smoothing: f32,
    }
}

static SHADER: Shader = Shader {
    name: "loss_metrics",
    source: concat!(
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/in_order.wgsl"),
        include_str!("../../../../shaders/lib/ahead.wgsl"),
        include_str!("../../../../shaders/lib/row_loss.wgsl"),
        include_str!("../../../../shaders/lib/row_counts.wgsl"),
        include_str!("../../../../shaders/loss_metrics.wgsl"),
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};
pub static SHADERS: &[&Shader] = &[&SHADER];

const WORKGROUP_SIZE: u32 = 64;

/// Rows and classes up to which one workgroup does it all, as the loss alone.
const MAX_ROWS: usize = 1024;
const MAX_CLASSES: usize = 512;

/// Inputs: the row of the table, logits (N, C), labels (N), class weights (C) and the table, which is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LossMetrics {
    pub attributes: CrossEntropy,
}

impl LossMetrics {
    /// Whether there is a kernel for so many rows and classes.
    pub fn fits([rows, classes]: [usize; 2], attributes: &CrossEntropy) -> bool {
        rows <= MAX_ROWS && classes <= MAX_CLASSES && attributes.reduction != Reduction::None
    }

    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (logits, table) = (&ctx.inputs[1].shape, &ctx.inputs[4].shape);
        let params = Params {
            num_rows: to_u32(logits[0]),
            num_classes: to_u32(logits[1]),
            ignore_index: self.attributes.ignore_index.unwrap_or(u32::MAX),
            table_rows: to_u32(table[0]),
            // Kernels compute in f32.
            label_smoothing: self.attributes.label_smoothing as f32,
        };
        let bindings =
            [Binding::Scalar(0), Binding::Input(1), Binding::Input(2), Binding::Input(3), Binding::Updated(4)];
        let threads = row_threads(logits[0], ctx.gpu);
        let rows = logits[0].div_ceil(threads);
        let work = Grid::ONE.iterations(rows * (5 + 3 * logits[1]) + WORKGROUP_SIZE as usize);
        Ok(Dispatch::new(&SHADER, "update", &params, bindings, work)
            .constant("WG", WORKGROUP_SIZE)
            .constant("THREADS", to_u32(threads))
            .constant("AHEAD", u32::from(!ctx.gpu.is_software))
            .constant("IS_MEAN", u32::from(self.attributes.reduction == Reduction::Mean))
            .into())
    }
}
