//! The lessons that train: each asks what one thing changes.

use std::path::Path;

use wgrad::Result;
use wgrad::nn::LeNet5;
use wgrad::optim::{GradientOptions, Optimizer, Sgd};
use wgrad::report::{Picture, curves};
use wgrad::run::{RunConfig, setup};
use wgrad::schedule::{Plateau, Schedule};
use wgrad::sweep::{Ranking, RunOptions, Sweep, SweepConfig, SweepFolder, default_jobs, write_results};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::{DiagnosticKind, History, LrFindOptions, lr_find};

use crate::{Lab, patience_of_5};

impl Lab {
    /// A step so long that it overshoots.
    pub fn train_at_a_tenth(&mut self, base: &RunConfig, calm_lr: f64) -> Result<()> {
        self.lesson("3. What does a learning rate of 0.1 do?");
        let seeds = ["lr 0.1 seed 0", "lr 0.1 seed 1", "lr 0.1 seed 2"];
        for (seed, name) in (0..).zip(seeds) {
            self.train(name, &RunConfig { seed, ..base.clone() })?;
        }
        let calm = format!("lr {calm_lr}");
        self.train(&calm, &RunConfig { lr: Some(calm_lr), ..base.clone() })?;
        let comparison = self.compare(&[&seeds[..], &[&calm]].concat(), "Three seeds at 0.1, and a smaller rate")?;
        let tenth = &comparison.runs()[..3];
        for run in tenth {
            let (best, last) = (run.best(), &run.epochs[run.epochs.len() - 1]);
            let died = first_dead(run).map_or("no layer died".to_owned(), |(epoch, layer)| {
                format!("{layer} gives 0 for every image from epoch {epoch} on, as a warning said there and then")
            });
            self.say(&format!(
                "{}: the validation loss is lowest in epoch {} ({:.4}) and {:.4} in epoch {}; {died}.",
                run.name, best.epoch, best.val_loss, last.val_loss, last.epoch
            ));
        }
        self.say(
            "Why: with momentum 0.9 a step of 0.1 moves, in the long run, ten times as far as its gradient says, as a rate \
             of 1 would without momentum. Where the loss curves more than two over that rate, steps overshoot the valley by \
             more than they gain, and the loss jumps. A jump can push every unit of a layer to where its ReLU gives 0 for \
             every image. Then no gradient comes back, the logits are the same for all images, and the loss stays at ln 10 = \
             2.303 for good: the network is dead. When that happens is a matter of the seed; PyTorch does the same at these \
             settings. What shows it early: the validation loss, which is at its lowest after a few epochs and far above \
             that of the smaller rate; the share of dead units, which grows from epoch to epoch (diagnostics.jsonl and \
             the report have it); the warning; and the range test below, which takes seconds.",
        );
        let mut session = setup::session(base, &self.device, &self.data)?;
        let found = lr_find(&mut session, &LrFindOptions::default())?;
        let rate = |rate: Option<f64>| rate.map_or("none".to_owned(), |rate| format!("{rate:.4}"));
        self.say(&format!(
            "The range test (Smith, 2015) raises the rate from step to step: the loss falls fastest at {}, and a tenth of \
             the rate with the lowest loss is {}. It says how training may begin, not how it lasts: take the smaller one.",
            rate(found.steepest),
            rate(found.minimum_over_10)
        ));
        self.page.figure("Learning-rate range test", "Loss by learning rate.", curves::lr_find_plot(&found));
        if let Some(picture) = tenth.first().and_then(curves::diagnostic_curves) {
            let caption = "Gradients, changes and dead units of the first run at 0.1.";
            self.page.figure("Inside the network at 0.1", caption, picture);
        }
        Ok(())
    }

    pub fn stop_in_time(&mut self, calm: &RunConfig) -> Result<()> {
        self.lesson("4. When should training stop?");
        let all_epochs = self.runs[self.runs.len() - 1].0.clone();
        let stopped =
            self.train("early stopping", &RunConfig { early_stopping: Some(patience_of_5()), ..calm.clone() })?;
        let comparison = self.compare(&[&all_epochs, "early stopping"], "With and without early stopping")?;
        let all = &comparison.runs()[0];
        let last = &all.epochs[all.epochs.len() - 1];
        self.say(&format!(
            "The training loss falls to the end; the validation loss is lowest in epoch {} ({:.4}) and {:.4} in the last. \
             What is learned in between is the training images by heart. Stopping after 5 epochs without an improvement of \
             0.005 took {} epochs in place of {}, and costs next to nothing, as the weights of the best epoch come back \
             either way.",
            all.best().epoch,
            all.best().val_loss,
            last.val_loss,
            stopped.epochs,
            all.epochs.len()
        ));
        Ok(())
    }

