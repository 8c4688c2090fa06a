//! Sums, means and maxima over any axes (`torch.sum`, `torch.mean`, `torch.amax`).

use super::strided::{MAX_RANK, Strided};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        kept_shape: dims,
        kept_strides: dims,
        reduced_shape: dims,
        reduced_strides: dims,
        kept_rank: u32,
        reduced_rank: u32,
        num_outputs: u32,
        num_reduced: u32,
        slice_elems: u32,
        scale: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "reduce",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/nan.wgsl"),
        include_str!("../../../shaders/reduce.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Up to this many elements an output is reduced by one invocation.
const MAX_THREAD_ELEMS: usize = 256;

/// From this many outputs on there is work enough without splitting any of them,
const MANY_OUTPUTS: usize = 4096;

/// up to this many elements each: longer ones are split whatever their number, because rounding errors of a single
/// running sum grow with its length, and because llvmpipe stops long loops.
const MAX_WHOLE_ELEMS: usize = 4096;

/// Elements that one workgroup reduces: enough to outweigh its tree.
const SLICE_ELEMS: usize = 4096;

/// Elements that one thread of the CPU sums before partial sums are combined.
const CPU_SLICE_ELEMS: usize = 32 * 1024;

/// Elements of a row from which on rows are added as a whole.
const MIN_COLUMNS: usize = 8;

/// Columns of a sum of rows that one thread of the CPU computes at a time, and rows in a block.
const ROW_CHUNK: usize = 512;
const ROW_BLOCK: usize = 64;

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReduceFunction {
    Sum,
    Mean,
    Max,
}

/// Combines the elements along `axes`, which are sorted and distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reduce {
    pub function: ReduceFunction,
    pub axes: Vec<usize>,
    pub keep_dims: bool,
}

impl Reduce {
    fn output_shape(&self, input: &Shape, keep_dims: bool) -> Shape {
        let kept = |(axis, &extent): (usize, &usize)| match self.axes.contains(&axis) {
            false => Some(extent),
            true if keep_dims => Some(1),
            true => None,
        };
        input.dims().iter().enumerate().filter_map(kept).collect::<Vec<_>>().into()
    }

    /// The walks over kept and over reduced axes.
    fn walks(&self, input: &Shape) -> (Strided<1>, Strided<1>) {
        let strides = input.strides();
        let walk = |reduced: bool| {
            let axes: Vec<usize> = (0..input.rank()).filter(|axis| self.axes.contains(axis) == reduced).collect();
            let pick = |values: &[usize]| axes.iter().map(|&axis| values[axis]).collect::<Vec<_>>();
            Strided { shape: pick(input.dims()), strides: [pick(&strides)] }.collapse()
        };
        (walk(false), walk(true))
    }

    fn num_reduced(&self, input: &Shape) -> usize {
        self.axes.iter().map(|&axis| input[axis]).product()
    }

    fn scale(&self, input: &Shape) -> f64 {
        if self.function == ReduceFunction::Mean { 1.0 / self.num_reduced(input) as f64 } else { 1.0 }
    }

    /// Whether it is a sum of rows that lie one after the other, long enough to fill a vector.
    fn sums_rows(&self, shape: &Shape) -> bool {
        let is_leading = self.axes.iter().enumerate().all(|(place, &axis)| place == axis);
        let columns: usize = shape.dims()[self.axes.len()..].iter().product();
        is_leading && self.function != ReduceFunction::Max && columns >= MIN_COLUMNS
    }

    /// Combines the elements of `range` of the reduced walk, from `base` on.
    fn combine<F: Float>(&self, x: &[F], base: usize, walk: &Strided<1>, range: std::ops::Range<usize>) -> F {
        let mut result = if self.function == ReduceFunction::Max { -F::INFINITY } else { F::ZERO };
        walk.for_rows(
            range,
            #[inline(always)]
            |_, [at], [step], len| {
                let row = |i: usize| x[base + at + i * step];
                if self.function == ReduceFunction::Max {
                    result = (0..len).fold(result, |max: F, i| max.max(row(i)));
                } else if step == 1 {
                    let row = &x[base + at..base + at + len];
                    result += parallel::sum(
                        [row],
                        #[inline(always)]
                        |[x]| x,
                    );
                } else {
                    result += parallel::sum_by_index(len, row);
                }
            },
        );
        result
    }
}

/// `y = scale · (the sum of rows as long as y)`, over blocks of rows, so that rounding errors grow less with their number.
fn sum_rows<F: Float>(x: &[F], y: &mut [F], scale: F) {
    let len = y.len();
    parallel::for_chunks(
        y,
        ROW_CHUNK,
        x.len() / len,
        #[inline(always)]
        |index, y| {
            let columns = index * ROW_CHUNK..index * ROW_CHUNK + y.len();
            let mut block_sum = [F::ZERO; ROW_CHUNK];
            let block_sum = &mut block_sum[..y.len()];
            y.fill(F::ZERO);
            for block in x.chunks(ROW_BLOCK * len) {
                block_sum.fill(F::ZERO);
                for row in block.chunks_exact(len) {
                    block_sum.iter_mut().zip(&row[columns.clone()]).for_each(|(sum, &x)| *sum += x);
                }
                y.iter_mut().zip(&*block_sum).for_each(|(y, &sum)| *y += sum);
            }
            y.iter_mut().for_each(|y| *y *= scale);
        },
    );
}

