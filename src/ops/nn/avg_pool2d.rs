//! Means over windows of an image: `torch.nn.functional.avg_pool2d` and `adaptive_avg_pool2d`.

use super::pool2d::{Params, WORKGROUP_SIZE, Windows, for_planes, plane};
use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::BatchForm;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid};
use crate::ops::{Operation, check, count_ops};
use crate::tensor::{Shape, TensorType};
use crate::{Error, Result};

pub(crate) static SHADER: Shader = Shader {
    name: "avg_pool2d",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/pool2d.wgsl"),
        include_str!("../../../shaders/avg_pool2d.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Windows of a mean, each pair as [height, width].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2d {
    /// The cells of a window.
    pub kernel_size: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Zeros around the input; at most half a window.
    pub padding: [usize; 2],
    /// Whether a last window may reach beyond the input and its padding.
    pub ceil_mode: bool,
    /// Whether zeros of the padding count among the cells that a sum is divided by.
    pub count_include_pad: bool,
    /// What sums are divided by instead of a number of cells.
    pub divisor_override: Option<u32>,
}

impl AvgPool2d {
    /// Windows side by side, without padding: PyTorch's defaults.
    pub fn new(kernel_size: [usize; 2]) -> Self {
        AvgPool2d {
            kernel_size,
            stride: kernel_size,
            padding: [0; 2],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    fn windows(&self) -> [Windows; 2] {
        [0, 1].map(|axis| Windows {
            kernel_size: self.kernel_size[axis],
            stride: self.stride[axis],
            padding: self.padding[axis],
            dilation: 1,
            ceil_mode: self.ceil_mode,
        })
    }
}

/// Where the windows of a mean lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Averages {
    /// At a fixed stride.
    Fixed(AvgPool2d),
    /// As evenly as whole cells allow, for an output of this height and width.
    Adaptive([usize; 2]),
}

/// The cells of a window within the input, and how many there are with padding.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    end: usize,
    num_padded: usize,
}

impl Averages {
    fn name(&self) -> &'static str {
        match self {
            Averages::Fixed(_) => "avg_pool2d",
            Averages::Adaptive(_) => "adaptive_avg_pool2d",
        }
    }

    fn output(&self, input: &TensorType) -> Result<Shape> {
        let [batch, channels, height, width] = check::rank(self.name(), input, "(N, C, H, W)")?;
        let [rows, columns] = match self {
            Averages::Fixed(pool) => {
                if pool.divisor_override == Some(0) {
                    return Err(Error::operand(self.name(), "a divisor of at least 1", "0"));
                }
                let [vertical, horizontal] = pool.windows();
                [vertical.count(self.name(), height)?, horizontal.count(self.name(), width)?]
            }
            Averages::Adaptive(output) => {
                if output.contains(&0) || height == 0 || width == 0 {
                    let got = format!("{output:?} for {input}");
                    return Err(Error::operand(self.name(), "an input and an output of at least one cell", got));
                }
                *output
            }
        };
        Ok([batch, channels, rows, columns].into())
    }

    /// All windows along an axis: 0 is vertical, 1 horizontal.
    fn windows(&self, axis: usize, input: usize, output: usize) -> Vec<Window> {
        let window = |index: usize| match self {
            Averages::Fixed(pool) => {
                let padding = pool.padding[axis];
                let start = index * pool.stride[axis];
                let end = (start + pool.kernel_size[axis]).min(input + 2 * padding);
                Window {
                    start: start.saturating_sub(padding),
                    end: end.saturating_sub(padding).min(input),
                    num_padded: end - start,
                }
            }
            Averages::Adaptive(_) => {
                let (start, end) = (index * input / output, ((index + 1) * input).div_ceil(output));
                Window { start, end, num_padded: end - start }
            }
        };
        (0..output).map(window).collect()
    }

    fn divisor(&self, vertical: Window, horizontal: Window) -> usize {
        match self {
            Averages::Fixed(AvgPool2d { divisor_override: Some(divisor), .. }) => *divisor as usize,
            Averages::Fixed(AvgPool2d { count_include_pad: false, .. }) => {
                (vertical.end - vertical.start) * (horizontal.end - horizontal.start)
            }
            _ => vertical.num_padded * horizontal.num_padded,
        }
    }

    /// The most cells of a window.
    fn num_cells(&self, input: [usize; 2], output: [usize; 2]) -> usize {
        let longest = |axis: usize| match self {
            Averages::Fixed(pool) => pool.kernel_size[axis],
            Averages::Adaptive(_) => input[axis].div_ceil(output[axis]) + 1,
        };
        longest(0).saturating_mul(longest(1))
    }

    /// The most windows that cover one cell.
    fn num_covering(&self, input: [usize; 2], output: [usize; 2]) -> usize {
        let most = |axis: usize| match self {
            Averages::Fixed(pool) => pool.kernel_size[axis].div_ceil(pool.stride[axis]),
            Averages::Adaptive(_) => output[axis].div_ceil(input[axis]) + 1,
        };
        most(0) * most(1)
    }

    fn dispatch(&self, entry: &'static str, num_elems: usize, input: &Shape, output: &Shape) -> Dispatch {
        let (pool, is_adaptive) = match self {
            Averages::Fixed(pool) => (*pool, false),
            // Of these only the divisor's rule is read.
            Averages::Adaptive(_) => (AvgPool2d::new([1; 2]), true),
        };
        let params = Params {
            count_padding: u32::from(pool.count_include_pad),
            divisor: pool.divisor_override.unwrap_or(0),
            ..Params::of(num_elems, input, output, pool.windows())
        };
        let bindings = [Binding::Input(0), Binding::Output(0)];
        let (input, output) = (plane(input), plane(output));
        // A loop over rows in which one over columns runs, and at least one column each.
        let cells = if entry == "forward" { self.num_cells(input, output) } else { self.num_covering(input, output) };
        let work = grid(num_elems, WORKGROUP_SIZE).iterations(3 * cells);
        Dispatch::new(&SHADER, entry, &params, bindings, work)
            .constant("WG", WORKGROUP_SIZE)
            .constant("ADAPTIVE", u32::from(is_adaptive))
    }

    fn describe(&self) -> String {
        let pool = match self {
            Averages::Fixed(pool) => pool,
            Averages::Adaptive([height, width]) => return format!("to {height}x{width}"),
        };
        let mut text = format!("{}x{}, stride {:?}", pool.kernel_size[0], pool.kernel_size[1], pool.stride);
        if pool.padding != [0; 2] {
            text += &format!(", padding {:?}", pool.padding);
            text += if pool.count_include_pad { "" } else { " not counted" };
        }
        if let Some(divisor) = pool.divisor_override {
            text += &format!(", divisor {divisor}");
        }
        text + if pool.ceil_mode { ", ceil" } else { "" }
    }
}

