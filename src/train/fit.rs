//! The training loop.

use std::ops::ControlFlow;

use web_time::{Duration, Instant};

use super::checkpoint::{Checkpoint, CheckpointOptions, RunState};
use super::early_stop::{Best, BestSoFar, EarlyStopOptions, EarlyStopping, Monitor};
use super::metrics::Metrics;
use super::{DiagnosticKind, EpochMetrics, EpochReport, Event, LatestBatches, Observer, Outcome, Session};
use crate::schedule::{Interval, Mode, Schedule};
use crate::{Error, Result};

/// How a session is trained.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// The most epochs.
    pub epochs: u64,
    /// The learning rate that the schedule starts from.
    pub lr: f64,
    /// How the learning rate changes. Lengths left open are those of the run ([`Schedule::for_run`]). A plateau watches
    /// the metric that its mode is about: [`Mode::Min`] the validation loss, [`Mode::Max`] the validation accuracy,
    /// whatever early stopping watches.
    pub schedule: Schedule,
    /// When to stop early; `None` never does.
    pub early_stopping: Option<EarlyStopOptions>,
    /// Where to save checkpoints; `None` saves none.
    pub checkpoint: Option<CheckpointOptions>,
}

/// Trains until early stopping, [`Observer::end_after`] or the last epoch, then restores the best weights and evaluates
/// the test set once.
/// `observer` is told about every epoch: [`PrintEpochs`](super::PrintEpochs) prints them, `()` keeps silent.
///
/// # Errors
/// [`Error::Setting`] for settings that cannot be; [`Error::NonFinite`] where a loss, a weight or, where the session
/// knows them, a gradient is not finite at the end of an epoch; [`Error::Interrupted`] where the observer asked to
/// stop; after both the weights are those of the best epoch, if one was done; [`Error::Io`] where a checkpoint cannot
/// be written; [`Error::DeviceLost`]; what the observer returns; [`Error::Rank`] where
/// another rank's observer returned an error, or rank 0 could not write a checkpoint.
pub fn fit(session: &mut Session, options: &FitOptions, observer: &mut dyn Observer) -> Result<Outcome> {
    Fit::new(session, options, observer)?.run()
}

/// Resumes from a checkpoint of a run with the same session and options. On the same device the result is bit-identical
/// to that of an uninterrupted run. Only [`FitOptions::epochs`] and the patience of early stopping may change. If the
/// run had ended, this restores the best weights and evaluates the test set.
///
/// # Errors
/// As [`fit`]; [`Error::State`] and [`Error::Setting`] where the checkpoint is of another run.
pub fn fit_from(
    session: &mut Session,
    options: &FitOptions,
    checkpoint: &Checkpoint,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let mut fit = Fit::new(session, options, observer)?;
    fit.restore(checkpoint)?;
    fit.run()
}

/// A run in progress.
struct Fit<'a> {
    session: &'a mut Session,
    options: &'a FitOptions,
    observer: &'a mut dyn Observer,
    schedule: Schedule,
    early_stopping: Option<EarlyStopping>,
    monitor: Monitor,
    best: BestSoFar,
    /// Completed epochs, completed batches of the next one, and how long those took.
    epochs: u64,
    batches: usize,
    train_time: Duration,
    /// How long all epochs of this process took to train.
    total_time: Duration,
    saved_at: Instant,
    /// When the observer was last told of batches, and of how many of the epoch's.
    told_at: Instant,
    told: usize,
}

impl<'a> Fit<'a> {
    fn new(session: &'a mut Session, options: &'a FitOptions, observer: &'a mut dyn Observer) -> Result<Self> {
        options.validate()?;
        let schedule = options.schedule.for_run(options.epochs, session.steps_per_epoch() as u64)?;
        let early_stopping = options.early_stopping.clone().map(EarlyStopping::new).transpose()?;
        if let Some(warning) = early_stopping.as_ref().and_then(|stopping| stopping.warning(&schedule)) {
            observer.warn(&warning);
        }
        let monitor = options.early_stopping.as_ref().map_or(Monitor::ValLoss, |stopping| stopping.monitor);
        Ok(Fit {
            session,
            options,
            observer,
            schedule,
            early_stopping,
            monitor,
            best: BestSoFar::new(monitor),
            epochs: 0,
            batches: 0,
            train_time: Duration::ZERO,
            total_time: Duration::ZERO,
            saved_at: Instant::now(),
            told_at: Instant::now(),
            told: 0,
        })
    }

