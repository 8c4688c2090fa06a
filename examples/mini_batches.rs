//! A line through made-up points: how the batch size changes the way to the minimum, and what the optimizer adds.
//!
//! ```sh
//! cargo run --example mini_batches
//! ```

use std::path::{Path, PathBuf};

use clap::Parser;
use wgrad::data::{DataLoader, TensorBatch, TensorDataset};
use wgrad::nn::Init;
use wgrad::ops::Reduction;
use wgrad::optim::Optimizer;
use wgrad::report::plots::{ContourPlot, LinePlot, Series, contour_plot, line_plot};
use wgrad::rng::Stream;
use wgrad::{Device, Graph, Program, Result, Tensor, TensorType, evaluate};

const NUM_TRAIN: u32 = 100;
const NUM_VALIDATION: u32 = 50;
const EPOCHS: u64 = 20;
/// What the points are made of, y = w·x + b + noise, and where training starts.
const TRUE_LINE: Line = Line { w: 1.5, b: -1.0 };
const START: Line = Line { w: -2.0, b: 3.0 };
const NOISE: f64 = 0.7;
/// The loss surface is drawn, and searched, over this many values of w and of b.
const GRID: usize = 61;

/// A line y = w·x + b; also a point on the loss surface.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    w: f64,
    b: f64,
}

/// How one training run went.
struct History {
    /// The parameters before the first step and after every step.
    path: Vec<Line>,
    /// The loss over all training points after every epoch.
    train_losses: Vec<f64>,
    /// The loss over the validation points after every epoch.
    validation_losses: Vec<f64>,
    /// The best epoch by validation loss, counted from 1, and its parameters.
    best: (usize, Line),
}

/// Batch sizes and optimizers on a line through points.
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
    let train = made_up_points("train", NUM_TRAIN)?;
    let validation = made_up_points("validation", NUM_VALIDATION)?;

    let whole = surface(&device, &train.all())?;

    println!("\n1. The whole batch, 25, 5 and 1 point a step; SGD at 0.02 for {EPOCHS} epochs");
    println!("{:>6} {:>6} {:>8} {:>8} {:>10} {:>12}", "batch", "steps", "w", "b", "loss", "path length");
    for batch_size in [NUM_TRAIN, 25, 5, 1] {
        let history = fit_line(&device, &train, &validation, batch_size, Optimizer::sgd_momentum(0.0), 0.02)?;
        let last = history.path[history.path.len() - 1];
        println!(
            "{batch_size:>6} {:>6} {:>8.4} {:>8.4} {:>10.6} {:>12.3}",
            history.path.len() - 1,
            last.w,
            last.b,
            history.train_losses[EPOCHS as usize - 1],
            path_length(&history.path)
        );
        let title = format!("The way of batches of {batch_size} over the loss of all points");
        let path = way(&format!("batches of {batch_size}"), &history.path);
        draw_surface(&args.out, &format!("path_{batch_size}"), title, &train.all(), &whole, vec![path])?;
    }

    println!("\n2. Every batch has a loss surface, and a minimum, of its own (batches of 25)");
    let loader = DataLoader::new(NUM_TRAIN, 25)?;
    describe_surface("all points", &train.all(), &whole);
    for (batch, number) in train.batches(&loader, 0).zip(1..) {
        let losses = surface(&device, &batch)?;
        describe_surface(&format!("batch {number}"), &batch, &losses);
        let title = format!("The loss of batch {number} alone, and its minimum");
        draw_surface(&args.out, &format!("batch_{number}"), title, &batch, &losses, Vec::new())?;
    }

    println!("\n3. SGD, momentum and Adam side by side (batches of 5): loss after each epoch");
    let optimizers = [
        ("SGD", Optimizer::sgd_momentum(0.0), 0.005),
        ("momentum 0.9", Optimizer::sgd_momentum(0.9), 0.005),
        ("Adam", Optimizer::adam(), 0.05),
    ];
    let histories = optimizers
        .iter()
        .map(|(_, optimizer, lr)| fit_line(&device, &train, &validation, 5, optimizer.clone(), *lr))
        .collect::<Result<Vec<_>>>()?;
    println!("{:>6} {:>13} {:>13} {:>13}", "epoch", "SGD", "momentum 0.9", "Adam");
    for epoch in [1, 2, 3, 5, 10, 20] {
        let losses: Vec<String> = histories.iter().map(|h| format!("{:>13.6}", h.train_losses[epoch - 1])).collect();
        println!("{epoch:>6} {}", losses.join(" "));
    }

    let paths = optimizers.iter().zip(&histories).map(|((name, ..), history)| way(name, &history.path)).collect();
    let title = "Three optimizers over the loss of all points".to_owned();
    draw_surface(&args.out, "optimizers", title, &train.all(), &whole, paths)?;
    let curve = |((name, ..), history): (&(&str, Optimizer, f64), &History)| {
        Series::counted(*name, 1, history.train_losses.iter().copied())
    };
    line_plot(&LinePlot {
        title: "SGD, momentum and Adam".to_owned(),
        x_label: "epoch".to_owned(),
        y_label: "loss over all points".to_owned(),
        series: optimizers.iter().zip(&histories).map(curve).collect(),
        log_y: true,
        whole_x: true,
        ..LinePlot::default()
    })
    .save(&args.out.join("mini_batches_losses.png"))?;

    println!("\n4. The best model by validation loss is kept");
    for ((name, ..), history) in optimizers.iter().zip(&histories) {
        let (epoch, line) = history.best;
        let best = history.validation_losses[epoch - 1];
        let last = history.validation_losses[EPOCHS as usize - 1];
        println!(
            "{name:>12}: epoch {epoch}, validation loss {best:.6} (last {last:.6}), y = {:.3}x {:+.3}",
            line.w, line.b
        );
    }
    println!("\npictures: {}", args.out.join("mini_batches_*.png").display());
    Ok(())
}

