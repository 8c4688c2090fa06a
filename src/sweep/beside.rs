//! Which device a trial trains on: the sweep's, or a place beside other trials on a GPU, where trials whose steps are the
//! same dispatches train side by side in them.

use std::collections::HashMap;

use super::config::{Sweep, Trial};
use crate::Result;
use crate::exec::{Device, SideBySide};
use crate::graph::plan::{Counts, Plan};
use crate::ops::kernel::GpuTraits;
use crate::run::{RunConfig, RunData, setup};
use crate::train::is_image_data;

/// The most trials that are trained side by side where the number is chosen here.
const MAX_CHOSEN: usize = 8;

/// What a group may take of a GPU's memory where the number of trials is chosen here.
const MAX_CHOSEN_BYTES: usize = 1 << 30;

/// How many times as fast trials must be expected to be side by side for them to be trained so.
const LEAST_GAIN: f64 = 1.25;

/// The expected cost of a level that waits for the one before, of a byte and of an operation, in seconds: those of a fast
/// GPU. What follows for two, four and eight LeNet-5s at batch size 64, 1.5, 1.9 and 2.3 times the speed of one, is what an
/// H200 was measured to do; times themselves are three times as long there.
const SECONDS_PER_LEVEL: f64 = 2e-6;
const SECONDS_PER_BYTE: f64 = 1.0 / 2e12;
const SECONDS_PER_FLOP: f64 = 1.0 / 20e12;

/// What trials must have in common to train side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    /// The images but for which of them are held out, which depends on the seed.
    images: String,
    /// [`Plan::form`] of each plan.
    plans: Vec<u64>,
}

/// The trials under way, and where the next one trains.
pub(super) struct Placement<'a> {
    sweep: &'a Sweep,
    device: &'a Device,
    /// Trials in parallel that know nothing of each other.
    jobs: usize,
    /// Trials side by side; `None` chooses.
    side_by_side: Option<usize>,
    forms: HashMap<usize, Form>,
    /// Images of the right number, to plan with.
    blank: HashMap<String, RunData>,
    group: Option<(Form, SideBySide)>,
    num_running: usize,
    /// How many may run now.
    room: usize,
}

impl<'a> Placement<'a> {
    pub fn new(sweep: &'a Sweep, device: &'a Device, jobs: usize, side_by_side: Option<usize>) -> Self {
        let side_by_side = if jobs > 1 || !matches!(device, Device::Gpu(_)) { Some(1) } else { side_by_side };
        Placement {
            sweep,
            device,
            jobs: jobs.max(1),
            side_by_side,
            forms: HashMap::new(),
            blank: HashMap::new(),
            group: None,
            num_running: 0,
            room: jobs.max(1),
        }
    }

    /// How many trials run.
    pub fn num_running(&self) -> usize {
        self.num_running
    }

    /// How many trials may run at a time at most, where a number was given.
    pub fn most_at_a_time(&self) -> usize {
        self.jobs.max(self.side_by_side.unwrap_or(1))
    }

    /// The sweep's device.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Trials that share the CPU's threads.
    pub fn num_sharing(&self) -> usize {
        self.jobs
    }

    /// Whether another trial may start.
    pub fn has_room(&self) -> bool {
        self.num_running < self.room
    }

    /// Whether a trial may start beside those that run.
    pub fn fits(&mut self, trial: usize) -> bool {
        let Some((form, _)) = self.group.as_ref().filter(|_| self.num_running > 0) else { return true };
        let form = form.clone();
        // What cannot be planned fails by itself, later.
        self.form(trial).is_ok_and(|known| *known == form)
    }

    /// Where a trial that fits is to train.
    ///
    /// # Errors
    /// As [`SideBySide::new`].
    pub fn start(&mut self, trial: usize, may_follow: &dyn Fn(usize) -> bool) -> Result<Device> {
        if self.num_running == 0 && self.side_by_side != Some(1) {
            self.open_group(trial, may_follow)?;
        }
        self.num_running += 1;
        Ok(self.group.as_ref().and_then(|(_, group)| group.take()).unwrap_or_else(|| self.device.clone()))
    }

    /// A trial has ended.
    pub fn ended(&mut self) {
        self.num_running -= 1;
    }

    /// Makes a group for a trial and those like it that may follow, unless there is one already or it would not pay.
    fn open_group(&mut self, trial: usize, may_follow: &dyn Fn(usize) -> bool) -> Result<()> {
        let Ok(form) = self.form(trial).cloned() else {
            (self.group, self.room) = (None, 1);
            return Ok(());
        };
        if self.group.as_ref().is_some_and(|(known, _)| *known == form) {
            return Ok(());
        }
        self.group = None;
        let most = match self.side_by_side {
            Some(most) => most,
            None => self.choose(trial)?,
        };
        let mut num_trials = 1;
        for other in (0..self.sweep.trials.len()).filter(|&other| other != trial && may_follow(other)) {
            if num_trials == most {
                break;
            }
            num_trials += usize::from(self.form(other).is_ok_and(|known| *known == form));
        }
        self.room = num_trials.max(1);
        if num_trials > 1 {
            let is_shared = if self.share_images() { is_image_data } else { |_: &_| false };
            self.group = Some((form, SideBySide::new(self.device, num_trials, is_shared)?));
        }
        Ok(())
    }

    /// Whether all trials of a form go over the same images: which are held out depends on the seed.
    fn share_images(&self) -> bool {
        let trials = &self.sweep.trials;
        let divides = |trial: &Trial| trial.config.val_split > 0.0;
        !trials.iter().any(divides) || trials.windows(2).all(|pair| pair[0].config.seed == pair[1].config.seed)
    }

