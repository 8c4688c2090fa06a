//! Linear regression with everything written by hand: the layer, the loss, their gradients, and gradient descent.
//!
//! ```sh
//! cargo run --example linear_regression
//! ```

use std::path::{Path, PathBuf};

use clap::Parser;
use wgrad::nn::Init;
use wgrad::nn::weights;
use wgrad::ops::{Array, ArrayMut, CustomKernel, CustomOp};
use wgrad::optim::Optimizer;
use wgrad::report::plots::{LinePlot, Series, line_plot};
use wgrad::report::tensorboard::EventWriter;
use wgrad::{Device, Error, Graph, Program, Result, Shape, StateDict, Tensor, gradcheck};

/// Training stops at this loss.
const TARGET_LOSS: f64 = 0.70;

/// One way to run gradient descent: where it starts, how far it steps, how often at most.
struct Run {
    start: [&'static str; 2],
    step_size: f64,
    max_updates: usize,
}

/// Linear regression with hand-written gradients.
#[derive(Parser)]
struct Args {
    /// Folder for the picture and the TensorBoard logs.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    // x (50, 13), y (50, 3) and two starting points w (13, 3), b (1, 3), drawn by PyTorch with seed 42.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/linear_regression.safetensors");
    let data = weights::load(&path)?;
    check_gradients(&data)?;
    let runs = [
        Run { start: ["w", "b"], step_size: 0.01, max_updates: 5000 },
        Run { start: ["w_restart", "b_restart"], step_size: 0.0001, max_updates: 1000 },
        Run { start: ["w_restart", "b_restart"], step_size: 0.5, max_updates: 5000 },
    ];
    let mut series = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let number = index + 1;
        println!("\nrun {number}: start {:?}, step size {}", run.start, run.step_size);
        // `tensorboard --logdir runs/examples/tensorboard` shows the three side by side.
        let mut events = EventWriter::create(&args.out.join(format!("tensorboard/linear_regression_{number}")))?;
        let losses = descend(&device, &data, run, &mut events)?;
        series.push(Series::counted(format!("step size {}", run.step_size), 0, losses));
    }
    let path = args.out.join("linear_regression.png");
    line_plot(&LinePlot {
        title: "Gradient descent on the mean squared error".to_owned(),
        x_label: "iteration".to_owned(),
        y_label: "loss".to_owned(),
        series,
        log_y: true,
        whole_x: true,
        ..LinePlot::default()
    })
    .save(&path)?;
    println!("\npicture: {}", path.display());
    Ok(())
}

/// Gradients written by hand are wrong more often than not. `gradcheck` moves every input a little, in f64, and
/// compares what the loss does with what `backward` claims.
fn check_gradients(data: &StateDict) -> Result<()> {
    let inputs = ["x", "w", "b"].map(|name| data[name].clone());
    let linear = gradcheck(&inputs, |graph, inputs| graph.custom(MyLinear, inputs))?;
    println!("gradcheck of the layer: {}", linear.map_or("passed".to_owned(), |wrong| format!("failed, {wrong:?}")));
    // Any tensor of the same shape does as a prediction.
    let inputs = [data["y"].clone(), Tensor::f32([50, 3], vec![0.5; 150])?];
    let mse = gradcheck(&inputs, |graph, inputs| graph.custom(MyMse, inputs))?;
    println!("gradcheck of the loss:  {}", mse.map_or("passed".to_owned(), |wrong| format!("failed, {wrong:?}")));
    Ok(())
}

