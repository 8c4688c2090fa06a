//! Matrix products, batched, of operands that may be transposed, with bias and activation (`torch.matmul`,
//! `torch.baddbmm`, `torch.nn.functional.linear`).

mod gpu;

use super::strided::Strided;
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::gemm::{Matrix, Store, gemm};
use crate::ops::cpu::skinny::{self, Skinny};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{DispatchContext, Dispatches};
use crate::ops::nn::activation::Activation;
use crate::ops::{Operation, check, count_ops};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

pub(crate) use gpu::SHADERS;

/// Rows of the result that one thread of the CPU computes at a time, where there are few: enough pieces to share
/// LeNet's 64 rows among two threads.
const CPU_ROWS: usize = 32;

/// Rows of the result that one thread of the CPU computes at a time. The more there are, the more are worth packing the
/// other operand for, which each piece does for itself.
fn cpu_rows(m: usize) -> usize {
    match m {
        1024.. => 256,
        512.. => 128,
        _ => CPU_ROWS,
    }
}

/// How a product is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matmul {
    /// Whether the first operand is stored (…, K, M).
    pub trans_a: bool,
    /// Whether the second operand is stored (…, N, K).
    pub trans_b: bool,
    /// The activation fused after the bias.
    pub activation: Activation,
}

/// The sizes of a product: `batch` times (m, k) · (k, n).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Elements from one matrix of a batch to the next; 0 where one serves for all.
    pub a_stride: usize,
    pub b_stride: usize,
}

impl Matmul {
    /// The sizes, from the operands' shapes as [`Graph::matmul_with`] arranges them.
    pub(super) fn sizes(&self, a: &Shape, b: &Shape) -> Option<Sizes> {
        let (a, b) = (a.dims(), b.dims());
        let ([a_batch @ .., a_rows, a_cols], [b_batch @ .., b_rows, b_cols]) = (a, b) else { return None };
        let (m, k) = if self.trans_a { (*a_cols, *a_rows) } else { (*a_rows, *a_cols) };
        let (b_k, n) = if self.trans_b { (*b_cols, *b_rows) } else { (*b_rows, *b_cols) };
        if a_batch.is_empty() && b_batch.is_empty() {
            return (k == b_k).then_some(Sizes { batch: 1, m, n, k, a_stride: 0, b_stride: 0 });
        }
        let (a_batch, b_batch) = (Shape::from(a_batch), Shape::from(b_batch));
        let batch = a_batch.broadcast(&b_batch)?;
        let walk = Strided::broadcast(&batch, [&a_batch, &b_batch]);
        let [a_step, b_step] = match walk.rank() {
            0 => [0, 0],
            1 => [walk.strides[0][0], walk.strides[1][0]],
            _ => return None,
        };
        let fits = k == b_k;
        fits.then_some(Sizes { batch: batch.num_elems(), m, n, k, a_stride: a_step * m * k, b_stride: b_step * k * n })
    }

    fn output_shape(&self, a: &Shape, b: &Shape, sizes: &Sizes) -> Shape {
        let batch = |shape: &Shape| Shape::from(&shape.dims()[..shape.rank() - 2]);
        let mut dims = batch(a).broadcast(&batch(b)).expect("sizes() found them to broadcast").dims().to_vec();
        dims.extend([sizes.m, sizes.n]);
        dims.into()
    }
}

