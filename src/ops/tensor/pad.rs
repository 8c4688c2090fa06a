//! A tensor placed among zeros: padding (`torch.nn.functional.pad`), and the gradient of slicing.

use super::copy::SliceRange;
use super::strided::{MAX_RANK, Strided, dims};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        shape: dims,
        extents: dims,
        starts: dims,
        steps: dims,
        rank: u32,
        num_elems: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "pad",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/pad.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Zeros of `shape` with the input at `ranges` of them, one for each axis: what [`Graph::slice`] takes out, put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pad {
    pub shape: Shape,
    pub ranges: Vec<SliceRange>,
}

impl Operation for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity("pad", inputs)?;
        check::float("pad", x)?;
        if self.shape.rank() > MAX_RANK {
            return Err(Error::operand("pad", format!("at most {MAX_RANK} dimensions"), self.shape.to_string()));
        }
        let is_within = |(range, &extent): (&SliceRange, &usize)| range.step > 0 && range.stop <= extent;
        let fits = self.ranges.len() == self.shape.rank()
            && self.ranges.iter().zip(self.shape.dims()).all(is_within)
            && self.ranges.iter().map(SliceRange::len).eq(x.shape.dims().iter().copied());
        if !fits {
            let expected = format!("the shape that {:?} take out of {}", self.ranges, self.shape);
            return Err(Error::operand("pad", expected, x.to_string()));
        }
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y) = (ctx.float(0), ctx.output(0));
        let (Some((first, ranges)), strides) = (self.ranges.split_first(), self.shape.strides()) else {
            y[0] = x[0];
            return;
        };
        // Rows of x under one index of the first axis, and where they go in y under one index of its first axis.
        let inner = &ctx.inputs[0].shape.dims()[1..];
        let steps = ranges.iter().zip(&strides[1..]).map(|(range, stride)| range.step * stride).collect();
        let offset: usize = ranges.iter().zip(&strides[1..]).map(|(range, stride)| range.start * stride).sum();
        let walk = Strided { shape: inner.to_vec(), strides: [steps] }.collapse();
        let num_inner: usize = inner.iter().product();
        parallel::for_chunks(y, strides[0], 1, |position, y| {
            y.fill(F::ZERO);
            let is_inside = (first.start..first.stop).contains(&position);
            if !is_inside || !(position - first.start).is_multiple_of(first.step) {
                return;
            }
            let x = &x[(position - first.start) / first.step * num_inner..][..num_inner];
            walk.for_rows(0..num_inner, |at, [y_at], [step], len| {
                for (y, &x) in y[offset + y_at..].iter_mut().step_by(step.max(1)).zip(&x[at..at + len]) {
                    *y = x;
                }
            });
        });
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let is_whole = self.ranges.first().is_some_and(|range| range.len() == self.shape[0]);
        if is_whole { BatchForm::rows(inputs, outputs) } else { None }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let pick = |value: fn(&SliceRange) -> usize| dims(&self.ranges.iter().map(value).collect::<Vec<_>>());
        let num_elems = self.shape.num_elems();
        let params = Params {
            shape: dims(self.shape.dims()),
            extents: dims(ctx.inputs[0].shape.dims()),
            starts: pick(|range| range.start),
            steps: pick(|range| range.step),
            rank: to_u32(self.shape.rank()),
            num_elems: to_u32(num_elems),
        };
        let bindings = [Binding::Input(0), Binding::Output(0)];
        let groups = grid(num_elems, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "forward", &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(vjp.graph.slice(vjp.grad_output(), &self.ranges)?)])
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn describe(&self) -> String {
        let ranges: Vec<String> = self.ranges.iter().map(|r| format!("{}..{}:{}", r.start, r.stop, r.step)).collect();
        format!("at {}", ranges.join(", "))
    }
}

impl Graph {
    /// `x` with zeros around it: as many before and after it along each axis as `padding` says
    /// (`torch.nn.functional.pad`, which lists axes from the last to the first).
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float or `padding` has not one pair for each axis.
    pub fn pad(&mut self, x: Value, padding: &[(usize, usize)]) -> Result<Value> {
        self.check(x)?;
        let extents = self.shape(x).dims().to_vec();
        if padding.len() != extents.len() {
            let expected = format!("a padding for each axis of {}", self.ty(x));
            return Err(Error::operand("pad", expected, padding.len().to_string()));
        }
        let sides = padding.iter().zip(&extents);
        // Beyond what can be counted, the result is refused as too large.
        let padded = |(&(before, behind), &extent): (&(usize, usize), &usize)| {
            extent.saturating_add(before).saturating_add(behind)
        };
        let shape: Vec<usize> = sides.clone().map(padded).collect();
        let ranges = sides.map(|(&(before, _), extent)| (before..extent.saturating_add(before)).into()).collect();
        self.push1(Pad { shape: shape.into(), ranges }, &[x])
    }

    /// The gradient of [`Graph::slice`]: zeros of the sliced shape, with `grad` where the slice was.
    pub(crate) fn slice_backward(&mut self, grad: Value, ranges: &[SliceRange], input: Shape) -> Result<Value> {
        self.push1(Pad { shape: input, ranges: ranges.to_vec() }, &[grad])
    }
}
