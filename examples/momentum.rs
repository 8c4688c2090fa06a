//! Gradient descent with and without momentum on least squares, where the two directions of the valley differ 50-fold
//! in steepness: the step that the steep one allows is too small for the flat one, and momentum makes up for it.
//!
//! ```sh
//! cargo run --example momentum
//! ```

use std::path::PathBuf;

use clap::Parser;
use wgrad::nn::Init;
use wgrad::ops::Reduction;
use wgrad::optim::Optimizer;
use wgrad::report::plots::{LinePlot, Series, line_plot};
use wgrad::rng::Stream;
use wgrad::{Device, Graph, Program, Result, Tensor};

const NUM_ROWS: usize = 100;
const NUM_STEPS: u64 = 200;
const LR: f64 = 0.4;
/// What the data are made of: y = 2·x₀ − 3·x₁ + noise. The second feature varies a seventh as much as the first, so
/// that the loss is 50 times as flat along its weight.
const TRUE_WEIGHTS: [f32; 2] = [2.0, -3.0];
const FEATURE_SCALES: [f32; 2] = [1.0, 1.0 / 7.0];
const NOISE: f32 = 0.05;

/// Least squares with and without momentum.
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
    let (x, y) = made_up_data()?;
    let momenta = [0.0, 0.5, 0.9];
    let curves = momenta.iter().map(|&momentum| descend(&device, &x, &y, momentum)).collect::<Result<Vec<_>>>()?;
    println!("\n{:>6} {:>12} {:>12} {:>12}", "step", "plain", "momentum 0.5", "momentum 0.9");
    for step in (0..=NUM_STEPS as usize).step_by(20) {
        let losses: Vec<String> = curves.iter().map(|curve| format!("{:>12.6}", curve[step])).collect();
        println!("{step:>6} {}", losses.join(" "));
    }
    // The best loss there is lies a little above 0, because of the noise.
    let best = curves.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    for (momentum, curve) in momenta.iter().zip(&curves) {
        // The first step from which on it stays there: momentum swings past the minimum and back.
        let steps = curve.iter().rposition(|&loss| loss > 1.01 * best).map_or(0, |last| last + 1);
        match steps < curve.len() {
            true => println!("momentum {momentum}: within 1 % of the lowest loss from step {steps} on"),
            false => println!("momentum {momentum}: not within 1 % of the lowest loss after {NUM_STEPS} steps"),
        }
    }
    let path = args.out.join("momentum.png");
    let name = |momentum: &f64| if *momentum == 0.0 { "plain".to_owned() } else { format!("momentum {momentum}") };
    line_plot(&LinePlot {
        title: "Least squares with and without momentum".to_owned(),
        x_label: "step".to_owned(),
        y_label: "loss".to_owned(),
        series: momenta.iter().zip(curves).map(|(momentum, curve)| Series::counted(name(momentum), 0, curve)).collect(),
        log_y: true,
        whole_x: true,
        ..LinePlot::default()
    })
    .save(&path)?;
    println!("picture: {}", path.display());
    Ok(())
}

/// Full-batch descent from w = (0, 0). Gives the loss before every step and after the last.
fn descend(device: &Device, x: &Tensor, y: &Tensor, momentum: f64) -> Result<Vec<f64>> {
    let optimizer = Optimizer::sgd_momentum(momentum);
    let mut graph = Graph::new("step");
    let rows = graph.input("x", x.ty())?;
    let targets = graph.input("y", y.ty())?;
    let weights = graph.parameter("w", [2, 1], Init::Zeros)?;
    let predicted = graph.matmul(rows, weights)?;
    let loss = graph.mse_loss(predicted, targets, Reduction::Mean)?;
    graph.output("loss", loss)?;
    optimizer.minimize(&mut graph, loss)?;

    let mut program = Program::from_graphs(device, &[&graph], 0)?;
    program.write_all([("x", x), ("y", y)])?;
    let mut losses = Vec::new();
    for step in 0..=NUM_STEPS {
        program.run("step", &optimizer.step(step, LR))?;
        losses.push(program.output("step", "loss")?.item()?);
    }
    Ok(losses)
}

fn made_up_data() -> Result<(Tensor, Tensor)> {
    let mut stream = Stream::named(1, "momentum");
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..NUM_ROWS {
        let row = FEATURE_SCALES.map(|scale| scale * stream.next_normal() as f32);
        let noise = NOISE * stream.next_normal() as f32;
        y.push(row[0] * TRUE_WEIGHTS[0] + row[1] * TRUE_WEIGHTS[1] + noise);
        x.extend(row);
    }
    Ok((Tensor::f32([NUM_ROWS, 2], x)?, Tensor::f32([NUM_ROWS, 1], y)?))
}
