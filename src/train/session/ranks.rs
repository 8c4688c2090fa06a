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

use std::ops::Range;
use web_time::{Duration, Instant};

use super::graphs::FOLLOW;
use super::part::{batches, batches_at};
use super::{LOGITS, Parts, Rates, Session, TABLE, fill};
use crate::dist::{Comm, agree, all_ok, answer_of_first};
use crate::exec::exchange::StateGroup;
use crate::exec::{Program, Progress, StepTable};
use crate::graph::plan::Plan;
use crate::graph::{Graph, StateKind, StateSpec};
use crate::optim::tree::{self, Node};
use crate::optim::{BatchOf, GRADIENT, StepRates, Update, gradient_sum};
use crate::{Error, Result};

/// The entry that takes a sum of gradients on through the tree, and updates the parameters with the last.
const APPLY: &str = "apply";

/// The other ranks, and what is exchanged with them.
pub(super) struct Ranks {
    comm: Box<dyn Comm>,
    /// How long this rank has waited for the others.
    waited: Duration,
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

/// A step of an epoch: its first batch and how many it has.
#[derive(Clone, Copy)]
struct Step {
    first: usize,
    num_batches: usize,
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
            return Ok(Ranks { comm, waited: Duration::ZERO, exchanged: None });
        }
        let exchanged = Exchanged::of(program, update, parts.num_rows())?;
        // CPU and GPU may work together, but not in f32 and in f64.
        let Exchanged { gradients, statistics, metrics, .. } = &exchanged;
        let sizes = [gradients, statistics, metrics].map(StateGroup::num_bytes);
        agree(comm.as_mut(), &[("numbers of bytes to exchange", format!("{sizes:?}"))])?;
        Ok(Ranks { comm, waited: Duration::ZERO, exchanged: Some(exchanged) })
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

    fn all_gather(&mut self, mine: &[u8]) -> Result<Vec<u8>> {
        let (started, mut all) = (Instant::now(), Vec::new());
        self.comm.all_gather(mine, &mut all)?;
        self.waited += started.elapsed();
        Ok(all)
    }