/// Trains a line: the loop that every training is, written out.
fn fit_line(
    device: &Device,
    train: &TensorDataset,
    validation: &TensorDataset,
    batch_size: u32,
    optimizer: Optimizer,
    lr: f64,
) -> Result<History> {
    // Three graphs over the same parameters: a step on a batch, and the loss over each of the two sets.
    let (mut step_graph, loss) = loss_graph("step", batch_size)?;
    optimizer.minimize(&mut step_graph, loss)?;
    let (train_graph, _) = loss_graph("train", NUM_TRAIN)?;
    let (validation_graph, _) = loss_graph("validation", NUM_VALIDATION)?;
    let mut program = Program::from_graphs(device, &[&step_graph, &train_graph, &validation_graph], 0)?;
    for (name, data) in [("train", train), ("validation", validation)] {
        write_points(&mut program, name, &data.all())?;
    }

    let loader = DataLoader::new(NUM_TRAIN, batch_size)?.shuffled(7);
    let mut history = History { path: vec![START], train_losses: vec![], validation_losses: vec![], best: (0, START) };
    let mut step = 0;
    for epoch in 0..EPOCHS {
        for batch in train.batches(&loader, epoch) {
            write_points(&mut program, "step", &batch)?;
            program.run("step", &optimizer.step(step, lr))?;
            history.path.push(parameters(&mut program)?);
            step += 1;
        }
        history.train_losses.push(loss_of(&mut program, "train")?);
        let loss = loss_of(&mut program, "validation")?;
        if history.validation_losses.iter().all(|&before| loss < before) {
            // A copy of the parameters, kept on the device until a better one comes.
            program.keep_model()?;
            history.best.0 = epoch as usize + 1;
        }
        history.validation_losses.push(loss);
    }
    program.restore_model()?;
    history.best.1 = parameters(&mut program)?;
    Ok(history)
}

/// The mean squared error of the line on some points, which are inputs of their own for each graph.
fn loss_graph(name: &str, num_points: u32) -> Result<(Graph, wgrad::Value)> {
    let mut graph = Graph::new(name);
    let points = TensorType::f32([num_points as usize, 1]);
    let x = graph.input(&format!("{name}.x"), points.clone())?;
    let y = graph.input(&format!("{name}.y"), points)?;
    let w = graph.parameter("w", [1, 1], Init::Constant(START.w))?;
    let b = graph.parameter("b", [1], Init::Constant(START.b))?;
    let predicted = graph.linear(x, w, Some(b))?;
    let loss = graph.mse_loss(predicted, y, Reduction::Mean)?;
    graph.output("loss", loss)?;
    Ok((graph, loss))
}

fn write_points(program: &mut Program, graph: &str, points: &TensorBatch) -> Result<()> {
    points.iter().try_for_each(|(name, tensor)| program.write(&format!("{graph}.{name}"), tensor))
}

fn loss_of(program: &mut Program, graph: &str) -> Result<f64> {
    program.run_once(graph)?;
    program.output(graph, "loss")?.item()
}

fn parameters(program: &mut Program) -> Result<Line> {
    Ok(Line { w: program.read("w")?.item()?, b: program.read("b")?.item()? })
}