impl Operation for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (a, b, bias) = match inputs {
            [a, b] => (a, b, None),
            [a, b, bias] => (a, b, Some(bias)),
            _ => return Err(Error::operand(self.name(), "two operands and a bias", inputs.len().to_string())),
        };
        for ty in inputs {
            check::float(self.name(), ty)?;
        }
        let Some(sizes) = self.sizes(&a.shape, &b.shape) else {
            let mark = |transposed: bool| if transposed { " transposed" } else { "" };
            let got = format!("{}{} and {}{}", a.shape, mark(self.trans_a), b.shape, mark(self.trans_b));
            return Err(Error::operand(self.name(), "shapes (…, M, K) and (…, K, N)", got));
        };
        if let Some(bias) = bias
            && bias.shape.dims() != [sizes.n]
        {
            return Err(Error::operand(self.name(), format!("a bias of shape ({})", sizes.n), bias.shape.to_string()));
        }
        Ok(vec![TensorType::f32(self.output_shape(&a.shape, &b.shape, &sizes))])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (a, b, out) = (ctx.float(0), ctx.float(1), ctx.output(0));
        let bias = (ctx.inputs.len() == 3).then(|| ctx.float(2));
        let sizes = self.sizes(&ctx.inputs[0].shape, &ctx.inputs[1].shape).expect("infer checked the shapes");
        let Sizes { m, n, k, .. } = sizes;
        let activation = self.activation;
        // Blocks of rows must not reach from one matrix of the batch into the next.
        let rows = cpu_rows(m);
        let rows = if m % rows == 0 || sizes.batch == 1 { rows } else { m };
        let is_skinny = rows == CPU_ROWS && skinny::applies([n, k], self.trans_a, self.trans_b);
        parallel::for_chunks(
            out,
            rows * n,
            2 * k,
            #[inline(always)]
            |index, block| {
                let first = index * rows;
                let (matrix, row) = (first / m, first % m);
                let a = &a[matrix * sizes.a_stride..];
                let a = if self.trans_a {
                    Matrix { data: &a[row..], row_stride: 1, col_stride: m }
                } else {
                    Matrix::new(&a[row * k..], k)
                };
                let b = &b[matrix * sizes.b_stride..];
                match (F::as_f32(a.data), F::as_f32(b)) {
                    (Some(a), Some(b)) if is_skinny => {
                        let a_stride = if self.trans_a { m } else { k };
                        let (m, trans_a, trans_b) = (block.len() / n, self.trans_a, self.trans_b);
                        let block = F::as_f32_mut(block).expect("all operands are of one type");
                        skinny::product(Skinny { m, n, k, a, a_stride, trans_a, b, trans_b }, block);
                    }
                    _ => {
                        let b = Matrix::maybe_transposed(b, if self.trans_b { k } else { n }, self.trans_b);
                        gemm([block.len() / n, n, k], a, b, block, n, Store::Overwrite);
                    }
                }
                for row in block.chunks_exact_mut(n) {
                    if let Some(bias) = bias {
                        row.iter_mut().zip(bias).for_each(|(x, &bias)| *x += bias);
                    }
                    if activation != Activation::None {
                        activation.finish_row(row, F::ZERO);
                    }
                }
            },
        );
    }

    /// A product of two matrices whose first operand is transposed sums over the batch: a weight's gradient.
    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let output = &outputs[0].shape;
        let is_plain = inputs.len() == 2 && self.activation == Activation::None && !self.trans_b;
        match (output.rank(), self.trans_a) {
            (2, false) => {
                let along = [Along::Rows, Along::Whole, Along::Whole];
                BatchForm::new(&along[..inputs.len()], [Along::Rows])
            }
            (2, true) if is_plain => BatchForm::new([Along::Rows; 2], [Along::Sum]),
            (2, true) => None,
            // The bias has one dimension, so it is the same for all matrices.
            _ => BatchForm::broadcast(inputs, outputs),
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let sizes = self.sizes(&ctx.inputs[0].shape, &ctx.inputs[1].shape).expect("infer checked the shapes");
        Ok(gpu::dispatches(*self, &sizes, ctx.inputs.len() == 3, ctx.gpu))
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let grad = self.activation.vjp(vjp)?;
        let (a, b) = (vjp.inputs[0], vjp.inputs[1]);
        let plain = |trans_a, trans_b| Matmul { trans_a, trans_b, activation: Activation::None };
        let mut grads = vec![None; vjp.inputs.len()];
        if vjp.needs(0) {
            let full = match self.trans_a {
                false => vjp.graph.matmul_with(grad, b, None, plain(false, !self.trans_b))?,
                true => vjp.graph.matmul_with(b, grad, None, plain(self.trans_b, true))?,
            };
            let shape = vjp.graph.shape(a).clone();
            grads[0] = Some(vjp.graph.sum_to(full, shape)?);
        }
        if vjp.needs(1) {
            let full = match self.trans_b {
                false => vjp.graph.matmul_with(a, grad, None, plain(!self.trans_a, false))?,
                true => vjp.graph.matmul_with(grad, a, None, plain(true, self.trans_a))?,
            };
            let shape = vjp.graph.shape(b).clone();
            grads[1] = Some(vjp.graph.sum_to(full, shape)?);
        }
        if vjp.inputs.len() == 3 && vjp.needs(2) {
            let shape = vjp.graph.shape(vjp.inputs[2]).clone();
            grads[2] = Some(vjp.graph.sum_to(grad, shape)?);
        }
        Ok(grads)
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        count_ops([2, outputs[0].shape.num_elems(), self.num_terms(inputs)])
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let dims = inputs[0].shape.dims();
        dims[dims.len() - if self.trans_a { 2 } else { 1 }].max(1)
    }

    fn term_size(&self, largest: &[f64]) -> f64 {
        largest[0] * largest[1]
    }

    fn describe(&self) -> String {
        let marks = [(self.trans_a, "a transposed"), (self.trans_b, "b transposed")];
        let mut parts: Vec<&str> = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
        if self.activation != Activation::None {
            parts.push(self.activation.describe());
        }
        parts.join(", ")
    }
}

