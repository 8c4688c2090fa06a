//! The layer and the loss, each with its gradient by hand: on the CPU, and as WGSL for a GPU.

use wgrad::ops::{Array, ArrayMut, CustomKernel, CustomOp};
use wgrad::{Error, Result, Shape};

const LINEAR_WGSL: &str = include_str!("linear.wgsl");
const MSE_WGSL: &str = include_str!("mse.wgsl");

/// x·w + b for x (N, I), w (I, O) and b (1, O). A hand-written op says what shape it gives, computes it, and computes
/// the gradient of each input from the gradient of the output.
#[derive(Debug)]
pub struct MyLinear;

impl CustomOp for MyLinear {
    fn name(&self) -> &str {
        "my_linear"
    }

    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        match inputs.iter().map(Shape::dims).collect::<Vec<_>>().as_slice() {
            [[n, i], [k, o], [1, p]] if i == k && o == p => Ok(vec![Shape::from([*n, *o])]),
            _ => Err(wrong_shapes(self.name(), "x (N, I), w (I, O) and b (1, O)", inputs)),
        }
    }

    fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
        let ([x, w, b], [num_in, num_out]) = operands(inputs);
        for (row, y) in x.chunks_exact(num_in).zip(outputs[0].data.chunks_exact_mut(num_out)) {
            for o in 0..num_out {
                y[o] = b[o] + (0..num_in).map(|i| row[i] * w[i * num_out + o]).sum::<f64>();
            }
        }
    }

    /// ∂x = ∂y·wᵀ, ∂w = xᵀ·∂y, ∂b = the sum of ∂y over the rows.
    fn backward(
        &self,
        inputs: &[Array<'_>],
        _outputs: &[Array<'_>],
        grad_outputs: &[Array<'_>],
        grad_inputs: &mut [ArrayMut<'_>],
    ) {
        let ([x, w, _], [num_in, num_out]) = operands(inputs);
        let [grad_x, grad_w, grad_b] = grad_inputs else { panic!("output_shapes takes three operands") };
        for (n, grad_y) in grad_outputs[0].data.chunks_exact(num_out).enumerate() {
            for (o, &grad) in grad_y.iter().enumerate() {
                grad_b.data[o] += grad;
                for i in 0..num_in {
                    grad_x.data[n * num_in + i] += grad * w[i * num_out + o];
                    grad_w.data[i * num_out + o] += grad * x[n * num_in + i];
                }
            }
        }
    }

    fn forward_wgsl(&self, inputs: &[Shape]) -> Option<CustomKernel> {
        Some(kernel(LINEAR_WGSL, "forward", sizes(inputs), inputs[0][0] * inputs[1][1]))
    }

    fn backward_wgsl(&self, inputs: &[Shape]) -> Option<CustomKernel> {
        let num_elems = inputs.iter().map(Shape::num_elems).sum();
        Some(kernel(LINEAR_WGSL, "backward", sizes(inputs), num_elems))
    }
}

/// The elements of x, w and b, and the numbers I and O.
fn operands<'a>(inputs: &[Array<'a>]) -> ([&'a [f64]; 3], [usize; 2]) {
    let [x, w, b] = inputs else { panic!("output_shapes takes three operands") };
    ([x.data, w.data, b.data], [w.shape[0], w.shape[1]])
}

/// The mean of (predicted − target)² over all elements.
#[derive(Debug)]
pub struct MyMse;

impl CustomOp for MyMse {
    fn name(&self) -> &str {
        "my_mse"
    }

    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        match inputs {
            [predicted, target] if predicted == target => Ok(vec![Shape::scalar()]),
            _ => Err(wrong_shapes(self.name(), "two operands of one shape", inputs)),
        }
    }

    fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
        let (predicted, target) = (inputs[0].data, inputs[1].data);
        let sum: f64 = predicted.iter().zip(target).map(|(p, t)| (p - t).powi(2)).sum();
        outputs[0].data[0] = sum / predicted.len() as f64;
    }

    /// 2/n · (predicted − target) by the prediction, the same with the other sign by the target.
    fn backward(
        &self,
        inputs: &[Array<'_>],
        _outputs: &[Array<'_>],
        grad_outputs: &[Array<'_>],
        grad_inputs: &mut [ArrayMut<'_>],
    ) {
        let (predicted, target) = (inputs[0].data, inputs[1].data);
        let scale = 2.0 * grad_outputs[0].data[0] / predicted.len() as f64;
        for i in 0..predicted.len() {
            grad_inputs[0].data[i] = scale * (predicted[i] - target[i]);
            grad_inputs[1].data[i] = -scale * (predicted[i] - target[i]);
        }
    }

    fn forward_wgsl(&self, inputs: &[Shape]) -> Option<CustomKernel> {
        Some(kernel(MSE_WGSL, "forward", vec![inputs[0].num_elems() as u32], 1))
    }

    fn backward_wgsl(&self, inputs: &[Shape]) -> Option<CustomKernel> {
        let num_elems = inputs[0].num_elems();
        Some(kernel(MSE_WGSL, "backward", vec![num_elems as u32], num_elems))
    }
}

fn wrong_shapes(op: &str, expected: &str, got: &[Shape]) -> Error {
    Error::Operand { op: op.to_owned(), expected: expected.to_owned(), got: format!("{got:?}") }
}

/// N, I and O for a kernel.
fn sizes(inputs: &[Shape]) -> Vec<u32> {
    [inputs[0][0], inputs[1][0], inputs[1][1]].map(|size| size as u32).to_vec()
}

/// The dispatch of a kernel with a thread for each of `num_threads`.
fn kernel(source: &'static str, entry_point: &'static str, params: Vec<u32>, num_threads: usize) -> CustomKernel {
    let workgroups = [num_threads.div_ceil(64) as u32, 1, 1];
    CustomKernel { source: source.into(), entry_point: entry_point.into(), params, workgroups }
}