/// The loss over some points for every w (columns) and b (rows) of a grid, in one go: every line against every point,
/// by broadcasting (b, w, point).
fn surface(device: &Device, points: &TensorBatch) -> Result<Vec<f64>> {
    let num_points = points.get("x")?.shape().num_elems();
    let values = |at: fn(f64) -> Line, pick: fn(Line) -> f64| -> Vec<f32> {
        (0..GRID).map(|index| pick(at(index as f64 / (GRID - 1) as f64)) as f32).collect()
    };
    let inputs = [
        Tensor::f32([1, GRID, 1], values(grid_point, |line| line.w))?,
        Tensor::f32([GRID, 1, 1], values(grid_point, |line| line.b))?,
        Tensor::f32([1, 1, num_points], points.get("x")?.to_f32_vec())?,
        Tensor::f32([1, 1, num_points], points.get("y")?.to_f32_vec())?,
    ];
    let losses = evaluate(device, &inputs, |graph, values| {
        let [w, b, x, y] = [values[0], values[1], values[2], values[3]];
        let scaled = graph.mul(w, x)?;
        let predicted = graph.add(scaled, b)?;
        let error = graph.sub(predicted, y)?;
        let squares = graph.square(error)?;
        Ok(vec![graph.mean(squares, &[2], false)?])
    })?;
    Ok(losses[0].to_f64_vec())
}

/// The grid's diagonal: w and b at a share of the way from the lower to the upper bound.
fn grid_point(share: f64) -> Line {
    Line { w: -3.0 + 6.0 * share, b: -4.0 + 8.0 * share }
}

/// Prints where the lowest point of the grid is, and where the minimum is exactly, by the normal equations.
fn describe_surface(name: &str, points: &TensorBatch, losses: &[f64]) {
    let lowest = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0);
    let share = |index: usize| index as f64 / (GRID - 1) as f64;
    let (w, b) = (grid_point(share(lowest % GRID)).w, grid_point(share(lowest / GRID)).b);
    let Some(Line { w: exact_w, b: exact_b }) = minimum(points) else { return };
    println!(
        "{name:>10}: lowest of the grid w {w:.2}, b {b:.2} (loss {:.4}); exactly w {exact_w:.4}, b {exact_b:.4}",
        losses[lowest]
    );
}

/// A way across the loss surface, for a picture.
fn way(name: &str, path: &[Line]) -> Series {
    Series { name: name.to_owned(), points: path.iter().map(|line| (line.w, line.b)).collect() }
}

/// Draws a surface with its exact minimum and the ways of training across it.
fn draw_surface(
    out: &Path,
    name: &str,
    title: String,
    points: &TensorBatch,
    losses: &[f64],
    paths: Vec<Series>,
) -> Result<()> {
    let axis = |pick: fn(Line) -> f64| (0..GRID).map(|i| pick(grid_point(i as f64 / (GRID - 1) as f64))).collect();
    let picture = contour_plot(&ContourPlot {
        title,
        x_label: "w".to_owned(),
        y_label: "b".to_owned(),
        xs: axis(|line| line.w),
        ys: axis(|line| line.b),
        values: losses.to_vec(),
        paths,
        minimum: minimum(points).map(|line| (line.w, line.b)),
        log_levels: true,
    })?;
    picture.save(&out.join(format!("mini_batches_{name}.png")))
}

/// The line of least squares through the points; `None` where all have the same x, as with a single point.
fn minimum(points: &TensorBatch) -> Option<Line> {
    let (x, y) = (points.get("x").ok()?.to_f64_vec(), points.get("y").ok()?.to_f64_vec());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let w = covariance / variance;
    (variance > 0.0).then_some(Line { w, b: mean_y - w * mean_x })
}

fn path_length(path: &[Line]) -> f64 {
    path.windows(2).map(|pair| (pair[1].w - pair[0].w).hypot(pair[1].b - pair[0].b)).sum()
}

fn made_up_points(name: &str, num_points: u32) -> Result<TensorDataset> {
    let mut stream = Stream::named(42, name);
    let x: Vec<f64> = (0..num_points).map(|_| 6.0 * stream.next_f64() - 3.0).collect();
    let y = x.iter().map(|x| (TRUE_LINE.w * x + TRUE_LINE.b + NOISE * stream.next_normal()) as f32).collect();
    let column = |values: Vec<f32>| Tensor::f32([num_points as usize, 1], values);
    TensorDataset::new([("x", column(x.iter().map(|&x| x as f32).collect())?), ("y", column(y)?)])
}
