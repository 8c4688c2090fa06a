//! A session that is one of several ranks: each computes its share of every step's batches, sums of gradients are
//! exchanged, and every rank makes the same update. Weights are the same bytes as those of one process with the same
//! accumulation, because sums are rounded in the same tree ([`tree`]) by the same kernels, whoever computes which part.
//!
//! | of a step | by | exchanged |
//! | --- | --- | --- |
//! | gradients of its batches, summed to nodes of the tree | entry "train", a share each | the nodes' sums |
//! | running statistics of batch norm | entry [`FOLLOW`], batch by batch in order | the statistics of each batch |
//! | the rest of the tree, and the update | entry [`APPLY`], on every rank | nothing |
//!
//! Rows of metrics are exchanged once an epoch, and when a checkpoint is written. All ranks hold all images.

mod evaluate;
mod step;

use std::ops::Range;
use web_time::Duration;

use super::graphs::FOLLOW;
use super::{Parts, Rates, Session, TABLE};
use crate::dist::{Comm, agree, all_ok, answer_of_first};
use crate::exec::exchange::StateGroup;
use crate::exec::{Program, Progress};
use crate::graph::plan::Plan;
use crate::graph::{Graph, StateKind, StateSpec};
use crate::optim::tree;
use crate::optim::{GRADIENT, Update, gradient_sum};
use crate::{Error, Result};
use step::Step;

/// The entry that takes a sum of gradients on through the tree, and updates the parameters with the last.
const APPLY: &str = "apply";

/// The other ranks, and what is exchanged with them.
pub(super) struct Ranks {
    comm: Box<dyn Comm>,
    /// How long this rank has waited for the others in steps of the optimizer.
    waited: Duration,
    /// What this rank sent in the last step, and what all did: memory for the next.
    mine: Vec<u8>,
    all: Vec<u8>,
    /// `None` for a process by itself.
    exchanged: Option<Exchanged>,
}

/// States that are read here and written there.
struct Exchanged {
    /// The sums at each level of the tree.
    sums: Vec<StateGroup>,
    /// What [`APPLY`] takes.
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

/// The plans that ranks need beside those of one process. `train` is the plan of a training step.
pub(super) fn plans(update: &Update, train: &Plan, graph: &Graph) -> Result<Vec<Plan>> {
    let updated: &[String] = train.updated_by.as_ref().map_or(&[], |by| &by.parameters);
    let is_updated = |spec: &&StateSpec| spec.kind == StateKind::Parameter && updated.contains(&spec.name);
    let parameters: Vec<StateSpec> = train.states().iter().filter(is_updated).cloned().collect();
    let mut apply = Graph::new(APPLY);
    update.apply_sums(&mut apply, &parameters)?;
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
    pub fn new(mut comm: Box<dyn Comm>, program: &mut Program, update: &Update, parts: &Parts) -> Result<Ranks> {
        if comm.size() == 1 {
            return Ok(Ranks { comm, waited: Duration::ZERO, mine: Vec::new(), all: Vec::new(), exchanged: None });
        }
        let exchanged = Exchanged::of(program, update, parts.num_rows())?;
        // CPU and GPU may work together, but not in f32 and in f64.
        let Exchanged { gradients, statistics, metrics, .. } = &exchanged;
        let sizes = [gradients, statistics, metrics].map(StateGroup::num_bytes);
        agree(comm.as_mut(), &[("numbers of bytes to exchange", format!("{sizes:?}"))])?;
        Ok(Ranks { comm, waited: Duration::ZERO, mine: Vec::new(), all: Vec::new(), exchanged: Some(exchanged) })
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
        let mut all = std::mem::take(&mut self.all);
        self.comm.all_gather(mine, &mut all)?;
        Ok(all)
    }
}

impl Exchanged {
    fn of(program: &mut Program, update: &Update, num_rows: usize) -> Result<Exchanged> {
        let plan = |program: &Program, name: &str| program.plans().iter().find(|plan| plan.name() == name).cloned();
        let apply = plan(program, APPLY).and_then(|plan| plan.updated_by);
        let parameters = apply.expect("the session compiled this entry for its ranks").parameters;
        let level = |level: usize| parameters.iter().map(move |name| gradient_sum(name, level));
        let sums = (0..tree::num_levels(update.accumulate())).map(|number| program.group(level(number)));
        let sums = sums.collect::<Result<_>>()?;
        let gradients = program.group(parameters.iter().map(|name| format!("{name}{GRADIENT}")))?;
        let follow = plan(program, FOLLOW);
        let statistics = follow.iter().flat_map(|plan| plan.states()).filter(|spec| spec.kind == StateKind::Input);
        let statistics: Vec<String> = statistics.map(|spec| spec.name.clone()).collect();
        let statistics = program.group(statistics)?;
        let metrics = program.group([TABLE.to_owned()])?;
        Ok(Exchanged { sums, gradients, statistics, metrics, num_rows })
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
