//! The data, the model and the training loop, written out.

use wgrad::data::{DataLoader, TensorBatch, TensorDataset};
use wgrad::nn::Init;
use wgrad::ops::Reduction;
use wgrad::optim::Optimizer;
use wgrad::rng::Stream;
use wgrad::{Device, Graph, Program, Result, Tensor, TensorType};

/// Of the points and of the order of batches.
pub const SEED: u64 = 42;
const NUM_POINTS: usize = 100;
/// What the points are made of, y = w·x + b + noise, and where training starts.
const TRUE_LINE: Line = Line { w: 1.5, b: -1.0 };
const START: Line = Line { w: -6.0, b: 8.0 };
const NOISE: f32 = 2.0;

/// A line y = w·x + b; also a point on the loss surface.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub w: f64,
    pub b: f64,
}

/// The settings of a training.
pub struct Training {
    pub epochs: u64,
    pub batch_size: u32,
    pub optimizer: Optimizer,
    pub lr: f64,
}

/// How it went.
pub struct History {
    /// The parameters before the first step and after every step.
    pub path: Vec<Line>,
    /// The mean loss of each epoch.
    pub losses: Vec<f64>,
    /// The epoch with the lowest mean loss, counted from 1, and the parameters at its end.
    pub best: (usize, Line),
}

impl History {
    pub fn last(&self) -> Line {
        self.path[self.path.len() - 1]
    }
}

/// 100 points with x from −3 to 3.
pub fn points() -> Result<TensorDataset> {
    let mut stream = Stream::named(SEED, "points");
    let x: Vec<f32> = Tensor::rand([NUM_POINTS], &mut stream).to_f32_vec().iter().map(|u| 6.0 * u - 3.0).collect();
    let noise = Tensor::randn([NUM_POINTS], &mut stream).to_f32_vec();
    let y = x.iter().zip(noise).map(|(x, noise)| TRUE_LINE.w as f32 * x + TRUE_LINE.b as f32 + NOISE * noise);
    let column = |values: Vec<f32>| Tensor::f32([NUM_POINTS, 1], values);
    TensorDataset::new([("y", column(y.collect())?), ("x", column(x)?)])
}

/// The loop that every training is: for each epoch, for each batch, a step.
pub fn train(device: &Device, points: &TensorDataset, training: &Training) -> Result<History> {
    let Training { epochs, batch_size, optimizer, lr } = training;
    let mut loader = DataLoader::new(points.len(), *batch_size)?;
    if loader.num_batches() > 1 {
        loader = loader.shuffled(SEED);
    }
    // A graph is for one batch size. 100 points in batches of 30 leave a last one of 10, which gets its own.
    let graphs = loader.batch_sizes().into_iter().map(|size| step(size, optimizer)).collect::<Result<Vec<_>>>()?;
    let mut program = Program::from_graphs(device, &graphs, 0)?;
    let mut history = History { path: vec![START], losses: Vec::new(), best: (0, START) };
    for epoch in 0..*epochs {
        let mut sum = 0.0;
        for batch in points.batches(&loader, epoch) {
            program.write_all(batch.iter())?;
            program.run("step", &optimizer.steps(1, *lr))?;
            history.path.push(parameters(&mut program)?);
            sum += program.output("step", "loss")?.item()? * batch.get("x")?.shape()[0] as f64;
        }
        let mean = sum / f64::from(points.len());
        if history.losses.iter().all(|&before| mean < before) {
            // A copy of the model, which stays on the device until a better one comes.
            program.keep_model()?;
            history.best.0 = epoch as usize + 1;
        }
        history.losses.push(mean);
    }
    program.restore_model()?;
    history.best.1 = parameters(&mut program)?;
    Ok(history)
}

/// Gradient descent as it is without batches: the data are written once, and one call runs all steps.
pub fn train_without_loader(device: &Device, points: &TensorDataset, training: &Training) -> Result<Line> {
    let mut program = Program::from_graphs(device, [step(NUM_POINTS, &training.optimizer)?], 0)?;
    program.write_all(points.all().iter())?;
    program.run("step", &training.optimizer.steps(training.epochs as usize, training.lr))?;
    parameters(&mut program)
}

/// A step of the optimizer on the mean squared error of a batch.
fn step(batch_size: usize, optimizer: &Optimizer) -> Result<Graph> {
    let mut graph = Graph::new("step");
    let x = graph.input("x", TensorType::f32([batch_size, 1]))?;
    let y = graph.input("y", TensorType::f32([batch_size, 1]))?;
    let w = graph.parameter("w", [1, 1], Init::Constant(START.w))?;
    let b = graph.parameter("b", [1], Init::Constant(START.b))?;
    let predicted = graph.linear(x, w, Some(b))?;
    let loss = graph.mse_loss(predicted, y, Reduction::Mean)?;
    graph.output("loss", loss)?;
    optimizer.minimize(&mut graph, loss)?;
    Ok(graph)
}

fn parameters(program: &mut Program) -> Result<Line> {
    Ok(Line { w: program.read("w")?.item()?, b: program.read("b")?.item()? })
}

/// The points as (x, y).
pub fn pairs(points: &TensorBatch) -> Result<Vec<(f64, f64)>> {
    Ok(points.get("x")?.to_f64_vec().into_iter().zip(points.get("y")?.to_f64_vec()).collect())
}

/// The mean squared error of a line.
pub fn loss(points: &TensorBatch, Line { w, b }: Line) -> Result<f64> {
    let pairs = pairs(points)?;
    Ok(pairs.iter().map(|(x, y)| (w * x + b - y).powi(2)).sum::<f64>() / pairs.len() as f64)
}

pub fn path_length(path: &[Line]) -> f64 {
    path.windows(2).map(|pair| (pair[1].w - pair[0].w).hypot(pair[1].b - pair[0].b)).sum()
}
