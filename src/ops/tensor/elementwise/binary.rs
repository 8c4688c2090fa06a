//! Ops of two operands, which broadcast.

use super::BinaryFunction::{self, *};
use super::{Side, dispatch};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, DispatchContext, Dispatches};
use crate::ops::tensor::strided::{MAX_RANK, Strided};
use crate::ops::{Operation, check};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

/// `y = f(a, b)`, broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binary(pub BinaryFunction);

impl Binary {
    /// Whether it is the sum.
    pub fn is_add(&self) -> bool {
        self.0 == BinaryFunction::Add
    }
}

/// `grad_y · ∂f/∂a` or `∂f/∂b` under y's shape, from (grad_y, a, b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BinaryBackward {
    pub function: BinaryFunction,
    pub by: Side,
}

impl Operation for Binary {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [a, b] = check::arity(self.name(), inputs)?;
        check::float(self.name(), a)?;
        check::float(self.name(), b)?;
        broadcast(self.name(), &[&a.shape, &b.shape]).map(|shape| vec![TensorType::f32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        // Those of most models get loops of their own, without a choice of function in it.
        match self.0 {
            Add => for_values(ctx, |a, b| Add.value(a, b)),
            Sub => for_values(ctx, |a, b| Sub.value(a, b)),
            Mul => for_values(ctx, |a, b| Mul.value(a, b)),
            Div => for_values(ctx, |a, b| Div.value(a, b)),
            Min => for_values(ctx, |a, b| Min.value(a, b)),
            Max => for_values(ctx, |a, b| Max.value(a, b)),
            function => for_values(ctx, |a, b| function.value(a, b)),
        }
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::broadcast(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let walk = Strided::broadcast(&ctx.outputs[0].shape, [&ctx.inputs[0].shape, &ctx.inputs[1].shape]);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        Ok(dispatch("binary", self.0.code(), (0.0, 0.0), &walk, &bindings).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = vjp.grad_output();
        let (a, b) = (vjp.inputs[0], vjp.inputs[1]);
        let mut grads = vec![None, None];
        for (input, by) in [Side::First, Side::Second].into_iter().enumerate() {
            if !vjp.needs(input) {
                continue;
            }
            let full = match (self.0, by) {
                (Add, _) | (Sub, Side::First) => grad,
                (Sub, Side::Second) => vjp.graph.neg(grad)?,
                (Mul, Side::First) => vjp.graph.mul(grad, b)?,
                (Mul, Side::Second) => vjp.graph.mul(grad, a)?,
                (function, by) => vjp.graph.push1(BinaryBackward { function, by }, &[grad, a, b])?,
            };
            let shape = vjp.graph.shape(vjp.inputs[input]).clone();
            grads[input] = Some(vjp.graph.sum_to(full, shape)?);
        }
        Ok(grads)
    }

    fn ulps(&self) -> f64 {
        // Powers are exp(y · log x), with log x in two numbers.
        if self.0 == Pow { 8.0 } else { 4.0 }
    }
}

/// `out = value(a, b)`, element by element, under the output's shape.
#[inline(always)]
fn for_values<F: Float>(ctx: &mut CpuContext<'_, F>, value: impl Fn(F, F) -> F + Send + Sync) {
    let (a, b, out) = (ctx.float(0), ctx.float(1), ctx.output(0));
    let shapes = [&ctx.inputs[0].shape, &ctx.inputs[1].shape];
    if shapes.iter().all(|shape| **shape == ctx.outputs[0].shape) {
        parallel::for_pieces(
            out,
            #[inline(always)]
            |start, piece| {
                for ((out, &a), &b) in piece.iter_mut().zip(&a[start..]).zip(&b[start..]) {
                    *out = value(a, b);
                }
            },
        );
        return;
    }
    let walk = Strided::broadcast(&ctx.outputs[0].shape, shapes);
    parallel::for_pieces(
        out,
        #[inline(always)]
        |start, piece| {
            walk.for_rows(
                start..start + piece.len(),
                #[inline(always)]
                |at, [a_at, b_at], steps, len| {
                    let (a, b, out) = (&a[a_at..], &b[b_at..], &mut piece[at - start..at - start + len]);
                    match steps {
                        [1, 1] => out.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = value(a, b)),
                        [1, 0] => out.iter_mut().zip(a).for_each(|(out, &a)| *out = value(a, b[0])),
                        [0, 1] => out.iter_mut().zip(b).for_each(|(out, &b)| *out = value(a[0], b)),
                        [a_step, b_step] => {
                            out.iter_mut().enumerate().for_each(|(i, out)| *out = value(a[i * a_step], b[i * b_step]));
                        }
                    }
                },
            );
        },
    );
}

impl Operation for BinaryBackward {
    fn name(&self) -> &'static str {
        "binary_backward"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, a, b] = check::arity(self.name(), inputs)?;
        let shape = broadcast(self.name(), &[&grad.shape, &a.shape, &b.shape])?;
        Ok(vec![TensorType::f32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (grad, a, b, out) = (ctx.float(0), ctx.float(1), ctx.float(2), ctx.output(0));
        let shapes = [&ctx.inputs[0].shape, &ctx.inputs[1].shape, &ctx.inputs[2].shape];
        let walk = Strided::broadcast(&ctx.outputs[0].shape, shapes);
        let BinaryBackward { function, by } = *self;
        parallel::for_pieces(
            out,
            #[inline(always)]
            |start, piece| {
                walk.for_rows(
                    start..start + piece.len(),
                    #[inline(always)]
                    |at, [g_at, a_at, b_at], [g_step, a_step, b_step], len| {
                        let out = &mut piece[at - start..at - start + len];
                        for (i, out) in out.iter_mut().enumerate() {
                            let (a, b) = (a[a_at + i * a_step], b[b_at + i * b_step]);
                            *out = function.gradient(by, grad[g_at + i * g_step], a, b);
                        }
                    },
                );
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::broadcast(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let shapes = [&ctx.inputs[0].shape, &ctx.inputs[1].shape, &ctx.inputs[2].shape];
        let walk = Strided::broadcast(&ctx.outputs[0].shape, shapes);
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Input(2), Binding::Output(0)];
        let dispatch = dispatch("binary_backward", self.function.code(), (0.0, 0.0), &walk, &bindings);
        Ok(dispatch.constant("BY_SECOND", u32::from(self.by == Side::Second)).into())
    }

    fn ulps(&self) -> f64 {
        Binary(self.function).ulps() + 8.0
    }

    fn describe(&self) -> String {
        format!("{} by the {:?} operand", self.function.name(), self.by).to_lowercase()
    }
}

/// The shape that all operands stretch to.
fn broadcast(op: &str, shapes: &[&Shape]) -> Result<Shape> {
    let mut all = Shape::scalar();
    for shape in shapes {
        all = all.broadcast(shape).ok_or_else(|| {
            let got: Vec<String> = shapes.iter().map(|shape| shape.to_string()).collect();
            Error::operand(op, "shapes that broadcast (equal extents, or 1)", got.join(" and "))
        })?;
    }
    if all.rank() > MAX_RANK {
        return Err(Error::operand(op, format!("at most {MAX_RANK} dimensions"), all.to_string()));
    }
    Ok(all)
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $name:ident => $function:expr),* $(,)?) => {
        impl Graph {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error::Operand`] where an operand is not a float or the shapes do not broadcast.
                pub fn $name(&mut self, a: Value, b: Value) -> Result<Value> {
                    self.push1(Binary($function), &[a, b])
                }
            )*
        }
    };
}

binary_methods! {
    /// a + b, broadcast.
    add => Add,
    /// a − b, broadcast.
    sub => Sub,
    /// a·b, broadcast.
    mul => Mul,
    /// a/b, broadcast.
    div => Div,
    /// a to the power b, broadcast.
    pow => Pow,
    /// The smaller of a and b, broadcast; in a tie each gets half the gradient (`torch.minimum`). NaN where either is, and
    /// then both get the gradient.
    minimum => Min,
    /// The larger of a and b, broadcast; in a tie each gets half the gradient (`torch.maximum`). NaN where either is, and
    /// then both get the gradient.
    maximum => Max,
    /// 1 where a = b, else 0, broadcast; no gradient.
    equal => Equal,
    /// 1 where a > b, else 0, broadcast; no gradient.
    greater => Greater,
}
