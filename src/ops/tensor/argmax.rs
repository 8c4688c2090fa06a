//! Where the largest value along an axis is (`torch.argmax`): predictions from logits.

use crate::graph::{Graph, Value};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        num_outputs: u32,
        extent: u32,
        num_inner: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "argmax",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/nan.wgsl"),
        include_str!("../../../shaders/argmax.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Up to this many elements a row is searched by one invocation.
const MAX_THREAD_ELEMS: usize = 256;

/// The index of the first largest element along an axis, which vanishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Argmax {
    pub axis: usize,
}

impl Argmax {
    /// Extent of the axis, and the number of elements of one step along it.
    fn extents(&self, shape: &Shape) -> (usize, usize) {
        (shape[self.axis], shape.dims()[self.axis + 1..].iter().product())
    }
}

impl Operation for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity("argmax", inputs)?;
        check::float("argmax", x)?;
        check::axis("argmax", x, self.axis)?;
        if x.shape[self.axis] == 0 {
            return Err(Error::operand("argmax", "at least one element along the axis", x.to_string()));
        }
        let mut dims = x.shape.dims().to_vec();
        dims.remove(self.axis);
        Ok(vec![TensorType::u32(dims)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y) = (ctx.float(0), ctx.output_u32(0));
        let (extent, num_inner) = self.extents(&ctx.inputs[0].shape);
        parallel::for_chunks(
            y,
            CHUNK_ELEMS,
            extent,
            #[inline(always)]
            |chunk, y| {
                for (i, y) in y.iter_mut().enumerate() {
                    let index = chunk * CHUNK_ELEMS + i;
                    let base = index / num_inner * extent * num_inner + index % num_inner;
                    let (mut best, mut best_at) = (x[base], 0);
                    for k in 1..extent {
                        let value = x[base + k * num_inner];
                        // The first NaN, or else the first maximum, stays.
                        if !best.is_nan() && (value > best || value.is_nan()) {
                            (best, best_at) = (value, k);
                        }
                    }
                    *y = to_u32(best_at);
                }
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        if self.axis == 0 { None } else { BatchForm::rows(inputs, outputs) }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (extent, num_inner) = self.extents(&ctx.inputs[0].shape);
        let num_outputs = ctx.outputs[0].shape.num_elems();
        let params = Params { num_outputs: to_u32(num_outputs), extent: to_u32(extent), num_inner: to_u32(num_inner) };
        let bindings = [Binding::Input(0), Binding::Output(0)];
        let (entry_point, work) = if extent <= MAX_THREAD_ELEMS {
            ("forward", grid(num_outputs, WORKGROUP_SIZE).iterations(extent))
        } else {
            let iterations = extent.div_ceil(WORKGROUP_SIZE as usize) + WORKGROUP_SIZE as usize;
            ("group", grid(num_outputs, 1).iterations(iterations))
        };
        Ok(Dispatch::new(&SHADER, entry_point, &params, bindings, work).constant("WG", WORKGROUP_SIZE).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        inputs[0].shape.num_elems() as u64
    }

    fn describe(&self) -> String {
        format!("axis {}", self.axis)
    }
}

/// Outputs that a thread of the CPU takes at a time.
const CHUNK_ELEMS: usize = 1024;

impl Graph {
    /// The index of the largest element along `axis`, which vanishes: (N, C) over axis 1 gives (N) of u32. The first of
    /// equal elements wins, and a NaN counts as the largest (`torch.argmax`). No gradient flows through it.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float, or the axis is not in `0..rank` or is empty.
    pub fn argmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        self.no_grad(|graph| graph.push1(Argmax { axis }, &[x]))
    }
}