/// `y = mean of each window of x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AveragePool(pub Averages);

/// `grad_x` from grad_y: each window's gradient over its divisor, at all of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AveragePoolBackward {
    pub averages: Averages,
    /// Height and width of the input.
    pub input: [usize; 2],
}

impl Operation for AveragePool {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x] = check::arity(self.name(), inputs)?;
        Ok(vec![TensorType::f32(self.0.output(x)?)])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, y) = (ctx.float(0), ctx.output(0));
        let [height, width] = plane(&ctx.inputs[0].shape);
        let [rows, columns] = plane(&ctx.outputs[0].shape);
        let (vertical, horizontal) = (self.0.windows(0, height, rows), self.0.windows(1, width, columns));
        let scales = scales(&self.0, &vertical, &horizontal);
        let num_cells = self.0.num_cells([height, width], [rows, columns]);
        for_planes(
            y,
            rows * columns,
            num_cells,
            #[inline(always)]
            |plane, y| {
                let x = &x[plane * height * width..][..height * width];
                let rows = y.chunks_exact_mut(columns).zip(&vertical).zip(scales.chunks_exact(columns));
                for ((y, vertical), scales) in rows {
                    y.fill(F::ZERO);
                    for row in x[vertical.start * width..vertical.end * width].chunks_exact(width) {
                        for (y, horizontal) in y.iter_mut().zip(&horizontal) {
                            for &x in &row[horizontal.start..horizontal.end] {
                                *y += x;
                            }
                        }
                    }
                    y.iter_mut().zip(scales).for_each(|(y, &scale)| *y *= scale);
                }
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::rows(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (input, output) = (&ctx.inputs[0].shape, &ctx.outputs[0].shape);
        Ok(self.0.dispatch("forward", output.num_elems(), input, output).into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        let backward = AveragePoolBackward { averages: self.0, input: plane(vjp.graph.shape(vjp.inputs[0])) };
        Ok(vec![Some(vjp.graph.push1(backward, &[vjp.grad_output()])?)])
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        let num_cells = self.0.num_cells(plane(&inputs[0].shape), plane(&outputs[0].shape));
        count_ops([num_cells, outputs[0].shape.num_elems()])
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        let output = self.0.output(&inputs[0]).map_or([1, 1], |shape| plane(&shape));
        self.0.num_cells(plane(&inputs[0].shape), output)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl Operation for AveragePoolBackward {
    fn name(&self) -> &'static str {
        match self.averages {
            Averages::Fixed(_) => "avg_pool2d_backward",
            Averages::Adaptive(_) => "adaptive_avg_pool2d_backward",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [grad] = check::arity(self.name(), inputs)?;
        let [batch, channels, _, _] = check::rank(self.name(), grad, "(N, C, H, W)")?;
        let input = TensorType::f32([batch, channels, self.input[0], self.input[1]]);
        let pooled = self.averages.output(&input)?;
        if pooled != grad.shape {
            return Err(Error::operand(self.name(), format!("shape {pooled}"), grad.to_string()));
        }
        Ok(vec![input])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (grad, out) = (ctx.float(0), ctx.output(0));
        let [height, width] = self.input;
        let [rows, columns] = plane(&ctx.inputs[0].shape);
        let (vertical, horizontal) = (self.averages.windows(0, height, rows), self.averages.windows(1, width, columns));
        let scales = scales::<F>(&self.averages, &vertical, &horizontal);
        let cost = self.averages.num_covering(self.input, [rows, columns]);
        for_planes(
            out,
            height * width,
            cost,
            #[inline(always)]
            |plane, out| {
                out.fill(F::ZERO);
                let grad = &grad[plane * rows * columns..][..rows * columns];
                let rows = grad.chunks_exact(columns).zip(&vertical).zip(scales.chunks_exact(columns));
                for ((grad, vertical), scales) in rows {
                    for row in out[vertical.start * width..vertical.end * width].chunks_exact_mut(width) {
                        for ((&grad, &scale), horizontal) in grad.iter().zip(scales).zip(&horizontal) {
                            for out in &mut row[horizontal.start..horizontal.end] {
                                *out += grad * scale;
                            }
                        }
                    }
                }
            },
        );
    }

    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::rows(inputs, outputs)
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let (input, output) = (&ctx.outputs[0].shape, &ctx.inputs[0].shape);
        Ok(self.averages.dispatch("backward", input.num_elems(), input, output).into())
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        self.averages.num_covering(self.input, plane(&inputs[0].shape))
    }

    fn describe(&self) -> String {
        self.averages.describe()
    }
}

/// The reciprocals of all windows' divisors, (H', W').
fn scales<F: Float>(averages: &Averages, vertical: &[Window], horizontal: &[Window]) -> Vec<F> {
    let divisors = vertical.iter().flat_map(|&v| horizontal.iter().map(move |&h| averages.divisor(v, h)));
    divisors.map(|divisor| F::from_f64(1.0 / divisor as f64)).collect()
}

impl Graph {
    /// The mean of each window: (N, C, H, W) gives (N, C, H', W') with
    /// `H' = ⌊(H + 2·padding − kernel_size) / stride⌋ + 1`, rounded up under `ceil_mode` unless the last window would
    /// then start after the input (`torch.nn.functional.avg_pool2d`).
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float of that rank, an attribute is 0 that must not be, the padding
    /// exceeds half a window, or no window fits.
    pub fn avg_pool2d(&mut self, x: Value, pool: AvgPool2d) -> Result<Value> {
        self.push1(AveragePool(Averages::Fixed(pool)), &[x])
    }

    /// Means over windows that divide the input as evenly as whole cells allow: (N, C, H, W) gives (N, C, H', W') with
    /// `output_size` [H', W'], where window o covers the rows from ⌊o·H/H'⌋ up to ⌈(o+1)·H/H'⌉
    /// (`torch.nn.functional.adaptive_avg_pool2d`).
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float of that rank, or either size is 0.
    pub fn adaptive_avg_pool2d(&mut self, x: Value, output_size: [usize; 2]) -> Result<Value> {
        self.push1(AveragePool(Averages::Adaptive(output_size)), &[x])
    }

    /// The mean of each whole plane: (N, C, H, W) gives (N, C, 1, 1). A reduction, which spreads few large planes
    /// over more threads than [`Graph::adaptive_avg_pool2d`] to [1, 1] does; the result is the same but for rounding.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float of that rank or a plane is empty.
    pub fn global_avg_pool2d(&mut self, x: Value) -> Result<Value> {
        self.check(x)?;
        check::rank::<4>("global_avg_pool2d", self.ty(x), "(N, C, H, W)")?;
        self.mean(x, &[2, 3], true)
    }
}