    /// Whether a batch of evaluation is this rank's.
    fn has(&self, batch: usize) -> bool {
        batch % self.comm.size() == self.comm.rank()
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

    fn batch_of(&self, batch: usize) -> BatchOf {
        let (batch_size, num_images) = (self.train.loader.batch_size() as usize, self.images_per_epoch());
        BatchOf { batch, batch_size, num_images }
    }

    /// One step of the optimizer. Gives rank 0's `stops`.
    fn step_together(&mut self, epoch: u64, step: Step, rates: Rates<'_>, stops: bool) -> Result<bool> {
        let Step { num_batches, .. } = step;
        let (rank, size) = (self.ranks.comm.rank(), self.ranks.comm.size());
        let nodes = |rank: usize| tree::nodes(tree::share(num_batches, rank, size), num_batches);
        let (mut sums, mut statistics) = (Vec::new(), Vec::new());
        for node in nodes(rank) {
            self.sum_node(epoch, step, node, rates, &mut statistics)?;
            let exchanged = self.ranks.exchanged.as_ref().expect("there are other ranks");
            self.program.read_group(&exchanged.sums[node.level], &mut sums)?;
        }
        let exchanged = self.ranks.exchanged.as_ref().expect("there are other ranks");
        let (len, statistics_len) = (exchanged.gradients.num_bytes(), exchanged.statistics.num_bytes());
        // Messages are as long on every rank: as the longest.
        let most_nodes = (0..size).map(|rank| nodes(rank).len()).max().unwrap_or(0);
        let most_batches = (0..size).map(|rank| tree::share(num_batches, rank, size).len()).max().unwrap_or(0);
        sums.resize(most_nodes * len, 0);
        statistics.resize(most_batches * statistics_len, 0);
        let message = [&[u8::from(stops)], &sums[..], &statistics[..]].concat();
        let all = self.ranks.all_gather(&message)?;
        let of_rank = |rank: usize| &all[rank * message.len()..][..message.len()];
        for rank in 0..size {
            let statistics = of_rank(rank)[1 + most_nodes * len..].chunks_exact(statistics_len.max(1));
            for statistics in statistics.take(tree::share(num_batches, rank, size).len()) {
                self.follow(statistics)?;
            }
        }
        for rank in 0..size {
            for (node, sum) in nodes(rank).into_iter().zip(of_rank(rank)[1..].chunks_exact(len)) {
                self.apply(epoch, step, node, (rates, sum))?;
            }
        }
        Ok(of_rank(0)[0] != 0)
    }

    /// Sums the gradients of a node's batches, and appends the statistics of each.
    fn sum_node(
        &mut self,
        epoch: u64,
        step: Step,
        node: Node,
        rates: Rates<'_>,
        statistics: &mut Vec<u8>,
    ) -> Result<()> {
        let wanted = node.batches(step.num_batches);
        let wanted = step.first + wanted.start..step.first + wanted.end;
        let has_statistics =
            self.ranks.exchanged.as_ref().is_some_and(|exchanged| exchanged.statistics.num_bytes() > 0);
        for (entry, batch_size, first, count) in self.train.entries() {
            let of_entry = wanted.start.max(first)..wanted.end.min(first + count);
            // Statistics are read after each batch.
            let pieces: Vec<Range<usize>> = match has_statistics {
                true => of_entry.map(|batch| batch..batch + 1).collect(),
                false => vec![of_entry],
            };
            for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                let table = batches(&self.train, batch_size, piece.start, piece.len());
                let table = self.training_table(epoch, rates, table, piece.start).constant(FOLLOW, 0.0);
                let table = table.columns(&self.update.batch_columns(), |index, row| {
                    let batch = piece.start + index;
                    let mut climb = Node::leaf(batch - step.first).climb(node, step.num_batches);
                    // The node's own sum is kept, to be read.
                    climb.keep = climb.keep.or(Some(node.level));
                    fill(row, self.update.values_of_batch(self.batch_of(batch), &climb).into_iter());
                });
                self.program.run(&entry, &table)?;
                if let Some(exchanged) = self.ranks.exchanged.as_ref().filter(|_| has_statistics) {
                    self.program.read_group(&exchanged.statistics, statistics)?;
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, statistics: &[u8]) -> Result<()> {
        let exchanged = self.ranks.exchanged.as_ref().expect("there are other ranks");
        if exchanged.statistics.num_bytes() == 0 {
            return Ok(());
        }
        self.program.write_group(&exchanged.statistics, statistics)?;
        self.program.run_once(FOLLOW)
    }

    /// Takes a node's sum on through the tree; with the last one the parameters are updated.
    fn apply(&mut self, epoch: u64, step: Step, node: Node, (rates, sum): (Rates<'_>, &[u8])) -> Result<()> {
        let exchanged = self.ranks.exchanged.as_ref().expect("there are other ranks");
        self.program.write_group(&exchanged.gradients, sum)?;
        let number = epoch * self.steps_per_epoch() as u64 + (step.first / self.update.accumulate()) as u64;
        let (lr, momentum) = rates(number);
        let climb = node.climb(Node::root(step.num_batches), step.num_batches);
        let values = self.update.values(&StepRates { step: number, lr, momentum });
        let values: Vec<f64> = values.chain(self.update.climb_values(&climb)).collect();
        let names: Vec<String> = self.update.columns().into_iter().chain(self.update.climb_columns()).collect();
        let table = StepTable::new(1).columns(&names, |_, row| row.copy_from_slice(&values));
        self.program.run(APPLY, &table)
    }

    /// Brings the rows of metrics that other ranks wrote into this one's table.
    pub(in crate::train) fn share_metrics(&mut self) -> Result<()> {
        let Some(exchanged) = &self.ranks.exchanged else { return Ok(()) };
        let (group, num_rows) = (exchanged.metrics.clone(), exchanged.num_rows);
        let mut mine = Vec::new();
        self.program.read_group(&group, &mut mine)?;
        let all = self.ranks.all_gather(&mine)?;
        let row_len = mine.len() / num_rows;
        for row in 0..num_rows {
            let range = row * row_len..(row + 1) * row_len;
            let of_owner = self.owner(row) * mine.len();
            mine[range.clone()].copy_from_slice(&all[of_owner + range.start..of_owner + range.end]);
        }
        self.program.write_group(&group, &mine)
    }

    /// The rank that computes a row of the metrics.
    fn owner(&self, row: usize) -> usize {
        let size = self.ranks.comm.size();
        if row >= self.train.num_rows() {
            return (row - self.train.num_rows()) % size;
        }
        let (first, num_batches) = self.batch_of(row).step(self.update.accumulate());
        let is_in = |rank: &usize| tree::share(num_batches, *rank, size).contains(&(row - first));
        (0..size).find(is_in).expect("shares divide all batches of a step")
    }

    /// Evaluates the validation set, each rank some of its batches.
    pub(super) fn validate_together(&mut self) -> Result<()> {
        for (entry, batch_size, first, count) in self.validation.entries() {
            let own: Vec<usize> = (first..first + count).filter(|&batch| self.ranks.has(batch)).collect();
            if !own.is_empty() {
                self.program.run(&entry, &batches_at(&self.validation, batch_size, &own))?;
            }
        }
        self.share_metrics()
    }

    /// The logits of the test images, each rank computing some batches.
    pub(super) fn test_together(&mut self) -> Result<Vec<f32>> {
        let (mut logits, mut owners) = (Vec::new(), Vec::new());
        for (entry, batch_size, first, count) in self.test.entries() {
            let plan = self.program.plans().iter().find(|plan| plan.name() == entry);
            let len = plan.map_or(0, |plan| plan.outputs[LOGITS].ty.shape.num_elems());
            for batch in first..first + count {
                owners.push((batch % self.ranks.comm.size(), logits.len()..logits.len() + len));
                if self.ranks.has(batch) {
                    self.program.run(&entry, &batches_at(&self.test, batch_size, &[batch]))?;
                    logits.extend(self.program.output(&entry, LOGITS)?.to_f32_vec());
                } else {
                    logits.resize(logits.len() + len, 0.0);
                }
            }
        }
        let all = self.ranks.all_gather(bytemuck::cast_slice(&logits))?;
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(&all);
        for (owner, range) in owners {
            let start = owner * logits.len() + range.start;
            logits[range.clone()].copy_from_slice(&all[start..start + range.len()]);
        }
        self.share_metrics()?;
        Ok(logits)
    }
}
