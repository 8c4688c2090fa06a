//! Concatenation along an axis (`torch.cat`).

use super::copy::SliceRange;
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        num_elems: u32,
        x_row: u32,
        y_row: u32,
        start: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "concat",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/concat.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Concatenates the inputs along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Concat {
    pub axis: usize,
}

impl Concat {
    /// Elements of a shape from the axis inwards: what lies together in memory.
    fn row(&self, shape: &Shape) -> usize {
        shape.dims()[self.axis..].iter().product()
    }
}

impl Operation for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let Some(first) = inputs.first() else {
            return Err(Error::operand("concat", "at least one operand", "none"));
        };
        check::axis("concat", first, self.axis)?;
        let mut shape = first.shape.dims().to_vec();
        shape[self.axis] = 0;
        for input in inputs {
            check::float("concat", input)?;
            let mut dims = input.shape.dims().to_vec();
            let extent = dims.get_mut(self.axis).map_or(0, std::mem::take);
            let total = std::mem::take(&mut shape[self.axis]);
            if dims != shape {
                let expected = format!("shapes like {} but for axis {}", first.shape, self.axis);
                return Err(Error::operand("concat", expected, input.to_string()));
            }
            shape[self.axis] = total + extent;
        }
        Ok(vec![TensorType::f32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let y = ctx.output(0);
        let y_row = self.row(&ctx.outputs[0].shape);
        let parts: Vec<(&[F], usize)> =
            ctx.inputs.iter().enumerate().map(|(index, ty)| (ctx.float(index), self.row(&ty.shape))).collect();
        parallel::for_chunks(y, y_row, 1, |outer, mut y| {
            for &(x, x_row) in &parts {
                let (part, rest) = y.split_at_mut(x_row);
                part.copy_from_slice(&x[outer * x_row..(outer + 1) * x_row]);
                y = rest;
            }
        });
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        if self.axis == 0 { None } else { BatchForm::rows(inputs, outputs) }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let y_row = self.row(&ctx.outputs[0].shape);
        let mut start = 0;
        let mut list = Vec::new();
        for (index, input) in ctx.inputs.iter().enumerate() {
            let (num_elems, x_row) = (input.shape.num_elems(), self.row(&input.shape));
            let params = Params {
                num_elems: to_u32(num_elems),
                x_row: to_u32(x_row),
                y_row: to_u32(y_row),
                start: to_u32(start),
            };
            let bindings = [Binding::Input(index), Binding::Output(0)];
            let groups = grid(num_elems, WORKGROUP_SIZE);
            list.push(
                Dispatch::new(&SHADER, "forward", &params, bindings, groups.short_loops())
                    .constant("WG", WORKGROUP_SIZE),
            );
            start += x_row;
        }
        Ok(list.into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = vjp.grad_output();
        let mut ranges: Vec<SliceRange> =
            vjp.graph.shape(grad).dims().iter().map(|&extent| (0..extent).into()).collect();
        let mut start = 0;
        let mut grads = Vec::new();
        for (index, &input) in vjp.inputs.iter().enumerate() {
            let stop = start + vjp.graph.shape(input)[self.axis];
            ranges[self.axis] = (start..stop).into();
            let needs = vjp.needs(index);
            grads.push(if needs { Some(vjp.graph.slice(grad, &ranges)?) } else { None });
            start = stop;
        }
        Ok(grads)
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn describe(&self) -> String {
        format!("axis {}", self.axis)
    }
}

impl Graph {
    /// Concatenates values along `axis`; their other extents are equal (`torch.cat`).
    ///
    /// # Errors
    /// [`Error::Operand`] where there is none, the axis is not in `0..rank`, or shapes do not match.
    pub fn concat(&mut self, inputs: &[Value], axis: usize) -> Result<Value> {
        self.push1(Concat { axis }, inputs)
    }
}