impl Graph {
    /// The product of (…, M, K) and (…, K, N), shape (…, M, N); leading dimensions broadcast (`torch.matmul` for
    /// operands of two dimensions and more).
    ///
    /// # Errors
    /// [`Error::Operand`] where the shapes do not fit.
    pub fn matmul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.matmul_with(a, b, None, Matmul::default())
    }

    /// [`Graph::matmul`] with either operand stored transposed, a bias (N) and an activation.
    ///
    /// # Errors
    /// [`Error::Operand`] where the shapes do not fit.
    pub fn matmul_with(&mut self, a: Value, b: Value, bias: Option<Value>, matmul: Matmul) -> Result<Value> {
        let [a, b] = self.align_batches(a, b)?;
        let inputs: Vec<Value> = [a, b].into_iter().chain(bias).collect();
        self.push1(matmul, &inputs)
    }

    /// `x · weightᵀ + bias` for x (…, in), weight (out, in) and bias (out): shape (…, out)
    /// (`torch.nn.functional.linear`).
    ///
    /// # Errors
    /// [`Error::Operand`] where the shapes do not fit.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Result<Value> {
        self.check(x)?;
        self.check(weight)?;
        let dims = self.shape(x).dims().to_vec();
        let Some((&features, leading)) = dims.split_last() else {
            return Err(Error::operand("linear", "an input of shape (…, in)", self.shape(x).to_string()));
        };
        let weight_dims = self.shape(weight).dims().to_vec();
        if weight_dims.len() != 2 || weight_dims[1] != features {
            let got = format!("{} for an input of {}", self.shape(weight), self.shape(x));
            return Err(Error::operand("linear", format!("a weight of shape (out, {features})"), got));
        }
        let rows = self.reshape(x, [leading.iter().product(), features])?;
        let y = self.matmul_with(rows, weight, bias, Matmul { trans_b: true, ..Matmul::default() })?;
        let mut shape = leading.to_vec();
        shape.push(weight_dims[0]);
        self.reshape(y, shape)
    }

    /// Kernels step from one matrix of a batch to the next by one stride. Where broadcasting would need several, the
    /// operands are stretched in memory first.
    fn align_batches(&mut self, a: Value, b: Value) -> Result<[Value; 2]> {
        self.check(a)?;
        self.check(b)?;
        let (a_dims, b_dims) = (self.shape(a).dims().to_vec(), self.shape(b).dims().to_vec());
        let ([a_batch @ .., _, _], [b_batch @ .., _, _]) = (a_dims.as_slice(), b_dims.as_slice()) else {
            return Ok([a, b]);
        };
        let (a_shape, b_shape) = (Shape::from(a_batch), Shape::from(b_batch));
        let Some(batch) = a_shape.broadcast(&b_shape) else { return Ok([a, b]) };
        if Strided::broadcast(&batch, [&a_shape, &b_shape]).rank() <= 1 {
            return Ok([a, b]);
        }
        let full = |own: &[usize]| [batch.dims(), &own[own.len() - 2..]].concat();
        Ok([self.broadcast_to(a, full(&a_dims))?, self.broadcast_to(b, full(&b_dims))?])
    }
}
