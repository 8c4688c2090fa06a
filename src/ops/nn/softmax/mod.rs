//! Softmax and its logarithm along one axis (`torch.softmax`, `torch.log_softmax`).
//!
//! For a loss over class indices use [`Graph::cross_entropy`], which fuses the logarithm with the choice of the class.

mod rows;

pub(crate) use rows::SHADER;
use rows::{CPU_BLOCK, Rows};

use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::exp::{RowScale, exp_sum, softmax_rows};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, DispatchContext, Dispatches};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// Softmax, or its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SoftmaxFunction {
    Softmax,
    LogSoftmax,
}

use SoftmaxFunction::{LogSoftmax, Softmax as PlainSoftmax};

impl SoftmaxFunction {
    fn name(self) -> &'static str {
        match self {
            PlainSoftmax => "softmax",
            LogSoftmax => "log_softmax",
        }
    }

    /// One element of the output, from x − max and the sum of the exponentials of the row (and its logarithm).
    #[inline(always)]
    fn value<F: Float>(self, shifted: F, sum: F, log_sum: F) -> F {
        match self {
            PlainSoftmax => shifted.exp() / sum,
            LogSoftmax => shifted - log_sum,
        }
    }

    /// What is summed along the row for the gradient.
    #[inline(always)]
    fn grad_term<F: Float>(self, grad: F, y: F) -> F {
        match self {
            PlainSoftmax => grad * y,
            LogSoftmax => grad,
        }
    }

    #[inline(always)]
    fn grad_value<F: Float>(self, grad: F, y: F, sum: F) -> F {
        match self {
            PlainSoftmax => y * (grad - sum),
            LogSoftmax => grad - y.exp() * sum,
        }
    }
}

/// `y = softmax(x)` or its logarithm along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Softmax {
    pub function: SoftmaxFunction,
    pub axis: usize,
}

/// The gradient by x, from (grad_y, y).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftmaxBackward {
    pub function: SoftmaxFunction,
    pub axis: usize,
}

/// The logarithm of one contiguous row.
#[inline(always)]
fn log_row<F: Float>(x: &[F], y: &mut [F]) {
    let RowScale { max, sum } = exp_sum(x);
    let log_sum = sum.ln();
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - max) - log_sum);
}

/// A slab of rows side by side: walks along `inner`, which is contiguous.
#[inline(always)]
fn forward_slab<F: Float>(function: SoftmaxFunction, rows: Rows, x: &[F], y: &mut [F]) {
    rows.for_blocks(|first, len| {
        let (mut max, mut sum, mut log_sum) = ([-F::INFINITY; CPU_BLOCK], [F::ZERO; CPU_BLOCK], [F::ZERO; CPU_BLOCK]);
        let line = |i: usize| &x[i * rows.inner + first..][..len];
        for i in 0..rows.axis_len {
            max.iter_mut().zip(line(i)).for_each(|(max, &x)| *max = x.max(*max));
        }
        for i in 0..rows.axis_len {
            for ((sum, &max), &x) in sum.iter_mut().zip(&max).zip(line(i)) {
                *sum += (x - max).exp();
            }
        }
        log_sum.iter_mut().zip(&sum).for_each(|(log_sum, sum)| *log_sum = sum.ln());
        for i in 0..rows.axis_len {
            let y = &mut y[i * rows.inner + first..][..len];
            for (j, (y, &x)) in y.iter_mut().zip(line(i)).enumerate() {
                *y = function.value(x - max[j], sum[j], log_sum[j]);
            }
        }
    });
}

#[inline(always)]
fn backward_row<F: Float>(function: SoftmaxFunction, grad: &[F], y: &[F], grad_input: &mut [F]) {
    let sum = parallel::sum(
        [grad, y],
        #[inline(always)]
        |[grad, y]| function.grad_term(grad, y),
    );
    for (grad_input, (&grad, &y)) in grad_input.iter_mut().zip(grad.iter().zip(y)) {
        *grad_input = function.grad_value(grad, y, sum);
    }
}

