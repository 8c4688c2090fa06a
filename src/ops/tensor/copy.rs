//! Strided copies: permuting axes, slicing with steps, and repeating along axes.

use super::strided::{MAX_RANK, Strided, broadcast_strides};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        shape: dims,
        strides: dims,
        rank: u32,
        num_elems: u32,
        offset: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "copy",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/copy.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// A range of indices along one axis: `start`, `start + step`, … below `stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// The first index.
    pub start: usize,
    /// The first index that is out.
    pub stop: usize,
    /// From one index to the next, at least 1.
    pub step: usize,
}

impl SliceRange {
    pub(crate) fn len(&self) -> usize {
        self.stop.saturating_sub(self.start).div_ceil(self.step.max(1))
    }
}

impl From<std::ops::Range<usize>> for SliceRange {
    fn from(range: std::ops::Range<usize>) -> Self {
        SliceRange { start: range.start, stop: range.end, step: 1 }
    }
}

/// Elements of the input in another arrangement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// The same elements in memory of their own.
    Identity,
    /// Axis i of the output is axis `axes[i]` of the input.
    Permute(Vec<usize>),
    /// A range along each axis.
    Slice(Vec<SliceRange>),
    /// The input repeated along axes of extent 1, or missing, to a larger shape.
    Broadcast(Shape),
}

impl Copy {
    /// The offset of the first element, and the walk over the input under the output's shape.
    fn walk(&self, input: &Shape, output: &Shape) -> (usize, Strided<1>) {
        let own = input.strides();
        let (offset, strides) = match self {
            Copy::Identity => (0, own),
            Copy::Permute(axes) => (0, axes.iter().map(|&axis| own[axis]).collect()),
            Copy::Slice(ranges) => (
                ranges.iter().zip(&own).map(|(range, stride)| range.start * stride).sum(),
                ranges.iter().zip(&own).map(|(range, stride)| range.step * stride).collect(),
            ),
            Copy::Broadcast(_) => (0, broadcast_strides(input, output)),
        };
        (offset, Strided { shape: output.dims().to_vec(), strides: [strides] }.collapse())
    }
}