impl Operation for Reduce {
    fn name(&self) -> &'static str {
        match self.function {
            ReduceFunction::Sum => "sum",
            ReduceFunction::Mean => "mean",
            ReduceFunction::Max => "amax",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity(self.name(), inputs)?;
        check::float(self.name(), x)?;
        for &axis in &self.axes {
            check::axis(self.name(), x, axis)?;
        }
        if self.axes.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::operand(self.name(), "distinct axes in rising order", format!("{:?}", self.axes)));
        }
        if x.shape.rank() > MAX_RANK {
            return Err(Error::operand(self.name(), format!("at most {MAX_RANK} dimensions"), x.to_string()));
        }
        if self.num_reduced(&x.shape) == 0 {
            return Err(Error::operand(self.name(), "at least one element to reduce", x.to_string()));
        }
        Ok(vec![TensorType::f32(self.output_shape(&x.shape, self.keep_dims))])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y) = (ctx.float(0), ctx.output(0));
        let shape = &ctx.inputs[0].shape;
        let scale = F::from_f64(self.scale(shape));
        if self.sums_rows(shape) {
            return sum_rows(x, y, scale);
        }
        let (kept, reduced) = self.walks(shape);
        let num_reduced = self.num_reduced(shape);
        if y.len() == 1 && num_reduced > CPU_SLICE_ELEMS {
            let partials = parallel::map(
                num_reduced.div_ceil(CPU_SLICE_ELEMS),
                #[inline(always)]
                |slice| {
                    let start = slice * CPU_SLICE_ELEMS;
                    self.combine(x, 0, &reduced, start..num_reduced.min(start + CPU_SLICE_ELEMS))
                },
            );
            let row = Strided { shape: vec![partials.len()], strides: [vec![1]] };
            y[0] = self.combine(&partials, 0, &row, 0..partials.len()) * scale;
            return;
        }
        let outputs_per_chunk = (CPU_SLICE_ELEMS / num_reduced).max(1);
        parallel::for_chunks(
            y,
            outputs_per_chunk,
            num_reduced,
            #[inline(always)]
            |index, chunk| {
                for (i, y) in chunk.iter_mut().enumerate() {
                    let [base] = kept.offsets(index * outputs_per_chunk + i);
                    *y = self.combine(x, base, &reduced, 0..num_reduced) * scale;
                }
            },
        );
    }

    fn batch_form(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        match (self.axes.contains(&0), self.function) {
            (false, _) => BatchForm::new([Along::Rows], [Along::Rows]),
            (true, ReduceFunction::Sum) => BatchForm::new([Along::Rows], [Along::Sum]),
            (true, ReduceFunction::Mean | ReduceFunction::Max) => None,
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let shape = &ctx.inputs[0].shape;
        let (kept, reduced) = self.walks(shape);
        let (num_outputs, num_reduced) = (ctx.outputs[0].shape.num_elems(), self.num_reduced(shape));
        let function = u32::from(self.function == ReduceFunction::Max);
        let iterations = |walk: &Strided<1>, elems: usize| walk.rank() + elems * (1 + walk.rank());
        let dispatch =
            |entry, kept: &Strided<1>, reduced: &Strided<1>, num_reduced, slice_elems, scale: f64, io, groups| {
                let params = Params {
                    kept_shape: kept.shape_dims(),
                    kept_strides: kept.stride_dims(0),
                    reduced_shape: reduced.shape_dims(),
                    reduced_strides: reduced.stride_dims(0),
                    kept_rank: to_u32(kept.rank()),
                    reduced_rank: to_u32(reduced.rank()),
                    num_outputs: to_u32(num_outputs),
                    num_reduced: to_u32(num_reduced),
                    slice_elems: to_u32(slice_elems),
                    // Kernels compute in f32.
                    scale: scale as f32,
                };
                let io: [Binding; 2] = io;
                let longest = if entry == "slice" { SLICE_ELEMS / WORKGROUP_SIZE as usize } else { num_reduced };
                let groups: Grid = groups;
                let work = groups.iterations(kept.rank() + iterations(reduced, longest));
                Dispatch::new(&SHADER, entry, &params, io, work)
                    .constant("WG", WORKGROUP_SIZE)
                    .constant("FUNCTION", function)
                    .constant("AHEAD", u32::from(!ctx.gpu.is_software))
            };
        let scale = self.scale(shape);
        let io = [Binding::Input(0), Binding::Output(0)];
        let is_many = num_outputs >= MANY_OUTPUTS && num_reduced <= MAX_WHOLE_ELEMS;
        if num_reduced <= MAX_THREAD_ELEMS || is_many {
            let groups = grid(num_outputs, WORKGROUP_SIZE);
            return Ok(dispatch("whole", &kept, &reduced, num_reduced, 0, scale, io, groups).into());
        }
        let num_slices = num_reduced.div_ceil(SLICE_ELEMS);
        if num_slices == 1 {
            let groups = grid(num_outputs, 1);
            return Ok(dispatch("slice", &kept, &reduced, num_reduced, SLICE_ELEMS, scale, io, groups).into());
        }
        // Partials are (num_slices, num_outputs): the second dispatch walks down the slices of each output.
        let outputs = Strided { shape: vec![num_outputs], strides: [vec![1]] };
        let slices = Strided { shape: vec![num_slices], strides: [vec![num_outputs]] };
        let groups = grid(num_outputs * num_slices, 1);
        let first = [Binding::Input(0), Binding::ScratchMut(0)];
        let second = [Binding::Scratch(0), Binding::Output(0)];
        let list = vec![
            dispatch("slice", &kept, &reduced, num_reduced, SLICE_ELEMS, 1.0, first, groups),
            dispatch("whole", &outputs, &slices, num_slices, 0, scale, second, grid(num_outputs, WORKGROUP_SIZE)),
        ];
        Ok(Dispatches { list, scratch_elems: vec![num_outputs * num_slices] })
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let (x, y, grad) = (vjp.inputs[0], vjp.outputs[0], vjp.grad_output());
        let graph = &mut *vjp.graph;
        let shape = graph.shape(x).clone();
        let kept = self.output_shape(&shape, true);
        let grad = graph.reshape(grad, &kept)?;
        let grad = match self.function {
            ReduceFunction::Sum => grad,
            ReduceFunction::Mean => graph.mul_scalar(grad, self.scale(&shape))?,
            ReduceFunction::Max => {
                // Elements that tie for the maximum share the gradient evenly, as in torch.amax.
                let y = graph.reshape(y, &kept)?;
                let is_max = graph.equal(x, y)?;
                let count = graph
                    .push1(Reduce { function: ReduceFunction::Sum, keep_dims: true, ..self.clone() }, &[is_max])?;
                let share = graph.div(grad, count)?;
                return Ok(vec![Some(graph.mul(is_max, share)?)]);
            }
        };
        Ok(vec![Some(graph.broadcast_to(grad, &shape)?)])
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        if self.function == ReduceFunction::Max { 1 } else { self.num_reduced(&inputs[0].shape) }
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        if self.function == ReduceFunction::Sum { largest[0] } else { 0.0 }
    }

    fn describe(&self) -> String {
        format!("axes {:?}", self.axes)
    }
}

