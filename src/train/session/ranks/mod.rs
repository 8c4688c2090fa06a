//! A session that is one of several ranks: each computes its share of every step's batches, sums of gradients are
//! exchanged, and every rank makes the same update. Weights are the same bytes as those of one process with the same
//! accumulation, because sums are rounded in the same tree ([`tree`]) by the same kernels, whoever computes which part.
//!
//! | of a step | by | exchanged |
//! | --- | --- | --- |
//! | gradients of its batches, summed to nodes of the tree | entry "train", a share each | the nodes' sums, each a slice |
//! | the rest of the tree | [`TreeSum`](crate::dist::TreeSum), a slice each | the sum of all batches |
//! | running statistics of batch norm | entry [`FOLLOW`], batch by batch in order | the statistics of each batch |
//! | the update | entry [`APPLY`], on every rank | nothing |
//!
//! Parameters go in buckets ([`buckets`]), each on its way while a rank computes the next. Rows of metrics are exchanged once an epoch, and when a checkpoint is written. All ranks hold all images.

mod addition;
mod evaluate;
mod exchange;
mod step;
mod timing;

use std::ops::Range;
use web_time::Duration;

use super::graphs::FOLLOW;
use super::{Parts, Rates, Session, TABLE};
use crate::dist::{Comm, agree, all_ok, answer_of_first};
use crate::exec::exchange::StateGroup;
use crate::exec::{Device, Program, Progress};
use crate::graph::plan::Plan;
use crate::graph::{Graph, StateKind, StateSpec};
use crate::optim::buckets::buckets;
use crate::optim::tree;
use crate::optim::{GRADIENT, Update, gradient_sum};
use crate::{Error, Result};
use exchange::Exchange;
use step::Step;

/// The entry that updates the parameters by a step's sum of gradients.
const APPLY: &str = "apply";

/// The other ranks, and what is exchanged with them.
pub(super) struct Ranks {
    comm: Box<dyn Comm>,
    /// How long this rank has waited for the others in steps of the optimizer.
    waited: Duration,
    /// `None` for a process by itself.
    exchanged: Option<Exchanged>,
    /// The same, and within a step.
    exchange: Option<Exchange>,
}

/// States that are read here and written there.
struct Exchanged {
    /// The sums at each level of the tree, a part for each bucket.
    sums: Vec<StateGroup>,
    /// What [`APPLY`] takes, in the same parts.
    gradients: StateGroup,
    /// The statistics of the last batch; of no bytes where there are none.
    statistics: StateGroup,
    metrics: StateGroup,
    num_rows: usize,
}

/// How one rank spent a run's training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankTime {
    /// Seconds of training, waiting included.
    pub training: f64,
    /// Seconds of it in which the rank waited for others and exchanged with them.
    pub waiting: f64,
}

/// The parameters that a plan updates, in the network's order.
fn updated(train: &Plan) -> Vec<StateSpec> {
    let updated: &[String] = train.updated_by.as_ref().map_or(&[], |by| &by.parameters);
    let is_updated = |spec: &&StateSpec| spec.kind == StateKind::Parameter && updated.contains(&spec.name);
    train.states().iter().filter(is_updated).cloned().collect()
}

/// Their names by bucket. On all ranks the same, if `train` is the plan of a training step before it is one for a device.
pub(super) fn parameters_by_bucket(train: &Plan) -> Vec<Vec<String>> {
    let parameters = updated(train);
    let sizes: Vec<usize> = parameters.iter().map(|spec| spec.ty.shape.num_elems()).collect();
    let of_bucket = buckets(&sizes);
    let mut names = vec![Vec::new(); of_bucket.last().map_or(0, |last| last + 1)];
    parameters.into_iter().zip(of_bucket).for_each(|(spec, bucket)| names[bucket].push(spec.name));
    names
}

/// The plans that ranks need beside those of one process. `train` is the plan of a training step.
pub(super) fn plans(update: &Update, train: &Plan, graph: &Graph) -> Result<Vec<Plan>> {
    let mut apply = Graph::new(APPLY);
    update.apply_sum(&mut apply, &updated(train))?;
    let mut plans = vec![Plan::new(&apply)?];
    let deferred = graph.deferred.as_deref().unwrap_or_default();
    let is_deferred = |spec: &&StateSpec| deferred.iter().any(|deferred| deferred.running.name == spec.name);
    if let Some(other) = train.states().iter().find(|spec| spec.kind == StateKind::Buffer && !is_deferred(spec)) {
        let expected = "running statistics with a momentum, the only states beside parameters that ranks exchange";
        return Err(Error::setting("network", expected, format!("the state {}", other.name)));
    }
    if !deferred.is_empty() {
        let mut follow = Graph::new(FOLLOW);
        follow.follow_statistics(deferred)?;
        plans.push(Plan::new(&follow)?);
    }
    Ok(plans)
}

impl Ranks {
    /// A process by itself.
    pub fn alone(comm: Box<dyn Comm>) -> Ranks {
        Ranks { comm, waited: Duration::ZERO, exchanged: None, exchange: None }
    }