#[inline(always)]
fn backward_slab<F: Float>(function: SoftmaxFunction, rows: Rows, grad: &[F], y: &[F], grad_input: &mut [F]) {
    rows.for_blocks(|first, len| {
        let mut sum = [F::ZERO; CPU_BLOCK];
        for i in 0..rows.axis_len {
            let at = i * rows.inner + first;
            for ((sum, &grad), &y) in sum.iter_mut().zip(&grad[at..at + len]).zip(&y[at..at + len]) {
                *sum += function.grad_term(grad, y);
            }
        }
        for i in 0..rows.axis_len {
            let at = i * rows.inner + first;
            let operands = grad[at..at + len].iter().zip(&y[at..at + len]).zip(&sum);
            for (grad_input, ((&grad, &y), &sum)) in grad_input[at..at + len].iter_mut().zip(operands) {
                *grad_input = function.grad_value(grad, y, sum);
            }
        }
    });
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity(self.name(), inputs)?;
        check::float(self.name(), x)?;
        check::axis(self.name(), x, self.axis)?;
        if x.shape[self.axis] == 0 {
            let expected = format!("at least one element along axis {}", self.axis);
            return Err(Error::operand(self.name(), expected, x.to_string()));
        }
        Ok(vec![x.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y) = (ctx.float(0), ctx.output(0));
        let (function, rows) = (self.function, Rows::new(&ctx.inputs[0].shape, self.axis));
        rows.for_slabs(
            y,
            #[inline(always)]
            |start, y| {
                let x = &x[start..start + y.len()];
                if rows.inner == 1 && function == PlainSoftmax {
                    return softmax_rows(rows.axis_len, x, y);
                }
                for (x, y) in x.chunks_exact(rows.slab()).zip(y.chunks_exact_mut(rows.slab())) {
                    if rows.inner == 1 { log_row(x, y) } else { forward_slab(function, rows, x, y) }
                }
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        if self.axis == 0 { None } else { BatchForm::rows(inputs, outputs) }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let rows = Rows::new(&ctx.inputs[0].shape, self.axis);
        let (entry_points, bindings) =
            (["rows", "rows_ahead", "rows_vec4", "held", "groups"], [Binding::Input(0), Binding::Output(0)]);
        Ok(rows.dispatch(self.function, entry_points, &bindings, ctx.gpu).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let (y, grad) = (vjp.outputs[0], vjp.grad_output());
        let backward = SoftmaxBackward { function: self.function, axis: self.axis };
        Ok(vec![Some(vjp.graph.push1(backward, &[grad, y])?)])
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        // Maximum, difference, exponential, sum, quotient.
        5 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        inputs[0].shape[self.axis]
    }

    fn ulps(&self) -> f64 {
        // WGSL allows exp(x) 3 + 2·|x| ulps; where |x| is large the result is small beside the row's largest.
        8.0
    }

    fn describe(&self) -> String {
        format!("axis {}", self.axis)
    }
}

impl Operation for SoftmaxBackward {
    fn name(&self) -> &'static str {
        match self.function {
            PlainSoftmax => "softmax_backward",
            LogSoftmax => "log_softmax_backward",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [_, y] = check::arity(self.name(), inputs)?;
        Ok(vec![y.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (grad, y, grad_input) = (ctx.float(0), ctx.float(1), ctx.output(0));
        let (function, rows) = (self.function, Rows::new(&ctx.inputs[1].shape, self.axis));
        rows.for_slabs(
            grad_input,
            #[inline(always)]
            |start, grad_input| {
                for (index, grad_input) in grad_input.chunks_exact_mut(rows.slab()).enumerate() {
                    let first = start + index * rows.slab();
                    let range = first..first + rows.slab();
                    let (grad, y) = (&grad[range.clone()], &y[range]);
                    if rows.inner == 1 {
                        backward_row(function, grad, y, grad_input);
                    } else {
                        backward_slab(function, rows, grad, y, grad_input);
                    }
                }
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        if self.axis == 0 { None } else { BatchForm::rows(inputs, outputs) }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let rows = Rows::new(&ctx.inputs[1].shape, self.axis);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        let entry_points =
            ["rows_backward", "rows_ahead_backward", "rows_vec4_backward", "held_backward", "groups_backward"];
        Ok(rows.dispatch(self.function, entry_points, &bindings, ctx.gpu).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        4 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        inputs[1].shape[self.axis]
    }

    fn ulps(&self) -> f64 {
        // As the forward; the difference of two like numbers doubles it.
        16.0
    }

    fn describe(&self) -> String {
        format!("axis {}", self.axis)
    }
}

impl Graph {
    /// eˣ divided by its sum along `axis`, of the shape of `x`; the maximum is subtracted first, so nothing overflows
    /// (`torch.softmax`).
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float, or `axis` is not in `0..rank` or has no elements.
    pub fn softmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        self.push1(Softmax { function: PlainSoftmax, axis }, &[x])
    }

    /// The logarithm of [`Graph::softmax`], computed without forming it, so that small probabilities keep their
    /// accuracy (`torch.log_softmax`): within 3 ulps of the result or of 1, whichever is larger. Errors as
    /// [`Graph::softmax`].
    pub fn log_softmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        self.push1(Softmax { function: LogSoftmax, axis }, &[x])
    }
}
