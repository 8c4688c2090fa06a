//! Gradient descent with and without momentum on least squares: as the course sets it, and in a valley that is 50 times
//! as steep across as along. Why momentum helps is computed from the curvatures of the loss, and compared with what
//! happens.
//!
//! ```sh
//! cargo run --example momentum
//! cargo run --example momentum -- --momentum 0.5 --lr 1.2    # another curve beside the course's
//! ```

use std::path::{Path, PathBuf};

use clap::Parser;
use wgrad::nn::Init;
use wgrad::ops::Reduction;
use wgrad::optim::Optimizer;
use wgrad::report::plots::{LinePlot, Series, line_plot};
use wgrad::rng::Stream;
use wgrad::{Device, Graph, Program, Result, Tensor};

/// Least squares with and without momentum.
#[derive(Parser)]
struct Args {
    /// Folder for pictures.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    /// One more curve in the first picture, with this momentum …
    #[arg(long)]
    momentum: Option<f64>,
    /// … and this learning rate.
    #[arg(long, default_value_t = 1.0)]
    lr: f64,
}

/// X (N, 2) and y (N, 1).
struct Problem {
    x: Tensor,
    y: Tensor,
}

#[derive(Clone, Copy)]
struct Setting {
    momentum: f64,
    lr: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");

    println!("\n1. The course's least squares: 10 points, X uniform in [0, 1), 40 iterations");
    let mut settings = vec![Setting { momentum: 0.0, lr: 0.2 }, Setting { momentum: 0.3, lr: 1.0 }];
    settings.extend(args.momentum.map(|momentum| Setting { momentum, lr: args.lr }));
    let problem = Problem::of_the_course(&mut Stream::named(42, "momentum"))?;
    let path = args.out.join("momentum.png");
    compare(&device, &problem, &settings, 40)?.save_as("Least squares, 40 iterations", &path)?;
    let [_, flat] = problem.curvatures();
    println!(
        "The second curve has two advantages. Its rate is five times as high, and each of its steps repeats 0.3 of the one \
         before: where gradients agree, steps add up to 1 / (1 - 0.3) = 1.43 times their length, so the flat direction is \
         walked seven times as fast. The rate alone would leave {:.4} along the valley. In the steep direction gradients \
         change sign from step to step at such a rate, and what is repeated of the last step is in the opposite direction: \
         oscillation is damped. That is why high rates can be afforded.",
        left_after_a_step(Setting { momentum: 0.0, lr: 1.0 }, flat)
    );

    println!("\n2. A valley 50 times as steep across as along, 100 iterations");
    // The best rates there are for these curvatures (Polyak, 1964): 2 / (λ + μ) without momentum; 4 / (√λ + √μ)² with
    // ((√λ − √μ) / (√λ + √μ))².
    let problem = Problem::valley()?;
    let settings = [(0.0, 0.98), (0.566, 1.535), (0.9, 1.535)].map(|(momentum, lr)| Setting { momentum, lr });
    let path = args.out.join("momentum_valley.png");
    Curves { is_log: true, ..compare(&device, &problem, &settings, 100)? }
        .save_as("A valley, 100 iterations", &path)?;
    println!(
        "The steep direction sets the limit for the rate, the flat one needs more of it. Plain descent has one number for \
         both: 0.98 is the best for these curvatures, and leaves 96 % of the distance after each step. Momentum treats them \
         differently, and at its best leaves the square root of the momentum of both, 75 %. More momentum swings longer."
    );
    Ok(())
}

impl Problem {
    /// y = X·β + standard normal noise with X uniform in [0, 1) and β in [−1, 1).
    fn of_the_course(stream: &mut Stream) -> Result<Problem> {
        let beta = Tensor::rand([2], stream).to_f32_vec();
        let x = Tensor::rand([10, 2], stream);
        let noise = Tensor::randn([10], stream).to_f32_vec();
        let product = |row: &[f32]| row.iter().zip(&beta).map(|(x, beta)| x * (2.0 * beta - 1.0)).sum::<f32>();
        let y = x.to_f32_vec().chunks(2).zip(noise).map(|(row, noise)| product(row) + noise).collect();
        Ok(Problem { x, y: Tensor::f32([10, 1], y)? })
    }