    /// One of several ranks, whose program is for `device`.
    ///
    /// # Errors
    /// [`Error::Rank`] where ranks compute with other numbers; [`Error::Unsupported`] where the device adds in a way of its
    /// own; [`Error::DeviceLost`].
    pub fn new(
        mut comm: Box<dyn Comm>,
        (device, program): (&Device, &mut Program),
        update: &Update,
        (parts, buckets): (&Parts, Vec<Vec<String>>),
    ) -> Result<Ranks> {
        // CPU and GPU may work together, but not in f32 and in f64.
        let numbers = if matches!(device, Device::CpuF64) { "f64" } else { "f32" };
        agree(comm.as_mut(), &[("floating-point numbers", numbers.to_owned())])?;
        let addition = all_ok(comm.as_mut(), addition::of(device))?;
        let exchanged = Exchanged::of(program, update, parts.num_rows(), &buckets)?;
        let Exchanged { gradients, statistics, metrics, .. } = &exchanged;
        let sizes = [gradients, statistics, metrics].map(StateGroup::num_bytes);
        agree(comm.as_mut(), &[("numbers of bytes to exchange", format!("{sizes:?}"))])?;
        let exchange = Exchange::new(comm.as_ref(), addition, gradients, statistics.num_bytes());
        Ok(Ranks { exchanged: Some(exchanged), exchange: Some(exchange), ..Ranks::alone(comm) })
    }

    /// Checks that there is a batch of each whole step for every rank.
    pub fn check(comm: &dyn Comm, update: &Update) -> Result<()> {
        let (size, accumulate) = (comm.size(), update.accumulate());
        if size > 1 && size > accumulate {
            let expected = format!("at least {size} batches a step, one for each rank");
            return Err(Error::setting("accumulate", expected, accumulate));
        }
        Ok(())
    }

    fn is_alone(&self) -> bool {
        self.exchanged.is_none()
    }

    fn exchanged(&self) -> &Exchanged {
        self.exchanged.as_ref().expect("there are other ranks")
    }

    fn all_gather(&mut self, mine: &[u8]) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.comm.all_gather(mine, &mut all)?;
        Ok(all)
    }
}

impl Exchanged {
    fn of(program: &mut Program, update: &Update, num_rows: usize, buckets: &[Vec<String>]) -> Result<Exchanged> {
        let named = |name: &dyn Fn(&String) -> String| -> Vec<Vec<String>> {
            buckets.iter().map(|names| names.iter().map(name).collect()).collect()
        };
        let sums = |level: usize| program.group_in_parts(named(&|name| gradient_sum(name, level)));
        let sums = (0..tree::num_levels(update.accumulate())).map(sums).collect::<Result<_>>()?;
        let gradients = program.group_in_parts(named(&|name| format!("{name}{GRADIENT}")))?;
        let follow = program.plans().iter().find(|plan| plan.name() == FOLLOW).cloned();
        let statistics = follow.iter().flat_map(|plan| plan.states()).filter(|spec| spec.kind == StateKind::Input);
        let statistics: Vec<String> = statistics.map(|spec| spec.name.clone()).collect();
        let statistics = program.group(statistics)?;
        let metrics = program.group([TABLE.to_owned()])?;
        Ok(Exchanged { sums, gradients, statistics, metrics, num_rows })
    }

    fn has_statistics(&self) -> bool {
        self.statistics.num_bytes() > 0
    }
}

impl Session {
    /// Whether this is the rank that writes files and prints: rank 0, or a process by itself.
    pub fn is_first_rank(&self) -> bool {
        self.ranks.comm.rank() == 0
    }

    /// The number of ranks that train together; 1 for a process by itself.
    pub fn num_ranks(&self) -> usize {
        self.ranks.comm.size()
    }

    pub(super) fn is_alone(&self) -> bool {
        self.ranks.is_alone()
    }

    /// What rank 0 says, on every rank.
    pub(in crate::train) fn answer_of_first(&mut self, mine: bool) -> Result<bool> {
        answer_of_first(self.ranks.comm.as_mut(), mine)
    }

    /// Waits for the other ranks; if any has an error, all have ([`all_ok`]).
    ///
    /// # Errors
    /// This rank's own; [`Error::Rank`] for that of another.
    pub(in crate::train) fn all_ok(&mut self, mine: Result<()>) -> Result<()> {
        all_ok(self.ranks.comm.as_mut(), mine)
    }

    /// The time of every rank, given this one's training; collective.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    pub(in crate::train) fn rank_times(&mut self, training: Duration) -> Result<Vec<RankTime>> {
        let mine = [training, self.ranks.waited].map(|time| time.as_secs_f64().to_le_bytes());
        let mut all = Vec::new();
        self.ranks.comm.all_gather(mine.as_flattened(), &mut all)?;
        let seconds: Vec<f64> = all.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        Ok(seconds.as_chunks().0.iter().map(|&[training, waiting]| RankTime { training, waiting }).collect())
    }

    /// [`Session::train_batches`] with the other ranks. It ends after whole steps only, where rank 0's `progress` breaks.
    pub(super) fn train_together(
        &mut self,
        epoch: u64,
        wanted: Range<usize>,
        rates: Rates<'_>,
        progress: Progress<'_>,
    ) -> Result<usize> {
        let (mut done, mut stops) = (wanted.start, false);
        while done < wanted.end {
            let (first, num_batches) = self.batch_of(done).step(self.update.accumulate());
            let end = first + num_batches;
            if first < done {
                // One process was stopped within a step: each rank finishes it as that one would.
                self.train_alone(epoch, done..end, rates, &mut |_| std::ops::ControlFlow::Continue(()))?;
            } else {
                stops = self.step_together(epoch, Step { first, num_batches }, rates, stops)?;
            }
            done = end;
            if stops {
                break;
            }
            let images = (done * self.train.loader.batch_size() as usize).min(self.images_per_epoch());
            stops = progress(images).is_break();
        }
        Ok(done)
    }
}
