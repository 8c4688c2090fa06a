//! Linear regression with everything written by hand: the layer, the loss and their gradients (`ops.rs`), checked
//! against finite differences, and three gradient descents that differ in the step size alone.
//!
//! ```sh
//! cargo run --example linear_regression                             # the three descents
//! cargo run --example linear_regression -- --step-size 0.1          # one with a step size of your own
//! ```

mod ops;

use std::path::{Path, PathBuf};

use clap::Parser;
use ops::{MyLinear, MyMse};
use wgrad::nn::{Init, weights};
use wgrad::optim::Optimizer;
use wgrad::report::plots::{LinePlot, Series, line_plot};
use wgrad::report::tensorboard::EventWriter;
use wgrad::rng::Stream;
use wgrad::{Device, Graph, Program, Result, StateDict, Tensor, gradcheck};

/// Training stops at this loss.
const TARGET_LOSS: f64 = 0.70;

/// One way to run gradient descent: where it starts, how far it steps, after how many iterations it gives up.
#[derive(Clone, Copy)]
struct Descent {
    start: [&'static str; 2],
    step_size: f64,
    cap: Option<u64>,
}

/// Linear regression with hand-written gradients.
#[derive(Parser)]
struct Args {
    /// Folder for the picture and the TensorBoard logs.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    /// Descends once, with this step size, in place of 0.01, 0.0001 and 0.5.
    #[arg(long)]
    step_size: Option<f64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    check_gradients()?;
    // x (50, 13), y (50, 3) and two starting points w (13, 3), b (1, 3), drawn by PyTorch with seed 42.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/linear_regression.safetensors");
    let data = weights::load(&path)?;
    let restart = ["w_restart", "b_restart"];
    let mut descents = vec![
        Descent { start: ["w", "b"], step_size: 0.01, cap: None },
        Descent { start: restart, step_size: 0.0001, cap: Some(1000) },
        Descent { start: restart, step_size: 0.5, cap: Some(1000) },
    ];
    if let Some(step_size) = args.step_size {
        descents = vec![Descent { start: restart, step_size, cap: Some(1000) }];
    }
    let mut series = Vec::new();
    for (descent, number) in descents.iter().zip(1..) {
        println!("\ndescent {number}: step size {}", descent.step_size);
        // `tensorboard --logdir runs/examples/tensorboard` shows them side by side.
        let mut events = EventWriter::create(&args.out.join(format!("tensorboard/linear_regression_{number}")))?;
        let losses = descend(&device, &data, descent, &mut events)?;
        series.push(Series::counted(format!("step size {}", descent.step_size), 0, losses));
    }
    println!(
        "\nThe loss is a bowl. At 0.0001 a step hardly moves on it: 1000 of them are not a tenth of the path. At 0.5 the same \
         path takes 30 steps. There is a limit: where a step is longer than 2 over the bowl's curvature it ends higher on \
         the other side than it began, and the loss grows without bound (try --step-size 0.9). On other data the limit is \
         elsewhere, so 0.5 is no rule: a rate is found by trying."
    );
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
fn check_gradients() -> Result<()> {
    let mut stream = Stream::named(42, "gradcheck");
    let mut randn = |shape| Tensor::randn(shape, &mut stream);
    let inputs = [randn([10, 5]), randn([10, 5])];
    let mse = gradcheck(&inputs, |graph, inputs| graph.custom(MyMse, inputs))?;
    println!("gradcheck of the loss:  {}", mse.map_or("passed".to_owned(), |wrong| format!("failed, {wrong}")));
    let inputs = [randn([10, 5]), randn([5, 3]), randn([1, 3])];
    let linear = gradcheck(&inputs, |graph, inputs| graph.custom(MyLinear, inputs))?;
    println!("gradcheck of the layer: {}", linear.map_or("passed".to_owned(), |wrong| format!("failed, {wrong}")));
    Ok(())
}

/// Gradient descent on all rows at once until the loss is small enough. Gives the loss before every update.
fn descend(device: &Device, data: &StateDict, descent: &Descent, events: &mut EventWriter) -> Result<Vec<f64>> {
    // Build: the data are inputs, w and b are parameters, and `minimize` appends gradients and update.
    let mut graph = Graph::new("step");
    let x = graph.input("x", data["x"].ty())?;
    let y = graph.input("y", data["y"].ty())?;
    let w = graph.parameter("w", [13, 3], Init::Values(data[descent.start[0]].clone()))?;
    let b = graph.parameter("b", [1, 3], Init::Values(data[descent.start[1]].clone()))?;
    let predicted = graph.custom(MyLinear, &[x, w, b])?[0];
    let loss = graph.custom(MyMse, &[predicted, y])?[0];
    graph.output("loss", loss)?;
    let optimizer = Optimizer::sgd(0.0);
    optimizer.minimize(&mut graph, loss)?;

    // Compile once, then run as often as it takes.
    let mut program = Program::from_graphs(device, [&graph], 0)?;
    program.write_all([("x", &data["x"]), ("y", &data["y"])])?;
    let mut losses = Vec::new();
    for iteration in 0.. {
        // A step computes the loss and then updates, so after iteration 0 there was 1 update.
        program.run("step", &optimizer.steps(1, descent.step_size))?;
        let loss = program.output("step", "loss")?.item()?;
        losses.push(loss);
        events.scalar("loss/train", iteration, loss)?;
        if iteration % 100 == 0 {
            println!("iteration {iteration:4}: loss {loss:.6}");
        }
        if loss <= TARGET_LOSS {
            println!("converged, n = {}", iteration + 1);
            break;
        }
        if descent.cap == Some(iteration) || !loss.is_finite() {
            println!("gave up at iteration {iteration} without converging");
            break;
        }
    }
    println!("final w:\n{}", program.read("w")?);
    println!("final b:\n{}", program.read("b")?);
    Ok(losses)
}