/// Gradient descent on all rows at once until the loss is small enough. Gives the loss before every update.
fn descend(device: &Device, data: &StateDict, run: &Run, events: &mut EventWriter) -> Result<Vec<f64>> {
    // Build: the data are inputs, w and b are parameters, and `minimize` appends gradients and update.
    let mut graph = Graph::new("step");
    let x = graph.input("x", data["x"].ty())?;
    let y = graph.input("y", data["y"].ty())?;
    let w = graph.parameter("w", [13, 3], Init::Values(data[run.start[0]].clone()))?;
    let b = graph.parameter("b", [1, 3], Init::Values(data[run.start[1]].clone()))?;
    let predicted = graph.custom(MyLinear, &[x, w, b])?[0];
    let loss = graph.custom(MyMse, &[predicted, y])?[0];
    graph.output("loss", loss)?;
    let optimizer = Optimizer::sgd_momentum(0.0);
    optimizer.minimize(&mut graph, loss)?;
    // Compile once, then run as often as it takes.
    let mut program = Program::from_graphs(device, &[&graph], 0)?;
    program.write_all([("x", &data["x"]), ("y", &data["y"])])?;
    let mut losses = Vec::new();
    for iteration in 0..=run.max_updates {
        program.run("step", &optimizer.steps(1, run.step_size))?;
        let loss = program.output("step", "loss")?.item()?;
        losses.push(loss);
        events.scalar("loss/train", iteration as u64, loss)?;
        if iteration % if iteration < 500 { 100 } else { 500 } == 0 || iteration == 1400 {
            println!("iteration {iteration:4}: loss {loss:.6}");
        }
        if loss <= TARGET_LOSS {
            // This step has computed the loss and then updated, so one update more than the iterations before.
            println!("converged, n = {}", iteration + 1);
            return Ok(losses);
        }
    }
    println!("stopped at the cap of {}", run.max_updates);
    Ok(losses)
}

/// x·w + b for x (N, I), w (I, O) and b (1, O). A hand-written op says what shape it gives, computes it, and computes
/// the gradient of each input from the gradient of the output.
#[derive(Debug)]
struct MyLinear;

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
struct MyMse;

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

/// The same for a GPU: one thread an element of what is written.
const LINEAR_WGSL: &str = "
struct Params { n: u32, i: u32, o: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.n * p.o { return; }
    let row = id.x / p.o;
    let col = id.x % p.o;
    var sum = b[col];
    for (var k = 0u; k < p.i; k++) { sum += x[row * p.i + k] * w[k * p.o + col]; }
    y[id.x] = sum;
}

// Bindings of `backward` after the inputs: y, its gradient, and the gradients of the inputs.
@group(0) @binding(4) var<storage, read> y_again: array<f32>;
@group(0) @binding(5) var<storage, read> grad_y: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_x: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_w: array<f32>;
@group(0) @binding(8) var<storage, read_write> grad_b: array<f32>;

// The first threads compute the gradient of x, those after them that of w, the last ones that of b.
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let num_x = p.n * p.i;
    let num_w = p.i * p.o;
    var sum = 0.0;
    if id.x < num_x {
        let row = id.x / p.i;
        let col = id.x % p.i;
        for (var k = 0u; k < p.o; k++) { sum += grad_y[row * p.o + k] * w[col * p.o + k]; }
        grad_x[id.x] = sum;
    } else if id.x < num_x + num_w {
        let row = (id.x - num_x) / p.o;
        let col = (id.x - num_x) % p.o;
        for (var k = 0u; k < p.n; k++) { sum += x[k * p.i + row] * grad_y[k * p.o + col]; }
        grad_w[id.x - num_x] = sum;
    } else if id.x < num_x + num_w + p.o {
        let col = id.x - num_x - num_w;
        for (var k = 0u; k < p.n; k++) { sum += grad_y[k * p.o + col]; }
        grad_b[col] = sum;
    }
}
";

/// One thread adds up the loss: 150 numbers are too few to share the work.
const MSE_WGSL: &str = "
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> predicted: array<f32>;
@group(0) @binding(2) var<storage, read> wanted: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x > 0 { return; }
    var sum = 0.0;
    for (var k = 0u; k < p.n; k++) { sum += (predicted[k] - wanted[k]) * (predicted[k] - wanted[k]); }
    loss[0] = sum / f32(p.n);
}

@group(0) @binding(3) var<storage, read> loss_again: array<f32>;
@group(0) @binding(4) var<storage, read> grad_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_predicted: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_wanted: array<f32>;

@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.n { return; }
    let grad = grad_loss[0] * 2.0 * (predicted[id.x] - wanted[id.x]) / f32(p.n);
    grad_predicted[id.x] = grad;
    grad_wanted[id.x] = -grad;
}
";
