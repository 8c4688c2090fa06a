//! The largest value of each window of an image (`torch.nn.functional.max_pool2d`).

use super::pool2d::{Params, WORKGROUP_SIZE, Windows, for_plane_pairs, for_planes, plane};
use crate::Result;
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid};
use crate::ops::{Operation, check, count_ops};
use crate::tensor::{DType, Shape, TensorType};

pub(crate) static SHADER: Shader = Shader {
    name: "max_pool2d",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/pool2d.wgsl"),
        include_str!("../../../shaders/lib/nan.wgsl"),
        include_str!("../../../shaders/lib/largest.wgsl"),
        include_str!("../../../shaders/max_pool2d.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Windows of a maximum, each attribute as [height, width]. Padding is never chosen. Of equal values the first in
/// row-major order is, and the gradient goes to it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2d {
    /// The cells of a window.
    pub kernel_size: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Cells around the input that are not there; at most half a window.
    pub padding: [usize; 2],
    /// From one cell of a window to the next.
    pub dilation: [usize; 2],
    /// Whether a last window may reach beyond the input.
    pub ceil_mode: bool,
}

impl MaxPool2d {
    /// Windows side by side, without padding: PyTorch's defaults.
    pub fn new(kernel_size: [usize; 2]) -> Self {
        MaxPool2d { kernel_size, stride: kernel_size, padding: [0; 2], dilation: [1; 2], ceil_mode: false }
    }

    fn windows(&self) -> [Windows; 2] {
        [0, 1].map(|axis| Windows {
            kernel_size: self.kernel_size[axis],
            stride: self.stride[axis],
            padding: self.padding[axis],
            dilation: self.dilation[axis],
            ceil_mode: self.ceil_mode,
        })
    }

    /// Whether a cell may be in more than one window.
    pub(crate) fn overlaps(&self) -> bool {
        let reach = |axis: usize| self.dilation[axis] * (self.kernel_size[axis].max(1) - 1) + 1;
        (0..2).any(|axis| reach(axis) > self.stride[axis])
    }

    /// Whether windows are 2×2 side by side, all of them within an input of this extent.
    fn is_plain_2x2(&self, [height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> bool {
        let plain = MaxPool2d { ceil_mode: self.ceil_mode, ..MaxPool2d::new([2, 2]) };
        *self == plain && 2 * rows <= height && 2 * columns <= width
    }

    /// Whether the kernels for pairs of 2×2 windows apply: see the shader.
    fn is_paired(&self, input: &Shape, output: &Shape) -> bool {
        let [height, width] = plane(input);
        self.is_plain_2x2([height, width], plane(output)) && width % 4 == 0 && height % 2 == 0
    }

    /// The dispatch of `forward` or `backward`, or of the kernel for pairs of windows where that applies.
    fn dispatch(
        &self,
        [general, paired]: [&'static str; 2],
        input: &Shape,
        output: &Shape,
        general_elems: usize,
    ) -> (Params, &'static str) {
        let (num_elems, entry_point) =
            if self.is_paired(input, output) { (output.num_elems() / 2, paired) } else { (general_elems, general) };
        (Params::of(num_elems, input, output, self.windows()), entry_point)
    }

    /// Iterations of the kernels' loops.
    fn loop_iterations(&self) -> usize {
        self.kernel_size[0] * (2 + self.kernel_size[1])
    }

    /// The maxima of planes side by side and where they are.
    pub(super) fn pool<F: Float>(
        &self,
        [height, width]: [usize; 2],
        [rows, columns]: [usize; 2],
        x: &[F],
        (y, indices): (&mut [F], &mut [u32]),
    ) {
        let is_plain_2x2 = self.is_plain_2x2([height, width], [rows, columns]);
        for_plane_pairs(
            y,
            indices,
            rows * columns,
            self.kernel_size[0].saturating_mul(self.kernel_size[1]),
            #[inline(always)]
            |plane, y, indices| {
                let x = &x[plane * height * width..][..height * width];
                if is_plain_2x2 && !has_nan(x) {
                    pool_plane_2x2(width, columns, x, (y, indices));
                } else {
                    self.pool_plane([height, width], columns, x, (y, indices));
                }
            },
        );
    }

    /// The maxima of one plane and where they are.
    fn pool_plane<F: Float>(&self, [height, width]: [usize; 2], columns: usize, x: &[F], out: (&mut [F], &mut [u32])) {
        let [vertical, horizontal] = self.windows();
        let rows = out.0.chunks_exact_mut(columns).zip(out.1.chunks_exact_mut(columns)).enumerate();
        for (row, (y, indices)) in rows {
            for (column, (y, index)) in y.iter_mut().zip(indices).enumerate() {
                let mut best: Option<(F, usize)> = None;
                for at_y in vertical.cells(row, height) {
                    for at_x in horizontal.cells(column, width) {
                        let at = at_y * width + at_x;
                        let value = x[at];
                        // The first maximum stays; a NaN wins over everything, as in PyTorch.
                        if best.is_none_or(|(max, _)| value > max || value.is_nan()) {
                            best = Some((value, at));
                        }
                    }
                }
                let (max, at) = best.expect("infer saw to it that every window meets the input");
                // A plane's index fits u32: bindings are limited long before.
                (*y, *index) = (max, at as u32);
            }
        }
    }
}

/// [`MaxPool2d::pool_plane`] for 2×2 windows side by side, in a plane without NaN.
#[inline(always)]
fn pool_plane_2x2<F: Float>(width: usize, columns: usize, x: &[F], (y, indices): (&mut [F], &mut [u32])) {
    for row in 0..y.len() / columns {
        let mut column = 0;
        while column < columns {
            let (place, above) = (row * columns + column, 2 * (row * width + column));
            // A plane's index fits u32: bindings are limited long before.
            let at = [above, width].map(|at| at as u32);
            let cells = [&x[above..], &x[above + width..]];
            let out = (&mut y[place..], &mut indices[place..]);
            // What is written after a row is overwritten by the next one, where there is one.
            let room = out.0.len().min(cells[1].len() / 2);
            column += match columns - column {
                9.. if room >= 16 => pool_2x2::<F, 16>(cells, at, out),
                5.. if room >= 8 => pool_2x2::<F, 8>(cells, at, out),
                2.. if room >= 4 => pool_2x2::<F, 4>(cells, at, out),
                _ => pool_2x2::<F, 1>(cells, at, out),
            };
        }
    }
}

/// N windows side by side, as arrays, since a loop over rows of a dozen windows would run without vectors; gives N. Three
/// comparisons a window, whose results are computed with: branches on them would be mispredicted every other time.
#[inline(always)]
fn pool_2x2<F: Float, const N: usize>(
    [upper, lower]: [&[F]; 2],
    [first, width]: [u32; 2],
    (y, indices): (&mut [F], &mut [u32]),
) -> usize {
    let (upper, lower) = (upper[..2 * N].as_chunks::<2>().0, lower[..2 * N].as_chunks::<2>().0);
    let (mut maxima, mut places) = ([F::ZERO; N], [0; N]);
    for window in 0..N {
        let (above, above_right) = larger(upper[window][0], upper[window][1]);
        let (below, below_right) = larger(lower[window][0], lower[window][1]);
        let (max, is_below) = larger(above, below);
        let is_right = (above_right & !is_below) | (below_right & is_below);
        maxima[window] = max;
        places[window] = first + 2 * window as u32 + (width & is_below) + (is_right & 1);
    }
    y[..N].copy_from_slice(&maxima);
    indices[..N].copy_from_slice(&places);
    N
}

/// Whether any value is NaN. Checks all of them, because a loop without an early exit vectorises.
#[inline(always)]
fn has_nan<F: Float>(x: &[F]) -> bool {
    x.iter().fold(false, |any, x| any | x.is_nan())
}

/// The larger of two values, and all bits set if that is the second; the first in a tie.
#[inline(always)]
fn larger<F: Float>(first: F, second: F) -> (F, u32) {
    (if second > first { second } else { first }, u32::from(second > first).wrapping_neg())
}

impl Operation for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity("max_pool2d", inputs)?;
        let [batch, channels, height, width] = check::rank("max_pool2d", x, "(N, C, H, W)")?;
        let [vertical, horizontal] = self.windows();
        let (rows, columns) = (vertical.count("max_pool2d", height)?, horizontal.count("max_pool2d", width)?);
        let shape = [batch, channels, rows, columns];
        Ok(vec![TensorType::f32(shape), TensorType::u32(shape)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y, indices) = (ctx.float(0), ctx.output(0), ctx.output_u32(1));
        self.pool(plane(&ctx.inputs[0].shape), plane(&ctx.outputs[0].shape), x, (y, indices));
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::rows(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (input, output) = (&ctx.inputs[0].shape, &ctx.outputs[0].shape);
        let (params, entry_point) = self.dispatch(["forward", "forward_2x2"], input, output, output.num_elems());
        let bindings = [Binding::Input(0), Binding::Output(0), Binding::Output(1)];
        let work = grid(params.num_elems as usize, WORKGROUP_SIZE).iterations(self.loop_iterations());
        Ok(Dispatch::new(&SHADER, entry_point, &params, bindings, work).constant("WG", WORKGROUP_SIZE).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let (grad, indices) = (vjp.grad_output(), vjp.outputs[1]);
        let backward = MaxPool2dBackward { pool: *self, input: plane(vjp.graph.shape(vjp.inputs[0])) };
        Ok(vec![Some(vjp.graph.push1(backward, &[grad, indices])?)])
    }

    fn flops(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        count_ops([self.kernel_size[0], self.kernel_size[1], outputs[0].shape.num_elems()])
    }

    fn describe(&self) -> String {
        let MaxPool2d { kernel_size: [height, width], stride, padding, dilation, ceil_mode } = *self;
        let mut text = format!("{height}x{width}, stride {stride:?}");
        if padding != [0; 2] {
            text += &format!(", padding {padding:?}");
        }
        if dilation != [1; 2] {
            text += &format!(", dilation {dilation:?}");
        }
        text + if ceil_mode { ", ceil" } else { "" }
    }
}

/// `grad_x` from (grad_y, indices): each window's gradient at the cell that it chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxPool2dBackward {
    pub pool: MaxPool2d,
    /// Height and width of the input.
    pub input: [usize; 2],
}

impl MaxPool2dBackward {
    /// Adds each window's gradient to the cell that it chose, in planes that are 0 elsewhere.
    pub(super) fn spread<F: Float>(&self, grad: &[F], indices: &[u32], windows: usize, out: &mut [F]) {
        for_planes(
            out,
            self.input[0] * self.input[1],
            1,
            #[inline(always)]
            |plane, out| {
                out.fill(F::ZERO);
                let own = plane * windows..(plane + 1) * windows;
                for (&grad, &index) in grad[own.clone()].iter().zip(&indices[own]) {
                    out[index as usize] += grad;
                }
            },
        );
    }
}

impl Operation for MaxPool2dBackward {
    fn name(&self) -> &'static str {
        "max_pool2d_backward"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad, indices] = check::arity(self.name(), inputs)?;
        let [batch, channels, _, _] = check::rank(self.name(), grad, "(N, C, H, W)")?;
        check::dtype(self.name(), indices, DType::U32)?;
        let input = TensorType::f32([batch, channels, self.input[0], self.input[1]]);
        let pooled = self.pool.infer(std::slice::from_ref(&input))?;
        if pooled[0] != *grad || pooled[1] != *indices {
            let expected = format!("{} and {}", pooled[0], pooled[1]);
            return Err(crate::Error::operand(self.name(), expected, format!("{grad} and {indices}")));
        }
        Ok(vec![input])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (grad, indices, out) = (ctx.float(0), ctx.u32(1), ctx.output(0));
        let [_, _, rows, columns] = ctx.dims(0);
        self.spread(grad, indices, rows * columns, out);
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::rows(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (input, output) = (&ctx.outputs[0].shape, &ctx.inputs[0].shape);
        let (params, entry_point) = self.pool.dispatch(["backward", "backward_2x2"], input, output, input.num_elems());
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        let work = grid(params.num_elems as usize, WORKGROUP_SIZE).iterations(self.pool.loop_iterations());
        Ok(Dispatch::new(&SHADER, entry_point, &params, bindings, work).constant("WG", WORKGROUP_SIZE).into())
    }

    fn num_terms(&self, _inputs: &[TensorType]) -> usize {
        // As many windows as overlap in a cell can choose it.
        let overlap = |axis: usize| self.pool.kernel_size[axis].div_ceil(self.pool.stride[axis]);
        overlap(0) * overlap(1)
    }

    fn describe(&self) -> String {
        self.pool.describe()
    }
}

impl Graph {
    /// The largest value of each window: (N, C, H, W) gives (N, C, H', W') with
    /// `H' = ⌊(H + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1`, rounded up under `ceil_mode` unless the
    /// last window would then start after the input (`torch.nn.functional.max_pool2d`).
    ///
    /// # Errors
    /// [`Error::Operand`](crate::Error::Operand) where `x` is not a float of that rank, an attribute is 0 that must not
    /// be, the padding exceeds half a window, or a window meets no cell of the input.
    pub fn max_pool2d(&mut self, x: Value, pool: MaxPool2d) -> Result<Value> {
        self.push1(pool, &[x])
    }

    /// [`Graph::max_pool2d`] together with where each maximum is: its index in the plane of H·W cells, as u32
    /// (`return_indices=True`). Errors as there.
    pub fn max_pool2d_with_indices(&mut self, x: Value, pool: MaxPool2d) -> Result<(Value, Value)> {
        let outputs = self.push(pool, &[x])?;
        Ok((outputs[0], outputs[1]))
    }
}
