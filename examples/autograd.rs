//! Automatic differentiation: what a gradient is, where it flows, and what stops it.
//!
//! ```sh
//! cargo run --example autograd
//! ```

use std::path::PathBuf;

use clap::Parser;
use wgrad::report::plots::{LinePlot, Series, line_plot};
use wgrad::rng::Stream;
use wgrad::{Device, Graph, Result, Tensor, Value, evaluate, value_and_grad};

/// Derivatives, by hand and by machine.
#[derive(Parser)]
struct Args {
    /// Folder for pictures.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    derivatives(&device)?;
    draw_power(&device, &args)?;
    mean_of_squares(&device)?;
    least_squares(&device)?;
    where_gradients_stop(&device)?;
    accumulation(&device)
}

/// The derivative of a function of one number, at x.
fn derivative(device: &Device, x: f32, f: impl Fn(&mut Graph, Value) -> Result<Value>) -> Result<(f64, f64)> {
    let result = value_and_grad(device, &[Tensor::scalar(x)], |graph, inputs| f(graph, inputs[0]))?;
    Ok((result.value, result.grad(0)?.item()?))
}

/// A graph is built by calling methods on it; each gives a handle to a value that exists once the graph runs.
fn derivatives(device: &Device) -> Result<()> {
    println!("\n1. Derivatives at x = 0");
    let (y, slope) = derivative(device, 0.0, |graph, x| {
        let scaled = graph.mul_scalar(x, 3.0)?;
        graph.add_scalar(scaled, 5.0)
    })?;
    println!("3x + 5:  value {y:.6}, derivative {slope:.6} (by hand: 3)");
    let (y, slope) = derivative(device, 0.0, |graph, x| {
        let two = graph.constant(Tensor::scalar(2.0));
        graph.pow(two, x)
    })?;
    println!("2^x:     value {y:.6}, derivative {slope:.6} (by hand: ln 2 = {:.6})", 2f64.ln());
    Ok(())
}

/// 2^x, its derivative at many x at once (the gradient of the sum), and the tangent at 0 that the derivative gives.
fn draw_power(device: &Device, args: &Args) -> Result<()> {
    let x: Vec<f32> = (-30..=30).map(|i| i as f32 / 10.0).collect();
    let inputs = [Tensor::f32([x.len()], x.clone())?];
    let power = |graph: &mut Graph, x: Value| {
        let two = graph.constant(Tensor::scalar(2.0));
        graph.pow(two, x)
    };
    let y = evaluate(device, &inputs, |graph, values| Ok(vec![power(graph, values[0])?]))?[0].to_f64_vec();
    let result = value_and_grad(device, &inputs, |graph, values| {
        let y = power(graph, values[0])?;
        graph.sum_all(y)
    })?;
    let (at_zero, slope) = derivative(device, 0.0, power)?;
    let line = |name: &str, y: Vec<f64>| Series {
        name: name.to_owned(),
        points: x.iter().map(|&x| f64::from(x)).zip(y).collect(),
    };
    let tangent = x.iter().map(|&x| at_zero + slope * f64::from(x)).collect();
    let picture = line_plot(&LinePlot {
        title: "2^x, its derivative, and its tangent at 0".to_owned(),
        x_label: "x".to_owned(),
        series: vec![line("2^x", y), line("derivative", result.grad(0)?.to_f64_vec()), line("tangent at 0", tangent)],
        ..LinePlot::default()
    });
    let path = args.out.join("autograd.png");
    picture.save(&path)?;
    println!("picture: {}", path.display());
    Ok(())
}

/// A function of several numbers has a derivative by each of them: the gradient, of the shape of the input.
fn mean_of_squares(device: &Device) -> Result<()> {
    println!("\n2. The gradient of mean(x²) is 2x/n");
    let x = Tensor::f32([4], vec![1.0, -2.0, 3.0, 0.5])?;
    let result = value_and_grad(device, &[x], |graph, inputs| {
        let squares = graph.square(inputs[0])?;
        graph.mean_all(squares)
    })?;
    println!("x = [1, -2, 3, 0.5]: value {:.6}, gradient {:?}", result.value, result.grad(0)?.to_f32_vec());
    Ok(())
}

/// The loss of least squares: mean((Xw − y)²).
fn squared_error(graph: &mut Graph, x: Value, w: Value, y: Value) -> Result<Value> {
    let predicted = graph.matmul(x, w)?;
    let error = graph.sub(predicted, y)?;
    let squares = graph.square(error)?;
    graph.mean_all(squares)
}