impl Graph {
    /// The sum over `axes`, which vanish, or stay with extent 1 under `keep_dims` (`torch.sum`).
    ///
    /// # Errors
    /// [`Error::Operand`] where an axis is not in `0..rank`, or listed twice, or there is nothing to reduce.
    pub fn sum(&mut self, x: Value, axes: &[usize], keep_dims: bool) -> Result<Value> {
        self.reduce(ReduceFunction::Sum, x, axes, keep_dims)
    }

    /// The mean over `axes` (`torch.mean`). Errors as [`Graph::sum`].
    pub fn mean(&mut self, x: Value, axes: &[usize], keep_dims: bool) -> Result<Value> {
        self.reduce(ReduceFunction::Mean, x, axes, keep_dims)
    }

    /// The maximum over `axes`; elements that tie for it share the gradient evenly (`torch.amax`). Errors as
    /// [`Graph::sum`].
    pub fn amax(&mut self, x: Value, axes: &[usize], keep_dims: bool) -> Result<Value> {
        self.reduce(ReduceFunction::Max, x, axes, keep_dims)
    }

    /// The sum of all elements, of shape (). Errors as [`Graph::sum`].
    pub fn sum_all(&mut self, x: Value) -> Result<Value> {
        self.check(x)?;
        let axes: Vec<usize> = (0..self.shape(x).rank()).collect();
        self.sum(x, &axes, false)
    }

    /// The mean of all elements, of shape (). Errors as [`Graph::sum`].
    pub fn mean_all(&mut self, x: Value) -> Result<Value> {
        self.check(x)?;
        let axes: Vec<usize> = (0..self.shape(x).rank()).collect();
        self.mean(x, &axes, false)
    }

    /// Sums over the axes along which `shape` would be repeated to give `x`: the gradient of broadcasting.
    ///
    /// # Errors
    /// [`Error::Operand`] where `shape` does not broadcast to the shape of `x`.
    pub fn sum_to(&mut self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.check(x)?;
        let (from, to) = (self.shape(x).clone(), shape.into());
        if from == to {
            return Ok(x);
        }
        if to.broadcast(&from).as_ref() != Some(&from) {
            return Err(Error::operand("sum_to", format!("a shape that broadcasts to {from}"), to.to_string()));
        }
        let missing = from.rank() - to.rank();
        let axes: Vec<usize> =
            (0..from.rank()).filter(|&axis| axis < missing || (to[axis - missing] == 1 && from[axis] != 1)).collect();
        let sum = self.sum(x, &axes, false)?;
        self.reshape(sum, to)
    }

    fn reduce(&mut self, function: ReduceFunction, x: Value, axes: &[usize], keep_dims: bool) -> Result<Value> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        self.push1(Reduce { function, axes, keep_dims }, &[x])
    }
}
