//! A line through points: what batches change on the way to the minimum, why, and what the optimizer adds.
//!
//! ```sh
//! cargo run --example mini_batches                                            # every lesson
//! cargo run --example mini_batches -- --epochs 7 --batch-size 25 --lr 5e-2    # one training of your own
//! ```

mod line;
mod surface;

use std::path::PathBuf;

use clap::Parser;
use line::{History, Line, Training};
use surface::Surface;
use wgrad::data::{DataLoader, TensorDataset};
use wgrad::optim::Optimizer;
use wgrad::report::plots::{LinePlot, Series, contour_grid, line_plot};
use wgrad::{Device, Result};

/// Batch sizes and optimizers on a line through 100 points.
#[derive(Parser)]
struct Args {
    /// Folder for pictures.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    /// Train once, for this many epochs, instead of the lessons; so do the options below
    #[arg(long)]
    epochs: Option<u64>,
    /// Points in a batch; all of them by default.
    #[arg(long)]
    batch_size: Option<u32>,
    /// The learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// sgd, momentum (0.9) or adam.
    #[arg(long, value_parser = ["sgd", "momentum", "adam"])]
    optimizer: Option<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    let points = line::points()?;
    let lessons = Lessons { device, points, out: args.out };
    if args.epochs.is_some() || args.batch_size.is_some() || args.lr.is_some() || args.optimizer.is_some() {
        let optimizer = match args.optimizer.as_deref() {
            Some("momentum") => Optimizer::sgd(0.9),
            Some("adam") => Optimizer::adam(),
            _ => Optimizer::sgd(0.0),
        };
        let batch_size = args.batch_size.unwrap_or(lessons.points.len());
        let (epochs, lr) = (args.epochs.unwrap_or(15), args.lr.unwrap_or(1e-2));
        lessons.train_and_draw("own", Training { epochs, batch_size, optimizer, lr })?;
        return Ok(());
    }
    lessons.one_batch()?;
    lessons.batch_sizes()?;
    lessons.minimum_of_each_batch()?;
    lessons.surfaces()?;
    lessons.optimizers()
}

struct Lessons {
    device: Device,
    points: TensorDataset,
    out: PathBuf,
}

impl Lessons {
    /// A loader with one batch of everything changes nothing.
    fn one_batch(&self) -> Result<()> {
        println!("\n1. One batch of all points is gradient descent");
        let training = Training { epochs: 20, batch_size: self.points.len(), optimizer: Optimizer::sgd(0.0), lr: 1e-1 };
        let loader = line::train(&self.device, &self.points, &training)?.last();
        let plain = line::train_without_loader(&self.device, &self.points, &training)?;
        println!("after 20 epochs with a loader:    w {:.9}, b {:.9}", loader.w, loader.b);
        println!("after 20 steps without a loader:  w {:.9}, b {:.9}", plain.w, plain.b);
        println!("the same bits: {}", if loader == plain { "yes" } else { "no" });
        Ok(())
    }

    fn batch_sizes(&self) -> Result<()> {
        println!("\n2. Smaller batches, SGD");
        println!(
            "{:>6} {:>6} {:>6} {:>6} {:>8} {:>8} {:>10} {:>8}",
            "epochs", "batch", "lr", "steps", "w", "b", "loss", "path"
        );
        for (epochs, batch_size, lr) in [(15, self.points.len(), 1e-1), (7, 25, 5e-2), (7, 5, 1e-2), (15, 1, 1e-3)] {
            let training = Training { epochs, batch_size, optimizer: Optimizer::sgd(0.0), lr };
            self.train_and_draw(&batch_size.to_string(), training)?;
        }
        println!(
            "The path of the whole batch is smooth: every step goes down the same surface. With batches each step goes down \
             the surface of its own few points, so the path trembles, the more the fewer they are. What it gains is steps: \
             an epoch costs the same, whether it is 1 step or 100. The rate has to shrink with the batch, since a step \
             on one outlier would lead far astray; near the minimum the path does not settle but keeps circling."
        );
        Ok(())
    }