/// The same gradient twice: by the formula 2/N · Xᵀ(Xw − y), and by walking back through the loss.
fn least_squares(device: &Device) -> Result<()> {
    println!("\n3. Least squares, mean((Xw - y)²): the gradient by w");
    let mut stream = Stream::named(42, "autograd");
    let mut normal = |shape: [usize; 2]| {
        let values = (0..shape[0] * shape[1]).map(|_| stream.next_normal() as f32).collect();
        Tensor::f32(shape, values)
    };
    let inputs = [normal([20, 3])?, normal([3, 1])?, normal([20, 1])?];
    let by_hand = evaluate(device, &inputs, |graph, values| {
        let [x, w, y] = [values[0], values[1], values[2]];
        let predicted = graph.matmul(x, w)?;
        let error = graph.sub(predicted, y)?;
        let x_transposed = graph.transpose(x, 0, 1)?;
        let grad = graph.matmul(x_transposed, error)?;
        Ok(vec![graph.mul_scalar(grad, 2.0 / 20.0)?])
    })?[0]
        .to_f64_vec();
    let result =
        value_and_grad(device, &inputs, |graph, values| squared_error(graph, values[0], values[1], values[2]))?;
    let by_autodiff = result.grad(1)?.to_f64_vec();
    println!("loss {:.6}", result.value);
    println!("by hand:     {by_hand:.6?}");
    println!("by autodiff: {by_autodiff:.6?}");
    let difference = by_hand.iter().zip(&by_autodiff).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("largest difference {difference:.1e}");
    Ok(())
}

/// `no_grad` builds nodes that no gradient flows through; `detach` cuts one value off.
fn where_gradients_stop(device: &Device) -> Result<()> {
    println!("\n4. no_grad and detach");
    let x = Tensor::scalar(2.0);
    let outcome = value_and_grad(device, &[x], |graph, inputs| {
        let y = graph.no_grad(|graph| graph.square(inputs[0]))?;
        println!("x² under no_grad: does a gradient flow to it? {}", graph.requires_grad(y));
        Ok(y)
    });
    match outcome {
        Ok(_) => println!("unexpected: a gradient came out"),
        Err(error) => println!("so asking for its derivative is an error: {error}"),
    }
    // With one factor detached, x·x counts as x times a constant.
    let (y, slope) = derivative(device, 2.0, |graph, x| graph.mul(x, x))?;
    println!("x·x at 2:          value {y:.6}, derivative {slope:.6}");
    let (y, slope) = derivative(device, 2.0, |graph, x| {
        let constant = graph.detach(x)?;
        graph.mul(x, constant)
    })?;
    println!("x·detach(x) at 2:  value {y:.6}, derivative {slope:.6}");
    Ok(())
}

/// PyTorch adds every `backward` to `x.grad` until it is zeroed. Here a gradient is a value like any other, which
/// starts anew in every run, so nothing has to be zeroed; to accumulate, add.
fn accumulation(device: &Device) -> Result<()> {
    println!("\n5. Accumulating gradients");
    let line = |graph: &mut Graph, x: Value| {
        let scaled = graph.mul_scalar(x, 3.0)?;
        graph.add_scalar(scaled, 5.0)
    };
    let mut accumulated = 0.0;
    for pass in 1..=3 {
        let (_, slope) = derivative(device, 0.0, line)?;
        accumulated += slope;
        println!("pass {pass}: this gradient {slope:.6}, sum without zeroing {accumulated:.6}");
    }
    // Within one graph, a value that is used twice gets the sum of both gradients.
    let (_, slope) = derivative(device, 2.0, |graph, x| {
        let [square, line] = [graph.square(x)?, line(graph, x)?];
        graph.add(square, line)
    })?;
    println!("x² + 3x + 5 at 2: derivative {slope:.6} (4 by the square, 3 by the line)");
    // Why one would: the gradient of a large batch is the mean of those of its halves.
    let x: Vec<f32> = (1..=8).map(|i| i as f32).collect();
    let gradient = |rows: &[f32]| -> Result<f64> {
        let inputs = [Tensor::scalar(0.5), Tensor::f32([rows.len()], rows.to_vec())?];
        let result = value_and_grad(device, &inputs, |graph, values| {
            let scaled = graph.mul(values[1], values[0])?;
            let squares = graph.square(scaled)?;
            graph.mean_all(squares)
        })?;
        result.grad(0)?.item()
    };
    let (whole, halves) = (gradient(&x)?, (gradient(&x[..4])? + gradient(&x[4..])?) / 2.0);
    println!("batch of 8: gradient {whole:.6}; mean over two batches of 4: {halves:.6}");
    Ok(())
}