    pub fn regularize(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("5. What do penalties and dropout change?");
        // PyTorch's weight_decay: the usual form of an L2 penalty of half of it times the sum of squares.
        let decaying = Optimizer::from(Sgd { momentum: 0.9, weight_decay: 0.01, ..Sgd::default() });
        self.train("L2 0.01", &RunConfig { optimizer: decaying, ..stopping.clone() })?;
        let sparse = GradientOptions { l1: 0.001, ..GradientOptions::default() };
        self.train("L1 0.001", &RunConfig { gradients: sparse, ..stopping.clone() })?;
        let dropout = LeNet5 { dropout: 0.5, ..LeNet5::default() };
        self.train("dropout 0.5", &RunConfig { network: dropout.into(), ..stopping.clone() })?;
        let names = ["early stopping", "L2 0.01", "L1 0.001", "dropout 0.5"];
        self.describe_parameters(&names)?;
        self.compare(&names, "Early stopping alone, and with each")?;
        self.say(
            "All three keep the network from learning images by heart: the gap between training and validation closes. L2 \
             pulls at each weight in proportion to its size, so large ones shrink most and the standard deviation falls. L1 \
             pulls at all alike, so most end near 0 and a few stay large. Dropout makes every unit do without the others and \
             hardly changes the weights' size. With few epochs this costs accuracy too.",
        );
        Ok(())
    }

    pub fn slow_down(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("6. What does a plateau schedule change?");
        let schedule = Schedule::plateau(Plateau { patience: 2, ..Plateau::default() })?;
        let early_stopping = Some(EarlyStopOptions { patience: 10, ..EarlyStopOptions::default() });
        self.train("plateau", &RunConfig { schedule, early_stopping, ..stopping.clone() })?;
        self.say(
            "Whenever the validation loss has not fallen for 2 epochs, the next one cuts the rate to a tenth: smaller steps \
             settle deeper in the valley, and what comes after hardly moves. The two patiences conflict: if early stopping \
             is no more patient than the plateau, the run is over before the first cut shows. Here it waits for 10 epochs, \
             and for any improvement.",
        );
        let constant = self.runs[3].0.clone();
        self.compare(&[&constant, "plateau"], "A constant rate, and a plateau schedule").map(drop)
    }

    pub fn normalize_batches(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("7. What does batch normalization change?");
        let batch_norm = LeNet5 { batch_norm: true, ..LeNet5::default() };
        self.train("batch norm", &RunConfig { network: batch_norm.into(), ..stopping.clone() })?;
        self.describe_features("batch norm")?;
        self.say(
            "Features are images, (N, C, H, W), so it is BatchNorm2d: statistics of each channel over batch, height and \
             width. Normalized, each channel has mean 0 and standard deviation 1; then it is scaled and shifted by what was \
             learned, so that the network can still choose its range. The layers after it see the same range whatever the \
             first one does, which lets training go faster.",
        );
        let features = Picture::open(&self.folder("batch norm").join("pictures/features.png"))?;
        let caption = "Values of each channel over a batch of test images, with mean ± standard deviation.";
        self.page.figure("Features before and after it", caption, features);
        self.compare(&["early stopping", "batch norm"], "With and without batch normalization").map(drop)
    }

    pub fn search(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("8. Which settings does a search find?");
        let mut config = SweepConfig::parse(SEARCH, Path::new("the lab's search"))?;
        let shared = RunConfig { epochs: stopping.epochs.min(9), early_stopping: None, lr: None, ..stopping.clone() };
        config.set_base(&shared)?;
        let sweep = Sweep::new(config)?;
        let mut folder = SweepFolder::create(&self.out, "sweep", sweep)?;
        let options =
            RunOptions { device: &self.device, jobs: default_jobs(&self.device), side_by_side: None, stop: &|| false };
        folder.run(options, &mut ())?;
        let written = write_results(&folder)?;
        let ranking = Ranking::of(folder.sweep(), folder.records());
        println!("{}", ranking.table());
        println!("sweep: {}", written.last().unwrap_or(&self.out).display());
        self.page.table(&[vec![ranking.head()], ranking.rows()].concat());
        self.say(
            "Nine random settings start with one epoch each. Only the better third continues, for three times as many, and of \
             those the better third again: most of the time goes to settings that deserve it.",
        );
        let picture = ranking.picture("Nine trials")?;
        self.page.figure("Settings and validation accuracy", "A line is a trial; the darker the better.", picture);
        if let Some(best) = ranking.best() {
            self.runs.push(("best of the search".to_owned(), folder.path().join(&best.folder)));
        }
        Ok(())
    }
}

/// The first epoch at whose end a layer was 0 for every inspected image, and the layer.
fn first_dead(run: &History) -> Option<(u64, &str)> {
    run.diagnostics.iter().find_map(|at| {
        let dead = at.report.of_kind(DiagnosticKind::Unit).find(|row| row.summary.zeros == 1.0)?;
        Some((at.epoch, dead.name.as_str()))
    })
}

const SEARCH: &str = r#"
[search]
method = "asha"
num_trials = 9
min_epochs = 1
metric = "val_accuracy"

[space]
lr = { min = 0.003, max = 0.1, log = true }
network.dropout = { choices = [0.0, 0.2] }
network.batch_norm = { choices = [false, true] }
"#;