    fn run(mut self) -> Result<Outcome> {
        let ended = self.train();
        let stopped = match ended {
            Err(error @ Error::NonFinite { .. }) => {
                self.restore_best()?;
                return Err(error);
            }
            ended => ended?,
        };
        let best = self.restore_best()?;
        if let Some(Best { epoch, value }) = best {
            self.observer.event(&Event::WeightsRestored { epoch, monitor: self.monitor, value });
        }
        let test = self.session.test()?;
        if self.session.num_ranks() > 1 {
            let times = self.session.rank_times(self.total_time)?;
            self.observer.event(&Event::RanksDone { times });
        }
        let best_epoch = best.map_or(0, |best| best.epoch);
        let (test_loss, test_accuracy) = (test.metrics.loss, test.metrics.accuracy);
        Ok(Outcome { test_loss, test_accuracy, best_epoch, epochs: self.epochs, stopped, test: Some(test) })
    }

    /// Brings back the weights of the best epoch, if there is one.
    fn restore_best(&mut self) -> Result<Option<Best>> {
        let best = self.best.best();
        if best.is_some() {
            self.session.program().restore_model()?;
        }
        Ok(best)
    }

    /// Trains epoch after epoch; gives the reason why it ended.
    fn train(&mut self) -> Result<String> {
        while self.epochs < self.options.epochs {
            if let Some(reason) = self.early_stopping.as_ref().and_then(EarlyStopping::reason) {
                return Ok(reason.to_string());
            }
            let (epoch, lr) = (self.epochs + 1, self.rates(self.epochs * self.session.steps_per_epoch() as u64).0);
            let EpochMetrics { train, validation, train_time } = self.epoch()?;
            self.check_finite(epoch, &train, &validation, lr)?;
            let monitored = match self.monitor {
                Monitor::ValLoss => validation.loss,
                Monitor::ValAccuracy => validation.accuracy,
                Monitor::TrainLoss => train.loss,
            };
            let is_best = self.best.observe(epoch, monitored);
            if is_best {
                self.session.program().keep_model()?;
            }
            let report = EpochReport {
                epoch,
                train_loss: train.loss,
                train_accuracy: train.accuracy,
                val_loss: validation.loss,
                val_accuracy: validation.accuracy,
                lr,
                images_per_second: self.session.images_per_epoch() as f64 / train_time.as_secs_f64(),
                is_best,
            };
            let recorded = self.observer.epoch(&report);
            self.session.all_ok(recorded)?;
            self.observe_diagnostics(epoch, lr)?;
            self.observe_plateau(epoch, &validation);
            if let Some(stopping) = &mut self.early_stopping {
                stopping.observe(epoch, monitored);
            }
            (self.epochs, self.batches, self.train_time) = (epoch, 0, Duration::ZERO);
            self.save()?;
            self.stop_if_asked()?;
            let ends = self.observer.end_after(&report);
            if self.session.answer_of_first(ends.is_some())? {
                return Ok(ends.unwrap_or_else(|| "the first rank ended the run".to_owned()));
            }
        }
        let reason = self.early_stopping.as_ref().and_then(EarlyStopping::reason);
        Ok(match (reason, self.epochs) {
            (Some(reason), _) => reason.to_string(),
            (None, 1) => "its one epoch is done".to_owned(),
            (None, epochs) => format!("all {epochs} epochs are done"),
        })
    }

    /// Trains on the remaining batches of an epoch, saving periodically, and evaluates the validation set.
    fn epoch(&mut self) -> Result<EpochMetrics> {
        self.told = self.batches;
        if self.batches == 0 {
            self.session.start_epoch(self.epochs)?;
        }
        loop {
            self.train_until_pause()?;
            self.observe_batches()?;
            if self.batches == self.session.batches_per_epoch() {
                break;
            }
            let is_due = self.is_time_to_save() || self.observer.should_stop();
            if self.session.answer_of_first(is_due)? {
                self.save()?;
                self.stop_if_asked()?;
            }
        }
        self.session.finish_epoch(self.train_time)
    }