    /// y = 2·x₀ − 3·x₁ on a grid of points where x₁ varies 1/√50 as much as x₀.
    fn valley() -> Result<Problem> {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (a, b) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
            let row = [a, b / 50f32.sqrt()];
            y.push(2.0 * row[0] - 3.0 * row[1]);
            x.extend(row);
        }
        Ok(Problem { x: Tensor::f32([4, 2], x)?, y: Tensor::f32([4, 1], y)? })
    }

    /// The largest and the smallest curvature of the loss: the eigenvalues of its Hessian, 2/N·XᵀX.
    fn curvatures(&self) -> [f64; 2] {
        let rows = self.x.to_f64_vec();
        let scale = 2.0 / (rows.len() / 2) as f64;
        let entry = |i: usize, j: usize| scale * rows.chunks(2).map(|row| row[i] * row[j]).sum::<f64>();
        let (middle, half) = ((entry(0, 0) + entry(1, 1)) / 2.0, (entry(0, 0) - entry(1, 1)) / 2.0);
        let reach = half.hypot(entry(0, 1));
        [middle + reach, middle - reach]
    }

    /// The lowest loss there is: where the gradient is 0, by Cramer's rule.
    fn lowest_loss(&self) -> f64 {
        let (rows, y) = (self.x.to_f64_vec(), self.y.to_f64_vec());
        let sum = |f: &dyn Fn(&[f64], f64) -> f64| rows.chunks(2).zip(&y).map(|(row, &y)| f(row, y)).sum::<f64>();
        let [a, b, d] = [sum(&|x, _| x[0] * x[0]), sum(&|x, _| x[0] * x[1]), sum(&|x, _| x[1] * x[1])];
        let [p, q] = [sum(&|x, y| x[0] * y), sum(&|x, y| x[1] * y)];
        let beta = [(p * d - b * q) / (a * d - b * b), (a * q - b * p) / (a * d - b * b)];
        sum(&|x, y| (x[0] * beta[0] + x[1] * beta[1] - y).powi(2)) / y.len() as f64
    }
}

/// How much of the distance to the minimum is left after a step, in the long run, along a direction of this curvature:
/// z(t) = ρ·z(t−1) + λ·d(t−1), d(t) = d(t−1) − η·z(t) is linear, and this is the larger of its eigenvalues, the roots of
/// q² − (1 + ρ − ηλ)·q + ρ. Without momentum it is |1 − ηλ|; above 1 the loss grows.
fn left_after_a_step(Setting { momentum, lr }: Setting, curvature: f64) -> f64 {
    let half = (1.0 + momentum - lr * curvature) / 2.0;
    let square = half * half - momentum;
    if square < 0.0 { momentum.sqrt() } else { half.abs() + square.sqrt() }
}

/// The losses of some settings.
struct Curves {
    is_log: bool,
    names: Vec<String>,
    losses: Vec<Vec<f64>>,
}

impl Curves {
    fn save_as(self, title: &str, path: &Path) -> Result<()> {
        let curves = self.names.iter().zip(self.losses);
        line_plot(&LinePlot {
            title: title.to_owned(),
            x_label: "iteration".to_owned(),
            y_label: "loss".to_owned(),
            series: curves.map(|(name, losses)| Series::counted(name, 1, losses)).collect(),
            log_y: self.is_log,
            whole_x: true,
            ..LinePlot::default()
        })
        .save(path)?;
        println!("picture: {}", path.display());
        Ok(())
    }
}

/// Descends under each setting, prints curvatures, rates and losses, and gives the curves.
fn compare(device: &Device, problem: &Problem, settings: &[Setting], iterations: usize) -> Result<Curves> {
    let ([steep, flat], lowest) = (problem.curvatures(), problem.lowest_loss());
    println!("curvature {steep:.4} across the valley and {flat:.4} along it; lowest loss {lowest:.6}");
    println!("{:>24} {:>12} {:>12} {:>12} {:>16}", "", "left across", "left along", "last loss", "within 1 % from");
    let mut curves = Curves { is_log: false, names: Vec::new(), losses: Vec::new() };
    for &setting in settings {
        let losses = descend(device, problem, setting, iterations)?;
        let name = match setting {
            Setting { momentum: 0.0, lr } => format!("no momentum, lr {lr}"),
            Setting { momentum, lr } => format!("momentum {momentum}, lr {lr}"),
        };
        // Within 1 % of the way from the first loss to the lowest, for good: momentum swings past and back.
        let bound = lowest + 0.01 * (losses[0] - lowest);
        let from = losses.iter().rposition(|&loss| loss > bound).map_or(1, |last| last + 2);
        let from = if from <= losses.len() { format!("iteration {from}") } else { "never".to_owned() };
        let [across, along] = [steep, flat].map(|curvature| left_after_a_step(setting, curvature));
        println!("{name:>24} {across:>12.4} {along:>12.4} {:>12.6} {from:>16}", losses[losses.len() - 1]);
        curves.names.push(name);
        curves.losses.push(losses);
    }
    Ok(curves)
}

/// Descent on all points from β = 0. Gives the loss at every iteration, before its update.
fn descend(device: &Device, problem: &Problem, setting: Setting, iterations: usize) -> Result<Vec<f64>> {
    let optimizer = Optimizer::sgd(setting.momentum);
    let mut graph = Graph::new("step");
    let x = graph.input("x", problem.x.ty())?;
    let y = graph.input("y", problem.y.ty())?;
    let beta = graph.parameter("beta", [2, 1], Init::Zeros)?;
    let predicted = graph.matmul(x, beta)?;
    let loss = graph.mse_loss(predicted, y, Reduction::Mean)?;
    graph.output("loss", loss)?;
    optimizer.minimize(&mut graph, loss)?;

    let mut program = Program::from_graphs(device, [&graph], 0)?;
    program.write_all([("x", &problem.x), ("y", &problem.y)])?;
    let mut losses = Vec::new();
    for _ in 0..iterations {
        program.run("step", &optimizer.steps(1, setting.lr))?;
        losses.push(program.output("step", "loss")?.item()?);
    }
    Ok(losses)
}
