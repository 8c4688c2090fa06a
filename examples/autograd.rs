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

/// The loss of least squares, the sum of (y − Xβ)². At β = 0 its gradient is −2Xᵀy.
fn least_squares(device: &Device) -> Result<()> {
    println!("\n3. Least squares, sum((y - Xβ)²): the gradient by β at β = 0");
    // Points as in the exercise: X (10, 2) uniform, y = X·β + noise for a β between −1 and 1.
    let mut stream = Stream::named(42, "autograd");
    let true_beta = Tensor::rand([2, 1], &mut stream).to_f32_vec();
    let x = Tensor::rand([10, 2], &mut stream);
    let noise = Tensor::randn([10], &mut stream).to_f32_vec();
    let rows = x.to_f32_vec();
    let product = |row: &[f32]| row.iter().zip(&true_beta).map(|(x, beta)| x * (2.0 * beta - 1.0)).sum::<f32>();
    let y = Tensor::f32([10, 1], rows.chunks(2).zip(noise).map(|(row, noise)| product(row) + noise).collect())?;
    let inputs = [x, y, Tensor::zeros([2, 1])];
    let by_hand = evaluate(device, &inputs, |graph, values| {
        let x_transposed = graph.transpose(values[0], 0, 1)?;
        let product = graph.matmul(x_transposed, values[1])?;
        Ok(vec![graph.mul_scalar(product, -2.0)?])
    })?;
    let result = value_and_grad(device, &inputs, |graph, values| {
        let [x, y, beta] = [values[0], values[1], values[2]];
        let predicted = graph.matmul(x, beta)?;
        let error = graph.sub(y, predicted)?;
        let squares = graph.square(error)?;
        graph.sum_all(squares)
    })?;
    println!("loss {:.6}", result.value);
    let [by_hand, by_autodiff] = [by_hand[0].to_f64_vec(), result.grad(2)?.to_f64_vec()];
    println!("by hand, -2Xᵀy: {by_hand:.6?}");
    println!("by autodiff:    {by_autodiff:.6?}");
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