    /// How many trials like this one it is expected to pay to train side by side.
    fn choose(&mut self, trial: usize) -> Result<usize> {
        let Some(traits) = self.device.gpu_traits() else { return Ok(1) };
        let plans = self.plans(trial)?;
        let Some(step) = plans.first() else { return Ok(1) };
        let bytes: usize = plans.iter().map(Plan::slot_bytes).max().unwrap_or(0);
        Ok(worthwhile(traits, &step.counts(traits)?, step.cost().flops).min((MAX_CHOSEN_BYTES / bytes.max(1)).max(1)))
    }

    fn form(&mut self, trial: usize) -> Result<&Form> {
        if !self.forms.contains_key(&trial) {
            let traits = self.device.gpu_traits().unwrap_or(GpuTraits::GPU);
            let plans = self.plans(trial)?.iter().map(|plan| plan.form(traits)).collect::<Result<_>>()?;
            let images = images(&self.sweep.trials[trial].config);
            self.forms.insert(trial, Form { images, plans });
        }
        Ok(&self.forms[&trial])
    }

    fn plans(&mut self, trial: usize) -> Result<Vec<Plan>> {
        let config = &self.sweep.trials[trial].config;
        let images = images(config);
        if !self.blank.contains_key(&images) {
            self.blank.insert(images.clone(), RunData::blank(config)?);
        }
        setup::plans_on(config, &self.blank[&images])
    }
}

/// What decides how many images there are, and which of them are for what but for the seed.
fn images(config: &RunConfig) -> String {
    let RunConfig { dataset, data, val_split, train_limit, val_limit, test_limit, .. } = config;
    format!("{:?}", (dataset, data, val_split, train_limit, val_limit, test_limit))
}

/// How many models it is expected to pay to train side by side, by what a step of one waits for and what it computes. On a
/// software adapter it does not pay: its threads are busy with one.
fn worthwhile(gpu: GpuTraits, counts: &Counts, flops: u64) -> usize {
    if gpu.is_software {
        return 1;
    }
    // Far below 2^53.
    let waits = counts.levels.len() as f64 * SECONDS_PER_LEVEL;
    let works = (counts.bytes() as f64 * SECONDS_PER_BYTE).max(flops as f64 * SECONDS_PER_FLOP);
    let gain = |count: usize| count as f64 * (waits + works) / (waits + count as f64 * works);
    if gain(MAX_CHOSEN) >= LEAST_GAIN { MAX_CHOSEN } else { 1 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::nn::{LeNet5, Network, ResNet};
    use crate::sweep::SweepConfig;

    fn sweep(space: &str) -> Sweep {
        let text = format!("[search]\nmethod = \"grid\"\n[base]\ntrain_limit = 100\n[space]\n{space}\n");
        Sweep::new(SweepConfig::parse(&text, std::path::Path::new("sweep.toml")).unwrap()).unwrap()
    }

    /// Trials of the same form as trial 0.
    fn like_the_first(space: &str) -> Vec<usize> {
        let sweep = sweep(space);
        let mut placement = Placement::new(&sweep, &Device::Cpu, 1, None);
        let first = placement.form(0).unwrap().clone();
        (0..sweep.trials.len()).filter(|&trial| *placement.form(trial).unwrap() == first).collect()
    }

    #[test]
    fn what_kernels_are_told_may_differ_and_what_they_are_may_not() {
        assert_eq!(like_the_first("lr = { choices = [0.1, 0.2] }"), [0, 1]);
        assert_eq!(like_the_first("seed = { choices = [1, 2] }"), [0, 1]);
        assert_eq!(like_the_first("optimizer.momentum = { choices = [0.5, 0.9] }"), [0, 1]);
        assert_eq!(like_the_first("label_smoothing = { choices = [0.1, 0.2] }"), [0, 1]);
        assert_eq!(like_the_first("network.dropout = { choices = [0.1, 0.2] }"), [0, 1]);
        assert_eq!(like_the_first("batch_size = { choices = [16, 32] }"), [0]);
        assert_eq!(like_the_first("network.batch_norm = { choices = [false, true] }"), [0]);
        assert_eq!(like_the_first("optimizer = { choices = [\"sgd\", \"adam\"] }"), [0]);
    }

    #[test]
    fn images_are_shared_unless_seeds_divide_them_differently() {
        let shares = |space: &str| {
            let sweep = sweep(space);
            Placement::new(&sweep, &Device::Cpu, 1, None).share_images()
        };
        assert!(shares("lr = { choices = [0.1, 0.2] }"));
        assert!(!shares("seed = { choices = [1, 2] }"));
    }

    #[test]
    fn small_steps_are_expected_to_gain_and_large_ones_and_software_are_not() {
        let choose = |network: Network, batch_size: usize, gpu: GpuTraits| {
            let config = RunConfig { network, batch_size, train_limit: Some(2 * batch_size), ..RunConfig::default() };
            let plans = setup::plans(&config).unwrap();
            worthwhile(gpu, &plans[0].counts(gpu).unwrap(), plans[0].cost().flops)
        };
        assert_eq!(choose(LeNet5::default().into(), 64, GpuTraits::GPU), MAX_CHOSEN);
        assert_eq!(choose(ResNet::default().into(), 1024, GpuTraits::GPU), 1);
        assert_eq!(choose(LeNet5::default().into(), 64, GpuTraits::SOFTWARE), 1);
    }
}