    /// Trains to the end of the epoch, or until it is time to save or to tell the observer of batches.
    fn train_until_pause(&mut self) -> Result<()> {
        let (images, num_batches) = (self.session.images_per_epoch(), self.session.batches_per_epoch());
        let rates = rates(&self.schedule, self.options.lr, self.session.steps_per_epoch() as u64);
        let save_every = self.options.checkpoint.as_ref().map_or(Duration::MAX, |checkpoint| checkpoint.every);
        let tell_every = self.batches_every().unwrap_or(Duration::MAX);
        let (observer, started) = (&mut *self.observer, Instant::now());
        let mut follow = |done| {
            observer.progress(self.epochs + 1, done, images);
            let is_due = self.saved_at.elapsed() >= save_every || self.told_at.elapsed() >= tell_every;
            let pauses = observer.should_stop() || is_due;
            if pauses { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.batches = self.session.train_batches(self.epochs, self.batches..num_batches, &rates, &mut follow)?;
        self.train_time += started.elapsed();
        self.total_time += started.elapsed();
        Ok(())
    }

    fn is_time_to_save(&self) -> bool {
        self.options.checkpoint.as_ref().is_some_and(|checkpoint| self.saved_at.elapsed() >= checkpoint.every)
    }

    /// How often the observer wants to know of batches; of several ranks none knows the metrics within an epoch.
    fn batches_every(&self) -> Option<Duration> {
        self.observer.batches_every().filter(|_| self.session.num_ranks() == 1)
    }

    /// Tells the observer of the batches since it was last told, if it wants to know of them.
    fn observe_batches(&mut self) -> Result<()> {
        if self.batches_every().is_none() || self.batches == self.told {
            return Ok(());
        }
        let metrics = self.session.batch_metrics(self.told..self.batches)?;
        let lr = self.rates(self.session.step_of(self.epochs, self.batches - 1)).0;
        let latest = LatestBatches { epoch: self.epochs + 1, first: self.told, metrics, lr };
        self.observer.batches(&latest, self.session)?;
        (self.told, self.told_at) = (self.batches, Instant::now());
        Ok(())
    }

    /// Tells the schedule's plateau the metric that it watches.
    fn observe_plateau(&mut self, epoch: u64, validation: &Metrics) {
        let next_step = epoch * self.session.steps_per_epoch() as u64;
        let last_step = match self.schedule.interval() {
            Interval::Epoch => epoch - 1,
            Interval::Batch => next_step - 1,
        };
        let is_accuracy = self.schedule.plateau_mode(last_step) == Some(Mode::Max);
        let (before, _) = self.rates(next_step);
        let has_cut = self.schedule.observe(last_step, if is_accuracy { validation.accuracy } else { validation.loss });
        let (lr, _) = self.rates(next_step);
        // A cut may be without effect.
        if has_cut && lr < before {
            self.observer.event(&Event::RateReduced { epoch, lr });
        }
    }

    /// Shows the observer what the network is like on the epoch's last batch.
    fn observe_diagnostics(&mut self, epoch: u64, lr: f64) -> Result<()> {
        if !self.session.has_diagnostics() {
            return Ok(());
        }
        let rates = rates(&self.schedule, self.options.lr, self.session.steps_per_epoch() as u64);
        let last = epoch * self.session.batches_per_epoch() as u64 - 1;
        let report = self.session.diagnose(last, &rates)?;
        let recorded = self.observer.diagnostics(epoch, &report);
        self.session.all_ok(recorded)?;
        if report.of_kind(DiagnosticKind::Gradient).all(|row| row.summary.num_non_finite == 0) {
            return Ok(());
        }
        let layer = report.first_non_finite().map(|row| format!("{} {}", row.kind, row.name));
        let step = self.session.batches_per_epoch();
        Err(Error::NonFinite { what: "norm of the gradients", epoch: epoch as usize, step, lr, layer })
    }

    /// Fails where a loss or a weight is not finite after an epoch: training cannot recover from it, and weights that
    /// are to be kept must be numbers.
    fn check_finite(&mut self, epoch: u64, train: &Metrics, validation: &Metrics, lr: f64) -> Result<()> {
        let named = [("training loss", train), ("validation loss", validation)];
        let in_metrics = named.iter().find_map(|(what, metrics)| Some((*what, metrics.first_non_finite?)));
        let weight = self.session.first_non_finite_weight()?;
        let Some((what, batch)) = in_metrics.or_else(|| {
            let last = self.session.batches_per_epoch() - 1;
            weight.as_ref().map(|_| ("norm of the weights", last))
        }) else {
            return Ok(());
        };
        let rates = rates(&self.schedule, self.options.lr, self.session.steps_per_epoch() as u64);
        let layer = self.session.first_non_finite(epoch - 1, train.first_non_finite, &rates)?;
        // Epochs are counted in u64 by the loop, far below usize's range.
        Err(Error::NonFinite { what, epoch: epoch as usize, step: batch + 1, lr, layer: layer.or(weight) })
    }

    fn rates(&self, step: u64) -> (f64, Option<f64>) {
        rates(&self.schedule, self.options.lr, self.session.steps_per_epoch() as u64)(step)
    }

    fn save(&mut self) -> Result<()> {
        let Some(CheckpointOptions { path, settings, .. }) = &self.options.checkpoint else { return Ok(()) };
        let state = RunState {
            epochs: self.epochs,
            batches: self.batches,
            train_seconds: self.train_time.as_secs_f64(),
            plateaus: self.schedule.plateau_states(),
            early_stopping: self.early_stopping.as_ref().map(|stopping| stopping.state().clone()),
            best: self.best.clone(),
            images: self.session.fingerprint().to_owned(),
        };
        self.session.share_metrics()?;
        let saved = match self.session.is_first_rank() {
            true => {
                let snapshot = self.session.snapshot_after(self.batches)?;
                Checkpoint { state, snapshot, settings: settings.clone() }.save(path)
            }
            false => Ok(()),
        };
        self.session.all_ok(saved)?;
        self.saved_at = Instant::now();
        Ok(())
    }

    /// Call it right after [`Fit::save`].
    fn stop_if_asked(&mut self) -> Result<()> {
        let should_stop = self.observer.should_stop();
        if !self.session.answer_of_first(should_stop)? {
            return Ok(());
        }
        self.restore_best()?;
        let saved = self.options.checkpoint.as_ref().map(|checkpoint| checkpoint.path.clone());
        Err(Error::Interrupted { epochs: self.epochs, batches: self.batches, saved })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let RunState { epochs, batches, train_seconds, plateaus, early_stopping, best, .. } = &checkpoint.state;
        if best.monitor() != self.monitor {
            let expected = format!("{}, which the run has watched so far", best.monitor());
            return Err(Error::setting("early_stopping.monitor", expected, self.monitor));
        }
        checkpoint.state.check_images(self.session)?;
        self.schedule.restore_plateau_states(plateaus)?;
        if let (Some(stopping), Some(state)) = (&mut self.early_stopping, early_stopping) {
            stopping.restore(state.clone());
        }
        if *batches > 0 && *epochs >= self.options.epochs {
            let done = crate::error::so_far(*epochs, *batches);
            self.observer.warn(&format!(
                "the run was saved after {done}; it ends with epoch {epochs} now, and those batches are left out"
            ));
        }
        self.session.restore(&checkpoint.snapshot, *epochs)?;
        (self.epochs, self.batches, self.best) = (*epochs, *batches, best.clone());
        // A number of seconds that is none would be an altered file, which its checksum tells.
        self.train_time = Duration::try_from_secs_f64(*train_seconds).unwrap_or_default();
        Ok(())
    }
}

/// The learning rate and momentum of each step, counted over all epochs from 0.
fn rates(schedule: &Schedule, lr: f64, steps_per_epoch: u64) -> impl Fn(u64) -> (f64, Option<f64>) {
    move |step| {
        let at = if schedule.interval() == Interval::Batch { step } else { step / steps_per_epoch };
        (schedule.lr(lr, at), schedule.momentum(at))
    }
}

impl FitOptions {
    /// All of `epochs` at the learning rate `lr`, without early stopping or checkpoints; fields that are to be
    /// otherwise can be set.
    pub fn new(epochs: u64, lr: f64) -> Self {
        FitOptions { epochs, lr, schedule: Schedule::constant(), early_stopping: None, checkpoint: None }
    }

    fn validate(&self) -> Result<()> {
        if self.epochs == 0 {
            return Err(Error::setting("epochs", "at least 1", self.epochs));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Error::setting("lr", "a number above 0", self.lr));
        }
        Ok(())
    }
}