    /// The line of least squares through each of the first batches alone.
    fn minimum_of_each_batch(&self) -> Result<()> {
        println!("\n3. The first four batches of 10, each with its minimum");
        let whole = surface::minimum(&self.points.all())?;
        let mut minima = vec![("all points".to_owned(), whole)];
        let loader = DataLoader::new(self.points.len(), 10)?.shuffled(line::SEED);
        for (batch, number) in self.points.batches(&loader, 0).take(4).zip(1..) {
            minima.push((format!("batch {number}"), surface::minimum(&batch)?));
        }
        for (name, Line { w, b }) in &minima {
            println!("{name:>10}: y = {w:.4}x {b:+.4}");
        }
        println!("A step on a batch leads towards that batch's minimum, not towards the one of all points.");

        // The minimum of all points is the star.
        let marks = minima[1..].iter().map(|(name, line)| path(name, &[*line])).collect();
        let lines: Vec<Line> = minima.iter().map(|(_, line)| *line).collect();
        let surface = Surface::around(&self.device, &self.points.all(), &lines)?;
        surface.draw("Minima of four batches on the loss of all points", marks)?.save(&self.file("minima"))?;
        let ends = |line: &Line| [-3.0, 3.0].map(|x| (x, line.w * x + line.b)).to_vec();
        let lines = minima.iter().map(|(name, line)| Series { name: name.clone(), points: ends(line) });
        line_plot(&LinePlot {
            title: "The line of each batch through all points".to_owned(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
            series: lines.collect(),
            dots: line::pairs(&self.points.all())?,
            ..LinePlot::default()
        })
        .save(&self.file("minima_lines"))
    }

    /// The loss of nine batches each, over the same range.
    fn surfaces(&self) -> Result<()> {
        println!("\n4. The loss surface of a batch");
        for batch_size in [10, 5, 1] {
            let loader = DataLoader::new(self.points.len(), batch_size)?.shuffled(line::SEED);
            let mut plots = Vec::new();
            for (batch, number) in self.points.batches(&loader, 0).take(9).zip(1..) {
                plots.push(Surface::new(&self.device, &batch, &[])?.plot(&format!("batch {number}"), Vec::new()));
            }
            let name = format!("surfaces_{batch_size}");
            let stars = if batch_size > 1 { ", their minima as stars" } else { "" };
            let title = format!("The loss of nine batches of {batch_size}{stars}");
            contour_grid(&title, &plots, 3)?.save(&self.file(&name))?;
            println!("batches of {batch_size:>2}: {}", self.file(&name).display());
        }
        println!(
            "Batches of 10 have nearly the same bowl. Batches of 5 have bowls of different width and slant. A single point \
             has no bowl at all but a trough: every line through it has loss 0, so there is no one minimum."
        );
        Ok(())
    }

    fn optimizers(&self) -> Result<()> {
        println!("\n5. SGD, momentum and Adam, batches of 10: mean loss of each epoch");
        let trained = [
            ("SGD, lr 0.01", Optimizer::sgd(0.0), 1e-2),
            ("momentum 0.9, lr 0.01", Optimizer::sgd(0.9), 1e-2),
            ("Adam, lr 1", Optimizer::adam(), 1.0),
        ]
        .into_iter()
        .map(|(name, optimizer, lr)| {
            let training = Training { epochs: 15, batch_size: 10, optimizer, lr };
            Ok((name, line::train(&self.device, &self.points, &training)?))
        })
        .collect::<Result<Vec<(&str, History)>>>()?;
        println!("{:>6} {:>22} {:>22} {:>22}", "epoch", trained[0].0, trained[1].0, trained[2].0);
        for epoch in 1..=15 {
            let losses: Vec<String> = trained.iter().map(|(_, h)| format!("{:>22.6}", h.losses[epoch - 1])).collect();
            println!("{epoch:>6} {}", losses.join(" "));
        }
        println!(
            "Adam divides each step by the size of past gradients, so at lr 1 it moves about 1 a step at first, far or near: \
             it is soon there and passes the minimum, as momentum does; both swing back. SGD creeps along b, where the \
             surface is flat."
        );
        println!("\n6. The best model, by the mean loss of an epoch");
        for (name, history) in &trained {
            let (epoch, Line { w, b }) = history.best;
            let (best, last) = (history.losses[epoch - 1], history.losses[14]);
            println!("{name:>22}: epoch {epoch}, loss {best:.6} (last {last:.6}), y = {w:.4}x {b:+.4}");
        }
        let paths: Vec<&[Line]> = trained.iter().map(|(_, history)| history.path.as_slice()).collect();
        let surface = Surface::new(&self.device, &self.points.all(), &paths)?;
        let series = trained.iter().map(|(name, history)| path(name, &history.path)).collect();
        surface.draw("Three optimizers over the loss of all points", series)?.save(&self.file("optimizers"))?;
        line_plot(&LinePlot {
            title: "SGD, momentum and Adam, batches of 10".to_owned(),
            x_label: "epoch".to_owned(),
            y_label: "mean loss".to_owned(),
            series: trained.iter().map(|(name, h)| Series::counted(*name, 1, h.losses.iter().copied())).collect(),
            log_y: true,
            whole_x: true,
            ..LinePlot::default()
        })
        .save(&self.file("losses"))?;
        println!("\npictures: {}", self.file("*").display());
        Ok(())
    }

    /// Trains, prints a row, and draws the path over the loss of all points.
    fn train_and_draw(&self, name: &str, training: Training) -> Result<()> {
        let history = line::train(&self.device, &self.points, &training)?;
        let Training { epochs, batch_size, optimizer, lr } = training;
        let Line { w, b } = history.last();
        let (steps, loss) = (history.path.len() - 1, line::loss(&self.points.all(), history.last())?);
        let length = line::path_length(&history.path);
        println!("{epochs:>6} {batch_size:>6} {lr:>6} {steps:>6} {w:>8.4} {b:>8.4} {loss:>10.6} {length:>8.2}");
        let surface = Surface::new(&self.device, &self.points.all(), &[&history.path])?;
        let title = format!("{epochs} epochs, batches of {batch_size}, {optimizer}, learning rate {lr}");
        let drawn = surface.draw(&title, vec![path("", &history.path)])?;
        drawn.save(&self.file(&format!("path_{name}")))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.out.join(format!("mini_batches_{name}.png"))
    }
}

fn path(name: &str, path: &[Line]) -> Series {
    Series { name: name.to_owned(), points: path.iter().map(|line| (line.w, line.b)).collect() }
}