impl Operation for Copy {
    fn name(&self) -> &'static str {
        match self {
            Copy::Identity => "copy",
            Copy::Permute(_) => "permute",
            Copy::Slice(_) => "slice",
            Copy::Broadcast(_) => "broadcast_to",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let name = self.name();
        let [x] = check::arity(name, inputs)?;
        check::float(name, x)?;
        let dims = x.shape.dims();
        let shape: Shape = match self {
            Copy::Identity => x.shape.clone(),
            Copy::Permute(axes) => {
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..dims.len()) {
                    let expected = format!("each axis of {} once", x.shape);
                    return Err(Error::operand(name, expected, format!("{axes:?}")));
                }
                axes.iter().map(|&axis| dims[axis]).collect::<Vec<_>>().into()
            }
            Copy::Slice(ranges) => {
                if ranges.len() != dims.len() {
                    let expected = format!("one range for each axis of {}", x.shape);
                    return Err(Error::operand(name, expected, format!("{}", ranges.len())));
                }
                for (range, &extent) in ranges.iter().zip(dims) {
                    if range.step == 0 || range.start > range.stop || range.stop > extent {
                        let expected = format!("ranges within {} and steps of at least 1", x.shape);
                        return Err(Error::operand(name, expected, format!("{range:?}")));
                    }
                }
                ranges.iter().map(SliceRange::len).collect::<Vec<_>>().into()
            }
            Copy::Broadcast(shape) => {
                if x.shape.broadcast(shape).as_ref() != Some(shape) {
                    let expected = format!("a shape that {} broadcasts to", x.shape);
                    return Err(Error::operand(name, expected, shape.to_string()));
                }
                shape.clone()
            }
        };
        if shape.rank() > MAX_RANK {
            return Err(Error::operand(name, format!("at most {MAX_RANK} dimensions"), shape.to_string()));
        }
        Ok(vec![TensorType::f32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y) = (ctx.float(0), ctx.output(0));
        let (offset, walk) = self.walk(&ctx.inputs[0].shape, &ctx.outputs[0].shape);
        parallel::for_pieces(
            y,
            #[inline(always)]
            |start, piece| {
                walk.for_rows(
                    start..start + piece.len(),
                    #[inline(always)]
                    |at, [x_at], [step], len| {
                        let (x, y) = (&x[offset + x_at..], &mut piece[at - start..at - start + len]);
                        match step {
                            0 => y.fill(x[0]),
                            1 => y.copy_from_slice(&x[..len]),
                            _ => y.iter_mut().zip(x.iter().step_by(step)).for_each(|(y, &x)| *y = x),
                        }
                    },
                );
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let is_by_rows = match self {
            Copy::Identity => true,
            Copy::Permute(axes) => axes.first() == Some(&0),
            Copy::Slice(ranges) => ranges.first().is_some_and(|range| range.len() == inputs[0].shape[0]),
            Copy::Broadcast(_) => return BatchForm::broadcast(inputs, outputs),
        };
        if is_by_rows { BatchForm::new([Along::Rows], [Along::Rows]) } else { None }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (offset, walk) = self.walk(&ctx.inputs[0].shape, &ctx.outputs[0].shape);
        let num_elems = ctx.outputs[0].shape.num_elems();
        let params = Params {
            shape: walk.shape_dims(),
            strides: walk.stride_dims(0),
            rank: to_u32(walk.rank()),
            num_elems: to_u32(num_elems),
            offset: to_u32(offset),
        };
        let bindings = [Binding::Input(0), Binding::Output(0)];
        let dispatch =
            Dispatch::new(&SHADER, "forward", &params, bindings, grid(num_elems, WORKGROUP_SIZE).short_loops());
        Ok(dispatch.constant("WG", WORKGROUP_SIZE).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = vjp.grad_output();
        let input = vjp.graph.shape(vjp.inputs[0]).clone();
        let grad = match self {
            Copy::Identity => grad,
            Copy::Permute(axes) => {
                let mut inverse = vec![0; axes.len()];
                for (to, &from) in axes.iter().enumerate() {
                    inverse[from] = to;
                }
                vjp.graph.permute(grad, &inverse)?
            }
            Copy::Slice(ranges) => vjp.graph.slice_backward(grad, ranges, input)?,
            Copy::Broadcast(_) => vjp.graph.sum_to(grad, input)?,
        };
        Ok(vec![Some(grad)])
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn describe(&self) -> String {
        match self {
            Copy::Identity | Copy::Broadcast(_) => String::new(),
            Copy::Permute(axes) => format!("{axes:?}"),
            Copy::Slice(ranges) => {
                let ranges: Vec<String> =
                    ranges.iter().map(|r| format!("{}..{}:{}", r.start, r.stop, r.step)).collect();
                ranges.join(", ")
            }
        }
    }
}

impl Graph {
    /// The same elements in memory of their own.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float.
    pub fn copy(&mut self, x: Value) -> Result<Value> {
        self.push1(Copy::Identity, &[x])
    }

    /// Axes in another order: axis i of the result is axis `axes[i]` of `x` (`torch.permute`).
    ///
    /// # Errors
    /// [`Error::Operand`] where `axes` is not a permutation.
    pub fn permute(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        self.push1(Copy::Permute(axes.to_vec()), &[x])
    }

    /// Two axes exchanged (`torch.transpose`). Errors as [`Graph::permute`].
    pub fn transpose(&mut self, x: Value, first: usize, second: usize) -> Result<Value> {
        self.check(x)?;
        let rank = self.shape(x).rank();
        if first >= rank || second >= rank {
            return Err(Error::operand("transpose", format!("axes below {rank}"), format!("{first} and {second}")));
        }
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(first, second);
        self.permute(x, &axes)
    }

    /// A range along each axis.
    ///
    /// # Errors
    /// [`Error::Operand`] where ranges reach beyond the shape, or there is not one for each axis.
    pub fn slice(&mut self, x: Value, ranges: &[SliceRange]) -> Result<Value> {
        self.push1(Copy::Slice(ranges.to_vec()), &[x])
    }

    /// `x` repeated along axes of extent 1, or missing in front, to a larger shape (`torch.broadcast_to`).
    ///
    /// # Errors
    /// [`Error::Operand`] where the shape of `x` does not broadcast to `shape`.
    pub fn broadcast_to(&mut self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.check(x)?;
        let shape = shape.into();
        if *self.shape(x) == shape {
            return Ok(x);
        }
        self.push1(Copy::Broadcast(shape), &[x])
    }
}
